"""Boxes with fewer dimensions move the very same elements."""
from __future__ import annotations

import numpy as np
import pytest

from cermet.ir.merge_axes import with_few_axes
from cermet.ir.moves import Box, MoveError, Run


def moved(box: Box, size: tuple[int, int]) -> list[tuple[int, int]]:
    """(source element, target element), ascending, counted flat."""
    source, target = (np.arange(n).reshape(shape) for n, shape in zip(size, (box.source_shape, box.target_shape),
                                                                      strict=True))
    picked = [np.ix_(*(start + step * np.arange(run.count) for start, step, run in ends)) for ends in (
        [(r.source, r.source_step, r) for r in box.runs], [(r.target, r.target_step, r) for r in box.runs])]
    return sorted(zip(source[picked[0]].ravel().tolist(), target[picked[1]].ravel().tolist(), strict=True))


def random_box(rng: np.random.Generator) -> Box:
    runs, shapes = [], []
    for _ in range(rng.integers(1, 7)):
        count, steps, starts = int(rng.integers(1, 4)), rng.integers(1, 3, 2), rng.integers(0, 3, 2) * rng.integers(2)
        runs.append(Run(int(starts[0]), int(starts[1]), count, int(steps[0]), int(steps[1])))
        room = rng.integers(0, 2, 2) * rng.integers(2)
        shapes.append([int(start + max(count * step if rng.integers(2) else (count - 1) * step + 1, 1) + extra)
                       for start, step, extra in zip(starts, steps, room, strict=True)])
    return Box(0, 1, tuple(s for s, _ in shapes), tuple(t for _, t in shapes), tuple(runs))


@pytest.mark.parametrize("seed", range(300))
def test_the_same_elements_move(seed: int) -> None:
    box = random_box(np.random.default_rng(seed))
    size = (int(np.prod(box.source_shape)), int(np.prod(box.target_shape)))
    try:
        pieces = list(with_few_axes(box, 2))
    except MoveError:
        assert np.prod([run.count for run in box.runs]) > 64
        return
    assert all(len(piece.runs) == 3 for piece in pieces)
    assert sorted(pair for piece in pieces for pair in moved(piece, size)) == moved(box, size)


def test_whole_dimensions_stay_one_piece() -> None:
    shape = (3, 4, 5, 6, 16)
    assert len(list(with_few_axes(Box(0, 1, shape, shape, tuple(Run(0, 0, n) for n in shape)), 2))) == 1


def test_too_many_pieces_are_refused() -> None:
    run = Run(0, 0, 65, 1, 2)
    box = Box(0, 1, (65, 66, 66, 16), (130, 132, 132, 16), (run, run, run, Run(0, 0, 16)))
    with pytest.raises(MoveError, match="more than 64 pieces"):
        list(with_few_axes(box, 2))
