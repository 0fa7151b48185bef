"""The text and the CSV of `cermet profile`."""
from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from cermet.cli.report_text import runs, table
from cermet.profile.layers import KB, Layer, shape_text
from cermet.profile.profile import Part, Profile

COLUMNS = ("id", "type", "dtype", "target", "input shapes", "output shape", "cycles DDR", "NPU", "max", "time us",
           "MAC use", "load/core", "tasks", "RW KB", "bound by")
MAX_TYPE = 34


def lines(profile: Profile) -> Iterator[str]:
    """All of it."""
    for made in (_layers(profile), _types(profile), _parts(profile), _memory(profile.parts)):
        found = list(made)
        yield from (*found, "") if found else ()
    yield from _totals(profile)


def _layers(profile: Profile) -> Iterator[str]:
    rows = [COLUMNS, *(_layer(layer) for layer in profile.layers)]
    yield from table(rows, right=(0, 6, 7, 8, 9, 10, 11, 12, 13))


def _layer(layer: Layer) -> Sequence[str]:
    on_npu = layer.target == "NPU"
    return (runs(layer.operations), shortened(layer.type), layer.dtype, layer.place,
            ",".join(shape_text(each) for each in layer.input_shapes), shape_text(layer.output_shape),
            *(f"{cycles:,}" if layer.tasks else "" for cycles in (layer.ddr_cycles, layer.npu_cycles,
                                                                  layer.max_cycles)),
            f"{layer.time_us:,.1f}", f"{layer.mac_use:.1%}" if on_npu and layer.macs else "", layer.load_text,
            str(layer.tasks) if on_npu else "", f"{layer.rw_kb:,.1f}" if layer.tasks else "", layer.bound_by)


def shortened(name: str) -> str:
    return name if len(name) <= MAX_TYPE else name[:MAX_TYPE - 3] + "..."


def _types(profile: Profile) -> Iterator[str]:
    rows = [("type", "target", "layers", "tasks", "MACs", "MAC use", "time us", "share", "")]
    for kind in profile.types:
        rows.append((shortened(kind.type), kind.target, str(kind.layers), str(kind.tasks or ""),
                     f"{kind.macs:,}" if kind.macs else "", f"{kind.mac_use:.1%}" if kind.mac_use else "",
                     f"{kind.time_us:,.1f}", f"{kind.share:.1%}", "#" * round(40 * kind.share)))
    yield from table(rows, right=(2, 3, 4, 5, 6, 7))


def _parts(profile: Profile) -> Iterator[str]:
    rows = [("partition", "nodes", "tasks", "convert in us", "NPU us", "convert out us", "total us", "NPU us are")]
    for number, part in enumerate(profile.parts):
        rows.append((str(number), str(len(part.nodes)), str(len(part.tasks)), f"{part.convert_in_us:,.1f}",
                     f"{part.npu_us:,.1f}", f"{part.convert_out_us:,.1f}", f"{part.total_us:,.1f}",
                     f"{part.busy_us:,.1f} busy, {part.interrupts_us:,.1f} interrupts, {part.submit_us:,.1f} submit"))
    if profile.parts:
        yield from table(rows, right=range(7))
    on_cpu = [layer for layer in profile.layers if layer.target == "CPU"]
    if on_cpu:
        yield f"on the CPU: {len(on_cpu)} operations, {profile.totals.cpu_us:,.1f} us (ASSUMED)"


def _memory(parts: Sequence[Part]) -> Iterator[str]:
    if not parts:
        return
    rows: list[Sequence[str]] = [("memory KB", "weights", "programs", "arena", "in use at once", "inputs", "outputs",
                                  "all", "")]
    for number, part in enumerate(parts):
        memory = part.memory
        rows.append((f"partition {number}", *(f"{size / KB:,.1f}" for size in (
            memory.weights, memory.programs, memory.arena, memory.peak, memory.inputs, memory.outputs,
            memory.total)), ""))
    yield from table(rows, right=range(1, 8))


def _totals(profile: Profile) -> Iterator[str]:
    totals, setting = profile.totals, profile.setting
    yield (f"{totals.layers} layers, {totals.tasks} tasks, {totals.macs:,} MACs, the NPU's at {totals.mac_use:.1%} of "
           f"the array; cycles: {totals.ddr_cycles:,} DDR, {totals.npu_cycles:,} NPU, {totals.max_cycles:,} max")
    yield (f"memory traffic: {totals.read_bytes / KB:,.0f} KB read, {totals.written_bytes / KB:,.0f} KB written, "
           f"{totals.traffic:.2f} times what has to be moved")
    side_by_side = f", {setting.inferences} side by side" if setting.inferences > 1 else ""
    side_by_side = f" on {setting.arrays} cores" if setting.arrays > 1 else side_by_side
    yield (f"one inference at {setting.clock_mhz} MHz, {setting.kernel} kernel: {totals.total_us / 1000:.2f} ms "
           f"(NPU {totals.npu_us / 1000:.2f}, conversions {totals.convert_us / 1000:.2f}, CPU "
           f"{totals.cpu_us / 1000:.2f}){side_by_side}: {profile.per_second:.1f} per second, by estimate")


def to_csv(profile: Profile) -> str:
    """The layers; numbers without thousands separators."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("operations", "type", "dtype", "target", "partition", "input_shapes", "output_shape", "macs",
                     "ddr_cycles", "npu_cycles", "max_cycles", "time_us", "mac_use", "load_per_core", "tasks", "rw_kb",
                     "read_bytes", "written_bytes", "bound_by"))
    for layer in profile.layers:
        writer.writerow((
            " ".join(map(str, layer.operations)), layer.type, layer.dtype, layer.target,
            "" if layer.partition is None else layer.partition, " ".join(map(shape_text, layer.input_shapes)),
            shape_text(layer.output_shape), layer.macs, layer.ddr_cycles, layer.npu_cycles, layer.max_cycles,
            f"{layer.time_us:.3f}", f"{layer.mac_use:.5f}", "/".join(f"{share:.4f}" for share in layer.load),
            layer.tasks, f"{layer.rw_kb:.3f}", layer.read_bytes, layer.written_bytes, layer.bound_by))
    return file.getvalue()
