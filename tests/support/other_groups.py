"""Simulated NPUs whose register groups swap otherwise than the simulator takes for granted."""
from __future__ import annotations

from typing import Any

import pytest

from cermet.sim.core import Core
from cermet.sim.registers import BIT_OF_BLOCK, BlockState

_launch = Core._launch


def _without_swapping(block: BlockState) -> tuple[int, int]:
    return block.pointer, block.executer


def _swapping_all(core: Core, mask: int, *others: Any) -> None:
    _launch(core, mask, *others)
    for name, bit in BIT_OF_BLOCK.items():
        if not mask & bit:
            core.files.blocks[name].launch()


def one_group(patch: pytest.MonkeyPatch) -> None:
    """Nothing swaps: as if registers were not doubled."""
    patch.setattr(BlockState, "launch", _without_swapping)


def all_swap(patch: pytest.MonkeyPatch) -> None:
    """Every start swaps the groups of all blocks."""
    patch.setattr(Core, "_launch", _swapping_all)
