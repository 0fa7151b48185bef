"""TFLite interpreters with the delegate, for Python programs: either runtime, ai-edge-litert or tflite-runtime."""
from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from cermet import paths
from cermet.devices import real_devices
from cermet.errors import CermetError

if TYPE_CHECKING:
    from PIL import Image

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
        raise CermetError(f"{os.fspath(model)}: {reason_of(error)}") from error
    return made


def reason_of(error: Exception) -> str:
    """The delegate's words in a runtime's exception, without what the runtime puts around them."""
    text = str(error).partition("Restored original execution plan")[0].strip()
    _, found, words = text.rpartition("cermet: ")
    return words.partition("Node number ")[0].strip() if found else text or type(error).__name__


def has_real_device() -> bool:
    """Whether this machine has an NPU that the delegate can use."""
    return any(device.usable for device in real_devices())


def picture_tensor(path: str | os.PathLike[str], shape: Sequence[int], dtype: type[np.generic], *,
                   crop: bool = False) -> np.ndarray:
    """A picture as an input tensor of shape (1, height, width, 1 or 3), resized bilinearly.

    crop: its largest centred part with the input's proportions, else the whole picture. uint8 as it is, int8 shifted
    by 128 (a quantised model's usual input), floats scaled to -1..1.
    """
    batch, height, width, channels = (int(size) for size in shape)
    if batch != 1 or channels not in (1, 3):
        raise CermetError(f"{os.fspath(path)}: the model's input has shape {[batch, height, width, channels]}, "
                          "must be [1, height, width, 1 or 3]")
    pixels = read_picture(path, "RGB" if channels == 3 else "L", width, height, crop=crop)
    pixels = pixels.reshape(1, height, width, channels)
    if dtype == np.int8:
        return (pixels ^ 0x80).view(np.int8)
    if np.issubdtype(dtype, np.floating):
        return (pixels / 127.5 - 1).astype(dtype)
    return pixels.astype(dtype)


def read_picture(path: str | os.PathLike[str], mode: str, width: int, height: int, *, crop: bool = False) -> np.ndarray:
    """Bytes of a picture in PIL's mode, resized; crop as picture_tensor's."""
    from PIL import Image
    picture = open_picture(path, mode)
    box = centred_box(picture.width, picture.height, width, height) if crop else None
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box), np.uint8)


def open_picture(path: str | os.PathLike[str], mode: str) -> Image.Image:
    """A picture in PIL's mode. Raises CermetError for a file that is none."""
    from PIL import Image
    try:
        with Image.open(path) as picture:
            return picture.convert(mode)
    except Exception as error:      # PIL's decoders raise whatever a broken file makes them stumble over
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CermetError(f"{os.fspath(path)}: is not a picture that can be read") from error


def centred_box(width: int, height: int, wanted_width: int, wanted_height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest centred part with the wanted proportions."""
    scale = min(width / wanted_width, height / wanted_height)
    kept_width, kept_height = max(round(wanted_width * scale), 1), max(round(wanted_height * scale), 1)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height
