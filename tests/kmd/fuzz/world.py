"""Calls of several files at once, right, nearly right and wild, and what must hold for each answer.

A World carries out steps (choices.py) through ports: the driver in this process (local.py) or behind its socket
(remote.py). It knows which handles each file must have by now, so that answers about handles are checked exactly.
"""
from __future__ import annotations

import struct

from cermet.kmd import uapi
from tests.kmd.fuzz.calls import OpenFile
from tests.kmd.fuzz.choices import Choices
from tests.kmd.fuzz.jobs import Jobs

# How often each call is drawn.
WEIGHTS = {"open": 2, "close": 1, "create": 12, "destroy": 5, "map": 6, "write": 10, "unmap": 4, "prep": 10, "fini": 6,
           "submit": 18, "work": 8, "export": 4, "drop_fd": 3, "import_": 4, "flink": 2, "open_name": 2, "ask": 3,
           "raw": 4}


class World(Jobs):
    """All calls: those of files (calls.py), buffers and jobs, and here the rest."""

    def ask(self, file: OpenFile, c: Choices) -> int | None:
        """VERSION, GET_CAP and the others that only tell something."""
        kind = c.below(4)
        if kind == 0:
            room = c.of((0, 1, 6, 1000))
            text = uapi.ffi.cast("char *", self.place(bytes(room), c))
            return self.call(file, "VERSION", c, name_len=room, name=text, desc_len=room, desc=text)[0]
        if kind == 1:
            return self.call(file, "GET_CAP", c, capability=c.of((1, 5, 6, 0x13, 0x14, c.word())))[0]
        if kind == 2:
            return self.call(file, "GET_CLIENT", c, idx=c.of((0, 0, 1, -1)))[0]
        name = bytes(c.below(256) if c.one_in(5) else 0x21 + c.below(94) for _ in range(c.of((0, 1, 8, 20))))
        return self.call(file, "SET_CLIENT_NAME", c, name=self.place(name, c),
                         name_len=c.of((len(name), len(name), 64, 65, 1 << 40)))[0]

    def raw(self, file: OpenFile, c: Choices) -> int | None:
        """Any number, any bytes: of the numbers that make or close handles only such that fail."""
        index = c.below(256)
        if index in (0x09, 0x0B, 0x2D, 0x2E, 0x40, 0xC3):        # and none that waits
            return self.call(file, "GEM_CLOSE", c, handle=0)[0]
        letter = ord("d") if not c.one_in(10) else c.below(256)
        data = struct.pack("<16I", *(c.word() >> c.of((0, 0, 16, 24, 28, 31)) for _ in range(16)))
        request = c.below(4) << 30 | c.of((0, 4, 8, 16, 24, 40, 64)) << 16 | letter << 8 | index
        return file.port.ioctl(request, self.place(data + bytes(192), c))
