#!/usr/bin/env python3
"""What each pass saves: tasks and operations on the NPU of some models, with all passes and without each one.

    PYTHONPATH=src python tools/measure_passes.py MODEL.tflite ...        prints the rows of docs/passes.md
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket import driver as rocket
from cermet.errors import CermetError
from cermet.frontend.tflite_file import load
from cermet.hw.soc import RK3588
from cermet.ir.passes import pass_name
from cermet.ir.subgraph import Subgraph

DECISIONS = ("fold_strides", "fuse_adds", "fuse_unaries", "fuse_normalisations", "find_homes", "place_parts",
             "place_slices")
MATCHES = ("tflite", "exact")
Counts = tuple[int, int, int]       # tasks, operations on the NPU, partitions


def main(arguments: Sequence[str]) -> None:
    if not arguments:
        raise SystemExit(__doc__)
    if arguments[0].startswith("-"):
        print(__doc__)
        return
    try:
        models = {Path(name).stem: load(Path(name)) for name in arguments}
    except CermetError as error:
        raise SystemExit(f"measure_passes.py: {error}") from error
    both = (*rocket.deciding_passes(RK3588, CompileOptions()), *rocket.lowering_passes(RK3588))
    names = [pass_name(one) for one in both]
    whole = {(name, match): counts(model, match) for name, model in models.items() for match in MATCHES}
    for name in (*names, *DECISIONS):
        kept = without(name)
        saved = {key: difference(counts(models[key[0]], key[1]), all_of_it) for key, all_of_it in whole.items()}
        restore(kept)
        print(f"{name}: " + "; ".join(f"{model} {match} {text}" for (model, match), text in saved.items() if text))


def counts(subgraph: Subgraph, match: str) -> Counts:
    made = compile_subgraph(subgraph, rocket.RocketDriver(RK3588), CompileOptions(match=match))
    assert not made.faults, made.faults
    return sum(len(p.tasks) for p in made.programs), sum(map(len, made.groups)), len(made.groups)


def difference(without_it: Counts, with_it: Counts) -> str:
    """In words, empty when there is none."""
    tasks, operations, partitions = (a - b for a, b in zip(without_it, with_it, strict=True))
    words = [f"{-tasks:+d} tasks" * (tasks != 0), f"{-operations:+d} operations" * (operations != 0),
             f"{-partitions:+d} partitions" * (partitions != 0)]
    return ", ".join(word for word in words if word)


def without(name: str) -> dict[str, Any]:
    """Takes a pass out of the driver; returns what restore() puts back."""
    kept = {key: getattr(rocket, key) for key in (*DECISIONS, "deciding_passes", "lowering_passes")}
    if name in DECISIONS:
        setattr(rocket, name, lambda *_, **__: {})
        return kept
    for key in ("deciding_passes", "lowering_passes"):
        setattr(rocket, key, lambda *given, all_of=kept[key]: tuple(
            one for one in all_of(*given) if pass_name(one) != name))
    return kept


def restore(kept: dict[str, Any]) -> None:
    for name, value in kept.items():
        setattr(rocket, name, value)


if __name__ == "__main__":
    main(sys.argv[1:])
