"""The ONNX reader: every way an exporter may write a network gives the same numbers as onnxruntime's float
evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from qdq_models import Qdq, flat

from converter import reference
from converter.errors import ConvertError
from converter.graph import Graph
from converter.onnx_qdq.reader import read_onnx
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.pad import Pad
from converter.operators.reshape import Reshape
from converter.spec import KwsSpec
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite

Build = Callable[[], tuple[Qdq, str]]


def kinds(graph: Graph) -> list[str]:
    return [type(layer).__name__ for layer in graph.layers]


def check_against_onnx(q: Qdq, output: str, exact: float = 0.98) -> Graph:
    """The reference's int8 output equals onnxruntime's float evaluation put on the same grid, but for a rounding here
    and there."""
    graph = read_onnx(q.file(output))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )  # each node as ONNX defines it, in float
    session = onnxruntime.InferenceSession(q.file(output), options, providers=["CPUExecutionProvider"])
    rng, tensor = np.random.default_rng(7), graph.tensors[graph.input]
    quant = graph.tensors[graph.output].quant
    equal = []
    for _ in range(4):
        x_onnx = np.asarray(rng.integers(-128, 128, q.shape), np.int8)
        real = (x_onnx.astype(np.float32) - np.float32(tensor.quant.zero_point)) * np.float32(tensor.quant.scale)
        theirs = np.rint(np.asarray(session.run(None, {"x": real})[0]) / np.float32(quant.scale)) + quant.zero_point
        x_stored = x_onnx.transpose(0, 2, 3, 1) if x_onnx.ndim == 4 else x_onnx
        ours = reference.run(graph, np.ascontiguousarray(x_stored))[graph.output].astype(int)
        theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 1
        equal.append(float((ours == theirs).mean()))
    assert np.mean(equal) >= exact
    again = read_tflite(write_tflite(graph))
    assert again.model_id == graph.model_id and again.spec_json == graph.spec_json
    return graph


def same_conv(style: str) -> tuple[Qdq, str]:
    """TFLite's SAME for 13x11, kernel 4x3, stride 2: top 1, bottom 2, left 1, right 1."""
    q = Qdq((1, 2, 13, 11))
    x = q.input()
    attributes: dict[str, Any] = {"strides": [2, 2]}
    if style == "attribute":
        y = q.conv(x, "conv", (5, 2, 4, 3), pads=[1, 1, 2, 1], **attributes)
    elif style == "auto":
        y = q.conv(x, "conv", (5, 2, 4, 3), auto_pad="SAME_UPPER", **attributes)
    else:
        padded = q.node("Pad", [x, q.constant("pads", np.array([0, 0, 1, 1, 0, 0, 2, 1], np.int64))], "zeros")
        if style == "quantized pad":
            padded = q.qdq(padded, "padded", 0.05, 3)
        q.scales[padded] = 0.05
        y = q.conv(padded, "conv", (5, 2, 4, 3), **attributes)
    return q, q.qdq(q.node("Relu", [y], "relu"), "y", zero_point=-100)


@pytest.mark.parametrize("style", ["attribute", "auto", "pad node", "quantized pad"])
def test_zeros_that_are_tflites_same_become_same(style: str) -> None:
    graph = check_against_onnx(*same_conv(style))
    layer = graph.layers[0]
    assert isinstance(layer, Conv2D) and len(graph.layers) == 1
    assert layer.padding == "SAME" and layer.activation == "RELU"
    assert graph.model_id == check_against_onnx(*same_conv("attribute")).model_id


def test_other_zeros_become_a_pad_layer() -> None:
    q = Qdq((1, 3, 9, 8))
    y = q.conv(q.input(), "conv", (4, 3, 3, 3), pads=[2, 0, 1, 3])
    graph = check_against_onnx(q, q.qdq(y, "y"))
    pad = graph.layers[0]
    assert kinds(graph) == ["Pad", "Conv2D"] and isinstance(pad, Pad)
    assert pad.pads == ((0, 0), (2, 1), (0, 3), (0, 0))


