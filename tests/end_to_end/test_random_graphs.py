"""Random networks, compiled and simulated here; each operation is compared with the numerics on its own inputs.

A network that fails is made small and written to tests/data/regressions, whose files test_regressions.py runs.
"""
from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.conftest import ROOT
from tests.support.networks.check import Failure, Outcome, Tally
from tests.support.networks.draw import draw
from tests.support.networks.recipe import Recipe, to_text
from tests.support.networks.shrink import checked, shrink

CHUNK = 25
TOGETHER = "several as one"
REGRESSIONS = ROOT / "tests" / "data" / "regressions"
alone: dict[str, Tally] = {}
counts: Counter[str] = Counter()


def chunks(config: pytest.Config) -> list[range]:
    """As many networks as asked for."""
    first, count = config.getoption("--first-graph"), config.getoption("--graphs")
    return [range(seed, min(seed + CHUNK, first + count)) for seed in range(first, first + count, CHUNK)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        metafunc.parametrize("seeds", chunks(metafunc.config), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[dict[range, Future[list[Outcome | str]]]]:
    """The wanted chunks, computed on all cores."""
    wanted = [item.callspec.params["seeds"] for item in request.session.items
              if getattr(item, "function", None) is test_networks]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield {seeds: pool.submit(outcomes, seeds) for seeds in wanted}
        pool.shutdown(cancel_futures=True)


def outcomes(seeds: range) -> list[Outcome | str]:
    """One for each network; in words for the first that fails, and none behind it."""
    made: list[Outcome | str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)     # NumPy about means of windows that lie in the padding
        for seed in seeds:
            recipe = draw(seed)
            try:
                made.append(checked(recipe))
            except Failure as failure:
                return [*made, report(seed, recipe, failure)]
    return made


def test_networks(seeds: range, results: dict[range, Future[list[Outcome | str]]]) -> None:
    for outcome in results[seeds].result():
        if isinstance(outcome, str):
            pytest.fail(outcome)
        add(outcome)


def report(seed: int, recipe: Recipe, failure: Failure) -> str:
    """What failed, as a small network; it becomes a regression test."""
    small = to_text(shrink(recipe), f"Found by random network {seed}.\n{failure}")
    path = REGRESSIONS / f"random_{seed}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(small)
    return f"random network {seed}: {failure}\nmade small, now in {path.relative_to(ROOT)}:\n{small}"


def add(outcome: Outcome) -> None:
    counts.update(networks=1, partitions=outcome.partitions, tasks=outcome.tasks, elements=outcome.chained[0],
                  unlike=outcome.chained[1])
    if not outcome.restricted:
        counts.update(operations=outcome.operations, on_npu=outcome.on_npu)
    for name, tally in outcome.alone.items():
        alone.setdefault(name if " and " not in name else TOGETHER, Tally()).add(tally)


def test_kinds_and_shares(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """How often 1 LSB occurs; nearly all operations run on the NPU, else little was tested.

    Operations that run as one may be farther off than 1: the step of the inner one, as the outer one's scales show it.
    """
    for name, tally in sorted(alone.items()):
        record_table("random networks, each operation on the simulator's own inputs", {
            "operation": name, "operations": tally.operations, "elements": tally.elements,
            "off by 1, numerics": f"{tally.ones / tally.elements:.4%}", "largest": tally.largest,
            "off by 1, exact": f"{tally.exact_ones / tally.exact_elements:.4%}" if tally.exact_elements else ""})
        assert name == TOGETHER or tally.largest <= 1
    record_table("random networks", {
        "networks": counts["networks"], "operations, no options": counts["operations"],
        "on the NPU": f"{counts['on_npu'] / counts['operations']:.2%}", "partitions": counts["partitions"],
        "tasks": counts["tasks"],
        "outputs' elements equal, chained": f"{1 - counts['unlike'] / counts['elements']:.3%}"})
    assert counts["on_npu"] > 0.98 * counts["operations"]
    assert len(alone) >= min(40, counts["networks"] // 5)
