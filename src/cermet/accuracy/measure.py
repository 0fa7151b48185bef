"""Every tensor of a model on the NPU against the reference: chained, and each layer alone.

chained   the program as it runs, on the model's inputs: what is wrong in a layer reaches all behind it
alone     the layer on the reference's own inputs: what this layer adds
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cermet.accuracy.error import Error, Tally
from cermet.accuracy.executors import Executor, Run, compile_part
from cermet.accuracy.reference import Reference, Values
from cermet.accuracy.units import Partition, Unit, partitions_of, steps
from cermet.compiler import Compiled, compile_subgraph
from cermet.drivers.base import CompileOptions, Driver
from cermet.errors import CermetError
from cermet.ir.moves import LAYOUTS
from cermet.ir.operation import Kind, Operation
from cermet.ir.passes.cancel_moves import VIEWS
from cermet.ir.subgraph import Subgraph

# What only moves elements is never off; CONCATENATION may requantise.
COPYING = VIEWS | (LAYOUTS.keys() - {Kind.CONCATENATION})
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Row:
    """One tensor. operations: (index, name) of those that make it together; partition None: made by the CPU."""

    tensor: int
    name: str
    operations: tuple[tuple[int, str], ...]
    partition: int | None
    shape: tuple[int, ...]
    dtype: str
    chained: Error | None
    alone: Error | None

    @property
    def label(self) -> str:
        """The operations, for people."""
        return " + ".join(f"{index} {name}" for index, name in self.operations)


@dataclass(frozen=True)
class Equality:
    """Share of the elements that the NPU computed that equal the reference; None when it computed none."""

    chained: float | None
    alone: float | None


@dataclass(frozen=True)
class Measurement:
    """rows in the order of execution; notes: what could not be measured, one line each."""

    match: str
    rows: tuple[Row, ...]
    equality: Equality
    notes: tuple[str, ...]

    def worst_first(self) -> list[Row]:
        """Layers that are wrong by themselves first, then what reaches others."""
        return sorted(self.rows, key=lambda row: (_badness(row.alone), _badness(row.chained)), reverse=True)


def _badness(error: Error | None) -> tuple[float, float, float]:
    if error is None:
        return -1.0, 0.0, 0.0
    return (error.beyond or 0) / error.elements, error.max, error.differing


def no_progress(done: int, total: int, what: str) -> None:
    """Tells nobody."""


def measure(subgraph: Subgraph, driver: Driver, options: CompileOptions, reference: Reference, executor: Executor,
            samples: Sequence[Sequence[np.ndarray]], progress: Progress = no_progress) -> Measurement:
    """Compile as the delegate would, run all samples, compare. Raises CermetError when the device fails."""
    compiled = compile_subgraph(subgraph, driver, options)
    return _Measuring(compiled, driver, options, reference, executor, progress).run(samples)


@dataclass
class _Measuring:
    compiled: Compiled
    driver: Driver
    options: CompileOptions
    reference: Reference
    executor: Executor
    progress: Progress
    notes: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.subgraph = self.compiled.subgraph
        self.partitions = partitions_of(self.compiled)
        self.steps = list(steps(self.compiled, self.partitions))
        self.units = [unit for partition in self.partitions for unit in partition.units]
        self.chained = {t: Tally(self.subgraph.tensor(t)) for t in self._measured_tensors()}
        self.alone = {t: Tally(self.subgraph.tensor(t)) for t in self.chained}
        self.notes.update(dict.fromkeys(self.compiled.faults))
        self.done = 0

    def _measured_tensors(self) -> Iterator[int]:
        for step in self.steps:
            yield from step.exposed.outputs if isinstance(step, Partition) else step.outputs

    def run(self, samples: Sequence[Sequence[np.ndarray]]) -> Measurement:
        self.total = len(self.units) + len(samples) * (1 + len(self.steps) + len(self.units))
        chains = {id(p): self._load(p.exposed, f"partition {p.number}") for p in self.partitions}
        lonely = {id(unit): self._load_unit(unit) for unit in self.units}
        for arrays in samples:
            self._tell("reference")
            expected = self.reference.values(arrays)
            self._run_chained(arrays, expected, chains)
            self._run_alone(expected, lonely)
        return Measurement(self.options.match, tuple(self._rows()), self._equality(), tuple(self.notes))

    def _tell(self, what: str) -> None:
        self.progress(self.done, self.total, what)
        self.done += 1

    def _load(self, subgraph: Subgraph, place: str) -> Run:
        try:
            return self.executor.load(subgraph, compile_part(self.driver, subgraph, self.options))
        except CermetError as error:
            raise CermetError(f"{place}: {error}") from error

    def _load_unit(self, unit: Unit) -> Run | None:
        """None for what has no tasks, and for an operation that the compiler takes in company only."""
        self._tell("compiling the layers alone")
        if not unit.has_tasks:
            return None
        try:
            return self._load(unit.part, _place(unit))
        except CermetError as error:
            self.notes[f"not measured alone: {error}"] = None
            return None

    # Chained

    def _run_chained(self, arrays: Sequence[np.ndarray], expected: Values, chains: Mapping[int, Run]) -> None:
        values = self.reference.inputs(arrays)
        for step in self.steps:
            self._tell(f"partition {step.number}" if isinstance(step, Partition) else str(step))
            if isinstance(step, Operation):
                made = self._on_cpu(step, values, expected)
            else:
                made = self._on_npu(step.exposed, f"partition {step.number}", values, chains[id(step)])
            values |= made
            self._compare(self.chained, made, expected)

    def _on_cpu(self, operation: Operation, values: Values, expected: Values) -> Values:
        """What the CPU makes of the chain's values; the reference's outputs where those are the reference's too."""
        needed = [t for t in operation.inputs if t in values and t in expected]
        theirs = {t: expected[t] for t in operation.outputs if t in expected}
        if all(np.array_equal(values[t], expected[t]) for t in needed):
            return theirs
        made = self.reference.compute(operation, values)
        if made is None:
            self.notes[f"{operation}: cannot be computed alone; behind it the chain goes on with the reference's "
                       "values"] = None
            return theirs
        return made

    def _on_npu(self, part: Subgraph, place: str, values: Mapping[int, np.ndarray], run: Run) -> Values:
        if not all(t in values for t in part.inputs):
            self.notes[f"{place}: not measured, the CPU's operations before it cannot be computed here"] = None
            return {}
        return run({t: values[t] for t in part.inputs})

    def _run_alone(self, expected: Values, lonely: Mapping[int, Run | None]) -> None:
        for unit in self.units:
            self._tell(_place(unit))
            run = lonely[id(unit)]
            if run is not None:
                made = self._on_npu(unit.part, _place(unit), expected, run)
                self._compare(self.alone, made, expected, self._allowed(unit, expected))

    def _allowed(self, unit: Unit, expected: Values) -> Values:
        """How far each output element may be away: one step for what writes it, and what one step of each tensor that
        only exists inside the unit makes of it; a float tensor in there has no steps. Holds where operations behind
        such a tensor work element by element."""
        allowed = {t: np.ones(expected[t].shape) for t in unit.part.outputs if t in expected}
        for index, operation in enumerate(unit.operations):
            for tensor in operation.outputs:
                is_rounded = tensor in expected and expected[tensor].dtype.kind in "iu"
                if is_rounded and tensor not in allowed and operation.kind not in COPYING:
                    moved = [self._after_a_step(unit, index, tensor, step, expected) for step in (-1, 1)]
                    for t in allowed:
                        allowed[t] += np.maximum(*(np.abs(v[t].astype(np.float64) - expected[t]) for v in moved))
        return allowed

    def _after_a_step(self, unit: Unit, index: int, tensor: int, step: int, expected: Values) -> Values:
        """All values, had operation number `index` of the unit made every element of the tensor `step` larger."""
        value = expected[tensor]
        limits = np.iinfo(value.dtype)
        changed = np.clip(value.astype(np.int64) + step, limits.min, limits.max).astype(value.dtype)
        values = expected | {tensor: changed}
        for operation in unit.operations[index + 1:]:
            values |= self.reference.compute(operation, values) or {}
        return values

    @staticmethod
    def _compare(tallies: Mapping[int, Tally], made: Values, expected: Values, allowed: Values | None = None) -> None:
        for tensor, value in made.items():
            if tensor in tallies and tensor in expected and value.dtype.kind in "iufb":
                tallies[tensor].add(value, expected[tensor], (allowed or {}).get(tensor))

    # Results

    def _rows(self) -> Iterator[Row]:
        makers: dict[int, tuple[tuple[Operation, ...], int | None]] = {}
        for step in self.steps:
            if isinstance(step, Operation):
                makers.update(dict.fromkeys(step.outputs, ((step,), None)))
            else:
                makers.update({t: (unit.operations, step.number) for unit in step.units for t in unit.part.outputs})
        for number, (operations, partition) in sorted(makers.items(), key=lambda item: item[1][0][-1].index):
            tensor = self.subgraph.tensor(number)
            yield Row(number, tensor.name, tuple((op.index, op.name) for op in operations), partition, tensor.shape,
                      tensor.dtype.value, self.chained[number].error(), self.alone[number].error())

    def _equality(self) -> Equality:
        on_npu = {t for partition in self.partitions for t in partition.exposed.outputs}
        return Equality(_equal_share(self.chained, on_npu), _equal_share(self.alone, on_npu))


def _equal_share(tallies: Mapping[int, Tally], tensors: set[int]) -> float | None:
    elements = sum(tallies[t].elements for t in tensors)
    return 1 - sum(tallies[t].different for t in tensors) / elements if elements else None


def _place(unit: Unit) -> str:
    return " and ".join(str(operation) for operation in unit.operations)
