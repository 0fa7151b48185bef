"""BLAKE2sp in Python and in C, against hashlib with the tree spelt out block by block."""
from __future__ import annotations

import ctypes
import hashlib
import platform
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from cermet.program.tree_hash import blake2sp

RUNTIME = Path(__file__).resolve().parents[2] / "src" / "runtime"
STATE_BYTES = 4096      # more than struct cermet_blake2sp has
NOTHING = "dd0e891776933f43c7d032b08a917e25741f8aa9a12c12e1cac8801500f2ca4f"      # archivers show it, of an empty file
SIZES = (*range(0, 1100, 7), 63, 64, 65, 448, 449, 511, 512, 513, 959, 960, 961, 1023, 1024, 1025, 1472, 1473, 100_003)


def expected(data: bytes) -> bytes:
    leaves = [hashlib.blake2s(b"".join(data[at:at + 64] for at in range(64 * leaf, len(data), 512)), fanout=8, depth=2,
                              node_offset=leaf, inner_size=32, last_node=leaf == 7).digest() for leaf in range(8)]
    return hashlib.blake2s(b"".join(leaves), fanout=8, depth=2, node_depth=1, inner_size=32, last_node=True).digest()


def sample(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module", params=["baseline", "chosen"])
def c_hash(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C hash: for any processor, and with what it chooses on this one."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("hash")
    builds = [("blake2sp.c", ["-U__x86_64__"] if request.param == "baseline" else []), ("blake2sp_leaves.c", [])]
    if platform.machine() == "x86_64":
        builds.append(("blake2sp_leaves.c", ["-mavx2", "-DWIDE_MOVES"]))
    for number, (source, flags) in enumerate(builds):
        made = folder / f"{number}.o"
        subprocess.run(["gcc", "-O3", "-fPIC", "-c", *flags, RUNTIME / source, "-o", made], check=True)
    subprocess.run(["gcc", "-shared", *folder.glob("*.o"), "-o", folder / "hash.so"], check=True)
    return ctypes.CDLL(str(folder / "hash.so"))


def digest_in_c(library: ctypes.CDLL, data: bytes, most: int) -> bytes:
    """The digest of data that is added in pieces of up to `most` bytes."""
    rng = random.Random(most)
    state, digest = ctypes.create_string_buffer(STATE_BYTES), ctypes.create_string_buffer(32)
    library.cermet_blake2sp_start(state)
    at = 0
    while at < len(data):
        piece = data[at:at + rng.randint(1, most)]
        library.cermet_blake2sp_add(state, piece, ctypes.c_size_t(len(piece)))
        at += len(piece)
    library.cermet_blake2sp_finish(state, digest)
    return digest.raw


def test_of_nothing_is_the_published_digest() -> None:
    assert blake2sp(b"").hex() == expected(b"").hex() == NOTHING


@pytest.mark.parametrize("size", SIZES)
def test_python_equals_the_tree(size: int) -> None:
    assert blake2sp(sample(size)) == expected(sample(size))


@pytest.mark.parametrize("most", [1, 100, 700, 1500, 10**6])
def test_c_equals_the_tree(c_hash: ctypes.CDLL, most: int) -> None:
    for size in SIZES:
        if size // most < 5000:
            assert digest_in_c(c_hash, sample(size), most) == expected(sample(size)), size
