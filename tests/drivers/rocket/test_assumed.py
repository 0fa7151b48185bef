"""What programs take for granted: read off their registers, and not used where the user says so."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cermet.compiler import Compiled, compile_subgraph
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.assumed import BY_NAME, PARTS, Evidence, parts_used
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.regcmd import Regcmd
from cermet.frontend.tflite_file import load
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import subgraph_of, with_wild_scales
from tests.sim.support import DATA, Capture, vendor_program
from tests.support import exact, model_builder
from tests.support.builders_binary import Operand, binary
from tests.support.builders_unary import Ends, behind_gently, exact_table, unary
from tests.support.model_builder import Model

DRIVER = RocketDriver(RK3588)
TANH = Ends("int8", 0.02, 3, "int8", 1 / 128, 0)


def _rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def _conv(channels: int = 16, **keywords: Any) -> Model:
    return model_builder.conv2d(_rng(), (1, 14, 14, 16), channels, **keywords)


def _wild(octaves: float, channels: int = 32) -> Model:
    return with_wild_scales(_conv(channels, per_channel=True), _rng(2), octaves)


def _add(activation: str) -> Model:
    shape = (1, 6, 5, 24)
    return binary(_rng(), "ADD", Operand(shape, 0.05, 3), Operand(shape, 0.07, -9), output=(0.06, -40),
                  activation=activation)


# Cases by name: a model and the parts that it uses as things stand.
CASES: dict[str, tuple[Callable[[], Model], set[str]]] = {
    "conv": (_conv, set()),
    "kernel 7": (lambda: _conv(kernel=(7, 7)), set()),
    "kernel 9": (lambda: _conv(kernel=(9, 3)), {"large_kernel"}),
    "depthwise 8": (lambda: model_builder.depthwise(_rng(), (1, 14, 14, 16), (8, 8)), set()),
    "depthwise 9": (lambda: model_builder.depthwise(_rng(), (1, 14, 14, 16), (9, 1)), {"large_kernel"}),
    "stride 3": (lambda: _conv(stride=(3, 3)), {"stride_of_three"}),
    "stride 4": (lambda: _conv(stride=(4, 4)), {"large_stride"}),
    "dilation 2": (lambda: _conv(dilation=(2, 2)), {"dilation"}),
    "dilation 5": (lambda: _conv(dilation=(5, 5)), {"large_dilation"}),
    "octaves": (lambda: _wild(4), {"bn_multipliers"}),
    "tanh": (lambda: unary("TANH", TANH, (1, 4, 4, 3)), {"lut_in_one_task"}),
    "conv, tanh": (lambda: behind_gently(_conv(), _rng()), {"lut_in_one_task", "lut_step", "lut_behind_convolution"}),
    "add": (lambda: _add("NONE"), set()),
    "add, relu6": (lambda: _add("RELU6"), {"ew_clamp"}),
    "max per channel": (lambda: binary(_rng(), "MAXIMUM", Operand((1, 4, 4, 24)), Operand((1, 1, 1, 24)),
                                       output=(0.05, 0)), {"compare_per_channel"}),
    "constant per channel": (lambda: binary(_rng(), "ADD", Operand((1, 4, 4, 24), 0.05, 3),
                                            Operand((24,), 0.05, 4, is_constant=True), output=(0.1, 2)),
                             {"bn_addends"}),
}


def _used(compiled: Compiled) -> set[str]:
    return {name for program in compiled.programs for task in program.debug["tasks"]       # type: ignore[attr-defined]
            for name in task["assumed"]}


def _compiled(model: Model, assume: str = "on", match: str = "exact") -> Compiled:
    return compile_subgraph(subgraph_of(model), DRIVER, CompileOptions(assume=assume, match=match))


@pytest.mark.parametrize("case", CASES)
def test_registers_say_what_is_assumed(case: str) -> None:
    make, parts = CASES[case]
    assert _used(_compiled(make())) == parts


def test_both_roundings_of_channels_in_different_octaves_take_one_part_more() -> None:
    model = CASES["octaves"][0]()
    assert _used(_compiled(model, match="tflite")) == {"bn_multipliers", "ew_behind_convolution"}
    assert _used(_compiled(model, "off", match="tflite")) == set()


def test_both_roundings_of_a_product_take_a_shift() -> None:
    shape = (1, 6, 5, 24)
    model = binary(_rng(), "MUL", Operand(shape, 0.05, 3), Operand(shape, 0.07, -9), output=(0.3, -40))
    assert _used(_compiled(model, match="tflite")) == {"ew_product_shift"}
    assert _used(_compiled(model, "replayed", match="tflite")) == _used(_compiled(model)) == set()


@pytest.mark.parametrize("path", sorted((DATA / "vendor_rk3588").glob("*.json.gz")), ids=lambda path: path.name)
def test_replayed_programs_use_nothing_unseen(path: Path) -> None:
    """Whatever the vendor's programs do is at least replayed; a part that says otherwise is described wrongly."""
    for task in vendor_program(path):
        words = [target << 48 | value << 16 | offset for target, offset, value in task]
        unseen = [name for name in parts_used(RK3588, words) if BY_NAME[name].evidence is not Evidence.REPLAYED]
        assert unseen == []


