"""The driver's books: what the device keeps, and whether its parts agree about it. For tests, fuzzing and the log."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from cermet.kmd.bo import Bo
from cermet.kmd.device import Device
from cermet.kmd.file import File
from cermet.kmd.job import Job
from cermet.kmd.scheduler import CoreThread


@dataclass(frozen=True)
class Books:
    """Counts of a device. With no client, no mapping and no export anywhere all of them are 0."""

    files: int
    handles: int
    buffers: int
    buffer_bytes: int
    queued_jobs: int
    running_jobs: int
    waiting_calls: int
    address_spaces: int     # of queues

    def __str__(self) -> str:
        return (f"{self.files} files, {self.handles} handles, {self.buffers} BOs of {self.buffer_bytes} bytes, "
                f"{self.queued_jobs} jobs queued and {self.running_jobs} running, {self.waiting_calls} calls waiting, "
                f"{self.address_spaces} address spaces of queues")

    @property
    def are_empty(self) -> bool:
        return not any(astuple(self))


def read(device: Device) -> Books:
    with device.lock:
        buffers = device.buffers()
        cores = device.scheduler.cores
        return Books(len(device.files), sum(len(file.handles()) for file in device.files), len(buffers),
                     sum(bo.mapped_bytes for bo in buffers),
                     sum(len(entity.queue) for core in cores for entity in core.entities),
                     sum(core.running is not None for core in cores),
                     sum(bo.waits for bo in buffers) + device.num_syncobj_waits, len(device.vms))


def problems(device: Device) -> list[str]:
    """Where two parts of the driver disagree: none, at any moment, unless the driver has a bug."""
    with device.lock:
        jobs = [job for core in device.scheduler.cores for job in jobs_of(core)]
        return [*reference_problems(device, jobs), *fence_problems(device, jobs), *file_problems(device),
                *core_problems(device)]


def jobs_of(core: CoreThread) -> Iterator[Job]:
    """Queued and running."""
    for entity in core.entities:
        yield from entity.queue
    if core.running is not None:
        yield core.running


def reference_problems(device: Device, jobs: list[Job]) -> Iterator[str]:
    """Each BO has as many references as there are handles, jobs, bindings and waiting calls that hold it."""
    holders: Counter[Bo] = Counter()
    for file in device.files:
        holders.update(file.handles().values())
    for job in jobs:
        holders.update(job.in_bos + job.out_bos)
    for vm in device.vms:
        holders.update(vm.bos.values())
    buffers = set(device.buffers())
    for bo in buffers:
        expected = holders[bo] + bo.waits
        if bo.references != expected:
            yield f"BO at {bo.dma_address:#x}: {bo.references} references, {expected} holders"
        if not bo.references and not device.is_orphan(bo):
            yield f"BO at {bo.dma_address:#x}: nothing holds it and nobody looks after it"
    for bo in holders:
        if bo.is_freed or bo not in buffers:
            yield f"BO at {bo.dma_address:#x}: held but freed"


def fence_problems(device: Device, jobs: list[Job]) -> Iterator[str]:
    """A fence that has not signalled belongs to a job that will end."""
    fences = {job.fence for job in jobs}
    for bo in device.buffers():
        for fence in bo.pending_fences(reads=True):
            if fence not in fences:
                yield f"BO at {bo.dma_address:#x}: waits for a job that is gone"


def file_problems(device: Device) -> Iterator[str]:
    """Handles have no gaps, addresses are reserved and mapped exactly for the BOs that live there."""
    owners: dict[File, set[int]] = {file: set() for file in device.files}
    for bo in device.buffers():
        assert isinstance(bo.owner, File)
        owners.setdefault(bo.owner, set()).add(bo.dma_address)
    for file, addresses in owners.items():
        if not file.handles_are_whole():
            yield f"{file}: handles in use and free ones are not all"
        if set(file.addresses.taken) != addresses:
            yield f"{file}: {len(file.addresses.taken)} address ranges are taken, {len(addresses)} BOs live there"
        if set(file.space.starts) != addresses:
            yield f"{file}: {len(file.space.starts)} BOs are mapped, {len(addresses)} live there"
    offsets = {bo.offset for bo in device.buffers()}
    if set(device.offsets.taken) != offsets:
        yield f"{len(device.offsets.taken)} mmap offsets are taken by {len(offsets)} BOs"


def core_problems(device: Device) -> Iterator[str]:
    for core in device.scheduler.cores:
        in_flight = sum(entity.in_flight for entity in core.entities)
        num_jobs = len(list(jobs_of(core)))
        if not core.load == in_flight == num_jobs:
            yield f"core {core.core.index}: load {core.load}, {in_flight} in flight, {num_jobs} jobs"
        for entity in core.entities:
            if entity.num_queued_tasks != sum(len(job.tasks) for job in entity.queue):
                yield f"core {core.core.index}: {entity.num_queued_tasks} queued tasks are counted wrongly"
