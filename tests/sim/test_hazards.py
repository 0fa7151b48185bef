"""Every row of the execution model's list of what makes a task hang or go wrong, and how the simulator shows it.

| row                                             | shown as                                   |
|-------------------------------------------------|--------------------------------------------|
| MRDMA not disabled in conv without add          | hang, output untouched                     |
| add path without correct notch                  | wrong data (same surfaces repeated)        |
| OCal not a multiple of 32 / 64                  | hang                                       |
| wrong size_e                                    | hang                                       |
| wrong core id bits                              | hang                                       |
| pooling window beyond input and pads            | hang                                       |
| flying int EW with COMB_USE bit 0               | hang                                       |
| NRDMA DATA_USE 7                                | hang                                       |
| LUT in a later submission without reloading     | unrelated values and a diagnostic          |
| DPU-only job after a WEIGHT_REUSE pair          | diagnostic (cause unknown, data right)     |
| surface strides not rewritten for EW data mode  | zeros and a diagnostic                     |
| OW_SRC = 1 without data                         | hang                                       |
| FC_DATA_BANK != 0                               | wrong data and a diagnostic                |
| exact-fit data banks, W = 1                     | last rows garbage and a diagnostic         |
| GRAINS above 1022                               | wraps: diagnostic, then a stall            |
| BO both in and out in one job                   | the kernel's side: see the driver's tests  |
| a failed job poisons the next                   | hang until reset                           |
| zero output rows                                | hang                                       |
"""
from __future__ import annotations

import numpy as np
import pytest

from cermet.sim.core import TaskOutcome
from tests.sim.programs import CONV_MASK, FLYING_MASK, POOL_MASK, Conv, flying, pooling
from tests.sim.support import Memory, new_core, program, start, to_atoms

RNG = np.random.default_rng(7)


def small_conv(channels: int = 16, out_channels: int = 32, height: int = 6, width: int = 5, **more: object) -> Conv:
    x = RNG.integers(-128, 128, (height, width, channels), dtype=np.int8)
    w = RNG.integers(-128, 128, (out_channels, 1, 1, channels), dtype=np.int8)
    return Conv(x, w, out_shift=22, **more)     # type: ignore[arg-type]


def run_conv(conv: Conv, mask: int = CONV_MASK) -> TaskOutcome:
    return start(new_core(), conv.memory, program(conv.program(), mask))


def assert_hangs(outcome: TaskOutcome, rule: str) -> None:
    assert outcome.hang, "the task completed"
    assert outcome.interrupts & 0xF00 == 0
    assert rule in {d.rule for d in outcome.diagnostics}


def rules(outcome: TaskOutcome) -> set[str]:
    return {d.rule for d in outcome.diagnostics}


def test_a_good_convolution_completes_quietly() -> None:
    outcome = run_conv(small_conv())
    assert (outcome.hang, outcome.fault, outcome.diagnostics) == (None, None, [])
    assert outcome.interrupts & 0x300 == 0x100


@pytest.mark.parametrize(("override", "rule"), [
    ({0x5044: 0x7800}, "rdma.mrdma_on"),
    ({0x403C: 31 << 16 | 15, 0x3018: 15, 0x4058: 15, 0x5014: 15, 0x1038: 1 << 24 | 1 << 16 | 16, 0x1030: 256},
     "dpu.partial_group"),
    ({0x4050: 3 << 8 | 3 << 5 | 3 << 2}, "dpu.size_e"),
    ({0x4050: 0x2}, "dpu.size_e"),
    ({0x102C: 0}, "cna.no_output_rows"),
    ({0x1010: 1 << 4}, "cna.grains"),
    ({0x1010: 1024 << 4}, "cna.grains_wrap"),
    ({0x1010: 1024 << 4}, "cna.grains"),
    ({0x4050: 0x125}, "rdma.bs_operand"),
    ({0x501C: 1}, "rdma.bs_operand"),
    ({0x5028: 7 << 1}, "rdma.nrdma_use"),
    ({0x1040: 12 << 4}, "cna.banks"),
    ({0x100C: 2 << 4 | 2 << 7}, "precision"),
    ({0x4010: 5 << 29 | 2 << 26 | 2}, "precision"),
    ({0x4070: 0x904202C0}, "rdma.comb_use"),
], ids=lambda v: v if isinstance(v, str) else "+".join(f"{k:#x}" for k in v))
def test_conv_hangs(override: dict[int, int], rule: str) -> None:
    conv = small_conv()
    conv.registers = override
    outcome = run_conv(conv)
    assert_hangs(outcome, rule)
    assert not conv.memory.bytes(conv.output, 512).any()


def test_depthwise_channels_must_be_a_multiple_of_64() -> None:
    conv = Conv(RNG.integers(-9, 9, (4, 4, 32), dtype=np.int8), RNG.integers(-9, 9, (3, 3, 32), dtype=np.int8), True)
    conv.registers = {0x3018: 31, 0x403C: 31 << 16 | 31, 0x4058: 31, 0x5014: 31}
    assert_hangs(run_conv(conv), "dpu.partial_group")


