"""Compiles a network, runs it on the simulated core, and compares each operation with the numerics on the same inputs.

The reference of an operation is cermet.ir's numerics (drivers/soft), which tests elsewhere hold against TFLite and
against exact arithmetic. Its inputs are the simulator's own values, so that a step in one layer is not counted again
behind it.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cermet.accuracy.units import Unit, partitions_of, steps
from cermet.compiler import Compiled, compile_subgraph
from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import run_program
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588, Soc
from cermet.ir.macs import count_macs
from cermet.ir.numerics import evaluate_all
from cermet.ir.operation import Operation
from cermet.ir.problems import op_problem
from cermet.ir.subgraph import Subgraph
from tests.support import exact
from tests.support.model_builder import Model
from tests.support.networks.network import Invalid

Values = dict[int, np.ndarray]
# Copies: not even one step. A uint8 CONCATENATION of several quantisations is none.
COPYING = frozenset({"PAD", "PADV2", "MIRROR_PAD", "SPLIT", "SPLIT_V", "UNPACK", "SLICE", "STRIDED_SLICE", "RESHAPE",
                     "SQUEEZE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "RESIZE_NEAREST_NEIGHBOR", "MAXIMUM", "MINIMUM",
                     "TRANSPOSE", "EXPAND_DIMS", "REVERSE_V2", "GATHER", "PACK"})


@dataclass
class Failure(Exception):
    """kind: what a shrunken network must have in common with the one that failed."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class Tally:
    """Of one kind of operation, or of several that run as one.

    exact_elements, exact_ones   of those that tests/support/exact.py knows, against exact arithmetic
    """

    operations: int = 0
    elements: int = 0
    ones: int = 0
    largest: int = 0
    exact_elements: int = 0
    exact_ones: int = 0

    def add(self, other: Tally) -> None:
        self.operations += other.operations
        self.elements += other.elements
        self.ones += other.ones
        self.largest = max(self.largest, other.largest)
        self.exact_elements += other.exact_elements
        self.exact_ones += other.exact_ones


@dataclass
class Outcome:
    """alone: by the operations' names; chained: elements of the network's outputs, and those unlike the numerics'."""

    on_npu: int
    operations: int
    partitions: int
    tasks: int
    refused: list[tuple[str, str]]
    restricted: bool        # by options
    macs_on_npu: float      # share
    alone: dict[str, Tally] = field(default_factory=dict)
    chained: tuple[int, int, int] = (0, 0, 0)
    values: dict[str, np.ndarray] = field(default_factory=dict)     # the network's inputs and outputs, by name


def soc_with(entries_per_bank: int) -> Soc:
    """The RK3588 with a smaller CBUF, so that small planes and weights meet what else only large ones do."""
    return replace(RK3588, cbuf=replace(RK3588.cbuf, entries_per_bank=entries_per_bank))


def check(model: Model, seed: int = 0, match: str = "tflite", entries_per_bank: int = 256,
          assume: str = "on", deny: Sequence[str] = ()) -> Outcome:
    """Raises Failure when something crashes or an operation is farther off than it may be; Invalid for nonsense."""
    driver = RocketDriver(soc_with(entries_per_bank))
    subgraph, options = read_tflite(model.data), CompileOptions(
        match=match, deny=frozenset(deny), assume=assume, prefer="npu")
    for operation in subgraph.operations:
        if (problem := op_problem(subgraph, operation)) is not None:
            raise Invalid(f"{operation}: {problem}")
    compiled = compile_subgraph(subgraph, driver, options)
    if compiled.faults:
        raise Failure(f"fault {_error_type(compiled.faults[0])}", compiled.faults[0])
    rng = np.random.default_rng(seed)
    inputs = dict(zip(subgraph.inputs, model_inputs(subgraph, rng), strict=True))
    outcome = Outcome(sum(len(group) for group in compiled.groups), len(subgraph.operations), len(compiled.groups),
                      sum(len(program.tasks) for program in compiled.programs),
                      [(subgraph.operations[i].name, r.rule) for i, r in compiled.refusals.items()],
                      assume != "on" or bool(deny), _share_of_macs(compiled))
    values = _exposed(driver, model, compiled, options, inputs, outcome)
    _compare_as_it_is(driver, compiled, inputs, values)
    outcome.values = {subgraph.tensor(t).name: values[t] for t in (*subgraph.inputs, *subgraph.outputs)}
    outcome.chained = _chained(subgraph, inputs, values, match)
    return outcome


