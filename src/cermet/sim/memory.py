"""The NPU's view of memory: one 32-bit address space per open file, mapped in pages, faulting elsewhere."""
from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np

PAGE_BYTES = 4096
ADDRESS_MASK = 0xFFFF_FFFF
SPACE_BYTES = 1 << 32


class IommuFault(Exception):
    """The NPU touched an address that nothing is mapped at."""

    def __init__(self, address: int, is_write: bool) -> None:
        super().__init__(f"iommu: {'write' if is_write else 'read'} at {address:#010x}: nothing is mapped there")
        self.address = address
        self.is_write = is_write


@dataclass(frozen=True)
class Block:
    """A strided block of bytes, the last axis dense: lowest byte, and the byte behind the highest."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    low: int
    high: int


class AddressSpace:
    """Mappings of whole pages. Neighbouring mappings may be crossed, as by real DMA: there are no guard pages."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._arrays: dict[int, np.ndarray] = {}

    def map(self, iova: int, array: np.ndarray) -> None:
        """Make array (uint8, 1-D, contiguous, whole pages) visible at iova. Raises ValueError on misuse."""
        if array.dtype != np.uint8 or array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError(f"map at {iova:#x}: array must be 1-D, contiguous, uint8")
        if iova % PAGE_BYTES or array.size % PAGE_BYTES or array.size == 0:
            raise ValueError(f"map at {iova:#x}: address and {array.size} bytes must be whole pages")
        end = iova + array.size
        if iova < 0 or end > SPACE_BYTES:
            raise ValueError(f"map at {iova:#x}: {array.size} bytes must end within 32 bits")
        index = bisect_right(self._starts, iova)
        if index and self._end(self._starts[index - 1]) > iova:
            raise ValueError(f"map at {iova:#x}: overlaps the mapping at {self._starts[index - 1]:#x}")
        if index < len(self._starts) and self._starts[index] < end:
            raise ValueError(f"map at {iova:#x}: overlaps the mapping at {self._starts[index]:#x}")
        insort(self._starts, iova)
        self._arrays[iova] = array

    def unmap(self, iova: int) -> None:
        """Remove the mapping that starts at iova; ValueError when there is none."""
        if iova not in self._arrays:
            raise ValueError(f"unmap at {iova:#x}: no mapping starts there")
        del self._arrays[iova]
        del self._starts[bisect_right(self._starts, iova) - 1]

    def _end(self, start: int) -> int:
        return start + self._arrays[start].size

    def _start_of(self, address: int, is_write: bool) -> int:
        """Start of the mapping that holds address."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._end(self._starts[index]):
            raise IommuFault(address, is_write)
        return self._starts[index]

    def _pieces(self, iova: int, num_bytes: int, is_write: bool) -> list[np.ndarray]:
        """Views that together are the range; the first unmapped byte raises."""
        if not 0 <= iova < SPACE_BYTES:
            raise IommuFault(iova & ADDRESS_MASK, is_write)
        pieces = []
        while num_bytes > 0:
            if iova >= SPACE_BYTES:
                raise IommuFault(iova & ADDRESS_MASK, is_write)
            start = self._start_of(iova, is_write)
            array = self._arrays[start]
            piece = array[iova - start:iova - start + num_bytes]
            pieces.append(piece)
            iova += piece.size
            num_bytes -= piece.size
        return pieces

    def read(self, iova: int, num_bytes: int) -> np.ndarray:
        """uint8 array: a view when inside one mapping, else a copy."""
        pieces = self._pieces(iova, num_bytes, False)
        if not pieces:
            return np.zeros(0, np.uint8)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def write(self, iova: int, array: np.ndarray) -> None:
        """Store bytes; the part before an unmapped page is stored before the fault is raised."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        done = 0
        while done < data.size:
            piece = self._pieces(iova + done, min(data.size - done, self._run_bytes(iova + done)), True)[0]
            piece[:] = data[done:done + piece.size]
            done += piece.size

    def _run_bytes(self, address: int) -> int:
        """Bytes from address to the end of its mapping, at least 1 so that a fault is raised by the access."""
        if not 0 <= address < SPACE_BYTES:
            raise IommuFault(address & ADDRESS_MASK, True)
        index = bisect_right(self._starts, address) - 1
        return 1 if index < 0 else max(1, self._end(self._starts[index]) - address)

    # -- cubes: rows of bytes at regular distances ------------------------------------------------------------

    def window(self, iova: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray | None:
        """View of a strided block of bytes (last axis is dense), or None when it leaves its mapping."""
        return self.view(block_at(iova, shape, strides))

    def view(self, block: Block) -> np.ndarray | None:
        """The bytes of a block, or None when it leaves its mapping."""
        if block.low < 0 or block.high > SPACE_BYTES:
            return None
        index = bisect_right(self._starts, block.low) - 1
        if index < 0 or block.high > self._end(self._starts[index]):
            return None
        start = self._starts[index]
        return np.ndarray(block.shape, np.uint8, self._arrays[start], block.address - start, block.strides)

    def gather(self, iova: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
        """A strided block of bytes: a view where possible, else a copy made row by row."""
        view = self.window(iova, shape, strides)
        if view is not None:
            return view
        block = np.empty(shape, np.uint8)
        lines, steps = merge_dense(shape, strides)
        rows = block.reshape(lines)
        for index in np.ndindex(*lines[:-1]):
            address = iova + sum(i * s for i, s in zip(index, steps, strict=False))
            rows[index] = self.read(address & ADDRESS_MASK, lines[-1])
        return block

    def scatter(self, iova: int, block: np.ndarray, strides: tuple[int, ...]) -> None:
        """Store a block of bytes (last axis dense) at regular distances."""
        view = self.window(iova, block.shape, strides)
        if view is not None:
            view[...] = block
            return
        lines, steps = merge_dense(block.shape, strides)
        rows = np.ascontiguousarray(block).reshape(lines)
        for index in np.ndindex(*lines[:-1]):
            address = iova + sum(i * s for i, s in zip(index, steps, strict=False))
            self.write(address & ADDRESS_MASK, rows[index])


def merge_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same block with trailing axes joined that lie in memory without gaps."""
    lines, steps = list(shape), list(strides)
    while len(lines) > 1 and steps[-2] == lines[-1] * steps[-1]:
        lines[-2:], steps[-2:] = [lines[-2] * lines[-1]], [steps[-1]]
    return tuple(lines), tuple(steps)


def block_at(iova: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Block:
    return Block(iova, shape, strides, *extent(iova, shape, strides))


def is_nested(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Each axis steps over all that lies within it, so that no byte of a strided block is met twice."""
    span = 1
    for step, count in sorted((abs(stride), size) for stride, size in zip(strides, shape, strict=True) if size > 1):
        if step < span:
            return False
        span += step * (count - 1)
    return True


def extent(iova: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Lowest byte of a strided block, and the byte behind the highest."""
    low = high = iova
    for count, stride in zip(shape, strides, strict=True):
        reach = (count - 1) * stride
        low += min(reach, 0)
        high += max(reach, 0)
    return low, high + 1
