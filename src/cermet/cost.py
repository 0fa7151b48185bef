"""What an operation costs on the CPU, and the data that crosses a partition's border: estimates in microseconds.

All of it is ASSUMED for one fast core (Cortex-A76) with TFLite's optimised kernels; only the conversions have
measurements behind them. It only has to tell clear losses from the rest, see CLEAR_LOSS.
"""
from __future__ import annotations

from collections.abc import Iterable

from cermet.ir.macs import count_macs
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType

CLEAR_LOSS = 2.0                # a partition is left to the CPU when the NPU takes this many times its time: ASSUMED
NODE_US = 1.0                   # to call a kernel: ASSUMED
MACS_PER_US = 25_000            # CONV_2D, FULLY_CONNECTED: ASSUMED
DEPTHWISE_MACS_PER_US = 5_000   # ASSUMED
# Output elements, or input elements where there are more. Half for functions by table or in floating point.
ELEMENTS_PER_US = 1_000         # ASSUMED
TABLE_KINDS = (Kind.LOGISTIC, Kind.TANH, Kind.HARD_SWISH, Kind.GELU, Kind.ELU, Kind.EXP, Kind.LOG)
SLOW_KINDS = {**dict.fromkeys(TABLE_KINDS, 500), Kind.RESIZE_BILINEAR: 200}      # ASSUMED
VIEWS = frozenset({Kind.RESHAPE, Kind.SQUEEZE})
# Between the model's layout and the NPU's. ASSUMED: half of the speed of memcpy, of which the conversions without AVX2
# have 0.4 to 0.9 in memory on a PC (tools/bench/convert.py); a Cortex-A76 of the RK3588 copies 10 GB/s, a Cortex-A55
# 5.9 (sbc-bench, results/reviews/Radxa-Rock-5B.md).
CONVERTED_BYTES_PER_US = 5_000


def cpu_us(subgraph: Subgraph, operation: Operation) -> float:
    """One operation on the CPU."""
    if operation.kind in VIEWS:
        return NODE_US
    macs = count_macs(subgraph, operation)
    if macs:
        rate = DEPTHWISE_MACS_PER_US if operation.kind is Kind.DEPTHWISE_CONV else MACS_PER_US
        return NODE_US + macs / rate
    rate = SLOW_KINDS.get(operation.kind, ELEMENTS_PER_US)
    return NODE_US + max(_elements(subgraph, operation.inputs), _elements(subgraph, operation.outputs)) / rate


def _elements(subgraph: Subgraph, tensors: Iterable[int | None]) -> int:
    return sum(tensor.num_elements for t in set(tensors) - {None} if not (tensor := subgraph.tensor(t)).is_constant)


def border_bytes(part: Subgraph) -> tuple[int, int]:
    """Bytes that enter and leave a partition, by the model's own layout."""
    return tensor_bytes(part, part.inputs), tensor_bytes(part, part.outputs)


def conversion_us(part: Subgraph) -> float:
    """Both conversions of a partition."""
    return sum(border_bytes(part)) / CONVERTED_BYTES_PER_US


def tensor_bytes(subgraph: Subgraph, tensors: Iterable[int]) -> int:
    """Types without numbers count nothing."""
    found = [subgraph.tensor(t) for t in tensors]
    return sum(0 if t.dtype is DType.OTHER else t.num_elements * t.dtype.numpy.itemsize for t in found)
