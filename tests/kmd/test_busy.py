"""What the driver says of how long its cores have worked."""
from __future__ import annotations

import ctypes
import errno
import time

import pytest

from tests.kmd.client import Node, load
from tests.kmd.fake_core import SLEEP

SLEEP_MS = 300


def busy_s(node: Node) -> float:
    library, value = load(), ctypes.c_uint64()
    assert library.cermet_client_busy(node.fd, ctypes.byref(value)) == 0
    return value.value / 1e9


def test_time_of_tasks_is_counted_once_however_many_cores_work(fake_driver: object) -> None:
    nodes = [Node() for _ in range(3)]
    try:
        before, started = busy_s(nodes[0]), time.monotonic()
        results = []
        for node in nodes:
            results.append(node.create(4096))
            node.run((SLEEP, SLEEP_MS), out=[results[-1]])
        during = busy_s(nodes[0]) - before
        for node, result in zip(nodes, results, strict=True):
            node.wait(result)
        total, passed = busy_s(nodes[0]) - before, time.monotonic() - started
        assert SLEEP_MS / 1000 <= total <= passed and during <= total
        assert total < 3 * SLEEP_MS / 1000          # the three slept at the same time
        time.sleep(0.05)
        assert busy_s(nodes[1]) - before == pytest.approx(total)        # of the device, not of the file; idle: no more
    finally:
        for node in nodes:
            node.close()


def test_bad_address(node: Node) -> None:
    library = load()
    assert library.cermet_client_busy(node.fd, ctypes.c_void_p(16)) == -1
    assert ctypes.get_errno() == errno.EFAULT
