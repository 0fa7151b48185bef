"""Operations without an NPU program, and why: derivations in docs/hardware.md, "What stays on the CPU"."""
from __future__ import annotations

from collections.abc import Mapping

NO_POSITIONS = "its result is positions, and no unit of the NPU writes positions or integers of that width"
WHY: Mapping[str, str] = {
    "SOFTMAX": "results within one step need exponentials of 15 bits and a product with their sum's reciprocal, some "
               "20 tasks and 0.7 ms, in forms that no known program has",
    "LOG_SOFTMAX": "results within one step need a sum of exponentials of 15 bits and its logarithm, some 20 tasks "
                   "and 0.7 ms, in forms that no known program has",
    "L2_NORMALIZATION": "a result within one step needs 1 / norm with 14 bits, and products take operands of 8",
    "ARG_MAX": NO_POSITIONS, "ARG_MIN": NO_POSITIONS,
    "REDUCE_PROD": "products of more than two numbers do not fit the NPU's integers",
}


def why_no_program(name: str) -> str:
    """The reason, with the cause where it is known."""
    cause = WHY.get(name)
    return f"no NPU program for {name}" + (f": {cause}" if cause else "")
