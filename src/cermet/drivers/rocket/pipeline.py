"""The passes over a subgraph, in their order.

Some decide what can run: with a chain of float operations looked up, all of its operations do, without it none. Those
run first, over the whole model before the support rules are asked, and over each group before it is lowered. A group
holds everything that such a pass has put together, so that the pass finds there what it found in the model.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.chains import can_look_up, is_worth_a_look_up
from cermet.drivers.rocket.passes.drop_identities import drop_identities
from cermet.drivers.rocket.support import refusal_of
from cermet.hw.soc import Soc
from cermet.ir.operation import Operation
from cermet.ir.passes import Pass
from cermet.ir.passes.cancel_moves import cancel_moves
from cermet.ir.passes.drop_dead import drop_dead
from cermet.ir.passes.explicit_padding import explicit_padding
from cermet.ir.passes.fold_activation import fold_activation
from cermet.ir.passes.fold_dilation import fold_dilations
from cermet.ir.passes.fold_pad import fold_pad
from cermet.ir.passes.join_transposes import join_transposes
from cermet.ir.passes.merge_duplicates import merge_duplicates
from cermet.ir.passes.rejoin_parts import rejoin_parts
from cermet.ir.passes.sink_transpose import sink_transposes
from cermet.ir.passes.tabulate import Wanted, tabulate
from cermet.ir.subgraph import Subgraph


def deciding_passes(soc: Soc, options: CompileOptions) -> tuple[Pass, ...]:
    """Those whose result the support rules are asked about. What they put together carries all indices (`fused`).

    Look-ups are parts without proof on silicon, which an option refuses.
    """
    looked_up = (partial(_tabulate, soc, options.match),) if options.assume == "on" else ()
    return *looked_up, *_asking(soc, fold_dilations, join_transposes, cancel_moves, sink_transposes)


def lowering_passes(soc: Soc) -> tuple[Pass, ...]:
    """The others, for a group that is about to be lowered: what they make need not keep the rules for models."""
    return (explicit_padding, fold_pad, *_asking(soc, fold_activation), merge_duplicates, *_asking(soc, rejoin_parts),
            drop_identities, drop_dead)


def _asking(soc: Soc, *passes: Callable[..., Subgraph]) -> tuple[Pass, ...]:
    """Passes that put together only what the support rules accept."""
    return tuple(partial(one, accepts=partial(can_run, soc)) for one in passes)


def can_run(soc: Soc, subgraph: Subgraph, operation: Operation) -> bool:
    """Whether the rules let an operation run here."""
    return refusal_of(soc, subgraph, operation) is None


def _tabulate(soc: Soc, match: str, subgraph: Subgraph) -> Subgraph:
    return tabulate(subgraph, match, Wanted(partial(can_look_up, soc, subgraph),
                                            partial(is_worth_a_look_up, soc, subgraph, match)))