def _share_of_macs(compiled: Compiled) -> float:
    """1 where there are none."""
    macs = {op.index: count_macs(compiled.subgraph, op) for op in compiled.subgraph.operations}
    on_npu = sum(macs[index] for group in compiled.groups for index in group)
    return on_npu / sum(macs.values()) if any(macs.values()) else 1.0


def model_inputs(subgraph: Subgraph, rng: np.random.Generator) -> list[np.ndarray]:
    """Every value equally likely."""
    made = []
    for number in subgraph.inputs:
        tensor = subgraph.tensor(number)
        info = np.iinfo(tensor.dtype.numpy)
        made.append(rng.integers(info.min, int(info.max) + 1, tensor.shape).astype(tensor.dtype.numpy))
    return made


def _exposed(driver: RocketDriver, model: Model, compiled: Compiled, options: CompileOptions, inputs: Values,
             outcome: Outcome) -> Values:
    """Runs with every tensor that exists in memory as an output, and compares each unit of operations."""
    partitions, values = partitions_of(compiled), dict(inputs)
    for step in steps(compiled, partitions):
        if isinstance(step, Operation):
            values |= _on_cpu(compiled.subgraph, step, values, options.match)
            continue
        try:
            program = driver.compile(step.exposed, options)
        except Exception as error:
            raise Failure(f"fault {type(error).__name__}", f"with all outputs: {error}") from error
        values |= _run(driver, step.exposed, program, values)
        for unit in step.units:
            tally = _compare(compiled.subgraph, unit, values, options.match)
            tally.add(_compare_with_exact(model, compiled.subgraph, unit, values))
            outcome.alone.setdefault(_name(unit), Tally()).add(tally)
    return values


