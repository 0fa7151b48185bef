"""What a core remembers of programs and registers never shows: the plain form, which remembers nothing, is the same."""
from __future__ import annotations

import copy
import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest

from cermet.sim import decode, steps
from cermet.sim.core import Core, TaskOutcome
from cermet.sim.memory import AddressSpace
from cermet.sim.registers import Snapshot
from tests.sim.programs import CONV_MASK, FLYING_MASK, POOL_MASK, Conv, flying, pooling
from tests.sim.support import Memory, kick, new_core, program, to_atoms, word
from tests.sim.test_core import random_conv

LUT_CONFIG, LUT_DATA, DPU_POINTER, DPU_RELU = 0x4100, 0x4104, 0x4004, 0x4040
NUM_CONVOLUTIONS, NUM_STEPS = 4, 80
PROGRAM_ADDRESS = 0x4000_0000


@dataclass
class Setting:
    """A memory with programs in it, the same for the same seed: (address, words) of each, places of operands."""

    seed: int
    memory: Memory = field(default_factory=Memory)
    programs: list[tuple[int, int]] = field(default_factory=list)
    operands: list[tuple[int, int]] = field(default_factory=list)     # (address, bytes) that tasks read

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        for number in range(NUM_CONVOLUTIONS):
            conv = random_conv(np.random.default_rng([self.seed, number]))
            conv_registers = self.place(conv)
            self.add(program(conv_registers, CONV_MASK))
            # Fewer registers: the rest is what the tasks before have left.
            self.add(program([pair for pair in conv_registers if rng.random() < 0.9], CONV_MASK))
            self.add(program([(DPU_POINTER, rng.integers(0, 64).item()), *conv_registers], CONV_MASK))
        source = self.memory.add(to_atoms(rng.integers(-128, 128, (4, 4, 32), dtype=np.int8)))
        target = self.memory.add(4096)
        self.operands.append((source, 512))
        copy = flying(self.memory, source, target, (4, 4, 32), {})
        self.add(program([(offset, source + 16 if value == source else value) for offset, value in copy], FLYING_MASK))
        entries = [(LUT_DATA, rng.integers(0, 1 << 32).item()) for _ in range(1500)]
        lut_on = [(0x4070, 0x103), (0x4010, 0)]
        self.add(program(copy, FLYING_MASK))
        self.add(program([(LUT_CONFIG, 2 << 16), *entries[:513], (LUT_CONFIG, 3 << 16), *entries, *copy, *lut_on],
                         FLYING_MASK))
        self.add(program([(LUT_DATA, 7), (LUT_CONFIG, 1 << 16 | 5), (LUT_DATA, 9), *copy, *lut_on], FLYING_MASK))
        self.add(program([*copy, (DPU_RELU, 1), (0x4FFC, 1), (0x4008, 1)], FLYING_MASK))
        self.add(program(copy, FLYING_MASK)[:-1])                                   # nothing starts
        self.add([word(0x14, 5), 0xBEEF_1234_5678_4010, *program(copy, CONV_MASK)])
        for place in (source, source + 16):
            registers, _ = pooling(place, target, (4, 4, 32), 1, 2, 2)
            self.add(program(registers, POOL_MASK))
        both = program([*copy, *registers], FLYING_MASK | POOL_MASK)
        self.add([*both[:40], *program(copy, FLYING_MASK), *both[40:]])             # two starts

    def place(self, conv) -> list[tuple[int, int]]:     # type: ignore[no-untyped-def]
        """Registers of the convolution, its buffers moved to this memory."""
        moved = {}
        for address, array in conv.memory.arrays.items():
            moved[address] = self.memory.add(array)
            self.operands.append((moved[address], min(array.size, 2048)))
        return [(offset, moved.get(value, value)) for offset, value in conv.program()]

    def add(self, words: list[int]) -> None:
        self.programs.append((self.memory.add(np.array(words, "<u8")), len(words)))

    def content(self) -> bytes:
        return b"".join(array.tobytes() for array in self.memory.arrays.values())


def state(core: Core) -> list[object]:
    """Everything that survives a task."""
    blocks = [(copy.deepcopy(block.groups), block.pointer, block.executer, block.pointer_pp, block.executer_pp,
               block.core_id)
              for block in core.files.blocks.values()]
    cbuf = [None if held is None else held.tobytes() for held in (core.cbuf.features, core.cbuf.weights)]
    return [blocks, core.lut.tables.tolist(), list(core.lut.loaded), core.lut.config, cbuf, core.cbuf.weights_resident,
            dict(core.pc), core.raw_status, core.wedged, core.reused_weights, core.job_after_reuse]


