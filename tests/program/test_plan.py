"""The plan file: what is written is read back, and nothing else is believed."""
from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cffi
import pytest

from cermet import paths
from cermet.drivers.base import Bo, Job, Program, Refusal, Relocation, Step, Task, TensorPort
from cermet.program.plan import Plan, PlanError, PlanNode, PlanPartition
from cermet.program.plan_layout import plan_header, with_checksum
from cermet.program.plan_reader import decode_plan, last_byte
from cermet.program.plan_writer import encode_plan

ROOT = Path(__file__).resolve().parents[2]
NUM_FUZZED = 4000


def port(tensor: int, bo: int, **changes: object) -> TensorPort:
    """A 1x4x5x20 tensor in atoms: 2 surfaces of 4 lines of 80 bytes."""
    made = TensorPort(tensor, bo, "atoms", 64, 1, 4, 5, 20, 1024, 80, 320, 0x80, 0)
    return replace(made, **changes)     # type: ignore[arg-type]


def blocks(**changes: object) -> TensorPort:
    """A 1x3x5x4 tensor in blocks of 2x3: 2 surfaces of 2 lines of 32 bytes."""
    made = TensorPort(0, 2, "atoms", 64, 1, 3, 5, 4, 128, 32, 64, 0x80, 0, 2, 3)
    return replace(made, **changes)     # type: ignore[arg-type]


def program(**changes: object) -> Program:
    """Two tasks in two jobs, all four roles."""
    made = Program(
        bos=(Bo("constant", 4096, bytes(range(256))), Bo("arena", 8192), Bo("input", 1024), Bo("output", 1024)),
        relocations=(Relocation(0, 8, 2, 64), Relocation(0, 40, 1, 0)),
        tasks=(Task(0, 0, 6, (0x0101_0000_0000_0010, 0x0101_0000_0005_0014)), Task(0, 64, 12)),
        jobs=(Job(0, 1, (0, 2), (1,), 1, 4096), Job(1, 1, (0, 1), (3,), 3)),
        inputs=(port(0, 2),), outputs=(port(7, 3, layout="packed", line_stride_bytes=100, surface_stride_bytes=0),),
        debug={"tasks": [{"layer": "operation 1 (conv_2d)", "macs": 12}]},
        steps=(Step(0, 1, 0, 0), Step(1, 1, 2, 0)))
    return replace(made, **changes)     # type: ignore[arg-type]


def sample_plan() -> Plan:
    refused = PlanNode(None, Refusal("dtype", "weights are float32, must be int8"))
    nodes = (refused, PlanNode(0), PlanNode(1), PlanNode(0), refused)
    return Plan(bytes(range(32)), "0.1.0+abc", "rk3588", nodes,
                (PlanPartition((1, 3), program()), PlanPartition((2,), program(debug={}, inputs=(blocks(),)))))


def resigned(data: bytes) -> bytes:
    """The file with a right checksum: what a reader sees of a file that was made, not damaged."""
    return with_checksum(data)


def patched(data: bytes, offset: int, value: int, size: int = 4) -> bytes:
    return resigned(data[:offset] + value.to_bytes(size, "little") + data[offset + size:])


def header_of(data: bytes) -> object:
    return plan_header().records["cermet_plan_header"].unpack(data)


def test_what_is_written_is_read_back() -> None:
    plan = sample_plan()
    assert decode_plan(encode_plan(plan)) == plan


def test_plan_without_partitions_is_read_back() -> None:
    plan = Plan(bytes(32), "dev", "rk3588", (PlanNode(None, Refusal("kind", "not known: at all")),), ())
    assert decode_plan(encode_plan(plan)) == plan


def test_equal_plans_give_equal_bytes_in_every_process() -> None:
    code = "import sys; from tests.program.test_plan import *; sys.stdout.buffer.write(encode_plan(sample_plan()))"
    outputs = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT,
                              env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert outputs == {encode_plan(sample_plan())}


