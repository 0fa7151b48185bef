"""Changed register programs through the driver's own way of running them, in a process that may die of it."""
from __future__ import annotations

import ctypes
import logging
import mmap
import os
import random
import resource
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cermet.hw.soc import RK3588
from cermet.kmd.busy import Busy
from cermet.kmd.fence import Fence
from cermet.kmd.job import DPU_INTERRUPTS, Job, run_tasks
from cermet.kmd.space import SharedAddressSpace
from cermet.sim.core import Core
from tests.kmd.fuzz.local import LogWatch
from tests.kmd.fuzz.programs import ARENA_BYTES, Words, changed, real_programs
from tests.sim.programs import FLYING_MASK, flying
from tests.sim.support import Memory, program

GUARD_BYTES = 64 << 20          # on both sides of the NPU's memory: who leaves it dies
TEXT_AT = 0x8000_0000           # where programs lie, far from what they work on
TEXT_BYTES = 1 << 16
PROGRAMS_PER_CORE = 40          # then a known copy must still be right, and the core is a new one
CANCEL_S = 0.2                  # a task that is slow to simulate is given up, as at the end of the driver
LONGEST_S = 20.0                # from there to its end
MAX_RESIDENT_KIB = 3 << 20
SLOWEST_REAL_S = 0.03           # real programs that take longer to simulate are left out
COUNTERS = struct.Struct("<5qd")


def guarded_memory(num_bytes: int) -> np.ndarray:
    """Bytes with pages around them that cannot be touched."""
    whole = mmap.mmap(-1, num_bytes + 2 * GUARD_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # NORESERVE
    start = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    protect = ctypes.CDLL(None).mprotect
    for at in (start, start + GUARD_BYTES + num_bytes):
        assert protect(ctypes.c_void_p(at), ctypes.c_size_t(GUARD_BYTES), 0) == 0
    return np.frombuffer(whole, np.uint8)[GUARD_BYTES:GUARD_BYTES + num_bytes]


@dataclass
class Progress:
    """Where the child is, in memory shared with the parent. number: of the program that runs now."""

    number: int = 0
    done: int = 0
    completed: int = 0
    faulted: int = 0
    hung: int = 0
    slowest_s: float = 0.0

    def values(self) -> tuple[float, ...]:
        return self.number, self.done, self.completed, self.faulted, self.hung, self.slowest_s


class Lab:
    """A core, its memory, and the real programs that are quick to simulate."""

    def __init__(self) -> None:
        self.log = LogWatch()
        logger = logging.getLogger("cermet.kmd")
        logger.handlers[:], logger.propagate = [self.log], False
        logger.setLevel(logging.WARNING)
        self.noise = np.random.default_rng(1).integers(0, 256, ARENA_BYTES, np.uint8)
        self.arena, self.text = guarded_memory(ARENA_BYTES), guarded_memory(TEXT_BYTES)
        self.space = SharedAddressSpace()
        self.space.map(0, self.arena)
        self.space.map(TEXT_AT, self.text)
        self.renew()
        self.programs = [words for words in real_programs() if self.seconds_of(words) < SLOWEST_REAL_S]
        self.renew()

    def renew(self) -> None:
        self.core = Core(RK3588, 0)
        self.arena[:] = self.noise

    def seconds_of(self, words: Words) -> float:
        start = time.monotonic()
        self.run([words], 0)
        return time.monotonic() - start

    def run(self, programs: list[Words], extra_words: int) -> str | None:
        """One job of so many tasks: why it did not end, or None. The core is reset as after a timeout."""
        tasks, at = [], 0
        for words in programs:
            text = np.array(words, "<u8").view(np.uint8)[:TEXT_BYTES // len(programs) & ~15]
            self.text[at:at + text.size] = text
            tasks.append((TEXT_AT + at, max(1, text.size // 8 + extra_words), 1, DPU_INTERRUPTS))
            at += text.size + 15 & ~15
        job = Job(self.space, np.array(tasks, np.uint32), [], [], Fence(None))
        deadline = time.monotonic() + CANCEL_S
        reason = run_tasks(self.core, RK3588, job, lambda: time.monotonic() > deadline,
                           Busy(RK3588.cores))
        if reason is not None:
            self.core.reset()
        return reason

    def still_works(self) -> bool:
        """A plain copy, bit for bit, after a reset: without one, programs before it may have left registers changed."""
        self.core.reset()
        self.arena[:64] = np.arange(64)
        self.arena[4096:4160] = 0xFF
        reason = self.run([program(flying(Memory(), 0, 4096, (4, 1, 16), {}), FLYING_MASK)], 0)
        return reason is None and bytes(self.arena[4096:4160]) == bytes(range(64))


def run_some(lab: Lab, seed: int, first: int, count: int, tell: Callable[[Progress], None]) -> str:
    """What went wrong, "" for nothing. Program n is the same whatever ran before it; what its core holds is not."""
    progress = Progress()
    for number in range(first, first + count):
        progress.number = number
        tell(progress)
        chance = random.Random(f"{seed}:{number}")
        if number % PROGRAMS_PER_CORE == 0:
            lab.renew()
        programs = [changed(chance, lab.programs) for _ in range(chance.choice((1, 1, 1, 1, 2, 3)))]
        start = time.monotonic()
        reason = lab.run(programs, chance.choice((0, 0, 0, 0, 2, -2, -7, 100_000, 1 << 20)))
        progress.slowest_s = max(progress.slowest_s, time.monotonic() - start)
        progress.done += 1
        progress.completed += reason is None
        progress.faulted += reason is not None and "iommu" in reason
        progress.hung += reason is not None and "iommu" not in reason
        if lab.log.errors:
            return f"program {number}: {lab.log.errors[0]}"
        if progress.slowest_s > CANCEL_S + LONGEST_S:
            return f"program {number}: {progress.slowest_s:.1f} s"
        if number % PROGRAMS_PER_CORE == PROGRAMS_PER_CORE - 1 and not lab.still_works():
            return f"program {number}: a copy afterwards is wrong"
    resident_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tell(progress)
    return f"{resident_kib} KiB of memory" if resident_kib > MAX_RESIDENT_KIB else ""


def run_in_child(seed: int, first: int, count: int, report: Callable[[Progress], None]) -> tuple[str, Progress]:
    """As run_some, but a crash of the process is told as what it is."""
    shared = mmap.mmap(-1, 4096)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        wrong = "the fuzzer failed"
        try:
            wrong = run_some(Lab(), seed, first, count, lambda progress: COUNTERS.pack_into(
                shared, 0, *progress.values()))
        finally:
            os.write(writer, wrong.encode()[:4000])
            os._exit(0)
    os.close(writer)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(0.05)
        report(Progress(*COUNTERS.unpack_from(shared)))
    progress = Progress(*COUNTERS.unpack_from(shared))
    with open(reader) as pipe:
        wrong = pipe.read()
    if progress.done < count and not wrong:
        wrong = f"program {progress.number}: the process died"
    return wrong, progress
