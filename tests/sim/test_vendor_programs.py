"""Programs of the vendor's compiler, given operands of our own, against references that know nothing of registers.

The files hold programs only: weights, operands and inputs are placed here, at addresses the words are relocated to.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cermet.hw.disasm import disassemble
from cermet.sim.core import Core, TaskOutcome
from tests.sim.programs import Conv
from tests.sim.support import DATA, Memory, from_atoms, kick, new_core, to_atoms, vendor_program
from tests.sim.test_stages import clamp, operand_block, sat32, shifted

FOLDER = DATA / "vendor_rk3588"
RNG = np.random.default_rng(5)
Task = list[tuple[int, int, int]]


@pytest.fixture(params=["plain", "compiled"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CERMET_SIM_PLAIN", "1" if request.param == "plain" else "0")
    yield request.param


def one_core_tasks(name: str) -> list[Task]:
    """The first chain of a file: it ends where the trailer names no next program."""
    tasks = []
    for task in vendor_program(FOLDER / f"{name}.json.gz"):
        tasks.append(task)
        if dict((offset, value) for target, offset, value in task if target == 0x0101).get(0x14, 0) == 0:
            break
    return tasks


def register(task: Task, offset: int) -> int:
    return next(value for _, at, value in reversed(task) if at == offset)


def field(task: Task, offset: int, high: int, low: int) -> int:
    return register(task, offset) >> low & (1 << (high - low + 1)) - 1


def run(core: Core, memory: Memory, task: Task, places: dict[int, int], new_job: bool = True) -> TaskOutcome:
    """Add places[offset] to the value of each address register, then run."""
    words = [target << 48 | (value + places.get(offset, 0) & 0xFFFFFFFF) << 16 | offset
             for target, offset, value in task]
    outcome = kick(core, memory.space, memory.add(np.array(words, "<u8")), len(words), new_job=new_job)
    assert (outcome.hang, outcome.fault) == (None, None)
    return outcome


def signed(value: int, bits: int = 32) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def requantised(task: Task, value: int) -> int:
    """OUT_CVT of the task's own registers."""
    scale, shift = signed(register(task, 0x4084) & 0xFFFF, 16), register(task, 0x4088) & 0xFFF
    return clamp(shifted(value * scale, shift) + signed(register(task, 0x4080)), -128, 127)


def per_channel_conv(task: Task, conv: Conv, finish: Callable[[int, int], int] | None = None,
                     places: dict[int, int] | None = None) -> None:
    """Random operands of every kind; finish(value after BS, channel) stands for BN."""
    padded = conv.out_aligned
    alu, mul = RNG.integers(-9000, 9000, padded).tolist(), RNG.integers(2000, 16385, padded).tolist()
    offset = RNG.integers(-30, 30, padded).tolist()
    block = conv.memory.add(operand_block(alu, offset, mul))
    outcome = run(new_core(), conv.memory, task, {
        0x1070: conv.input, 0x1110: conv.weights, 0x4020: conv.output, 0x5020: block, **(places or {})})
    assert outcome.diagnostics == []
    sums, weights = conv.accumulators(), conv.w
    conv.w = np.ones_like(weights)
    inputs = conv.accumulators()
    up, down = field(task, 0x4048, 13, 8), field(task, 0x4010, 9, 4)

    def expected(total: int, seen: int, c: int) -> int:
        product = sat32(total + offset[c] * seen + alu[c]) * mul[c]
        value = sat32(shifted(product, up if product >= 0 else down))
        return requantised(task, finish(value, c) if finish else value)
    wanted = [expected(int(s), int(i), n % sums.shape[2]) for n, (s, i) in enumerate(
        zip(sums.reshape(-1), inputs.reshape(-1), strict=True))]
    assert conv.result().reshape(-1).tolist() == wanted


def random_int8(*shape: int) -> np.ndarray:
    return RNG.integers(-128, 128, shape, dtype=np.int8)


