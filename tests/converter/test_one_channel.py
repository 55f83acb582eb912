"""Convolutions of one input channel: the file holds the faster operator, the Graph always a Conv2D, and the numbers are
the same."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from converter import reference
from converter.aot.model_header import render_kws_header
from converter.check import check
from converter.formats.tflite import Table
from converter.graph import Graph
from converter.operators import OPERATORS
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.windows import Padding, output_size
from converter.quant import Activation
from converter.tensor import QuantParams, Tensor
from converter.tflite import schema
from converter.tflite.interpreters import Tflm, Unavailable
from converter.tflite.one_channel import conv_as_depthwise, depthwise_as_conv
from converter.tflite.reader import read_tflite
from converter.tflite.writer import _Writer, write_tflite

WINDOWS: tuple[tuple[tuple[int, int], tuple[int, int], Padding, Activation], ...] = (
    ((10, 8), (2, 2), "SAME", "RELU"),
    ((3, 1), (1, 1), "VALID", "NONE"),
    ((1, 2), (1, 3), "SAME", "RELU6"),
    ((1, 1), (1, 1), "SAME", "NONE"),
)
OUTPUTS = (1, 3, 4, 8, 12, 16)


def one_conv(
    channels: int,
    window_hw: tuple[int, int],
    stride_hw: tuple[int, int],
    padding: Padding,
    activation: Activation,
    per_channel: bool,
) -> Graph:
    rng = np.random.default_rng([channels, *window_hw])
    shape = (1, 13, 11, 1)
    out_hw = [output_size(n, k, s, padding) for n, k, s in zip(shape[1:3], window_hw, stride_hw, strict=True)]
    scales = tuple(float(np.float32(s)) for s in rng.uniform(0.002, 0.01, channels if per_channel else 1))
    quant = QuantParams(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)
    weights = rng.integers(-127, 128, (channels, *window_hw, 1)).astype(np.int8)
    bias = rng.integers(-900, 900, channels).astype(np.int32)
    layer = Conv2D("conv", 0, 1, weights, quant, bias, stride_hw, padding, activation)
    out_scale = float(np.float32(0.02 * np.sqrt(window_hw[0] * window_hw[1])))
    x, y = (
        Tensor("x", shape, QuantParams((0.03125,), (-7,))),
        Tensor("y", (1, *out_hw, channels), QuantParams((out_scale,), (11,))),
    )
    return check(Graph((x, y), (layer,), 0, 1))


def one_depthwise(graph: Graph) -> Graph:
    """The same sums as the model of another tool would have them, whatever the number of outputs."""
    conv = graph.layers[0]
    assert isinstance(conv, Conv2D)
    quant = replace(conv.weight_quant, axis=None if conv.weight_quant.axis is None else 3)
    weights = np.ascontiguousarray(conv.weights_ohwi.transpose(3, 1, 2, 0))
    layer = DepthwiseConv2D(
        "conv", 0, 1, weights, quant, conv.bias, len(conv.bias), conv.stride_hw, conv.padding, conv.activation
    )
    return check(replace(graph, layers=(layer,)))


def operators(data: bytes) -> list[str]:
    codes = Table.root(data).tables(schema.Model.OPERATOR_CODES)
    names = {kind.TFLITE.number: kind.TFLITE.name for kind in OPERATORS}
    return [names[code.number(schema.OperatorCode.BUILTIN, "i", 0)] for code in codes]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("channels", OUTPUTS)
@pytest.mark.parametrize("window", WINDOWS)
def test_every_form_gives_one_graph_and_the_same_numbers(
    window: tuple[tuple[int, int], tuple[int, int], Padding, Activation], channels: int, per_channel: bool
) -> None:
    graph = one_conv(channels, *window, per_channel)
    foreign = one_depthwise(graph)
    ours, theirs = write_tflite(graph), _Writer(foreign).file()
    is_depthwise = channels in (4, 8, 12) and window[0] != (1, 1)
    assert operators(ours) == ["DEPTHWISE_CONV_2D" if is_depthwise else "CONV_2D"]
    assert operators(theirs) == ["DEPTHWISE_CONV_2D"]
    for data in (ours, theirs):
        again = read_tflite(data)
        assert isinstance(again.layers[0], Conv2D)
        assert again.model_id == graph.model_id
        assert write_tflite(again) == ours
    assert write_tflite(foreign) == ours
    x = np.random.default_rng(5).integers(-128, 128, (6, *graph.tensors[0].shape[1:])).astype(np.int8)
    wanted = reference.run_batch(graph, x)
    assert np.array_equal(reference.run_batch(foreign, x), wanted)
    assert len(np.unique(wanted)) > 10
    try:
        engines = [Tflm(graph, data, keep_all=False) for data in (ours, theirs)]
    except Unavailable as missing:
        pytest.skip(str(missing))
    for row in range(len(x)):
        assert all(np.array_equal(engine.output(x[row])[0], wanted[row]) for engine in engines), row


def test_the_firmware_registers_what_the_file_holds() -> None:
    for channels, call in ((8, "AddDepthwiseConv2D"), (16, "AddConv2D")):
        header = render_kws_header(one_conv(channels, (3, 3), (1, 1), "SAME", "RELU", True), "name")
        assert re.findall(r"\.(Add\w+)\(\)", header) == [call]
        assert "#define KWS_TFLM_OPS 1\n" in header


def test_other_depthwise_layers_stay_what_they_are() -> None:
    weights, bias = np.ones((1, 3, 3, 2), np.int8), np.zeros(2, np.int32)
    layer = DepthwiseConv2D("two", 0, 1, weights, QuantParams((0.5,), (0,)), bias, 1, (1, 1), "SAME", "NONE")
    assert depthwise_as_conv(layer) is layer
    assert conv_as_depthwise(layer) is layer
