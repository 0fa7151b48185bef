"""The printer's text, as golden files that a reviewer can read."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cermet.frontend.tflite_file import read_tflite
from cermet.ir.text import format_subgraph
from tests.support import model_builder
from tests.support.model_builder import Model


def every_kind() -> Model:
    rng = np.random.default_rng(21)
    return model_builder.chain(
        model_builder.conv2d(rng, (1, 12, 12, 3), 8, stride=(2, 1), dilation=(1, 2), activation="RELU6",
                             per_channel=True),
        lambda t: model_builder.depthwise(rng, t.shape, multiplier=2, input_zero_point=t.zero_point),
        lambda t: model_builder.pool(rng, t.shape, "MAX", zero_point=t.zero_point),
        lambda t: model_builder.add(rng, t.shape, zero_points=(t.zero_point, None), activation="RELU"),
        lambda t: model_builder.mean(rng, t.shape, zero_point=t.zero_point, keep_dims=True),
        lambda t: model_builder.reshape(rng, t.shape, (1, 16), zero_point=t.zero_point),
        lambda t: model_builder.fully_connected(rng, t.shape, 4, input_zero_point=t.zero_point, bias=False))


def test_every_kind_of_operation(golden_text: Callable[[str, str], None]) -> None:
    golden_text("ir/every_kind.txt", format_subgraph(read_tflite(every_kind().data)))


def test_flags_and_fused_operations(golden_text: Callable[[str, str], None]) -> None:
    subgraph = read_tflite(model_builder.unary(np.random.default_rng(1), "LOGISTIC", (1, 4)).data)
    tensors = {0: replace(subgraph.tensors[0], is_dynamic=True, is_variable=True),
               1: replace(subgraph.tensors[1], shape=(), quantisation=None)}
    operation = replace(subgraph.operations[0], fused=(4, 7), weights_format=1, inputs=(0, None))
    golden_text("ir/flags.txt", format_subgraph(replace(subgraph, tensors=tensors, operations=(operation,))))
