"""Writing a plan file. Deterministic: equal plans give equal bytes."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cermet.drivers.base import Refusal
from cermet.program.plan import Plan, PlanError, PlanPartition
from cermet.program.plan_layout import MAX_FILE_BYTES, PORT_NUMBERS, names_of, plan_header, record_of, with_checksum
from cermet.program.plan_reader import check_plan

DATA_ALIGNMENT_BYTES = 64       # a cache line, so that the runtime's copies start aligned


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
    header, partition = record_of("header"), record_of("partition")
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
    check_plan(data, verify_checksum=False)
    return with_checksum(data)


def _encode_tables(writer: _Writer, plan: Plan) -> dict[str, Any]:
    constants = plan_header().constants
    nodes = [{"partition": constants["CERMET_ON_CPU"] if node.partition is None else node.partition,
              "reason": writer.string(_reason_text(node.refusal))} for node in plan.nodes]
    nodes_offset = writer.place(record_of("node").pack_all(nodes))
    return {"magic": constants["CERMET_PLAN_MAGIC"], "version": constants["CERMET_PLAN_VERSION"],
            "key": _fixed("key", plan.key, 32), "build_id": _name("build_id", plan.build_id, 32),
            "soc": _name("soc", plan.soc, 16), "num_nodes": len(nodes), "nodes_offset": nodes_offset,
            "strings_bytes": len(writer.strings), "strings_offset": writer.place(bytes(writer.strings))}


def _encode_partition(writer: _Writer, number: int, partition: PlanPartition) -> dict[str, int]:
    program = partition.program
    roles, layouts = names_of("BO"), names_of("LAYOUT")
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
    ports = {side: [{name: getattr(port, name) for name in PORT_NUMBERS}
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
        row[f"{name}_offset"] = writer.place(record_of(record).pack_all(table))
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
