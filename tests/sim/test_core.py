"""Program control, register groups, address space, pooling units, and that both forms of the arithmetic agree."""
from __future__ import annotations

import itertools
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cermet.errors import CermetError
from cermet.hw.disasm import disassemble
from cermet.hw.soc import RK3588
from cermet.sim import core as core_module
from cermet.sim import kernels
from cermet.sim import ppu as ppu_module
from cermet.sim.core import AddressSpace, Core, IommuFault
from cermet.sim.memory import is_nested
from cermet.sim.rounding import shift_away, shift_even, shift_up
from cermet.sim.silicon import parse_silicon
from tests.sim.programs import CONV_MASK, FLYING_MASK, POOL_MASK, Conv, flying, pooling
from tests.sim.support import Memory, from_atoms, kick, new_core, program, start, to_atoms, word
from tests.sim.test_stages import nearest, shifted

RNG = np.random.default_rng(3)
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


# -- memory ----------------------------------------------------------------------------------------------------------


def test_neighbouring_buffers_may_be_crossed_and_gaps_fault() -> None:
    space = AddressSpace()
    first, second = np.zeros(4096, np.uint8), np.zeros(8192, np.uint8)
    space.map(0x1000, first)
    space.map(0x2000, second)
    space.write(0x1FFE, np.array([1, 2, 3, 4], np.uint8))
    assert first[-2:].tolist() == [1, 2] and second[:2].tolist() == [3, 4]
    assert space.read(0x1FFE, 4).tolist() == [1, 2, 3, 4]
    assert np.shares_memory(space.read(0x2000, 8192), second)
    with pytest.raises(IommuFault) as read:
        space.read(0x3FFF, 2)
    assert (read.value.address, read.value.is_write) == (0x4000, False)
    with pytest.raises(IommuFault) as write:
        space.write(0x3FFF, np.array([9, 9], np.uint8))
    assert write.value.address == 0x4000 and write.value.is_write and second[-1] == 9
    space.unmap(0x1000)
    with pytest.raises(IommuFault):
        space.read(0x1000, 1)


@pytest.mark.parametrize(("iova", "size"), [(0x800, 4096), (0x1000, 100), (0x1000, 0), (0x10, 4096), (-4096, 4096),
                                            (0xFFFFF000, 8192), (0x5000, 4096)])
def test_bad_mappings_are_refused(iova: int, size: int) -> None:
    space = AddressSpace()
    space.map(0x4000, np.zeros(8192, np.uint8))
    with pytest.raises(ValueError, match="map at"):
        space.map(iova, np.zeros(size, np.uint8))


def test_outputs_may_cross_from_buffer_to_buffer() -> None:
    """An output of 512 bytes over the end of one mapping: the same bytes as inside one."""
    memory = Memory()
    x = RNG.integers(-128, 128, (4, 4, 32), dtype=np.int8)
    source = memory.add(to_atoms(x))
    first = memory.add(4096, gap=0)
    memory.add(4096)
    target = first + 4096 - 16 * 5
    outcome = start(new_core(), memory, program(flying(memory, source, target, (4, 4, 32), {}), FLYING_MASK))
    assert outcome.hang is None and outcome.fault is None
    assert (from_atoms(memory.bytes(target, 512), 4, 4, 32) == x).all()


# -- rounding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "ties"), [(shift_even, "even"), (shift_away, "away"), (shift_up, "up")])
def test_rounding_of_ties(function: object, ties: str) -> None:
    values = np.arange(-40, 41)
    for shift in range(5):
        assert function(values, shift).tolist() == [shifted(int(v), shift, ties) for v in values]    # type: ignore[operator]
    assert nearest.__doc__


# -- program control -------------------------------------------------------------------------------------------------


def copy_program(memory: Memory, value: int) -> tuple[list[int], int]:
    x = np.full((1, 4, 16), value, np.int8)
    target = memory.add(64)
    return program(flying(memory, memory.add(to_atoms(x)), target, (4, 1, 16), {}), FLYING_MASK), target


