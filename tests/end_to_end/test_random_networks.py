"""Random networks through the delegate in both runtimes: the bytes that the compiler's own run of them gives.

test_random_graphs.py compares that run with the numerics, operation by operation.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet import paths
from tests.support import interpreter
from tests.support.model_builder import Model
from tests.support.networks.check import check
from tests.support.networks.draw import draw
from tests.support.networks.recipe import Recipe

NUM_NETWORKS = 40       # each compiled in a process of its own: 1 s each
counts: Counter[str] = Counter()


def options(recipe: Recipe) -> dict[str, str]:
    deny = {"deny": "+".join(recipe.deny)} if recipe.deny else {}
    return {"device": "sim", "match": recipe.match, "assume": recipe.assume, "prefer": "npu", **deny}


def is_known_to(runtime: str, model: Model) -> bool:
    """tflite-runtime 2.14 has no ELU and no LOG of int8."""
    try:
        interpreter.make_interpreter(model.data, runtime=runtime)
    except (RuntimeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("seed", range(NUM_NETWORKS))
def test_through_the_delegate(seed: int) -> None:
    """What stays on the CPU has the numerics of the runtime, and those of this compiler are TFLite 2.14's."""
    recipe = draw(seed)
    model = recipe.model()
    if seed % 2 == 0 and is_known_to("tflite", model):
        runtime, recipe = "tflite", replace(recipe, match="tflite")
    else:
        runtime, recipe = "litert", replace(recipe, assume="on", deny=())
    here = check(model, recipe.seed, recipe.match, assume=recipe.assume, deny=recipe.deny)
    if runtime == "litert" and here.on_npu < here.operations:
        pytest.skip("some operations stay on the CPU")
    delegate = interpreter.load_delegate(paths.library("libcermet_delegate.so"), options(recipe), runtime=runtime)
    made = interpreter.make_interpreter(model.data, runtime=runtime, delegates=[delegate])
    assert sum(op["op_name"] == "DELEGATE" for op in made._get_ops_details()) == here.partitions
    interpreter.invoke(made, [_input(here.values, model, number) for number in model.inputs])
    for number, detail in zip(model.outputs, made.get_output_details(), strict=True):
        np.testing.assert_array_equal(made.get_tensor(detail["index"]), here.values[model.tensors[number].name])
    counts.update({"networks": 1, runtime: 1, "operations": here.operations, "operations on the NPU": here.on_npu,
                   "partitions": here.partitions, "tasks": here.tasks})


def _input(values: dict[str, np.ndarray], model: Model, number: int) -> np.ndarray:
    """Of an input that nobody reads: anything."""
    tensor = model.tensors[number]
    return values.get(tensor.name, np.zeros(tensor.shape, tensor.dtype))


def test_most_ran(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Says what was compared."""
    record_table("random networks through the delegate, equal to the compiler's own run", dict(counts))
    assert counts["networks"] > 0.8 * NUM_NETWORKS
