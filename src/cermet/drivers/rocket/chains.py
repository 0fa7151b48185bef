"""Which chains of element-wise operations run as one look-up."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from cermet.drivers.rocket.eltwise import is_affine
from cermet.drivers.rocket.eltwise_affine import is_exact, question_of
from cermet.drivers.rocket.eltwise_operands import channel_values, roles_of
from cermet.drivers.rocket.passes.fuse_unary import HOST_KINDS
from cermet.drivers.rocket.rules import Query, first_refusal
from cermet.drivers.rocket.support import refusal_of
from cermet.drivers.rocket.unary_rules import QUANTIZE_RULES
from cermet.hw.soc import Soc
from cermet.ir.elementwise import Chain, quantised_source
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph


def can_look_up(soc: Soc, subgraph: Subgraph, chain: Chain) -> bool:
    """Whether a chain's source and end keep the rules of a look-up."""
    source = quantised_source(subgraph.tensor(chain.source))
    last = chain.operations[-1]
    table = Operation(last.index, Kind.TABLE, "TABLE", (chain.source,), (chain.end,))
    subgraph = replace(subgraph, tensors={**subgraph.tensors, chain.source: source})
    return first_refusal(QUANTIZE_RULES, Query(soc, subgraph, table)) is None


def is_worth_a_look_up(soc: Soc, subgraph: Subgraph, match: str, chain: Chain) -> bool:
    """A look-up is one task however long the chain is, none behind a convolution, and exact where stages are not."""
    (*others, last) = chain.operations
    if others or last.kind in UNARY_KINDS:
        return bool(others)
    if refusal_of(soc, subgraph, last) is not None or not _is_exact(subgraph, match, last):
        return True
    host = subgraph.producer(chain.source)
    return host is not None and host.kind in HOST_KINDS and chain.source not in subgraph.outputs \
        and subgraph.consumers(chain.source) == (last,)


def _is_exact(subgraph: Subgraph, match: str, operation: Operation) -> bool:
    """Whether the operation's own lowering equals the numerics for all 256 values."""
    if operation.kind in (Kind.MAXIMUM, Kind.MINIMUM):
        return True
    roles = roles_of(subgraph, operation)
    if roles is None or not is_affine(operation, roles):
        return False
    values = np.unique(channel_values(subgraph.tensor(operation.inputs[roles.other]),
                                      subgraph.tensor(operation.output)))
    return is_exact(question_of(subgraph, operation, roles.other, values), match)
