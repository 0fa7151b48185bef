"""Strided convolutions of the program's input, given in blocks: the same bytes as without, and as TFLite's."""
from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from cermet.accuracy.executors import make_executor
from cermet.drivers.base import CompileOptions, Program, TensorPort
from cermet.drivers.rocket import driver as rocket
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import Machine, run_program
from cermet.drivers.rocket.passes.fold_strides import MAX_BLOCK, fold_strides, in_blocks
from cermet.drivers.soft.driver import SoftDriver
from cermet.hw.soc import RK3588
from cermet.ir.subgraph import Subgraph
from cermet.ir.verify import verify
from cermet.program.plan_layout import plan_header
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.support import builders_move, exact, interpreter, model_builder
from tests.support.model_builder import Model, TensorSpec
from tests.support.sketch import Sketch

KERNELS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (1, 7), (7, 2), (3, 5))
STRIDES = ((2, 2), (3, 3), (4, 4), (2, 3), (1, 2), (4, 1), (7, 5), (8, 16))
PLANES = ((16, 16), (15, 17), (23, 11), (24, 40), (7, 63), (1, 30), (31, 8))
GRID = pairwise({
    "kernel": KERNELS, "stride": STRIDES, "plane": PLANES, "ic": (1, 2, 3, 4, 5, 7, 8), "oc": (1, 8, 33),
    "padding": ("SAME", "VALID", "explicit"), "scheme": ("uint8", "int8", "channel"), "images": (1, 2, 3),
    "match": ("tflite", "exact"), "activation": ("NONE", "RELU6")},
    lambda case: case["padding"] != "VALID" or all(k <= s for k, s in zip(case["kernel"], case["plane"], strict=True)),
    seed=5)
PADS = ((1, 2), (2, 1))         # above and below, on the left and on the right
seen = {"cases": 0, "folded": 0, "elements": 0, "differs from TFLite": 0}


def _rng(case: Case) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(case_id(case).encode()))


def _model(case: Case, rng: np.random.Generator) -> Model:
    """One convolution, or one behind a PAD that fold_pad puts into its window."""
    shape = (case["images"], *case["plane"], case["ic"])
    scheme = {"dtype": "uint8" if case["scheme"] == "uint8" else "int8", "per_channel": case["scheme"] == "channel"}
    options = {"stride": case["stride"], "activation": case["activation"], **scheme}
    if case["padding"] != "explicit":
        return model_builder.conv2d(rng, shape, case["oc"], case["kernel"], padding=case["padding"], **options)
    inside = [tuple(min(n, k - 1) for n in sides) for k, sides in zip(case["kernel"], PADS, strict=True)]
    pads = [(0, 0), *inside, (0, 0)]
    grown = (shape[0], *(max(s, k) for s, k in zip(shape[1:3], case["kernel"], strict=True)), shape[3])
    padded = builders_move.pad(grown, pads, dtype=scheme["dtype"])
    return model_builder.chain(padded, lambda t: model_builder.conv2d(
        rng, t.shape, case["oc"], case["kernel"], padding="VALID", input_zero_point=t.zero_point, **options))


def _exact(model: Model, picture: np.ndarray) -> np.ndarray:
    """The convolution's result, of the picture with the border that a PAD adds."""
    values = {i: t.data for i, t in enumerate(model.tensors) if t.data is not None} | {model.inputs[0]: picture}
    *pads, conv = model.operations
    for pad in pads:
        made = model.tensors[pad.outputs[0]]
        values[pad.outputs[0]] = np.pad(picture, values[pad.inputs[1]], constant_values=made.zero_point)
    return exact.operation(model, conv, values).quantised


def _plain(subgraph: Subgraph, options: CompileOptions, patch: pytest.MonkeyPatch) -> Program:
    """Without the pass."""
    with patch.context() as context:
        context.setattr(rocket, "fold_strides", lambda *_: {})
        return RocketDriver(RK3588).compile(subgraph, options)


def _folds(program: Program) -> list[tuple[int, int]]:
    return [(port.fold_y, port.fold_x) for port in program.inputs]


