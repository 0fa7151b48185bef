"""Each probe tells its answers apart, has the assumed one in the simulator, and another on a device that differs."""
from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.rocket.regcmd import Address
from cermet.errors import CermetError
from cermet.probe import execution
from cermet.probe.model import HANGS, SENTINEL, Case, Probe, Program
from cermet.probe.registry import NOT_BY_PROBES, PROBES
from cermet.probe.run import answers_of, judge, rehearse, run_probe
from cermet.sim import cna as cna_unit
from cermet.sim import core as sim_core
from cermet.sim import dpu as sim_dpu
from cermet.sim import dpu_run as sim_dpu_run
from cermet.sim import kernels, stages
from cermet.sim import ppu as sim_ppu
from cermet.sim.silicon import QUESTIONS, Silicon, parse_silicon
from tests.support.other_groups import all_swap, one_group

NAMES = [probe.name for probe in PROBES]
LONG_NS, SHORT_NS = 500_000_000, 1_000_000


@functools.cache
def cases_of(name: str) -> tuple[Case, ...]:
    return tuple(probe_of(name).cases())


def probe_of(name: str) -> Probe:
    return next(probe for probe in PROBES if probe.name == name)


def answers(name: str, duration_ns: int) -> list[str]:
    results = [judge(case, rehearse(case), [duration_ns]) for case in cases_of(name)]
    return answers_of(probe_of(name), results)


@pytest.mark.parametrize("name", NAMES)
def test_the_simulator_gives_the_answer_that_it_is_said_to_assume(name: str) -> None:
    probe = probe_of(name)
    assert answers(name, LONG_NS if probe.times_out else SHORT_NS) == [probe.assumed]


