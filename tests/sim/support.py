"""What the simulator's tests share: a memory with buffers, a kernel that starts tasks, layouts, captured programs.

Independent of the simulator's own code on purpose: layouts and word format are written again from the documents.
"""
from __future__ import annotations

import gzip
import json
import pathlib
from collections.abc import Iterable

import numpy as np

from cermet.hw.soc import RK3588
from cermet.sim.core import AddressSpace, Core, TaskOutcome

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
PAGE = 4096
SEPARATOR = 0x0041_0000_0000_0000
TARGET_OF_PAGE = {0: 0x0101, 1: 0x0201, 3: 0x0801, 4: 0x1001, 5: 0x2001, 6: 0x4001, 7: 0x8001}


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


class Memory:
    """An address space with a bump allocator; addresses start above 0 so that a zero address faults."""

    def __init__(self, first: int = 0x10000) -> None:
        self.space = AddressSpace()
        self.next = first
        self.arrays: dict[int, np.ndarray] = {}

    def add(self, content: np.ndarray | int, gap: int = PAGE) -> int:
        """Place bytes (or that many zeros); returns the address. A gap of unmapped pages follows."""
        data = np.zeros(content, np.uint8) if isinstance(content, int) else np.ascontiguousarray(content).reshape(
            -1).view(np.uint8)
        array = np.zeros(max(PAGE, round_up(data.size, PAGE)), np.uint8)
        array[:data.size] = data
        address = self.next
        self.space.map(address, array)
        self.arrays[address] = array
        self.next += array.size + gap
        return address

    def bytes(self, address: int, count: int) -> np.ndarray:
        return self.space.read(address, count).copy()


def word(offset: int, value: int) -> int:
    return TARGET_OF_PAGE[offset >> 12] << 48 | (value & 0xFFFFFFFF) << 16 | offset


def program(registers: Iterable[tuple[int, int]], mask: int) -> list[int]:
    """Register writes and the four trailer words."""
    body = [word(offset, value) for offset, value in registers]
    return [*body, 0, word(0x14, 0), SEPARATOR, 0x0081 << 48 | mask << 16 | 8]


def start(core: Core, memory: Memory, words: list[int], tasks: int = 1, new_job: bool = True,
          count: int | None = None) -> TaskOutcome:
    """What mainline rocket writes for one task, then run it. count: words the kernel is told of."""
    address = memory.add(np.array(words, "<u8"))
    return kick(core, memory.space, address, count or len(words), tasks, new_job)


def kick(core: Core, space: AddressSpace, address: int, count: int, tasks: int = 1, new_job: bool = True,
         base: int = 0) -> TaskOutcome:
    if new_job:
        core.begin_job()
    core.write(0x10, 1)
    for pointer in (0x1004, 0x3004):
        core.write(pointer, 0xE | core.index << 28)
    for offset, value in ((0x10, address), (0x14, (count + 1) // 2 - 1), (0x20, 0x300), (0x24, 0x1FFFF),
                          (0x30, 0x7000 | tasks), (0x34, base), (0x8, 1)):
        core.write(offset, value)
    return core.run(space, lambda: False)


def new_core(index: int = 0) -> Core:
    return Core(RK3588, index)


def to_atoms(nhwc: np.ndarray, fill: int = 0, surfaces: int | None = None,
             surface_pixels: int | None = None) -> np.ndarray:
    """int8 [h][w][c] to uint8 [surfaces][pixels][16]; channels past c hold fill."""
    height, width, channels = nhwc.shape
    count = surfaces or -(-channels // 16)
    pixels = surface_pixels or height * width
    atoms = np.full((count, pixels, 16), fill, np.int8)
    for channel in range(channels):
        atoms[channel // 16, :height * width, channel % 16] = nhwc[..., channel].reshape(-1)
    return atoms.view(np.uint8)


def from_atoms(raw: np.ndarray, height: int, width: int, channels: int,
               surface_pixels: int | None = None) -> np.ndarray:
    """The reverse: int8 [h][w][c]."""
    pixels = surface_pixels or height * width
    atoms = raw.view(np.int8)[:-(-channels // 16) * pixels * 16].reshape(-1, pixels, 16)
    nhwc = np.empty((height, width, channels), np.int8)
    for channel in range(channels):
        nhwc[..., channel] = atoms[channel // 16, :height * width, channel % 16].reshape(height, width)
    return nhwc


class Capture:
    """Every job that one inference of another driver submitted, with the contents of every buffer."""

    def __init__(self, path: pathlib.Path) -> None:
        self.arrays = np.load(path)
        self.meta = json.loads(bytes(self.arrays["meta"]))

    def contents(self, submit: int, handle: int) -> np.ndarray:
        entry = next(b for b in self.meta["submits"][submit]["bos"] if b["handle"] == handle)
        if entry.get("zero"):
            return np.zeros(entry["size"], np.uint8)
        if "same_as_submit" in entry:
            return self.contents(entry["same_as_submit"], handle)
        return self.arrays[f"s{submit}_bo{handle}"].reshape(-1).view(np.uint8)[:entry["size"]]

    def memory(self, submit: int) -> tuple[AddressSpace, dict[int, np.ndarray]]:
        """All buffers of a submission, mapped where they were; and each buffer's bytes by handle."""
        space, buffers = AddressSpace(), {}
        for entry in self.meta["submits"][submit]["bos"]:
            array = np.zeros(round_up(entry["size"], PAGE), np.uint8)
            array[:entry["size"]] = self.contents(submit, entry["handle"])
            space.map(entry["dma"], array)
            buffers[entry["handle"]] = array
        return space, buffers

    def jobs(self) -> list[tuple[int, dict]]:
        return [(number, job) for number, submit in enumerate(self.meta["submits"]) for job in submit["jobs"]]


def vendor_program(path: pathlib.Path) -> list[list[tuple[int, int, int]]]:
    """The 1-core tasks of a vendor file: (target, offset, value) of each word."""
    with gzip.open(path) as file:
        content = json.load(file)
    if not content["regions"]:
        return []
    return [[(target, offset, value) for target, offset, value, _ in task["cmds"]]
            for task in content["regions"][0]["tasks"]]
