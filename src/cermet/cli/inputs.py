"""Input arrays of a model: from pictures, .npy and .npz files, or a random generator."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cermet.errors import CermetError


def random_inputs(details: Sequence[dict[str, Any]], seed: int) -> list[np.ndarray]:
    """One array per input: quantised and 8-bit ones over their whole range, floats -1..1, other integers 0 or 1."""
    generator = np.random.default_rng(seed)
    return [_random(generator, tuple(detail["shape"]), np.dtype(detail["dtype"])) for detail in details]


def _random(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return generator.uniform(-1, 1, shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if dtype.kind in "iub":
        return generator.integers(0, 2, shape).astype(dtype)
    raise CermetError(f"--random: an input is of type {dtype}, must be a number")


def picture_inputs(details: Sequence[dict[str, Any]], path: Path, *, crop: bool) -> list[np.ndarray]:
    """The picture for the model's only input, resized; crop: first cut to the input's proportions, centred."""
    from cermet.interpreter import picture_tensor
    if len(details) != 1:
        raise CermetError(f"--image: the model has {len(details)} inputs, must have 1; use --input for each")
    (detail,) = details
    shape = tuple(int(size) for size in detail["shape"])
    if len(shape) != 4:
        raise CermetError(f"--image: the model's input has shape {list(shape)}, must be [1, height, width, 1 or 3]")
    return [picture_tensor(path, shape, np.dtype(detail["dtype"]).type, crop=crop)]


def file_inputs(details: Sequence[dict[str, Any]], files: Sequence[Path]) -> list[np.ndarray]:
    """Arrays of one .npz (by the inputs' names, or in order), or of one .npy for each input in order."""
    arrays = [array for path in files for array in _load(path, [str(detail["name"]) for detail in details])]
    if len(arrays) != len(details):
        raise CermetError(f"--input: {len(arrays)} arrays, the model has {len(details)} inputs")
    return [_fitted(detail, array) for detail, array in zip(details, arrays, strict=True)]


def _load(path: Path, names: list[str]) -> list[np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return [loaded]
        with loaded:
            wanted = names if set(names) <= set(loaded.files) else loaded.files
            return [loaded[name] for name in wanted]
    except (ValueError, EOFError, KeyError) as error:
        raise CermetError(f"{path}: is not a .npy or .npz file that can be read") from error
    except Exception as error:      # zipfile and zlib have errors of their own
        if isinstance(error, OSError) and error.strerror:
            raise
        raise CermetError(f"{path}: is not a .npy or .npz file that can be read") from error


def _fitted(detail: dict[str, Any], array: np.ndarray) -> np.ndarray:
    """The array as the input takes it: same type, same shape but for leading ones."""
    shape, dtype = tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"])
    if array.dtype != dtype:
        raise CermetError(f"--input: {detail['name']}: the array is of type {array.dtype}, must be {dtype}")
    if _without_ones(array.shape) != _without_ones(shape):
        raise CermetError(f"--input: {detail['name']}: the array has shape {list(array.shape)}, must be {list(shape)}")
    return array.reshape(shape)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape
