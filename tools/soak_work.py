"""What the clients of tools/soak.py do, each with a file of its own, checking every result."""
from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
from conformance.laboratory import Laboratory
from conformance.uapi import FOREVER, Node

from cermet import interpreter

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests" / "data" / "models" / "kws_ref_model.tflite"
OPTIONS = {"device": "sim", "log_level": "error"}


def copy(lab: Laboratory, chance: random.Random) -> None:
    """Buffers of all sizes through the NPU and back."""
    node = lab.open()
    for _ in range(chance.randrange(1, 20)):
        check_copy(lab, node, chance)
    if chance.random() < 0.7:
        node.close()


def check_copy(lab: Laboratory, node: Node, chance: random.Random) -> None:
    data = chance.randbytes(16 * chance.choice([1, 4, 64, 1000]))
    source, target = lab.buffer(node, data), lab.buffer(node, len(data))
    node.submit(lab.copy(source, target, len(data)))
    if chance.random() < 0.8:       # else closed in flight
        assert target.get(len(data)) == data, "a copy is wrong"
    source.close()
    target.close()


def hang(lab: Laboratory, chance: random.Random) -> None:
    """A job that times out and one behind it that works."""
    node = lab.open()
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]), lab.fill(target, 3))
    if chance.random() < 0.5:
        assert target.get(64) == b"\3" * 64, "the job behind a hang is wrong"
        node.close()


def share(lab: Laboratory, chance: random.Random) -> None:
    """One file's NPU writes what another one's mapping shows."""
    one, other = lab.open(), lab.open()
    buffer = lab.buffer(one)
    fd = one.call("PRIME_HANDLE_TO_FD", handle=buffer.handle, flags=os.O_CLOEXEC).fd
    imported = other.call("PRIME_FD_TO_HANDLE", fd=fd).handle
    mapping = other.mmap(buffer.bo.offset)
    for _ in range(5):
        value = chance.randrange(128)
        one.submit(lab.fill(buffer, value))
        assert other.error("PREP_BO", handle=imported, timeout_ns=FOREVER) == 0
        assert mapping.read(0, 64) == bytes([value]) * 64, "a shared buffer is wrong"
    mapping.unmap()
    os.close(fd)
    other.close()
    one.close()


def wait(lab: Laboratory, chance: random.Random) -> None:
    """Four threads with files of their own, and one more that waits for another's job."""
    node = lab.open()
    target = lab.buffer(node)
    seeds = [chance.random() for _ in range(4)]
    failures: list[BaseException] = []

    def work(seed: float) -> None:
        try:
            copy(lab, random.Random(seed))
            assert node.prep(target.bo) == 0
        except BaseException as error:
            failures.append(error)
    node.submit(*[lab.fill(target, 5)] * 20)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    node.close()


def fork(lab: Laboratory, chance: random.Random) -> None:
    """A child works on its parent's file and dies in it."""
    node = lab.open()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            while True:
                check_copy(lab, node, chance)
        os._exit(1)
    time.sleep(chance.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    check_copy(lab, node, random.Random(chance.random()))
    node.close()


def model(lab: Laboratory, chance: random.Random) -> None:
    """An application: the delegate's own process, cache and queue."""
    made = interpreter.make_interpreter(MODEL, OPTIONS)
    expected = np.load(os.environ["SOAK_EXPECTED"])
    for _ in range(5):
        assert np.array_equal(infer(made), expected), "an inference is wrong"


def infer(made: object) -> np.ndarray:
    detail = made.get_input_details()[0]            # type: ignore[attr-defined]
    data = np.random.default_rng(1).integers(-128, 128, detail["shape"]).astype(detail["dtype"])
    made.set_tensor(detail["index"], data)          # type: ignore[attr-defined]
    made.invoke()                                   # type: ignore[attr-defined]
    return made.get_tensor(made.get_output_details()[0]["index"])   # type: ignore[attr-defined]


WORK: dict[str, tuple[Callable[[Laboratory, random.Random], None], int]] = {
    "copy": (copy, 8), "share": (share, 4), "wait": (wait, 3), "fork": (fork, 3), "model": (model, 3),
    "hang": (hang, 1)}
