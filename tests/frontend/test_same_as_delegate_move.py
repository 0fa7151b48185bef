"""Parameters of operations that move elements: captured by the delegate as the file says them."""
from __future__ import annotations

import pytest

from cermet.frontend.tflite_file import to_blob
from tests.frontend.test_same_as_delegate import captured  # noqa: F401
from tests.support import builders_move as b

MODELS = {
    "pad": b.pad((1, 4, 4, 3), [(0, 0), (1, 2), (3, 0), (0, 0)]),
    "pad_value": b.pad((1, 4, 4, 3), [(0, 0), (1, 2), (3, 0), (0, 0)], value=3),
    "reflect": b.pad((1, 4, 4, 3), [(0, 0), (1, 2), (3, 0), (0, 0)], mode="REFLECT"),
    "symmetric": b.pad((1, 4, 4, 3), [(0, 0), (1, 2), (3, 0), (0, 0)], mode="SYMMETRIC"),
    "concatenation": b.concatenation([(1, 2, 3, 4), (1, 2, 3, 5)], 3),
    "split": b.split((1, 2, 4, 4), 2, [2, 2]),
    "split_v": b.split((1, 2, 4, 4), 2, [1, 3], version="SPLIT_V"),
    "unpack": b.unpack((1, 3, 4, 5), 1),
    "pack": b.pack((3, 4, 5), 2, 1),
    "gather": b.gather((1, 3, 4, 5), [2, 0], 2),
    "transpose": b.transpose((1, 3, 4, 5), (0, 3, 1, 2)),
    "reverse": b.reverse((1, 3, 4, 5), (2,)),
    "tile": b.tile((1, 3, 4, 5), (1, 2, 1, 1)),
    "broadcast_to": b.broadcast_to((1, 1, 4, 5), (1, 3, 4, 5)),
    "slice": b.slice_((1, 3, 4, 5), (0, 1, 1, 0), (1, 2, 2, 5)),
    "strided_slice": b.strided_slice((1, 6, 4, 5), (0, 1, 1, 0), (1, 6, 4, 5), (1, 2, 1, 1), begin_mask=8, end_mask=4,
                                     shrink_mask=0),
    "shrink": b.strided_slice((1, 6, 4, 5), (0, 1, 1, 0), (1, 6, 4, 5), (1, 1, 1, 1), shrink_mask=2),
    "space_to_depth": b.blocks("SPACE_TO_DEPTH", (1, 6, 6, 5), 3),
    "depth_to_space": b.blocks("DEPTH_TO_SPACE", (1, 2, 2, 8), 2),
    "nearest_half": b.resize("NEAREST_NEIGHBOR", (1, 4, 4, 3), (8, 8), "half"),
    "nearest_align": b.resize("NEAREST_NEIGHBOR", (1, 4, 4, 3), (7, 7), "align"),
    "bilinear_half": b.resize("BILINEAR", (1, 4, 4, 3), (8, 8), "half"),
    "bilinear_align": b.resize("BILINEAR", (1, 4, 4, 3), (7, 7), "align"),
}


@pytest.mark.parametrize("runtime", ["tflite", "litert"])
@pytest.mark.parametrize("name", MODELS)
def test_parameters(name: str, runtime: str, captured) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    data = MODELS[name].data
    assert captured(data, runtime) == to_blob(data)
