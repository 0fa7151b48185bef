"""The plan file: what the compiler answers for one subgraph blob. Layout: cermet_plan.h, read at run time.

The writer is deterministic: equal plans give equal bytes. The reader believes nothing: whatever the bytes are it
returns a plan that is consistent in itself, or raises PlanError with one line.
"""
from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cermet import paths
from cermet.drivers.base import Bo, Job, Program, Refusal, Relocation, Step, Task, TensorPort
from cermet.errors import CermetError
from cermet.program.checksum import checksum
from cermet.program.cstruct import Header, Record, parse_header

DATA_ALIGNMENT_BYTES = 64       # a cache line, so that the runtime's copies start aligned
MAX_BO_BYTES = 0x7FFFF000       # cermet_plan.h, struct cermet_plan_bo
MAX_FILE_BYTES = 0xFFFFFFFF     # offsets have 32 bits
ATOM_BYTES = 16
TRAILER_WORDS = 4               # every program ends with these
MAX_TASK_WORDS = 131072         # PC.REGISTER_AMOUNTS holds 16 bits of word pairs; the kernel lets more wrap silently
MAX_TENSOR_BYTES = 2**31 - 1    # what TFLite's int sizes hold
_PORT_NUMBERS = ("tensor", "bo", "offset_bytes", "batch", "height", "width", "channels", "batch_stride_bytes",
                 "line_stride_bytes", "surface_stride_bytes", "flip", "fill", "fold_y", "fold_x")
_STEP_NUMBERS = ("first_task", "num_tasks", "lane", "stage")


class PlanError(CermetError):
    """The bytes are not a plan, or the plan cannot be written; one line says where and what."""


@dataclass(frozen=True)
class PlanNode:
    """Where one operation runs: the number of a partition, or None with the reason."""

    partition: int | None
    refusal: Refusal | None = None


@dataclass(frozen=True)
class PlanPartition:
    """A group of operations (ascending numbers) and the program that replaces it."""

    nodes: tuple[int, ...]
    program: Program


@dataclass(frozen=True)
class Plan:
    """key: 32 bytes, see cermet.program.cache; nodes in the blob's order of operations."""

    key: bytes
    build_id: str
    soc: str
    nodes: tuple[PlanNode, ...]
    partitions: tuple[PlanPartition, ...] = field(repr=False)


@cache
def plan_header() -> Header:
    """cermet_plan.h."""
    return parse_header(paths.header("cermet_plan.h"))


def _record(name: str) -> Record:
    return plan_header().records[f"cermet_plan_{name}"]


def _names(prefix: str) -> dict[str, int]:
    """Lower-case names of the constants CERMET_<prefix>_*."""
    start = f"CERMET_{prefix}_"
    return {name[len(start):].lower(): value for name, value in plan_header().constants.items()
            if name.startswith(start)}


# Writing


