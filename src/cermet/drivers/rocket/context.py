"""What the lowerings of one program share: feature maps, buffers, the SoC."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cermet.drivers.base import CompileError, CompileOptions
from cermet.drivers.rocket.lanes import Sharing
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.regcmd import Address, Buffer, Regcmd
from cermet.drivers.rocket.tile_time import pace_of
from cermet.drivers.rocket.views import MapShape, Views
from cermet.hw.soc import Soc
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

if TYPE_CHECKING:
    from cermet.drivers.rocket.passes.fold_strides import Folding
    from cermet.drivers.rocket.passes.fuse_unary import FusedUnary
    from cermet.drivers.rocket.placement.parts import Part

UINT8_FLIP = 0x80


def signed_zero_point(tensor: Tensor) -> int:
    """The zero point as the NPU sees it: uint8 tensors are stored with 128 subtracted. Per-tensor quantisation only."""
    if tensor.quantisation is None:
        raise CompileError(f"tensor {tensor.index}: has no quantisation")
    point = tensor.quantisation.zero_point
    return point - 128 if tensor.dtype is DType.UINT8 else point


def stored_bytes(pixels: np.ndarray, dtype: DType) -> bytes:
    """Constants [pixels, channels] in the NPU's layout, signed, channels behind the last one 0."""
    flip = UINT8_FLIP if dtype is DType.UINT8 else 0
    surfaces = ceil_div(pixels.shape[1], ATOM_BYTES)
    padded = np.zeros((len(pixels), surfaces * ATOM_BYTES), np.uint8)
    padded[:, :pixels.shape[1]] = pixels.astype(dtype.numpy).view(np.uint8) ^ np.uint8(flip)
    return padded.reshape(-1, surfaces, ATOM_BYTES).transpose(1, 0, 2).tobytes()


@dataclass
class Context:
    """State of one compilation.

    soc, subgraph, options   what is compiled, for what
    sharing                  which convolutions several cores can share
    buffers                  all buffers so far by name; assemble gives them their places
    """

    soc: Soc
    subgraph: Subgraph
    options: CompileOptions

    def __post_init__(self) -> None:
        self.buffers: dict[str, Buffer] = {}
        self.sharing = Sharing(pace_of(self.soc, self.options))
        self.views = Views.of(self.subgraph)
        self.fused_unaries: Mapping[int, FusedUnary] = {}      # by convolution; the driver's pass fills it
        self.parts: Mapping[int, Part] = {}     # tensors inside others; the driver's pass fills it
        self.foldings: Mapping[int, Folding] = {}       # inputs in blocks of pixels; the driver's pass fills it
        self.homes: Mapping[int, int] = {}      # tensors that are read elsewhere, see placement/homes.py
        self._maps: dict[int, FeatureMap] = {}
        self._constants: dict[bytes, str] = {}

    def tensor(self, index: int | None) -> Tensor:
        return self.subgraph.tensor(index)

    def regcmd(self) -> Regcmd:
        """An empty register program."""
        return Regcmd(self.soc.registers)

    def feature_map(self, tensor: int) -> FeatureMap:
        """Where an activation lies. Tensors joined by RESHAPE or SQUEEZE share their bytes (see Views).

        Surfaces: whole groups, so that every writer and reader finds complete ones.
        """
        root = self.views.root(tensor)
        if root not in self._maps:
            self._maps[root] = self._new_map(root)
        made = self._maps[root]
        shape = self.views.shape(self.subgraph, tensor)
        described = self.tensor(tensor)
        return replace(made, height=shape.height, width=shape.width, zero_point=signed_zero_point(described),
                       scale=described.quantisation.scale)  # type: ignore[union-attr]

    def _new_map(self, root: int) -> FeatureMap:
        shape = self.views.shape(self.subgraph, root)
        data = self.tensor(root).data
        if data is not None:
            pixels = data.reshape(shape.pixels, shape.channels)
            address = self.constant(f"tensor {root}", stored_bytes(pixels, self.tensor(root).dtype))
            return FeatureMap(address, shape.height, shape.width, shape.channels, 0, 1.0,
                              ceil_div(shape.channels, ATOM_BYTES))
        if root in self.parts:
            part = self.parts[root]
            host = self.feature_map(part.host)
            return FeatureMap(host.row(0, part.surface), shape.height, shape.width, shape.channels, 0, 1.0,
                              host.num_surfaces - part.surface)
        surfaces = round_up(ceil_div(shape.channels, ATOM_BYTES), self._surface_group(root))
        if any(part.host in self.views.members(root) for part in self.parts.values()):
            surfaces += 4       # the last part's writer completes a group that may begin anywhere
        address = self.new_buffer(f"tensor {root}", surfaces * shape.pixels * ATOM_BYTES, self._role(root))
        return FeatureMap(address, shape.height, shape.width, shape.channels, 0, 1.0, surfaces)

    def _surface_group(self, root: int) -> int:
        """Surfaces that the writer completes at once: 2 for convolutions, 4 where depthwise tasks may write.

        Of an input, whose writer is the runtime, as many as its readers take at once: 1 for convolutions.
        """
        readers = self.subgraph.consumers(root)
        if root in self.subgraph.inputs and readers and all(op.kind is Kind.CONV and op.inputs.index(root) == 0 and
                                                            op.inputs.count(root) == 1 for op in readers):
            return 1
        producer = self.subgraph.producer(root)
        pairs = (None, Kind.CONV, Kind.FULLY_CONNECTED, Kind.ADD, Kind.SUB, Kind.MUL, Kind.MAXIMUM, Kind.MINIMUM)
        return 2 if (producer.kind if producer else None) in pairs else 4

    def _role(self, root: int) -> str:
        if root in self.subgraph.inputs:
            return "input"
        return "output" if any(t in self.subgraph.outputs for t in self.views.members(root)) else "arena"

    def scratch_map(self, name: str, like: FeatureMap, shape: MapShape | None = None) -> FeatureMap:
        """A feature map for an intermediate that is no tensor; as `like` but for the shape."""
        shape = shape or MapShape(like.height, like.width, like.channels)
        surfaces = round_up(ceil_div(shape.channels, ATOM_BYTES), 4)
        address = self.new_buffer(f"scratch {name}", surfaces * shape.pixels * ATOM_BYTES, "arena")
        return replace(like, address=address, height=shape.height, width=shape.width, channels=shape.channels,
                       num_surfaces=surfaces, pitch=0)

    def new_buffer(self, name: str, size_bytes: int, role: str = "arena") -> Address:
        """A buffer of its own; the name must be new."""
        if name in self.buffers:
            raise CompileError(f"buffer {name!r}: made twice")
        self.buffers[name] = Buffer(name, size_bytes, role)
        return Address(name)

    def constant(self, name: str, data: bytes) -> Address:
        """The address of constant bytes; equal contents are stored once."""
        key = hashlib.blake2b(data, digest_size=16).digest()
        if key not in self._constants:
            name = name if name not in self.buffers else f"{name} #{len(self.buffers)}"
            self._constants[key] = name
            self.buffers[name] = Buffer(name, len(data), "constant", data)
        return Address(self._constants[key])

    def touched(self, *addresses: Address | None) -> frozenset[str]:
        """Names of the buffers among some addresses whose place depends on lifetimes: not the constants."""
        return frozenset(a.buffer for a in addresses if a is not None and self.buffers[a.buffer].role != "constant")


def layer_name(operation: Operation, part: str = "") -> str:
    """What a task computes, for people: "operation 3 (conv_2d), rows 0..55"."""
    return f"{operation}, {part}" if part else str(operation)
