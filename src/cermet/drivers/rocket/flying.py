"""Tasks of the DPU alone: cubes read from memory, one or two operands, one result ("flying", recipes §6)."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context, layer_name
from cermet.drivers.rocket.dpu import (
    BURST_LENGTH,
    POINTER_BOTH_AUTOMATIC,
    OutputConverter,
    Stage,
    Stages,
    emit_operand_clients,
    emit_rest,
    emit_stages,
)
from cermet.drivers.rocket.layout import ATOM_BYTES, MAX_CUBE, Cube, FeatureMap, ceil_div
from cermet.drivers.rocket.regcmd import Address, BlockMask, Regcmd, TaskProgram
from cermet.drivers.rocket.tile_time import cube_cycles
from cermet.ir.operation import Operation

OUTPUT_TO_MEMORY = 2            # OUTPUT_MODE of every known program
ERDMA_PER_CHANNEL, ERDMA_PER_ELEMENT = 0, 1
ERDMA_8_BIT = 1
RDMA_EVEN_WEIGHTS = dict(E_WEIGHT=1, N_WEIGHT=1, B_WEIGHT=1, M_WEIGHT=1)


@dataclass(frozen=True)
class View:
    """Where a cube lies: its first atom, the atoms from one surface to the next, the atoms from one row to the next."""

    address: Address
    surface_pitch: int
    line_pitch: int

    @staticmethod
    def of(source: FeatureMap, row: int = 0, column: int = 0) -> View:
        """A feature map from some row and column on."""
        return View(source.row(row) + column * ATOM_BYTES, source.surface_atoms, source.width)


@dataclass(frozen=True)
class FlyingTask:
    """One task. The second operand, when there is one, has dense rows: its line pitch is the cube's width; or it is
    one value per channel, when the stages' `ew` is not per element.

    The line notch of ERDMA is known from the register document only, so that no task uses it.
    """

    cube: Cube
    stages: Stages
    source: View
    destination: View
    operand: View | None = None


def flying_program(context: Context, operation: Operation, task: FlyingTask, part: str = "") -> TaskProgram:
    """The register program of a task. Raises CompileError and FieldError for what registers cannot hold (our bugs)."""
    per_element = task.stages.ew is None or task.stages.ew.per_element
    if task.operand is not None and per_element and task.cube.height > 1 \
            and task.operand.line_pitch != task.cube.width:
        raise CompileError(f"{operation}: rows of the second operand are {task.operand.line_pitch} atoms apart, "
                           f"must be {task.cube.width}")
    regcmd = context.regcmd()
    emit_flying(regcmd, task)
    words, addresses = regcmd.finish(BlockMask.ELEMENTWISE)
    operand = task.operand.address if task.operand else None
    atoms, cubes = task.cube.pixels * task.cube.num_surfaces, 2 if operand and per_element else 1
    return TaskProgram(
        words=words, addresses=addresses, reads=context.touched(task.source.address, operand),
        writes=context.touched(task.destination.address), layer=layer_name(operation, part),
        operations=(operation.index, *operation.fused), cycles=cube_cycles(context.soc, atoms, cubes, len(words)))


def emit_flying(regcmd: Regcmd, task: FlyingTask) -> None:
    """All registers of a task, without the trailer."""
    _emit_dpu(regcmd, task)
    _emit_rdma(regcmd, task)


def _emit_dpu(regcmd: Regcmd, task: FlyingTask) -> None:
    cube, to = task.cube, task.destination
    channels = cube.channels
    notch = to.line_pitch - cube.width
    regcmd.emit("DPU.S_POINTER", **POINTER_BOTH_AUTOMATIC)
    regcmd.emit("DPU.FEATURE_MODE_CFG", BURST_LEN=BURST_LENGTH, OUTPUT_MODE=OUTPUT_TO_MEMORY, FLYING_MODE=1)
    regcmd.emit_address("DPU.DST_BASE_ADDR", to.address)
    regcmd.emit("DPU.DST_SURF_STRIDE", DST_SURF_STRIDE=to.surface_pitch)
    regcmd.emit("DPU.DATA_CUBE_WIDTH", WIDTH=cube.width)
    regcmd.emit("DPU.DATA_CUBE_HEIGHT", HEIGHT=cube.height)
    regcmd.emit("DPU.DATA_CUBE_NOTCH_ADDR", NOTCH_ADDR_1=notch, NOTCH_ADDR_0=notch)
    regcmd.emit("DPU.DATA_CUBE_CHANNEL", ORIG_CHANNEL=channels, CHANNEL=channels)
    regcmd.emit("DPU.BS_OW_CFG", OD_BYPASS=1)
    regcmd.emit("DPU.BS_OW_OP")
    regcmd.emit("DPU.WDMA_SIZE_0", CHANNEL_WDMA=channels)
    regcmd.emit("DPU.WDMA_SIZE_1", HEIGHT_WDMA=cube.height, WIDTH_WDMA=cube.width)
    regcmd.emit("DPU.SURFACE_ADD", SURF_ADD=to.surface_pitch)
    emit_stages(regcmd, task.stages)
    emit_rest(regcmd, task.stages)


def _emit_rdma(regcmd: Regcmd, task: FlyingTask) -> None:
    cube, source, operand = task.cube, task.source, task.operand
    per_element = task.stages.ew is None or task.stages.ew.per_element
    regcmd.emit("DPU_RDMA.RDMA_S_POINTER", **POINTER_BOTH_AUTOMATIC)
    regcmd.emit("DPU_RDMA.RDMA_DATA_CUBE_WIDTH", WIDTH=cube.width)
    regcmd.emit("DPU_RDMA.RDMA_DATA_CUBE_HEIGHT", HEIGHT=cube.height)
    regcmd.emit("DPU_RDMA.RDMA_DATA_CUBE_CHANNEL", CHANNEL=cube.channels)
    regcmd.emit_address("DPU_RDMA.RDMA_SRC_BASE_ADDR", source.address)
    emit_operand_clients(regcmd, task.stages)
    if operand is None:
        regcmd.emit("DPU_RDMA.RDMA_ERDMA_CFG", ERDMA_DISABLE=1)
        regcmd.emit("DPU_RDMA.RDMA_EW_BASE_ADDR")
    else:
        regcmd.emit("DPU_RDMA.RDMA_ERDMA_CFG", ERDMA_DATA_MODE=ERDMA_PER_ELEMENT if per_element else ERDMA_PER_CHANNEL,
                    ERDMA_DATA_SIZE=ERDMA_8_BIT)
        regcmd.emit_address("DPU_RDMA.RDMA_EW_BASE_ADDR", operand.address)
    regcmd.emit("DPU_RDMA.RDMA_EW_SURF_STRIDE", EW_SURF_STRIDE=operand.surface_pitch if operand else 0)
    regcmd.emit("DPU_RDMA.RDMA_FEATURE_MODE_CFG", BURST_LEN=BURST_LENGTH, FLYING_MODE=1)
    regcmd.emit("DPU_RDMA.RDMA_SRC_DMA_CFG", LINE_NOTCH_ADDR=source.line_pitch - cube.width)
    regcmd.emit("DPU_RDMA.RDMA_SURF_NOTCH", SURF_NOTCH_ADDR=_surface_notch(source, cube))
    regcmd.emit("DPU_RDMA.RDMA_PAD_CFG")
    regcmd.emit("DPU_RDMA.RDMA_WEIGHT", **RDMA_EVEN_WEIGHTS)
    regcmd.emit("DPU_RDMA.RDMA_EW_SURF_NOTCH",
                EW_SURF_NOTCH=_surface_notch(View(operand.address, operand.surface_pitch, cube.width), cube)
                if operand and per_element else 0)


def _surface_notch(view: View, cube: Cube) -> int:
    """Atoms between the last pixel of a surface's last row and the next surface (data layouts §5)."""
    if cube.num_surfaces == 1:
        return 0
    return view.surface_pitch - ((cube.height - 1) * view.line_pitch + cube.width)


