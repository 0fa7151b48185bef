"""The driver of Rockchip NPUs behind the interface that all drivers share."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from cermet.drivers.base import CompileError, CompileOptions, Program, Refusal, Refused
from cermet.drivers.rocket.assemble import assemble
from cermet.drivers.rocket.assumed import refusals_of, with_assumed
from cermet.drivers.rocket.batching import lower_batch
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.eltwise import affine_tasks
from cermet.drivers.rocket.fused_add import lower_fused_add
from cermet.drivers.rocket.lanes import shared_where_worth
from cermet.drivers.rocket.operations import OPERATIONS
from cermet.drivers.rocket.passes.fold_strides import Folding, fold_strides, in_blocks
from cermet.drivers.rocket.passes.fuse_add import FusedAdd, fuse_adds
from cermet.drivers.rocket.passes.fuse_normalisation import Normalisation, fuse_normalisations
from cermet.drivers.rocket.passes.fuse_unary import fuse_unaries
from cermet.drivers.rocket.passes.reload_weights import reload_weights
from cermet.drivers.rocket.pipeline import can_run, deciding_passes, lowering_passes
from cermet.drivers.rocket.placement.homes import find_homes
from cermet.drivers.rocket.placement.parts import Part, place_parts
from cermet.drivers.rocket.placement.slices import place_slices
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.support import refusal_of
from cermet.drivers.rocket.views import VIEW_KINDS
from cermet.hw.soc import Soc
from cermet.ir.moves import LAYOUTS
from cermet.ir.numerics_float import is_float
from cermet.ir.operation import Kind, Operation
from cermet.ir.passes import is_shown, run_passes, show_result
from cermet.ir.reductions import REDUCTIONS
from cermet.ir.subgraph import Subgraph
from cermet.ir.verify import verify

T = TypeVar("T")

# What may have been claimed as part of something only, with float operations: see pipeline.py.
ONLY_TOGETHER = frozenset({*LAYOUTS, *REDUCTIONS, *VIEW_KINDS, Kind.RESIZE_BILINEAR})


class RocketDriver:
    """Compiles subgraphs for one SoC, and runs them on a simulated core of it."""

    def __init__(self, soc: Soc) -> None:
        self.soc = soc
        self.name = f"rocket-{soc.name}"
        self._last: tuple[Subgraph, CompileOptions, Subgraph] | None = None

    def refuse(self, subgraph: Subgraph, operation: Operation, options: CompileOptions) -> Refusal | None:
        """None when the operation can run here, else the first rule that it breaks."""
        prepared = self._prepared(subgraph, options)
        for made in prepared.operations:
            if operation.index == made.index or operation.index in made.fused:
                refusal = refusal_of(self.soc, prepared, made)
                if refusal is not None:
                    return refusal
        return None

    def _prepared(self, subgraph: Subgraph, options: CompileOptions) -> Subgraph:
        """The subgraph after the passes that decide what can run; the last answer is kept."""
        if self._last is None or self._last[0] is not subgraph or self._last[1] != options:
            self._last = subgraph, options, run_passes(subgraph, deciding_passes(self.soc, options), debug=False)
        return self._last[2]

    def _check_parts(self, subgraph: Subgraph) -> None:
        """Raises Refused for what was claimed as a part of something that has been kept out or torn apart since."""
        parts = [op for op in subgraph.operations if op.kind in ONLY_TOGETHER or is_float(subgraph, op)]
        asked = {op.index: refusal_of(self.soc, subgraph, op) for op in parts}
        refusals = {index: refusal for index, refusal in asked.items() if refusal is not None}
        if refusals:
            raise Refused(refusals)

    def compile(self, subgraph: Subgraph, options: CompileOptions) -> Program:
        """A program for a subgraph in which nothing is refused. Raises CompileError (our bug) and Refused."""
        with _place("passes"):
            subgraph = run_passes(subgraph, deciding_passes(self.soc, options))
        self._check_parts(subgraph)
        with _place("passes"):
            subgraph = run_passes(subgraph, lowering_passes(self.soc))
        foldings = _decided("fold_strides", lambda: fold_strides(
            subgraph, self.soc, options, partial(can_run, self.soc)), _text_of_folding)
        with _place("pass fold_strides"):
            subgraph = in_blocks(subgraph, foldings)
            verify(subgraph)
        context, tasks = self._lowered(subgraph, options, foldings)
        with _place("sharing"):
            tasks = shared_where_worth(self.soc, tasks, context.sharing.saved_us)
        with _place("pass reload_weights"):
            before, tasks = tasks, reload_weights(tasks, self.soc.registers)
        if is_shown():
            show_result("reload_weights", "\n".join(new.layer for old, new in zip(before, tasks, strict=True)
                                                    if old is not new))
        with _place("assumed parts"):
            tasks = with_assumed(self.soc, tasks)
            refusals = refusals_of(tasks, options.assume)
        if refusals:
            raise Refused(refusals)
        with _place("assemble"):
            return assemble(context, tasks)

    def _lowered(self, subgraph: Subgraph, options: CompileOptions,
                 foldings: Mapping[int, Folding]) -> tuple[Context, list[TaskProgram]]:
        """Tasks of a subgraph behind all passes."""
        context = Context(self.soc, subgraph, options)
        context.foldings = foldings
        fused = _decided("fuse_adds", lambda: fuse_adds(
            subgraph, options.match, with_clamps=options.assume == "on"),
            lambda _, made: f"{made.add} behind {made.convolution}")
        context.fused_unaries = _decided("fuse_unaries", lambda: fuse_unaries(
            subgraph, options.match, with_tables=options.assume == "on"),
            lambda _, made: f"{made.unary} behind {made.convolution}")
        normalised = _decided("fuse_normalisations", lambda: fuse_normalisations(
            subgraph, options.match, with_addends=options.assume != "off"),
            lambda _, made: f"{made.add} with {made.product}")
        context.homes = _decided("find_homes", lambda: find_homes(subgraph, context.views),
                                 lambda operand, home: f"%{operand} in %{home}")
        context.parts = _decided("place_parts", lambda: place_parts(subgraph, context.views),
                                 _text_of_part)
        context.parts = {**context.parts, **_decided("place_slices", lambda: place_slices(
            subgraph, context.views, context.parts), _text_of_part)}
        elsewhere = {made.convolution.index for made in fused.values()}
        elsewhere |= {made.product.index for made in normalised.values()}
        elsewhere |= {made.unary.index for made in context.fused_unaries.values()}
        tasks: list[TaskProgram] = []
        for operation in subgraph.operations:
            with _place(f"lowering of {operation}"):
                if operation.index in fused:
                    tasks += _fused_add(context, fused[operation.index])
                elif operation.index in normalised:
                    tasks += _normalised(context, normalised[operation.index])
                elif operation.index not in elsewhere:
                    tasks += _operation(context, operation)
        return context, tasks

    def npu_us(self, program: Program) -> float:
        """At mainline's clock: an interrupt for each task that it starts, and the cycles that the compiler expects."""
        tasks: Any = program.debug["tasks"]
        cycles = sum(task["cycles"] for task in tasks)
        return self.soc.submit_us + len(program.chains) * self.soc.interrupt_us + cycles / self.soc.mainline_clock_mhz

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


def _normalised(context: Context, made: Normalisation) -> list[TaskProgram]:
    """Tasks of a MUL and the ADD behind it."""
    together = made.together
    return lower_batch(context, (together,), OPERATIONS[together.kind].rules, lambda seen, one: affine_tasks(
        seen, one[0], made.data, made.numbers))


@contextmanager
def _place(place: str) -> Iterator[None]:
    """Whatever a step raises is our bug and gets the place's name."""
    try:
        yield
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(f"{place}: {type(error).__name__}: {error}") from error


def _text_of_part(tensor: int, part: Part) -> str:
    return f"%{tensor} in %{part.host} from surface {part.surface}"


def _text_of_folding(tensor: int, made: Folding) -> str:
    return f"%{tensor} in blocks of {made.block.y}x{made.block.x} for operation {made.convolution}"


def _decided(name: str, decide: Callable[[], Mapping[int, T]], line: Callable[[int, T], str]) -> Mapping[int, T]:
    """What a pass decides without changing the subgraph; line: an entry for people."""
    with _place(f"pass {name}"):
        made = decide()
    if is_shown():
        show_result(name, "\n".join(line(number, value) for number, value in made.items()))
    return made
