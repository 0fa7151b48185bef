"""Runs subgraphs with the numerics of cermet.ir: the reference that hardware drivers are compared with."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cermet.drivers.base import CompileOptions, Program, Refusal
from cermet.errors import CermetError
from cermet.ir.numerics import evaluate_all
from cermet.ir.operation import Kind, Operation
from cermet.ir.problems import op_problem
from cermet.ir.subgraph import Subgraph


class SoftError(CermetError):
    """A subgraph or inputs that the soft driver cannot run: place, what is wrong, what is allowed."""


class SoftDriver:
    """Executes at once; compile() has nothing to make.

    match   "tflite" or "exact": which rounding the numerics use
    """

    name = "soft"

    def __init__(self, match: str = "tflite") -> None:
        self.match = match

    def refuse(self, subgraph: Subgraph, operation: Operation, options: CompileOptions | None = None) -> Refusal | None:
        """None when the operation has numerics here and makes sense."""
        if operation.kind is Kind.OTHER:
            return Refusal("soft.kind", f"{operation.name} has no numerics here")
        problem = op_problem(subgraph, operation)
        return None if problem is None else Refusal("soft.operand", problem)

    def compile(self, subgraph: Subgraph, options: CompileOptions) -> Program:
        """Always raises SoftError: there is no program, execute() runs the subgraph itself."""
        raise SoftError("soft driver: has no programs, use execute()")

    def execute(self, subgraph: Subgraph, inputs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The subgraph's outputs: tensor number -> array. inputs: one array for each graph input.

        Raises SoftError for a refused operation or an input of the wrong shape or dtype.
        """
        values = self.execute_all(subgraph, inputs)
        return {t: values[t] for t in subgraph.outputs}

    def execute_all(self, subgraph: Subgraph, inputs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Every tensor that is an input or computed: what execute() keeps to itself."""
        for operation in subgraph.operations:
            refusal = self.refuse(subgraph, operation)
            if refusal is not None:
                raise SoftError(f"{operation}: {refusal.reason}")
        values = {t: self._input(subgraph, t, inputs) for t in subgraph.inputs}
        for operation in subgraph.operations:
            results = evaluate_all(subgraph, operation, values, self.match)
            values.update(zip(operation.outputs, results, strict=True))
        return values

    def _input(self, subgraph: Subgraph, number: int, inputs: Mapping[int, np.ndarray]) -> np.ndarray:
        tensor = subgraph.tensor(number)
        if number not in inputs:
            raise SoftError(f"input {number} ({tensor.name}): missing, must be {tensor.dtype.value} {tensor.shape}")
        value = inputs[number]
        if value.shape != tensor.shape or value.dtype != tensor.dtype.numpy:
            raise SoftError(f"input {number} ({tensor.name}): {value.dtype} {value.shape}, must be "
                            f"{tensor.dtype.value} {tensor.shape}")
        return value
