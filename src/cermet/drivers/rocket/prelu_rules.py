"""Support rules of PRELU. What a rule is: rules.py."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from cermet.drivers.rocket.flying import MAX_CUBE
from cermet.drivers.rocket.prelu import slopes_of
from cermet.drivers.rocket.rules import ACTIVATION_RULES, Query, Rule
from cermet.drivers.rocket.unary_rules import output_has_the_inputs_shape, rows_fit_one_cube
from cermet.ir.numerics_prelu import prelu
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType


def slopes_are_constant(query: Query) -> str | None:
    """The slopes are a constant of the input's type with one scale above 0."""
    if len(query.operation.inputs) != 2 or query.operation.inputs[1] is None:
        return "has no slopes"
    slopes = query.subgraph.tensor(query.operation.inputs[1])
    if not slopes.is_constant or slopes.dtype is not query.data.dtype:
        return f"its slopes are {slopes.dtype.value}, must be constants of {query.data.dtype.value}"
    q = slopes.quantisation
    is_plain = q is not None and len(q.scales) == len(q.zero_points) == 1 and 1e-30 < q.scales[0] < 1e30
    return None if is_plain else "its slopes are not quantised per tensor"


def slopes_are_per_channel(query: Query) -> str | None:
    """There is one slope for each channel, or one for all, and at most 8192 channels."""
    shape, channels = query.subgraph.tensor(query.operation.inputs[1]).shape, query.output.shape[-1:]
    if any(d != 1 for d in shape[:-1]) or shape[-1:] not in ((1,), channels, ()):
        return f"its slopes have shape {list(shape)}, must be one for each channel or one for all"
    return None if channels and channels[0] <= MAX_CUBE else f"channels {list(channels)} must be 1..{MAX_CUBE}"


def slopes_are_exact_to_one_step(query: Query) -> str | None:
    """The scales allow multipliers with which no result is off by more than one output step."""
    made = slopes_of(query.subgraph, query.operation)
    if made is not None and np.abs(made.results() - _expected(query)).max() <= 1:
        return None
    return "its scales and slopes do not fit the multipliers: results could be off by more than one step"


def _expected(query: Query) -> np.ndarray:
    """[channels][256] exact results in the signed domain, for all input values in ascending order."""
    offset = 128 if query.data.dtype is DType.UINT8 else 0
    channels = query.output.shape[-1]
    values = (np.arange(-128, 128) + offset).astype(query.data.dtype.numpy)[:, None]
    shape = (256, channels)
    operation, slopes = query.operation, query.subgraph.tensor(query.operation.inputs[1])
    assert slopes.data is not None and operation.inputs[0] is not None
    flat = replace(slopes, shape=(slopes.num_elements,), data=slopes.data.reshape(-1))
    tensors = {t.index: t for t in (replace(query.data, shape=shape), replace(query.output, shape=shape), flat)}
    alone = Subgraph(tensors, (operation,), (query.data.index,), (query.output.index,))
    data = {operation.inputs[0]: np.broadcast_to(values, shape)}
    return prelu(alone, operation, data, "exact").astype(np.int64).T - offset


PRELU_RULES: tuple[Rule, ...] = (
    *ACTIVATION_RULES, slopes_are_constant, slopes_are_per_channel, output_has_the_inputs_shape, rows_fit_one_cube,
    slopes_are_exact_to_one_step)
