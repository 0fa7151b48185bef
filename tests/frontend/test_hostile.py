"""Truncated, bit-flipped and garbage models and blobs: a FrontendError or a valid subgraph, quickly, nothing else."""
from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.blob import read_blob
from cermet.frontend.errors import FrontendError
from cermet.frontend.tflite_file import read_tflite, to_blob
from cermet.ir.problems import op_problem
from cermet.ir.subgraph import Subgraph
from cermet.ir.text import format_subgraph
from cermet.ir.verify import verify
from tests.support import model_builder

NUM_MUTATIONS = 3000
INTERESTING = (0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0, 4, 8)


def small_model() -> bytes:
    rng = np.random.default_rng(11)
    return model_builder.chain(
        model_builder.conv2d(rng, (1, 6, 6, 3), 4, per_channel=True, activation="RELU6"),
        lambda t: model_builder.depthwise(rng, t.shape, input_zero_point=t.zero_point),
        lambda t: model_builder.pool(rng, t.shape, zero_point=t.zero_point),
        lambda t: model_builder.mean(rng, t.shape, zero_point=t.zero_point)).data


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few flipped bits, overwritten words, a cut, or a block copied elsewhere."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        kind, at = rng.randrange(5), rng.randrange(len(changed))
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at + 4 <= len(changed):
            struct.pack_into("<I", changed, at & ~3, rng.choice(INTERESTING))
        elif kind == 2:
            changed[at] = rng.randrange(256)
        elif kind == 3 and len(changed) > 64:
            source, size = rng.randrange(len(changed)), rng.randrange(1, 64)
            changed[at:at + size] = changed[source:source + size].ljust(size, b"\0")[:len(changed[at:at + size])]
        elif kind == 4 and rng.random() < 0.2:
            del changed[max(at, 1):]
    return bytes(changed)


def exercise(read: Callable[[bytes], Subgraph], data: bytes) -> bool:
    """True when it was read; what comes out must be usable."""
    try:
        subgraph = read(data)
    except FrontendError as error:
        assert str(error) and "\n" not in str(error)
        return False
    for operation in subgraph.operations:
        op_problem(subgraph, operation)
    format_subgraph(subgraph)
    return True


@pytest.mark.parametrize("which", ["tflite", "blob"])
def test_mutations(which: str) -> None:
    model = small_model()
    data, read = (model, read_tflite) if which == "tflite" else (to_blob(model), read_blob)
    rng = random.Random(1)
    exercise(read, data)
    tracemalloc.start()
    start = time.process_time()
    accepted = sum(exercise(read, mutated(rng, data)) for _ in range(NUM_MUTATIONS))
    seconds, (_, peak_bytes) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < accepted < NUM_MUTATIONS, "mutations must both pass and fail"
    assert peak_bytes < 64 << 20
    assert seconds < 60         # tracing allocations slows this down about five times


def test_whatever_is_accepted_can_be_computed_with() -> None:
    """Operations that op_problem() lets pass run without an exception, whatever a mutation made of them."""
    blob = to_blob(small_model())
    rng = random.Random(2)
    driver, executed = SoftDriver(), 0
    for _ in range(NUM_MUTATIONS):
        try:
            subgraph = read_blob(mutated(rng, blob))
        except FrontendError:
            continue
        part = subgraph.extract(op for op in subgraph.operations if driver.refuse(subgraph, op) is None)
        if any(t.num_elements > 100_000 for t in part.tensors.values()):
            continue
        verify(part)
        driver.execute(part, {t: np.zeros(part.tensors[t].shape, part.tensors[t].dtype.numpy) for t in part.inputs})
        executed += len(part.operations)
    assert executed > NUM_MUTATIONS // 2


def test_every_truncation() -> None:
    model = small_model()
    blob = to_blob(model)
    for size in range(0, len(model), 7):
        exercise(read_tflite, model[:size])
    for size in range(0, len(blob), 3):
        assert not exercise(read_blob, blob[:size])


@pytest.mark.parametrize("seed", range(5))
def test_garbage(seed: int) -> None:
    rng = random.Random(seed)
    for size in (0, 1, 7, 8, 9, 80, 81, 1000, 20000):
        noise = rng.randbytes(size)
        assert not exercise(read_blob, noise)
        assert not exercise(read_tflite, noise)
        assert not exercise(read_tflite, noise[:4] + b"TFL3" + noise[8:])


def test_a_million_operators_that_share_one_table_are_refused_quickly() -> None:
    """A vector of offsets that all lead to one operator with a long list of inputs."""
    x = model_builder.TensorSpec("x", (2,), "float32")
    op = model_builder.OperationSpec("CUSTOM:Big", (0,) * 20000, (1,))
    data = bytearray(model_builder.build_model([x, x], [op], [0], [1]))
    import tflite
    subgraph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    table = subgraph.Operators(0)._tab.Pos
    count = 20000
    while len(data) % 4:
        data.append(0)
    vector = len(data)
    data += struct.pack("<I", count)
    data += b"".join(struct.pack("<I", (table - (vector + 4 + 4 * i)) % 2**32) for i in range(count))
    slot = subgraph._tab.Pos + subgraph._tab.Offset(10)
    struct.pack_into("<I", data, slot, vector - slot)
    start = time.process_time()
    assert not exercise(read_tflite, bytes(data))
    assert time.process_time() - start < 5


def test_shared_buffers_cannot_blow_up_the_blob() -> None:
    """Many tensors with one large buffer: refused above 16 times the file's size."""
    big = model_builder.TensorSpec("w", (100000,), "int8", data=np.ones(100000, np.int8))
    y = model_builder.TensorSpec("y", (1,), "int8")
    plain = model_builder.TensorSpec("w", (100000,), "int8", data=np.ones(1, np.int8))
    data = bytearray(model_builder.build_model(
        [big, *[plain] * 40, y], [model_builder.OperationSpec("CUSTOM:Big", tuple(range(41)), (41,))], [], [41]))
    import tflite
    subgraph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    for i in range(1, 41):
        tensor = subgraph.Tensors(i)._tab
        struct.pack_into("<I", data, tensor.Pos + tensor.Offset(8), 1)      # its member `buffer`
    with pytest.raises(FrontendError, match="more than 16 times the file's size, tensors share buffers"):
        to_blob(bytes(data))