def whole_cube(source: FeatureMap) -> Cube:
    """All real channels of a feature map, in whole surfaces."""
    return Cube(source.width, source.height, ceil_div(source.channels, ATOM_BYTES))


def copy_stages() -> Stages:
    """Bytes come out as they went in."""
    return Stages(out=OutputConverter(0))


def fill_stages(value: int) -> Stages:
    """Every byte becomes `value`, whatever is read: BS multiplies by 0, BN adds (vendor's fill, recipes §6)."""
    return Stages(bs=Stage(multiplier=0), bn=Stage(add=value), out=OutputConverter(0))


def task_parts(output: FeatureMap) -> Iterator[tuple[int, int, Cube, str]]:
    """(first row, first surface, cube, name) of each task; one unless a side passes the cube's limit."""
    surfaces = ceil_div(output.channels, ATOM_BYTES)
    step = MAX_CUBE // ATOM_BYTES
    is_whole = surfaces <= step and output.height <= MAX_CUBE
    for surface in range(0, surfaces, step):
        for row in range(0, output.height, MAX_CUBE):
            cube = Cube(output.width, min(MAX_CUBE, output.height - row), min(step, surfaces - surface))
            yield row, surface, cube, "" if is_whole else f"row {row}, channel {surface * ATOM_BYTES}"
