"""Questions about how tasks are run (open questions Q-X2, Q-X8, Q-X10 to Q-X12)."""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.regcmd import PC_TARGET, Address
from cermet.probe.build import Conv, Draft, flying, places, to_atoms
from cermet.probe.conv import identity, numbers
from cermet.probe.model import HANGS, SENTINEL, Case, Probe, Program

SIDE = 8
PC_BASE_ADDRESS, PC_REGISTER_AMOUNTS, PC_TASK_CON = 0x10, 0x14, 0x30
TASK_CON_TWO = 1 << 14 | 1 << 13 | 1 << 12 | 2


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


# -- Q-X10: fewer grains than the minimum ------------------------------------------------------------------------------


def few_grains() -> list[Case]:
    """3x3, stride 1: the document's minimum is 5 rows."""
    image = numbers(52, (16, SIDE, 16), -100, 100)
    weights = np.zeros((16, 3, 3, 16), np.int8)
    weights[:, 1, 1] = np.eye(16)
    conv = Conv(16, SIDE, weights)
    made = []
    for grains in (4, 1):
        draft = conv.draft().set("CNA.CONV_CON2", FEATURE_GRAINS=grains)
        made.append(Case(f"{grains} rows", conv.memory(to_atoms(image)), ((draft.program(),),), "output",
                         places(14, SIDE - 2, 16), {"right": image[1:-1, 1:-1].astype(np.int64)}))
    return made


# -- Q-X12: a program that asks for another one ------------------------------------------------------------------------


def chain() -> list[Case]:
    """The first program raises the task number and leads to the second, as a chain's programs do."""
    image = numbers(53, (SIDE, SIDE, 16), -100, 100)
    second = copy_of(image, "input", "output").program()
    draft = copy_of(image, "input", "first")
    draft.regcmd.words.append(PC_TARGET << 48 | TASK_CON_TWO << 16 | PC_TASK_CON)
    first = draft.program()
    words = list(first.words)
    words[-4] = PC_TARGET << 48 | PC_BASE_ADDRESS
    words[-3] = PC_TARGET << 48 | (len(second.words) + 1) // 2 - 1 << 16 | PC_REGISTER_AMOUNTS
    first = Program(tuple(words), dict(first.addresses) | {len(words) - 4: Address("second program")})
    memory = {"input": to_atoms(image), "first": np.full(image.size, SENTINEL, np.uint8),
              "output": np.full(image.size, SENTINEL, np.uint8),
              "second program": np.zeros(8 * len(second.words), np.uint8)}
    return [Case("", memory, ((first,),), "output", places(SIDE, SIDE, 16), {
        "ignored": np.full(image.shape, SENTINEL, np.int64), "runs": image.astype(np.int64)},
        stored={"second program": second})]


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
    Probe("Q-X12", "can a program raise the task number of its own run", "two chained copies in one mainline task", {
        "ignored": "the second one does not run", "runs": "one interrupt for both"}, chain),
    Probe("registers", "which values has a register that a task does not write",
          "additions, and convolutions with a copy among them, of which the last lacks a word", {
              OWN: "those of two starts of its block before", ALL: "the same, but starts of other blocks count too",
              ONE: "the last that were written"}, kept_registers),
    Probe("Q-X10", "fewer FEATURE_GRAINS than stride + kernel + 1", "3x3 over 16 rows with 4 grains and with 1", {
        HANGS: "never completes", "right": "all the same"}, few_grains, times_out=True),
)
