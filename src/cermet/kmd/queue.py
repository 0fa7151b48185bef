"""Address spaces that queues share, and queues: the objects of the proposal in kernel-uapi/proposals/queues."""
from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cermet.kmd.bo import PAGE_BYTES, Bo
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.kmd.job import Job, Progress
from cermet.kmd.scheduler import Entity
from cermet.kmd.space import SharedAddressSpace
from cermet.sim.memory import SPACE_BYTES

if TYPE_CHECKING:
    from cermet.kmd.file import File

STATUS_DEPTH = 1024             # jobs of a queue that JOB_STATUS knows
MAX_BINDINGS = 1 << 16          # of one address space


class Vm:
    """An address space. It and its bindings live until its number is given up and the last queue has ended."""

    def __init__(self, vms: set[Vm]) -> None:
        """vms: all of the device that are alive; it enters itself there."""
        self.space = SharedAddressSpace()
        self.bos: dict[int, Bo] = {}
        self._references = 1
        self._vms = vms
        vms.add(self)

    def bind(self, bo: Bo, address: int) -> None:
        if address % PAGE_BYTES or address + bo.mapped_bytes > SPACE_BYTES:
            raise DeviceError(errno.EINVAL, f"address {address:#x}: {bo.mapped_bytes} bytes must be pages in 32 bits")
        if len(self.bos) >= MAX_BINDINGS:
            raise DeviceError(errno.ENOMEM, f"more than {MAX_BINDINGS} bindings")
        assert bo.array is not None
        try:
            self.space.map(address, bo.array)
        except ValueError as error:
            raise DeviceError(errno.EEXIST, str(error)) from None
        self.bos[address] = bo
        bo.get()

    def unbind(self, address: int) -> None:
        if address not in self.bos:
            raise DeviceError(errno.ENOENT, f"address {address:#x}: no binding begins there")
        self.space.unmap(address)
        self.bos.pop(address).put()

    def get(self) -> None:
        self._references += 1

    def put(self) -> None:
        self._references -= 1
        if not self._references:
            self._vms.discard(self)
            for address in list(self.bos):
                self.unbind(address)


class Queue(Entity):
    """Jobs in order, on one of some cores, in one address space."""

    def __init__(self, file: File, vm: Vm, core_mask: int, timeout_ms: int) -> None:
        super().__init__(core_mask)
        self.file, self.vm, self.timeout_ms = file, vm, timeout_ms
        self.num_jobs = 0
        self.jobs: dict[int, tuple[Fence, Progress]] = {}       # by number, the newest ones
        vm.get()
        file.entities.add(self)

    def add(self, job: Job) -> None:
        """Remember a job that is about to be queued."""
        self.num_jobs += 1
        self.jobs[self.num_jobs] = (job.fence, job.progress)
        self.jobs.pop(self.num_jobs - STATUS_DEPTH, None)

    def ended(self) -> None:
        if self in self.file.entities:
            self.file.entities.discard(self)
            self.vm.put()