@pytest.mark.usefixtures("form")
class TestConvolutions:
    def test_conv3x3(self) -> None:
        conv = Conv(random_int8(32, 32, 16), random_int8(32, 3, 3, 16), pads=(1, 1, 1, 1))
        per_channel_conv(one_core_tasks("conv3x3s1_c16o32h32")[0], conv)

    def test_conv3x3_dilation4(self) -> None:
        conv = Conv(random_int8(28, 28, 32), random_int8(32, 3, 3, 32), dilation=4, pads=(4, 4, 4, 4))
        per_channel_conv(one_core_tasks("conv3x3d4_c32o32h28")[0], conv)

    def test_dw3x3(self) -> None:
        conv = Conv(random_int8(32, 32, 32), random_int8(3, 3, 32), True, pads=(1, 1, 1, 1))
        per_channel_conv(one_core_tasks("dw3x3s1_c32h32")[0], conv)

    def test_relu6(self) -> None:
        task = one_core_tasks("conv1x1_relu6_c32o32h16")[0]
        limit = register(task, 0x406C)
        conv = Conv(random_int8(16, 16, 32), random_int8(32, 1, 1, 32))
        per_channel_conv(task, conv, lambda value, _: min(max(value, 0), limit))

    def test_prelu_slopes_from_memory(self) -> None:
        conv = Conv(random_int8(16, 16, 32), random_int8(32, 1, 1, 32))
        slopes = RNG.integers(0, 16384, 32).tolist()
        per_channel_conv(one_core_tasks("conv1x1_prelu_c32o32h16")[0], conv,
                         lambda value, c: value if value >= 0 else sat32(value * slopes[c]),
                         {0x502C: conv.memory.add(np.array(slopes, "<i2"))})

    def test_depthwise_transposed_4x4_stride2(self) -> None:
        task = one_core_tasks("deconv4x4s2dw_c32h16")[0]
        x, pad = random_int8(16, 16, 32), signed(register(task, 0x1184) & 0xFF, 8)
        spread = np.full((31, 31, 32), pad, np.int8)
        spread[::2, ::2] = x
        conv = Conv(spread, random_int8(4, 4, 32), True, pads=(2, 2, 2, 2), input_zero=pad)
        per_channel_conv(task, conv, places={0x1070: conv.memory.add(to_atoms(x))})


@pytest.mark.usefixtures("form")
class TestElementwise:
    @pytest.mark.parametrize("name", ["ew_add_c32h16", "ew_max_c32h16"])
    def test_two_operands(self, name: str) -> None:
        task = one_core_tasks(name)[0]
        a, b, memory = random_int8(16, 16, 32), random_int8(16, 16, 32), Memory()
        target = memory.add(a.size)
        run(new_core(), memory, task, {0x5018: memory.add(to_atoms(a)), 0x5038: memory.add(to_atoms(b)),
                                       0x4020: target})
        z1, z2 = signed(register(task, 0x4044)), signed(register(task, 0x4074))
        scale, shift = signed(register(task, 0x4078) & 0xFFFF, 16), field(task, 0x4078, 21, 16)

        def expected(x: int, y: int) -> int:
            main, second = (x + z1) * 16384, shifted((y + z2) * scale, shift)
            return requantised(task, main + second if "add" in name else max(main, second))
        result = from_atoms(memory.bytes(target, a.size), 16, 16, 32)
        assert result.reshape(-1).tolist() == [expected(int(x), int(y)) for x, y in zip(
            a.reshape(-1), b.reshape(-1), strict=True)]

    def test_sigmoid_is_the_sigmoid(self, record_table: Callable[[str, dict[str, object]], None]) -> None:
        """Upload task and use task; the index unit is 6.31 / 16384 (numerics §12), the output unit 1 / 256."""
        upload, use = one_core_tasks("act_sigmoid_c32h16")
        memory = Memory()
        x = np.resize(np.arange(-128, 128).astype(np.int8), (16, 16, 32))
        target = memory.add(x.size)
        core = new_core()
        run(core, memory, upload, {0x5018: memory.add(16), 0x4020: memory.add(16)})
        outcome = run(core, memory, use, {0x5018: memory.add(to_atoms(x)), 0x4020: target}, new_job=False)
        assert outcome.diagnostics == []
        step = 6.31 / 16384 * (register(use, 0x4068) >> 16) / 2 ** field(use, 0x4068, 13, 8)
        real = 1 / (1 + np.exp(-step * x))
        out_scale = 2 ** register(use, 0x4088) / register(use, 0x4084) / 32768
        exact = np.clip(np.rint(real / out_scale) + signed(register(use, 0x4080)), -128, 127)
        distance = np.abs(from_atoms(memory.bytes(target, x.size), 16, 16, 32) - exact)
        record_table("simulated NPU, vendor sigmoid", {"equal": f"{100 * np.mean(distance == 0):.1f} %",
                                                       "max LSB": int(distance.max())})
        assert distance.max() <= 1      # Q15 entries and their interpolation: far below half of 1/256


