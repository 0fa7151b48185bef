"""Questions about the PPU (open questions Q-P3 to Q-P7, Q-N13).

Mainline never sees the PPU's interrupt: each job ends in the kernel's time limit, with the result in memory.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cermet.probe.build import Draft, places, pooling, to_atoms
from cermet.probe.conv import numbers
from cermet.probe.model import ROUNDINGS, SENTINEL, Case, Probe, half_even, wrap

AVERAGE, MAXIMUM = 0, 1
FRACTION_BITS = 16


def case(label: str, draft: Draft, image: np.ndarray, shape: tuple[int, int], predictions: dict[str, np.ndarray],
         seen: np.ndarray | None = None) -> Case:
    """shape: rows and columns of the output; seen: other bytes to look at."""
    memory = {"input": to_atoms(image), "output": np.full(max(4096, shape[0] * shape[1] * 16), SENTINEL, np.uint8)}
    return Case(label, memory, ((draft.program(),),), "output",
                places(*shape, 16) if seen is None else seen, predictions)


def windows(image: np.ndarray, kernel: int, stride: int, pad: int, outside: int, shift: int = 0) -> np.ndarray:
    """int64 [rows][columns][16][taps] of an image with a border. shift: rows that the windows lie lower."""
    full = np.full((image.shape[0] + 2 * pad + shift, image.shape[1] + 2 * pad, 16), outside, np.int64)
    full[pad:pad + image.shape[0], pad:pad + image.shape[1]] = image
    rows = (image.shape[0] + 2 * pad - kernel) // stride + 1
    columns = (image.shape[1] + 2 * pad - kernel) // stride + 1
    taps = [full[y + shift:y + shift + (rows - 1) * stride + 1:stride, x:x + (columns - 1) * stride + 1:stride]
            for y in range(kernel) for x in range(kernel)]
    return np.stack(taps, axis=-1)


# -- Q-N13, Q-P6: rounding of averages ---------------------------------------------------------------------------------

GRID = 4                    # windows across and down, 16 channels each


def measured_rule(total: np.ndarray, kernel: int) -> np.ndarray:
    """The rule that fits measurements of windows up to 8 (numerics document §11): half away, ties corrected."""
    count = kernel * kernel
    size = np.abs(total)
    result = (size + count // 2) // count
    tie = (size * 2 - (result * 2 - 1) * count == 0)
    exact = 65536 % kernel == 0
    result -= tie & (result % 2 == 1) if exact else tie
    return np.sign(total) * result


def product_rounded(rounding: Callable[[np.ndarray, int], np.ndarray],
                    reciprocal: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda total: rounding(total * reciprocal ** 2, 2 * FRACTION_BITS)


def by_total(kernel: int, reciprocal: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Hypotheses that only look at a window's sum."""
    made: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        f"product: {name}": product_rounded(rounding, reciprocal) for name, (_, rounding) in ROUNDINGS.items()}
    made["exact division"] = lambda total: measured_rule(total, kernel)
    made["one after the other"] = lambda total: half_even(
        half_even(total * reciprocal, FRACTION_BITS) * reciprocal, FRACTION_BITS)
    return made


def telling_sums(kernel: int, reciprocal: int) -> np.ndarray:
    """256 sums of a window, those first on which the hypotheses disagree most."""
    totals = np.arange(-120 * kernel ** 2, 120 * kernel ** 2)
    answers = np.stack([rule(totals) for rule in by_total(kernel, reciprocal).values()])
    kinds = np.array([len(set(column)) for column in answers.T.tolist()])
    pattern = (answers[:, None] == answers[None]).reshape(len(answers) ** 2, -1)
    _, first, group = np.unique(pattern, axis=1, return_index=True, return_inverse=True)
    chosen: list[int] = []
    for number in range(len(first)):        # of each way to disagree some
        members = np.flatnonzero(group.reshape(-1) == number)
        if kinds[members[0]] > 1:
            chosen += members[np.linspace(0, len(members) - 1, min(24, len(members))).astype(int)].tolist()
    rest = np.linspace(0, len(totals) - 1, GRID * GRID * 16).astype(int).tolist()
    return totals[(chosen + rest)[:GRID * GRID * 16]]


def windows_of_sums(kernel: int, totals: np.ndarray) -> np.ndarray:
    """An image of GRID x GRID windows, 16 channels, with these sums."""
    count = kernel * kernel
    taps = totals.reshape(GRID, GRID, 16, 1) // count + (np.arange(count) < (totals % count).reshape(GRID, GRID, 16, 1))
    image = taps.reshape(GRID, GRID, 16, kernel, kernel).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(image.reshape(GRID * kernel, GRID * kernel, 16)).astype(np.int8)


def average_case(kernel: int, reciprocal: int) -> Case:
    totals = telling_sums(kernel, reciprocal)
    image = windows_of_sums(kernel, totals)
    side = GRID * kernel
    draft = pooling(side, side, AVERAGE, kernel, kernel, reciprocal=reciprocal)
    taps = windows(image, kernel, kernel, 0, 0)
    assert np.array_equal(taps.sum(axis=-1).reshape(-1), totals)
    predictions = {name: wrap(rule(taps.sum(axis=-1)), 8) for name, rule in by_total(kernel, reciprocal).items()}
    across = taps.reshape(GRID, GRID, 16, kernel, kernel).sum(axis=-1)
    lines = half_even(across * reciprocal, FRACTION_BITS).sum(axis=-1)
    predictions["line by line"] = wrap(half_even(lines * reciprocal, FRACTION_BITS), 8)
    return case(f"{kernel}x{kernel}, reciprocal {reciprocal:#x}", draft, image, (GRID, GRID), predictions)