class _Writer:
    """Sections of the file; the header and the table of partitions come first, their contents when all is placed."""

    def __init__(self, reserved_bytes: int) -> None:
        self.pieces: list[bytes] = []
        self.start = self.size = reserved_bytes + -reserved_bytes % 8
        self.strings = bytearray(1)
        self.string_offsets = {"": 0}

    def place(self, data: bytes, alignment: int = 8) -> int:
        """Append and return the offset; 0 for nothing."""
        if not data:
            return 0
        gap = -self.size % alignment
        self.pieces += [bytes(gap), data]
        offset = self.size + gap
        self.size = offset + len(data)
        return offset

    def string(self, text: str) -> int:
        """Offset of a string; equal strings share one."""
        if text not in self.string_offsets:
            self.string_offsets[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self.string_offsets[text]


def encode_plan(plan: Plan) -> bytes:
    """The file's bytes. Raises PlanError when a value does not fit the format: the compiler's fault."""
    header, partition = _record("header"), _record("partition")
    partitions_offset = header.size
    writer = _Writer(partitions_offset + len(plan.partitions) * partition.size)
    try:
        rows = [_encode_partition(writer, number, part) for number, part in enumerate(plan.partitions)]
        members = _encode_tables(writer, plan)
        members |= {"num_partitions": len(rows), "partitions_offset": partitions_offset if rows else 0}
        members["file_bytes"] = writer.size
        if writer.size > MAX_FILE_BYTES:
            raise PlanError(f"plan: {writer.size} bytes, at most {MAX_FILE_BYTES} fit the format")
        head = header.pack(**members) + partition.pack_all(rows)
    except ValueError as error:
        raise PlanError(f"plan: {error}") from error
    data = b"".join([head, bytes(writer.start - len(head)), *writer.pieces])
    _check(data, verify_checksum=False)
    return _with_checksum(data)


def _encode_tables(writer: _Writer, plan: Plan) -> dict[str, Any]:
    on_cpu = plan_header().constants["CERMET_ON_CPU"]
    nodes = [{"partition": on_cpu if node.partition is None else node.partition,
              "reason": writer.string(_reason_text(node.refusal))} for node in plan.nodes]
    nodes_offset = writer.place(_record("node").pack_all(nodes))
    constants = plan_header().constants
    return {"magic": constants["CERMET_PLAN_MAGIC"], "version": constants["CERMET_PLAN_VERSION"],
            "key": _fixed("key", plan.key, 32), "build_id": _name("build_id", plan.build_id, 32),
            "soc": _name("soc", plan.soc, 16), "num_nodes": len(nodes), "nodes_offset": nodes_offset,
            "strings_bytes": len(writer.strings), "strings_offset": writer.place(bytes(writer.strings))}


def _encode_partition(writer: _Writer, number: int, partition: PlanPartition) -> dict[str, int]:
    program = partition.program
    roles, layouts = _names("BO"), _names("LAYOUT")
    bos = [{"role": _lookup(roles, bo.role, f"partition {number}: bo role"), "size_bytes": bo.size_bytes,
            "data_offset": writer.place(bo.data, DATA_ALIGNMENT_BYTES), "data_bytes": len(bo.data)}
           for bo in program.bos]
    relocations = [vars(relocation) for relocation in program.relocations]
    tasks = [{"bo": task.bo, "offset_bytes": task.offset_bytes, "num_words": task.num_words,
              "next_address": task.next_words[0], "next_amount": task.next_words[1]} for task in program.tasks]
    steps = [vars(step) for step in program.steps]
    jobs = [{"first_task": job.first_task, "num_tasks": job.num_tasks,
             "in_bo_mask": _mask(job.in_bos), "out_bo_mask": _mask(job.out_bos), "witness_bo": job.witness_bo,
             "witness_offset_bytes": job.witness_offset_bytes} for job in program.jobs]
    ports = {side: [{name: getattr(port, name) for name in _PORT_NUMBERS}
                    | {"layout": _lookup(layouts, port.layout, f"partition {number}: layout")}
                    for port in getattr(program, side)] for side in ("inputs", "outputs")}
    debug = json.dumps(program.debug, sort_keys=True, separators=(",", ":")).encode() if program.debug else b""
    row = {"debug_bytes": len(debug), "debug_offset": writer.place(debug), "num_nodes": len(partition.nodes),
           "nodes_offset": writer.place(b"".join(node.to_bytes(4, "little") for node in partition.nodes))}
    tables: tuple[tuple[str, str, Sequence[Mapping[str, Any]]], ...] = (
        ("bos", "bo", bos), ("relocations", "relocation", relocations), ("tasks", "task", tasks),
        ("jobs", "job", jobs), ("steps", "step", steps),
        ("inputs", "io", ports["inputs"]), ("outputs", "io", ports["outputs"]))
    for name, record, table in tables:
        row[f"num_{name}"] = len(table)
        row[f"{name}_offset"] = writer.place(_record(record).pack_all(table))
    return row


def _mask(bos: tuple[int, ...]) -> int:
    return sum(1 << bo for bo in set(bos))


def _lookup(names: Mapping[str, int], name: str, place: str) -> int:
    if name not in names:
        raise PlanError(f"{place}: {name!r} must be one of {', '.join(names)}")
    return names[name]


def _fixed(place: str, data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise PlanError(f"{place}: {len(data)} bytes, must be {size}")
    return data


def _name(place: str, text: str, size: int) -> bytes:
    data = text.encode()
    if not data or len(data) >= size or b"\0" in data:
        raise PlanError(f"{place}: {text!r} must be 1..{size - 1} bytes without NUL")
    return data


def _reason_text(refusal: Refusal | None) -> str:
    if refusal is None:
        return ""
    return f"{refusal.rule}: {refusal.reason}".replace("\0", "?").replace("\n", " ")


def _with_checksum(data: bytes) -> bytes:
    start = _record("header").offsets["checksum_sum"]
    values = b"".join(value.to_bytes(8, "little") for value in _checksum(data))
    return data[:start] + values + data[start + len(values):]


def _checksum(data: bytes) -> tuple[int, int]:
    constants = plan_header().constants
    return checksum(data, _record("header").offsets["checksum_sum"],
                    (constants["CERMET_PLAN_STEP"], constants["CERMET_PLAN_OTHER_STEP"]))


# Reading


def decode_plan(data: bytes) -> Plan:
    """The plan in a file's bytes. Raises PlanError for anything that is not one."""
    try:
        return _check(data, verify_checksum=True)
    except ValueError as error:
        raise PlanError(f"plan: {error}") from error


def _check(data: bytes, verify_checksum: bool) -> Plan:
    header = _record("header").unpack(data)
    constants = plan_header().constants
    _require(header.magic == constants["CERMET_PLAN_MAGIC"], "plan: not a plan file: wrong magic")
    _require(header.version == constants["CERMET_PLAN_VERSION"],
             f"plan: format version {header.version}, must be {constants['CERMET_PLAN_VERSION']}")
    _require(header.file_bytes == len(data), f"plan: {len(data)} bytes, header says {header.file_bytes}")
    if verify_checksum:
        written = (header.checksum_sum, header.checksum_products)
        _require(written == _checksum(data), "plan: checksum differs: the file is damaged")
    reader = _Reader(data, header)
    nodes = reader.nodes()
    partitions = tuple(reader.partition(row) for row in reader.table("partition", "header", header, "partitions"))
    _check_membership(nodes, partitions)
    return Plan(header.key, _text("build_id", header.build_id), _text("soc", header.soc), nodes, partitions)


def _check_membership(nodes: tuple[PlanNode, ...], partitions: tuple[PlanPartition, ...]) -> None:
    """Node table and partitions' node lists say the same."""
    for number, partition in enumerate(partitions):
        listed = tuple(index for index, node in enumerate(nodes) if node.partition == number)
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
        self.roles = {number: name for name, number in _names("BO").items()}
        self.layouts = {number: name for name, number in _names("LAYOUT").items()}
        self.max_bos = plan_header().constants["CERMET_MAX_BOS"]
        self.strings = self.bytes_at("strings", header.strings_offset, header.strings_bytes)
        _require(self.strings[:1] == b"\0" and self.strings[-1:] == b"\0",
                 "plan: strings must begin and end with a NUL")
        self.node_rows = self.table("node", "header", header, "nodes")

    def bytes_at(self, place: str, offset: int, size: int) -> bytes:
        if size == 0:       # nothing lies anywhere
            return b""
        inside = _record("header").size <= offset <= len(self.data) - size
        _require(inside and offset % 8 == 0,
                 f"plan: {place}: {size} bytes at {offset} must lie in the file, 8-byte aligned")
        return self.data[offset:offset + size]

    def table(self, record: str, place: str, row: Any, name: str) -> list[Any]:
        """Rows of a table that `row` describes by num_<name> and <name>_offset."""
        layout, count = _record(record), getattr(row, f"num_{name}")
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
        port = TensorPort(layout=self.layouts[row.layout], **{name: getattr(row, name) for name in _PORT_NUMBERS})
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