class TestPooling:
    @pytest.mark.usefixtures("form")
    def test_max_pool_3x3_stride2_ignores_padding(self) -> None:
        task, memory = one_core_tasks("maxpool3x3s2p1_c64h112")[0], Memory()
        x = np.minimum(random_int8(112, 112, 64), -1)       # all negative: a pad value of 0 must not win
        target = memory.add(56 * 56 * 64)
        run(new_core(), memory, task, {0x701C: memory.add(to_atoms(x)), 0x6070: target})
        padded = np.pad(x, ((1, 0), (1, 0), (0, 0)), constant_values=-128)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))[::2, ::2]
        assert (from_atoms(memory.bytes(target, 56 * 56 * 64), 56, 56, 64) == windows.max(axis=(3, 4))).all()

    @pytest.mark.usefixtures("form")
    def test_average_pool_5x5(self) -> None:
        """floor(65536 / 5) twice: the product of reciprocals, not an exact division."""
        task, memory = one_core_tasks("avgpool5x5s1p0")[0], Memory()
        x = random_int8(16, 16, 32)
        target = memory.add(12 * 12 * 32)
        run(new_core(), memory, task, {0x701C: memory.add(to_atoms(x)), 0x6070: target})
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(int), (5, 5), (0, 1))
        expected = [shifted(int(v) * 13107 * 13107, 32) for v in windows.sum(axis=(3, 4)).reshape(-1)]
        assert from_atoms(memory.bytes(target, 12 * 12 * 32), 12, 12, 32).reshape(-1).tolist() == expected


