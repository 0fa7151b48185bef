"""Runs probes on a node, holds what came out against each hypothesis, and writes both into the trace."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from cermet.errors import CermetError
from cermet.hw.soc import RK3588
from cermet.kmd.job import DPU_INTERRUPTS, acknowledge, offsets_of, program_task
from cermet.probe.model import HANGS, SENTINEL, Case, Probe, Program
from cermet.probe.node import PAGE_BYTES, Bo, Node, note
from cermet.sim.core import Core
from cermet.sim.memory import AddressSpace
from cermet.sim.silicon import Silicon, all_answers
from cermet.trace.reader import constant

MARGIN_BYTES = 1 << 16          # around each region: what a wrong idea of a stride reaches is still memory of ours
TIME_LIMIT_NS = 400_000_000     # a job that took longer ran into the kernel's 500 ms
OTHER = "none of these"


@dataclass
class CaseResult:
    """observed: hexadecimal, of the elements looked at. agrees: hypothesis -> elements that are as it says."""

    label: str
    elements: int
    element_bytes: int
    duration_ns: int
    timed_out: bool
    written: bool
    agrees: dict[str, int]
    observed: str = field(repr=False)


@dataclass
class Result:
    """One probe. answers: the hypotheses that all cases agree with."""

    name: str
    question: str
    program: str
    hypotheses: Mapping[str, str]
    assumed: str
    answers: list[str]
    cases: list[CaseResult]
    error: str = ""

    @property
    def verdict(self) -> str:
        if self.error:
            return f"could not be run: {self.error}"
        return " or ".join(self.answers) or OTHER


@dataclass(frozen=True)
class Placed:
    """A case's memory in one stretch of bytes, with its programs' words in another."""

    starts: Mapping[str, int]
    size: int

    @staticmethod
    def of(case: Case) -> Placed:
        starts, at = {}, MARGIN_BYTES
        for name, contents in case.memory.items():
            starts[name] = at
            at += -(-contents.size // PAGE_BYTES) * PAGE_BYTES + MARGIN_BYTES
        return Placed(starts, at)

    def fill(self, memory: np.ndarray, case: Case, base: int) -> None:
        memory[:] = 0
        for name, start in self.starts.items():
            contents = case.memory[name]
            if name in case.stored:
                contents = self.words(case.stored[name], base).view(np.uint8)
            memory[start:start + contents.size] = contents

    def words(self, program: Program, base: int) -> np.ndarray:
        """The program with its addresses. Raises CermetError for one outside its region's reach: our bug."""
        words = list(program.words)
        for index, address in program.addresses.items():
            offset = self.starts[address.buffer] + address.offset_bytes
            if not 0 <= offset < self.size or words[index] >> 16 & 0xFFFF_FFFF:
                raise CermetError(f"word {index}: address {address} is outside the probe's memory")
            words[index] |= base + offset << 16
        return np.array(words, "<u8")

    def observed(self, memory: np.ndarray, case: Case) -> np.ndarray:
        """int64, in the shape of case.places."""
        start = self.starts[case.region]
        lanes = memory[start + case.places[..., None] + np.arange(case.element_bytes)]
        return np.ascontiguousarray(lanes).view(f"<i{case.element_bytes}")[..., 0].astype(np.int64)


def program_bytes(case: Case) -> int:
    return sum(len(program.words) * 8 + 64 for job in case.jobs for program in job) + MARGIN_BYTES


