"""Float operations between 8-bit tensors, as models have them where nobody has a quantised kernel."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support import sketch  # noqa: F401  (writes these operations' options)
from tests.support.model_builder import ACTIVATIONS, OperationSpec, TensorSpec
from tests.support.networks.network import Invalid, Network, layer

FLOAT_UNARY = {"TANH": np.tanh, "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)), "ABS": np.abs, "SQUARE": np.square,
               "NEG": np.negative, "RELU": lambda x: np.maximum(x, 0), "RELU6": lambda x: np.clip(x, 0, 6),
               "COS": np.cos, "SQRT": lambda x: np.sqrt(np.abs(x)), "EXP": lambda x: np.exp(np.minimum(x, 5))}
FLOAT_BINARY = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply}


@layer
def float_chain(net: Network, source: int, *, functions: Sequence[str], constant: float = 0.5, dtype: str = "int8",
                scale: float | None = None, zero: int | None = None) -> None:
    """DEQUANTIZE, the functions, QUANTIZE. Of ADD, SUB and MUL one operand is the constant."""
    real, shape = net.reals[source], net.reals[source].shape

    def add(name: str, inputs: Sequence[int], **options: object) -> int:
        net.tensors.append(TensorSpec(f"t{len(net.tensors)}", shape, "float32"))
        net.operations.append(OperationSpec(name, tuple(inputs), (len(net.tensors) - 1,), options,
                                            2 if name == "DEQUANTIZE" else 1))
        return len(net.tensors) - 1
    made = add("DEQUANTIZE", (source,))
    for function in functions:
        if function in FLOAT_BINARY:
            number = net.constant("number", np.asarray(constant, np.float32))
            made = add(function, (made, number), FusedActivationFunction=ACTIVATIONS["NONE"])
            real = FLOAT_BINARY[function](real, np.float32(constant))
        elif function in FLOAT_UNARY:
            made, real = add(function, (made,)), FLOAT_UNARY[function](real)
        else:
            raise Invalid(f"no float function {function}")
    net.reals[made] = real.astype(np.float32)
    net.emit("QUANTIZE", (made,), [net.reals[made]], scale=scale, zero=zero, dtype=dtype, version=1)
    del net.reals[made]
