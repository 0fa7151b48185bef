"""The driver as users start it, with the simulated NPU's cores behind it."""
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cermet.cli.sim import default_socket
from cermet.kmd import rocket_ioctls
from tests.kmd.client import PAGE, Job, Mapping, Node, command, environ, environment
from tests.sim.programs import FLYING_MASK, POOL_MASK, flying, pooling
from tests.sim.support import Memory, program


@pytest.fixture
def real_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Clients of this installation find the driver where it says it listens, and start it there."""
    folder = tmp_path_factory.mktemp("run")
    variables = environment(folder, CERMET_COMMAND=command(folder, "cermet"), XDG_RUNTIME_DIR=str(folder),
                            CERMET_SIM_SOCKET="")
    with environ(**variables), Node() as node:
        assert pathlib.Path(default_socket("rk3588")).exists()
        yield node


def fill(node: Node, bo: object, mapping: Mapping, data: bytes) -> None:
    """Writes data where the NPU sees it: the simulated CPU caches are written back by FINI_BO only."""
    node.wait(bo)
    mapping.write(data)
    node.call("ROCKET_FINI_BO", handle=bo.handle)       # type: ignore[attr-defined]


def put(node: Node, data: bytes) -> tuple[object, Mapping]:
    bo = node.create(len(data))
    mapping = node.mmap(bo.offset, len(data))
    fill(node, bo, mapping, data)
    return bo, mapping


def run(node: Node, registers: list[tuple[int, int]], mask: int, reads: list[object], writes: object) -> None:
    words = program(registers, mask)
    bo, _ = put(node, np.array(words, "<u8").tobytes())
    handles = [other.handle for other in (bo, *reads)]      # type: ignore[attr-defined]
    node.submit(Job([(bo.dma_address, len(words))], handles, [writes.handle]))      # type: ignore[attr-defined]
    node.wait(writes)


def test_register_program_on_the_simulated_npu(real_node: Node) -> None:
    """A copy by the DPU, three times in a row; addresses from 0."""
    data = np.random.default_rng(1).integers(-128, 128, 64, np.int8).tobytes()
    source, _ = put(real_node, data)
    target, mapping = put(real_node, bytes(64))
    for _ in range(3):
        run(real_node, flying(Memory(), source.dma_address, target.dma_address, (4, 1, 16), {}), FLYING_MASK, [source],
            target)
        assert mapping.read() == data
        fill(real_node, target, mapping, bytes(64))


def test_a_pool_alone_never_completes_under_mainline(real_node: Node) -> None:
    """The PPU's interrupt is masked: 500 ms, then a reset, with the right data. The next job runs."""
    source, _ = put(real_node, np.arange(4 * 4 * 16, dtype=np.uint8).tobytes())
    target, mapping = put(real_node, bytes(PAGE))
    start = time.monotonic()
    registers, _ = pooling(source.dma_address, target.dma_address, (4, 4, 16), 1, 2, 2)
    run(real_node, registers, POOL_MASK, [source], target)
    assert time.monotonic() - start >= 0.5
    assert any(mapping.read())
    copy, copied = put(real_node, bytes(PAGE))
    run(real_node, flying(Memory(), source.dma_address, copy.dma_address, (4, 1, 16), {}), FLYING_MASK, [source], copy)
    assert copied.read(0, 64) == np.arange(64, dtype=np.uint8).tobytes()


def test_foreground_driver_ends_cleanly_on_ctrl_c(tmp_path: pathlib.Path) -> None:
    socket = tmp_path / "s"
    command = [sys.executable, "-m", "cermet", "sim", "--socket", str(socket), "--verbose"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        with environ(CERMET_SIM_SOCKET=str(socket), CERMET_COMMAND="/nonexistent"):
            deadline = time.monotonic() + 10
            while not socket.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            with Node() as node:
                node.create(PAGE)
        driver.send_signal(signal.SIGINT)
        _, log = driver.communicate(timeout=10)
    assert driver.returncode == 0 and not socket.exists()
    assert "CREATE_BO 4096 bytes: handle 1 at 0x0" in log and "Traceback" not in log


@pytest.mark.parametrize(("options", "text"), [
    (["--soc", "rk9"], "rk3588"), (["--linger", "-1"], "0 or more"), (["--linger", "x"], "linger"),
    (["--sokcet", "x"], "--socket"), (["--socket", "/nonexistent/folder/s"], "/nonexistent/folder/s"),
    (["--silicon", "Q-X12=maybe"], "silicon: Q-X12='maybe' must be one of ignored, runs, early, masked")])
def test_wrong_options_of_sim_are_one_line(options: list[str], text: str) -> None:
    done = subprocess.run([sys.executable, "-m", "cermet", "sim", *options], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and text in done.stderr and len(done.stderr.splitlines()) == 1


def test_limits_are_below_the_kernels() -> None:
    """What this driver refuses for size, a kernel may refuse too."""
    assert rocket_ioctls.MAX_JOBS < 53_687_091 and rocket_ioctls.MAX_TASKS < rocket_ioctls.MAX_TASKS_OF_KERNEL
    assert os.sysconf("SC_PAGE_SIZE") == PAGE