def place_programs(case: Case, placed: Placed, code: np.ndarray, base: int,
                   code_base: int) -> list[list[tuple[int, int]]]:
    """Write all programs; (address, words) of each task, by jobs."""
    jobs, at = [], 0
    for job in case.jobs:
        tasks = []
        for program in job:
            words = placed.words(program, base).view(np.uint8)
            code[at:at + words.size] = words
            tasks.append((code_base + at, words.size // 8))
            at += -(-words.size // 64) * 64
        jobs.append(tasks)
    return jobs


# -- in the simulator --------------------------------------------------------------------------------------------------


def rehearse(case: Case, silicon: Silicon | None = None) -> np.ndarray:
    """What the simulator makes of a case. Raises CermetError when it touches memory that is not the probe's: such a
    program is not for a board."""
    placed = Placed.of(case)
    base = MARGIN_BYTES
    memory = np.zeros(-(-placed.size // PAGE_BYTES) * PAGE_BYTES, np.uint8)
    code = np.zeros(-(-program_bytes(case) // PAGE_BYTES) * PAGE_BYTES, np.uint8)
    placed.fill(memory, case, base)
    space = AddressSpace()
    space.map(base, memory)
    code_base = base + memory.size + MARGIN_BYTES
    space.map(code_base, code)
    core = Core(RK3588, 0, silicon)
    for job in place_programs(case, placed, code, base, code_base):
        run_job(case, core, space, job)
    return placed.observed(memory, case)


def run_job(case: Case, core: Core, space: AddressSpace, job: list[tuple[int, int]]) -> None:
    core.begin_job()
    for regcmd, count in job:
        program_task(core, offsets_of(RK3588), (regcmd, count, 1, DPU_INTERRUPTS))
        outcome = core.run(space)
        if outcome.fault:
            raise CermetError(f"{case.label}: {outcome.fault}; not run")
        if not outcome.interrupts & DPU_INTERRUPTS:
            core.reset()
            return
        acknowledge(core, offsets_of(RK3588))


# -- on a node ---------------------------------------------------------------------------------------------------------


def run_case(node: Node, case: Case) -> CaseResult:
    placed = Placed.of(case)
    data, code = node.buffer(placed.size), node.buffer(program_bytes(case))
    try:
        return run_placed(node, case, placed, data, code)
    finally:
        node.free(code)
        node.free(data)


def run_placed(node: Node, case: Case, placed: Placed, data: Bo, code: Bo) -> CaseResult:
    placed.fill(data.bytes, case, data.address)
    jobs = place_programs(case, placed, code.bytes, data.address, code.address)
    node.finish_cpu(data)
    node.finish_cpu(code)
    durations = [node.run(job, [code], [data]) for job in jobs]
    observed = placed.observed(data.bytes, case)
    return judge(case, observed, durations)


def judge(case: Case, observed: np.ndarray, durations: list[int]) -> CaseResult:
    untouched = int.from_bytes(bytes([SENTINEL] * case.element_bytes), "little")
    written = bool((observed != untouched).any())
    agrees = {name: int((observed == expected).sum()) for name, expected in case.predictions.items()}
    return CaseResult(case.label, observed.size, case.element_bytes, sum(durations), max(durations) > TIME_LIMIT_NS,
                      written, agrees, observed.astype(f"<i{case.element_bytes}").tobytes().hex())


def answers_of(probe: Probe, cases: list[CaseResult]) -> list[str]:
    """Hypotheses that explain every element of every case they say something about."""
    answers = []
    for name in probe.hypotheses:
        if name == HANGS:
            if any(case.timed_out and not case.written for case in cases):
                answers.append(name)
        elif all(case.agrees.get(name) == case.elements for case in cases):
            answers.append(name)
    return answers


def run_probe(node: Node, probe: Probe) -> Result:
    """Never raises for what a device does."""
    result = Result(probe.name, probe.question, probe.program, probe.hypotheses, probe.assumed, [], [])
    try:
        for case in probe.cases():
            for silicon in all_answers(probe.name):
                rehearse(case, silicon)
            note(constant("NOTE_LABEL"), f"{probe.name} {case.label}".strip())
            result.cases.append(run_case(node, case))
        result.answers = answers_of(probe, result.cases)
    except CermetError as error:
        result.error = str(error)
    note(constant("NOTE_PROBE"), json.dumps(asdict(result) | {"verdict": result.verdict}))
    return result


def run_probes(node: Node, probes: list[Probe], progress: Callable[[str], None]) -> list[Result]:
    results = []
    for number, probe in enumerate(probes):
        progress(f"{number + 1} of {len(probes)}: {probe.name}")
        results.append(run_probe(node, probe))
    return results