def _on_cpu(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> Values:
    return dict(zip(operation.outputs, evaluate_all(subgraph, operation, values, match), strict=True))


def _run(driver: RocketDriver, subgraph: Subgraph, program: Program, values: Values) -> Values:
    try:
        return run_program(driver.soc, subgraph, program, {t: values[t] for t in subgraph.inputs})
    except Exception as error:
        raise Failure(f"run {type(error).__name__}", str(error)) from error


def _name(unit: Unit) -> str:
    return " and ".join(operation.name for operation in unit.operations)


def _compare(subgraph: Subgraph, unit: Unit, values: Values, match: str) -> Tally:
    expected = {t: values[t] for t in unit.part.inputs}
    for operation in unit.operations:
        expected |= _on_cpu(subgraph, operation, expected, match)
    allowed = _allowed(subgraph, unit, expected, match)
    tally = Tally(1)
    for tensor in unit.part.outputs:
        off = np.abs(values[tensor].astype(np.int64) - expected[tensor])
        if (off > allowed[tensor]).any():
            raise Failure(f"off {_name(unit)}", f"{unit.operations[-1]} is {off.max()} from the numerics, may be "
                                                f"{allowed[tensor].reshape(-1)[(off - allowed[tensor]).argmax()]:g}")
        tally.add(Tally(0, off.size, int((off == 1).sum()), int(off.max())))
    return tally


def _compare_with_exact(model: Model, subgraph: Subgraph, unit: Unit, values: Values) -> Tally:
    """An operation alone, given the values that it was given."""
    tally = Tally()
    numbers = {tensor.name: number for number, tensor in enumerate(model.tensors)}
    operation = unit.operations[-1]
    spec = model.operations[operation.index]
    if len(unit.operations) > 1 or spec.name not in exact.REAL:
        return tally
    given = {i: tensor.data for i, tensor in enumerate(model.tensors) if tensor.data is not None}
    given |= {numbers[subgraph.tensor(t).name]: values[t] for t in unit.part.inputs}
    off = np.abs(values[operation.output].astype(np.int64) - exact.operation(model, spec, given).quantised)
    if off.max() > 1:
        raise Failure(f"far from exact {operation.name}", f"{operation} is {off.max()} from exact arithmetic")
    tally.exact_elements, tally.exact_ones = off.size, int((off == 1).sum())
    return tally


def _allowed(subgraph: Subgraph, unit: Unit, expected: Values, match: str) -> Values:
    """Steps for each element of the unit's outputs.

    One for the operation that writes it (none when it copies), and, of each tensor that exists inside the unit only,
    what one step up or down of it changes in the output: it may be off by one itself, within its own bound.
    """
    allowed = {t: np.full(expected[t].shape, float(_is_rounded(unit, t))) for t in unit.part.outputs}
    for index, operation in enumerate(unit.operations):
        for tensor in operation.outputs:
            if tensor in allowed or operation.name in COPYING or expected[tensor].dtype.kind == "f":
                continue
            for t, change in _changes(subgraph, unit.operations[index + 1:], tensor, expected, match):
                if t in allowed:
                    allowed[t] += change
    return allowed


def _is_rounded(unit: Unit, tensor: int) -> bool:
    maker = unit.part.producer(tensor)
    assert maker is not None
    return maker.name not in COPYING


def _changes(subgraph: Subgraph, behind: tuple[Operation, ...], tensor: int, expected: Mapping[int, np.ndarray],
             match: str) -> Iterator[tuple[int, np.ndarray]]:
    """What one step of a tensor, up or down, changes in what comes of it, the larger of both."""
    moved = []
    for step in (-1, 1):
        limits = np.iinfo(expected[tensor].dtype)
        value = np.clip(expected[tensor].astype(np.int64) + step, limits.min, limits.max)
        values = {**expected, tensor: value.astype(expected[tensor].dtype)}
        for operation in behind:
            values |= _on_cpu(subgraph, operation, values, match)
        moved.append(values)
    for t in expected:
        first, second = (np.abs(values[t].astype(np.int64) - expected[t]) for values in moved)
        if t != tensor and (first.any() or second.any()):
            yield t, np.maximum(first, second)


def _compare_as_it_is(driver: RocketDriver, compiled: Compiled, inputs: Values, expected: Values) -> None:
    """The programs as applications get them: where tensors lie must not show in results."""
    for group, program in zip(compiled.groups, compiled.programs, strict=True):
        part = compiled.subgraph.extract(op for op in compiled.subgraph.operations if op.index in group)
        made = _run(driver, part, program, {**expected, **inputs})
        for t, value in made.items():
            if not np.array_equal(value, expected[t]):
                raise Failure("placement", f"{part.producer(t)} depends on what else is an output")


def _chained(subgraph: Subgraph, inputs: Values, values: Values, match: str) -> tuple[int, int, int]:
    """(elements, unlike, largest difference) of the outputs against the numerics of the whole network."""
    expected = dict(inputs)
    for operation in subgraph.operations:
        expected |= _on_cpu(subgraph, operation, expected, match)
    off = [np.abs(values[t].astype(np.int64) - expected[t]) for t in subgraph.outputs]
    return sum(o.size for o in off), sum(int((o > 0).sum()) for o in off), max(int(o.max()) for o in off)


def _error_type(fault: str) -> str:
    """The word before the error's text."""
    return next((word.rstrip(":") for word in fault.split() if word.rstrip(":").endswith("Error")), "")
