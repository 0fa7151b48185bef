"""TFLite interpreters with the delegate, for Python programs: either runtime, ai-edge-litert or tflite-runtime."""
from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from cermet import paths
from cermet.devices import real_devices
from cermet.errors import CermetError

RUNTIMES = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter"}


def runtime_module(name: str = "") -> ModuleType:
    """The module with Interpreter and load_delegate: the runtime named, or the first of RUNTIMES that is installed."""
    if name and name not in RUNTIMES:
        raise CermetError(f"runtime: {name!r} must be one of {', '.join(RUNTIMES)}")
    for candidate in [name] if name else RUNTIMES:
        try:
            return importlib.import_module(RUNTIMES[candidate])
        except ImportError:
            continue
    raise CermetError(f"runtime: {name or 'no TFLite runtime'} is not installed; pip install ai-edge-litert")


def make_interpreter(model: str | os.PathLike[str], options: Mapping[str, object] | None = None, *,
                     runtime: str = "") -> Any:
    """An interpreter with allocated tensors whose supported operations run on the NPU.

    options: the delegate's, for example {"device": "sim"}. Raises CermetError with the delegate's or TFLite's reason.
    """
    module = runtime_module(runtime)
    try:
        delegate = module.load_delegate(str(paths.library("libcermet_delegate.so")), dict(options or {}))
        # Without TFLite's own default delegate: what the NPU leaves runs on TFLite's plain kernels.
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        made = module.Interpreter(os.fspath(model), experimental_delegates=[delegate],
                                  experimental_op_resolver_type=resolver)
        made.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        raise CermetError(f"{os.fspath(model)}: {error}") from error
    return made


def has_real_device() -> bool:
    """Whether this machine has an NPU that the delegate can use."""
    return any(device.usable for device in real_devices())


def picture_tensor(path: str | os.PathLike[str], shape: Sequence[int], dtype: type[np.generic]) -> np.ndarray:
    """A picture as an input tensor of shape (1, height, width, 3): the whole picture, resized bilinearly.

    uint8 as it is, int8 shifted by 128 (a quantised model's usual input), floats scaled to -1..1.
    """
    from PIL import Image, UnidentifiedImageError
    batch, height, width, channels = (int(size) for size in shape)
    if batch != 1 or channels not in (1, 3):
        raise CermetError(f"{os.fspath(path)}: the model's input has shape {[int(size) for size in shape]}, "
                          "must be [1, height, width, 1 or 3]")
    mode = "RGB" if channels == 3 else "L"
    try:
        with Image.open(path) as picture:
            resized = picture.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
    except UnidentifiedImageError as error:
        raise CermetError(f"{os.fspath(path)}: is not a picture that can be read") from error
    pixels = np.asarray(resized, np.uint8).reshape(1, height, width, channels)
    if dtype == np.int8:
        return (pixels ^ 0x80).view(np.int8)
    if np.issubdtype(dtype, np.floating):
        return (pixels / 127.5 - 1).astype(dtype)
    return pixels.astype(dtype)
