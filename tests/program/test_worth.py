"""What is left to the CPU although the NPU could do it."""
from __future__ import annotations

import numpy as np
import pytest

from cermet.compiler import Compiled, compile_subgraph
from cermet.cost import CLEAR_LOSS, CONVERTED_BYTES_PER_US, border_bytes, cpu_us
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.frontend.tflite_file import load, read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor
from cermet.worth import slow_groups, wide_borders
from tests.support import builders_move, model_builder

DRIVER = RocketDriver(RK3588)


def line(*operations: tuple[str, Kind, int]) -> Subgraph:
    """A chain of operations; the int is the number of elements of the output, an int8 tensor. The first has 1000."""
    sizes = [1000, *(size for _, _, size in operations)]
    tensors = {i: Tensor(i, f"t{i}", (1, 1, 1, size), DType.INT8) for i, size in enumerate(sizes)}
    made = tuple(Operation(i, kind, name, (i,), (i + 1,)) for i, (name, kind, _) in enumerate(operations))
    return Subgraph(tensors, made, (0,), (len(operations),))


RELU, PAD, OTHER = ("RELU", Kind.RELU, 1000), ("PAD", Kind.PAD, 3000), ("CUSTOM", Kind.OTHER, 1000)


def test_the_groups_time_decides_and_the_largest_is_never_judged() -> None:
    model = line(("RELU", Kind.RELU, 100_000), OTHER, RELU, OTHER, RELU)
    on_cpu = cpu_us(model, model.operations[2])
    assert on_cpu == pytest.approx(2.0)
    crossing = sum(border_bytes(model.extract(model.operations[2:3])))
    assert crossing == 2000
    limit = CLEAR_LOSS * on_cpu - crossing / CONVERTED_BYTES_PER_US
    found = slow_groups(model, {(0,): 1e9, (2,): limit + 0.01, (4,): limit - 0.01})
    assert set(found) == {2}
    assert found[2].rule == "partition_pays_off"
    assert found[2].reason == "takes about 2 us on the CPU, 4 us on the NPU"


def test_one_group_alone_stays() -> None:
    assert slow_groups(line(RELU), {(0,): 1e9}) == {}


def test_no_groups_are_no_error() -> None:
    assert slow_groups(line(RELU), {}) == {} == wide_borders(line(RELU), [])


def test_what_widens_the_border_to_the_cpu_stays_there() -> None:
    shrink = ("SLICE", Kind.SLICE, 1000)
    after, before = line(RELU, PAD, OTHER, RELU), line(PAD, OTHER, ("SLICE", Kind.SLICE, 500), RELU)
    assert set(wide_borders(after, [(0, 1), (3,)])) == {1}
    assert set(wide_borders(before, [(0,), (2, 3)])) == {2}
    assert wide_borders(after, [(0, 1)])[1].reason == (
        "would make 4,000 bytes cross its partition's border, 2,000 do without it")
    kept = line(RELU, PAD, shrink, OTHER, RELU)      # inside a partition, and narrowing at its border
    assert wide_borders(kept, [(0, 1, 2)]) == {}


def test_a_models_own_inputs_and_outputs_are_no_border_to_the_cpu() -> None:
    assert wide_borders(line(RELU, PAD), [(0, 1)]) == {}
    assert wide_borders(line(("SLICE", Kind.SLICE, 10), RELU), [(0, 1)]) == {}


# Whole models


def compiled(subgraph: Subgraph, **options: object) -> Compiled:
    made = compile_subgraph(subgraph, DRIVER, CompileOptions(**options))      # type: ignore[arg-type]
    assert made.faults == ()
    return made


def test_a_resizing_before_the_cpu_is_left_to_it() -> None:
    rng = np.random.default_rng(3)
    subgraph = read_tflite(model_builder.chain(
        model_builder.conv2d(rng, (1, 8, 8, 16), 32, output_zero_point=-7),
        lambda t: builders_move.resize("NEAREST_NEIGHBOR", t.shape, (16, 16)),
        lambda t: model_builder.pool(rng, t.shape, "MAX", (2, 2), zero_point=t.zero_point)).data)
    assert compiled(subgraph).groups == ((0, 1, 2),)
    made = compiled(subgraph, deny=frozenset({"2"}))
    assert made.groups == ((0,),)
    assert made.refusals[1].rule == "border_is_narrow"
    assert compiled(subgraph, deny=frozenset({"2"}), prefer="npu").groups == ((0, 1),)


def test_movenets_crumbs_are_left_to_the_cpu(shared_dir) -> None:      # type: ignore[no-untyped-def]
    subgraph = load(shared_dir / "models" / "movenet_single_pose_lightning_ptq.tflite")
    assert len(compiled(subgraph).groups) <= 2 < len(compiled(subgraph, prefer="npu").groups)


def test_models_in_one_piece_stay_however_small(models_dir) -> None:      # type: ignore[no-untyped-def]
    for name in ("ad01_int8", "kws_ref_model", "split_concat", "vww_96_int8"):
        subgraph = load(models_dir / f"{name}.tflite")
        assert compiled(subgraph).groups == compiled(subgraph, prefer="npu").groups
