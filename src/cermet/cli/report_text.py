"""The text of `cermet report`: a table of nodes, partitions, and remarks, in lines of at most WIDTH columns."""
from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from cermet.report import NodeReport, Report

WIDTH = 120
LEAST_WORDS = 36        # columns for reasons, however wide the other columns are
MAX_NAME = 24           # columns for the name of an operation: custom ones may be long
SHOWN_NAMES = 4
SHOWN_RUNS = 10


def lines(report: Report) -> list[str]:
    """All of it but the totals."""
    return [*_nodes(report), *_partitions(report), *_remarks(report)]


def _nodes(report: Report) -> Iterator[str]:
    rows = [("node", "operation", "output", "MACs", "bytes", "target", "why not on the NPU")]
    for node in report.nodes:
        shape = "x".join(map(str, node.output_shape)) or "scalar"
        target = node.target if node.partition is None else f"NPU {node.partition}"
        why = f"{node.reason} [{node.rule}]" if node.rule else ""
        rows.append((str(node.index), _short(node.operation), f"{shape} {node.output_dtype}".strip(),
                     f"{node.macs:,}" if node.macs else "", f"{node.bytes:,}", target, why))
    yield from table(rows, right=(0, 3, 4))


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[:MAX_NAME - 3] + "..."


def _partitions(report: Report) -> Iterator[str]:
    if not report.partitions:
        return
    rows = [("partition", "nodes", "tasks", "MACs", "bytes in", "bytes out", "us NPU", "us CPU", "which")]
    for number, part in enumerate(report.partitions):
        rows.append((str(number), str(len(part.nodes)), str(part.tasks), f"{part.macs:,}", f"{part.input_bytes:,}",
                     f"{part.output_bytes:,}", f"{part.npu_us:,.0f}", f"{part.cpu_us:,.0f}", runs(part.nodes)))
    yield ""
    yield from table(rows, right=range(8))


def table(rows: Sequence[Sequence[str]], right: Iterable[int]) -> Iterator[str]:
    """Columns aligned; the last one wrapped."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.rjust(width) if column in right else cell.ljust(width)
                 for column, (cell, width) in enumerate(zip(row, widths, strict=False))]
        yield from _wrapped("  ".join(cells) + "  ", row[-1])


def _wrapped(start: str, words: str) -> list[str]:
    """A line that begins with `start`; the words behind it go on below themselves."""
    width = max(WIDTH - len(start), LEAST_WORDS)
    parts = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False) or [""]
    return [line.rstrip() for line in (start + parts[0], *(" " * len(start) + part for part in parts[1:]))]


def _remarks(report: Report) -> Iterator[str]:
    """What would have to change, what costs time, what is assumed: each once, with the nodes it is about."""
    changes = [(node.advice, node) for node in report.nodes if node.advice]
    hints = [(hint, node) for node in report.nodes for hint in node.hints]
    by_index = {node.index: node for node in report.nodes}
    assumed = [(str(part), by_index[index]) for part in report.assumptions for index in part.nodes]
    for title, found in (("to bring more onto the NPU", changes), ("hints", hints),
                         ("ASSUMED (the option assume refuses these; sources: docs/hardware.md)", assumed)):
        groups: dict[str, list[NodeReport]] = {}
        for words, node in found:
            groups.setdefault(words, []).append(node)
        if groups:
            yield from ("", f"{title}:")
        for words, nodes in groups.items():
            yield from _wrapped("  - ", f"{_who(nodes)}: {words}")


def _who(nodes: Sequence[NodeReport]) -> str:
    """Names of operations and their numbers: "ADD, MUL (3 5-9)"."""
    names = list(dict.fromkeys(node.operation for node in nodes))
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{', '.join(names[:SHOWN_NAMES])}{more} ({runs([node.index for node in nodes])})"


def runs(indices: Sequence[int]) -> str:
    """Numbers in ascending order, runs as FIRST-LAST; at most SHOWN_RUNS of them."""
    found: list[list[int]] = []
    for index in indices:
        if found and found[-1][1] + 1 == index:
            found[-1][1] = index
        else:
            found.append([index, index])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in found[:SHOWN_RUNS]]
    return " ".join(texts + ["..."] * (len(found) > SHOWN_RUNS))
