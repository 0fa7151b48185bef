"""Models of every kind through the delegate in both runtimes: results are TFLite's, whatever stays on the CPU."""
from __future__ import annotations

import concurrent.futures
import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cermet import paths
from tests.delegate.test_delegate import reference_models
from tests.support import model_builder
from tests.support.interpreter import MODULES
from tests.support.model_builder import Model, OperationSpec, TensorSpec, build_graphs

model_builder.OPTIONS.update({
    "QUANTIZE": ("QuantizeOptions", 1), "DEQUANTIZE": ("DequantizeOptions", 2), "IF": ("IfOptions", 1),
    "WHILE": ("WhileOptions", 1), "LESS": ("LessOptions", 1), "SHAPE": ("ShapeOptions", 1),
})
Rng = np.random.Generator


@pytest.fixture(params=MODULES)
def module(request) -> Any:
    return pytest.importorskip(MODULES[request.param])


def make(module, model: bytes, *, delegated: bool = True, **options: object) -> Any:
    library = str(paths.library("libcermet_delegate.so"))
    delegates = [module.load_delegate(library, {"device": "sim", "prefer": "npu", **options})] if delegated else []
    made = module.Interpreter(model_content=model, experimental_delegates=delegates,
                              experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    return made


def noise(rng: Rng, detail: dict[str, Any]) -> np.ndarray:
    dtype, shape = np.dtype(detail["dtype"]), tuple(detail["shape"])
    if dtype.kind == "f":
        return rng.normal(0, 1, shape).astype(dtype)
    if dtype == np.bool_:
        return np.asarray(rng.integers(2, size=shape), np.bool_)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -128), min(info.max, 255) + 1, shape).astype(dtype)


