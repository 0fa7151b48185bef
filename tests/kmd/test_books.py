"""The driver's books notice when its parts disagree."""
from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from cermet.hw.soc import RK3588
from cermet.kmd import books
from cermet.kmd.behaviour import Behaviour
from cermet.kmd.device import Device
from cermet.kmd.fence import Fence
from cermet.kmd.file import File
from cermet.kmd.job import Job
from tests.kmd.fake_core import FakeCore


@pytest.fixture
def device() -> Device:
    return Device(dataclasses.replace(RK3588, cores=1), FakeCore, Behaviour())


@pytest.fixture
def file(device: Device) -> File:
    opened = device.open(os.getpid(), os.O_RDWR)
    for size in (1, 4097, 8192):
        opened.add_handle(opened.create_bo(size))
    opened.close_handle(2)
    return opened


def test_a_device_in_use(device: Device, file: File) -> None:
    assert books.problems(device) == []
    assert str(books.read(device)) == ("1 files, 2 handles, 2 BOs of 12288 bytes, 0 jobs queued and 0 running, "
                                       "0 calls waiting, 0 address spaces of queues")
    device.release(file)
    assert books.read(device).are_empty and books.problems(device) == []
    device.stop()


def lose_a_reference(device: Device, file: File) -> None:
    file.handles()[1].references -= 1


def keep_a_reference(device: Device, file: File) -> None:
    file.handles()[1].get()


def lose_a_handle(device: Device, file: File) -> None:
    file._handles.pop(1)


def forget_a_free_handle(device: Device, file: File) -> None:
    file._free_handles.clear()


def unmap(device: Device, file: File) -> None:
    file.space.unmap(0)


def free_the_address(device: Device, file: File) -> None:
    file.addresses.free(0)


def take_an_offset(device: Device, file: File) -> None:
    device.offsets.allocate(1)


def leave_a_fence(device: Device, file: File) -> None:
    file.handles()[1].write_fences.append(Fence(None))


def count_a_job_too_many(device: Device, file: File) -> None:
    device.scheduler.cores[0].load += 1


def hold_a_freed_buffer(device: Device, file: File) -> None:
    bo = file.handles()[1]
    file.close_handle(1)
    job = Job(file.space, np.zeros((1, 2), np.uint32), [bo], [], Fence(file.entity))
    device.scheduler.cores[0].running = job


@pytest.mark.parametrize("mistake", [
    lose_a_reference, keep_a_reference, lose_a_handle, forget_a_free_handle, unmap, free_the_address, take_an_offset,
    leave_a_fence, count_a_job_too_many, hold_a_freed_buffer])
def test_a_mistake_is_noticed(device: Device, file: File, mistake: object) -> None:
    mistake(device, file)       # type: ignore[operator]
    assert books.problems(device)
    device.stop()