def test_bo_contents_start_on_cache_lines() -> None:
    data = encode_plan(sample_plan())
    record = plan_header().records["cermet_plan_partition"]
    first = record.unpack(data, header_of(data).partitions_offset)      # type: ignore[attr-defined]
    bo = plan_header().records["cermet_plan_bo"].unpack(data, first.bos_offset)
    assert bo.data_offset % 64 == 0
    assert data[bo.data_offset:bo.data_offset + 256] == bytes(range(256))


def test_layouts_are_those_of_a_c_compiler() -> None:
    """cffi lays structs out as the C compiler does; the header's own parser must agree on every member."""
    text = paths.header("cermet_plan.h").read_text()
    ffi = cffi.FFI()
    ffi.cdef("".join(line for line in text.splitlines(True) if not line.startswith("#")))
    for name, record in plan_header().records.items():
        assert record.size == ffi.sizeof(f"struct {name}")
        assert dict(record.offsets) == {member: field.offset for member, field in ffi.typeof(f"struct {name}").fields}


def test_every_damaged_byte_is_noticed() -> None:
    data = encode_plan(sample_plan())
    for offset in range(len(data)):
        with pytest.raises(PlanError):
            decode_plan(data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1:])


def test_every_truncation_is_noticed() -> None:
    data = encode_plan(sample_plan())
    for size in range(len(data)):
        with pytest.raises(PlanError):
            decode_plan(data[:size])