def invoke(made: Any, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    for detail in made.get_input_details():
        made.set_tensor(detail["index"], noise(rng, detail))
    made.invoke()
    return [np.array(made.get_tensor(detail["index"])) for detail in made.get_output_details()]


def num_kernels(made: Any) -> int:
    return sum(op["op_name"] == "DELEGATE" for op in made._get_ops_details())


def check(module, model: bytes, kernels: int | None, **options: object) -> None:
    """Three invocations give what they give without the delegate."""
    mine, theirs = make(module, model, **options), make(module, model, delegated=False)
    if kernels is not None:
        assert num_kernels(mine) == kernels
    for seed in range(3):
        for a, b in zip(invoke(mine, seed), invoke(theirs, seed), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def conv(rng: Rng, shape: tuple = (1, 6, 5, 20), channels: int = 20, **more: object) -> Model:
    return model_builder.conv2d(rng, shape, channels, **more)


def renamed(model: Model, **names: str) -> Model:
    """in=..., out=...: other names for the first input and the output."""
    tensors = list(model.tensors)
    for key, number in (("in", model.inputs[0]), ("out", model.outputs[0])):
        if key in names:
            tensors[number] = replace(tensors[number], name=names[key])
    return replace(model, tensors=tuple(tensors))


# ---- inputs and outputs --------------------------------------------------------------------------------------------

def test_several_inputs_and_outputs(module):
    """Both convolutions and their sum are outputs."""
    rng = np.random.default_rng(1)
    one, other = conv(rng), conv(rng, activation="RELU")
    shift = len(one.tensors)
    tensors = (*one.tensors, *other.tensors, replace(one.tensors[-1], name="sum"))
    moved = replace(other.operations[0], inputs=tuple(i + shift for i in other.operations[0].inputs),
                    outputs=(2 * shift - 1,))
    add = OperationSpec("ADD", (shift - 1, 2 * shift - 1), (2 * shift,), {})
    model = Model(tensors, (one.operations[0], moved, add), (0, shift), (shift - 1, 2 * shift - 1, 2 * shift))
    check(module, model.data, 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_output_that_application_and_cpu_read(module, dtype):
    """The middle tensor goes to a CPU node, an NPU node and the application; the last one is read twice."""
    rng = np.random.default_rng(2)
    model = model_builder.chain(
        conv(rng, dtype=dtype), lambda t: model_builder.pool(rng, t.shape, "MAX", dtype=dtype, zero_point=t.zero_point),
        lambda t: conv(rng, t.shape, 7, dtype=dtype, input_zero_point=t.zero_point))
    middle = model.operations[0].outputs[0]
    check(module, replace(model, outputs=(*model.outputs, middle)).data, 2, deny="MAX_POOL_2D")
    check(module, replace(model, outputs=(middle, *model.outputs)).data, 1)


def test_input_that_is_an_output_too(module):
    model = conv(np.random.default_rng(3))
    check(module, replace(model, outputs=(0, *model.outputs)).data, 1)


def test_nothing_but_inputs(module):
    tensor = TensorSpec("input", (1, 3), "int8", (0.5,), (0,))
    check(module, Model((tensor,), (), (0,), (0,)).data, 0)


def test_constant_output_and_unused_input(module):
    model = conv(np.random.default_rng(4))
    count = len(model.tensors)
    constant = TensorSpec("constant", (2, 3), "int8", (0.5,), (3,), data=np.arange(6, dtype=np.int8).reshape(2, 3))
    unused = TensorSpec("unused", (4,), "float32")
    made = Model((*model.tensors, constant, unused), model.operations, (0, count + 1), (*model.outputs, count))
    check(module, made.data, 1)


def test_same_tensor_twice(module):
    """As both operands, and as two outputs."""
    model = conv(np.random.default_rng(5))
    total = replace(model.tensors[-1], name="sum", scales=(model.tensors[-1].scale * 2,))
    add = OperationSpec("ADD", (model.outputs[0],) * 2, (len(model.tensors),), {})
    made = Model((*model.tensors, total), (*model.operations, add), (0,), (len(model.tensors), *model.outputs))
    check(module, made.data, 1)


@pytest.mark.parametrize("shape", [(7,), (3, 20), (2, 3, 20), (2, 1, 3, 2, 9)], ids=str)
def test_any_rank(module, shape):
    rng = np.random.default_rng(6)
    check(module, model_builder.add(rng, shape).data, 1)
    check(module, model_builder.unary(rng, "RELU", shape).data, 1)


# ---- several graphs ------------------------------------------------------------------------------------------------

def test_signatures(module, capfd):
    """Each signature has a graph of its own, and each graph partitions of its own."""
    rng = np.random.default_rng(7)
    first = renamed(conv(rng), **{"in": "x", "out": "y"})
    second = renamed(conv(rng, (1, 3, 9, 4), 8, dtype="uint8"), **{"in": "picture", "out": "map"})
    model = build_graphs([first, second], {"encode": 0, "decode": 1})
    mine, theirs = make(module, model), make(module, model, delegated=False)
    assert capfd.readouterr().err.count("1 of 1 nodes on the NPU") == 2
    assert sorted(mine.get_signature_list()) == ["decode", "encode"]
    for seed in range(2):
        for key, name, out, spec in (("encode", "x", "y", first), ("decode", "picture", "map", second)):
            (data,) = spec.random_inputs(np.random.default_rng(seed))
            results = [made.get_signature_runner(key)(**{name: data})[out] for made in (mine, theirs)]
            np.testing.assert_array_equal(*results)


def branches(rng: Rng) -> tuple[Model, Model]:
    one = conv(rng)
    other = conv(rng, activation="RELU", input_zero_point=one.tensors[0].zero_point,
                 output_zero_point=one.tensors[-1].zero_point)
    alike = [replace(t, scales=one.tensors[i].scales) if i in (0, len(other.tensors) - 1) else t
             for i, t in enumerate(other.tensors)]
    return one, replace(other, tensors=tuple(alike))


def test_branches_of_if(module):
    """IF stays on the CPU; what is behind it does not get a shape before it runs."""
    rng = np.random.default_rng(8)
    one, other = branches(rng)
    behind = conv(rng, one.tensors[-1].shape, 7, input_zero_point=one.tensors[-1].zero_point)
    source = replace(one.tensors[0], name="input")
    joined = replace(one.tensors[-1], name="joined")
    tensors = (TensorSpec("flag", (), "bool"), source, joined, *behind.tensors[1:])
    operations = (OperationSpec("IF", (0, 1), (2,), {"ThenSubgraphIndex": 1, "ElseSubgraphIndex": 2}),
                  replace(behind.operations[0], inputs=tuple(i + 2 for i in behind.operations[0].inputs),
                          outputs=(len(tensors) - 1,)))
    main = Model(tensors, operations, (0, 1), (len(tensors) - 1,))
    check(module, build_graphs([main, one, other]), None)


def test_body_of_while(module):
    """Three rounds of a convolution that keeps its input's quantisation."""
    rng = np.random.default_rng(9)
    body = conv(rng, output_zero_point=3, input_zero_point=3)
    body = replace(body, tensors=(body.tensors[0], *body.tensors[1:-1],
                                  replace(body.tensors[-1], scales=body.tensors[0].scales)))
    count = TensorSpec("count", (), "int32")
    one = TensorSpec("one", (), "int32", data=np.asarray(1, np.int32))
    three = TensorSpec("three", (), "int32", data=np.asarray(3, np.int32))
    data, size = body.tensors[0], len(body.tensors)
    main = Model((replace(count, name="start"), data, replace(count, name="end"), replace(data, name="result")),
                 (OperationSpec("WHILE", (0, 1), (2, 3), {"CondSubgraphIndex": 1, "BodySubgraphIndex": 2}),),
                 (0, 1), (3,))
    condition = Model((count, data, three, TensorSpec("goes_on", (), "bool")),
                      (OperationSpec("LESS", (0, 2), (3,), {}),), (0, 1), (3,))
    round_ = Model((*body.tensors, count, one, replace(count, name="next")),
                   (*body.operations, OperationSpec("ADD", (size, size + 1), (size + 2,), {}, 1)),
                   (size, 0), (size + 2, size - 1))
    model = build_graphs([main, condition, round_])
    mine, theirs = make(module, model), make(module, model, delegated=False)
    picture = np.random.default_rng(1).integers(-128, 128, data.shape).astype(np.int8)
    results = []
    for made in (mine, theirs):
        made.set_tensor(made.get_input_details()[0]["index"], np.asarray(0, np.int32))
        made.set_tensor(made.get_input_details()[1]["index"], picture)
        made.invoke()
        results.append(made.get_tensor(made.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(*results)


# ---- shapes and state that the NPU does not have -------------------------------------------------------------------

def test_dynamic_tensor_in_the_middle(module):
    """A RESHAPE to a shape that is an input: what is behind it stays on the CPU, what is before it does not."""
    rng = np.random.default_rng(10)
    model = conv(rng)
    count, size = len(model.tensors), 6 * 5 * 20
    shape = TensorSpec("shape", (2,), "int32")
    flat = replace(model.tensors[-1], name="flat", shape=(size // 20, 20), signature=(-1, 20))
    clipped = replace(flat, name="clipped")
    operations = (*model.operations, OperationSpec("RESHAPE", (model.outputs[0], count), (count + 1,), {}),
                  OperationSpec("RELU", (count + 1,), (count + 2,), {}))
    made = Model((*model.tensors, shape, flat, clipped), operations, (0, count), (count + 2,)).data
    mine, theirs = make(module, made), make(module, made, delegated=False)
    assert num_kernels(mine) == 1
    for wanted in ((30, 20), (60, 10), (1, 600)):
        results = []
        for interpreter in (mine, theirs):
            first, second = (detail["index"] for detail in interpreter.get_input_details())
            interpreter.set_tensor(first, model.random_inputs(np.random.default_rng(1))[0])
            interpreter.set_tensor(second, np.asarray(wanted, np.int32))
            interpreter.invoke()
            results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
        assert results[0].shape == results[1].shape     # LiteRT keeps the first one itself
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("path", [p for p in reference_models() if p.stem == "v2_vad"], ids=lambda p: p.stem)
def test_state_is_kept_over_invocations(module, path):
    """Variables stay on the CPU: 20 invocations in a row give TFLite's sequence, in which the first input later gives
    something else."""
    mine, theirs = make(module, path.read_bytes()), make(module, path.read_bytes(), delegated=False)
    sequences = [[invoke(made, seed) for seed in range(20)] for made in (mine, theirs)]
    for step, (a, b) in enumerate(zip(*sequences, strict=True)):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"invocation {step}")
    (again,) = invoke(mine, 0)
    np.testing.assert_array_equal(again, invoke(theirs, 0)[0])
    assert not np.array_equal(again, sequences[0][0][0])


# ---- floating point ------------------------------------------------------------------------------------------------

def as_float(model: Model, weights: str = "float32") -> Model:
    """The model in floating point; weights int8: they stay quantised (hybrid)."""
    def changed(tensor: TensorSpec) -> TensorSpec:
        plain = replace(tensor, dtype="float32", scales=(), zero_points=())
        if tensor.data is None:
            return plain
        if tensor.name == "weights" and weights == "int8":
            return tensor
        return replace(plain, data=(tensor.data.astype(np.float32) * np.float32(tensor.scale)).astype(np.float32))
    return replace(model, tensors=tuple(map(changed, model.tensors)))


def test_float_model_is_left_alone(module, capfd):
    check(module, as_float(conv(np.random.default_rng(11))).data, 0)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("cermet: ")]
    assert lines == ["cermet: 0 of 1 nodes on the NPU (rk3588), 1 of them because of weights_are_constant: weights are "
                     "float32, must be int8 or uint8; log_level=info names all reasons"]


@pytest.mark.parametrize("build", [
    lambda rng: conv(rng), lambda rng: model_builder.fully_connected(rng, (3, 20), 9)], ids=["conv", "fully_connected"])
def test_hybrid_model_is_left_alone(module, build):
    check(module, as_float(build(np.random.default_rng(12)), weights="int8").data, 0)


def test_float16_weights_are_left_alone(module):
    model = as_float(conv(np.random.default_rng(13)))
    weights, count = model.tensors[1], len(model.tensors)
    half = replace(weights, name="half", dtype="float16", data=weights.data.astype(np.float16))
    tensors = [replace(t, data=None) if i == 1 else t for i, t in enumerate(model.tensors)]
    widen = OperationSpec("DEQUANTIZE", (count,), (1,), {}, 3)
    check(module, Model((*tensors, half), (widen, *model.operations), (0,), model.outputs).data, 0)


def test_int16_activations_are_left_alone(module):
    tensor = TensorSpec("input", (1, 4, 4, 8), "int16", (0.01,), (0,))
    add = OperationSpec("ADD", (0, 1), (2,), {}, 2)
    model = Model((tensor, replace(tensor, name="other"), replace(tensor, name="output", scales=(0.02,))), (add,),
                  (0, 1), (2,))
    check(module, model.data, 0)


@pytest.mark.parametrize(("between", "options", "num_islands"), [("SOFTMAX", {"Beta": 1.0}, 2), ("TANH", {}, 1)])
def test_islands_of_quantised_operations(module, between, options, num_islands):
    """float -> int8 -> float -> int8 -> float: both islands on the NPU, conversions and the float part on the CPU.

    A float part that looks at one element at a time is a table on the NPU, and joins the islands.
    """
    rng = np.random.default_rng(14)
    first, second = conv(rng), conv(rng, (1, 6, 5, 20), 7)
    size = len(first.tensors)
    def plain(name: str, like: TensorSpec) -> TensorSpec:
        return TensorSpec(name, like.shape, "float32")
    tensors = (*first.tensors, *second.tensors, plain("input", first.tensors[0]), plain("wide", first.tensors[-1]),
               plain("bent", first.tensors[-1]), plain("output", second.tensors[-1]))
    moved = replace(second.operations[0], inputs=tuple(i + size for i in second.operations[0].inputs),
                    outputs=(2 * size - 1,))
    operations = (
        OperationSpec("QUANTIZE", (2 * size,), (0,), {}), first.operations[0],
        OperationSpec("DEQUANTIZE", (size - 1,), (2 * size + 1,), {}),
        OperationSpec(between, (2 * size + 1,), (2 * size + 2,), options, 1),
        OperationSpec("QUANTIZE", (2 * size + 2,), (size,), {}), moved,
        OperationSpec("DEQUANTIZE", (2 * size - 1,), (2 * size + 3,), {}))
    model = Model(tensors, operations, (2 * size,), (2 * size + 3,))
    check(module, model.data, num_islands)


# ---- threads -------------------------------------------------------------------------------------------------------

def in_threads(work: Callable[[int], bool], count: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        assert all(pool.map(work, range(count)))


def test_interpreters_on_one_delegate_in_threads(module):
    """Made, resized, run and deleted at the same time; every result is the lone interpreter's."""
    model = conv(np.random.default_rng(15)).data
    expected = {batch: resized(make(module, model, delegated=False), batch) for batch in (1, 2, 3)}
    library = str(paths.library("libcermet_delegate.so"))
    delegate = module.load_delegate(library, {"device": "sim", "log_level": "error"})
    barrier = threading.Barrier(4)

    def work(thread: int) -> bool:
        barrier.wait()
        agrees = True
        for turn in range(4):
            made = module.Interpreter(model_content=model, experimental_delegates=[delegate])
            for batch in (1 + (thread + turn) % 3, 1 + turn % 3):
                agrees &= np.array_equal(resized(made, batch), expected[batch])
            del made
            gc.collect()
        return agrees
    in_threads(work, 4)


def resized(made: Any, batch: int) -> np.ndarray:
    detail = made.get_input_details()[0]
    made.resize_tensor_input(detail["index"], (batch, *detail["shape"][1:]))
    made.allocate_tensors()
    return invoke(made, batch)[0]
