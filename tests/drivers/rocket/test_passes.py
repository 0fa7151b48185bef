"""Every pass by a small graph before and after it, as text; the options and the documentation know all of them."""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.pipeline import deciding_passes, lowering_passes
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.passes import pass_name, run_passes
from cermet.ir.subgraph import Subgraph
from cermet.ir.text import format_subgraph
from tests.support import builders_conv, builders_move, builders_reduce, builders_unary, model_builder
from tests.support.builders_binary import Operand, binary
from tests.support.model_builder import Model, TensorSpec
from tests.support.sketch import Sketch

DOCS = Path(__file__).resolve().parents[3] / "docs" / "passes.md"
# Where the passes that put look-ups and sums behind convolutions have something to do.
OPTIONS = CompileOptions(match="exact")
GRAPH_PASSES = {pass_name(one): one for one in (*deciding_passes(RK3588, OPTIONS), *lowering_passes(RK3588))}


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _conv(source: TensorSpec | tuple[int, ...], outputs: int = 16, kernel: tuple[int, int] = (1, 1),
          **options: object) -> Model:
    shape = source if isinstance(source, tuple) else source.shape
    point = None if isinstance(source, tuple) else source.zero_point
    return model_builder.conv2d(_rng(), shape, outputs, kernel, input_zero_point=point, **options)  # type: ignore[arg-type]


# ---- what each pass looks for --------------------------------------------------------------------------------------

def _hard_swish() -> Model:
    """x * relu6(x + 3) / 6 in single steps."""
    made = Sketch()
    x = made.input()
    moved = made.op("ADD", (x, made.constant(127, 3 / 127)), 0.06, -60)
    product = made.op("MUL", (x, made.op("RELU6", (moved,), 6 / 255, -128)), 0.15, -40)
    return made.model(made.op("MUL", (product, made.constant(127, 1 / 6 / 127)), 0.026, -110))


def _dilation() -> Model:
    return builders_conv.dilated(_rng(), (1, 9, 10, 3), (2, 3), extra=(1, 0))


def _sum_channels_first() -> Model:
    made = Sketch()
    first, last = (made.constant(np.array(order, np.int32)) for order in ((0, 3, 1, 2), (0, 2, 3, 1)))
    turned = [made.op("TRANSPOSE", (made.input((1, 4, 5, 6)), first), shape=(1, 6, 4, 5)) for _ in range(2)]
    total = made.op("ADD", turned, 0.1, -20, activation="RELU")
    return made.model(made.op("TRANSPOSE", (total, last), shape=(1, 4, 5, 6)))


def _there_and_back() -> Model:
    """Channels first, and last again."""
    turned = builders_move.transpose((1, 4, 5, 6), (0, 3, 1, 2))
    back = model_builder.chain(turned, lambda t: builders_move.transpose(t.shape, (0, 2, 3, 1)))
    return model_builder.chain(back, lambda t: _conv(t, 8))


def _mean_of_channels_first() -> Model:
    return model_builder.chain(builders_move.transpose((1, 3, 5, 20), (0, 3, 1, 2)), lambda t: builders_reduce.reduce(
        _rng(), "MEAN", t.shape, (3,), zero_point=t.zero_point))


def _same() -> Model:
    return _conv((1, 6, 6, 3), kernel=(3, 3), stride=(2, 2), padding="SAME")


def _padded() -> Model:
    return model_builder.chain(builders_move.pad((1, 7, 6, 5), [(0, 0), (1, 0), (1, 0), (0, 0)]),
                               lambda t: _conv(t, kernel=(3, 3), stride=(2, 2), padding="VALID"))


def _sum_then_relu() -> Model:
    made = Sketch()
    total = made.op("ADD", (made.input((1, 4, 4, 8)), made.input((1, 4, 4, 8))), 0.1, -20)
    return made.model(made.op("RELU", (total,)))


def _twice_the_same() -> Model:
    made = Sketch()
    x = made.input((1, 4, 4, 8))
    pooled = [made.op("MAX_POOL_2D", (x,), shape=(1, 2, 2, 8), Padding=1, StrideW=2, StrideH=2, FilterWidth=2,
                      FilterHeight=2) for _ in range(2)]
    return made.model(made.op("ADD", (made.op("LOGISTIC", (pooled[0],), 1 / 256, -128), pooled[1]), 0.05))


def _nothing_added() -> Model:
    constant = Operand((), 1e-6, 0, data=np.array(1, np.int8))
    nothing = binary(_rng(), "SUB", Operand((1, 12, 10, 3), 1.0, -128), constant, output=(1.0, -128))
    return model_builder.chain(nothing, _conv)


def _unread() -> Model:
    made = Sketch()
    x = made.input()
    made.op("LOGISTIC", (x,), 1 / 256, -128)
    return made.model(made.op("TANH", (x,), 1 / 128, 0))


def _picture() -> Model:
    return _conv((1, 9, 8, 3), kernel=(3, 3), stride=(2, 2), padding="SAME")


def _residual() -> Model:
    return model_builder.chain(_conv((1, 8, 8, 16)), lambda t: model_builder.add(
        _rng(), t.shape, zero_points=(t.zero_point, None)))


