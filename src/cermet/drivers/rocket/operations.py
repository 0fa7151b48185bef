"""The table of operations: for each kind its support rules and its lowering; each subject has a file of its own."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cermet.drivers.rocket.chain_rules import CHAIN_RULES, lower_chain
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.depthwise import lower_depthwise
from cermet.drivers.rocket.eltwise import lower_binary
from cermet.drivers.rocket.eltwise_rules import COMPARE_RULES, PRODUCT_RULES, SUM_RULES
from cermet.drivers.rocket.fully_connected import lower_fully_connected
from cermet.drivers.rocket.grouped import lower_conv
from cermet.drivers.rocket.max_pooling import lower_max_pool
from cermet.drivers.rocket.moving_lower import lower_moves
from cermet.drivers.rocket.moving_rules import MOVE_RULES
from cermet.drivers.rocket.pooling import lower_average_pool
from cermet.drivers.rocket.pooling_rules import AVERAGE_POOL_RULES, MAX_POOL_RULES
from cermet.drivers.rocket.prelu import lower_prelu
from cermet.drivers.rocket.prelu_rules import PRELU_RULES
from cermet.drivers.rocket.reduction import lower_reduction
from cermet.drivers.rocket.reduction_rules import ADDING_RULES, EXTREME_RULES
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.resize import BILINEAR_RULES, lower_resize_bilinear
from cermet.drivers.rocket.rules import Rule
from cermet.drivers.rocket.rules_conv import CONV_RULES, DEPTHWISE_RULES
from cermet.drivers.rocket.rules_fully_connected import BATCH_MATMUL_RULES, FULLY_CONNECTED_RULES
from cermet.drivers.rocket.rules_view import VIEW_RULES
from cermet.drivers.rocket.transposed import lower_transpose_conv
from cermet.drivers.rocket.transposed_rules import TRANSPOSE_CONV_RULES
from cermet.drivers.rocket.unary import lower_unary
from cermet.drivers.rocket.unary_rules import QUANTIZE_RULES, UNARY_RULES
from cermet.drivers.rocket.view import lower_view
from cermet.ir.moves import LAYOUTS
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind, Operation
from cermet.ir.reductions import EXTREMES

Lowering = Callable[[Context, Operation], list[TaskProgram]]


@dataclass(frozen=True)
class Entry:
    """rules: all must hold; lower: turns an operation that keeps them into tasks."""

    rules: tuple[Rule, ...]
    lower: Lowering


OPERATIONS: Mapping[Kind, Entry] = {
    Kind.CONV: Entry(CONV_RULES, lower_conv),
    Kind.DEPTHWISE_CONV: Entry(DEPTHWISE_RULES, lower_depthwise),
    Kind.FULLY_CONNECTED: Entry(FULLY_CONNECTED_RULES, lower_fully_connected),
    Kind.BATCH_MATMUL: Entry(BATCH_MATMUL_RULES, lower_fully_connected),
    Kind.TRANSPOSE_CONV: Entry(TRANSPOSE_CONV_RULES, lower_transpose_conv),
    Kind.ADD: Entry(SUM_RULES, lower_binary),
    Kind.SUB: Entry(SUM_RULES, lower_binary),
    Kind.MUL: Entry(PRODUCT_RULES, lower_binary),
    Kind.MAXIMUM: Entry(COMPARE_RULES, lower_binary),
    Kind.MINIMUM: Entry(COMPARE_RULES, lower_binary),
    Kind.AVERAGE_POOL: Entry(AVERAGE_POOL_RULES, lower_average_pool),
    Kind.MAX_POOL: Entry(MAX_POOL_RULES, lower_max_pool),
    Kind.MEAN: Entry(ADDING_RULES, lower_reduction),
    Kind.SUM: Entry(ADDING_RULES, lower_reduction),
    **dict.fromkeys(EXTREMES, Entry(EXTREME_RULES, lower_reduction)),
    Kind.RESHAPE: Entry(VIEW_RULES, lower_view),
    Kind.SQUEEZE: Entry(VIEW_RULES, lower_view),
    Kind.EXPAND_DIMS: Entry(VIEW_RULES, lower_view),
    **dict.fromkeys(LAYOUTS, Entry(MOVE_RULES, lower_moves)),
    Kind.RESIZE_BILINEAR: Entry(BILINEAR_RULES, lower_resize_bilinear),
    **dict.fromkeys(UNARY_KINDS, Entry(UNARY_RULES, lower_unary)),
    **dict.fromkeys((Kind.QUANTIZE, Kind.TABLE), Entry(QUANTIZE_RULES, lower_unary)),
    Kind.PRELU: Entry(PRELU_RULES, lower_prelu),
    **dict.fromkeys((Kind.CAST, Kind.DEQUANTIZE, Kind.DIV, Kind.SQRT, Kind.RSQRT, Kind.SQUARE, Kind.NEG, Kind.SIN,
                     Kind.COS, Kind.FLOOR, Kind.CEIL, Kind.ROUND), Entry(CHAIN_RULES, lower_chain)),
}