@pytest.mark.usefixtures("form")
class TestDataMovement:
    def test_slice_of_channels(self) -> None:
        task, memory = one_core_tasks("slice_c")[0], Memory()
        x = random_int8(16, 16, 32)
        target = memory.add(16 * 16 * 16)
        run(new_core(), memory, task, {0x5018: memory.add(to_atoms(x)), 0x4020: target})
        assert (from_atoms(memory.bytes(target, 4096), 16, 16, 16) == x[..., 16:]).all()

    def test_concat_copies_then_selects(self) -> None:
        """24 + 17 channels: two requantising copies, then a 1x1 convolution whose shortened program relies on what
        the first copy left in the same register group."""
        copy0, copy1, select = one_core_tasks("concat_c24c17")
        memory, core = Memory(), new_core()
        a, b = random_int8(16, 16, 24), random_int8(16, 16, 17)
        temporary, target = memory.add(16 * 16 * 64), memory.add(16 * 16 * 64)
        weights = np.zeros((41, 1, 1, 64), np.int8)
        for k in range(41):
            weights[k, 0, 0, k if k < 24 else k - 24 + 32] = 1
        selection = Conv(np.zeros((1, 1, 64), np.int8), weights, memory=memory)
        zero = signed(register(copy0, 0x4080))
        bias = memory.add(np.where(np.arange(64) < 41, -zero, 0).astype("<i4"))
        for number, (task, source) in enumerate(((copy0, a), (copy1, b))):
            run(core, memory, task, {0x5018: memory.add(to_atoms(source, surfaces=2)), 0x4020: temporary}, number == 0)
        run(core, memory, select, {0x1070: temporary, 0x1110: selection.weights, 0x4020: target, 0x5020: bias}, False)
        expected = [requantised(copy0, int(v)) for v in a.reshape(-1)]
        result = from_atoms(memory.bytes(target, 16 * 16 * 64), 16, 16, 41)
        assert result[..., :24].reshape(-1).tolist() == expected
        offset = signed(register(copy1, 0x4044))
        assert result[..., 24:].reshape(-1).tolist() == [requantised(copy1, int(v) + offset) for v in b.reshape(-1)]

    def test_nearest_resize_2x(self) -> None:
        memory, core = Memory(), new_core()
        x = random_int8(16, 16, 32)
        source, target = memory.add(to_atoms(x)), memory.add(32 * 32 * 32)
        for task in one_core_tasks("resize_near2x"):
            run(core, memory, task, {0x5018: source, 0x4020: target})
        expected = x.repeat(2, axis=0).repeat(2, axis=1)
        assert (from_atoms(memory.bytes(target, expected.size), 32, 32, 32) == expected).all()

    def test_bilinear_half_pixel_resize_2x(self) -> None:
        """Nine tasks: copies into a padded temporary, then one depthwise convolution per phase that reads a window
        of it and scatters with the re-nested writer; later tasks are shortened to what changed in their group."""
        memory, core = Memory(), new_core()
        x = random_int8(16, 16, 32)
        source, temporary, target = memory.add(to_atoms(x)), memory.add(18 * 18 * 32), memory.add(32 * 32 * 64)
        tasks = one_core_tasks("resize_bil2x_hp")
        for number, task in enumerate(tasks):
            phase = register(task, 0x1070) if number >= 5 else 0
            lines = ((3, 1) if phase >= 0x120 else (1, 3)), ((3, 1) if phase % 0x120 else (1, 3))
            taps = np.array([[27 * v * h - 128 for h in lines[1]] for v in lines[0]])
            weights = memory.add(np.repeat(taps.reshape(4, 1), 32, axis=1).astype(np.int8))
            run(core, memory, task, {
                0x5018: source if number == 0 else temporary, 0x4020: temporary if number < 5 else target,
                0x1070: temporary, 0x1110: weights, 0x5020: memory.add(256)}, number == 0)
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(int)
        expected = np.zeros((32, 32, 32), int)
        for row in range(32):
            for column in range(32):
                top, left = (row + 1) // 2, (column + 1) // 2
                down, right = (1, 3)[row % 2 == 0], (1, 3)[column % 2 == 0]
                block = padded[top:top + 2, left:left + 2]
                total = ((4 - down) * ((4 - right) * block[0, 0] + right * block[0, 1])
                         + down * ((4 - right) * block[1, 0] + right * block[1, 1]))
                expected[row, column] = np.rint(27 * total * 19418 / 2**23)
        assert (from_atoms(memory.bytes(target, 32 * 32 * 32), 32, 32, 32) == expected).all()


def every_program(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json.gz"))


def test_all_vendor_programs_disassemble_and_decode(shared_dir: Path) -> None:
    """Every word of every RK3588 program names a register, and every int8 task runs to its interrupt."""
    unsupported = {"softmax_last_16x64", "transpose_nhwc"}     # fp16 and int16 tasks
    memory = Memory(first=0xF000_0000)
    memory.space.map(0, np.zeros(32 << 20, np.uint8))
    for path in every_program(shared_dir / "programs" / "vendor" / "rk3588"):
        core = new_core()
        for number, task in enumerate(vendor_program(path)):
            words = [target << 48 | value << 16 | offset for target, offset, value in task]
            assert not [line for line in disassemble(words) if "?" in line], path.name
            outcome = kick(core, memory.space, memory.add(np.array(words, "<u8")), len(words))
            if path.name.split(".")[0] in unsupported:
                core.wedged = None
                continue
            assert (outcome.hang, outcome.fault) == (None, None), f"{path.name} task {number}"
