"""The layout of the plan file, as cermet_plan.h has it: structs, constants, names; the checksum."""
from __future__ import annotations

from functools import cache

from cermet import paths
from cermet.program.checksum import checksum
from cermet.program.cstruct import Header, Record, parse_header

MAX_FILE_BYTES = 0xFFFFFFFF     # offsets have 32 bits
PORT_NUMBERS = ("tensor", "bo", "offset_bytes", "batch", "height", "width", "channels", "batch_stride_bytes",
                "line_stride_bytes", "surface_stride_bytes", "flip", "fill", "fold_y", "fold_x")


@cache
def plan_header() -> Header:
    """cermet_plan.h."""
    return parse_header(paths.header("cermet_plan.h"))


def record_of(name: str) -> Record:
    """struct cermet_plan_<name>."""
    return plan_header().records[f"cermet_plan_{name}"]


def names_of(prefix: str) -> dict[str, int]:
    """Lower-case names of the constants CERMET_<prefix>_*."""
    start = f"CERMET_{prefix}_"
    return {name[len(start):].lower(): value for name, value in plan_header().constants.items()
            if name.startswith(start)}


def with_checksum(data: bytes) -> bytes:
    """The file with the checksum that belongs into its header."""
    start = record_of("header").offsets["checksum_sum"]
    values = b"".join(value.to_bytes(8, "little") for value in checksum_of(data))
    return data[:start] + values + data[start + len(values):]


def checksum_of(data: bytes) -> tuple[int, int]:
    """The file's sum and products; what it has in their place counts as zero."""
    constants = plan_header().constants
    return checksum(data, record_of("header").offsets["checksum_sum"],
                    (constants["CERMET_PLAN_STEP"], constants["CERMET_PLAN_OTHER_STEP"]))
