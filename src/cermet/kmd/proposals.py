"""The ioctls of each proposal that behaviour.py names."""
from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from cermet.kmd import queue_ioctls, syncobj_ioctls

PROPOSED_IOCTLS: Mapping[str, tuple[ModuleType, ...]] = {
    "queues": (syncobj_ioctls, queue_ioctls),
}
