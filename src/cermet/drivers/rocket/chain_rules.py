"""Operations that run only as part of a chain of element-wise ones, which a pass turns into one look-up."""
from __future__ import annotations

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.rules import Query, Rule
from cermet.ir.operation import Operation


def stands_in_a_chain(query: Query) -> str | None:
    """Element by element, with constants that are one number, it computes what lies between two 8-bit tensors: \
DEQUANTIZE, SQRT, QUANTIZE, say. Such a chain is one function of 256 values, which the NPU looks up."""
    return "no chain of element-wise operations on one 8-bit tensor leads through it to an 8-bit tensor"


CHAIN_RULES: tuple[Rule, ...] = (stands_in_a_chain,)


def lower_chain(context: Context, operation: Operation) -> list[TaskProgram]:
    """Never asked for: the pass tabulate has replaced the operation. CompileError, should it not have."""
    raise CompileError(f"lowering of {operation}: its chain was torn apart, a rule should have refused")