def test_tasks_chain_through_their_trailers() -> None:
    memory = Memory()
    (one, target_one), (two, target_two) = copy_program(memory, 3), copy_program(memory, 5)
    second = memory.add(np.array(two, "<u8"))
    one[-4:-2] = [word(0x10, second), word(0x14, (len(two) + 1) // 2 - 1)]
    core = new_core()
    outcome = start(core, memory, one, tasks=2)
    assert outcome.hang is None and outcome.interrupts == 0x300
    assert memory.bytes(target_one, 1)[0] == 3 and memory.bytes(target_two, 1)[0] == 5
    assert core.read(0x3C) == 2 and core.read(0x2C) & 0x300 == 0x300 and core.read(0x28) == 0x300


def test_a_trailer_does_not_chain_when_one_task_was_asked_for() -> None:
    memory = Memory()
    (one, _), (two, target_two) = copy_program(memory, 3), copy_program(memory, 5)
    one[-4:-2] = [word(0x10, memory.add(np.array(two, "<u8"))), word(0x14, 60)]
    assert start(new_core(), memory, one, tasks=1).hang is None
    assert memory.bytes(target_two, 1)[0] == 0


def test_chain_without_redirect_stops() -> None:
    memory = Memory()
    words, _ = copy_program(memory, 3)
    outcome = start(new_core(), memory, words, tasks=2)
    assert outcome.hang and outcome.diagnostics[-1].rule == "pc.no_redirect"


@pytest.mark.parametrize(("change", "rule"), [
    (lambda w: w[:-2] + w[-1:], "pc.separator"), (lambda w: w[:-1], "pc.no_op_en"),
    (lambda w: [word(0x4050, 0), *w[:2], 0x1001_0000_0000_4FFC, *w[2:]], "pc.unknown_word"),
    (lambda w: [0xBEEF_1234_5678_4010, *w], "pc.unknown_word"), (lambda w: [word(0x30, 2), *w], "pc.write")])
def test_odd_words(change: object, rule: str) -> None:
    memory = Memory()
    words, _ = copy_program(memory, 3)
    outcome = start(new_core(), memory, change(words))      # type: ignore[operator]
    assert rule in {d.rule for d in outcome.diagnostics}
    assert bool(outcome.hang) == (rule in ("pc.separator", "pc.no_op_en"))


def test_only_the_announced_words_are_fetched() -> None:
    memory = Memory()
    words, _ = copy_program(memory, 3)
    assert start(new_core(), memory, words, count=len(words) - 2).hang


# -- register groups -------------------------------------------------------------------------------------------------


def test_unwritten_registers_hold_what_was_written_two_tasks_earlier() -> None:
    """Full, scrub, delta: with ping-pong the delta sees the full task's registers."""
    memory, core = Memory(), new_core()
    x = np.full((1, 4, 16), 7, np.int8)
    source, target = memory.add(to_atoms(x)), memory.add(64)
    full = flying(memory, source, target, (4, 1, 16), {0x4084: 2})
    scrub = flying(memory, source, target, (4, 1, 16), {0x4084: 3})
    delta = [(0x4004, 0xE), (0x5004, 0xE)]
    seen = []
    for registers in (full, scrub, delta, delta):
        assert start(core, memory, program(registers, FLYING_MASK)).hang is None
        seen.append(int(memory.bytes(target, 1)[0]))
    assert seen == [14, 21, 14, 21]


def test_with_ping_pong_off_the_delta_sees_the_task_before() -> None:
    memory, core = Memory(), new_core()
    source, target = memory.add(to_atoms(np.full((1, 4, 16), 7, np.int8))), memory.add(64)
    off = {0x4004: 0x30, 0x5004: 0x30}
    for registers in (flying(memory, source, target, (4, 1, 16), {0x4084: 2, **off}),
                      flying(memory, source, target, (4, 1, 16), {0x4084: 3, **off}), list(off.items())):
        outcome = start(core, memory, program(registers, FLYING_MASK))
        assert outcome.hang is None and outcome.interrupts & 0x300 == 0x100
    assert memory.bytes(target, 1)[0] == 21


def test_completion_bits_alternate_with_the_groups() -> None:
    memory, core = Memory(), new_core()
    words, _ = copy_program(memory, 3)
    assert [start(core, memory, words).interrupts for _ in range(3)] == [0x100, 0x200, 0x100]
    core.write(0x24, 0x1FFFF)
    assert core.read(0x2C) == 0


# -- pooling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", ["0", "1"])
@pytest.mark.parametrize("method", [0, 1, 2], ids=["average", "max", "min"])
@pytest.mark.parametrize(("kernel", "stride", "pads"), [
    (2, 2, (0, 0, 0, 0)), (3, 1, (1, 1, 1, 1)), (3, 2, (1, 0, 1, 0)), (6, 1, (0, 2, 3, 0)), (1, 3, (0, 0, 0, 0))])
def test_pooling(kernel: int, stride: int, pads: tuple[int, int, int, int], method: int, plain: str,
                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERMET_SIM_PLAIN", plain)
    memory, pad_value = Memory(), -9
    x = RNG.integers(-128, 128, (11, 9, 32), dtype=np.int8)
    source, target = memory.add(to_atoms(x)), memory.add(12 * 12 * 32)
    low = pad_value & 0xFFFFFFFF
    overrides = {0x6044: low, 0x6048: 7} if method == 0 else {}
    regs, (height, width) = pooling(source, target, (9, 11, 32), method, kernel, stride, pads, overrides)
    outcome = start(new_core(), memory, program(regs, POOL_MASK))
    assert outcome.hang is None and outcome.interrupts == 0x400
    top, bottom, left, right = pads
    outside = (pad_value, -128, 127)[method]
    wide = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=outside).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (kernel, kernel), (0, 1))[::stride, ::stride]
    reciprocal = (65536 // kernel)**2
    expected = (np.vectorize(lambda v: shifted(int(v) * reciprocal, 32))(windows.sum(axis=(3, 4))) if method == 0
                else windows.max(axis=(3, 4)) if method == 1 else windows.min(axis=(3, 4)))
    assert (from_atoms(memory.bytes(target, height * width * 32), height, width, 32) == expected).all()


def test_average_tie_rule_of_the_device() -> None:
    """numerics §11, the rule measured on silicon, for all int8 sums of 2x2 to 4x4 windows."""
    from cermet.sim.ppu import average
    for kw, kh in ((2, 2), (3, 2), (2, 3), (4, 4), (3, 4)):
        n = kw * kh
        for total in range(-128 * n, 127 * n + 1):
            sign = -1 if total < 0 else 1
            q = sign * ((abs(total) + n // 2) // n)
            if n % 2 == 0 and abs(total - q * n) * 2 == n:
                exact = 65536 % kw == 0 and 65536 % kh == 0
                if not exact or q % 2:
                    q -= sign
            assert int(average(np.int64(total), (65536 // kw) * (65536 // kh))) == q, (kw, kh, total)


# -- both forms, and the machine around them ---------------------------------------------------------------------------


def random_conv(rng: np.random.Generator) -> Conv:
    depthwise = bool(rng.integers(2))
    kernel, channels = int(rng.integers(1, 5)), int(rng.integers(1, 90))
    shape = (int(rng.integers(kernel, 12)), int(rng.integers(kernel, 12)), channels)
    count = channels if depthwise else int(rng.integers(1, 70))
    w_shape = (kernel, kernel, channels) if depthwise else (count, kernel, kernel, channels)
    pads = tuple(int(v) for v in rng.integers(0, kernel, 4))
    conv = Conv(rng.integers(-128, 128, shape, dtype=np.int8), rng.integers(-128, 128, w_shape, dtype=np.int8),
                depthwise, stride=int(rng.integers(1, 4)), pads=pads, input_zero=int(rng.integers(-128, 128)),    # type: ignore[arg-type]
                weight_zero=int(rng.integers(-128, 128)), bias=rng.integers(-2**31, 2**31, count),
                out_scale=int(rng.integers(-32768, 32768)), out_shift=int(rng.integers(0, 45)),
                out_zero=int(rng.integers(-200, 200)))
    word32 = (-2**31, 2**31)
    conv.registers = {
        0x301C: int(rng.integers(0, 5)) | int(rng.integers(2)) << 6,
        0x4088: conv.out_shift | int(rng.integers(2)) << 30,
        0x4048: int(rng.integers(-32768, 32768)) << 16 | int(rng.integers(0, 64)) << 8,
        0x4010: int(rng.integers(0, 64)) << 4,
        0x4040: [0x20150, 0x20140, 0x40140, 0x20160, 0x20180, 0x201C0][int(rng.integers(6))],
        0x404C: int(rng.integers(*word32)), 0x4060: [0x53, 0x20040, 0x40000, 0x20060][int(rng.integers(4))],
        0x4064: int(rng.integers(*word32)), 0x4068: int(rng.integers(0, 65536)) << 16 | int(rng.integers(0, 32)) << 8}
    return conv


@pytest.mark.parametrize("seed", range(60))
def test_plain_and_compiled_forms_are_identical(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random shapes and random, mostly senseless stage settings: saturation and ties everywhere."""
    if kernels.loaded() is None:
        pytest.skip("libcermet_sim.so is not built")
    conv = random_conv(np.random.default_rng(seed))
    words = program(conv.program(), CONV_MASK)
    size = conv.out_aligned * conv.out_height * conv.out_width
    results = []
    for plain in "01":
        monkeypatch.setenv("CERMET_SIM_PLAIN", plain)
        if plain == "0":
            monkeypatch.setattr(core_module, "run_conv", _not_to_be_called)
        else:
            monkeypatch.undo()
            monkeypatch.setenv("CERMET_SIM_PLAIN", "1")
        outcome = start(new_core(), conv.memory, words)
        assert (outcome.hang, outcome.fault) == (None, None)
        results.append(conv.memory.bytes(conv.output, size))
    assert (results[0] == results[1]).all()


@pytest.mark.parametrize(("shape", "strides"), [
    ((3, 4, 16), (64, 16, 1)), ((3, 4, 16), (16, 48, 1)), ((1, 4, 16), (0, 16, 1)), ((4, 16), (-16, 1)),
    ((3, 4, 16), (63, 16, 1)), ((2, 3, 16), (0, 16, 1)), ((2, 3, 4, 16), (96, 32, 200, 1)),
    ((2, 3, 4, 16), (16, 32, 95, 1))])
def test_nested_blocks_meet_no_byte_twice(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    at = sum(index * stride for index, stride in zip(np.indices(shape), strides, strict=True))
    assert is_nested(shape, strides) == (np.unique(at).size == at.size)


@pytest.mark.parametrize("stride_atoms", [1, 5, 35])
def test_outputs_on_outputs_leave_the_same_in_both_forms(stride_atoms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Surfaces of 36 atoms that overlap."""
    rng, results = np.random.default_rng(3), []
    x, w = rng.integers(-128, 128, (6, 6, 40), np.int8), rng.integers(-128, 128, (96, 1, 1, 40), np.int8)
    for plain in "01":
        monkeypatch.setenv("CERMET_SIM_PLAIN", plain)
        conv = Conv(x, w)
        conv.registers = {0x4024: stride_atoms * 16}     # DST_SURF_STRIDE
        outcome = start(new_core(), conv.memory, program(conv.program(), CONV_MASK))
        assert (outcome.hang, outcome.fault) == (None, None)
        results.append(conv.memory.bytes(conv.output, conv.out_aligned * conv.out_height * conv.out_width))
    assert results[0].any() and (results[0] == results[1]).all()


CHILD = """
import hashlib, sys
import numpy as np
from cermet.sim import kernels
from cermet.sim import ppu as ppu_module
from tests.sim.programs import CONV_MASK
from tests.sim.support import new_core, program, start
from tests.sim.test_core import random_conv
assert kernels.fast_library() is not None
digest = hashlib.blake2b()
for seed in range(25):
    conv = random_conv(np.random.default_rng(seed))
    assert start(new_core(), conv.memory, program(conv.program(), CONV_MASK)).hang is None
    digest.update(conv.memory.bytes(conv.output, conv.out_aligned * conv.out_height * conv.out_width).tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bytes() -> None:
    if kernels.loaded() is None:
        pytest.skip("libcermet_sim.so is not built")
    digests = set()
    for name in ("generic", "avx2", ""):
        result = subprocess.run([sys.executable, "-c", CHILD], env={**os.environ, "CERMET_SIM_CPU": name}, cwd=ROOT,
                                capture_output=True, text=True, check=False, timeout=120)
        assert result.returncode == 0, result.stderr
        digests.add(result.stdout)
    assert len(digests) == 1


def _not_to_be_called(*_: object) -> None:
    raise AssertionError("the compiled form left this task to the plain one")


def test_compiled_flying_task_is_really_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels.loaded() is None:
        pytest.skip("libcermet_sim.so is not built")
    monkeypatch.setattr(core_module, "run_flying", _not_to_be_called)
    memory = Memory()
    words, target = copy_program(memory, 9)
    assert start(new_core(), memory, words).hang is None and memory.bytes(target, 1)[0] == 9


def test_three_cores_run_in_threads() -> None:
    rng = np.random.default_rng(1)
    convs = [Conv(rng.integers(-128, 128, (14, 14, 64), dtype=np.int8),
                  rng.integers(-128, 128, (64, 3, 3, 64), dtype=np.int8), out_shift=24) for _ in range(3)]
    results: list[list[np.ndarray]] = [[], [], []]

    def work(index: int) -> None:
        core, conv = new_core(index), convs[index]
        address = conv.memory.add(np.array(program(conv.program(), CONV_MASK), "<u8"))
        for _ in range(10):
            assert kick(core, conv.memory.space, address, len(conv.program()) + 4).hang is None
            results[index].append(conv.result().copy())
    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(3):
        expected = np.clip(np.rint(convs[index].accumulators() * 16384 / 2**24), -128, 127)
        assert len(results[index]) == 10 and all((r == expected).all() for r in results[index])


class Watched:
    """The compiled kernels, and which one is at work."""

    def __init__(self, library: object) -> None:
        self.library = library
        self.inside: str | None = None

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object) -> object:
            self.inside = name
            try:
                return getattr(self.library, name)(*arguments)
            finally:
                self.inside = None
        return call


def test_other_threads_go_on_while_a_kernel_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the interpreter's own switching put off, another thread can only see a kernel at work that has let go."""
    if kernels.loaded() is None:
        pytest.skip("libcermet_sim.so is not built")
    watched = Watched(kernels.loaded())
    for module in (core_module.fast, ppu_module):
        monkeypatch.setattr(module, "fast_library", lambda: watched)
    rng, memory, stop = np.random.default_rng(2), Memory(), threading.Event()
    conv = Conv(rng.integers(-128, 128, (14, 14, 64), dtype=np.int8),
                rng.integers(-128, 128, (64, 3, 3, 64), dtype=np.int8), memory=memory)
    source, target = memory.add(to_atoms(rng.integers(-128, 128, (64, 64, 64), dtype=np.int8))), memory.add(1 << 18)
    programs = [program(conv.program(), CONV_MASK),
                program(flying(memory, source, target, (64, 64, 64), {}), FLYING_MASK),
                program(pooling(source, target, (64, 64, 64), 1, 3, 1)[0], POOL_MASK)]
    addresses = [memory.add(np.array(words, "<u8")) for words in programs]

    def work() -> None:
        core = new_core()
        for _ in range(300):
            for words, address in zip(programs, addresses, strict=True):
                assert kick(core, memory.space, address, len(words)).hang is None
            if stop.is_set():
                return
    wanted = {f"cermet_sim_{name}" for name in ("prepare", "conv", "flying_rows", "pool_rows")}
    seen: set[str | None] = set()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive() and not wanted <= seen:
            seen.add(watched.inside)
            time.sleep(0)
        stop.set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wanted <= seen


def test_cancelled_stops_a_task() -> None:
    conv = random_conv(np.random.default_rng(0))
    conv.registers = {}
    address = conv.memory.add(np.array(program(conv.program(), CONV_MASK), "<u8"))
    core = new_core()
    kick(core, conv.memory.space, address, 2)
    core.reset()
    for offset, value in ((0x1004, 0xE), (0x3004, 0xE), (0x10, address), (0x14, 70), (0x30, 0x7001), (8, 1)):
        core.write(offset, value)
    assert core.run(conv.memory.space, lambda: True).hang == "cancelled by the caller"


def test_endless_work_is_a_timeout_not_a_wait() -> None:
    memory = Memory()
    source = memory.add(4096)
    words = program(flying(memory, source, source, (8192, 8192, 8192), {}), FLYING_MASK)
    outcome = start(new_core(), memory, words)
    assert outcome.hang and "job timeout" in outcome.hang


def test_cycles_follow_the_vendor_formula() -> None:
    from cermet.hw.cycles import conv_cycles, depthwise_cycles
    from cermet.hw.soc import RK3588
    assert conv_cycles(RK3588, 14 * 14, 9, 256, 256) == 119808
    assert conv_cycles(RK3588, 56 * 56, 1, 64, 64) == 25088
    assert depthwise_cycles(RK3588, 112 * 112, 9, 32) == 112896


def test_version_reads_as_the_kernel_logs_it() -> None:
    core = Core(new_core().soc, 0)
    assert core.read(0x0) + core.read(0x4) == 1179210309


def test_disassembly_spells_blocks_registers_and_fields() -> None:
    lines = disassemble([word(0x1014, 2 | 2 << 3), word(0x4030, 0), 0, 0x0041 << 48, 0x0081_0000_001D_0008,
                         0xBEEF_0000_0000_0001, word(0x4010, 0)])
    assert lines == [
        "0000  CNA.CONV_CON3  CONV_Y_STRIDE=2 CONV_X_STRIDE=2", "0001  DPU.DATA_CUBE_WIDTH  WIDTH=1", "0002  NOP",
        "0003  SEPARATOR", "0004  OP_ENABLE  CNA|CORE|DPU|DPU_RDMA", "0005  ?  0xbeef000000000001",
        "0006  DPU.DATA_FORMAT  0"]


# -- programs that chain themselves (Q-X12) ---------------------------------------------------------------------------


def self_chained(memory: Memory, count: int) -> tuple[list[int], list[int]]:
    """Copies of which the first raises the task number: (its words, addresses of what they write)."""
    made = [copy_program(memory, 3 + number) for number in range(count)]
    for (words, _), (behind, _) in reversed(list(itertools.pairwise(made))):
        words[-4:-2] = [word(0x10, memory.add(np.array(behind, "<u8"))), word(0x14, (len(behind) + 1) // 2 - 1)]
    made[0][0].insert(-4, word(0x30, 0x7000 | count))
    return made[0][0], [target for _, target in made]


@pytest.mark.parametrize(("answer", "num_run"), [("ignored", 1), ("runs", 4), ("early", 2), ("masked", 2)])
def test_how_far_programs_that_chain_themselves_get(answer: str, num_run: int) -> None:
    memory = Memory()
    words, targets = self_chained(memory, 4)
    core = Core(RK3588, 0, parse_silicon(f"Q-X12={answer}"))
    outcome = start(core, memory, words)
    assert outcome.hang is None and outcome.interrupts & 0x300
    assert [bool(memory.bytes(target, 64).any()) for target in targets] == [number < num_run for number in range(4)]
    assert [d.rule for d in outcome.diagnostics] == ["pc.write"] * (answer == "ignored")


def test_a_program_of_its_own_chain_that_hangs_interrupts_nobody() -> None:
    memory = Memory()
    words, targets = self_chained(memory, 3)
    words[-5] = word(0x30, 0x7004)              # one more than there are
    outcome = start(Core(RK3588, 0, parse_silicon("Q-X12=runs")), memory, words)
    assert outcome.hang is not None and "PC.BASE_ADDRESS" in outcome.hang
    assert outcome.interrupts & 0x300 == 0 and all(memory.bytes(target, 64).any() for target in targets)


@pytest.mark.parametrize(("text", "problem"), [
    ("Q-X99=runs", r"CERMET_SIM_SILICON: 'Q-X99' must be one of Q-X12"),
    ("Q-X12", r"CERMET_SIM_SILICON: Q-X12='' must be one of ignored, runs, early, masked"),
    ("Q-X12=" + "x" * 5000, r"CERMET_SIM_SILICON: Q-X12='x{40}' must be one of"),
    ("Q-X12=runs,Q-X12=early", r"CERMET_SIM_SILICON: Q-X12 is given as runs and as early"),
    ("\0\n", r"must be one of")])
def test_silicon_that_there_is_not_is_one_line(text: str, problem: str) -> None:
    with pytest.raises(CermetError, match=problem) as error:
        parse_silicon(text)
    assert "\n" not in str(error.value)
