"""Questions about how tasks are run (open questions Q-X2, Q-X8, Q-X10 to Q-X12)."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.regcmd import PC_BASE_ADDRESS, PC_REGISTER_AMOUNTS, PC_TARGET, Address
from cermet.ir.operation import Pair
from cermet.probe.build import Conv, Draft, flying, places, to_atoms
from cermet.probe.conv import identity, numbers
from cermet.probe.model import HANGS, SENTINEL, Case, Probe, Program
from cermet.sim.silicon import EARLY, IGNORED, MASKED, QUESTIONS, RUNS, TASK_NUMBER

SIDE = 8
PC_INTERRUPT_MASK, PC_INTERRUPT_CLEAR, PC_TASK_CON = 0x20, 0x24, 0x30
TASK_CON = 1 << 14 | 1 << 13 | 1 << 12      # and the number of programs below
DPU_BITS = 0x300


def copy_of(image: np.ndarray, source: str, target: str) -> Draft:
    height, width, channels = image.shape
    draft = flying(width, height, channels // 16)
    draft.address("DPU_RDMA.RDMA_SRC_BASE_ADDR", Address(source))
    return draft.address("DPU.DST_BASE_ADDR", Address(target))


# -- Q-X2: is everything in memory when the interrupt comes ------------------------------------------------------------


def last_write() -> list[Case]:
    made = []
    for seed in range(4):
        image = numbers(40 + seed, (16, 256, 64), -128, 127)
        memory = {"input": to_atoms(image), "output": np.full(image.size, SENTINEL, np.uint8)}
        made.append(Case(f"copy {seed}", memory, ((copy_of(image, "input", "output").program(),),), "output",
                         places(16, 256, 64), {"yes": image.astype(np.int64)}))
    return made


# -- Q-X8, Q-X11: weights that stay in the CBUF ------------------------------------------------------------------------


def weight_reuse() -> tuple[np.ndarray, dict[str, np.ndarray], Program, Program]:
    """A convolution by 1 to "first", and one by -1 to "output" that says that its weights are there already."""
    image = numbers(50, (SIDE, SIDE, 32), -100, 100)
    conv = Conv(SIDE, SIDE, identity(32))
    memory = conv.memory(to_atoms(image))
    memory |= {"other weights": np.frombuffer((-memory["weights"].view(np.int8)).tobytes(), np.uint8),
               "first": np.full(image.size, SENTINEL, np.uint8)}
    first = conv.draft().address("DPU.DST_BASE_ADDR", Address("first"))
    second = conv.draft().set("CNA.CBUF_CON0", WEIGHT_REUSE=1)
    second.address("CNA.DCOMP_ADDR0", Address("other weights"))
    return image, memory, first.program(), second.program()


def reuse_across_jobs() -> list[Case]:
    image, memory, first, second = weight_reuse()
    predictions = {"kept": image.astype(np.int64), "loaded anew": -image.astype(np.int64)}
    return [Case(label, memory, jobs, "output", places(SIDE, SIDE, 32), predictions)
            for label, jobs in (("one job", ((first, second),)), ("two jobs", ((first,), (second,))))]


def copy_after_reuse() -> list[Case]:
    image, memory, first, second = weight_reuse()
    other = numbers(51, image.shape, -100, 100)
    memory |= {"source": to_atoms(other), "copy": np.full(image.size, SENTINEL, np.uint8)}
    copy = copy_of(other, "source", "copy").program()
    predictions = {"right": other.astype(np.int64), "the convolution's result": image.astype(np.int64),
                   "not written": np.full(image.shape, SENTINEL, np.int64)}
    return [Case(label, memory, jobs, "copy", places(SIDE, SIDE, 32), predictions)
            for label, jobs in (("next job", ((first, second), (copy,))),
                                ("same job", ((first, second, copy),)))]


# -- Q-X10: fewer grains than the minimum, and just as many ------------------------------------------------------------


def few_grains() -> list[Case]:
    """3x3, stride 1: the document's minimum is 5 rows."""
    return [with_grains(3, 1, 16, grains) for grains in (4, 1)]


def least_grains() -> list[Case]:
    """Windows and strides of usual layers, more rows than are waited for. The last: loading outlasts computing."""
    return [with_grains(kernel, stride, rows, stride + kernel + 1) for kernel, stride, rows in (
        (1, 1, 24), (1, 2, 24), (3, 1, 24), (3, 2, 25), (5, 1, 24), (7, 2, 31), (2, 7, 30), (3, 1, 120), (1, 1, 200))]


