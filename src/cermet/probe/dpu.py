"""Questions about the DPU: tasks from memory to memory over all bytes, -128 to 127 (Q-N4 to Q-N12, Q-E5, Q-E6)."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cermet.drivers.rocket.dpu import ALGO_ADD, Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.lut import ENTRIES, LARGEST_INDEX, Lut
from cermet.probe.build import Draft, flying, places, ramp, to_atoms
from cermet.probe.model import (
    ROUNDINGS,
    SENTINEL,
    Case,
    Probe,
    floor,
    half_away,
    half_even,
    saturate,
    to_byte,
    wrap,
)

WIDTH = 16                  # atoms: 256 bytes, one of each value
BYTES = np.arange(-128, 128, dtype=np.int64)
Rounding = Callable[[np.ndarray, int], np.ndarray]
ROUNDING_TEXTS = {name: text for name, (text, _) in ROUNDINGS.items()}


def rounded_by(name: str) -> Rounding:
    return ROUNDINGS[name][1]


def case(label: str, draft: Draft, predictions: dict[str, np.ndarray], operand: np.ndarray | None = None) -> Case:
    """One task over the ramp. predictions: int64 [256]."""
    memory = {"input": to_atoms(ramp()), "output": np.full(256, SENTINEL, np.uint8)}
    if operand is not None:
        memory["operand"] = operand.astype(np.int8).view(np.uint8)
    return Case(label, memory, ((draft.program(),),), "output", places(1, WIDTH, 16).reshape(-1), predictions)


def out(shift: int = 0, offset: int = 0, ties_away: bool = False) -> OutputConverter:
    return OutputConverter(offset, 1, shift, ties_away)


# -- Q-N4: overflow of BS's adder --------------------------------------------------------------------------------------


def add_overflow() -> list[Case]:
    cases = []
    for label, addend in (("beyond the largest", 2**31 - 1), ("beyond the smallest", -2**31)):
        draft = flying(WIDTH, stages=Stages(bs=Stage(add=addend), out=out(24)))
        total = BYTES + addend
        cases.append(case(label, draft, {name: to_byte(half_even(edge(total, 32), 24))
                                         for name, edge in (("saturates", saturate), ("wraps", wrap))}))
    return cases


# -- Q-N5: width of BS's product ---------------------------------------------------------------------------------------


def product_width() -> list[Case]:
    addend, factor, shift = 2**30, 32767, 30
    total = (BYTES + addend) * factor
    kept = {"wide": total, "saturated to 32 bits": saturate(total, 32), "wrapped to 32 bits": wrap(total, 32),
            "saturated to 40 bits": saturate(total, 40)}
    made = []
    for offset in (-32760, 0):      # shows large results, and small ones
        draft = flying(WIDTH, stages=Stages(bs=Stage(add=addend, multiplier=factor, shift=shift),
                                            out=out(0, offset)))
        made.append(case(f"offset {offset}", draft, {name: to_byte(half_even(product, shift) + offset)
                                                     for name, product in kept.items()}))
    return made


# -- Q-N7: BN's multiplier ---------------------------------------------------------------------------------------------


def bn_sign() -> list[Case]:
    factor, shift = 0x9000, 15
    draft = flying(WIDTH, stages=Stages(bn=Stage(multiplier=factor, shift=shift), out=out()))
    return [case("", draft, {"unsigned": to_byte(half_even(BYTES * factor, shift)),
                             "signed": to_byte(half_even(BYTES * (factor - 65536), shift))})]


def bn_rounding() -> list[Case]:
    cases = []
    for factor, shift in ((1, 1), (1, 2), (3, 3)):
        draft = flying(WIDTH, stages=Stages(bn=Stage(multiplier=factor, shift=shift), out=out()))
        cases.append(case(f"x * {factor} >> {shift}", draft,
                          {name: to_byte(rounded_by(name)(BYTES * factor, shift)) for name in ROUNDINGS}))
    return cases


def bn_overflow() -> list[Case]:
    draft = flying(WIDTH, stages=Stages(bn=Stage(multiplier=65535, add=2**31 - 1), out=out(24)))
    total = BYTES * 65535 + 2**31 - 1
    return [case("", draft, {name: to_byte(half_even(edge(total, 32), 24))
                             for name, edge in (("saturates", saturate), ("wraps", wrap))})]


# -- Q-N8: EW's operand converter --------------------------------------------------------------------------------------


def ew_task(offset: int = 0, scale: int = 1, shift: int = 0, algo: int = ALGO_ADD) -> Draft:
    """0 * x plus the converted operand."""
    stages = Stages(bs=Stage(multiplier=0), ew=Elementwise(offset, scale, shift, algo), out=out())
    return flying(WIDTH, stages=stages, operand=True)


def ew_rounding(cvt_round: int) -> Callable[[], list[Case]]:
    def cases() -> list[Case]:
        made = []
        for scale, shift in ((1, 1), (3, 2), (3, 3)):
            draft = ew_task(scale=scale, shift=shift).set("DPU.EW_CFG", EW_CVT_ROUND=cvt_round)
            made.append(case(f"e * {scale} >> {shift}", draft,
                             {name: to_byte(rounded_by(name)(BYTES * scale, shift)) for name in ROUNDINGS}, BYTES))
        return made
    return cases


def ew_truncate() -> list[Case]:
    draft = ew_task().set("DPU.EW_CVT_SCALE_VALUE", EW_TRUNCATE=2).set("DPU.DATA_FORMAT", EW_TRUNCATE_NEG=2)
    return [case("", draft, {"nothing": BYTES, "rounds to even": half_even(BYTES, 2), "rounds down": floor(BYTES, 2),
                             "rounds away": half_away(BYTES, 2)}, BYTES)]


# -- Q-N9: RELUX -------------------------------------------------------------------------------------------------------


def relux() -> list[Case]:
    factor, shift, limit = 8, 2, 40
    draft = flying(WIDTH, stages=Stages(bs=Stage(multiplier=factor, shift=shift, relu=True, relux=limit),
                                        out=out(1, -5)))
    scaled = np.maximum(half_even(BYTES * factor, shift), 0)
    before = half_even(np.minimum(np.maximum(BYTES * factor, 0), limit), shift)
    stored = np.minimum(to_byte(half_even(scaled, 1) - 5), limit)
    return [case("", draft, {"after the shift": to_byte(half_even(np.minimum(scaled, limit), 1) - 5),
                             "before the shift": to_byte(half_even(before, 1) - 5), "on the output": stored})]


# -- Q-N10: LUT interpolation ------------------------------------------------------------------------------------------

LUT_STEP_BITS = 2


def lut_tables() -> tuple[np.ndarray, np.ndarray]:
    """Entries between 1 and 120 whose differences are 1, 3, -1, -3 and so on: fractions of all kinds, none is 0."""
    steps = np.resize([1, 3, -1, 2, -3, 5, -2, -5], ENTRIES - 1)
    entries = np.concatenate([[60], 60 + np.cumsum(steps)])
    return entries, entries[::-1].copy()


def interpolated(table: np.ndarray, index: np.ndarray, start: int, rounding: Rounding) -> np.ndarray:
    at = index - start
    low, fraction = at >> LUT_STEP_BITS, at & (1 << LUT_STEP_BITS) - 1
    first, second = table[low], table[np.minimum(low + 1, ENTRIES - 1)]
    return first + rounding((second - first) * fraction, LUT_STEP_BITS)


def lut_values(rounding: Rounding) -> np.ndarray:
    negative, positive = lut_tables()
    start = -(LARGEST_INDEX << LUT_STEP_BITS)
    below = interpolated(negative, np.minimum(BYTES, 0), start, rounding)
    return np.where(BYTES < 0, below, interpolated(positive, np.maximum(BYTES, 0), 0, rounding))


def lut_task(offset: int = 0) -> Draft:
    negative, positive = lut_tables()
    lut = Lut(tuple(negative.tolist()), tuple(positive.tolist()), LUT_STEP_BITS)
    return flying(WIDTH, stages=Stages(bn=Stage(multiplier=1), lut=lut, tables=lut, out=out(0, offset)))


def lut_rounding() -> list[Case]:
    return [case("", lut_task(), {name: to_byte(lut_values(rounded_by(name))) for name in ROUNDINGS})]


# -- Q-N12: ties and the output's zero point ---------------------------------------------------------------------------


def zero_point_order(ties_away: bool) -> Callable[[], list[Case]]:
    rounding = half_away if ties_away else half_even

    def cases() -> list[Case]:
        made = []
        for shift, offset in ((1, 1), (1, -3), (2, 7)):
            draft = flying(WIDTH, stages=Stages(out=out(shift, offset, ties_away)))
            made.append(case(f"x >> {shift}, then {offset:+}", draft,
                             {"after the shift": to_byte(rounding(BYTES, shift) + offset),
                              "before the shift": to_byte(rounding(BYTES + (offset << shift), shift))}))
        return made
    return cases


# -- Shifts that programs use although nobody has shown them (bn_shift_by_sign, ew_product_shift) ----------------------


def bn_shift_by_sign() -> list[Case]:
    draft = flying(WIDTH, stages=Stages(bn=Stage(multiplier=3, shift=3, shift_negative=1), out=out()))
    return [case("", draft, {name: to_byte(np.where(BYTES >= 0, half_even(BYTES * 3, 3), half_even(BYTES * 3, shift)))
                             for name, shift in (("by the sign", 1), ("alike", 3))})]


def ew_product_shift() -> list[Case]:
    stages = Stages(ew=Elementwise(0, 1, 0, multiplies=True, product_shift=2), out=out())
    operand = BYTES % 7 - 3
    product = BYTES * operand
    return [case("", flying(WIDTH, stages=stages, operand=True),
                 {"nothing": to_byte(product)} | {name: to_byte(rounded_by(name)(product, 2)) for name in ROUNDINGS},
                 operand)]


# -- Q-E5, Q-E6: EW's operand from registers, EW's order ---------------------------------------------------------------


def scalar_task(values: list[int]) -> Draft:
    """x plus EW_OP_VALUE_0..7, operand converter times 2."""
    draft = flying(WIDTH, stages=Stages(out=out()))
    draft.set("DPU.EW_CFG", EW_BYPASS=0, EW_OP_BYPASS=0, EW_OP_CVT_BYPASS=0, EW_ALU_ALGO=ALGO_ADD, EDATA_SIZE=1)
    draft.set("DPU.EW_CVT_SCALE_VALUE", EW_OP_CVT_SCALE=2)
    for index, value in enumerate(values):
        draft.set(f"DPU.EW_OP_VALUE_{index}", **{f"EW_OPERAND_{index}": value})
    return draft


def scalar_operand() -> list[Case]:
    values = [3, 10, 17, 24, 31, 38, 45, 52]
    lane = np.arange(256) % 16
    chosen = np.array(values)
    operands = {"first for all": np.full(256, values[0]), "lane modulo 8": chosen[lane % 8],
                "lane / 2": chosen[lane // 2], "first for all, converted": np.full(256, 2 * values[0]),
                "lane modulo 8, converted": 2 * chosen[lane % 8]}
    return [case("", scalar_task(values), {name: to_byte(BYTES + one) for name, one in operands.items()})]


def lut_and_alu() -> list[Case]:
    """max(., 70) before or behind the table."""
    draft = lut_task().set("DPU.EW_CFG", EW_OP_BYPASS=0, EW_ALU_ALGO=0).set("DPU.EW_OP_VALUE_0", EW_OPERAND_0=70)
    for index in range(1, 8):
        draft.set(f"DPU.EW_OP_VALUE_{index}", **{f"EW_OPERAND_{index}": 70})
    table = lut_values(half_even)
    clipped = np.maximum(BYTES, 70)
    first = np.array([table[value + 128] for value in clipped])
    # Compared where no fraction has a tie, so that the rounding of the interpolation does not matter.
    sure = np.all([lut_values(rounded_by(name)) == table for name in ROUNDINGS], axis=0)
    made = case("", draft, {"table first": to_byte(np.maximum(table, 70)), "operation first": to_byte(first)})
    keep = sure & sure[clipped + 128]
    return [Case(made.label, made.memory, made.jobs, made.region, made.places[keep],
                 {name: values[keep] for name, values in made.predictions.items()})]


OVERFLOWS = {"saturates": "at 32 bits", "wraps": "modulo 2**32"}
ORDERS = {"after the shift": "the zero point is added to the rounded number",
          "before the shift": "the zero point is added, shifted, before rounding"}

PROBES = (
    Probe("Q-N4", "overflow of the adder of BS", "x + (2**31 - 1) and x - 2**31, shown by OUT_CVT >> 24", OVERFLOWS,
          add_overflow),
    Probe("Q-N5", "how wide is the product of BS before its shift", "(x + 2**30) * 32767 >> 30", {
        "wide": "kept whole", "saturated to 32 bits": "", "wrapped to 32 bits": "", "saturated to 40 bits": ""},
        product_width),
    Probe("Q-N7.sign", "sign of the register multiplier of BN", "x * 0x9000 >> 15", {
        "unsigned": "0x9000 is 36864", "signed": "0x9000 is -28672"}, bn_sign),
    Probe("Q-N7.rounding", "rounding of the shift of BN", "x * 1 >> 1, x * 1 >> 2, x * 3 >> 3", ROUNDING_TEXTS,
          bn_rounding),
    Probe("Q-N7.overflow", "overflow of multiply and add in BN", "x * 65535 + 2**31 - 1, shown by OUT_CVT >> 24",
          OVERFLOWS, bn_overflow),
    Probe("Q-N7.negative", "which shift of BN negative products take", "x * 3 >> 3, and >> 1 below zero", {
        "by the sign": "a number of their own", "alike": "that of the others"}, bn_shift_by_sign),
    Probe("Q-N8.even", "rounding of the operand converter of EW with CVT_ROUND 0", "0 + (e * scale >> shift)",
          ROUNDING_TEXTS, ew_rounding(0)),
    Probe("Q-N8.round", "rounding of the operand converter of EW with CVT_ROUND 1", "0 + (e * scale >> shift)", {
        name: ROUNDING_TEXTS[name] for name in ("half-away", "half-even", "half-up", "half-down", "floor")},
        ew_rounding(1)),
    Probe("Q-N8.truncate", "what EW_TRUNCATE does to an addition", "0 + e with EW_TRUNCATE 2", {
        "nothing": "", "rounds to even": "e >> 2", "rounds down": "e >> 2", "rounds away": "e >> 2"}, ew_truncate),
    Probe("Q-N8.product", "what EW_TRUNCATE does to a product", "x * e with EW_TRUNCATE 2",
          {"half-even": ROUNDING_TEXTS["half-even"], "nothing": ""} | ROUNDING_TEXTS, ew_product_shift),
    Probe("Q-N9", "where RELUX compares", "relux(x * 8 >> 2, 40), then OUT_CVT >> 1, -5", {
        "after the shift": "the shifted number, 32 bits", "before the shift": "the product",
        "on the output": "the stored byte"}, relux),
    Probe("Q-N10", "rounding of the interpolation between LUT entries", "a table of small steps, four indices each",
          ROUNDING_TEXTS, lut_rounding),
    Probe("Q-N12.even", "OUT_CVT: ties and the zero point, CVT_ROUND 0", "x >> 1 and x >> 2 with odd offsets", ORDERS,
          zero_point_order(ties_away=False)),
    Probe("Q-N12.away", "OUT_CVT: ties and the zero point, CVT_ROUND 1", "x >> 1 and x >> 2 with odd offsets", ORDERS,
          zero_point_order(ties_away=True)),
    Probe("Q-E5", "operand of EW from registers", "x + EW_OP_VALUE_0..7, eight different ones, converter times 2", {
        "first for all": "EW_OP_VALUE_0, not converted", "lane modulo 8": "", "lane / 2": "",
        "first for all, converted": "", "lane modulo 8, converted": ""}, scalar_operand),
    Probe("Q-E6", "order of table and operation in EW", "LUT and max(., 70) in one task", {
        "table first": "", "operation first": ""}, lut_and_alu),
)