@pytest.mark.parametrize("style", ["flatten", "reshape", "nhwc"])
@pytest.mark.parametrize("trans_b", [True, False])
@pytest.mark.parametrize("axis", [0, None])
def test_convolution_then_dense_in_every_style(style: str, trans_b: bool, axis: int | None) -> None:
    q = Qdq((1, 1, 12, 9), seed=3)
    conv = q.node("Relu", [q.conv(q.input(), "conv", (6, 1, 4, 3), axis=axis, strides=[2, 2])], "relu")
    x = flat(q, q.qdq(conv, "conv", zero_point=-128), style, (6, 5, 4))
    q.scales[x] = q.scales["conv_real"]
    logits = q.qdq(q.gemm(x, "dense", (4, 120), trans_b, axis), "logits", 2.0, 5)
    graph = check_against_onnx(q, q.softmax(logits), exact=0.8)
    dense = graph.layers[1]
    assert kinds(graph) == ["Conv2D", "FullyConnected", "Softmax"] and isinstance(dense, FullyConnected)
    assert len(dense.weight_quant.scales) == (1 if axis is None else 4)


def test_flattened_nchw_equals_nhwc_dense_with_permuted_weights() -> None:
    def build(style: str) -> Graph:
        q = Qdq((1, 1, 12, 9), seed=3)
        x = flat(
            q, q.qdq(q.conv(q.input(), "conv", (6, 1, 4, 3), strides=[2, 2]), "conv", zero_point=0), style, (6, 5, 4)
        )
        q.scales[x] = q.scales["conv_real"]
        output = q.qdq(q.gemm(x, "dense", (4, 120)), "logits", 2.0, 5)
        if style == "nhwc":
            for tensor in q.initializers:
                if tensor.name == "dense_weights":
                    nchw = onnx.numpy_helper.to_array(tensor)
                    permuted = nchw.reshape(4, 6, 5, 4).transpose(0, 2, 3, 1).reshape(4, 120)
                    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(permuted), tensor.name))
        return read_onnx(q.file(output))

    assert build("flatten").model_id == build("nhwc").model_id


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_and_pointwise_with_relu6_and_float_weights(multiplier: int) -> None:
    q = Qdq((1, 4, 10, 7), seed=5)
    y = q.conv(q.input(), "depthwise", (4 * multiplier, 1, 3, 3), group=4, pads=[1, 1, 1, 1], as_float=True)
    low, high = q.constant("low", np.float32(0)), q.constant("high", np.float32(6))
    y = q.qdq(q.node("Clip", [y, low, high], "clip"), "depthwise", 6 / 255, -128)
    y = q.qdq(q.conv(y, "pointwise", (5, 4 * multiplier, 1, 1), axis=None), "pointwise", 0.05)
    graph = check_against_onnx(q, y)
    assert kinds(graph) == ["DepthwiseConv2D", "Conv2D"]


@pytest.mark.parametrize("style", ["GlobalAveragePool", "ReduceMean", "ReduceMean flat", "AveragePool"])
@pytest.mark.parametrize("own_scale", [False, True])
def test_mean_over_the_plane_then_dense(style: str, own_scale: bool) -> None:
    """With a scale of its own a mean becomes a MEAN."""
    q = Qdq((1, 6, 5, 4), seed=6)
    x = q.input()
    if style.startswith("ReduceMean"):
        axes = q.constant("axes", np.array([2, 3], np.int64))
        y = q.node("ReduceMean", [x, axes], "mean", keepdims=int(style == "ReduceMean"))
    else:
        y = q.node(style, [x], "mean", **({"kernel_shape": [5, 4]} if style == "AveragePool" else {}))
    scale, zero_point = (0.0213, -7) if own_scale else (0.05, 3)
    y = q.qdq(y, "mean", scale, zero_point)
    if style != "ReduceMean flat":
        y = flat(q, y, "flatten", (6, 1, 1))
    q.scales[y] = scale
    output = q.qdq(q.gemm(y, "dense", (9, 6)), "y", 0.5)
    graph = check_against_onnx(q, output, exact=0.9)
    assert kinds(graph) == ["Mean" if own_scale else "AveragePool2D", "FullyConnected"]


