"""Reading a plan file. The reader believes nothing: whatever the bytes are it returns a plan that is consistent in
itself, or raises PlanError with one line.
"""
from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cermet.drivers.base import Bo, Job, Program, Refusal, Relocation, Step, Task, TensorPort
from cermet.program.plan import Plan, PlanError, PlanNode, PlanPartition
from cermet.program.plan_layout import PORT_NUMBERS, checksum_of, names_of, plan_header, record_of

MAX_BO_BYTES = 0x7FFFF000       # cermet_plan.h, struct cermet_plan_bo
ATOM_BYTES = 16
TRAILER_WORDS = 4               # every program ends with these
MAX_TASK_WORDS = 131072         # PC.REGISTER_AMOUNTS holds 16 bits of word pairs; the kernel lets more wrap silently
MAX_TENSOR_BYTES = 2**31 - 1    # what TFLite's int sizes hold
_STEP_NUMBERS = ("first_task", "num_tasks", "lane", "stage")


def decode_plan(data: bytes) -> Plan:
    """The plan in a file's bytes. Raises PlanError for anything that is not one."""
    try:
        return check_plan(data, verify_checksum=True)
    except ValueError as error:
        raise PlanError(f"plan: {error}") from error


def check_plan(data: bytes, *, verify_checksum: bool) -> Plan:
    """As decode_plan; also ValueError, of a struct that does not fit the file."""
    header = record_of("header").unpack(data)
    constants = plan_header().constants
    _require(header.magic == constants["CERMET_PLAN_MAGIC"], "plan: not a plan file: wrong magic")
    _require(header.version == constants["CERMET_PLAN_VERSION"],
             f"plan: format version {header.version}, must be {constants['CERMET_PLAN_VERSION']}")
    _require(header.file_bytes == len(data), f"plan: {len(data)} bytes, header says {header.file_bytes}")
    if verify_checksum:
        written = (header.checksum_sum, header.checksum_products)
        _require(written == checksum_of(data), "plan: checksum differs: the file is damaged")
    reader = _Reader(data, header)
    nodes = reader.nodes()
    partitions = tuple(reader.partition(row) for row in reader.table("partition", "header", header, "partitions"))
    _check_membership(nodes, partitions)
    return Plan(header.key, _text("build_id", header.build_id), _text("soc", header.soc), nodes, partitions)


def _check_membership(nodes: tuple[PlanNode, ...], partitions: tuple[PlanPartition, ...]) -> None:
    """Node table and partitions' node lists say the same."""
    members: dict[int | None, list[int]] = {}
    for index, node in enumerate(nodes):
        members.setdefault(node.partition, []).append(index)
    for number, partition in enumerate(partitions):
        listed = tuple(members.get(number, ()))
        _require(partition.nodes == listed and bool(listed),
                 f"plan: partition {number} lists nodes {_short(partition.nodes)}, the node table {_short(listed)}")
    assigned = [index for index, node in enumerate(nodes)
                if node.partition is not None and node.partition >= len(partitions)]
    _require(not assigned, f"plan: node {assigned[:1]} names a partition beyond the {len(partitions)} there are")


def _short(nodes: tuple[int, ...]) -> str:
    return f"{list(nodes[:8])}{'...' if len(nodes) > 8 else ''}"


