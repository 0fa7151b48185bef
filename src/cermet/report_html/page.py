"""One HTML page: totals, the graph, what stays on the CPU and why, hints, and every node. No script, no other file."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape

from cermet.ir.subgraph import Subgraph
from cermet.report import NodeReport, Report
from cermet.report_html.graph import NUM_PARTITION_COLOURS, draw_graph
from cermet.report_html.pieces import Heading, amount, document, header, percent, tile, tiles

SHOWN_NODES = 12
SHOWN_REASONS = 4
MAX_NARROW = 900.0      # a graph up to this width, in pixels, has the lists beside it


def make_page(heading: Heading, subgraph: Subgraph, report: Report) -> str:
    """The whole document."""
    beside = "\n".join([_left_on_cpu(report), _partitions(report), _hints(report), _assumed(report)])
    graph, is_narrow = _graph(subgraph, report)
    middle = f'<div class="split">{graph}<div>{beside}</div></div>' if is_narrow else f"{beside}\n{graph}"
    parts = [header(heading, "compiles it"), _tiles(report), _faults(report), middle, _nodes(report), _footer()]
    return document(heading, parts)


# Totals


def _tiles(report: Report) -> str:
    summary, estimate = report.summary, report.estimate
    nodes_share = summary.nodes_npu / summary.nodes if summary.nodes else 0.0
    made = [_share("operations", f"{summary.nodes_npu} of {summary.nodes}", nodes_share),
             _share("multiply-accumulates", f"{amount(summary.macs_npu)} of {amount(summary.macs)}",
                    summary.macs_share),
             _share("bytes moved", f"{amount(summary.bytes_npu)} of {amount(summary.bytes)}", summary.bytes_share),
             tile("partitions", str(summary.partitions),
                  "groups that run without the CPU; data is converted at their borders"),
             tile("tasks", str(estimate.tasks), "register programs of one inference"),
             tile("estimated time", f"{estimate.mainline_ms:.1f} ms",
                  f"of the NPU's part on a board, at mainline's {estimate.mainline_clock_mhz} MHz; "
                  f"{estimate.total_ms:.1f} ms at {estimate.clock_mhz} MHz; {estimate.interrupts_ms:.1f} ms of it are "
                  "interrupts")]
    return tiles(made)


def _share(name: str, detail: str, share: float) -> str:
    return tile(name, percent(share), f"{detail} on the NPU", share)


def _faults(report: Report) -> str:
    if not report.faults:
        return ""
    items = "".join(f"<li>{escape(fault)}</li>" for fault in report.faults)
    return f'<section class="fault"><h2>Faults of the compiler</h2><ul>{items}</ul></section>'


# What and why


def _left_on_cpu(report: Report) -> str:
    groups: dict[tuple[str, str], list[NodeReport]] = {}
    for node in report.nodes:
        if node.partition is None:
            groups.setdefault((node.rule, node.advice), []).append(node)
    if not groups:
        return "<section><h2>What stays on the CPU</h2><p>Nothing: the whole model runs on the NPU.</p></section>"
    cards = "".join(_card(rule, words, nodes) for (rule, words), nodes in
                    sorted(groups.items(), key=lambda item: -sum(node.bytes for node in item[1])))
    return f"<section><h2>What stays on the CPU, and what would change that</h2>{cards}</section>"


def _card(rule: str, words: str, nodes: list[NodeReport]) -> str:
    counts = Counter(node.operation for node in nodes)
    title = ", ".join(f"{escape(name)}<span> × {count}</span>" if count > 1 else escape(name)
                      for name, count in counts.items())
    reasons = list(dict.fromkeys(node.reason for node in nodes))
    listed = [f"<li>{escape(reason)}</li>" for reason in reasons[:SHOWN_REASONS]]
    listed += [f"<li>and {len(reasons) - SHOWN_REASONS} like these</li>"] * (len(reasons) > SHOWN_REASONS)
    advice = f'<p class="advice">{escape(words)}</p>' if words else ""
    return (f'<article class="card"><h3>{title}</h3><ul>{"".join(listed)}</ul>{advice}'
            f'<p class="links"><code>{escape(rule)}</code> {_links(nodes)}</p></article>')


def _links(nodes: list[NodeReport]) -> str:
    links = " ".join(f'<a href="#n{node.index}">{node.index}</a>' for node in nodes[:SHOWN_NODES])
    return links + (f" and {len(nodes) - SHOWN_NODES} more" if len(nodes) > SHOWN_NODES else "")


def _graph(subgraph: Subgraph, report: Report) -> tuple[str, bool]:
    """(the section, whether it leaves room beside it)."""
    if not report.nodes:
        return "", False
    drawing, width = draw_graph(subgraph, report)
    shown = min(report.summary.partitions, NUM_PARTITION_COLOURS)
    legend = "".join(f'<span><i class="p{number}"></i>NPU {number}</span>' for number in range(shown))
    legend += "<span>…</span>" if report.summary.partitions > shown else ""
    legend += '<span><i class="on-cpu"></i>CPU</span>'
    return (f'<section class="drawing"><h2>The graph</h2><p class="legend">{legend}</p>'
            f'<div class="scroll">{drawing}</div></section>'), width <= MAX_NARROW


def _partitions(report: Report) -> str:
    if not report.partitions:
        return ""
    rows = []
    for number, part in enumerate(report.partitions):
        nodes = [node for node in report.nodes if node.partition == number]
        cells = [f"{len(nodes)}, {part.tasks}", amount(part.macs),
                 f"{amount(part.input_bytes)}, {amount(part.output_bytes)}",
                 f"{part.npu_us / 1000:.2f}, {part.cpu_us / 1000:.2f}"]
        rows.append(f'<tr><td><i class="dot p{number % NUM_PARTITION_COLOURS}"></i>{number}</td>'
                    f'<td>{_links([nodes[0]])} to {_links([nodes[-1]])}</td>'
                    + "".join(f'<td class="r">{cell}</td>' for cell in cells) + "</tr>")
    names = ("operations, tasks", "MACs", "bytes in, out", "ms NPU, CPU")
    plural = "s" if len(rows) > 1 else ""
    is_open = " open" if len(rows) <= SHOWN_NODES else ""
    return ("<section><h2>Partitions</h2><p>Bytes are converted at a partition's border. Times are estimates, "
            "the NPU's as the mainline kernel drives it and with conversions, the CPU's for the same operations.</p>"
            f"<details{is_open}><summary>{len(rows)} partition{plural}</summary><table><thead><tr>"
            "<th>partition</th><th>from, to</th>" + "".join(f'<th class="r">{name}</th>' for name in names)
            + "</tr></thead>"
            "<tbody>" + "".join(rows) + "</tbody></table></details></section>")


def _hints(report: Report) -> str:
    return _by_words("Hints", "What costs time and could be otherwise.",
                     [(node, hint) for node in report.nodes for hint in node.hints])


def _assumed(report: Report) -> str:
    by_index = {node.index: node for node in report.nodes}
    return _by_words("Assumed", "What the register programs rely on although nobody has shown it on silicon. The "
                     "option assume=off does without.",
                     [(by_index[index], str(part)) for part in report.assumptions for index in part.nodes])


def _by_words(title: str, lead: str, found: list[tuple[NodeReport, str]]) -> str:
    """A list of sentences with the nodes that each is about."""
    groups: dict[str, list[NodeReport]] = {}
    for node, words in found:
        groups.setdefault(words, []).append(node)
    if not groups:
        return ""
    items = "".join(f"<li>{escape(words[:1].upper() + words[1:])}. <small>{_links(nodes)}</small></li>"
                    for words, nodes in groups.items())
    return f"<section><h2>{title}</h2><p>{lead}</p><ul class=\"plain\">{items}</ul></section>"


# Nodes


def _nodes(report: Report) -> str:
    rows = "\n".join(_row(node) for node in report.nodes)
    return ('<section><h2>Every operation</h2><table class="nodes"><thead><tr><th class="r">node</th><th>operation</th>'
            '<th>output</th><th class="r">MACs</th><th class="r">bytes</th><th>runs on</th><th>why, and what would '
            f"change it</th></tr></thead><tbody>\n{rows}\n</tbody></table></section>")


def _row(node: NodeReport) -> str:
    shape = "x".join(map(str, node.output_shape)) or "scalar"
    if node.partition is None:
        where = '<span class="tag cpu">CPU</span>'
    else:
        where = f'<span class="tag p{node.partition % NUM_PARTITION_COLOURS}">NPU {node.partition}</span>'
    return (f'<tr id="n{node.index}"><td class="r">{node.index}</td><td>{escape(node.operation)}</td>'
            f'<td>{shape} <small>{escape(node.output_dtype)}</small></td>'
            f'<td class="r">{f"{node.macs:,}" if node.macs else ""}</td><td class="r">{node.bytes:,}</td>'
            f'<td>{where}</td><td>{"".join(_why(node))}</td></tr>')


def _why(node: NodeReport) -> Iterator[str]:
    if node.reason:
        yield f"{escape(node.reason)} <code>{escape(node.rule)}</code>"
    if node.advice:
        yield f'<div class="advice">{escape(node.advice)}</div>'
    for hint in node.hints:
        yield f'<div class="hint">{escape(hint)}</div>'
    for name in node.assumed:
        yield f'<div class="assumed">assumed: <code>{escape(name)}</code></div>'


def _footer() -> str:
    return ("<footer><p>Times are estimates: the cycle model's cycles, and 34 µs for the interrupt of "
            "each task (27 to 41 µs were measured). ASSUMED: nothing else uses the memory; what "
            "the CPU needs.</p></footer>")
