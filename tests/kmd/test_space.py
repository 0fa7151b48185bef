"""A core reads while other threads map and unmap."""
from __future__ import annotations

import threading

import numpy as np

from cermet.kmd.space import SharedAddressSpace
from cermet.sim.memory import PAGE_BYTES, AddressSpace
from tests.kmd.client import PAGE, Job, Node
from tests.kmd.fake_core import ADD


class Interrupted(int):
    """An address that lets another thread map a page below it while it is being looked up."""

    def __new__(cls, value: int, space: AddressSpace) -> Interrupted:
        made = super().__new__(cls, value)
        made.thread = threading.Thread(target=space.map, args=(0, np.zeros(PAGE_BYTES, np.uint8)))
        return made

    def __lt__(self, other: int) -> bool:
        if other == self and self.thread.ident is None:     # compared with its mapping's start: in the table
            self.thread.start()
            self.thread.join(0.2)
        return int(self) < int(other)


def test_mapping_elsewhere_never_makes_a_read_fault() -> None:
    """A space without the lock faults here: its table shifts between the look-up and the use of the index."""
    space = SharedAddressSpace()
    space.map(1000 * PAGE_BYTES, np.ones(PAGE_BYTES, np.uint8))
    address = Interrupted(1000 * PAGE_BYTES, space)
    assert space.read(address, 4).tolist() == [1, 1, 1, 1]
    address.thread.join()
    assert space.read(0, 1)[0] == 0


def test_jobs_run_while_other_threads_create_and_close(node: Node) -> None:
    """200 tasks that each read and write, none of which times out."""
    target = node.create(PAGE)
    mapping = node.mmap(target.offset, PAGE)
    program, words = node.program((ADD, target.dma_address, 1, 1))
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for bo in [node.create(PAGE) for _ in range(5)]:
                node.call("GEM_CLOSE", handle=bo.handle)
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        node.submit(Job([(program.dma_address, words)] * 200, [program.handle], [target.handle]))
        node.wait(target)
    finally:
        done.set()
        thread.join()
    assert mapping.read(0, 1)[0] == 200
