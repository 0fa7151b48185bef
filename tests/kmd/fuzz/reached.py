"""Which lines of a folder's Python files run: a small tracer, as the fuzzers need no package for it."""
from __future__ import annotations

import dis
import pathlib
import sys
import threading
from types import CodeType, FrameType
from typing import Any


def lines_of(code: CodeType) -> set[int]:
    """Of a file's functions, all levels; what only runs at import is left out by giving functions only."""
    found = {line for _, line in dis.findlinestarts(code) if line}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= lines_of(constant)
    return found


def function_lines(path: pathlib.Path) -> set[int]:
    module = compile(path.read_text(), str(path), "exec")
    return {line for constant in module.co_consts if isinstance(constant, CodeType) for line in body_lines(constant)}


def body_lines(code: CodeType) -> set[int]:
    """Lines of a function, or of a class's functions: not those of the class itself."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    if code.co_flags & 0x2:         # CO_NEWLOCALS: a function
        return lines_of(code) - {code.co_firstlineno}
    return {line for constant in inner for line in body_lines(constant)}


class Tracer:
    """Use as a context manager; threads started inside are traced too."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.reached: dict[str, set[int]] = {}

    def __enter__(self) -> Tracer:
        threading.settrace(self._call)
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)        # type: ignore[arg-type]

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(str(self.folder)):
            return None
        lines = self.reached.setdefault(name, set())

        def trace_line(frame: FrameType, event: str, argument: object) -> Any:
            if event == "line":
                lines.add(frame.f_lineno)
            return trace_line
        return trace_line

    def report(self) -> list[tuple[str, int, int, list[int]]]:
        """(file, lines reached, lines there are, those not reached) of each file with functions."""
        rows = []
        for path in sorted(self.folder.glob("*.py")):
            there = function_lines(path)
            reached = self.reached.get(str(path), set()) & there
            if there:
                rows.append((path.name, len(reached), len(there), sorted(there - reached)))
        return rows
