"""Buffers that outlive the file that made them: the kernel frees what they still need."""
from __future__ import annotations

import os
import time

import pytest

from .kernel_log import KernelLog
from .laboratory import JOB_TIMEOUT_S, Laboratory, timed_out
from .uapi import Node

# A board would touch freed memory: nobody should try that there.
pytestmark = pytest.mark.simulated


def is_clean(kernel_log: KernelLog, node: Node) -> bool:
    """Whether no buffer of this process met a file that was gone. Creating a buffer frees what nobody holds."""
    for _ in range(20):
        time.sleep(0.02)
        node.call("GEM_CLOSE", handle=node.create().handle)
    return not any(f"(pid {os.getpid()}): use after free" in line for line in kernel_log.problems_since(0))


def settle() -> None:
    time.sleep(0.3)         # close() returns before the device has closed its side


def test_export_outlives_its_file(kernel_log: KernelLog, lab: Laboratory, node: Node) -> None:
    other = lab.open()
    fd = other.call("PRIME_HANDLE_TO_FD", handle=other.create().handle).fd
    other.close()
    settle()
    os.close(fd)
    assert is_clean(kernel_log, node)


def test_import_outlives_its_file(kernel_log: KernelLog, lab: Laboratory, node: Node) -> None:
    other = lab.open()
    fd = other.call("PRIME_HANDLE_TO_FD", handle=other.create().handle).fd
    handle = node.call("PRIME_FD_TO_HANDLE", fd=fd).handle
    os.close(fd)
    other.close()
    settle()
    node.call("GEM_CLOSE", handle=handle)
    assert is_clean(kernel_log, node)


@timed_out
def test_job_outlives_its_file(kernel_log: KernelLog, lab: Laboratory, node: Node) -> None:
    """It is on the hardware when the file is closed, which does not wait for it."""
    other = lab.open()
    target = lab.buffer(other)
    other.submit(lab.hang(other, [target]))
    target.mapping.unmap()
    other.close()
    time.sleep(JOB_TIMEOUT_S + 0.3)
    assert is_clean(kernel_log, node)


def test_export_closed_before_its_file(kernel_log: KernelLog, lab: Laboratory, node: Node) -> None:
    """What user space does to avoid the bug."""
    other = lab.open()
    fd = other.call("PRIME_HANDLE_TO_FD", handle=other.create().handle).fd
    os.close(fd)
    other.close()
    settle()
    assert is_clean(kernel_log, node)


def test_mapping_outlives_its_file(kernel_log: KernelLog, lab: Laboratory, node: Node) -> None:
    """A mapping keeps the file: nothing is freed too early."""
    other = lab.open()
    buffer = lab.buffer(other, b"kept")
    other.close()
    settle()
    assert buffer.mapping.read(0, 4) == b"kept"
    buffer.mapping.unmap()
    assert is_clean(kernel_log, node)