def _conv_then_tanh() -> Model:
    return builders_unary.behind_gently(_conv((1, 8, 8, 16)), _rng())


def _normalisation() -> Model:
    made = Sketch()
    gains, offsets = (np.arange(1, 17) * 7, np.arange(-8, 8) * 9)
    x = made.input((1, 4, 4, 16))
    product = made.op("MUL", (x, made.constant(gains, 0.01)), 0.06, -10)
    return made.model(made.op("ADD", (product, made.constant(offsets, 0.05)), 0.07, -128, activation="RELU"))


def _heads() -> Model:
    return builders_move.heads([(1, 4, 4, 12), (1, 2, 2, 12)], 4)


def _joined_convolutions() -> Model:
    made = Sketch()
    x = made.input((1, 6, 6, 64))
    halves = [made.op(name, (x,), 1 / 128, 0) for name in ("TANH", "RELU")]
    return made.model(made.op("CONCATENATION", halves, shape=(1, 6, 6, 128), Axis=3))


def _split_then_logistics() -> Model:
    made = Sketch()
    x = made.input((1, 6, 6, 48))
    axis = made.constant(np.int32(3))
    made.tensors += [replace(made.tensors[x], name=f"part{i}", shape=(1, 6, 6, 16)) for i in range(3)]
    parts = tuple(range(axis + 1, axis + 4))
    made.operations.append(model_builder.OperationSpec("SPLIT", (axis, x), parts, {"NumSplits": 3}))
    return made.model(*(made.op("LOGISTIC", (part,), 1 / 256, -128) for part in parts))


def _split_and_joined() -> Model:
    model = _split_then_logistics()
    split, *_ = model.operations
    joined = replace(model.tensors[0], name="joined", shape=(1, 6, 6, 96))
    whole = model_builder.OperationSpec("CONCATENATION", (*split.outputs, 0), (len(model.tensors),), {"Axis": 3})
    return Model((*model.tensors, joined), (split, whole), (0,), whole.outputs)


def _bands_then_sum() -> Model:
    return model_builder.chain(_conv((1, 112, 112, 64), 64, (3, 3), padding="SAME"), lambda t: model_builder.add(
        _rng(), t.shape, t.shape, zero_points=(t.zero_point, None)))


DRAWN: dict[str, Callable[[], Model]] = {
    "tabulate": _hard_swish, "fold_dilations": _dilation, "join_transposes": _sum_channels_first,
    "cancel_moves": _there_and_back,
    "sink_transposes": _mean_of_channels_first, "explicit_padding": _same, "fold_pad": _padded,
    "fold_activation": _sum_then_relu, "merge_duplicates": _twice_the_same, "rejoin_parts": _split_and_joined,
    "drop_identities": _nothing_added,
    "drop_dead": _unread, "fold_strides": _picture, "fuse_adds": _residual, "fuse_unaries": _conv_then_tanh,
    "fuse_normalisations": _normalisation, "find_homes": _heads, "place_parts": _joined_convolutions,
    "place_slices": _split_then_logistics,
    "reload_weights": _bands_then_sum}


# ---- tests ---------------------------------------------------------------------------------------------------------

def shown(capsys: pytest.CaptureFixture[str], subgraph: Subgraph, options: CompileOptions) -> dict[str, str]:
    """What a compilation prints under each pass's name."""
    capsys.readouterr()
    RocketDriver(RK3588).compile(subgraph, options)
    sections = re.split(r"^---- ", capsys.readouterr().err, flags=re.MULTILINE)
    made = dict(section.split("\n", 1) for section in sections[1:])          # type: ignore[misc]
    assert len(made) == len(sections) - 1, "a pass is shown twice"
    return made


@pytest.mark.parametrize("name", DRAWN)
def test_golden(name: str, golden_text: Callable[[str, str], None], capsys: pytest.CaptureFixture[str],
                monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after; of a pass that changes no subgraph, what it decides."""
    before = read_tflite(DRAWN[name]().data)
    if name in GRAPH_PASSES:
        after = run_passes(before, (GRAPH_PASSES[name],))
        text = f"after\n{format_subgraph(after)}"
        assert after != before
    else:
        monkeypatch.setenv("CERMET_DEBUG", "passes")
        text = f"decided\n{shown(capsys, before, OPTIONS)[name]}"
        assert "no change" not in text
    golden_text(f"passes/{name}.txt", f"before\n{format_subgraph(before)}\n{text}")


@pytest.mark.parametrize("cores", [1, 3])
def test_debug_prints_every_pass_and_nothing_without(cores: int, capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    subgraph, options = read_tflite(_padded().data), replace(OPTIONS, cores=cores)
    assert shown(capsys, subgraph, options) == {}
    monkeypatch.setenv("CERMET_DEBUG", "jobs,passes")
    sections = shown(capsys, subgraph, options)
    assert list(sections) == list(DRAWN)
    assert "= CONV_2D(%0, %3, %4) kernel 3x3 stride 2x2 valid border 1,0,1,0 fused 0" in sections["fold_pad"]
    assert {text for name, text in sections.items() if name != "fold_pad" and name != "explicit_padding"} == {
        "no change\n"}


def test_every_pass_is_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), flags=re.MULTILINE)
    assert documented == list(DRAWN)
