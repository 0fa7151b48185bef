"""resize_tensor_input through the delegate: a program for the new shapes each time, right results, no leaks."""
from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import numpy as np
import pytest
import tflite

from cermet import paths
from cermet.cli import main
from tests.delegate.test_delegate import reference_models
from tests.support import builders_move, model_builder
from tests.support.interpreter import MODULES
from tests.support.model_builder import Model

SHAPES = [(2, 9, 8, 5), (2, 9, 8, 5), (1, 9, 8, 5), (1, 20, 33, 5), (4, 7, 7, 5), (3, 9, 8, 5)]


@pytest.fixture(params=MODULES)
def module(request) -> Any:
    return pytest.importorskip(MODULES[request.param])


@pytest.fixture(scope="module")
def model() -> Model:
    """Two convolutions with a maximum between them."""
    rng = np.random.default_rng(11)
    return model_builder.chain(
        model_builder.conv2d(rng, (1, 9, 8, 5), 20),
        lambda t: model_builder.pool(rng, t.shape, "MAX", (2, 2), zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 7, input_zero_point=t.zero_point, activation="RELU"))


def make(module, model: bytes, resolver: str = "BUILTIN_REF", **options: object) -> Any:
    """An interpreter, not allocated. device=None: without the delegate."""
    given = {"device": "sim", "log_level": "info", "prefer": "npu", **options}
    delegates = [module.load_delegate(str(paths.library("libcermet_delegate.so")), given)] if given["device"] else []
    return module.Interpreter(model_content=model, experimental_delegates=delegates,
                              experimental_op_resolver_type=getattr(module.OpResolverType, resolver))