class _Reader:
    """Checked access to the tables of one file."""

    def __init__(self, data: bytes, header: Any) -> None:
        self.data = data
        self.roles = {number: name for name, number in names_of("BO").items()}
        self.layouts = {number: name for name, number in names_of("LAYOUT").items()}
        self.max_bos = plan_header().constants["CERMET_MAX_BOS"]
        self.strings = self.bytes_at("strings", header.strings_offset, header.strings_bytes)
        _require(self.strings[:1] == b"\0" and self.strings[-1:] == b"\0",
                 "plan: strings must begin and end with a NUL")
        self.node_rows = self.table("node", "header", header, "nodes")

    def bytes_at(self, place: str, offset: int, size: int) -> bytes:
        if size == 0:       # nothing lies anywhere
            return b""
        inside = record_of("header").size <= offset <= len(self.data) - size
        _require(inside and offset % 8 == 0,
                 f"plan: {place}: {size} bytes at {offset} must lie in the file, 8-byte aligned")
        return self.data[offset:offset + size]

    def table(self, record: str, place: str, row: Any, name: str) -> list[Any]:
        """Rows of a table that `row` describes by num_<name> and <name>_offset."""
        layout, count = record_of(record), getattr(row, f"num_{name}")
        raw = self.bytes_at(f"{place}: {name}", getattr(row, f"{name}_offset"), count * layout.size)
        return layout.unpack_all(raw, 0, count)

    def nodes(self) -> tuple[PlanNode, ...]:
        on_cpu = plan_header().constants["CERMET_ON_CPU"]
        refusals = [self._refusal(index, row.reason) for index, row in enumerate(self.node_rows)]
        return tuple(PlanNode(None, refusal) if row.partition == on_cpu else PlanNode(row.partition)
                     for row, refusal in zip(self.node_rows, refusals, strict=True))

    def _refusal(self, node: int, offset: int) -> Refusal:
        _require(offset < len(self.strings), f"plan: node {node}: reason at {offset} must lie in the strings")
        raw = self.strings[offset:self.strings.index(b"\0", offset)]
        rule, _, words = raw.decode("utf-8", "replace").partition(": ")
        return Refusal(rule, words)

    def partition(self, row: Any) -> PlanPartition:
        bos = self._bos(row)
        tasks = tuple(self._task(bos, task) for task in self.table("task", "partition", row, "tasks"))
        jobs = tuple(self._job(bos, tasks, job) for job in self.table("job", "partition", row, "jobs"))
        relocations = tuple(self._relocation(bos, r) for r in self.table("relocation", "partition", row, "relocations"))
        inputs, outputs = (self._ports(bos, row, side) for side in ("inputs", "outputs"))
        _require(bool(jobs and tasks and outputs), f"plan: partition: {len(jobs)} jobs, {len(tasks)} tasks, "
                 f"{len(outputs)} outputs, must be at least one of each")
        steps = tuple(Step(**{name: getattr(step, name) for name in _STEP_NUMBERS})
                      for step in self.table("step", "partition", row, "steps"))
        _check_steps(steps, len(tasks))
        program = Program(bos, relocations, tasks, jobs, inputs, outputs, self._debug(row), steps)
        raw = self.bytes_at("partition: nodes", row.nodes_offset, row.num_nodes * 4)
        nodes = tuple(int.from_bytes(raw[i:i + 4], "little") for i in range(0, len(raw), 4))
        return PlanPartition(nodes, program)

    def _bos(self, row: Any) -> tuple[Bo, ...]:
        _require(row.num_bos <= self.max_bos, f"plan: {row.num_bos} bos in a partition, must be 0..{self.max_bos}")
        bos = []
        for number, bo in enumerate(self.table("bo", "partition", row, "bos")):
            _require(bo.role in self.roles, f"plan: bo {number}: role {bo.role} must be one of {list(self.roles)}")
            _require(1 <= bo.size_bytes <= MAX_BO_BYTES,
                     f"plan: bo {number}: {bo.size_bytes} bytes, must be 1..{MAX_BO_BYTES}")
            _require(bo.data_bytes <= bo.size_bytes,
                     f"plan: bo {number}: {bo.data_bytes} bytes of contents, must be 0..{bo.size_bytes}")
            data = self.bytes_at(f"bo {number}: contents", bo.data_offset, bo.data_bytes)
            bos.append(Bo(self.roles[bo.role], bo.size_bytes, data))
        return tuple(bos)

    def _task(self, bos: tuple[Bo, ...], row: Any) -> Task:
        words_fit = row.bo < len(bos) and row.offset_bytes + row.num_words * 8 <= bos[row.bo].size_bytes
        count_fits = TRAILER_WORDS <= row.num_words <= MAX_TASK_WORDS
        _require(words_fit and count_fits and row.offset_bytes % 16 == 0 and not row.reserved,
                 f"plan: task: {row.num_words} words at {row.offset_bytes} of bo {row.bo} must be {TRAILER_WORDS}.."
                 f"{MAX_TASK_WORDS} words, inside the bo, 16-byte aligned")
        return Task(row.bo, row.offset_bytes, row.num_words, (row.next_address, row.next_amount))

    def _job(self, bos: tuple[Bo, ...], tasks: tuple[Task, ...], row: Any) -> Job:
        _require(row.num_tasks >= 1 and row.first_task + row.num_tasks <= len(tasks),
                 f"plan: job: tasks {row.first_task} + {row.num_tasks} must be among the {len(tasks)} there are")
        masks_fit = not (row.in_bo_mask | row.out_bo_mask) >> len(bos) and not row.in_bo_mask & row.out_bo_mask
        _require(masks_fit and bool(row.out_bo_mask),
                 f"plan: job: masks {row.in_bo_mask:#x} and {row.out_bo_mask:#x} must be disjoint, name bos below "
                 f"{len(bos)} and at least one that is written")
        witness_fits = (row.witness_bo < len(bos) and row.out_bo_mask >> row.witness_bo & 1
                        and row.witness_offset_bytes % ATOM_BYTES == 0
                        and row.witness_offset_bytes + ATOM_BYTES <= bos[row.witness_bo].size_bytes)
        _require(bool(witness_fits), f"plan: job: witness at {row.witness_offset_bytes} of bo {row.witness_bo} must be "
                 "an atom of a bo that it writes")
        return Job(row.first_task, row.num_tasks, _bits(row.in_bo_mask), _bits(row.out_bo_mask), row.witness_bo,
                   row.witness_offset_bytes)

    def _relocation(self, bos: tuple[Bo, ...], row: Any) -> Relocation:
        fits = (row.bo < len(bos) and row.offset_bytes + 8 <= bos[row.bo].size_bytes and row.offset_bytes % 8 == 0
                and row.target_bo < len(bos) and row.addend_bytes < bos[row.target_bo].size_bytes)
        _require(fits, f"plan: relocation: word at {row.offset_bytes} of bo {row.bo} to {row.addend_bytes} of bo "
                       f"{row.target_bo} must be 8-byte aligned and inside the bos")
        return Relocation(row.bo, row.offset_bytes, row.target_bo, row.addend_bytes)

    def _ports(self, bos: tuple[Bo, ...], row: Any, side: str) -> tuple[TensorPort, ...]:
        return tuple(self._port(bos, port, is_input=side == "inputs")
                     for port in self.table("io", "partition", row, side))

    def _port(self, bos: tuple[Bo, ...], row: Any, *, is_input: bool) -> TensorPort:
        place = f"plan: tensor {row.tensor}"
        _require(row.bo < len(bos), f"{place}: bo {row.bo} must be below {len(bos)}")
        _require(row.layout in self.layouts, f"{place}: layout {row.layout} must be one of {list(self.layouts)}")
        can_fold = is_input and self.layouts[row.layout] == "atoms"
        most = plan_header().constants["CERMET_MAX_FOLD"] if can_fold else 1
        _require(1 <= min(row.fold_y, row.fold_x) and max(row.fold_y, row.fold_x) <= most,
                 f"{place}: folded by {row.fold_y}x{row.fold_x}, must be 1..{most}")
        port = TensorPort(layout=self.layouts[row.layout], **{name: getattr(row, name) for name in PORT_NUMBERS})
        sizes = (row.batch, row.height, row.width, row.channels)
        most_bytes = max(math.prod(sizes), math.prod(port.map_sizes))
        _require(min(sizes) >= 1 and most_bytes <= MAX_TENSOR_BYTES,
                 f"{place}: sizes {sizes} must be at least 1, together below 2 GiB")
        _require(row.flip in (0, 0x80), f"{place}: flip {row.flip} must be 0 or 128")
        last = last_byte(port)
        _require(last < bos[row.bo].size_bytes,
                 f"{place}: ends at byte {last}, bo {row.bo} has {bos[row.bo].size_bytes}")
        return port

    def _debug(self, row: Any) -> Mapping[str, object]:
        raw = self.bytes_at("partition: debug", row.debug_offset, row.debug_bytes)
        if not raw:
            return {}
        try:
            debug = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise PlanError("plan: partition: debug section is not JSON") from error
        _require(isinstance(debug, dict), "plan: partition: debug section must be a JSON object")
        return debug


