"""Element-wise operations between TRANSPOSEs are computed in the order of what was turned; results stay."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Kind
from cermet.ir.passes import run_passes
from cermet.ir.passes.cancel_moves import cancel_moves
from cermet.ir.passes.join_transposes import join_transposes
from cermet.ir.subgraph import Subgraph
from tests.support.model_builder import Model
from tests.support.sketch import Sketch

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)        # to channels first, and back
SHAPE = (1, 6, 5, 24)


class Drawing(Sketch):
    """A sketch with TRANSPOSEs."""

    def turned(self, x: int, order: Sequence[int]) -> int:
        shape = self.tensors[x].shape
        return self.op("TRANSPOSE", (x, self.constant(np.array(order, np.int32))), shape=[shape[i] for i in order])

    def nhwc(self, scale: float = 0.05, zero_point: int = 3) -> int:
        return self.input(SHAPE, scale, zero_point)

    def conv_like(self, x: int) -> int:
        """Something that no pass touches and that is not element-wise."""
        return self.op("MAX_POOL_2D", (x,), Padding=0, StrideW=1, StrideH=1, FilterWidth=3, FilterHeight=3)


def join(subgraph: Subgraph) -> Subgraph:
    return run_passes(subgraph, (lambda given: join_transposes(given, lambda *_: True),))


def activation(made: Drawing) -> Model:
    x = made.turned(made.conv_like(made.nhwc()), FIRST)
    x = made.op("TANH", (made.op("LEAKY_RELU", (x,), 0.04, -2, Alpha=0.1),), 1 / 128, 0)
    return made.model(made.conv_like(made.turned(x, LAST)))


def residual(made: Drawing) -> Model:
    """The turned tensor is read by the sum and, turned back, by a branch."""
    x = made.turned(made.conv_like(made.nhwc()), FIRST)
    branch = made.turned(made.conv_like(made.turned(x, LAST)), FIRST)
    total = made.op("ADD", (x, branch), 0.08, 1, activation="RELU")
    return made.model(made.conv_like(made.turned(total, LAST)))


def normalised(made: Drawing) -> Model:
    """Constants per channel, channels first, and one number."""
    x = made.turned(made.nhwc(), FIRST)
    gains = made.constant(np.arange(24).reshape(1, 24, 1, 1) * 5 - 60, 0.01)
    x = made.op("ADD", (made.op("MUL", (x, gains), 0.05, 0), made.constant(7, 0.1)), 0.06, -20)
    return made.model(made.turned(x, LAST))


def joined(made: Drawing) -> Model:
    parts = [made.turned(made.nhwc(), FIRST) for _ in range(2)]
    whole = made.op("CONCATENATION", parts, shape=(1, 48, 6, 5), Axis=-3)
    return made.model(made.turned(made.op("LOGISTIC", (whole,), 1 / 256, -128), LAST))


def there_back_and_there_again(made: Drawing) -> Model:
    """What turns one result back turns another one's operand."""
    x = made.turned(made.op("TANH", (made.turned(made.nhwc(), FIRST),), 1 / 128, 0), LAST)
    x = made.turned(made.op("LOGISTIC", (x,), 1 / 256, -128), FIRST)
    return made.model(made.turned(x, LAST))


CASES = {one.__name__: one for one in (activation, residual, normalised, joined, there_back_and_there_again)}


def results(subgraph: Subgraph, driver: object, model: Model) -> list[np.ndarray]:
    given = dict(zip(subgraph.inputs, model.random_inputs(np.random.default_rng(0)), strict=True))
    made = driver.execute(subgraph, given)          # type: ignore[attr-defined]
    return [made[t] for t in subgraph.outputs]


@pytest.mark.parametrize("name", CASES)
def test_no_transpose_is_left(name: str) -> None:
    model = CASES[name](Drawing())
    before = read_tflite(model.data)
    after = run_passes(join(before), (cancel_moves,))      # a tensor that is turned back at once
    assert Kind.TRANSPOSE not in {op.kind for op in after.operations}
    assert sorted({i for op in after.operations for i in (op.index, *op.fused)}) == list(range(len(before.operations)))
    (old,), (new,) = results(before, SoftDriver(), model), results(after, SoftDriver(), model)
    assert np.array_equal(old, new)


