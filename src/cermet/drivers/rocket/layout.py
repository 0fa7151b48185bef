"""Feature maps: tensors in the NPU's layout, NC1HWC2 in atoms of 16 bytes (data layouts §1)."""
from __future__ import annotations

from dataclasses import dataclass

from cermet.drivers.rocket.regcmd import Address

ATOM_BYTES = 16
MAX_CUBE = 8192                         # width, height and channels of the DPU's cubes: 13 bits
MAX_SURFACES = MAX_CUBE // ATOM_BYTES


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def ceil_div(value: int, step: int) -> int:
    return -(-value // step)


@dataclass(frozen=True)
class Cube:
    """What a task touches of each of its feature maps: columns, rows, surfaces of 16 channels."""

    width: int
    height: int
    num_surfaces: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def channels(self) -> int:
        return self.num_surfaces * ATOM_BYTES


@dataclass(frozen=True)
class MapShape:
    """Height, width and channels of a feature map. pitch: as in FeatureMap."""

    height: int
    width: int
    channels: int
    pitch: int = 0

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def surface_atoms(self) -> int:
        return self.pitch or self.pixels


@dataclass(frozen=True)
class FeatureMap:
    """One image of a tensor in memory: surfaces of height * width atoms, 16 int8 channels each.

    address       of atom (surface 0, row 0, column 0)
    zero_point    in the signed domain (uint8 tensors are stored with 128 subtracted, zero point likewise)
    num_surfaces  allocated: at least ceil(channels / 16); convolutions write whole groups of 2 (depthwise: 4)
    pitch         atoms from one surface to the next; 0: they follow each other. An image of a batch has the batch's
    """

    address: Address
    height: int
    width: int
    channels: int
    zero_point: int
    scale: float
    num_surfaces: int
    pitch: int = 0

    @property
    def shape(self) -> MapShape:
        return MapShape(self.height, self.width, self.channels, self.pitch)

    @property
    def num_pixels(self) -> int:
        return self.height * self.width

    @property
    def surface_atoms(self) -> int:
        """From one surface to the next."""
        return self.pitch or self.num_pixels

    @property
    def is_dense(self) -> bool:
        """Whether a surface begins where the one before it ends."""
        return self.surface_atoms == self.num_pixels

    @property
    def surface_bytes(self) -> int:
        return self.surface_atoms * ATOM_BYTES

    @property
    def size_bytes(self) -> int:
        return self.num_surfaces * self.surface_bytes

    def row(self, row: int, surface: int = 0) -> Address:
        """Address of the first atom of a row."""
        return self.address + (surface * self.surface_atoms + row * self.width) * ATOM_BYTES