def test_pools_residual_add_and_matmul() -> None:
    q = Qdq((1, 3, 12, 12), seed=8)
    x = q.qdq(q.conv(q.input(), "a", (3, 3, 3, 3), pads=[1, 1, 1, 1]), "a", 0.06, 1)
    side = q.qdq(q.conv(x, "b", (3, 3, 1, 1)), "b", 0.04, -3)
    x = q.qdq(q.node("Relu", [q.node("Add", [x, side], "sum")], "relu"), "sum", 0.07, -128)
    x = q.node("MaxPool", [x], "max", kernel_shape=[2, 2], strides=[2, 2])  # no Q/DQ behind it: still on the grid
    x = q.qdq(
        q.node("AveragePool", [x], "mean", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]), "mean", 0.07, -128
    )
    x = flat(q, x, "flatten", (3, 6, 6))
    weights, scales = q.weights("dense_weights", (108, 5), axis=1)
    product = q.node("MatMul", [x, weights], "dense")
    q.scales[x] = 0.07
    x = q.qdq(q.node("Add", [q.bias("dense_bias", x, scales, 5), product], "biased"), "y", 0.3, 0)
    graph = check_against_onnx(q, x, exact=0.7)
    assert kinds(graph) == ["Conv2D", "Conv2D", "Add", "MaxPool2D", "AveragePool2D", "FullyConnected"]
    assert isinstance(graph.layers[4], AveragePool2D) and graph.layers[4].padding == "SAME"


