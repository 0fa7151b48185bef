"""BLAKE2sp: BLAKE2s over eight leaves, which take turns at blocks of 64 bytes, and a root over their digests."""
from __future__ import annotations

import hashlib

import numpy as np

LEAVES = 8
BLOCK_BYTES = 64
DIGEST_BYTES = 32


def blake2sp(data: bytes) -> bytes:
    """The 32 bytes of BLAKE2sp without key."""
    num_stripes = len(data) // (LEAVES * BLOCK_BYTES)
    stripes: np.ndarray = np.ndarray((num_stripes, LEAVES), f"V{BLOCK_BYTES}", data)
    rest = data[num_stripes * LEAVES * BLOCK_BYTES:]
    root = _node(0, depth=1, is_last=True)
    for leaf in range(LEAVES):
        state = _node(leaf, depth=0, is_last=leaf == LEAVES - 1)
        state.update(stripes[:, leaf].tobytes())
        state.update(rest[leaf * BLOCK_BYTES:(leaf + 1) * BLOCK_BYTES])
        root.update(state.digest())
    return root.digest()


def _node(number: int, *, depth: int, is_last: bool) -> hashlib.blake2s:
    """A node of the tree; is_last: of its depth."""
    return hashlib.blake2s(digest_size=DIGEST_BYTES, fanout=LEAVES, depth=2, leaf_size=0, node_offset=number,
                           node_depth=depth, inner_size=DIGEST_BYTES, last_node=is_last)
