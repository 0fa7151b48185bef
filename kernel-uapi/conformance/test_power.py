"""Cores that go off when idle (50 ms on Linux 7.2) and come back for the next job."""
from __future__ import annotations

import errno
import struct
import time

import pytest

from . import programs
from .laboratory import Buffer, Laboratory, timed_out
from .uapi import FOREVER, Job, Node

OFF_S = 0.2             # idle for so long, a core is off
GAPS = pytest.mark.parametrize("gap_s", [0, 0.02, 0.045, 0.05, 0.055, 0.1, 0.5], ids=str)
BN_ALU_CFG = 0x4064     # where a fill's value is written


@GAPS
def test_job_after_idling(lab: Laboratory, node: Node, gap_s: float) -> None:
    for _ in range(3):
        assert lab.works(node)
        time.sleep(gap_s)


@GAPS
def test_job_again_after_idling(lab: Laboratory, node: Node, gap_s: float) -> None:
    """The same program from the same buffers: addresses and contents survive."""
    target = lab.buffer(node)
    job = lab.fill(target, 6)
    for _ in range(3):
        target.put(bytes(64))
        node.submit(job)
        assert target.get() == b"\6" * 64
        time.sleep(gap_s)


def test_every_core_wakes(lab: Laboratory) -> None:
    nodes = [lab.open() for _ in range(3)]
    targets = [lab.buffer(node) for node in nodes]
    for value in range(1, 4):
        time.sleep(OFF_S)
        jobs = [[lab.fill(target, value)] * 10 for target in targets]
        for node, job in zip(nodes, jobs, strict=True):
            node.submit(*job)
        assert [target.get(1) for target in targets] == [bytes([value])] * 3


def test_one_core_works_while_others_are_off(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        node.submit(lab.fill(target, 1))
        assert target.get(1) == b"\1"
    second = lab.open()
    third = lab.open()
    assert lab.works(second) and lab.works(third) and lab.works(node)


@pytest.mark.parametrize("timeout_ns", [0, FOREVER], ids=["poll", "forever"])
def test_waiting_wakes_nobody(lab: Laboratory, node: Node, timeout_ns: int) -> None:
    """PREP_BO and FINI_BO of an idle buffer of a core that is off: at once, with the data there."""
    target = lab.buffer(node)
    node.submit(lab.fill(target, 4))
    target.get()
    time.sleep(OFF_S)
    start = time.monotonic()
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=timeout_ns) == 0
    assert node.fini(target.bo) == 0 and time.monotonic() - start < OFF_S
    assert target.mapping.read(0, 1) == b"\4"


def test_calls_while_off(lab: Laboratory, node: Node) -> None:
    """Opening, making, mapping and closing need no core."""
    time.sleep(OFF_S)
    other = lab.open()
    buffer = lab.buffer(other, b"data")
    assert buffer.get(4) == b"data" and other.error("GEM_CLOSE", handle=99) == errno.EINVAL
    buffer.close()
    other.close()
    assert lab.works(node)


@timed_out
def test_hang_then_off(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    node.prep(target.bo)
    time.sleep(OFF_S)
    assert lab.works(node)


@timed_out
def test_hang_of_a_core_that_was_off(lab: Laboratory, node: Node) -> None:
    assert lab.works(node)
    time.sleep(OFF_S)
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    node.prep(target.bo)
    assert lab.works(node)


# --- what a core remembers --------------------------------------------------------------------------------------------


def incomplete_fill(lab: Laboratory, target: Buffer) -> Job:
    """A fill that does not write its value: it takes what the register holds."""
    text = programs.fill(target.address, target.address, 9)
    words = [word for word in struct.unpack(f"<{len(text) // 8}Q", text) if word & 0xFFFF != BN_ALU_CFG]
    return lab.job(target.node, struct.pack(f"<{len(words)}Q", *words), [], [target])


@pytest.mark.simulated
def test_registers_survive_between_jobs(lab: Laboratory, node: Node) -> None:
    """Of two groups, which take turns: the jobs before have filled both."""
    target, other = lab.buffer(node), lab.buffer(node)
    node.submit(lab.fill(other, 5), lab.fill(other, 5), incomplete_fill(lab, target))
    assert target.get() == b"\5" * 64


@pytest.mark.simulated
def test_registers_are_lost_with_power(lab: Laboratory, node: Node) -> None:
    """Each job must write all registers that it depends on. ASSUMED; a board may be kinder."""
    target, other = lab.buffer(node, b"\1" * 64), lab.buffer(node)
    job = incomplete_fill(lab, target)
    node.submit(lab.fill(other, 5), lab.fill(other, 5))
    other.get()
    time.sleep(OFF_S)
    node.submit(job)
    assert target.get() == bytes(64)
