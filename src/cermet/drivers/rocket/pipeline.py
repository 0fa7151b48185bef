"""The passes over a subgraph, in their order.

Some decide what can run: with a chain of float operations looked up, all of its operations do, without it none. Those
run first, over the whole model before the support rules are asked, and over each group before it is lowered. A group
holds everything that such a pass has put together, so that the pass finds there what it found in the model.
"""
from __future__ import annotations

from functools import partial

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.chains import can_look_up, is_worth_a_look_up
from cermet.drivers.rocket.passes.drop_identities import drop_identities
from cermet.drivers.rocket.support import refusal_of
from cermet.hw.soc import Soc
from cermet.ir.passes import Pass
from cermet.ir.passes.fold_dilation import fold_dilations
from cermet.ir.passes.fold_pad import fold_pad
from cermet.ir.passes.sink_transpose import sink_transposes
from cermet.ir.passes.tabulate import Wanted, tabulate
from cermet.ir.subgraph import Subgraph


def deciding_passes(soc: Soc, options: CompileOptions) -> tuple[Pass, ...]:
    """Those whose result the support rules are asked about. What they put together carries all indices (`fused`).

    Look-ups are parts without proof on silicon, which an option refuses.
    """
    looked_up = (partial(_tabulate, soc, options.match),) if options.assume == "on" else ()
    return *looked_up, partial(_fold_dilations, soc), partial(_sink_transposes, soc)


def passes(soc: Soc, options: CompileOptions) -> tuple[Pass, ...]:
    """All of them, for a group that is about to be lowered."""
    return (*deciding_passes(soc, options), fold_pad, drop_identities)


def _fold_dilations(soc: Soc, subgraph: Subgraph) -> Subgraph:
    return fold_dilations(subgraph, lambda folded, conv: refusal_of(soc, folded, conv) is None)


def _sink_transposes(soc: Soc, subgraph: Subgraph) -> Subgraph:
    return sink_transposes(subgraph, lambda sunk, operation: refusal_of(soc, sunk, operation) is None)


def _tabulate(soc: Soc, match: str, subgraph: Subgraph) -> Subgraph:
    return tabulate(subgraph, match, Wanted(partial(can_look_up, soc, subgraph),
                                            partial(is_worth_a_look_up, soc, subgraph, match)))
