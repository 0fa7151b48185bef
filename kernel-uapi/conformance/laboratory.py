"""What the subtests are made of: open files, buffers with contents, jobs that copy, fill or hang."""
from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from . import programs
from .uapi import PAGE, Job, Mapping, Node, System

# Of a subtest that lets a job run into the timeout; the simulated NPU also says what it thinks of the program.
timed_out = pytest.mark.log("NPU job timed out", "pc.no_op_en", "iommu:", "DMA error")
# The simulated driver says what mainline computes and throws away; a kernel without this bug has nothing to say.
dropped = pytest.mark.log("dropped", must=False)
JOB_TIMEOUT_S = 0.5
HANG_LIMIT_S = 5.0          # generous: one-sided checks only


@dataclass
class Buffer:
    """A mapped BO of a file."""

    node: Node
    bo: Any
    mapping: Mapping

    @property
    def handle(self) -> int:
        return int(self.bo.handle)

    @property
    def address(self) -> int:
        return int(self.bo.dma_address)

    def put(self, data: bytes, start: int = 0) -> None:
        """Write with the CPU and make it visible to the NPU."""
        assert self.node.prep(self.bo) == 0
        self.mapping.write(data, start)
        assert self.node.fini(self.bo) == 0

    def get(self, num_bytes: int = 64, start: int = 0) -> bytes:
        """Wait for the NPU and read with the CPU."""
        assert self.node.prep(self.bo) == 0
        return self.mapping.read(start, num_bytes)

    def close(self) -> None:
        self.mapping.unmap()
        self.node.call("GEM_CLOSE", handle=self.handle)


class Laboratory:
    """One device and everything that a subtest opened on it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.nodes: list[Node] = []

    def open(self, flags: int = os.O_RDWR | os.O_CLOEXEC) -> Node:
        node = Node(self.system, flags)
        self.nodes.append(node)
        return node

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def buffer(self, node: Node, data: bytes | int = PAGE) -> Buffer:
        """A BO with these bytes, or of so many zeros."""
        num_bytes = data if isinstance(data, int) else len(data)
        bo = node.create(num_bytes)
        made = Buffer(node, bo, node.mmap(bo.offset, -(-num_bytes // PAGE) * PAGE))
        if not isinstance(data, int):
            made.put(data)
        return made

    # --- jobs: the program's BO is always listed, so that it lives as long as the job ---

    def job(self, node: Node, program: bytes, reads: list[Buffer], writes: list[Buffer], repeats: int = 1,
            **members: int) -> Job:
        """One job that runs a program, `repeats` times as so many tasks."""
        text = self.buffer(node, program)
        made = Job([(text.address, len(program) // 8)] * repeats, [text.handle, *(b.handle for b in reads)],
                   [b.handle for b in writes], **members)
        return made

    def copy(self, source: Buffer, target: Buffer, num_bytes: int = 64, **members: int) -> Job:
        return self.job(source.node, programs.copy(source.address, target.address, num_bytes), [source], [target],
                        **members)

    def fill(self, target: Buffer, value: int, num_bytes: int = 64, **members: int) -> Job:
        """Reads and writes the target, which an in-place job must list as written only."""
        return self.job(target.node, programs.fill(target.address, target.address, value, num_bytes), [], [target],
                        **members)

    def hang(self, node: Node, writes: list[Buffer], reads: list[Buffer] | None = None) -> Job:
        """Busy until the kernel's timeout, 500 ms."""
        return self.job(node, programs.endless(), reads or [], writes)

    def works(self, node: Node) -> bool:
        """Whether a job of this file runs and copies what it should."""
        data = os.urandom(64)
        source, target = self.buffer(node, data), self.buffer(node)
        node.submit(self.copy(source, target))
        result = target.get() == data
        source.close()
        target.close()
        return result


def in_child(function: Callable[[], None]) -> int:
    """Exit status of a function in a forked process: 0 when it returned, negative for a signal."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()      # a child that is to die does so in silence
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