@pytest.mark.parametrize("case", GRID, ids=case_id)
def test_blocks_change_no_byte(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = _rng(case)
    model = _model(case, rng)
    subgraph, options = subgraph_of(model), CompileOptions(match=str(case["match"]))
    inputs, (output,) = run(model, rng, options.match)
    plain = _plain(subgraph, options, monkeypatch)
    assert _folds(plain) == [(1, 1)]
    values = dict(zip(subgraph.inputs, inputs, strict=True))
    (other,) = run_program(RK3588, subgraph, plain, values).values()
    assert np.array_equal(output, other)
    assert np.abs(output.astype(int) - _exact(model, inputs[0]).astype(int)).max() <= 1
    seen["cases"] += 1
    seen["folded"] += _folds(RocketDriver(RK3588).compile(subgraph, options)) == [case["stride"]]
    if options.match == "tflite":
        (reference,) = interpreter.run(model.data, inputs)
        seen["elements"] += output.size
        seen["differs from TFLite"] += int((output != reference).sum())


def test_most_of_the_grid_is_folded(record_table: Callable[[str, dict[str, object]], None]) -> None:
    record_table("strided convolutions of the input, in blocks", dict(seen))
    assert seen["folded"] >= seen["cases"] / 2


# ---- the pass ------------------------------------------------------------------------------------------------------

def _blocks(value: np.ndarray, rows: int, columns: int, fill: int) -> np.ndarray:
    """SPACE_TO_DEPTH, element by element."""
    images, height, width, channels = value.shape
    made = np.full((images, -(-height // rows), -(-width // columns), rows * columns * channels), fill, value.dtype)
    for n, y, x, c in np.ndindex(*value.shape):
        made[n, y // rows, x // columns, (y % rows * columns + x % columns) * channels + c] = value[n, y, x, c]
    return made


def _decided(model: Model) -> tuple[Subgraph, Mapping]:
    subgraph = subgraph_of(model)
    return subgraph, fold_strides(subgraph, RK3588, CompileOptions(), lambda *_: True)


@pytest.mark.parametrize(("kernel", "stride", "plane", "padding"), [
    ((3, 3), (2, 2), (8, 8), "SAME"), ((7, 7), (2, 2), (9, 12), "SAME"), ((4, 4), (4, 4), (12, 8), "VALID"),
    ((5, 3), (3, 2), (10, 11), "SAME"), ((2, 6), (1, 4), (5, 19), "SAME")])
def test_the_numerics_of_blocks_are_those_of_the_picture(kernel: tuple, stride: tuple, plane: tuple,
                                                         padding: str) -> None:
    rng = np.random.default_rng(7)
    model = model_builder.conv2d(rng, (2, *plane, 3), 5, kernel, stride=stride, padding=padding, dtype="uint8")
    subgraph, found = _decided(model)
    block = found[subgraph.inputs[0]].block
    assert (block.y, block.x) == stride
    folded = in_blocks(subgraph, found)
    verify(folded)
    (picture,) = model.random_inputs(rng)
    (source,) = subgraph.inputs
    blocks = _blocks(picture, *stride, model.tensors[0].zero_point)
    (wanted,) = SoftDriver("tflite").execute(subgraph, {source: picture}).values()
    (got,) = SoftDriver("tflite").execute(folded, {source: blocks}).values()
    assert np.array_equal(wanted, got)


def test_a_machine_stores_blocks_as_the_plan_says() -> None:
    rng = np.random.default_rng(3)
    subgraph = subgraph_of(model_builder.conv2d(rng, (2, 7, 10, 3), 8, (3, 3), stride=(2, 3)))
    program = RocketDriver(RK3588).compile(subgraph, CompileOptions())
    (port,) = program.inputs
    assert (port.batch, port.height, port.width, port.channels, port.fold_y, port.fold_x) == (2, 7, 10, 3, 2, 3)
    machine = Machine(RK3588, program)
    picture = rng.integers(-128, 128, (2, 7, 10, 3)).astype(np.int8)
    machine.store(port, picture)
    memory = machine.memory[port.bo]
    for (n, h, w, c), value in np.ndenumerate(picture.view(np.uint8)):
        assert memory[_place(port, n, h, w, c)] == value ^ port.flip
    assert memory[_place(port, 0, 7, 0, 0)] == memory[_place(port, 1, 0, 10, 2)] == port.fill


def _place(port: TensorPort, n: int, h: int, w: int, c: int) -> int:
    """cermet_plan.h, struct cermet_plan_io."""
    channel = (h % port.fold_y * port.fold_x + w % port.fold_x) * port.channels + c
    return (port.offset_bytes + n * port.batch_stride_bytes + channel // 16 * port.surface_stride_bytes
            + h // port.fold_y * port.line_stride_bytes + w // port.fold_x * 16 + channel % 16)


# ---- what is in front, and what is left alone ----------------------------------------------------------------------

def _conv(source: TensorSpec, **options: object) -> Model:
    return model_builder.conv2d(np.random.default_rng(1), source.shape, 8, (3, 3), stride=(2, 2), dtype=source.dtype,
                                input_zero_point=source.zero_point, **options)


def _picture(channels: int = 3, size: int = 16, **options: object) -> Model:
    return model_builder.conv2d(np.random.default_rng(1), (1, size, size, channels), 8, **{
        "kernel": (3, 3), "stride": (2, 2), **options})         # type: ignore[arg-type]


def _behind(name: str, size: int, scale: float, zero_point: int, *, is_output: bool = False) -> Model:
    """A convolution behind a function of each byte of a uint8 picture of scale 0.05 and zero point 131."""
    made = Sketch()
    picture = made.input((1, size, size, 3), 0.05, 131, "uint8")
    first = made.model(made.op(name, (picture,), scale, zero_point, dtype="int8" if name == "QUANTIZE" else None))
    model = model_builder.chain(first, _conv)
    return replace(model, outputs=(first.outputs[0], *model.outputs)) if is_output else model


def _behind_reshape(*functions: str) -> Model:
    """A convolution of a list of bytes."""
    made = Sketch()
    first = made.input((1, 16 * 16 * 3))
    for name in functions:
        first = made.op(name, (first,), 1 / 256, -128)
    shape = (1, 16, 16, 3)
    picture = made.op("RESHAPE", (first, made.constant(np.array(shape, np.int32))), shape=shape)
    return model_builder.chain(made.model(picture), _conv)


def _read_twice() -> Model:
    model = _picture()
    (conv,) = model.operations
    again = replace(model.tensors[3], name="again")
    return Model((*model.tensors, again), (conv, replace(conv, outputs=(4,))), (0,), (3, 4))


FOLDED = {
    "a picture": _picture,
    "one type renamed, an odd size": lambda: _behind("QUANTIZE", 15, 0.05, 3),
    "other scale": lambda: _behind("QUANTIZE", 16, 0.1, 3),
    "a function": lambda: _behind("LOGISTIC", 16, 1 / 256, 0),
    "a reshape": _behind_reshape,
    "a reshape of functions": lambda: _behind_reshape("LOGISTIC", "TANH"),
}
LEFT_ALONE = {
    "a stride of 1": lambda: _picture(stride=(1, 1)),
    "as many atoms": lambda: _picture(channels=16),
    "more to multiply": lambda: _picture(channels=31, size=64),
    "a dilation": lambda: _picture(stride=(2, 2), dilation=(2, 2)),
    "groups": lambda: _picture(channels=4, groups=2),
    "a function, an odd size": lambda: _behind("QUANTIZE", 15, 0.1, 3),
    "what is in front is an output": lambda: _behind("QUANTIZE", 16, 0.05, 3, is_output=True),
    "a block that no window reads": lambda: _picture(size=10, kernel=(2, 2), stride=(3, 3), padding="VALID"),
    "another reader": _read_twice,
    "depthwise": lambda: model_builder.depthwise(np.random.default_rng(1), (1, 16, 16, 3), (3, 3), stride=(2, 2)),
    "no input": lambda: model_builder.chain(_picture(stride=(1, 1)), _conv),
}


@pytest.mark.parametrize("name", [*FOLDED, *LEFT_ALONE])
def test_which_inputs_come_in_blocks(name: str) -> None:
    model = (FOLDED | LEFT_ALONE)[name]()
    program = RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions())
    assert _folds(program) == [(2, 2) if name in FOLDED else (1, 1)]
    inputs, outputs = run(model, np.random.default_rng(2))
    for got, wanted in zip(outputs, interpreter.run(model.data, inputs), strict=True):
        assert np.array_equal(got, wanted)


def test_blocks_take_one_task_where_the_picture_takes_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer of many models: 803 KB of atoms become 201 KB, 9 taps become 4."""
    model = model_builder.conv2d(np.random.default_rng(0), (1, 224, 224, 3), 32, (3, 3), stride=(2, 2))
    subgraph = subgraph_of(model)
    plain, blocks = _plain(subgraph, CompileOptions(), monkeypatch), RocketDriver(RK3588).compile(
        subgraph, CompileOptions())
    assert (len(plain.tasks), len(blocks.tasks)) == (3, 1)
    assert RocketDriver(RK3588).npu_us(blocks) < RocketDriver(RK3588).npu_us(plain) / 2


@pytest.mark.parametrize("cores", (1, 3))
def test_lanes_share_a_convolution_of_blocks(cores: int) -> None:
    model = model_builder.conv2d(np.random.default_rng(0), (1, 225, 200, 3), 64, (7, 7), stride=(2, 2))
    subgraph, options = subgraph_of(model), CompileOptions(cores=cores)
    (picture,) = model.random_inputs(np.random.default_rng(1))
    (got,) = RocketDriver(RK3588).execute(subgraph, {subgraph.inputs[0]: picture}, options).values()
    assert np.array_equal(got, interpreter.run(model.data, [picture])[0])


@pytest.mark.parametrize(("shape", "kernel", "stride", "dtype"), [
    ((1, 224, 224, 3), (3, 3), (2, 2), "uint8"), ((2, 31, 29, 3), (7, 7), (2, 2), "int8"),
    ((3, 10, 9, 1), (3, 3), (2, 3), "uint8"), ((1, 1, 500, 2), (1, 9), (1, 4), "int8"),
    ((2, 21, 5, 5), (4, 3), (4, 3), "uint8"), ((1, 96, 64, 3), (16, 16), (16, 16), "int8"),
    ((1, 100, 98, 1), (49, 49), (49, 49), "uint8")])
def test_the_runtime_gives_what_the_core_gives(shape: tuple, kernel: tuple, stride: tuple, dtype: str) -> None:
    """Blocks made in C from the application's bytes, by way of the plan file and the simulated device."""
    rng = np.random.default_rng(4)
    model = model_builder.conv2d(rng, shape, 9, kernel, stride=stride, dtype=dtype)
    subgraph = subgraph_of(model)
    program = RocketDriver(RK3588).compile(subgraph, CompileOptions())
    assert _folds(program) == [stride]
    (picture,) = model.random_inputs(rng)
    device = make_executor("sim", "rk3588")
    try:
        (got,) = device.load(subgraph, program)({subgraph.inputs[0]: picture}).values()
    finally:
        device.close()
    assert np.array_equal(got, interpreter.run(model.data, [picture])[0])


@pytest.mark.parametrize(("shape", "stride", "surfaces"), [
    ((1, 224, 224, 3), (2, 2), 1), ((2, 12, 12, 3), (3, 3), 2), ((1, 32, 32, 3), (4, 4), 3), ((1, 8, 8, 5), (1, 1), 1)])
def test_the_input_has_room_for_its_atoms_and_no_more(shape: tuple, stride: tuple, surfaces: int) -> None:
    model = model_builder.conv2d(np.random.default_rng(0), shape, 8, (4, 4), stride=stride)
    program = RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions())
    assert _folds(program) == [stride]
    pixels = shape[0] * shape[1] * shape[2] // (stride[0] * stride[1])
    assert program.bos[program.inputs[0].bo].size_bytes == -(-surfaces * pixels * 16 // 64) * 64


def test_the_plan_has_room_for_the_largest_block() -> None:
    """The compiler's limit follows from the NPU's strides, the plan's stands in its header."""
    assert plan_header().constants["CERMET_MAX_FOLD"] == MAX_BLOCK
