"""The checksum of a plan file: finds damage. Definition: cermet_plan.h."""
from __future__ import annotations

import numpy as np

WORD_BYTES = 8
CHUNK_WORDS = 1 << 15       # what is worked on at once stays in the caches


def checksum(data: bytes, own_offset: int, steps: tuple[int, int]) -> tuple[int, int]:
    """Sum and products of a file that holds them at own_offset, taken as zero.

    steps: CERMET_PLAN_STEP and CERMET_PLAN_OTHER_STEP.
    """
    words = np.frombuffer(data + bytes(-len(data) % WORD_BYTES), "<u8")
    total, products = 0, 0
    for start in range(0, len(words), CHUNK_WORDS):
        chunk = words[start:start + CHUNK_WORDS].copy()
        if start == 0:
            chunk[own_offset // WORD_BYTES:own_offset // WORD_BYTES + 2] = 0
        total += int(chunk.sum())
        places = np.arange(start + 1, start + 1 + len(chunk), dtype=np.uint64)
        chunk += places * np.uint64(steps[0]) ^ places * np.uint64(steps[1])
        products += int(((chunk & np.uint64(0xFFFFFFFF)) * (chunk >> np.uint64(32))).sum())
    return total % 2**64, products % 2**64
