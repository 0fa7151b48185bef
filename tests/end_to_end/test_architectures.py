"""Networks with the structure of known ones compile, run, and agree: each operation within 1 LSB of the numerics."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.support import interpreter
from tests.support.architectures import ARCHITECTURES, Builder
from tests.support.networks.check import check


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_agrees(name: str, dtype: str, record_table: Callable[[str, dict[str, object]], None]) -> None:
    """check() raises where an operation is off; outputs must not be saturated, else no difference would show."""
    build, side = ARCHITECTURES[name]
    builder = Builder(dtype, side)
    build(builder)
    model = builder.net.model()
    outcome = check(model)
    expected = interpreter.run(model.data, [outcome.values[model.tensors[t].name] for t in model.inputs])
    made = [outcome.values[model.tensors[t].name] for t in model.outputs]
    off = np.concatenate([np.abs(m.astype(int) - e).reshape(-1) for m, e in zip(made, expected, strict=True)])
    elements = sum(tally.elements for tally in outcome.alone.values())
    differing = sum(tally.ones for tally in outcome.alone.values())
    record_table("structures of known networks, random weights, simulated NPU against TFLite", {
        "network": name, "weights": "int8, per channel" if dtype == "int8" else "uint8",
        "operations on the NPU": f"{outcome.on_npu} of {outcome.operations}",
        "MACs": f"{outcome.macs_on_npu:.1%}", "partitions": outcome.partitions,
        "tasks": outcome.tasks, "equal, each operation": f"{1 - differing / elements:.3%}",
        "most": max(tally.largest for tally in outcome.alone.values()),
        "outputs equal, chained": f"{(off == 0).mean():.2%}", "most, chained": int(off.max())})
    info = np.iinfo(dtype)
    assert np.mean([(e == info.min).mean() + (e == info.max).mean() for e in expected]) < 0.5
    assert outcome.on_npu == outcome.operations, outcome.refused