def test_hostile_files_with_a_right_checksum_are_refused_or_consistent() -> None:
    """Whatever passes is written again without complaint: the writer checks with the reader's own rules."""
    generator = random.Random(588)
    data = encode_plan(sample_plan())
    interesting = (0, 1, 2, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data), len(data) - 8)
    num_accepted = 0
    for _ in range(NUM_FUZZED):
        changed = bytearray(data)
        for _ in range(generator.choice((1, 1, 2, 8))):
            if generator.random() < 0.5:
                changed[generator.randrange(len(data))] = generator.randrange(256)
            else:
                offset = generator.randrange(len(data) // 4) * 4
                changed[offset:offset + 4] = generator.choice(interesting).to_bytes(4, "little")
        try:
            plan = decode_plan(resigned(bytes(changed)))
        except PlanError as error:
            assert "\n" not in str(error)
            continue
        num_accepted += 1
        decode_plan(encode_plan(plan))
    assert 0 < num_accepted < NUM_FUZZED


@pytest.mark.parametrize("size", [0, 1, 8, 151, 152, 153, 4096])
def test_garbage_is_refused(size: int) -> None:
    with pytest.raises(PlanError):
        decode_plan(random.Random(size).randbytes(size))


def test_other_format_version_is_refused() -> None:
    with pytest.raises(PlanError, match="format version 1, must be 6"):
        decode_plan(patched(encode_plan(sample_plan()), 4, 1))


@pytest.mark.parametrize(("changes", "words"), [
    ({"bos": (Bo("scratch", 1),)}, "bo role: 'scratch' must be one of constant, arena, input, output"),
    ({"bos": (Bo("arena", 0),) * 4}, "bo 0: 0 bytes, must be 1"),
    ({"bos": (Bo("constant", 4096),) * 33}, "33 bos in a partition, must be 0..32"),
    ({"bos": (Bo("constant", 100, bytes(101)),) * 4}, "101 bytes of contents, must be 0..100"),
    ({"tasks": (Task(0, 8, 6), Task(0, 64, 12))}, "16-byte aligned"),
    ({"tasks": (Task(0, 0, 3), Task(0, 64, 12))}, "3 words"),
    ({"tasks": (Task(0, 0, 513), Task(0, 64, 12))}, "513 words"),
    ({"jobs": (Job(1, 2, (0,), (1,), 1),)}, "tasks 1 \\+ 2 must be among the 2"),
    ({"jobs": (Job(0, 2, (0, 1), (1,), 1),)}, "must be disjoint"),
    ({"jobs": (Job(0, 2, (0, 1), (), 1),)}, "at least one that is written"),
    ({"jobs": (Job(0, 2, (0, 9), (1,), 1),)}, "name bos below 4"),
    ({"jobs": (Job(0, 2, (0,), (1,), 3),)}, "witness at 0 of bo 3 must be an atom of a bo that it writes"),
    ({"jobs": (Job(0, 2, (0,), (1,), 1, 8),)}, "witness at 8 of bo 1"),
    ({"jobs": (Job(0, 2, (0,), (1,), 1, 8192),)}, "witness at 8192 of bo 1"),
    ({"jobs": ()}, "0 jobs"),
    ({"steps": (Step(0, 1, 0, 0),)}, "steps have 1 of 2 tasks"),
    ({"steps": (Step(1, 1, 0, 0), Step(0, 1, 1, 0))}, "step 0: tasks 1"),
    ({"steps": (Step(0, 2, 0, 0), Step(2, 0, 0, 1))}, "step 1: tasks 2 \\+ 0"),
    ({"steps": (Step(0, 2, 8, 0),)}, "lane 8"),
    ({"steps": (Step(0, 2, 0, 1),)}, "stage 1 must follow"),
    ({"steps": (Step(0, 1, 0, 0), Step(1, 1, 0, 2))}, "stage 2 must follow"),
    ({"steps": (Step(0, 1, 1, 0), Step(1, 1, 0, 0))}, "lane 0, stage 0 must follow"),
    ({"relocations": (Relocation(0, 4, 1, 0),)}, "8-byte aligned"),
    ({"relocations": (Relocation(0, 4096, 1, 0),)}, "word at 4096"),
    ({"relocations": (Relocation(0, 8, 1, 8192),)}, "to 8192 of bo 1"),
    ({"relocations": (Relocation(0, 8, 1, -1),)}, "struct cermet_plan_relocation"),
    ({"inputs": (port(0, 4),)}, "bo 4 must be below 4"),
    ({"inputs": (port(0, 2, width=0),)}, "must be at least 1"),
    ({"inputs": (port(0, 2, channels=2**31),)}, "together below 2 GiB"),
    ({"inputs": (port(0, 2, offset_bytes=400),)}, "ends at byte"),
    ({"inputs": (port(0, 2, flip=1),)}, "flip 1 must be 0 or 128"),
    ({"inputs": (blocks(fold_y=0),)}, "folded by 0x3, must be 1..49"),
    ({"inputs": (blocks(fold_x=50),)}, "folded by 2x50, must be 1..49"),
    ({"inputs": (blocks(layout="packed"),)}, "folded by 2x3, must be 1..1"),
    ({"inputs": (blocks(channels=2**27),)}, "together below 2 GiB"),
    ({"outputs": (blocks(),)}, "folded by 2x3, must be 1..1"),
    ({"outputs": ()}, "0 outputs"),
    ({"outputs": (port(0, 2, layout="nchw"),)}, "layout: 'nchw' must be one of atoms, packed"),
])
def test_the_writer_refuses_a_program_that_no_reader_would_take(changes: dict, words: str) -> None:
    plan = replace(sample_plan(), partitions=(PlanPartition((1, 3), program(**changes)), sample_plan().partitions[1]))
    with pytest.raises(PlanError, match=words):
        encode_plan(plan)


def test_last_byte_of_a_port_is_exact() -> None:
    fits = port(0, 2, offset_bytes=1024 - 2 * 320)
    assert last_byte(fits) == 1023
    packed = port(0, 2, layout="packed", offset_bytes=0, line_stride_bytes=100)
    assert last_byte(packed) == 399
    assert last_byte(blocks()) == 64 + 2 * 64 - 1
    assert last_byte(blocks(fold_y=1, fold_x=1)) == 64 + 2 * 32 + 5 * 16 - 1


def test_node_table_and_partitions_must_agree() -> None:
    plan = sample_plan()
    with pytest.raises(PlanError, match=r"partition 0 lists nodes \[1\], the node table \[1, 3\]"):
        encode_plan(replace(plan, partitions=(PlanPartition((1,), program()), plan.partitions[1])))
    with pytest.raises(PlanError, match="beyond the 1 there are"):
        encode_plan(replace(plan, partitions=plan.partitions[:1]))


def test_build_id_must_fit_its_field() -> None:
    with pytest.raises(PlanError, match=r"build_id: .* must be 1\.\.31 bytes"):
        encode_plan(replace(sample_plan(), build_id="x" * 32))
