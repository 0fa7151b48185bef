"""From a subgraph to a plan: which operations the NPU takes, in which groups, and a program for each group.

An operation that cannot run on the NPU stays on the CPU with a reason. A fault of the compiler does the same to the
group it happens in, and is told on stderr: the application keeps working.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from cermet import build
from cermet.drivers.base import CompileOptions, Driver, Program, Refusal, Refused
from cermet.errors import CermetError
from cermet.hw.soc import soc_by_name
from cermet.ir.dynamic import dynamic_tensors
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.partition import partition
from cermet.program.cache import cache_key
from cermet.program.plan import Plan, PlanNode, PlanPartition
from cermet.program.plan_writer import encode_plan
from cermet.worth import better_on_cpu

KNOWN_OPERATIONS = tuple(sorted(kind.value for kind in Kind if kind.is_operator))


class CompileRequestError(CermetError):
    """What was asked for cannot be compiled as asked; one line."""


@dataclass(frozen=True)
class Compiled:
    """What became of a subgraph: the plan's content without its key.

    groups     indices of operations per partition, ascending, in the order in which the runtime runs them
    programs   one per group
    refusals   by index, for every operation that is in no group
    faults     one line for each fault of the compiler: groups that should have been on the NPU
    """

    subgraph: Subgraph
    groups: tuple[tuple[int, ...], ...]
    programs: tuple[Program, ...]
    refusals: dict[int, Refusal]
    faults: tuple[str, ...] = ()


def driver_for(soc: str) -> Driver:
    """The compiler of a SoC. Raises CompileRequestError naming the SoCs there are."""
    try:
        description = soc_by_name(soc)
    except ValueError as error:
        raise CompileRequestError(str(error)) from error
    from cermet.drivers.rocket.driver import RocketDriver
    return RocketDriver(description)


def compile_subgraph(subgraph: Subgraph, driver: Driver, options: CompileOptions) -> Compiled:
    """Decide, group and compile. Raises CompileRequestError for options that do not fit the subgraph."""
    _check_names("allow", options.allow)
    _check_names("deny", options.deny)
    faults: list[str] = []
    refusals = _refusals(subgraph, driver, options, faults)
    if options.groups:
        groups = _requested_groups(subgraph, options.groups, refusals)
        regroup: Callable[[], list[tuple[int, ...]]] = lambda: [g for g in groups if g[0] not in refusals]  # noqa: E731
    else:
        regroup = lambda: partition(subgraph, refusals, options.min_partition_nodes)  # noqa: E731
    programs = _compile_groups(subgraph, driver, options, regroup, refusals, faults)
    return Compiled(subgraph, tuple(programs), tuple(programs.values()), refusals, tuple(faults))


def compile_blob(blob: bytes, soc: str, options: CompileOptions) -> tuple[bytes, Compiled]:
    """(plan file's bytes, what is in it) for a subgraph blob. Equal inputs give equal bytes."""
    from cermet.frontend.blob import read_blob
    compiled = compile_subgraph(read_blob(blob), driver_for(soc), options)
    return encode_plan(make_plan(compiled, cache_key(blob, soc, options), soc)), compiled


def make_plan(compiled: Compiled, key: bytes, soc: str) -> Plan:
    """The plan that says what `compiled` says."""
    partition_of = {index: number for number, group in enumerate(compiled.groups) for index in group}
    nodes = tuple(PlanNode(partition_of.get(operation.index), compiled.refusals.get(operation.index))
                  for operation in compiled.subgraph.operations)
    parts = tuple(PlanPartition(group, program)
                  for group, program in zip(compiled.groups, compiled.programs, strict=True))
    return Plan(key, build.BUILD_ID, soc, nodes, parts)


# Which operations


def _check_names(option: str, words: frozenset[str]) -> None:
    unknown = sorted(word for word in words if not word[0].isdigit() and word not in KNOWN_OPERATIONS)
    if unknown:
        raise CompileRequestError(f"option {option}: {', '.join(unknown)} must be among {', '.join(KNOWN_OPERATIONS)}")


def _refusals(subgraph: Subgraph, driver: Driver, options: CompileOptions, faults: list[str]) -> dict[int, Refusal]:
    dynamic = dynamic_tensors(subgraph)
    asked = {op.index: refuse_by_option(op, options) or refuse_by_tensors(subgraph, op, dynamic)
             for op in subgraph.operations}
    found = {index: refusal for index, refusal in asked.items() if refusal is not None}
    # What stays on the CPU in any case is nothing that its neighbours could be fused with.
    rest = replace(subgraph, operations=tuple(
        replace(op, kind=Kind.OTHER) if op.index in found else op for op in subgraph.operations))
    for operation in rest.operations:
        refusal = None if operation.index in found else _ask_driver(rest, operation, driver, options, faults)
        if refusal is not None:
            found[operation.index] = refusal
    return found


def refuse_by_option(operation: Operation, options: CompileOptions) -> Refusal | None:
    """The operation is named by `deny`, or `allow` names others only."""
    word = _named(operation, options.deny)
    if word:
        return Refusal("option_deny", f"option deny names {word}")
    if options.allow and not _named(operation, options.allow):
        return Refusal("option_allow", f"option allow names only {', '.join(sorted(options.allow))}")
    return None


def _named(operation: Operation, words: frozenset[str]) -> str:
    """The word that names an operation: its own name, its number or a range around it; empty when none does."""
    ranges = sorted(word for word in words if word[0].isdigit())
    inside = (word for word in ranges if int(word.split("-")[0]) <= operation.index <= int(word.split("-")[-1]))
    return operation.name if operation.name in words else next(inside, "")


def refuse_by_tensors(subgraph: Subgraph, operation: Operation, dynamic: frozenset[int]) -> Refusal | None:
    """A tensor of the operation gets its shape while the model runs, or keeps its value between invocations."""
    for number in (*operation.inputs, *operation.outputs):
        if number is None:
            continue
        tensor = subgraph.tensor(number)
        if number in dynamic:
            return Refusal("shape_is_known", f"the shape of tensor {tensor.name!r} is computed while the model runs")
        if tensor.is_variable:
            return Refusal("value_is_not_kept", f"tensor {tensor.name!r} keeps its value between invocations")
    return None


def _ask_driver(subgraph: Subgraph, operation: Operation, driver: Driver, options: CompileOptions,
                faults: list[str]) -> Refusal | None:
    try:
        return driver.refuse(subgraph, operation, options)
    except Exception as error:
        return _fault(f"support rules of {operation}", error, faults)


# Programs


def _requested_groups(subgraph: Subgraph, groups: tuple[tuple[int, ...], ...],
                      refusals: dict[int, Refusal]) -> list[tuple[int, ...]]:
    """The groups as given. Operations that could run but are in none get a refusal."""
    operations = {operation.index: operation for operation in subgraph.operations}
    for index in (index for group in groups for index in group):
        if index not in operations:
            raise CompileRequestError(f"option groups: operation {index} must be below {len(operations)}")
        if index in refusals:
            raise CompileRequestError(f"option groups: {operations[index]} stays on the CPU: {refusals[index].reason}")
    members = {index for group in groups for index in group}
    for index in operations.keys() - members - refusals.keys():
        refusals[index] = Refusal("option_groups", "option groups leaves it out")
    return list(groups)


def _compile_groups(subgraph: Subgraph, driver: Driver, options: CompileOptions,
                    regroup: Callable[[], list[tuple[int, ...]]], refusals: dict[int, Refusal],
                    faults: list[str]) -> dict[tuple[int, ...], Program]:
    """Program of each group. What cannot be compiled is refused, which may change the groups of the rest."""
    operations = {operation.index: operation for operation in subgraph.operations}
    compiled: dict[tuple[int, ...], Program] = {}
    while True:
        groups = regroup()
        for group in groups:
            if group in compiled:
                continue
            part = subgraph.extract(operations[index] for index in group)
            if not part.outputs:
                refusals.update(dict.fromkeys(group, Refusal("result_is_read", "nobody reads what it computes")))
                continue
            try:
                compiled[group] = driver.compile(part, options)
            except Refused as refused:
                whole = dict.fromkeys(group, next(iter(refused.refusals.values())))
                refusals.update(whole if options.groups else refused.refusals)
            except Exception as error:
                refusal = _fault(f"partition of {operations[group[0]]} to {operations[group[-1]]}", error, faults)
                refusals.update(dict.fromkeys(group, refusal))
        if not all(group in compiled for group in groups):
            continue
        programs = {group: compiled[group] for group in groups}
        leave = better_on_cpu(subgraph, {group: driver.npu_us(program) for group, program in programs.items()}) \
            if options.prefer == "speed" and not options.groups else {}
        if not leave:
            return programs
        refusals.update(leave)


def _fault(place: str, error: Exception, faults: list[str]) -> Refusal:
    """The compiler is at fault: remember it, let the CPU do the work. CERMET_TRACEBACK=1 shows where."""
    if os.environ.get("CERMET_TRACEBACK"):
        raise error
    text = " ".join(str(error).split()) or type(error).__name__
    faults.append(f"{place}: fault of the compiler, stays on the CPU: {type(error).__name__}: {text}")
    return Refusal("compiler_fault", f"fault of the compiler: {text}")
