"""Runs models through either TFLite runtime: tflite-runtime 2.14 ("tflite") or ai-edge-litert ("litert")."""
from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

MODULES = {"tflite": "tflite_runtime.interpreter", "litert": "ai_edge_litert.interpreter"}
RESOLVERS = {"ref": "BUILTIN_REF", "default": "AUTO", "no_delegates": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}


def runtime_module(runtime: str = "tflite") -> ModuleType:
    """The interpreter module. ImportError when that runtime is not installed."""
    return importlib.import_module(MODULES[runtime])


def make_interpreter(model: bytes | str | Path, *, runtime: str = "tflite", resolver: str = "ref",
                     delegates: Sequence[Any] = (), preserve_all_tensors: bool = False,
                     num_threads: int | None = None) -> Any:
    """An interpreter with its tensors allocated. model: contents or path of a .tflite file."""
    module = runtime_module(runtime)
    source = {"model_content": bytes(model)} if isinstance(model, bytes) else {"model_path": str(model)}
    interpreter = module.Interpreter(
        **source, experimental_op_resolver_type=getattr(module.OpResolverType, RESOLVERS[resolver]),
        experimental_delegates=list(delegates) or None, num_threads=num_threads,
        experimental_preserve_all_tensors=preserve_all_tensors)
    interpreter.allocate_tensors()
    return interpreter


def load_delegate(library: str | Path, options: Mapping[str, object] | None = None, *, runtime: str = "tflite") -> Any:
    """An external delegate of that runtime."""
    return runtime_module(runtime).load_delegate(str(library), dict(options or {}))


def run(model: bytes | str | Path, inputs: Sequence[np.ndarray], **options: Any) -> list[np.ndarray]:
    """All outputs of one invocation; inputs in the model's order; options as make_interpreter's."""
    interpreter = make_interpreter(model, **options)
    invoke(interpreter, inputs)
    return [np.array(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


def run_all(model: bytes | str | Path, inputs: Sequence[np.ndarray], **options: Any) -> dict[str, np.ndarray]:
    """Every tensor that holds a value after one invocation, by name (intermediate ones too)."""
    interpreter = make_interpreter(model, preserve_all_tensors=True, **options)
    invoke(interpreter, inputs)
    values = {}
    for detail in interpreter.get_tensor_details():
        try:
            values[detail["name"]] = np.array(interpreter.get_tensor(detail["index"]))
        except ValueError:      # temporaries without contents
            continue
    return values


def invoke(interpreter: Any, inputs: Sequence[np.ndarray]) -> None:
    """Set all inputs and invoke once."""
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
