"""The Python binding of the runtime, on the simulated NPU."""
from __future__ import annotations

import os
import struct
import time
from dataclasses import replace

import numpy as np
import pytest

from cermet.compiler import compile_blob
from cermet.drivers.base import CompileOptions
from cermet.frontend.tflite_file import to_blob
from cermet.program.plan_reader import decode_plan
from cermet.program.plan_writer import encode_plan
from cermet.runtime import Device, RuntimeFailure, check_plan
from tests.support import model_builder
from tests.support.interpreter import run


@pytest.fixture(scope="module")
def model() -> model_builder.Model:
    return model_builder.conv2d(np.random.default_rng(21), (1, 7, 6, 19), 37, dtype="uint8")


@pytest.fixture(scope="module")
def plan(model) -> bytes:
    data, _ = compile_blob(to_blob(model.data), "rk3588", CompileOptions())
    return data


def test_result_equals_tflites(model, plan):
    inputs = model.random_inputs(np.random.default_rng(1))
    with Device("sim") as device, device.load(plan) as program:
        (port,), (result,) = program.inputs, program.outputs
        assert device.name == "sim"
        assert (port.shape, port.dtype, result.shape) == ((1, 7, 6, 19), np.uint8, (1, 7, 6, 37))
        first, again = program.run(inputs), program.run(inputs)
    expected = run(model.data, inputs)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[0], expected[0])


def test_wrong_arrays_are_refused(plan):
    with Device("sim") as device, device.load(plan) as program:
        with pytest.raises(ValueError, match="0 inputs, must be 1"):
            program.run([])
        with pytest.raises(ValueError, match=r"tensor 0: array is int8 of shape \(1, 7, 6, 19\), must be uint8"):
            program.run([np.zeros((1, 7, 6, 19), np.int8)])
        with pytest.raises(ValueError, match="with the elements of"):
            program.run([np.zeros((1, 7, 6, 18), np.uint8)])


def test_errors_are_one_line(plan):
    with pytest.raises(RuntimeFailure, match="device /dev/null: is no accel node"):
        Device("/dev/null")
    with Device("sim") as device:
        with pytest.raises(RuntimeFailure, match="partition 1: the plan has 1"):
            device.load(plan, partition=1)
        with pytest.raises(RuntimeFailure, match="checksum differs"):
            device.load(plan[:-1] + b"\1")
    with pytest.raises(RuntimeFailure, match="device: is closed"):
        device.load(plan)


def faulting(plan: bytes) -> bytes:
    """The plan with one address of its program far outside of every buffer."""
    decoded = decode_plan(plan)
    (partition,) = decoded.partitions
    program = partition.program
    relocation = next(r for r in program.relocations if program.bos[r.target_bo].role == "output")
    data = bytearray(program.bos[relocation.bo].data)
    (word,) = struct.unpack_from("<Q", data, relocation.offset_bytes)
    struct.pack_into("<Q", data, relocation.offset_bytes, word + (0x7000_0000 << 16))
    bos = tuple(replace(bo, data=bytes(data)) if i == relocation.bo else bo for i, bo in enumerate(program.bos))
    return encode_plan(replace(decoded, partitions=(replace(partition, program=replace(program, bos=bos)),)))


def test_iommu_fault_is_an_error_and_the_next_run_works(model, plan):
    """The kernel reports nothing: it kills the job after 500 ms and PREP_BO returns 0."""
    inputs = model.random_inputs(np.random.default_rng(2))
    with Device("sim") as device, device.load(plan) as good, device.load(faulting(plan)) as bad:
        expected = good.run(inputs)
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(RuntimeFailure, match=r"partition 0 on sim: job did not complete .* after \d+ ms"):
                bad.run(inputs)
            assert 0.4 < time.monotonic() - start < 5
            np.testing.assert_array_equal(good.run(inputs)[0], expected[0])


def test_closing_the_device_unloads_its_programs(plan):
    before = len(os.listdir("/proc/self/fd"))
    device = Device("sim")
    program = device.load(plan)
    device.close()
    device.close()
    program.close()
    with pytest.raises(RuntimeFailure, match="program: is closed"):
        program.run([np.zeros((1, 7, 6, 19), np.uint8)])
    assert len(os.listdir("/proc/self/fd")) == before


def test_check_plan_counts_partitions_and_refuses_damage(plan):
    assert check_plan(plan) == 1
    for length in range(0, len(plan), 997):
        with pytest.raises(RuntimeFailure, match="plan: "):
            check_plan(plan[:length])
    with pytest.raises(RuntimeFailure, match="wrong magic"):
        check_plan(os.urandom(4) + plan[4:])
