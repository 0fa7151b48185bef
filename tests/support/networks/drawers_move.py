"""The random layers that move elements. Conventions: drawers.py."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support.networks.drawing import MAX_ELEMENTS, Drawer, Drawing


def pad(d: Drawing) -> None:
    source = d.image()
    channels = d.choice([(0, 0), (0, 16), (d.number(0, 9), d.number(0, 9))])
    amounts = ((0, 0), (d.number(0, 2), d.number(0, 2)), (d.number(0, 2), d.number(0, 2)), channels)
    options = d.choice([{}, {}, {"value": d.zero(d.net.tensor(source).dtype)}, {"mode": "REFLECT"},
                        {"mode": "SYMMETRIC"}])
    shape = [n + a + b for n, (a, b) in zip(d.shape(source), amounts, strict=True)]
    if np.prod(shape) <= MAX_ELEMENTS and not (options.get("mode") and min(d.shape(source)[1:3]) < 3):
        d.net.apply("pad", source, amounts=(*amounts[:3], (0, 0)) if "mode" in options else amounts, **options)


def concatenation(d: Drawing) -> None:
    first = d.pick()
    shape, dtype = d.shape(first), d.net.tensor(first).dtype
    axis = d.choice([len(shape) - 1, d.number(1, max(len(shape) - 1, 1))]) if len(shape) > 1 else 0
    fit = [v for v in range(len(d.net.values)) if d.net.tensor(v).dtype == dtype and len(d.shape(v)) == len(shape)
           and all(a == b for i, (a, b) in enumerate(zip(d.shape(v), shape, strict=True)) if i != axis)]
    parts = [first, *(int(v) for v in d.rng.permutation(fit)[:d.number(1, 3)])]
    if sum(int(np.prod(d.shape(v))) for v in parts) > MAX_ELEMENTS:
        return
    if dtype == "int8" or d.chance(0.5):
        parts = [d.like(first, part) for part in parts]
    d.net.apply("concatenation", *(int(v) for v in d.rng.permutation(parts)), axis=axis)


def split(d: Drawing) -> None:
    source = d.pick(lambda value: max(d.shape(value)) > 1)
    shape = d.shape(source)
    axis = d.choice([i for i, n in enumerate(shape) if n > 1 and (i or len(shape) < 4)])
    size = shape[axis]
    if d.chance(0.4) and any(size % n == 0 for n in (2, 3)):
        count = d.choice([n for n in (2, 3) if size % n == 0])
        sizes = [size // count] * count
    else:
        cut = d.number(1, size - 1)
        cut = cut // 16 * 16 if cut >= 16 and d.chance(0.5) else cut
        sizes = [cut, size - cut]
    d.net.apply("split", source, axis=axis, sizes=tuple(sizes))


def unpack(d: Drawing) -> None:
    source = d.pick(lambda value: len(d.shape(value)) > 2 and min(d.shape(value)[:2]) <= 4)
    d.net.apply("unpack", source, axis=0 if d.shape(source)[0] <= 4 else 1)


def slice_(d: Drawing) -> None:
    source = d.pick()
    begin = tuple(d.number(0, n - 1) for n in d.shape(source))
    end = tuple(d.number(b + 1, n) for b, n in zip(begin, d.shape(source), strict=True))
    if d.chance(0.5):
        d.net.apply("slice", source, begin=begin, size=tuple(e - b for b, e in zip(begin, end, strict=True)))
    else:
        d.net.apply("strided_slice", source, **_steps(d, source, begin, end))


def _steps(d: Drawing, source: int, begin: Sequence[int], end: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Begin, end and steps; a backward step goes from the last element to the first one."""
    each = []
    for low, high, size in zip(begin, end, d.shape(source), strict=True):
        step = d.choice([1, 1, 2])
        each.append((high - 1, low - 1 if low else -size - 1, -step) if d.chance(0.2) else (low, high, step))
    return dict(zip(("begin", "end", "steps"), (tuple(column) for column in zip(*each, strict=True)), strict=True))


def blocks(d: Drawing) -> None:
    source = d.image()
    _, height, width, channels = d.shape(source)
    block = d.choice([2, 2, 3])
    if channels % (block * block) == 0:
        d.net.apply("depth_to_space", source, block=block)
    elif height % block == width % block == 0:
        d.net.apply("space_to_depth", source, block=block)


def reshape(d: Drawing) -> None:
    """Between pixels and channels as they are, now and then anything."""
    source = d.pick()
    shape = d.shape(source)
    ones = tuple(i for i in (1, 2) if len(shape) == 4 and shape[i] == 1)
    if ones and d.chance(0.3):
        d.net.apply("squeeze", source, dims=ones)
        return
    elements, channels = int(np.prod(shape)), shape[-1]
    pixels = elements // channels
    side = d.choice([n for n in range(1, pixels + 1) if pixels % n == 0])
    other = d.choice([n for n in range(1, elements + 1) if elements % n == 0])
    d.net.apply("reshape", source, shape=d.choice(
        [(1, side, pixels // side, channels)] * 6 + [(1, elements), (pixels, channels), (1, pixels, channels),
                                                     (1, 1, elements // other, other)]))


def transpose(d: Drawing) -> None:
    """Planes turned, or anything."""
    source = d.pick(lambda value: len(d.shape(value)) > 1)
    rank = len(d.shape(source))
    order = (0, 2, 1, 3) if rank == 4 and d.chance(0.5) else tuple(int(i) for i in d.rng.permutation(rank))
    d.net.apply("transpose", source, order=order)


def pack(d: Drawing) -> None:
    first = d.pick(lambda value: len(d.shape(value)) < 4)
    same = [v for v in range(len(d.net.values)) if d.shape(v) == d.shape(first) and d.kind(v) == d.kind(first)]
    parts = [int(v) for v in d.rng.permutation(same)[:d.number(1, 3)]]
    d.net.apply("pack", *parts, axis=d.number(0, len(d.shape(first))))


def repeated(d: Drawing) -> None:
    """TILE or BROADCAST_TO."""
    source = d.pick()
    shape = d.shape(source)
    axis, times = d.number(0 if len(shape) < 4 else 1, len(shape) - 1), d.number(1, 3)
    if int(np.prod(shape)) * times > MAX_ELEMENTS:
        return
    if shape[axis] == 1:
        d.net.apply("broadcast_to", source, shape=(*shape[:axis], times, *shape[axis + 1:]))
    else:
        d.net.apply("tile", source, times=tuple(times if i == axis else 1 for i in range(len(shape))))


def picked(d: Drawing) -> None:
    """GATHER or REVERSE_V2."""
    source = d.pick()
    shape = d.shape(source)
    axis = d.number(0 if len(shape) < 4 else 1, len(shape) - 1)
    if d.chance(0.5):
        d.net.apply("reverse", source, axis=axis)
    else:
        d.net.apply("gather", source, axis=axis,
                    indices=tuple(d.number(0, shape[axis] - 1) for _ in range(d.number(1, 4))))


def expand_dims(d: Drawing) -> None:
    source = d.pick(lambda value: len(d.shape(value)) < 4)
    d.net.apply("expand_dims", source, axis=d.number(0, len(d.shape(source))))


MOVING: dict[Drawer, float] = {
    pad: 1, concatenation: 2, split: 1, unpack: 0.3, slice_: 1, blocks: 0.5, reshape: 1, transpose: 0.6, pack: 0.3,
    repeated: 0.4, picked: 0.4, expand_dims: 0.3}
