"""What converters write in several operations runs in as few tasks as its roundings allow, and equals TFLite."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from tests.support import interpreter
from tests.support.architectures import Builder
from tests.support.networks.check import check


def gate(b: Builder, value: int) -> int:
    """relu6(x + 3) / 6, with other constants."""
    shifted = b.constant("ADD", value, per_channel=False, activation="RELU6", scale=3 / 127)
    return b.constant("MUL", shifted, per_channel=False, scale=1 / 6 / 127)


def hard_swish(b: Builder) -> None:
    """x * relu6(x + 3) / 6 behind a convolution."""
    x = b.conv(b.input, 24)
    b.binary("MUL", x, gate(b, x))


def swish(b: Builder) -> None:
    b.swish(b.conv(b.input, 24))


def squeeze_and_excite(b: Builder) -> None:
    b.excite(b.depthwise(b.input, 3, 1, "RELU"), 8, lambda value: gate(b, value))


def squeeze_and_excite_with_logistic(b: Builder) -> None:
    b.excite(b.depthwise(b.input, 3, 1, "RELU"), 8, lambda value: b.unary(value, "LOGISTIC"), b.swish)


# Operations of each task. Sums behind look-ups and look-ups behind convolutions would round once where TFLite does
# so twice: match=tflite keeps them apart.
WANTED = {
    hard_swish: [["CONV_2D"], ["ADD", "MUL", "MUL"]],
    swish: [["CONV_2D"], ["LOGISTIC", "MUL"]],
    squeeze_and_excite: [["DEPTHWISE_CONV_2D"], ["MEAN"], ["CONV_2D"], ["CONV_2D"], ["ADD", "MUL"], ["MUL"]],
    squeeze_and_excite_with_logistic: [["DEPTHWISE_CONV_2D"], ["MEAN"], ["CONV_2D"], ["LOGISTIC", "MUL"], ["CONV_2D"],
                                       ["LOGISTIC"], ["MUL"]]}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("pattern", WANTED, ids=lambda pattern: pattern.__name__)
def test_tasks(pattern: Callable[[Builder], None], dtype: str) -> None:
    b = Builder(dtype, 12, 16)
    b.count = 9         # seeds whose constants leave the gates open
    pattern(b)
    model = b.net.model()
    program = RocketDriver(RK3588).compile(read_tflite(model.data), CompileOptions())
    tasks = [sorted(model.operations[i].name for i in task["operations"])
             for task in program.debug["tasks"]]                    # type: ignore[attr-defined]
    assert tasks == WANTED[pattern]
    outcome = check(model)
    (expected,) = interpreter.run(model.data, [outcome.values[model.tensors[t].name] for t in model.inputs])
    off = np.abs(outcome.values[model.tensors[model.outputs[0]].name].astype(int) - expected)
    assert len(np.unique(expected)) > 20
    assert off.max() <= 1 and (off > 0).mean() < 0.01