def with_grains(kernel: int, stride: int, rows: int, grains: int) -> Case:
    """Each output is the sum of the first and the last pixel of its window: an early one is seen, and a late one."""
    image = numbers(52, (rows, SIDE, 16), -60, 60)
    weights = np.zeros((16, kernel, kernel, 16), np.int8)
    for tap in (0, -1):
        weights[:, tap, tap] += np.eye(16, dtype=np.int8)
    conv = Conv(rows, SIDE, weights, stride=Pair(stride, stride))
    ends = [(size - kernel) // stride * stride + 1 for size in (rows, SIDE)]
    first, last = (image[tap:tap + ends[0]:stride, tap:tap + ends[1]:stride].astype(np.int64)
                   for tap in (0, kernel - 1))
    draft = conv.draft().set("CNA.CONV_CON2", FEATURE_GRAINS=grains)
    return Case(f"{kernel}x{kernel} stride {stride} over {rows} rows, {grains} first", conv.memory(to_atoms(image)),
                ((draft.program(),),), "output", places(*first.shape), {"right": first + last})


# -- Q-X12: a program that asks for more of them -----------------------------------------------------------------------

# A chain of copies: two, some that take long (256 KB, or 0.2 ms at 200 MHz), and a last one. From where to where.
SMALL, LARGE = (SIDE, SIDE, 16), (16, 1024, 16)
CHAIN = (("small", "first"), ("small", "second"), *[("large", "between")] * 6, ("small", "last"))
ALL_INTERRUPTS = 0x1FFFF


def pc_word(offset: int, value: int) -> int:
    return PC_TARGET << 48 | value << 16 | offset


def led_to(program: Program, target: str, number_of_words: int) -> Program:
    """The program with a trailer that leads to the one in a region."""
    words = list(program.words)
    words[-4:-2] = pc_word(PC_BASE_ADDRESS, 0), pc_word(PC_REGISTER_AMOUNTS, (number_of_words + 1) // 2 - 1)
    return Program(tuple(words), dict(program.addresses) | {len(words) - 4: Address(target)})


def chain_programs(images: Mapping[str, np.ndarray], *, masked: bool) -> list[Program]:
    """The first raises the task number. masked: and sees to it that none but the last interrupts."""
    found: list[Program] = []
    for number, (source, target) in reversed(list(enumerate(CHAIN))):
        draft = copy_of(images[source], source, target)
        words = draft.regcmd.words
        if number == 0:
            words.append(pc_word(PC_TASK_CON, TASK_CON | len(CHAIN)))
        if masked and number == 0:
            words.append(pc_word(PC_INTERRUPT_MASK, 0))
        if masked and number == len(CHAIN) - 1:
            words += [pc_word(PC_INTERRUPT_CLEAR, ALL_INTERRUPTS), pc_word(PC_INTERRUPT_MASK, DPU_BITS)]
        program = draft.program()
        found.insert(0, led_to(program, f"program {number + 1}", len(found[0].words)) if found else program)
    return found


def chain() -> list[Case]:
    """Looked at: what the second copy wrote, and what the last one did when the job was over."""
    images = {"small": numbers(53, SMALL, -100, 100), "large": numbers(58, LARGE, -100, 100)}
    targets = {target: np.full(images[source].size, SENTINEL, np.uint8) for source, target in CHAIN}
    memory = {name: to_atoms(image) for name, image in images.items()} | targets
    copied, nothing = images["small"].astype(np.int64), np.full(SMALL, SENTINEL, np.int64)
    made = []
    for masked in (False, True):
        programs = chain_programs(images, masked=masked)
        stored = {f"program {number}": program for number, program in enumerate(programs) if number}
        room = {name: np.zeros(8 * len(program.words), np.uint8) for name, program in stored.items()}
        for target, at_masked in (("second", copied), ("last", copied if masked else nothing)):
            made.append(Case(
                f"the {target} of {len(CHAIN)}{', others masked' * masked}", memory | room, ((programs[0],),), target,
                places(*SMALL), {IGNORED: nothing, RUNS: copied, EARLY: copied if target == "second" else nothing,
                                 MASKED: at_masked}, stored=stored))
    return made


# -- registers that a task does not write ------------------------------------------------------------------------------

OWN, ALL, ONE = "two groups, own starts", "two groups, all starts", "one group"
SOURCE, NUMBER = "CNA.FEATURE_DATA_ADDR", "DPU.BS_ALU_CFG"


def kept_registers() -> list[Case]:
    """The last task lacks one word. Two tasks before it have written the register, differently, others have not."""
    first, second, third = (numbers(seed, (SIDE, SIDE, 32), -100, 100) for seed in (55, 56, 57))
    conv = Conv(SIDE, SIDE, identity(32))
    memory = conv.memory(to_atoms(first)) | {"second": to_atoms(second), "third": to_atoms(third)}
    memory |= {name: np.full(first.size, SENTINEL, np.uint8) for name in ("elsewhere", "output")}

    def convolution(source: str) -> Draft:
        draft = conv.draft().address(SOURCE, Address(source))
        return draft.address("DPU.DST_BASE_ADDR", Address("elsewhere"))

    def adding(number: int) -> Draft:
        draft = flying(SIDE, SIDE, 2, Stages(bs=Stage(add=number), out=OutputConverter(0)))
        return draft.address("DPU.DST_BASE_ADDR", Address("elsewhere"))

    convolutions = [convolution(source).program() for source in ("input", "second")]
    additions = [adding(number).program() for number in (3, 20)]
    copy, end = copy_of(third, "third", "elsewhere").program(), Address("output")
    last_sum = adding(7).address("DPU.DST_BASE_ADDR", end).program_without(NUMBER)
    last = convolution("third").address("DPU.DST_BASE_ADDR", end).program_without(SOURCE)
    one, two = (image.astype(np.int64) for image in (first, second))
    return [Case(label, memory, (tuple(tasks),), "output", places(SIDE, SIDE, 32), predictions)
            for label, tasks, predictions in (
        ("additions", [*additions, last_sum], {OWN: one + 3, ALL: one + 3, ONE: one + 20}),
        ("convolutions", [*convolutions, last], {OWN: one, ALL: one, ONE: two}),
        ("a copy between convolutions", [*convolutions, copy, last], {OWN: one, ALL: two, ONE: two}))]


# -- the control -------------------------------------------------------------------------------------------------------


def control() -> list[Case]:
    """What every known program does: if this is not right, nothing else means anything."""
    image = numbers(54, (SIDE, SIDE, 32), -128, 127)
    memory = {"input": to_atoms(image), "output": np.full(image.size, SENTINEL, np.uint8)}
    doubled = Stages(bs=Stage(add=3), out=OutputConverter(0))
    adding = flying(SIDE, SIDE, 2, doubled)
    conv = Conv(SIDE, SIDE, identity(32))
    whole = places(SIDE, SIDE, 32)
    return [Case("copy", memory, ((copy_of(image, "input", "output").program(),),), "output", whole,
                 {"works": image.astype(np.int64)}),
            Case("add 3", memory, ((adding.program(),),), "output", whole,
                 {"works": np.minimum(image.astype(np.int64) + 3, 127)}),
            Case("convolution", conv.memory(to_atoms(image)), ((conv.draft().program(),),), "output", whole,
                 {"works": image.astype(np.int64)})]


CONTROL = Probe("control", "do the simplest tasks work at all", "a copy, an addition, a convolution by 1", {
    "works": "as every other probe takes for granted"}, control)
PROBES = (
    Probe("Q-X2", "is the last write in memory when the interrupt comes", "copies of 256 KB, read at once", {
        "yes": "no element differs"}, last_write),
    Probe("Q-X8", "WEIGHT_REUSE in the next task and in the next job",
          "a convolution by 1, then one by -1 with WEIGHT_REUSE", {
              "kept": "the weights are those of the task before, also across jobs", "loaded anew": ""},
          reuse_across_jobs),
    Probe("Q-X11", "a DPU task behind a pair with WEIGHT_REUSE", "the pair, then a copy", {
        "right": "", "the convolution's result": "", "not written": ""}, copy_after_reuse),
    Probe("Q-X12", "can a program raise the task number of its own run",
          "nine chained copies as one mainline task; then the same with the interrupts of all but the last masked",
          QUESTIONS[TASK_NUMBER], chain),
    Probe("registers", "which values has a register that a task does not write",
          "additions, and convolutions with a copy among them, of which the last lacks a word", {
              OWN: "those of two starts of its block before", ALL: "the same, but starts of other blocks count too",
              ONE: "the last that were written"}, kept_registers),
    Probe("Q-X10", "fewer FEATURE_GRAINS than stride + kernel + 1", "3x3 over 16 rows with 4 grains and with 1", {
        HANGS: "never completes", "right": "all the same"}, few_grains, times_out=True),
    Probe("Q-X10.least", "stride + kernel + 1 FEATURE_GRAINS", "convolutions, 1x1 to 7x7, that wait for no more rows", {
        "right": "they are enough, as the register's description says", HANGS: "never completes"}, least_grains),
)
