"""Random networks through the delegate on the simulated NPU: every operation within 1 LSB of exact, given its inputs.

A network runs twice: as it is, and with every tensor that exists in memory as an output, to look at each operation
alone. Both must give the same bytes, for how tensors are placed must not show in results.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from cermet import paths
from cermet.compiler import Compiled, compile_subgraph
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.passes.fuse_add import fuse_adds
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from tests.end_to_end.random_networks import random_network
from tests.support import exact
from tests.support.model_builder import Model

tflite = pytest.importorskip("tflite_runtime.interpreter")

NUM_NETWORKS = 30           # through the delegate, each compiled twice in a process of its own: 1 s each
NUM_WITHOUT_RUNTIME = 250   # on the simulated core in this process
DRIVER = RocketDriver(RK3588)
Values = dict[int, np.ndarray]
counts: Counter[tuple[str, str]] = Counter()
worst: Counter[str] = Counter()


def run(model: Model, inputs: list[np.ndarray]) -> Values:
    """The model's outputs by tensor number."""
    delegate = tflite.load_delegate(str(paths.library("libcermet_delegate.so")), {"device": "sim"})
    interpreter = tflite.Interpreter(model_content=model.data, experimental_delegates=[delegate],
                                     experimental_op_resolver_type=tflite.OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for number, value in zip(model.inputs, inputs, strict=True):
        interpreter.set_tensor(number, value)
    interpreter.invoke()
    return {number: np.array(interpreter.get_tensor(number)) for number in model.outputs}


def fused_with(compiled: Compiled, match: str) -> dict[int, int]:
    """ADD -> the convolution that it runs behind, both as indices of operations."""
    operations = {operation.index: operation for operation in compiled.subgraph.operations}
    parts = [compiled.subgraph.extract(operations[i] for i in group) for group in compiled.groups]
    return {add: made.convolution.index for part in parts for add, made in fuse_adds(part, match).items()}


def distance(model: Model, index: int, values: Mapping[int, np.ndarray], host: int | None) -> np.ndarray:
    """LSBs between an operation's output and the exact one.

    Of a sum behind a convolution: the nearest of the exact sums for the convolution's exact result, and for it one LSB
    lower and higher.
    """
    operation = model.operations[index]
    got = values[operation.outputs[0]].astype(np.int64)
    if host is None:
        return np.abs(got - exact.operation(model, operation, dict(values)).quantised)
    convolution = model.operations[host]
    inner = exact.operation(model, convolution, dict(values)).quantised
    info = np.iinfo(inner.dtype)
    near = [np.clip(inner.astype(int) + step, info.min, info.max).astype(inner.dtype) for step in (0, -1, 1)]
    sums = [exact.operation(model, operation, {**values, convolution.outputs[0]: n}).quantised for n in near]
    return np.min([np.abs(got - s) for s in sums], axis=0)


@pytest.mark.parametrize("seed", range(NUM_NETWORKS))
def test_every_operation_through_the_delegate_is_within_1_lsb_of_exact(seed: int) -> None:
    model = random_network(seed)
    inputs = model.random_inputs(np.random.default_rng(seed))
    compiled = compile_subgraph(read_tflite(model.data), DRIVER, CompileOptions())
    assert not compiled.faults
    check(model, inputs, compiled, run)


@pytest.mark.parametrize("first_seed", range(NUM_NETWORKS, NUM_NETWORKS + NUM_WITHOUT_RUNTIME, 25))
def test_every_operation_on_the_simulated_core_is_within_1_lsb_of_exact(first_seed: int) -> None:
    """Networks of which the NPU takes all, rounded as either option `match` says."""
    assert check_here(range(first_seed, first_seed + 25), "on") > 10


def test_proven_parts_alone_are_within_1_lsb_of_exact() -> None:
    """The ways that assume=off takes where it refuses nothing."""
    assert check_here(range(9000, 9060), "off") > 10


def check_here(seeds: range, assume: str) -> int:
    """How many of the networks the NPU takes whole; each of their operations is compared."""
    taken = 0
    for seed in seeds:
        options = CompileOptions(match="exact" if seed % 3 == 0 else "tflite", assume=assume)
        model = random_network(seed)
        compiled = compile_subgraph(read_tflite(model.data), DRIVER, options)
        assert not compiled.faults, f"seed {seed}"
        if compiled.refusals or len(compiled.groups) > 1:
            continue
        taken += 1
        check(model, model.random_inputs(np.random.default_rng(seed)), compiled,
              lambda model, inputs, options=options: run_here(model, inputs, options), f"seed {seed}, ",
              options.match)
    return taken


def run_here(model: Model, inputs: list[np.ndarray], options: CompileOptions) -> Values:
    """The model's outputs by tensor number, without a runtime."""
    subgraph = read_tflite(model.data)
    names = {tensor.name: number for number, tensor in enumerate(model.tensors)}
    values = {model.tensors[number].name: value for number, value in zip(model.inputs, inputs, strict=True)}
    made = DRIVER.execute(subgraph, {t: values[subgraph.tensor(t).name] for t in subgraph.inputs}, options)
    return {names[subgraph.tensor(t).name]: value for t, value in made.items()}


def check(model: Model, inputs: list[np.ndarray], compiled: Compiled, run_model: Callable[..., Values],
          place: str = "", match: str = "tflite") -> None:
    """Runs the model with its own outputs and with all; every operation on the NPU is compared."""
    fused = fused_with(compiled, match)
    visible = tuple(op.outputs[0] for i, op in enumerate(model.operations) if i not in fused.values())
    values = run_model(replace(model, outputs=visible), inputs)
    for number, value in run_model(model, inputs).items():
        assert np.array_equal(value, values[number]), f"{place}tensor {number} depends on what else is an output"
    values |= dict(zip(model.inputs, inputs, strict=True))
    values |= {i: t.data for i, t in enumerate(model.tensors) if t.data is not None}
    for index, operation in enumerate(model.operations):
        if operation.outputs[0] not in visible or index in compiled.refusals:
            continue
        off = distance(model, index, values, fused.get(index))
        name = "CONV_2D and ADD" if index in fused else operation.name
        counts.update({(name, "operations"): 1, (name, "elements"): off.size, (name, "ones"): int((off == 1).sum())})
        worst[name] = max(worst[name], int(off.max()))
        assert off.max() <= 1, f"{place}operation {index} ({name})"


def test_all_kinds_of_operations_took_part(record_table: Callable[..., None]) -> None:
    """Says how often 1 LSB occurs. Most networks lie on the NPU as a whole; all kinds of operations occurred."""
    for name in sorted(worst):
        elements, ones = counts[name, "elements"], counts[name, "ones"]
        record_table("Random networks on the simulated NPU against exact arithmetic", {
            "operation": name, "operations": counts[name, "operations"], "elements": elements,
            "off by 1": f"{ones / elements:.4%}", "largest": worst[name]})
    assert len(worst) == 10
