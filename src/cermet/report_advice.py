"""What a report adds to the facts: how to bring an operation onto the NPU, and what costs time on it."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cermet.drivers.base import Refusal
from cermet.drivers.rocket.documentation import rule_sentence
from cermet.hw.soc import Soc, soc_by_name
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

SHOWN_STEPS = 4
NAMELESS_STEPS = frozenset({"part", "tensor", "phase", "itself"})
LITTLE_USE = 0.75           # below this share of the array a hint is given

# By rule: what would have to change in the model (or in how it is used).
ADVICE: Mapping[str, str] = {
    "activations_are_8_bit": "Quantise it: convert the model with full integer quantisation (a representative data "
                             "set, int8 operations).",
    "operation_is_known": "Replace it by operations of the support table, or leave it out of the path of the data: "
                          "at the beginning or the end of the model it does not cut the NPU's part in two.",
    "shape_is_known": "Convert the model with fixed shapes.",
    "shapes_are_known": "Convert the model with fixed shapes.",
    "value_is_not_kept": "Make the state an input and an output of the model.",
    "activations_are_not_variables": "Make the state an input and an output of the model.",
    "batch_is_one": "Invoke the model with fewer samples at a time.",
    "option_deny": "Nothing in the model: take its name out of the option deny.",
    "option_allow": "Nothing in the model: add its name to the option allow.",
    "option_groups": "Nothing in the model: the option groups leaves it out.",
    "group_does_work": "Nothing: it moves no data and costs next to nothing where it is.",
    "group_has_min_nodes": "Bring its neighbours onto the NPU too, or lower the option min_partition_nodes.",
    "partition_pays_off": "Bring its neighbours onto the NPU too. The option prefer=npu runs it there all the same.",
    "border_is_narrow": "Nothing: less data crosses to the NPU this way. The option prefer=npu runs it there all the "
                        "same.",
    "result_is_read": "Remove it: nothing depends on it.",
    "parts_are_proven": "Nothing in the model: the option assume keeps it off.",
    "compiler_fault": "Nothing in the model: this is a fault of the compiler, please report it.",
}

FLOAT_ENDS = ("Inputs and outputs of a model can be integers (inference_input_type and inference_output_type of the "
              "converter); inside, keep floating point off the path of the data.")
STATE = "Make the state an input and an output of the model; kept in variables it stays with the CPU."
# What no NPU program exists for, by operation.
ADVICE_BY_NAME: Mapping[str, str] = {
    "QUANTIZE": FLOAT_ENDS, "DEQUANTIZE": FLOAT_ENDS,
    **dict.fromkeys(("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"), STATE),
    "CUSTOM:TFLite_Detection_PostProcess": "Nothing: sorting boxes is the CPU's work, at the end of the model.",
}


def advice(operation: Operation, refusal: Refusal) -> str:
    """What would have to change for the operation to run on the NPU; falls back on the rule itself."""
    if refusal.rule in ("operation_is_known", "activations_are_8_bit") and operation.name in ADVICE_BY_NAME:
        return ADVICE_BY_NAME[operation.name]
    if refusal.rule == "activations_are_8_bit" and "float" not in refusal.reason:
        return "Integers of other widths (indices, counters) stay on the CPU; keep them out of the path of the data."
    if refusal.rule in ADVICE:
        return ADVICE[refusal.rule]
    words = rule_sentence(operation.kind, refusal.rule)
    return f'Change it to fit the rule: "{words}"' if words else ""


def hints(subgraph: Subgraph, operation: Operation, tasks: Sequence[Mapping[str, Any]], soc: str,
          block: tuple[int, int] = (1, 1)) -> list[str]:
    """What costs an operation time on the NPU. block: rows and columns of pixels that it reads as one."""
    found = [*_array_hints(subgraph, operation, soc_by_name(soc), block), *_scale_hints(subgraph, operation),
             *_task_hints(tasks, soc_by_name(soc))]
    return [hint for hint in found if hint]


def cut_hint(subgraph: Subgraph, operation: Operation, partition_of: Mapping[int, int]) -> list[str]:
    """That an operation of the CPU takes data from the NPU and gives it back there."""
    makers = [subgraph.producer(t) for t in operation.inputs]
    readers = [reader for t in operation.outputs for reader in subgraph.consumers(t)]
    before = {partition_of[op.index] for op in makers if op is not None and op.index in partition_of}
    behind = {partition_of[op.index] for op in readers if op.index in partition_of}
    if not before or not behind:
        return []
    return ["stands between partitions " + " and ".join(", ".join(map(str, sorted(side))) for side in (before, behind))
            + ": its data goes from the NPU to the CPU and back"]


def _scale_hints(subgraph: Subgraph, operation: Operation) -> list[str]:
    """Operands that have to be requantised before they can be put together."""
    if operation.kind is not Kind.CONCATENATION:
        return []
    operands = [subgraph.tensor(t) for t in operation.inputs if t is not None]
    wanted = subgraph.tensor(operation.output).quantisation
    others = sum(tensor.quantisation != wanted for tensor in operands)
    return [f"{others} of its {len(operands)} operands have another scale or zero point than the result: each is "
            "requantised, with one scale for all they would only be copied"] if others else []


def _task_hints(tasks: Sequence[Mapping[str, Any]], soc: Soc) -> list[str]:
    """How many tasks and why: cut to fit the convolution buffer, or passes that depend on each other."""
    if len(tasks) < 2:
        return []
    parts = [task["layer"].partition("), ")[2] for task in tasks]
    is_cut = [bool(re.search(r"rows \d+\.\.|channels \d+\.\.", part)) for part in parts]
    if all(is_cut):
        ways = [word for word in ("rows", "channels") if any(f"{word} " in part for part in parts)]
        why = f"cut along its {' and '.join(ways)} to fit the convolution buffer"
    else:
        names = list(dict.fromkeys(re.sub(r"[ ,]*\(?-?\d.*$", "", part) or "itself" for part in parts))
        why = f"in steps: {', '.join(names[:SHOWN_STEPS])}{', ...' if len(names) > SHOWN_STEPS else ''}"
        if set(names) <= NAMELESS_STEPS:
            why = "one or more for each part that it moves"
    waiting_ms = sum(task["interrupts"] for task in tasks) * soc.interrupt_us / 1000
    costs = f"{waiting_ms:.2g} ms of interrupts on a board, " if waiting_ms else ""
    return [f"takes {len(tasks)} tasks, {costs}{why}"]


def _array_hints(subgraph: Subgraph, operation: Operation, soc: Soc, block: tuple[int, int]) -> list[str]:
    """Channels that leave a part of the multipliers idle; they work on whole groups."""
    channels = _channels(subgraph, operation)
    if channels is None:
        return []
    read, made = channels
    if operation.kind is Kind.DEPTHWISE_CONV:
        return [_idle("channels", made, soc.depthwise_group)]
    pixels = block[0] * block[1]
    of_blocks = f" of blocks of {block[0]}x{block[1]} pixels" if pixels > 1 else ""
    return [_idle(f"input channels{of_blocks}", read * pixels, soc.weight_input_block),
            _idle("output channels", made, soc.kernel_group)]


def _channels(subgraph: Subgraph, operation: Operation) -> tuple[int, int] | None:
    """(read, made) by each tap of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""
    if operation.kind not in (Kind.CONV, Kind.DEPTHWISE_CONV, Kind.FULLY_CONNECTED):
        return None
    weights = subgraph.tensor(operation.inputs[1]).shape
    if operation.kind is Kind.DEPTHWISE_CONV:
        return weights[3], weights[3]
    return weights[-1], weights[0]


def _idle(what: str, count: int, group: int) -> str:
    whole = -(-count // group) * group
    if count / whole >= LITTLE_USE:
        return ""
    what = what if count > 1 else what.removesuffix("s")
    return f"{count / whole:.0%} of the array is busy: {count} {what}, {whole} take the same time"