def test_programs_that_run_on_boards_use_nothing_unproven() -> None:
    capture = Capture(DATA / "mobilenet_v1_0.25_128_quant.grace.npz")
    found = set()
    for submit, job in capture.jobs():
        for task in job["tasks"]:
            handle, offset = task["bo"]
            words = capture.contents(submit, handle)[offset:offset + 8 * task["regcmd_count"]].view("<u8").tolist()
            found |= set(parts_used(RK3588, words))
    assert found == set()


@pytest.mark.parametrize(("assume", "refused"), [
    ("replayed", {"kernel 9", "depthwise 9", "stride 4", "dilation 5", "max per channel"}),
    ("off", {"kernel 9", "depthwise 9", "stride 3", "stride 4", "dilation 2", "dilation 5", "max per channel",
             "constant per channel"})])
def test_what_is_not_accepted_is_refused_or_done_otherwise(assume: str, refused: set[str]) -> None:
    for case, (make, parts) in CASES.items():
        made = _compiled(make(), assume)
        assert bool(made.refusals) == (case in refused), case
        for refusal in made.refusals.values():
            assert refusal.rule == "parts_are_proven"
            assert any(BY_NAME[name].words in refusal.reason for name in parts)
        kept = {BY_NAME[name].evidence for name in _used(made)}
        assert kept <= ({Evidence.REPLAYED} if assume == "replayed" else set())


def _results(model: Model, match: str) -> tuple[list[np.ndarray], np.ndarray]:
    subgraph, inputs = subgraph_of(model), model.random_inputs(_rng(7))
    outputs = DRIVER.execute(subgraph, dict(zip(subgraph.inputs, inputs, strict=True)),
                             CompileOptions(match=match, assume="off"))
    return inputs, outputs[subgraph.outputs[0]]


@pytest.mark.parametrize("case", ["octaves", "add, relu6"])
@pytest.mark.parametrize("match", ["tflite", "exact"])
def test_the_proven_way_is_within_one_step(case: str, match: str) -> None:
    model = CASES[case][0]()
    inputs, output = _results(model, match)
    assert np.abs(output.astype(int) - exact.run(model, inputs)[-1].quantised.astype(int)).max() <= 1


# Parts that no lowering uses so far: the registers that would.
UNUSED: dict[str, tuple[int, list[tuple[str, dict[str, int]]]]] = {
    "input_converter": (0x1D, [("CNA.CVT_CON0", {"CVT_BYPASS": 0})]),
    "feature_reuse": (0x1D, [("CNA.CBUF_CON0", {"DATA_REUSE": 1})]),
    "packed_pixels": (0x1D, [("CNA.CONV_CON1", {"ARGB_IN": 8, "GROUP_LINE_OFF": 1})]),
    "unpooling": (0x18, [("DPU_RDMA.RDMA_SRC_DMA_CFG", {"UNPOOLING_EN": 1})]),
    "nested_writer": (0x18, [("DPU.BS_OW_CFG", {"SIZE_E_0": 2})]),
    "regrouping": (0x18, [("DPU.FEATURE_MODE_CFG", {"TP_EN": 1})]),
    "bn_large_multiplier": (0x18, [("DPU.BN_MUL_CFG", {"BN_MUL_OPERAND": 0x8000})]),
    "operand_line_notch": (0x18, [("DPU.EW_CFG", {"EW_OP_SRC": 1, "EW_DATA_MODE": 1, "EW_LUT_BYPASS": 1,
                                                  "EW_RELU_BYPASS": 1}),
                                  ("DPU_RDMA.RDMA_DATA_CUBE_HEIGHT", {"EW_LINE_NOTCH_ADDR": 3})]),
}