@pytest.mark.parametrize("name", CASES)
def test_on_the_npu(name: str) -> None:
    """One partition, no task moves anything, and the numerics' results."""
    model = CASES[name](Drawing())
    subgraph = read_tflite(model.data)
    compiled = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions())
    assert len(compiled.groups) == 1 and not compiled.refusals
    tasks = [task for program in compiled.programs for task in program.debug["tasks"]]      # type: ignore[attr-defined]
    assert not any("transpose" in task["layer"] for task in tasks)
    (soft,), (npu,) = results(subgraph, SoftDriver(), model), results(subgraph, RocketDriver(RK3588), model)
    assert np.array_equal(soft, npu)


def handed_out(made: Drawing) -> Model:
    x = made.op("TANH", (made.turned(made.nhwc(), FIRST),), 1 / 128, 0)
    return made.model(x, made.turned(x, LAST))


def turned_otherwise(made: Drawing) -> Model:
    x = made.op("TANH", (made.turned(made.nhwc(), FIRST),), 1 / 128, 0)
    return made.model(made.turned(x, FIRST))


def turned_unlike(made: Drawing) -> Model:
    cube = made.input((1, 6, 6, 6))
    total = made.op("ADD", (made.turned(cube, FIRST), made.turned(cube, LAST)), 0.1)
    return made.model(made.turned(total, LAST))


def one_is_not_turned(made: Drawing) -> Model:
    x = made.turned(made.nhwc(), FIRST)
    total = made.op("ADD", (x, made.input((1, 24, 6, 5))), 0.1)
    return made.model(made.turned(total, LAST))


def read_by_another(made: Drawing) -> Model:
    x = made.op("TANH", (made.turned(made.nhwc(), FIRST),), 1 / 128, 0)
    return made.model(made.turned(x, LAST), made.conv_like(x))


def constant_of_lower_rank(made: Drawing) -> Model:
    """It lies along the last axis, the columns."""
    x = made.turned(made.nhwc(), FIRST)
    x = made.op("ADD", (x, made.constant([1, 2, 3, 4, 5], 0.1)), 0.06)
    return made.model(made.turned(x, LAST))


@pytest.mark.parametrize("case", [handed_out, turned_otherwise, turned_unlike, one_is_not_turned, read_by_another,
                                  constant_of_lower_rank], ids=lambda case: case.__name__)
def test_what_stays(case) -> None:          # type: ignore[no-untyped-def]
    before = read_tflite(case(Drawing()).data)
    assert join(before) is before


def test_what_may_not_be_made_stays_and_the_rest_is_turned() -> None:
    made = Drawing()
    first, second = (made.turned(made.op(name, (made.turned(made.nhwc(), FIRST),), 1 / 128, 0), LAST)
                     for name in ("TANH", "LOGISTIC"))
    before = read_tflite(made.model(first, second).data)
    after = join_transposes(before, lambda _, op: op.name != "TANH")
    assert [op.name for op in after.operations] == ["TRANSPOSE", "TANH", "TRANSPOSE", "LOGISTIC", "RESHAPE"]


def test_an_operation_kept_on_the_cpu_keeps_its_transposes() -> None:
    model = activation(Drawing())
    subgraph = read_tflite(model.data)
    compiled = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions(deny=frozenset({"TANH"}), prefer="npu"))
    assert not compiled.faults and set(compiled.refusals) == {3}


def test_nonsense_stays() -> None:
    """Absent inputs, an order that fits nothing, a shape that is not the order's, an axis that there is not."""
    before = read_tflite(joined(Drawing()).data)
    first, _, whole, *_ = before.operations
    for broken in (replace(first, inputs=(None, first.inputs[1])), replace(first, inputs=first.inputs[:1]),
                   replace(whole, moving=None), replace(whole, moving=replace(whole.moving, axis=7))):
        kept = tuple(broken if op.index == broken.index else op for op in before.operations)
        model = replace(before, operations=kept)
        assert join_transposes(model, lambda *_: True) is model and cancel_moves(model) is model
    wrong = replace(before.tensor(first.output), shape=(1, 24, 5, 6))
    model = replace(before, tensors={**before.tensors, first.output: wrong})
    assert join_transposes(model, lambda *_: True) is model