def walk(seed: int) -> list[object]:
    """What a random sequence of programs does to a core and its memory, with operands that change between them."""
    rng, setting, core = np.random.default_rng(seed), Setting(seed), new_core()
    seen: list[object] = []
    chosen = 0
    for _ in range(NUM_STEPS):
        # Neighbours in the list differ in few registers.
        chosen = (chosen + int(rng.integers(3)) - 1 if rng.random() < 0.5 else int(rng.integers(100)))
        address, count = setting.programs[chosen % len(setting.programs)]
        place, size = setting.operands[rng.integers(len(setting.operands))]
        setting.memory.space.write(place, rng.integers(0, 256, size, np.uint8))
        base = 16 if rng.random() < 0.1 else 0
        outcome = kick(core, setting.memory.space, address, count, new_job=bool(rng.integers(2)), base=base)
        seen.append(comparable(outcome))
        seen.append(state(core))
        if outcome.hang or outcome.fault:
            core.reset()
    return [*seen, setting.content()]


def comparable(outcome: TaskOutcome) -> tuple[object, ...]:
    return (outcome.interrupts, outcome.hang, str(outcome.fault), tuple(outcome.diagnostics), outcome.cycles,
            outcome.macs, tuple(outcome.launches))


@pytest.mark.parametrize("limits", ["as they are", "tiny"])
@pytest.mark.parametrize("seed", range(6))
def test_a_core_that_remembers_is_like_one_that_does_not(seed: int, limits: str,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    if limits == "tiny":
        monkeypatch.setattr(decode, "MAX_KEPT", 2)
        monkeypatch.setattr(steps, "MAX_KEPT_BYTES", 3000)
    monkeypatch.setenv("CERMET_SIM_PLAIN", "1")
    plain = walk(seed)
    monkeypatch.setenv("CERMET_SIM_PLAIN", "0")
    assert walk(seed) == plain
    ends = [outcome for outcome in plain[:-1:2] if isinstance(outcome, tuple)]
    assert sum(end[1] is None for end in ends) > 10 and sum(end[1] is not None for end in ends) > 5


def test_what_is_remembered_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERMET_SIM_PLAIN", "0")
    monkeypatch.setattr(decode, "MAX_KEPT", 5)
    monkeypatch.setattr(steps, "MAX_KEPT_BYTES", 3000)
    setting, core = Setting(0), new_core()
    for address, count in setting.programs * 2:
        kick(core, setting.memory.space, address, count)
        core.reset()
        assert len(core.decoder._known) <= 5 and len(core.decoder._times) <= 5
        assert sum(map(len, core.programs._known)) <= 3000


def test_values_belong_to_their_registers() -> None:
    one, other = (decode.registers_of(Snapshot({}, {offset: 5})) for offset in (0x4064, 0x4068))
    assert one != other


def test_the_second_run_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above compare what they are meant to."""
    monkeypatch.setenv("CERMET_SIM_PLAIN", "0")
    setting, core = Setting(0), new_core()
    address, count = setting.programs[0]
    assert kick(core, setting.memory.space, address, count).hang is None
    for module, name in ((decode, "decode_dpu_task"), (decode, "ConvForm"), (steps, "is_plain")):
        monkeypatch.setattr(module, name, None)
    core.files.reset()
    assert kick(core, setting.memory.space, address, count).hang is None


def test_memory_is_looked_up_at_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other memory at the same addresses is used, memory that is gone is let go of, and its absence is a fault."""
    monkeypatch.setenv("CERMET_SIM_PLAIN", "0")
    rng, core, space = np.random.default_rng(0), new_core(), AddressSpace()
    conv = Conv(rng.integers(-3, 4, (4, 4, 16), np.int8), rng.integers(-3, 4, (32, 1, 1, 16), np.int8))
    words = program(conv.program(), CONV_MASK)
    space.map(PROGRAM_ADDRESS, padded(words))
    results = []
    for _ in range(3):
        held = [weakref.ref(map_copy(space, address, array)) for address, array in conv.memory.arrays.items()]
        for each in (core, new_core()):
            space.write(conv.output, np.zeros(16, np.uint8))
            assert kick(each, space, PROGRAM_ADDRESS, len(words)).hang is None
            results.append(space.read(conv.output, 4 * 4 * 32).tobytes())
        for address, array in conv.memory.arrays.items():
            space.unmap(address)
            array ^= 1                      # other operands next time
        assert all(array() is None for array in held)
    assert results[0] == results[1] == results[4] == results[5] and results[2] == results[3] != results[0]
    fault = kick(core, space, PROGRAM_ADDRESS, len(words)).fault
    assert fault is not None and not fault.is_write


def padded(words: list[int]) -> np.ndarray:
    page = np.zeros(4096, np.uint8)
    page[:len(words) * 8] = np.array(words, "<u8").view(np.uint8)
    return page


def map_copy(space: AddressSpace, address: int, array: np.ndarray) -> np.ndarray:
    copied = array.copy()
    space.map(address, copied)
    return copied