@pytest.mark.parametrize("name", UNUSED)
def test_registers_of_parts_that_no_lowering_uses(name: str) -> None:
    mask, registers = UNUSED[name]
    regcmd = Regcmd(RK3588.registers)
    for path, fields in registers:
        regcmd.emit(path, **{f: v for f, v in {"SIZE_E_1": 1, "SIZE_E_2": 1}.items() if "OW_CFG" in path}, **fields)
    words, _ = regcmd.finish(mask)
    assert parts_used(RK3588, words) == (name,)


def test_tables_loaded_by_a_task_of_their_own_are_exact() -> None:
    model = unary("TANH", TANH, (1, 16, 16, 24))
    (data,), output = _results(model, "exact")
    assert np.array_equal(output, exact_table("TANH", TANH)[data.astype(int) + 128])


def test_tables_stay_in_the_job_that_loads_them() -> None:
    """Their contents do not survive a job."""
    program = _compiled(unary("TANH", TANH, (1, 200, 200, 64)), "off").programs[0]
    assert [job.num_tasks for job in program.jobs] == [len(program.tasks)] == [2]


@functools.cache
def _model(path: Path) -> Any:
    return load(path)


@pytest.mark.parametrize("assume", ["replayed", "off"])
def test_reference_models_do_without(assume: str, models_dir: Path) -> None:
    accepted: Sequence[Evidence] = (Evidence.REPLAYED,) if assume == "replayed" else ()
    for path in sorted(models_dir.glob("*.tflite")):
        made = compile_subgraph(_model(path), DRIVER, CompileOptions(assume=assume, prefer="npu"))
        assert made.faults == ()
        assert {BY_NAME[name].evidence for name in _used(made)} <= set(accepted), path.name


def test_the_list_is_in_order() -> None:
    assert len(BY_NAME) == len(PARTS)
    assert all(part.source and part.words for part in PARTS)


@pytest.mark.parametrize("kind", ["conv", "depthwise"])
@pytest.mark.parametrize("octaves", [3, 6, 20])
def test_channels_share_one_shift_within_one_step(kind: str, octaves: float) -> None:
    """Small multipliers lose bits, the smallest their weights; outputs stay within a step, or it is refused."""
    plain = _conv(40, per_channel=True, output_zero_point=-20) if kind == "conv" else \
        model_builder.depthwise(_rng(), (1, 9, 9, 40), per_channel=True)
    model = with_wild_scales(plain, _rng(5), octaves)
    refused = _compiled(model, "off").refusals
    assert all(refusal.rule == "parts_are_proven" for refusal in refused.values())
    assert not refused or octaves > 3
    if not refused:
        inputs, output = _results(model, "tflite")
        assert np.abs(output.astype(int) - exact.run(model, inputs)[-1].quantised.astype(int)).max() <= 1


def test_pruned_channels_are_constants() -> None:
    """As in real models: weights of next to no scale, a bias that is all there is of the result."""
    model = _conv(32, per_channel=True)
    source, weights, bias, output = model.tensors
    scales = tuple(s * (1e-6 if c % 3 == 0 else 1.0) for c, s in enumerate(weights.scales))
    steps = np.random.default_rng(6).uniform(-100, 100, 32)
    pruned = np.rint(steps * output.scale / (source.scale * np.array(scales))).clip(-2**30, 2**30).astype(np.int32)
    data = np.where(np.arange(32) % 3 == 0, pruned, bias.data)
    constant = replace(bias, data=data.astype(np.int32), scales=tuple(source.scale * s for s in scales))
    model = replace(model, tensors=(source, replace(weights, scales=scales), constant, output))
    assert _used(_compiled(model)) == {"bn_multipliers"}
    assert not _compiled(model, "off").refusals
    inputs, values = _results(model, "tflite")
    assert np.abs(values.astype(int) - exact.run(model, inputs)[-1].quantised.astype(int)).max() <= 1
