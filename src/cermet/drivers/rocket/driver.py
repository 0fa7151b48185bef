"""The driver of Rockchip NPUs behind the interface that all drivers share."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from cermet.drivers.base import CompileError, CompileOptions, Program, Refusal, Refused
from cermet.drivers.rocket.assemble import assemble
from cermet.drivers.rocket.assumed import refusals_of, with_assumed
from cermet.drivers.rocket.batching import forms, is_batch, lower_batch
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.fused_add import lower_fused_add
from cermet.drivers.rocket.operations import OPERATIONS
from cermet.drivers.rocket.passes.drop_identities import drop_identities
from cermet.drivers.rocket.passes.fuse_add import FusedAdd, fuse_adds
from cermet.drivers.rocket.passes.fuse_unary import fuse_unaries
from cermet.drivers.rocket.passes.reload_weights import reload_weights
from cermet.drivers.rocket.placement.homes import find_homes
from cermet.drivers.rocket.placement.parts import place_parts
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.rules import Query, first_refusal
from cermet.hw.soc import Soc
from cermet.ir.operation import Kind, Operation
from cermet.ir.passes import Pass, run_passes
from cermet.ir.passes.fold_dilation import dilations, fold_dilations
from cermet.ir.passes.fold_pad import fold_pad
from cermet.ir.passes.sink_transpose import sink_transposes, sunk_transposes
from cermet.ir.reductions import REDUCTIONS
from cermet.ir.subgraph import Subgraph


class RocketDriver:
    """Compiles subgraphs for one SoC, and runs them on a simulated core of it."""

    def __init__(self, soc: Soc) -> None:
        self.soc = soc
        self.name = f"rocket-{soc.name}"

    def refuse(self, subgraph: Subgraph, operation: Operation, options: CompileOptions) -> Refusal | None:
        """None when the operation can run here, else the first rule that it breaks."""
        entry = OPERATIONS.get(operation.kind)
        if entry is None:
            return Refusal("operation_is_known", _unknown(operation))
        broken = first_refusal(entry.rules, Query(self.soc, subgraph, operation))
        if broken is not None and is_batch(subgraph, operation):
            for form in forms(subgraph, (operation,)):
                broken = first_refusal(entry.rules, Query(self.soc, form.subgraph, form.operations[0]))
                if broken is None:
                    break
        if broken is not None and self._is_folded(subgraph, operation):
            return None
        return None if broken is None else Refusal(*broken)

    def _is_folded(self, subgraph: Subgraph, operation: Operation) -> bool:
        """Whether the operation vanishes in one that runs here, or becomes it: a dilation, or a mean of other axes."""
        made = chain((((conv,), folded) for conv, folded in dilations(subgraph)), sunk_transposes(subgraph))
        return any(all(self._keeps_rules(folded, op) for op in changed) for changed, folded in made
                   if any(operation.index in (op.index, *op.fused) for op in changed))

    def _keeps_rules(self, subgraph: Subgraph, operation: Operation) -> bool:
        return first_refusal(OPERATIONS[operation.kind].rules, Query(self.soc, subgraph, operation)) is None

    def _check_halves(self, subgraph: Subgraph) -> None:
        """Raises Refused for what was claimed as a part of a fold whose other part the options have kept out."""
        halves = [op for op in subgraph.operations
                  if op.kind in (Kind.SPACE_TO_BATCH, Kind.BATCH_TO_SPACE, *REDUCTIONS)]
        broken = {op.index: first_refusal(OPERATIONS[op.kind].rules, Query(self.soc, subgraph, op)) for op in halves}
        refusals = {index: Refusal(*found) for index, found in broken.items() if found is not None}
        if refusals:
            raise Refused(refusals)

    def _fold_dilation(self) -> Pass:
        """The pass, for convolutions that run here afterwards."""
        def fold_dilation(subgraph: Subgraph) -> Subgraph:
            return fold_dilations(subgraph, self._keeps_rules)
        return fold_dilation

    def _sink_transpose(self) -> Pass:
        """The pass, for operations that run here afterwards."""
        def sink_transpose(subgraph: Subgraph) -> Subgraph:
            return sink_transposes(subgraph, self._keeps_rules)
        return sink_transpose

    def compile(self, subgraph: Subgraph, options: CompileOptions) -> Program:
        """A program for a subgraph in which nothing is refused. Raises CompileError (our bug) and Refused."""
        with _place("passes"):
            subgraph = run_passes(subgraph, (self._fold_dilation(), self._sink_transpose(), fold_pad, drop_identities))
        self._check_halves(subgraph)
        context = Context(self.soc, subgraph, options)
        with _place("pass fuse_adds"):
            fused = fuse_adds(subgraph, with_clamps=options.assume == "on")
        with _place("pass fuse_unaries"):
            context.fused_unaries = fuse_unaries(subgraph, options.match, with_tables=options.assume == "on")
        with _place("pass find_homes"):
            context.homes = find_homes(subgraph, context.views)
        with _place("pass place_parts"):
            context.parts = place_parts(subgraph, context.views)
        elsewhere = {made.convolution.index for made in fused.values()}
        elsewhere |= {made.unary.index for made in context.fused_unaries.values()}
        tasks: list[TaskProgram] = []
        for operation in subgraph.operations:
            with _place(f"lowering of {operation}"):
                if operation.index in fused:
                    tasks += _fused_add(context, fused[operation.index])
                elif operation.index not in elsewhere:
                    tasks += _operation(context, operation)
        with _place("pass reload_weights"):
            tasks = reload_weights(tasks, self.soc.registers)
        with _place("assumed parts"):
            tasks = with_assumed(self.soc, tasks)
            refusals = refusals_of(tasks, options.assume)
        if refusals:
            raise Refused(refusals)
        with _place("assemble"):
            return assemble(context, tasks)

    def npu_us(self, program: Program) -> float:
        """At mainline's clock: an interrupt for each task and the cycles that the compiler expects."""
        tasks: Any = program.debug["tasks"]
        cycles = sum(task["cycles"] for task in tasks)
        return self.soc.submit_us + len(tasks) * self.soc.interrupt_us + cycles / self.soc.mainline_clock_mhz

    def execute(self, subgraph: Subgraph, inputs: Mapping[int, np.ndarray],
                options: CompileOptions | None = None) -> dict[int, np.ndarray]:
        """Compile and run on one simulated core, in this process."""
        from cermet.drivers.rocket.execute import run_program
        return run_program(self.soc, subgraph, self.compile(subgraph, options or CompileOptions()), inputs)


def _operation(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of an operation, with the unary function that is fused behind it."""
    behind = context.fused_unaries.get(operation.index)
    together = (operation,) if behind is None else (operation, behind.unary)
    entry = OPERATIONS[operation.kind]
    return lower_batch(context, together, entry.rules, lambda seen, made: entry.lower(seen, made[0]))


def _fused_add(context: Context, fused: FusedAdd) -> list[TaskProgram]:
    """Tasks of a convolution and the ADD behind it."""
    rules = OPERATIONS[fused.convolution.kind].rules
    return lower_batch(context, (fused.convolution, fused.add), rules, lambda seen, made: lower_fused_add(
        seen, replace(fused, convolution=made[0], add=made[1])))


@contextmanager
def _place(place: str) -> Iterator[None]:
    """Whatever a step raises is our bug and gets the place's name."""
    try:
        yield
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(f"{place}: {type(error).__name__}: {error}") from error


def _unknown(operation: Operation) -> str:
    if operation.kind is Kind.OTHER:
        return f"no NPU program for {operation.name}"
    return f"no NPU program for {operation.kind.value}"
