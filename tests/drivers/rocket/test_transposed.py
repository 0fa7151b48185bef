"""TRANSPOSE_CONV on the simulated core, both ways: at most 1 LSB from exact; which way is taken."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket import transposed
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import Case, case_id, compare, pairwise, run, subgraph_of
from tests.drivers.rocket.measure import Measured, measure, num_tasks, reason, summary
from tests.drivers.rocket.test_grid import _rng
from tests.support import interpreter
from tests.support.builders_conv import transpose_conv
from tests.support.builders_unary import behind_gently
from tests.support.model_builder import Model

CASES = pairwise({
    "ic": (1, 3, 16, 24, 40, 64), "oc": (1, 5, 16, 17, 32, 48, 70), "plane": ((1, 1), (4, 4), (5, 7), (9, 1), (13, 20)),
    "kernel": ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 2), (1, 6), (8, 8)),
    "stride": ((1, 1), (2, 2), (3, 3), (4, 4), (2, 1), (1, 3), (8, 2)),
    "padding": ("SAME", "VALID"), "extra": ((0, 0), (1, 0), (0, 1)), "dtype": ("int8", "uint8", "channel"),
    "bias": (True, False), "activation": ("NONE", "RELU"), "match": ("tflite", "exact"),
}, lambda case: all(e < s for e, s in zip(case["extra"], case["stride"], strict=True)), seed=21)
measured: dict[tuple[str, str], list[Measured]] = {}


def _model(case: Case) -> Model:
    return transpose_conv(
        _rng(case), (1, *case["plane"], case["ic"]), case["oc"], case["kernel"], stride=case["stride"],
        padding=case["padding"], extra=case["extra"], bias=case["bias"], activation=case["activation"],
        dtype="uint8" if case["dtype"] == "uint8" else "int8", per_channel=case["dtype"] == "channel")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """only("phases"): without the transposed mode."""
    def choose(way: object) -> None:
        if way == "phases":
            monkeypatch.setattr(transposed, "native_geometry", lambda soc, shapes: None)
        else:
            monkeypatch.setattr(transposed, "copies_us", lambda *_: 1e12)
    return choose


@pytest.mark.parametrize("way", ["native", "phases"])
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_transposed_convolution_is_within_1_lsb_of_exact(case: Case, way: str, only: Callable[[object], None]) -> None:
    """native: where the mode takes the case, else by phases as well."""
    only(way)
    made = measure(_model(case), _rng(case), str(case["match"]))
    measured.setdefault((way, str(case["match"])), []).append(made)
    assert made.from_exact.max() <= 1


@pytest.mark.parametrize("way", ["native", "phases"])
def test_scales_that_differ_between_channels(way: str, only: Callable[[object], None]) -> None:
    rng = np.random.default_rng(5)
    model = transpose_conv(rng, (1, 6, 6, 20), 40, (4, 4), per_channel=True)
    only(way)
    assert compare(model, rng).largest <= 1


@pytest.mark.parametrize("way", ["native", "phases"])
def test_a_function_behind_runs_in_the_same_tasks(way: str, only: Callable[[object], None]) -> None:
    rng = np.random.default_rng(6)
    model = behind_gently(transpose_conv(rng, (1, 6, 6, 20), 40, (4, 4)), rng)
    only(way)
    assert num_tasks(model, "exact") == {"native": 1, "phases": 1 + 4}[way]
    inputs, (output,) = run(model, rng, "exact")
    (reference,) = interpreter.run(model.data, inputs)
    assert (output == reference).mean() > 0.98


@pytest.mark.parametrize("shape,outputs,kernel,stride,tasks", [
    ((1, 16, 16, 64), 32, (4, 4), (2, 2), 1),           # a decoder's step: one task in the transposed mode
    ((1, 16, 16, 64), 32, (3, 3), (3, 3), 1 + 9),       # no stride of the mode: a convolution and nine copies
    ((1, 96, 96, 64), 16, (2, 2), (2, 2), 2 + 4),       # too large for the CBUF: in two bands, and four copies
    ((1, 16, 16, 64), 32, (3, 3), (1, 1), 1)])
def test_which_way_is_taken(shape: tuple[int, ...], outputs: int, kernel: tuple[int, int], stride: tuple[int, int],
                            tasks: int) -> None:
    assert num_tasks(transpose_conv(np.random.default_rng(0), shape, outputs, kernel, stride=stride)) == tasks


def test_phases_rely_on_nothing_unproven() -> None:
    """What the vendor's programs alone show is the transposed mode; copies and small windows ran on silicon."""
    subgraph = subgraph_of(transpose_conv(np.random.default_rng(0), (1, 16, 16, 64), 32, (4, 4)))
    driver = RocketDriver(RK3588)
    tasks = {assume: len(driver.compile(subgraph, CompileOptions(assume=assume)).tasks)
             for assume in ("on", "replayed", "off")}
    assert tasks == {"on": 1, "replayed": 1, "off": 1 + 4}


def test_registers_are_those_of_the_vendors_program() -> None:
    """deconv4x4s2: CONV_CON1 0x10000, strides 0x909, PAD_CON0 k - 1 - p on both axes."""
    model = transpose_conv(np.random.default_rng(0), (1, 16, 16, 32), 32, (4, 4))
    program = RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions())
    (task,) = program.tasks
    words = np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes).tolist()
    values = {w & 0xFFFF: w >> 16 & 0xFFFFFFFF for w in words if w >> 48 == 0x0201}
    assert (values[0x100C], values[0x1014], values[0x1068]) == (0x10000, 0x909, 0x22)


def test_reasons() -> None:
    def reason_of(*args: object, **options: object) -> str:
        return reason(transpose_conv(np.random.default_rng(0), *args, **options))
    assert "transposed_stride_fits: stride is 9x1" in reason_of((1, 4, 4, 8), 4, (3, 3), stride=(9, 1))
    assert "kernel_fits: kernel is 32x1" in reason_of((1, 4, 4, 8), 4, (32, 1))
    assert "transposed_way_exists: its phases need" in reason_of((1, 12, 12, 8), 400, (7, 7), stride=(7, 7),
                                                                    extra=(1, 0))


def test_differences_are_rare(record_table: Callable[[str, dict[str, object]], None]) -> None:
    for (way, match), made in sorted(measured.items()):
        record_table("TRANSPOSE_CONV", summary(f"{way}, match {match}", made))
        wrong = np.concatenate([m.from_exact.reshape(-1) for m in made])
        assert (wrong > 0).mean() < (0.002 if match == "exact" else 0.03)