def test_memory_operands_need_the_read_dma() -> None:
    assert_hangs(run_conv(small_conv(), 0x0D), "rdma.bs_operand")


@pytest.mark.parametrize("mask", [0x01, 0x05, 0x15, 0x10, 0x08, 0x20, 0x40, 0x80])
def test_blocks_must_be_started_together(mask: int) -> None:
    assert_hangs(run_conv(small_conv(), mask), "pc.empty_mask" if mask == 0x80 else "dpu.no_input" if mask == 8
                 else "pc.mask")


def test_wrong_core_id_hangs() -> None:
    conv = small_conv()
    core = new_core(1)
    good = start(core, conv.memory, program(conv.program(), CONV_MASK))
    assert good.hang is None
    words = program([(0x1004, 0xE), (0x3004, 0xE), *conv.program()], CONV_MASK)     # the program loses the id
    assert_hangs(start(new_core(1), conv.memory, words), "core.id")
    assert start(new_core(0), conv.memory, words).hang is None


def test_pool_window_beyond_input_and_pads_starves() -> None:
    memory = Memory()
    source, target = memory.add(64 * 16), memory.add(64 * 16)
    regs, (height, _) = pooling(source, target, (8, 8, 16), 1, 3, 2)
    good = start(new_core(), memory, program(regs, POOL_MASK))
    assert good.hang is None and good.interrupts & 0xF00 == 0x400       # mainline's mask 0x300 never sees it
    regs, _ = pooling(source, target, (8, 8, 16), 1, 3, 2, overrides={0x601C: height})
    assert_hangs(start(new_core(), memory, program(regs, POOL_MASK)), "ppu.window")


def ew_add(memory: Memory, a: np.ndarray, b: np.ndarray, overrides: dict[int, int]) -> tuple[TaskOutcome, np.ndarray]:
    height, width, channels = a.shape
    source, operand = memory.add(to_atoms(a)), memory.add(to_atoms(b))
    target = memory.add(a.size)
    surface = height * width * 16
    regs = flying(memory, source, target, (width, height, channels), {
        0x4070: 0x104203C0, 0x5034: 0x40000004, 0x5038: operand, 0x5040: surface, **overrides})
    outcome = start(new_core(), memory, program(regs, FLYING_MASK))
    return outcome, memory.bytes(target, a.size).view(np.int8).reshape(-1, height, width, 16)


def test_flying_ew_with_shared_bit_hangs() -> None:
    a = RNG.integers(-60, 60, (3, 3, 32), dtype=np.int8)
    good, _ = ew_add(Memory(), a, a, {})
    assert good.hang is None and good.diagnostics == []
    bad, _ = ew_add(Memory(), a, a, {0x5044: 0x7801 | 1 << 8})
    assert_hangs(bad, "rdma.comb_use_flying")


def test_stale_surface_stride_in_per_channel_mode_reads_zeros() -> None:
    a = RNG.integers(-60, 60, (3, 3, 32), dtype=np.int8)
    outcome, result = ew_add(Memory(), a, a, {0x4070: 0x004203C0, 0x5034: 0x4})
    assert "rdma.ew_vector_stride" in rules(outcome)
    assert (result == to_atoms(a).view(np.int8).reshape(result.shape)).all()


def fused_add(overrides: dict[int, int]) -> tuple[Conv, np.ndarray, TaskOutcome]:
    conv = small_conv(out_channels=64)
    addend = RNG.integers(-128, 128, (6, 5, 64), dtype=np.int8)
    at = conv.memory.add(to_atoms(addend))
    surface = 30 * 16
    conv.registers = {
        0x4070: 0x904203C0 & ~0x100, 0x4074: 0, 0x4078: 1, 0x5018: at, 0x5034: 0x40000004, 0x5038: at + surface,
        0x5040: surface, 0x5044: 0x7D00, 0x504C: surface, 0x506C: surface, 0x4084: 1, 0x4088: 9, **overrides}
    return conv, addend, run_conv(conv)


def test_fused_add_needs_its_notches() -> None:
    conv, addend, outcome = fused_add({})
    assert outcome.hang is None
    expected = conv.accumulators() + addend
    wanted = np.clip(np.rint(expected / 512), -128, 127)
    assert (conv.result() == wanted).all()
    wrong, addend, outcome = fused_add({0x504C: 0, 0x506C: 0})
    assert outcome.hang is None
    wanted = np.clip(np.rint((wrong.accumulators() + addend) / 512), -128, 127)
    assert (wrong.result()[..., :32] == wanted[..., :32]).all()
    shifted = np.concatenate([addend[..., 16:48]], axis=-1)     # each engine repeats the other's surface
    wrong_wanted = np.clip(np.rint((wrong.accumulators()[..., 32:] + shifted) / 512), -128, 127)
    assert (wrong.result()[..., 32:] == wrong_wanted).all()


