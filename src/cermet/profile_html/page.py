"""The page of a profile: totals, types, roofline, timeline, arena, layers. No script, no other file."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from cermet.ir.subgraph import Subgraph
from cermet.profile.layers import KB, Layer, shape_text
from cermet.profile.profile import Profile
from cermet.profile.timeline import events, steps
from cermet.profile_html.lanes import arena, timeline, zoom_buttons
from cermet.profile_html.roofline import roofline
from cermet.profile_html.style import COLOURS, STYLE
from cermet.report_html.pieces import Heading, amount, document, header, percent, tile, tiles

LEGEND = {"array": "MAC array", "load": "features and weights into the buffer", "stream": "operands",
          "output": "DPU or PPU", "store": "writing", "memory": "memory", "start": "fetch and latencies",
          "interrupt": "interrupts", "cpu": "CPU"}
LAYER_COLUMNS = (("", "id"), ("", "type"), ("", "on"), ("", "inputs"), ("", "output"), ("r", "MACs"),
                 ("r", "DDR"), ("r", "NPU"), ("r", "max cycles"), ("r", "time µs"), ("r", "MAC use"),
                 ("r", "load per core"), ("r", "tasks"), ("r", "RW KB"), ("", "bound by"))


def make_profile_page(heading: Heading, subgraph: Subgraph, profile: Profile) -> str:
    """The whole document."""
    setting = profile.setting
    words = (f"compiles it, estimated at {setting.clock_mhz} MHz, {setting.kernel} kernel, "
             f"{setting.cores} core{'s' if setting.cores > 1 else ''}")
    parts = [header(heading, words), _tiles(profile), _shares(profile), _roofline(profile), _lanes(subgraph, profile),
             _types(profile), _memory(profile), _layers(profile), _footer(profile)]
    return document(heading, parts, STYLE)


def _tiles(profile: Profile) -> str:
    totals = profile.totals
    memory = sum(part.memory.total for part in profile.parts)
    detail = (f"NPU {totals.npu_us / 1000:.2f} ms, conversions {totals.convert_us / 1000:.2f} ms, "
              f"CPU {totals.cpu_us / 1000:.2f} ms")
    return tiles([
        tile("one inference", f"{totals.total_us / 1000:.2f} ms", detail),
        tile("rate", f"{profile.per_second:.1f}/s", f"inferences of {profile.setting.cores} of "
             f"{profile.setting.soc.cores} cores{', one at a time' if profile.setting.has_queues else ''}"),
        tile("MAC use", percent(totals.mac_use), f"of what the array could do while the NPU works, "
             f"{amount(totals.macs)} MACs", totals.mac_use),
        tile("tasks", str(totals.tasks), "register programs of one inference"),
        tile("memory traffic", f"{(totals.read_bytes + totals.written_bytes) / KB / KB:.1f} MB",
             f"{totals.read_bytes / KB / KB:.1f} MB read, {totals.written_bytes / KB / KB:.1f} MB written; "
             f"{totals.traffic:.2f} times what has to be moved"),
        tile("NPU memory", f"{memory / KB / KB:.1f} MB", "weights, programs, arena, inputs and outputs")])


def _shares(profile: Profile) -> str:
    """One bar: what an inference's time consists of."""
    busy: dict[str, float] = {}
    for part in profile.parts:
        for name, value in (("array", part.busy_us), ("interrupt", part.interrupts_us), ("start", part.submit_us),
                            ("store", part.convert_in_us + part.convert_out_us)):
            busy[name] = busy.get(name, 0.0) + value
    busy["cpu"] = profile.totals.cpu_us
    total = sum(busy.values())
    if not total:
        return ""
    names = {"array": "NPU busy", "interrupt": "interrupts", "start": "submit and wait", "store": "conversions",
             "cpu": "CPU operations"}
    bar = "".join(f'<i class="{COLOURS[name]}" style="width:{100 * value / total:.3f}%"></i>'
                  for name, value in busy.items())
    told = "".join(f'<span><i class="{COLOURS[name]}"></i>{names[name]} {value:,.0f} µs, {percent(value / total)}'
                   "</span>" for name, value in busy.items())
    return (f'<section><h2>What the time consists of</h2><div class="figure"><div class="stack">{bar}</div>'
            f'<p class="legend">{told}</p></div></section>')


def _legend(names: Iterable[str]) -> str:
    return '<p class="legend">' + "".join(f'<span><i class="{COLOURS[name]}"></i>{escape(LEGEND[name])}</span>'
                                          for name in names) + "</p>"


def _roofline(profile: Profile) -> str:
    drawing = roofline(profile)
    if not drawing:
        return ""
    used = {layer.bound_by for layer in profile.layers if layer.tasks and layer.macs}
    return ("<section><h2>Roofline</h2><p>Layers that multiply, as large as their time. Right of a slope the memory is "
            "fast enough; the top is the array's limit. The dashed slope is the port that fills the convolution "
            f'buffer.</p><div class="figure">{drawing}'
            f"{_legend(name for name in LEGEND if name in used)}</div></section>")


