"""Structs of a C header, read from the header's own text, so that C and Python share one definition.

Understands what our file formats use: `#define NAME number`, and structs of fixed-width integers and char,
alone or as arrays. Little endian, members at their natural alignment, as every ABI that Linux runs on has it.
"""
from __future__ import annotations

import re
import struct
from collections import namedtuple
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FORMATS = {"uint8_t": "B", "int8_t": "b", "char": "s", "uint16_t": "H", "int16_t": "h",
            "uint32_t": "I", "int32_t": "i", "uint64_t": "Q", "int64_t": "q", "float": "f"}
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINE = re.compile(r"^#define\s+(\w+)\s+(0[xX][0-9a-fA-F]+|\d+)\s*$", re.MULTILINE)
_STRUCT = re.compile(r"struct\s+(\w+)\s*\{(.*?)\}\s*;", re.DOTALL)
_MEMBER = re.compile(r"(\w+)\s+(\w+)(?:\[(\d+)\])?$")


class HeaderError(ValueError):
    """The header holds something that this reader does not understand."""


@dataclass(frozen=True)
class Record:
    """One struct: its size, where members lie, and conversion to and from named tuples.

    Arrays of 8-bit members are `bytes` of their full length.
    """

    name: str
    offsets: Mapping[str, int]
    zeros: Mapping[str, int | bytes] = field(repr=False)
    layout: struct.Struct
    row: Any = field(repr=False)    # the namedtuple class of its members

    @property
    def size(self) -> int:
        return self.layout.size

    def pack(self, **members: int | bytes) -> bytes:
        """The bytes of one struct; members not named are zero, padding is zero."""
        values = {**self.zeros, **members}
        if len(values) != len(self.zeros):
            raise TypeError(f"struct {self.name} has no member {', '.join(members.keys() - self.zeros.keys())}")
        try:
            return self.layout.pack(*values.values())
        except struct.error as error:
            raise ValueError(f"struct {self.name}: {error} in {values}") from error

    def pack_all(self, rows: Iterable[Mapping[str, int | bytes]]) -> bytes:
        return b"".join(self.pack(**row) for row in rows)

    def unpack(self, data: bytes | memoryview, offset: int = 0) -> Any:
        """The struct at an offset, as a named tuple. Raises ValueError when data is too short."""
        return self.unpack_all(data, offset, 1)[0]

    def unpack_all(self, data: bytes | memoryview, offset: int, count: int) -> list[Any]:
        """Consecutive structs as named tuples. Raises ValueError when they do not lie inside data."""
        end = offset + count * self.size
        if offset < 0 or count < 0 or end > len(data):
            raise ValueError(f"{count} x struct {self.name} at {offset} end beyond the {len(data)} bytes there are")
        return [self.row._make(values) for values in self.layout.iter_unpack(memoryview(data)[offset:end])]


@dataclass(frozen=True)
class Header:
    """The numbers and structs of one C header."""

    constants: Mapping[str, int]
    records: Mapping[str, Record]


def parse_header(path: Path) -> Header:
    """Read a header. Raises HeaderError for a struct member that is not understood."""
    text = _COMMENT.sub(" ", path.read_text(encoding="utf-8"))
    constants = {name: int(value, 0) for name, value in _DEFINE.findall(text)}
    records = {name: _record(name, body) for name, body in _STRUCT.findall(text)}
    return Header(constants, records)


def _record(name: str, body: str) -> Record:
    codes = "<"
    offsets: dict[str, int] = {}
    zeros: dict[str, int | bytes] = {}
    position, alignment = 0, 1
    for declaration in filter(None, (" ".join(part.split()) for part in body.split(";"))):
        member, code, size = _member(name, declaration)
        gap = -position % size
        codes += f"{gap}x" if gap else ""
        offsets[member] = position + gap
        zeros[member] = b"" if code.endswith("s") else 0
        codes += code
        position += gap + struct.calcsize("<" + code)
        alignment = max(alignment, size)
    tail = -position % alignment
    codes += f"{tail}x" if tail else ""
    return Record(name, offsets, zeros, struct.Struct(codes), namedtuple(name, list(offsets)))


def _member(record: str, declaration: str) -> tuple[str, str, int]:
    """(name, struct code, alignment in bytes) of a member."""
    match = _MEMBER.match(declaration)
    code = _FORMATS.get(match[1]) if match else None
    if match is None or code is None:
        raise HeaderError(f"struct {record}: {declaration!r} must be a fixed-width integer or an array of bytes")
    if match[3] is None:
        return match[2], code, struct.calcsize("<" + code)
    if struct.calcsize("<" + code) != 1:
        raise HeaderError(f"struct {record}: array {match[2]} must have elements of one byte")
    return match[2], f"{match[3]}s", 1