def resized(made: Any, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The first output after resizing the first input (first of all, allocating or not) and running on noise."""
    detail = made.get_input_details()[0]
    made.resize_tensor_input(detail["index"], shape)
    made.allocate_tensors()
    info = np.iinfo(detail["dtype"])
    data = np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(detail["dtype"])
    made.set_tensor(detail["index"], data)
    made.invoke()
    return np.array(made.get_tensor(made.get_output_details()[0]["index"]))


@pytest.mark.parametrize("allocates_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"deny": "MAX_POOL_2D"}, {"cache": "off"}], ids=str)
def test_every_shape_gives_tflites_result(module, model, options, allocates_first):
    on_npu, on_cpu = make(module, model.data, **options), make(module, model.data, device=None)
    if allocates_first:
        on_npu.allocate_tensors()
    for seed, shape in enumerate(SHAPES[:3] if options.get("cache") else SHAPES):
        mine, theirs = resized(on_npu, shape, seed), resized(on_cpu, shape, seed)
        assert mine.shape == theirs.shape
        np.testing.assert_array_equal(mine, theirs)


def test_beside_tflites_own_delegate(module, model):
    """LiteRT gives XNNPACK what the NPU leaves, and takes that back too when inputs are resized."""
    on_npu, on_cpu = make(module, model.data, "AUTO", deny="MAX_POOL_2D"), make(module, model.data, device=None)
    for seed, shape in enumerate(SHAPES[:4]):
        np.testing.assert_array_equal(resized(on_npu, shape, seed), resized(on_cpu, shape, seed))


def test_programs_come_from_the_cache(module, model, tmp_path, capfd):
    for source in ("compiled", "from cache"):
        made = make(module, model.data, cache_dir=tmp_path / "cache")
        resized(made, (2, 9, 8, 5))
        resized(made, (2, 9, 8, 5))     # nothing new: nothing happens
        lines = re.findall(r"inputs resized: a partition of 3 nodes, plan (.*) in", capfd.readouterr().err)
        assert lines == [source]


def test_plan_compiled_ahead_of_time_is_found(module, model, tmp_path):
    """A partition that is all of the model has the key of the model with that batch in its file."""
    wanted = model_builder.Model(tuple(
        tensor if tensor.data is not None else model_builder.replace(tensor, shape=(2, *tensor.shape[1:]))
        for tensor in model.tensors), model.operations, model.inputs, model.outputs)
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    for number, one in enumerate((model, wanted)):
        (tmp_path / f"{number}.tflite").write_bytes(one.data)
        file = str(tmp_path / f"{number}.tflite")
        assert main(["compile", file, "-o", str(folder), "--option", "prefer=npu"]) == 0
    made = make(module, model.data, cache="required", cache_dir=folder)
    reference = resized(make(module, model.data, device=None), (2, 9, 8, 5))
    np.testing.assert_array_equal(resized(made, (2, 9, 8, 5)), reference)


def test_size_that_the_npu_cannot_take_is_explained(module, model):
    made = make(module, model.data)
    first = resized(made, (1, 9, 8, 5))
    with pytest.raises(RuntimeError, match=r"cermet: node 0 cannot run on the NPU in this size: batch_is_one: batch is "
                                           r"70, must be 1\.\.64.*option deny=0.*\(the partition that computes"):
        resized(made, (70, 9, 8, 5))
    with pytest.raises(RuntimeError):
        made.invoke()
    np.testing.assert_array_equal(resized(made, (1, 9, 8, 5)), first)
    with pytest.raises(RuntimeError):       # TFLite's own refusal: the convolution's weights have 5 channels
        resized(made, (1, 9, 8, 6))
    np.testing.assert_array_equal(resized(made, (1, 9, 8, 5)), first)


@pytest.mark.parametrize("options", [{"deny": "0"}, {"deny": "1"}, {"deny": "1-2"}, {"allow": "2"}], ids=str)
def test_numbers_are_those_of_the_whole_model(module, model, options):
    """Not of the partition, which is compiled alone."""
    on_npu, on_cpu = make(module, model.data, **options), make(module, model.data, device=None)
    for shape in ((1, 9, 8, 5), (3, 9, 8, 5)):
        np.testing.assert_array_equal(resized(on_npu, shape), resized(on_cpu, shape))


def test_what_is_kept_off_the_npu_takes_any_size(module):
    """As the error for a size that the NPU cannot take advises."""
    rng = np.random.default_rng(5)
    conv = model_builder.conv2d(rng, (1, 9, 8, 5), 20)
    (made,), last = conv.outputs, len(conv.tensors)
    model = Model((*conv.tensors, model_builder.replace(conv.tensors[made], name="clamped")),
                  (*conv.operations, model_builder.OperationSpec("RELU6", (made,), (last,), {}, 2)),
                  conv.inputs, (last,))
    on_npu, on_cpu = make(module, model.data, deny="0"), make(module, model.data, device=None)
    np.testing.assert_array_equal(resized(on_npu, (70, 9, 8, 5)), resized(on_cpu, (70, 9, 8, 5)))


def test_other_rank(module):
    """A function of each element takes any rank."""
    model = model_builder.unary(np.random.default_rng(1), "RELU6", (1, 4, 4, 20))
    on_npu, on_cpu = make(module, model.data), make(module, model.data, device=None)
    for shape in ((1, 4, 4, 20), (3, 20), (2, 3, 4, 5, 6), (7,)):
        np.testing.assert_array_equal(resized(on_npu, shape), resized(on_cpu, shape))


def test_one_of_two_inputs(module):
    model = builders_move.concatenation([(1, 4, 6, 16), (1, 3, 6, 16)], 1)
    on_npu, on_cpu = make(module, model.data), make(module, model.data, device=None)
    for rows in (5, 1, 4):
        outputs = []
        for made in (on_npu, on_cpu):
            made.resize_tensor_input(made.get_input_details()[0]["index"], (1, rows, 6, 16))
            made.allocate_tensors()
            for detail in made.get_input_details():
                values = np.arange(np.prod(detail["shape"]), dtype=np.int64).reshape(detail["shape"])
                made.set_tensor(detail["index"], (values * 7 % 251 - 125).astype(np.int8))
            made.invoke()
            outputs.append(np.array(made.get_tensor(made.get_output_details()[0]["index"])))
        assert outputs[0].shape == (1, rows + 3, 6, 16)
        np.testing.assert_array_equal(*outputs)


def resident_kb() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def test_fifty_resizes_leave_nothing_behind(module, model, tmp_path, record_table):
    made = make(module, model.data, cache_dir=tmp_path / "cache", log_level="error")
    shapes = [(n, rows, 8, 5) for n in (1, 2, 3) for rows in (9, 40)]
    for _ in range(3):
        for shape in shapes:
            resized(made, shape)
    fds, maps, memory = len(os.listdir("/proc/self/fd")), device_maps(), resident_kb()
    for i in range(50):
        resized(made, shapes[i % len(shapes)])
    resized(made, shapes[-1])
    record_table("50 resizes", {"runtime": module.__name__, "fds": f"{fds} -> {len(os.listdir('/proc/self/fd'))}",
                                "mapped buffers": f"{maps} -> {device_maps()}",
                                "resident growth": f"{resident_kb() - memory} KiB"})
    assert len(os.listdir("/proc/self/fd")) == fds
    assert device_maps() == maps
    assert resident_kb() - memory < 1024    # the buffers of 50 programs would be 10 MB


def device_maps() -> int:
    """Memory shared with the simulated device."""
    return sum("memfd" in line or "cermet" in line for line in pathlib.Path("/proc/self/maps").read_text().splitlines()
               if ".so" not in line)


def with_free_batch(model: bytes) -> bytes:
    """The model with -1 for the batch in the constants of its RESHAPEs: what it was frozen with forbids any other."""
    changed = bytearray(model)
    root = tflite.Model.GetRootAsModel(changed, 0)
    graph = root.Subgraphs(0)
    for op in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        if root.OperatorCodes(op.OpcodeIndex()).DeprecatedBuiltinCode() == tflite.BuiltinOperator.RESHAPE:
            shape = root.Buffers(graph.Tensors(op.Inputs(1)).Buffer()).DataAsNumpy().view(np.int32)
            shape[0] = -1
    return bytes(changed)


@pytest.mark.parametrize("path", [path for path in reference_models() if "mobilenet_v1_0.25" in path.stem],
                         ids=lambda path: path.stem)
def test_mobilenet_with_four_images(module, path):
    """The same as one image after the other, and as TFLite's own."""
    model = with_free_batch(path.read_bytes())
    made, alone, on_cpu = make(module, model), make(module, model), make(module, model, device=None)
    (detail,) = made.get_input_details()
    shape = (4, *detail["shape"][1:])
    together, reference = resized(made, shape, 5), resized(on_cpu, shape, 5)
    assert together.shape == reference.shape == (4, 1001)
    np.testing.assert_array_equal(together, reference)
    alone.allocate_tensors()
    pictures = np.random.default_rng(5).integers(0, 256, shape).astype(detail["dtype"])
    for picture, result in zip(pictures, together, strict=True):
        alone.set_tensor(detail["index"], picture[None])
        alone.invoke()
        np.testing.assert_array_equal(alone.get_tensor(alone.get_output_details()[0]["index"])[0], result)
