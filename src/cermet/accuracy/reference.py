"""The values that the NPU's are compared with: from cermet.ir's numerics, or from TFLite's reference kernels."""
from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cermet.accuracy.model_file import file_numbers, graph_inputs, rewired
from cermet.drivers.soft.driver import SoftDriver
from cermet.errors import CermetError
from cermet.interpreter import RUNTIMES, runtime_module
from cermet.ir.numerics import evaluate_all
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType

Values = dict[int, np.ndarray]


class TfliteKernels:
    """A model, or one of its operations, on TFLite's reference kernels. Tensors by their canonical numbers.

    Raises CermetError when no runtime is installed.
    """

    def __init__(self, model: bytes, subgraph: Subgraph, runtime: str = "") -> None:
        self.model, self.subgraph = model, subgraph
        self.module = runtime_module(runtime)
        self.runtime = next(name for name, module in RUNTIMES.items() if module == self.module.__name__)
        self.numbers = file_numbers(model)

    def run_model(self, inputs: Sequence[np.ndarray]) -> Values:
        """Every tensor that an operation makes, for the model's inputs in their order."""
        wanted = [t for operation in self.subgraph.operations for t in self._numeric_outputs(operation)]
        model = rewired(self.model, [self.numbers[t] for t in wanted])
        return self._run(model, dict(zip(graph_inputs(self.model), inputs, strict=True)), wanted)

    def run_operation(self, operation: Operation, values: Mapping[int, np.ndarray]) -> Values:
        """The operation's outputs. Raises CermetError for one that does not run alone."""
        sources = [t for t in dict.fromkeys(operation.inputs)
                   if t is not None and not self.subgraph.tensor(t).is_constant]
        wanted = self._numeric_outputs(operation)
        index = self.subgraph.operations.index(operation)
        model = rewired(self.model, [self.numbers[t] for t in wanted], [self.numbers[t] for t in sources], [index])
        return self._run(model, {self.numbers[t]: values[t] for t in sources}, wanted)

    def _numeric_outputs(self, operation: Operation) -> list[int]:
        return [t for t in operation.outputs if self.subgraph.tensor(t).dtype is not DType.OTHER]

    def _run(self, model: bytes, inputs: Mapping[int, np.ndarray], wanted: Sequence[int]) -> Values:
        try:
            resolver = self.module.OpResolverType.BUILTIN_REF
            made: Any = self.module.Interpreter(model_content=model, experimental_op_resolver_type=resolver)
            made.allocate_tensors()
            for number, value in inputs.items():
                made.set_tensor(number, value)
            made.invoke()
            return {t: np.array(made.get_tensor(self.numbers[t])) for t in wanted}
        except (ValueError, RuntimeError) as error:
            raise CermetError(f"TFLite: {' '.join(str(error).split())}") from error


class Reference:
    """What every tensor of a model should be.

    against   "reference": cermet.ir's numerics (match "tflite") where they know the operation, TFLite's kernels else;
              "exact": the same with match "exact"; "tflite": TFLite's kernels for the whole model
    """

    def __init__(self, model: bytes, subgraph: Subgraph, against: str, runtime: str = "") -> None:
        self.subgraph, self.against = subgraph, against
        self._input_numbers = self._canonical_inputs(model)
        self._soft = SoftDriver()
        self.kernels: TfliteKernels | None = None
        with contextlib.nullcontext() if against == "tflite" else contextlib.suppress(CermetError):
            self.kernels = TfliteKernels(model, subgraph, runtime)

    def _canonical_inputs(self, model: bytes) -> list[int | None]:
        """By position; None for an input that no operation reads."""
        canonical = {number: index for index, number in enumerate(file_numbers(model))}
        return [canonical.get(number) for number in graph_inputs(model)]

    def inputs(self, arrays: Sequence[np.ndarray]) -> Values:
        """The model's inputs by canonical number."""
        return {t: array for t, array in zip(self._input_numbers, arrays, strict=True) if t is not None}

    def values(self, arrays: Sequence[np.ndarray]) -> Values:
        """All tensors that can be computed, inputs included."""
        values = self.inputs(arrays)
        if self.against == "tflite":
            assert self.kernels is not None
            return values | self.kernels.run_model(arrays)
        theirs: Values | None = None
        for operation in self.subgraph.operations:
            made = self.compute(operation, values)
            if made is None:    # it reads a variable, say: TFLite knows, in the company of all others
                theirs = self._whole_model(arrays) if theirs is None else theirs
                made = {t: theirs[t] for t in operation.outputs if t in theirs}
            values |= made
        return values

    def _whole_model(self, arrays: Sequence[np.ndarray]) -> Values:
        """Nothing when there is no runtime, or it cannot run the model."""
        if self.kernels is None:
            return {}
        try:
            return self.kernels.run_model(arrays)
        except CermetError:
            return {}

    def compute(self, operation: Operation, values: Mapping[int, np.ndarray]) -> Values | None:
        """The operation's outputs on a CPU; None when nobody here can compute it on these values."""
        needed = [t for t in operation.inputs if t is not None and not self.subgraph.tensor(t).is_constant]
        if not all(t in values for t in needed):
            return None
        if self.against != "tflite" and self._soft.refuse(self.subgraph, operation) is None:
            match = "exact" if self.against == "exact" else "tflite"
            return dict(zip(operation.outputs, evaluate_all(self.subgraph, operation, values, match), strict=True))
        if self.kernels is None:
            return None
        try:
            return self.kernels.run_operation(operation, values)
        except CermetError:
            return None
