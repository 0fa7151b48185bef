"""DPU: the block's settings, read from its registers. Writer: data layouts §4."""
from __future__ import annotations

from dataclasses import dataclass

from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.registers import Snapshot
from cermet.sim.stages import EwStage, LinearStage, OutputConverter, decode_ew, decode_linear, decode_output

ATOM_BYTES = 16
MODE_DIRECT, MODE_DEPTHWISE = 0, 3
OUT_INT8, OUT_INT32 = 0, 4
TO_MEMORY = 2


@dataclass(frozen=True)
class Writer:
    """WDMA: where the atoms go. Pitches in bytes."""

    address: int
    width: int
    height: int
    channels: int
    line_bytes: int
    surface_bytes: int
    group_bytes: int
    surfaces_per_group: int


@dataclass(frozen=True)
class Dpu:
    """The block's settings."""

    flying: bool
    conv_mode: int
    in_precision: int
    proc_precision: int
    out_precision: int
    width: int
    height: int
    channels: int
    no_offset_term: bool            # OD_BYPASS
    offset_from_memory: bool        # OW_SRC
    offset_operand: int             # OW_OP
    bs: LinearStage
    bn: LinearStage
    ew: EwStage
    output: OutputConverter
    writer: Writer

    @property
    def out_bytes(self) -> int:
        return 4 if self.out_precision == OUT_INT32 else 1


def decode_dpu(dpu: Snapshot, base: int, outcome: TaskOutcome) -> Dpu:
    """Read the registers; raises Hang on what is unsupported whatever the rest says."""
    out_precision = dpu("DATA_FORMAT.OUT_PRECISION")
    if out_precision not in (OUT_INT8, OUT_INT32):
        raise Hang("precision", f"DPU.DATA_FORMAT.OUT_PRECISION: unsupported precision {out_precision}, the simulator "
                   "writes int8 (0) and int32 (4)")
    if dpu("DATA_FORMAT.PROC_PRECISION"):
        raise Hang("precision", f"DPU.DATA_FORMAT.PROC_PRECISION: unsupported precision "
                   f"{dpu('DATA_FORMAT.PROC_PRECISION')}, the simulator does int8 (0)")
    if dpu("FEATURE_MODE_CFG.OUTPUT_MODE") != TO_MEMORY:
        raise Hang("dpu.output_mode", f"DPU.FEATURE_MODE_CFG.OUTPUT_MODE: {dpu('FEATURE_MODE_CFG.OUTPUT_MODE')} is "
                   "unsupported, 2 (memory) is what programs use")
    for field in ("FEATURE_MODE_CFG.TP_EN", "FEATURE_MODE_CFG.RGP_TYPE", "FEATURE_MODE_CFG.NONALIGN",
                  "DATA_FORMAT.MC_SURF_OUT", "BS_OW_CFG.TP_ORG_EN", "BS_OW_CFG.RGP_CNTER"):
        if dpu(field):
            raise Hang("dpu.regroup", f"DPU.{field}: transposed, regrouped and unaligned writes are unsupported")
    notch = dpu("DATA_CUBE_NOTCH_ADDR.NOTCH_ADDR_0")
    if dpu("DATA_CUBE_NOTCH_ADDR.NOTCH_ADDR_1") != notch:
        outcome.warn("dpu.notch", "DPU.DATA_CUBE_NOTCH_ADDR: both halves should carry the same number")
    sizes = {dpu(f"BS_OW_CFG.SIZE_E_{i}") for i in range(3)}
    if len(sizes) != 1:
        raise Hang("dpu.size_e", f"DPU.BS_OW_CFG: SIZE_E fields {sorted(sizes)} must be equal (ASSUMED to hang)")
    wdma_width = dpu("WDMA_SIZE_1.WIDTH_WDMA")
    writer = Writer(
        address=dpu("DST_BASE_ADDR.DST_BASE_ADDR") + base & ~0xF, width=wdma_width,
        height=dpu("WDMA_SIZE_1.HEIGHT_WDMA"), channels=dpu("WDMA_SIZE_0.CHANNEL_WDMA"),
        line_bytes=(wdma_width + notch) * ATOM_BYTES,
        surface_bytes=dpu("DST_SURF_STRIDE.DST_SURF_STRIDE") * ATOM_BYTES,
        group_bytes=dpu("SURFACE_ADD.SURF_ADD") * ATOM_BYTES, surfaces_per_group=sizes.pop())
    return Dpu(
        flying=bool(dpu("FEATURE_MODE_CFG.FLYING_MODE")), conv_mode=dpu("FEATURE_MODE_CFG.CONV_MODE"),
        in_precision=dpu("DATA_FORMAT.IN_PRECISION"), proc_precision=dpu("DATA_FORMAT.PROC_PRECISION"),
        out_precision=out_precision, width=dpu("DATA_CUBE_WIDTH.WIDTH"), height=dpu("DATA_CUBE_HEIGHT.HEIGHT"),
        channels=dpu("DATA_CUBE_CHANNEL.CHANNEL"),
        no_offset_term=bool(dpu("BS_OW_CFG.OD_BYPASS")), offset_from_memory=bool(dpu("BS_OW_CFG.OW_SRC")),
        offset_operand=dpu("BS_OW_OP.OW_OP"),
        bs=decode_linear(dpu, "BS"), bn=decode_linear(dpu, "BN"), ew=decode_ew(dpu),
        output=decode_output(dpu, 32 if out_precision == OUT_INT32 else 8), writer=writer)