def test_lut_is_lost_between_submissions() -> None:
    memory = Memory()
    a = np.arange(-64, 64, dtype=np.int8).reshape(2, 4, 16)
    source, target = memory.add(to_atoms(a)), memory.add(a.size)
    use = flying(memory, source, target, (4, 2, 16), {
        0x4060: 0x20040, 0x4064: 0, 0x4068: 32 << 16, 0x4070: 0x302, 0x4108: 0x68, 0x410C: 0x50500, 0x4110: 0xFFFFC000,
        0x4114: 0, 0x4118: 0, 0x411C: 0x4000, 0x4084: 1})
    upload = [(0x4100, 0x20000), *((0x4104, (i - 512) & 0xFFFF) for i in range(513)), (0x4100, 0x30000),
              *((0x4104, i) for i in range(513)), (0x4100, 0), (0x4104, 0)]
    core = new_core()
    outcome = start(core, memory, program([*upload, *use], FLYING_MASK))
    assert outcome.diagnostics == []
    good = memory.bytes(target, a.size)
    assert (good.view(np.int8) == to_atoms(a).reshape(-1).view(np.int8)).all()       # table i holds i: identity
    again = start(core, memory, program(use, FLYING_MASK), new_job=False)
    assert again.diagnostics == [] and (memory.bytes(target, a.size) == good).all()
    later = start(core, memory, program(use, FLYING_MASK), new_job=True)
    assert "lut.not_loaded" in rules(later) and (memory.bytes(target, a.size) != good).any()


def test_dpu_job_after_weight_reuse_is_flagged() -> None:
    core, conv = new_core(), small_conv()
    start(core, conv.memory, program(conv.program(), CONV_MASK))
    conv.registers = {0x1040: dict(conv.program())[0x1040] | 1 << 13}
    assert start(core, conv.memory, program(conv.program(), CONV_MASK), new_job=False).diagnostics == []
    copy = flying(conv.memory, conv.input, conv.output, (5, 6, 16), {})
    assert "dpu.after_weight_reuse" in rules(start(core, conv.memory, program(copy, FLYING_MASK)))


def test_weight_reuse_uses_what_cbuf_holds() -> None:
    core, first, second = new_core(), small_conv(), None
    start(core, first.memory, program(first.program(), CONV_MASK))
    second = small_conv(memory=first.memory)
    second.registers = {0x1040: dict(second.program())[0x1040] | 1 << 13}
    outcome = start(core, second.memory, program(second.program(), CONV_MASK))
    assert outcome.hang is None
    second.w = first.w
    expected = np.clip(np.rint(second.accumulators() * 16384 / 2**22), -128, 127)
    assert (second.result() == expected).all()


def test_weight_reuse_without_weights_is_flagged() -> None:
    conv = small_conv()
    conv.registers = {0x1040: dict(conv.program())[0x1040] | 1 << 13}
    assert "cna.weight_reuse" in rules(run_conv(conv))


def test_fc_data_bank_gives_wrong_data() -> None:
    conv = small_conv()
    run_conv(conv)
    good = conv.result().copy()
    conv.registers = {0x1040: dict(conv.program())[0x1040] | 1 << 8}
    outcome = run_conv(conv)
    assert "cna.fc_data_bank" in rules(outcome) and (conv.result() != good).any()


def test_exact_fit_with_width_one_loses_the_last_rows() -> None:
    conv = small_conv(channels=1024, height=32, width=1)       # 8 entries a row: one bank exactly
    expected = np.clip(np.rint(conv.accumulators() * 16384 / 2**22), -128, 127)
    assert run_conv(conv).diagnostics == []                     # recipes' slack bank
    assert (conv.result() == expected).all()
    conv.registers = {0x1040: 11 << 4 | 1}
    outcome = run_conv(conv)
    assert rules(outcome) == {"cna.exact_fit"}
    assert (conv.result()[:-1] == expected[:-1]).all() and (conv.result()[-1] != expected[-1]).any()


def test_cbuf_overflow_hangs() -> None:
    conv = small_conv(channels=64, height=40, width=40)
    conv.registers = {0x1040: 11 << 4 | 1}
    assert_hangs(run_conv(conv), "cna.cbuf_overflow")


def test_a_hung_core_stays_hung_until_reset() -> None:
    core, conv = new_core(), small_conv()
    conv.registers = {0x5044: 0x7800}
    assert start(core, conv.memory, program(conv.program(), CONV_MASK)).hang
    conv.registers = {}
    assert_hangs(start(core, conv.memory, program(conv.program(), CONV_MASK)), "core.wedged")
    core.reset()
    assert start(core, conv.memory, program(conv.program(), CONV_MASK)).hang is None


@pytest.mark.parametrize(("register", "is_write"), [(0x1070, False), (0x1110, False), (0x5020, False), (0x4020, True)])
def test_unmapped_addresses_fault(register: int, is_write: bool) -> None:
    conv = small_conv()
    conv.registers = {register: 0xDEAD0000}
    outcome = run_conv(conv)
    assert outcome.fault and outcome.fault.address == 0xDEAD0000 and outcome.fault.is_write is is_write
    assert outcome.interrupts & 0xF00 == 0


def test_unmapped_program_faults() -> None:
    core, conv = new_core(), small_conv()
    for offset, value in ((0x10, 0x7000_0000), (0x14, 60), (0x30, 0x7001), (8, 1)):
        core.write(offset, value)
    fault = core.run(conv.memory.space).fault
    assert fault and fault.address == 0x7000_0000
