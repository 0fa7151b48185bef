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
    """Inputs and operations' outputs that still hold their value after one invocation, by name.

    Tensors that an in-place operation has overwritten are left out: see overwritten_tensors(). To have those as well
    (an operation's result before a residual ADD), take them from a run of the operation alone.
    """
    interpreter = make_interpreter(model, preserve_all_tensors=True, **options)
    invoke(interpreter, inputs)
    wanted = {d["index"] for d in interpreter.get_input_details()}
    wanted |= {t for op in interpreter._get_ops_details() for t in _numeric_outputs(interpreter, op)}
    wanted -= overwritten_tensors(interpreter)
    return {d["name"]: np.array(interpreter.get_tensor(d["index"])) for d in interpreter.get_tensor_details()
            if d["index"] in wanted}


KEEPS_CONTENTS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})


def overwritten_tensors(interpreter: Any) -> set[int]:
    """Tensors whose memory a later operation has taken for its output.

    preserve_all_tensors does not stop TFLite from letting ADD and others write over their input when they are its last
    reader, so that such a tensor shows the later operation's result.
    """
    stale: set[int] = set()
    owners: dict[int, set[int]] = {}
    for op in interpreter._get_ops_details():
        for tensor in _numeric_outputs(interpreter, op):
            address = _address(interpreter, tensor)
            if address is None:
                continue
            if op["op_name"] not in KEEPS_CONTENTS:
                stale |= owners.pop(address, set())
            owners.setdefault(address, set()).add(tensor)
        stale -= {t for t in op["outputs"] if t >= 0}
    return stale


def _numeric_outputs(interpreter: Any, op: dict[str, Any]) -> list[int]:
    """Outputs with numbers in them: asking for a resource handle's contents crashes."""
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    return [t for t in op["outputs"] if t >= 0 and np.dtype(details[t]["dtype"]).kind != "O"]


def _address(interpreter: Any, tensor: int) -> int | None:
    """Where a tensor's contents lie; None for tensors without memory."""
    try:
        value = interpreter.tensor(tensor)()
    except ValueError:
        return None
    return value.ctypes.data if isinstance(value, np.ndarray) else None


def invoke(interpreter: Any, inputs: Sequence[np.ndarray]) -> None:
    """Set all inputs and invoke once."""
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
