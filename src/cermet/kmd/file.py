"""One open file: handles, NPU addresses, queue."""
from __future__ import annotations

import errno
import heapq
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cermet.kmd.bo import PAGE_BYTES, Bo
from cermet.kmd.errors import DeviceError
from cermet.kmd.ranges import RangeAllocator
from cermet.kmd.scheduler import Entity
from cermet.kmd.space import SharedAddressSpace

if TYPE_CHECKING:
    from cermet.kmd.device import Device

log = logging.getLogger("cermet.kmd")

NPU_SPACE_BYTES = 1 << 32
MAX_QUEUES = 1 << 10
MAX_THINGS = 1 << 16            # address spaces, queues and sync objects of one file, each


class Numbered:
    """Things of a file by number: a new one gets the lowest free number, from 1."""

    def __init__(self, what: str, most: int = MAX_THINGS) -> None:
        self.what = what
        self.most = most
        self._things: dict[int, Any] = {}
        self._free: list[int] = []

    def add(self, make: Callable[[], Any]) -> int:
        """The number of a new thing, which is made only when there is room for it."""
        if len(self._things) >= self.most:
            raise DeviceError(errno.ENOMEM, f"{self.what}: more than {self.most}")
        thing = make()
        number = heapq.heappop(self._free) if self._free else len(self._things) + 1
        self._things[number] = thing
        return number

    def __iter__(self) -> Iterator[Any]:
        return iter(self._things.values())

    def find(self, number: int, error: int = errno.ENOENT) -> Any:
        if number not in self._things:
            raise DeviceError(error, f"{self.what} {number}: unknown")
        return self._things[number]

    def remove(self, number: int, error: int = errno.ENOENT) -> Any:
        thing = self.find(number, error)
        del self._things[number]
        heapq.heappush(self._free, number)
        return thing


class File:
    """State of one open(). All of it belongs to the device's lock."""

    def __init__(self, device: Device, number: int, pid: int, flags: int, is_admin: bool) -> None:
        self.device = device
        self.number = number
        self.opener_pid = pid
        self.pids = {pid}               # every process that has used it
        self.access_mode = flags & os.O_ACCMODE
        self.is_admin = is_admin        # CAP_SYS_ADMIN at open
        self.client_name = ""
        self.space = SharedAddressSpace()
        self.addresses = RangeAllocator(0, NPU_SPACE_BYTES, PAGE_BYTES)
        self.entity = Entity()          # of SUBMIT; queues have others
        self.entities = {self.entity}   # all of them, also of queues that were destroyed with jobs in them
        self.syncobjs, self.vms, self.queues = Numbered("syncobj"), Numbered("vm"), Numbered("queue", MAX_QUEUES)
        self.is_closed = False
        self._handles: dict[int, Bo] = {}
        self._free_handles: list[int] = []
        self._next_handle = 1

    def __str__(self) -> str:
        return f"file {self.number} (pid {self.opener_pid})"

    # --- handles ---

    def add_handle(self, bo: Bo) -> int:
        """The lowest free number, from 1."""
        if self._free_handles:
            handle = heapq.heappop(self._free_handles)
        else:
            handle = self._next_handle
            self._next_handle += 1
        self._handles[handle] = bo
        bo.get()
        return handle

    def bo(self, handle: int) -> Bo | None:
        return self._handles.get(handle)

    def bo_or_error(self, handle: int) -> Bo:
        bo = self._handles.get(handle)
        if bo is None:
            raise DeviceError(errno.ENOENT, f"handle {handle}: unknown")
        return bo

    def handle_of(self, bo: Bo) -> int | None:
        """The handle that this file already has of a BO."""
        return next((handle for handle, own in self._handles.items() if own is bo), None)

    def handles(self) -> Mapping[int, Bo]:
        return self._handles

    def handles_are_whole(self) -> bool:
        """Whether each number below the next new one is either in use or free."""
        return sorted([*self._handles, *self._free_handles]) == list(range(1, self._next_handle))

    def close_handle(self, handle: int) -> bool:
        bo = self._handles.pop(handle, None)
        if bo is None:
            return False
        heapq.heappush(self._free_handles, handle)
        bo.put()
        return True

    def close_all_handles(self) -> None:
        for handle in list(self._handles):
            self.close_handle(handle)

    def close_vms(self) -> None:
        for vm in self.vms:
            vm.put()

    # --- buffers ---

    def create_bo(self, size_bytes: int) -> Bo:
        """A BO mapped at an address of this file; the caller adds the handle.

        The address range has exactly size_bytes, what is mapped is whole pages, as in the kernel.
        """
        bo = Bo(size_bytes, self, self.device.behaviour.has_caches)
        address = self.addresses.allocate(size_bytes)
        if address is None:
            bo.discard()
            raise DeviceError(errno.ENOSPC, f"{size_bytes} bytes: no hole in the NPU address space is that large")
        bo.dma_address = address
        assert bo.array is not None
        self.space.map(address, bo.array)
        self.device.add_bo(bo)
        return bo

    def free_bo(self, bo: Bo) -> None:
        if self.device.behaviour.has("use-after-free") and self._is_gone_for(bo):
            log.warning("%s: use after free: the BO at %#x outlived it", self, bo.dma_address)
        self.space.unmap(bo.dma_address)
        self.addresses.free(bo.dma_address)
        self.device.forget_bo(bo)
        log.debug("%s: BO at %#x, %d bytes: freed", self, bo.dma_address, bo.size_bytes)

    def _is_gone_for(self, bo: Bo) -> bool:
        """Whether a kernel has freed this file by now: a mapping of the BO keeps it, and so do address spaces."""
        was_only_mapped = self.device.is_orphan(bo) and not bo.was_exported
        return self.is_closed and not was_only_mapped and not list(self.vms)

    def orphan_bo(self, bo: Bo) -> None:
        self.device.keep_orphan(bo)