@pytest.mark.parametrize("name", NAMES)
def test_answers_can_be_told_apart(name: str) -> None:
    """In some case the two predict different elements, at least two of them: one may be an accident of the board."""
    probe, cases = probe_of(name), cases_of(name)
    named = [hypothesis for hypothesis in probe.hypotheses if hypothesis != HANGS]
    for one, other in itertools.combinations(named, 2):
        assert any((case.predictions[one] != case.predictions[other]).sum() >= 2 for case in cases
                   if one in case.predictions and other in case.predictions), (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_complete_and_no_sentinel(name: str) -> None:
    """Memory that nobody wrote must not look like an answer, but for those that say so."""
    probe = probe_of(name)
    written = dict.fromkeys(set(probe.hypotheses) - {HANGS}, 0)
    for case in cases_of(name):
        assert set(case.predictions) <= set(written) and case.predictions
        for hypothesis, values in case.predictions.items():
            assert values.shape == case.places.shape, hypothesis
            written[hypothesis] = max(written[hypothesis], (values != SENTINEL).sum())
    assert all(count >= 16 for hypothesis, count in written.items() if hypothesis not in ("ignored", "not written"))


def test_every_open_question_has_a_probe_or_a_reason(shared_dir) -> None:      # type: ignore[no-untyped-def]
    text = (shared_dir / "hw" / "open-questions.md").read_text()
    asked = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| Q-")}
    answered = {probe.name.split(".")[0] for probe in PROBES}
    assert asked == {name for name in answered if name.startswith("Q-")} | set(NOT_BY_PROBES)
    assert not answered & set(NOT_BY_PROBES)


def test_programs_that_leave_their_memory_are_not_run() -> None:
    case = cases_of("control")[0]
    (program,) = case.jobs[0]
    index = next(iter(program.addresses))
    for offset, text in ((1 << 24, "outside the probe's memory"), (-(1 << 20), "outside the probe's memory")):
        wild = Program(program.words, {**program.addresses, index: Address("output", offset)})
        with pytest.raises(CermetError, match=text):
            rehearse(Case("", case.memory, ((wild,),), case.region, case.places, case.predictions))
    reaching = dict(program.addresses) | {index: Address("output", 0x10F00)}
    with pytest.raises(CermetError, match="nothing is mapped there; not run"):
        rehearse(Case("", case.memory, ((Program(program.words, reaching),),), case.region, case.places,
                      case.predictions))


def test_programs_that_only_some_silicon_runs_are_not_run_either() -> None:
    """The last of a chain, which the simulator does not reach by itself, writes beyond the probe's memory."""
    case, name = cases_of("Q-X12")[0], f"program {len(execution.CHAIN) - 1}"
    program = case.stored[name]
    (index,) = (index for index, address in program.addresses.items() if address.buffer == "last")
    wild = Program(program.words, {**program.addresses, index: Address(name, 0x10F00)})
    leaving = dataclasses.replace(case, stored={**case.stored, name: wild})
    rehearse(leaving)
    result = run_probe(None, dataclasses.replace(probe_of("Q-X12"), cases=lambda: [leaving]))   # type: ignore[arg-type]
    assert result.error.endswith("nothing is mapped there; not run") and not result.cases


# -- devices that do otherwise -----------------------------------------------------------------------------------------


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The simulator's readable form, whose parts can be replaced."""
    for module in (kernels, sim_ppu):
        monkeypatch.setattr(module, "fast_library", lambda: None)
    monkeypatch.setattr(sim_core.fast, "run_conv", lambda *arguments: False)
    monkeypatch.setattr(sim_core.fast, "run_flying", lambda *arguments: False)
    return monkeypatch


def away(value: np.ndarray, shift: int) -> np.ndarray:
    return np.sign(value) * (2 * np.abs(value) + (1 << shift) >> shift + 1)


def down(value: np.ndarray, shift: int) -> np.ndarray:
    return np.asarray(value) >> shift


def zero_point_first(value: np.ndarray, output: stages.OutputConverter) -> np.ndarray:
    total = value * output.scale + (output.offset << output.shift)
    rounded = stages.shift_away if output.ties_away else stages.shift_even
    return stages.saturate(rounded(total, output.shift), output.bits)


def wrapping(value: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(value).astype(np.int32).astype(np.int64) if bits == 32 else np.clip(value, -128, 127)


def signed_multiplier(dpu: object, stage: str) -> stages.LinearStage:
    made = ORIGINAL_LINEAR(dpu, stage)      # type: ignore[arg-type]
    return dataclasses.replace(made, mul_operand=made.mul_operand - 65536 * (made.mul_operand >> 15))


ORIGINAL_LINEAR = stages.decode_linear
ORIGINAL_POOL = sim_ppu.input_band


def counting_pads(pool: sim_ppu.Pool, *rest: object) -> np.ndarray:
    """Padded taps of maxima take the register."""
    band = ORIGINAL_POOL(pool, *rest)       # type: ignore[arg-type]
    rows = np.arange(band.shape[0]) - pool.pad_top
    columns = np.arange(band.shape[1]) - pool.pad_left
    outside = (rows < 0) | (rows >= pool.height)
    band[outside] = pool.pad_value
    band[:, (columns < 0) | (columns >= pool.width)] = pool.pad_value
    return band


OTHER_DEVICES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "Q-N7.rounding": (lambda patch: patch.setattr(stages, "shift_even", away), "half-away"),
    "Q-N8.even": (lambda patch: patch.setattr(stages, "shift_even", down), "floor"),
    "Q-N12.away": (lambda patch: patch.setattr(sim_dpu_run, "apply_output", zero_point_first), "before the shift"),
    "Q-N4": (lambda patch: patch.setattr(stages, "saturate", wrapping), "wraps"),
    "Q-N7.sign": (lambda patch: patch.setattr(sim_dpu, "decode_linear", signed_multiplier), "signed"),
    "Q-N13": (lambda patch: patch.setattr(sim_ppu, "shift_even", away), "product: half-away"),
    "Q-P7": (lambda patch: patch.setattr(sim_ppu, "input_band", counting_pads), "the register's value"),
    "Q-N2.even": (lambda patch: patch.setattr(stages, "shift_even", down), "sum: floor"),
}


@pytest.mark.parametrize("name", OTHER_DEVICES)
def test_a_device_that_does_otherwise_is_seen(name: str, plain: pytest.MonkeyPatch) -> None:
    change, expected = OTHER_DEVICES[name]
    assert answers(name, SHORT_NS) == [probe_of(name).assumed]      # the plain form is the same device
    change(plain)
    assert answers(name, SHORT_NS) == [expected]


@pytest.mark.parametrize(("change", "expected"), [
    (one_group, execution.ONE), (all_swap, execution.ALL)], ids=["one group", "all swap"])
def test_devices_with_other_groups_are_seen(change: Callable[[pytest.MonkeyPatch], None], expected: str,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
    assert answers("registers", SHORT_NS) == [expected]


def with_answer(question: str, answer: str) -> list[str]:
    """What the probe says of a simulated NPU that was told its answer."""
    silicon = parse_silicon(f"{question}={answer}")
    results = [judge(case, rehearse(case, silicon), [SHORT_NS]) for case in cases_of(question)]
    return answers_of(probe_of(question), results)


@pytest.mark.parametrize(("question", "answer"), [
    (question, answer) for question, those in QUESTIONS.items() for answer in those])
def test_silicon_that_was_told_what_to_do_is_seen(question: str, answer: str) -> None:
    assert with_answer(question, answer) == [answer]


def test_what_is_taken_for_granted_comes_first() -> None:
    assert {question: probe_of(question).assumed for question in QUESTIONS} == {
        question: Silicon().answer(question) for question in QUESTIONS}


def test_fewer_rows_than_are_asked_for_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An NPU that starts the array when the rows of FEATURE_GRAINS are there and reads what is not there yet as 0."""
    complete = sim_core.load_features

    def early(cna: object, shape: cna_unit.ConvShape, *rest: object) -> object:
        made = complete(cna, shape, *rest)      # type: ignore[arg-type]
        made.nhwc()[shape.grains:] = 0
        return made

    assert answers("Q-X10.least", SHORT_NS) == ["right"]
    monkeypatch.setattr(sim_core, "load_features", early)
    monkeypatch.setattr(sim_core.fast, "run_conv", lambda *arguments: False)
    assert answers("Q-X10.least", SHORT_NS) == []


def test_a_device_that_does_something_new_leaves_the_question_open(plain: pytest.MonkeyPatch) -> None:
    plain.setattr(stages, "shift_even", lambda value, shift: (np.asarray(value) >> shift) + 1)
    assert answers("Q-N7.rounding", SHORT_NS) == []


def test_a_device_that_never_ends_is_no_answer() -> None:
    """Nothing written and the time limit reached: only a question that asks for it is answered."""
    for name, expected in (("Q-N4", []), ("Q-X10", [HANGS]), ("Q-L6", [HANGS])):
        results = [judge(case, np.full(case.places.shape, SENTINEL), [LONG_NS]) for case in cases_of(name)]
        assert answers_of(probe_of(name), results) == expected
