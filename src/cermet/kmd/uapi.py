"""Structs and ioctl numbers, read from the very headers that C programs include: there is no second definition."""
from __future__ import annotations

import re
import struct
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import cffi

from cermet import paths

HEADERS = ("drm_core.h", "rocket_accel.h", "rocket_queues.h")
KERNEL_TYPES = "".join(f"typedef {signed}int{bits}_t __{letter}{bits};\n" for bits in (8, 16, 32, 64)
                       for letter, signed in (("u", "u"), ("s", "")))

IOC_WRITE, IOC_READ = 1, 2      # direction bits of an ioctl number: what user space writes, what it reads
CODES = {"uint32_t": "I", "int32_t": "i", "uint64_t": "Q"}
DIRECTIONS = {"DRM_IO": 0, "DRM_IOW": IOC_WRITE, "DRM_IOR": IOC_READ, "DRM_IOWR": IOC_WRITE | IOC_READ}


@dataclass(frozen=True)
class Number:
    """The parts of an ioctl number."""

    direction: int
    size: int
    letter: int
    index: int

    @classmethod
    def parse(cls, request: int) -> Number:
        return cls(request >> 30 & 3, request >> 16 & 0x3FFF, request >> 8 & 0xFF, request & 0xFF)

    @property
    def value(self) -> int:
        return self.direction << 30 | self.size << 16 | self.letter << 8 | self.index


def strip_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def declarations(text: str) -> str:
    """A header without comments, C++ parts and preprocessor lines: what cffi understands."""
    text = re.sub(r"#if defined\(__cplusplus\).*?#endif", "", strip_comments(text), flags=re.DOTALL)
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def evaluate(expression: str, constants: dict[str, int]) -> int:
    """A sum of numbers, characters and known names."""
    total = 0
    for term in expression.split("+"):
        term = term.strip()
        if re.fullmatch(r"'.'", term):
            total += ord(term[1])
        else:
            total += constants[term] if term in constants else int(term, 0)
    return total


def parse_constants(text: str) -> dict[str, int]:
    """The #defines of plain numbers."""
    constants: dict[str, int] = {}
    for name, value in re.findall(r"^#define (\w+) (0x[0-9a-fA-F]+|\d+|'.')$", text, flags=re.MULTILINE):
        constants[name] = evaluate(value, constants)
    return constants


def parse_ioctls(text: str, constants: dict[str, int], ffi: cffi.FFI) -> dict[str, tuple[Number, str]]:
    """name -> (number, struct) of every #define made with DRM_IO, DRM_IOW, DRM_IOR or DRM_IOWR."""
    found = {}
    pattern = r"^#define (DRM_IOCTL_\w+) (DRM_IOW?R?)\(([^,]+), (struct \w+)\)$"
    for name, macro, index, record in re.findall(pattern, text, flags=re.MULTILINE):
        number = Number(DIRECTIONS[macro], ffi.sizeof(record), constants["DRM_IOCTL_BASE"], evaluate(index, constants))
        found[name] = (number, record)
    return found


def form_of(ffi: cffi.FFI, name: str) -> struct.Struct:
    """A struct without gaps for the module struct, which is faster with a few members than cffi."""
    form = struct.Struct("=" + "".join(CODES[member.type.cname] for _, member in ffi.typeof(name).fields))
    assert form.size == ffi.sizeof(name), name
    return form


def load() -> tuple[cffi.FFI, dict[str, int], dict[str, tuple[Number, str]]]:
    """The structs, the constants and the ioctls of all headers."""
    texts = [paths.header(name).read_text() for name in HEADERS]
    ffi = cffi.FFI()
    ffi.cdef(KERNEL_TYPES + "".join(map(declarations, texts)))
    text = strip_comments("\n".join(texts))
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    constants = parse_constants(text)
    return ffi, constants, parse_ioctls(text, constants, ffi)


ffi, CONSTANTS, IOCTLS = load()


def record_of(name: str) -> Any:
    """A struct of the headers as a named tuple of its members."""
    return namedtuple(name.removeprefix("struct "), [member for member, _ in ffi.typeof(name).fields])


def number(name: str) -> int:
    """The ioctl number, for example of "DRM_IOCTL_ROCKET_SUBMIT"."""
    return IOCTLS[name][0].value
