"""What kind of program a file is, from its ELF header."""
from __future__ import annotations

import pathlib
import struct
from dataclasses import dataclass

HEADER = struct.Struct("<4sBB10xHHIQQQIHHH")    # up to the number of program headers, 64 bit
PROGRAM_HEADER = struct.Struct("<I52x")
INTERPRETER = 3                                 # PT_INTERP
MAX_HEADERS = 128
MACHINES = {62: "x86_64", 183: "aarch64"}


@dataclass(frozen=True)
class Program:
    """A 64-bit little-endian ELF file."""

    machine: str            # as platform.machine() says it
    is_dynamic: bool        # a dynamic linker loads it, and with it what LD_PRELOAD names


def program_of(path: pathlib.Path) -> Program | None:
    """None for whatever else there is: scripts, 32-bit programs, damaged files."""
    try:
        with path.open("rb") as file:
            magic, bits, order, _, machine, _, _, start, _, _, _, size, count = HEADER.unpack(file.read(HEADER.size))
            if (magic, bits, order) != (b"\x7fELF", 2, 1) or size < PROGRAM_HEADER.size or count > MAX_HEADERS:
                return None
            file.seek(start)
            headers = file.read(size * count)
            kinds = [PROGRAM_HEADER.unpack_from(headers, size * index)[0] for index in range(count)]
    except (OSError, struct.error, OverflowError):
        return None
    return Program(MACHINES.get(machine, f"machine {machine}"), INTERPRETER in kinds)
