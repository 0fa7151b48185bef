"""SPLIT of channels that is read in place, and joined again where it lies: fewer tasks, the same numbers."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Kind
from cermet.ir.passes import run_passes
from cermet.ir.passes.rejoin_parts import rejoin_parts
from tests.support import builders_move as moves
from tests.support import interpreter
from tests.support.architectures import Builder
from tests.support.model_builder import Model
from tests.support.networks.check import check


def split_block(sizes: Sequence[int], dtype: str = "int8", *, order: Sequence[int] = (), plane: int = 9) -> Model:
    """C2f: a convolution, taken apart; two convolutions of the last part are added to it; all are joined."""
    b = Builder(dtype, plane, 8)
    whole = b.conv(b.input, sum(sizes), activation="RELU")
    parts = b.net.apply("split", whole, axis=3, sizes=tuple(sizes))
    last = parts[-1]
    inner = b.like(last, "conv", b.conv(last, 24, 3, 1, "RELU"), outputs=sizes[-1], kernel=(3, 3))
    tensor = b.net.tensor(last)
    total = b.net.one("binary", last, inner, scale=tensor.scale, zero=tensor.zero_point)
    joined = b.concatenation(*(parts[i] for i in order or range(len(parts))), total)
    b.conv(joined, 16)
    return b.net.model()


def tasks(model: Model) -> list[list[int]]:
    """Operations of each task."""
    program = RocketDriver(RK3588).compile(read_tflite(model.data), CompileOptions())
    return [task["operations"] for task in program.debug["tasks"]]      # type: ignore[attr-defined]


def kinds_with_tasks(model: Model) -> set[str]:
    return {model.operations[i].name for task in tasks(model) for i in task}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("sizes", [(16, 16), (32, 32), (32, 48), (16, 32, 20), (64, 64), (24, 24), (16, 7), (48, 1)],
                         ids=str)
def test_agrees(sizes: tuple[int, ...], dtype: str) -> None:
    """Aligned or not; check() raises where an operation is off, or where a place shows in a result."""
    model = split_block(sizes, dtype)
    outcome = check(model)
    assert outcome.on_npu == outcome.operations
    given = [outcome.values[model.tensors[t].name] for t in model.inputs]
    (expected,) = interpreter.run(model.data, given)
    assert np.array_equal(outcome.values[model.tensors[model.outputs[0]].name], expected)


@pytest.mark.parametrize("sizes", [(32, 32), (64, 64), (32, 64), (96, 32, 32)], ids=str)
def test_aligned_parts_take_no_task(sizes: tuple[int, ...]) -> None:
    """The first convolution writes into the joined tensor, the others read its parts there."""
    assert kinds_with_tasks(split_block(sizes)) == {"CONV_2D", "ADD"}


def test_parts_that_begin_inside_an_atom_are_moved() -> None:
    assert "SPLIT" in kinds_with_tasks(split_block((24, 24)))


def test_parts_in_another_order_are_joined_one_by_one() -> None:
    model = split_block((32, 32), order=(1, 0))
    assert "CONCATENATION" in kinds_with_tasks(model) or "SPLIT" in kinds_with_tasks(model)
    check(model)


def test_a_part_that_the_program_hands_out_is_copied() -> None:
    model = moves.split((1, 5, 4, 64), 3, (32, 32))
    assert len(tasks(model)) == 2
    check(model)


def joined_inputs(order: Sequence[int], sizes: Sequence[int] = (8, 4, 4), axis: int = 3, along: int = 3) -> list[str]:
    """A split tensor x and its parts a, b, c: what a CONCATENATION of x, some of them, and x reads after the pass."""
    b = Builder("int8", 16, 16)
    made = b.net.apply("split", b.input, axis=axis, sizes=tuple(sizes))
    b.concatenation(b.input, *(made[i] for i in order), b.input, axis=along)
    before = read_tflite(b.net.model().data)
    after = run_passes(before, (rejoin_parts,))
    names = {before.inputs[0]: "x", **dict(zip(before.operations[0].outputs, "abc", strict=False))}
    return [names[t] for op in after.operations if op.kind is Kind.CONCATENATION for t in op.inputs]    # type: ignore


@pytest.mark.parametrize("axis,sizes", [(3, (8, 8)), (1, (4, 12)), (2, (5, 5, 6))], ids=str)
def test_whole_and_in_order_the_parts_are_the_tensor(axis: int, sizes: tuple[int, ...]) -> None:
    assert joined_inputs(range(len(sizes)), sizes, axis, axis) == ["x", "x", "x"]


@pytest.mark.parametrize("order", ["ab", "bc", "acb", "aab", "cab", "bca"])
def test_some_parts_or_another_order_stay(order: str) -> None:
    assert joined_inputs(["abc".index(letter) for letter in order]) == ["x", *order, "x"]


def test_a_whole_among_others() -> None:
    assert joined_inputs((1, 0, 1, 2, 0)) == ["x", "b", "x", "a", "x"]


def test_parts_along_another_axis_stay() -> None:
    b = Builder("int8", 8, 8)
    b.concatenation(*b.net.apply("split", b.input, axis=3, sizes=(4, 4)), axis=1)
    before = read_tflite(b.net.model().data)
    assert run_passes(before, (rejoin_parts,)) is before