def _check_steps(steps: Sequence[Step], num_tasks: int) -> None:
    """All tasks in order; stages without gaps, in each of them one step for each lane, in ascending order."""
    lanes, first, before = plan_header().constants["CERMET_MAX_LANES"], 0, Step(0, 0, -1, 0)
    for number, step in enumerate(steps):
        follows = step.first_task == first and step.num_tasks >= 1 and step.lane < lanes
        is_beside = step.stage == before.stage and step.lane > before.lane
        is_behind = step.stage == before.stage + 1 and number > 0
        _require(follows and (is_beside or is_behind), f"plan: step {number}: tasks {step.first_task} + "
                 f"{step.num_tasks}, lane {step.lane}, stage {step.stage} must follow task {first} and stage "
                 f"{before.stage}")
        first, before = first + step.num_tasks, step
    _require(not steps or first == num_tasks, f"plan: steps have {first} of {num_tasks} tasks")


def last_byte(port: TensorPort) -> int:
    """Offset in its BO of the last byte that the runtime touches: in atoms, filler channels included."""
    batch, height, width, channels = port.map_sizes
    start = port.offset_bytes + (batch - 1) * port.batch_stride_bytes + (height - 1) * port.line_stride_bytes
    if port.layout == "packed":
        return start + width * channels - 1
    return start + (channels - 1) // 16 * port.surface_stride_bytes + width * 16 - 1


def _bits(mask: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def _text(place: str, raw: bytes) -> str:
    text, _, rest = raw.partition(b"\0")
    _require(bool(text) and not rest.strip(b"\0") and len(text) < len(raw) and text.isascii(),
             f"plan: {place}: must be ASCII text, NUL-padded")
    return text.decode()


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise PlanError(message)
