"""What `cermet run` found, as lines and as JSON."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cermet.errors import CermetError

if TYPE_CHECKING:
    import numpy as np

    from cermet.cli.comparison import Difference
    from cermet.report import Estimate, Summary

TOP = 5


@dataclass(frozen=True)
class Timings:
    """Milliseconds. compile_ms: what an empty cache cost on top of load_ms; 0 when the plan was in the cache already,
    None when the cache is off (then load_ms has it)."""

    compile_ms: float | None
    load_ms: float
    first_invoke_ms: float
    median_invoke_ms: float
    invokes: int


@dataclass(frozen=True)
class Outcome:
    """What one run gave."""

    model: Path
    soc: str
    device: str
    runtime: str
    summary: Summary
    estimate: Estimate
    timings: Timings
    outputs: list[dict[str, Any]]       # name, shape, dtype, scale, zero_point
    arrays: list[np.ndarray] = field(repr=False)
    top: list[dict[str, Any]]
    differences: list[Difference]


def read_labels(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CermetError(f"{path}: is not text in UTF-8") from error


def top_classes(detail: dict[str, Any], array: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """The best classes of the first output, best first; the score is the real value."""
    import numpy as np
    values = array.reshape(-1)
    # Some lists begin with a class "background" that some models do not have.
    offset = len(labels) - len(values)
    if offset not in (0, 1):
        raise CermetError(f"--labels: {len(labels)} lines, the first output has {len(values)} elements")
    scale, zero_point = detail["quantization"]
    scores = (values.astype(np.float64) - zero_point) * scale if scale else values.astype(np.float64)
    best = np.argsort(-scores, kind="stable")[:TOP]
    return [{"index": int(i), "label": labels[int(i) + offset], "score": float(scores[i])} for i in best]


def to_json(outcome: Outcome) -> dict[str, Any]:
    """docs/run-json.md."""
    made = {"model": str(outcome.model), "soc": outcome.soc, "device": outcome.device, "runtime": outcome.runtime,
            "summary": asdict(outcome.summary), "timings": asdict(outcome.timings),
            "estimate": asdict(outcome.estimate) | {"total_ms": outcome.estimate.total_ms},
            "outputs": outcome.outputs, "top": outcome.top}
    if outcome.differences:
        made["compare"] = [asdict(difference) for difference in outcome.differences]
    return made


def to_lines(outcome: Outcome) -> list[str]:
    lines = [f"{entry['score']:9.4f}  {entry['label']}" for entry in outcome.top]
    timings, estimate = outcome.timings, outcome.estimate
    lines.append(f"{'device':<12} {device_text(outcome)}")
    lines.append(f"{'on the NPU':<12} {outcome.summary}")
    lines.append(f"{'compile':<12} {compile_text(timings)}")
    lines.append(f"{'load':<12} {timings.load_ms:.0f} ms")
    median = f", median of {timings.invokes}: {timings.median_invoke_ms:.1f} ms" if timings.invokes > 1 else ""
    lines.append(f"{'invoke':<12} {timings.first_invoke_ms:.1f} ms the first time{median}")
    if outcome.device == "sim" and estimate.npu_ms:
        lines.append(f"{'on a board':<12} {estimate}")
    for output in outcome.outputs:
        shape = "x".join(map(str, output["shape"])) or "scalar"
        lines.append(f"{'output':<12} {output['name']}: {shape} {output['dtype']}")
    lines += [f"{'against cpu':<12} {difference}" for difference in outcome.differences]
    return lines


def device_text(outcome: Outcome) -> str:
    device = f"simulated {outcome.soc}" if outcome.device == "sim" else f"{outcome.device} ({outcome.soc})"
    return f"{device}, through {outcome.runtime}"


def compile_text(timings: Timings) -> str:
    if timings.compile_ms is None:
        return "in load: the plan is not cached"
    return f"{timings.compile_ms:.0f} ms" if timings.compile_ms else "not needed, the plan is in the cache"
