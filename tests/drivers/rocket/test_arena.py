"""The arena: buffers that live at the same time never overlap, whatever their sizes and lifetimes."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from cermet.drivers.rocket.layout import round_up
from cermet.drivers.rocket.placement.arena import ALIGNMENT_BYTES, Lifetime, lifetimes, place


@pytest.mark.parametrize("seed", range(60))
def test_live_buffers_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    buffers = []
    for i in range(int(rng.integers(1, 60))):
        first = int(rng.integers(0, 40))
        buffers.append(Lifetime(f"b{i}", int(rng.integers(1, 5000)), first, first + int(rng.integers(0, 8))))
    offsets, size = place(buffers)
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in offsets.values())
    for a, b in itertools.combinations(buffers, 2):
        if a.overlaps(b):
            first, second = sorted((a, b), key=lambda buffer: offsets[buffer.name])
            assert offsets[first.name] + first.size_bytes <= offsets[second.name]
    assert size >= max(offsets[b.name] + b.size_bytes for b in buffers)
    most = max(sum(round_up(b.size_bytes, ALIGNMENT_BYTES) for b in buffers if b.first_task <= t <= b.last_task)
               for t in range(50))
    assert most <= size <= 1.5 * most       # largest over these seeds: 1.36


def test_a_chain_needs_two_buffers_at_a_time() -> None:
    touched = [["a"], ["a", "b"], ["b", "c"], ["c", "d"], ["d"]]
    _, size = place(lifetimes(dict.fromkeys("abcd", 640), touched))
    assert size == 2 * 640


def test_a_buffer_nobody_touches_has_no_place() -> None:
    assert lifetimes({"a": 10, "b": 10}, [["a"]]) == [Lifetime("a", 10, 0, 0)]