def test_padding_counted_by_an_average_pool_becomes_a_pad_layer() -> None:
    q = Qdq((1, 2, 6, 6), seed=9)
    y = q.node("AveragePool", [q.input()], "mean", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    assert kinds(check_against_onnx(q, q.qdq(y, "y", 0.05, 3))) == ["Pad", "AveragePool2D"]


def test_a_reshape_that_a_layer_needs_is_kept() -> None:
    q = Qdq((1, 490), seed=10)
    x = q.node("Reshape", [q.input(), q.constant("map", np.array([1, 1, 49, 10], np.int64))], "map")
    q.scales[x] = 0.05
    graph = check_against_onnx(q, q.qdq(q.conv(x, "conv", (4, 1, 5, 3), strides=[2, 1]), "y", 0.3))
    assert kinds(graph) == ["Reshape", "Conv2D"] and isinstance(graph.layers[0], Reshape)


def test_spec_travels_and_must_fit() -> None:
    def build(spec: KwsSpec, spec_id: str, zero_point: int = -128) -> bytes:
        q = Qdq((1, 1, 49, 40))
        x = flat(q, q.input(26 / 256, zero_point), "flatten", (1, 49, 40))
        q.scales[x] = 26 / 256
        q.metadata = {"kws_spec": spec.to_json(), "spec_id": spec_id}
        return q.file(q.softmax(q.qdq(q.gemm(x, "dense", (4, 1960)), "logits", 9.0, 0)))

    spec = KwsSpec.of_words(["yes", "stop"])
    graph = read_onnx(build(spec, spec.spec_id))
    assert read_tflite(write_tflite(graph)).spec_json == spec.to_json()
    with pytest.raises(ConvertError, match="spec_id"):
        read_onnx(build(spec, "000000000000"))
    with pytest.raises(ConvertError, match="labels"):
        read_onnx(build(KwsSpec.of_words(["yes", "stop", "go"]), KwsSpec.of_words(["yes", "stop", "go"]).spec_id))
    with pytest.raises(ConvertError, match="features"):
        read_onnx(build(spec, spec.spec_id, zero_point=-127))


def _float_conv() -> tuple[Qdq, str]:
    q = Qdq((1, 1, 8, 8))
    return q, q.node("Conv", ["x", q.constant("w", np.ones((2, 1, 3, 3), np.float32))], "first_conv")


def _float_weights() -> tuple[Qdq, str]:
    q = Qdq((1, 1, 8, 8))
    return q, q.qdq(q.node("Conv", [q.input(), q.constant("w", np.ones((2, 1, 3, 3), np.float32))], "first_conv"), "y")


def _erf() -> tuple[Qdq, str]:
    q = Qdq((1, 8))
    return q, q.qdq(q.node("Erf", [q.input()], "squash"), "y")


def _two_groups() -> tuple[Qdq, str]:
    q = Qdq((1, 4, 8, 8))
    return q, q.qdq(q.conv(q.input(), "grouped", (4, 2, 3, 3), group=2), "y")


def _dilated() -> tuple[Qdq, str]:
    q = Qdq((1, 1, 8, 8))
    return q, q.qdq(q.conv(q.input(), "wide", (4, 1, 3, 3), dilations=[2, 2]), "y")


def _unquantized_between() -> tuple[Qdq, str]:
    q = Qdq((1, 1, 8, 8))
    y = q.conv(q.input(), "first", (4, 1, 3, 3))
    q.scales[y] = 0.1
    return q, q.qdq(q.conv(y, "second", (4, 4, 3, 3)), "y")


def _real_output() -> tuple[Qdq, str]:
    q = Qdq((1, 1, 8, 8))
    return q, q.conv(q.input(), "last", (4, 1, 3, 3))


def _int16() -> tuple[Qdq, str]:
    q = Qdq((1, 1, 8, 8), opset=21)
    inputs = ["x", q.constant("s", np.float32(0.1)), q.constant("z", np.int16(3))]
    q.nodes.append(onnx.helper.make_node("QuantizeLinear", inputs, ["q"], name="first_q"))
    return q, q.node("DequantizeLinear", ["q", "s", "z"], "first_dq")


def _dynamic() -> tuple[Qdq, str]:
    q = Qdq((1, 1, 8, 8))
    y = q.qdq(q.conv(q.input(), "conv", (4, 1, 3, 3)), "y")
    q.shape = (1, 1, "height", 8)  # type: ignore[assignment]
    return q, y


BAD: list[tuple[Build, str]] = [
    (_float_conv, r"first_conv: input x is float"),
    (_float_weights, r"first_conv: its weights must be int8"),
    (_erf, r"squash: Erf is not supported"),
    (_two_groups, r"grouped: grouped convolution"),
    (_dilated, r"wide: dilation"),
    (_unquantized_between, r"second: input first_y is float"),
    (_real_output, r"last_y: the output must come"),
    (_int16, r"first_q: needs int8 or uint8, got int16"),
    (_dynamic, r"x: the input's shape is dynamic"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_foreign_models_are_refused_in_one_line_that_names_the_node(build: Build, message: str) -> None:
    with pytest.raises(ConvertError, match=message) as error:
        read_onnx(build()[0].file(build()[1]))
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused() -> None:
    rng = np.random.default_rng(20241120)
    data = same_conv("pad node")[0].file(same_conv("pad node")[1])
    refused = 0
    for number in range(1500):
        mutant = bytearray(data)
        if number % 3 == 0:
            mutant = mutant[: int(rng.integers(0, len(data)))]
        else:
            for _ in range(int(rng.integers(1, 6))):
                mutant[int(rng.integers(len(mutant)))] = int(rng.integers(256))
        try:
            read_onnx(bytes(mutant))
        except ConvertError as error:
            refused += 1
            assert "\n" not in str(error), str(error)
    assert refused > 500
    for junk in (b"", b"\0" * 100, b"TFL3" * 10, bytes(rng.integers(0, 256, 2000, dtype=np.uint8))):
        with pytest.raises(ConvertError):
            read_onnx(junk)