def averages(kernels: tuple[int, ...]) -> Callable[[], list[Case]]:
    return lambda: [average_case(kernel, value) for kernel in kernels
                    for value in sorted({65536 // kernel, round(65536 / kernel)})]


AVERAGE_TEXTS = {f"product: {name}": f"sum times both reciprocals, rounded once {text}"
                 for name, (text, _) in ROUNDINGS.items()} | {
    "exact division": "by the number of taps, ties as measured for small windows",
    "line by line": "each line of the window rounded by itself", "one after the other": "rounded after each reciprocal"}


# -- Q-P3: pad value of averages ---------------------------------------------------------------------------------------


def pad_values() -> list[Case]:
    made = []
    image = numbers(30, (6, 6, 16), -100, 100)
    reciprocal = 65536 // 3
    for value in (1, -64, 300):
        draft = pooling(6, 6, AVERAGE, 3, pad=1, reciprocal=reciprocal)
        draft.set("PPU.PADDING_VALUE_1_CFG", PAD_VALUE_0=value & 0xFFFF_FFFF)
        draft.set("PPU.PADDING_VALUE_2_CFG", PAD_VALUE_1=7 if value < 0 else 0)
        real = windows(image, 3, 1, 1, 0).sum(axis=-1)
        padded = windows(np.zeros_like(image), 3, 1, 1, 1).sum(axis=-1)
        byte = int(wrap(np.array(value), 8))
        sums = {"for each padded tap": real + padded * value, "low byte for each padded tap": real + padded * byte,
                "once for a window": real + (padded > 0) * value, "ignored": real}
        made.append(case(f"pad value {value}", draft, image, (6, 6), {
            name: wrap(half_even(total * reciprocal ** 2, 32), 8) for name, total in sums.items()}))
    return made


# -- Q-P4: what small outputs look like in memory ----------------------------------------------------------------------


def small_outputs() -> list[Case]:
    made = []
    for width, height in ((4, 4), (6, 2), (2, 8)):
        image = numbers(31, (height, width, 16), -128, 127)
        draft = pooling(width, height, MAXIMUM, 2, 2)
        result = windows(image, 2, 2, 0, 0).max(axis=-1)
        rows, columns = result.shape[:2]
        predictions = {}
        for name, pitch in (("as programmed", columns), ("lines of four atoms", 4)):
            memory = np.full((64, 16), SENTINEL, np.int64)
            for row in range(rows):
                memory[row * pitch:row * pitch + columns] = result[row]
            predictions[name] = memory.reshape(-1)
        made.append(case(f"{columns}x{rows}", draft, image, (rows, columns), predictions, np.arange(64 * 16)))
    return made


# -- Q-P5, Q-P7: padded maxima -----------------------------------------------------------------------------------------


def strided_maxima() -> list[Case]:
    made = []
    for size, kernel, pad in ((8, 3, 1), (9, 3, 1), (10, 5, 2)):
        image = numbers(32, (size, size, 16), -128, 127)
        draft = pooling(size, size, MAXIMUM, kernel, 2, pad)
        result = windows(image, kernel, 2, pad, -128).max(axis=-1)
        lower = windows(image, kernel, 2, pad, -128, shift=1).max(axis=-1)
        made.append(case(f"{kernel}x{kernel} over {size}x{size}, pad {pad}, stride 2", draft, image, result.shape[:2],
                         {"right": result, "one row lower": lower}))
    return made


def padded_maxima() -> list[Case]:
    image = numbers(33, (6, 6, 16), -120, -1)
    made = []
    ignored = windows(image, 3, 1, 1, -128).max(axis=-1)
    for register, outside in ((0, 0), (0x7FF80, -128)):
        draft = pooling(6, 6, MAXIMUM, 3, pad=1).set("PPU.PADDING_VALUE_1_CFG", PAD_VALUE_0=register)
        made.append(case(f"register {register:#x}", draft, image, (6, 6), {
            "ignored": ignored, "the register's value": windows(image, 3, 1, 1, outside).max(axis=-1)}))
    return made


PROBES = (
    Probe("Q-N13", "average pooling with windows above 8: rounding", "9x9, 13x13, 15x15, 16x16", AVERAGE_TEXTS,
          averages((9, 13, 15, 16)), times_out=True),
    Probe("Q-P6", "average pooling by truncated and by rounded reciprocals", "6x6, 7x7, 8x8, 11x11",
          AVERAGE_TEXTS, averages((6, 7, 8, 11)), times_out=True),
    Probe("Q-P3", "pad value of average pooling", "3x3, pad 1, pad values 1, -64, 300", {
        "for each padded tap": "35 bits", "low byte for each padded tap": "", "once for a window": "", "ignored": ""},
        pad_values, times_out=True),
    Probe("Q-P4", "how results with a side below 4 lie in memory", "2x2 maxima of 4x4, 6x2, 2x8, in a field of marks", {
        "as programmed": "lines follow each other, nothing else is written", "lines of four atoms": ""},
        small_outputs, times_out=True),
    Probe("Q-P5", "padding together with stride 2", "3x3 and 5x5 maxima", {"right": "", "one row lower": ""},
          strided_maxima, times_out=True),
    Probe("Q-P7", "padded taps of maxima", "3x3, pad 1, only negative numbers, pad registers 0 and 0x7ff80", {
        "ignored": "", "the register's value": ""}, padded_maxima, times_out=True),
)