def _lanes(subgraph: Subgraph, profile: Profile) -> str:
    total = profile.totals.total_us
    made = timeline(profile, events(subgraph, profile), total)
    if not made:
        return ""
    buffers = arena(steps(subgraph, profile), total)
    below = f"<h2>Arena over time</h2>{buffers}" if buffers else ""
    return ('<section><h2>Timeline</h2><p>One inference. Tasks in the colour of what bounds them; units in their own. '
            'The buttons widen both drawings; hover over a bar for its name and time.</p>'
            f'<div class="figure">{zoom_buttons()}{made}{below}'
            f"{_legend(name for name in LEGEND)}</div></section>")


def _types(profile: Profile) -> str:
    rows = []
    for kind in profile.types:
        colour = COLOURS["cpu"] if kind.target == "CPU" else COLOURS["array"]
        cells = [str(kind.layers), str(kind.tasks or ""), amount(kind.macs) if kind.macs else "",
                 percent(kind.mac_use) if kind.mac_use else "", f"{kind.time_us:,.1f}"]
        rows.append(f"<tr><td>{escape(kind.type)}</td><td>{kind.target}</td>"
                    + "".join(f'<td class="r">{cell}</td>' for cell in cells)
                    + f'<td class="r share {colour}">{percent(kind.share)}<i style="width:{100 * kind.share:.2f}%"></i>'
                    "</td></tr>")
    names = (("", "type"), ("", "on"), ("r", "layers"), ("r", "tasks"), ("r", "MACs"), ("r", "MAC use"),
             ("r", "time µs"), ("r", "share"))
    return _table("Types, the dearest first", names, rows)


def _memory(profile: Profile) -> str:
    rows = []
    for number, part in enumerate(profile.parts):
        memory = part.memory
        sizes = (memory.weights, memory.programs, memory.arena, memory.peak, memory.inputs, memory.outputs,
                 memory.total)
        rows.append(f"<tr><td>{number}</td>" + "".join(f'<td class="r">{size / KB:,.1f}</td>' for size in sizes)
                    + "</tr>")
    names = (("", "partition"), ("r", "weights"), ("r", "programs"), ("r", "arena"), ("r", "used at once"),
             ("r", "inputs"), ("r", "outputs"), ("r", "all"))
    return _table("Memory of the NPU, KB", names, rows) if rows else ""


def _table(title: str, names: Sequence[tuple[str, str]], rows: Iterable[str], kind: str = "layers") -> str:
    heads = "".join(f'<th class="{side}">{name}</th>' if side else f"<th>{name}</th>" for side, name in names)
    return (f'<section><h2>{title}</h2><div class="scrolled"><table class="{kind}"><thead><tr>{heads}</tr></thead>'
            f"<tbody>\n{chr(10).join(rows)}\n</tbody></table></div></section>")


def _layers(profile: Profile) -> str:
    total = sum(layer.time_us for layer in profile.layers)
    return _table("Layers", LAYER_COLUMNS, (_layer(layer, total) for layer in profile.layers))


def _layer(layer: Layer, total: float) -> str:
    colour = COLOURS.get(layer.bound_by, "cpu")
    cycles = [f"{value:,}" if layer.tasks else "" for value in (layer.ddr_cycles, layer.npu_cycles, layer.max_cycles)]
    share = 100 * layer.time_us / total if total else 0
    right = [amount(layer.macs) if layer.macs else "", *cycles]
    behind = [percent(layer.mac_use) if layer.tasks and layer.macs else "", layer.load_text, str(layer.tasks or ""),
              f"{layer.rw_kb:,.1f}" if layer.tasks else ""]
    where = "cpu" if layer.partition is None else f"p{layer.partition % 8}"
    return (f'<tr id="l{layer.operations[0]}"><td>{" ".join(map(str, layer.operations))}</td>'
            f'<td class="name">{_breakable(layer.type)} <small>{layer.dtype}</small></td>'
            f'<td><span class="tag {where}">{layer.place}</span></td>'
            f'<td>{"<br/>".join(map(shape_text, layer.input_shapes))}</td><td>{shape_text(layer.output_shape)}</td>'
            + "".join(_cells(right))
            + f'<td class="r share {colour}">{layer.time_us:,.1f}<i style="width:{share:.2f}%"></i></td>'
            + "".join(_cells(behind))
            + f'<td class="{colour}">{_swatch(layer)}</td></tr>')


def _breakable(name: str) -> str:
    return escape(name).replace("_", "_<wbr/>").replace("+", "+<wbr/>")


def _cells(values: Iterable[str]) -> Iterator[str]:
    return (f'<td class="r">{value}</td>' for value in values)


def _swatch(layer: Layer) -> str:
    return f'<i class="swatch {COLOURS[layer.bound_by]}"></i>{layer.bound_by}' if layer.bound_by else ""


def _footer(profile: Profile) -> str:
    setting = profile.setting
    rate = setting.soc.timing.memory_gb_s.value
    return ("<footer><p>Estimates of the cycle model from the programs' registers; nothing was run. DDR and NPU cycles "
            f"are what the vendor's tools call so: all bytes over {rate:g} GB/s at the full clock, and the MAC array's "
            f"cycles. Times count what does not overlap, and {setting.soc.interrupt_us:g} µs for each interrupt. "
            "Conversions and the CPU's times are ASSUMED.</p></footer>")
