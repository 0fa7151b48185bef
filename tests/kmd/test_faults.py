"""The words for faults on purpose; what the faults do to an application: tests/end_to_end/test_faults.py."""
from __future__ import annotations

import errno

import numpy as np
import pytest

from cermet.errors import CermetError
from cermet.kmd.behaviour import MAINLINE, QUIRKS, parse_quirks
from cermet.kmd.errors import DeviceError
from cermet.kmd.faults import KINDS, Fault, Faults, parse_faults
from cermet.kmd.faulty_core import flip_bit
from cermet.sim.memory import AddressSpace


@pytest.mark.parametrize(("text", "expected"), [
    ("", ()), ("killed", (Fault("killed"),)),
    ("create-fails@3=ENOSPC", (Fault("create-fails", 3, False, errno.ENOSPC),)),
    ("slow-core@2+=20,bit-flip=0x1000", (Fault("slow-core", 2, True, 20), Fault("bit-flip", 1, False, 0x1000))),
    ("prep-fails", (Fault("prep-fails", 1, False, errno.EINTR),))])
def test_words(text: str, expected: tuple[Fault, ...]) -> None:
    assert parse_faults(text) == expected


@pytest.mark.parametrize("text", ["nonsense", "killed@0", "killed@", "killed=3", "create-fails=NOERROR", "slow-core=-1",
                                  "slow-core=0x100000000", "killed@1@2", "killed;killed", "@1", "=",
                                  "killed@" + "9" * 30])
def test_wrong_words(text: str) -> None:
    with pytest.raises(CermetError, match="faults: '"):
        parse_faults(text)


def test_every_kind_has_words() -> None:
    for name, kind in KINDS.items():
        assert parse_faults(name)[0].value == (kind.value or 0) and kind.text and kind.event


def test_when_they_strike() -> None:
    faults = Faults(parse_faults("job-dropped@2,iommu-fault@3+"))
    assert [faults.strike("job-dropped") is not None for _ in range(4)] == [False, True, False, False]
    assert [faults.strike("iommu-fault") is not None for _ in range(5)] == [False, False, True, True, True]
    assert faults.strike("killed") is None


def test_a_removed_device_stays_removed() -> None:
    faults = Faults(parse_faults("removed@3"))
    for _ in range(2):
        faults.any_call()
    for _ in range(3):
        with pytest.raises(DeviceError) as failure:
            faults.any_call()
        assert failure.value.errno == errno.ENODEV


def test_bit_flip() -> None:
    space = AddressSpace()
    space.map(0x1000, np.zeros(4096, np.uint8))
    flip_bit(space, 0x1005)
    flip_bit(space, 0x9000)     # nothing is there
    assert np.flatnonzero(space.read(0x1000, 4096)).tolist() == [5]


@pytest.mark.parametrize(("text", "count"), [
    (MAINLINE, len(QUIRKS)), ("none", 0), ("version-unset,dropped-jobs", 2),
    (f"{MAINLINE},-dropped-jobs", len(QUIRKS) - 1)])
def test_quirks(text: str, count: int) -> None:
    assert len(parse_quirks(text)) == count


@pytest.mark.parametrize("text", ["", "nonsense", "mainline", "--version-unset"])
def test_wrong_quirks(text: str) -> None:
    with pytest.raises(CermetError, match="quirks: '"):
        parse_quirks(text)
