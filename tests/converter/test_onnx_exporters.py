"""Activations, scales, constants and types as exporters write them: right beside onnxruntime, or refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_forms import MAP, Build, batch_norm, clip, conv_pair, floats, kinds, made, mean_pool, on, raw_conv, right
from qdq_models import Qdq, flat

from converter.errors import ConvertError
from converter.onnx_qdq.reader import read_onnx, trace_onnx

BEHIND_A_PAIR: dict[str, tuple[Build, list[str]]] = {
    "Relu, symmetric": (lambda q, x: q.qdq(q.node("Relu", [conv_pair(q, x)], "r"), "y", 0.15, 0), ["Relu"]),
    "Relu, unsigned": (lambda q, x: q.qdq(q.node("Relu", [conv_pair(q, x)], "r"), "y", 0.07, -128), ["Relu"]),
    "Relu without a pair behind": (
        lambda q, x: q.qdq(q.conv(on(q, q.node("Relu", [conv_pair(q, x)], "r"), 0.2), "c2", (2, 4, 2, 2)), "y", 3.0, 0),
        ["Relu", "Conv2D"],
    ),
    "Relu at the end": (lambda q, x: q.node("Relu", [conv_pair(q, x)], "r"), ["Relu"]),
    "Clip 0..6": (lambda q, x: q.qdq(clip(q, conv_pair(q, x), 0, 6), "y", 0.09, -20), ["Quantize", "Relu6"]),
    "Clip to the grid's ends": (lambda q, x: q.qdq(clip(q, conv_pair(q, x), -2, 3), "y", 5 / 255, -26), ["Quantize"]),
    "a scale of its own": (lambda q, x: q.qdq(conv_pair(q, x), "y", 0.31, 4), ["Quantize"]),
    "MaxPool with a scale of its own": (
        lambda q, x: q.qdq(q.node("MaxPool", [conv_pair(q, x)], "p", kernel_shape=[2, 2]), "y", 0.3, -9),
        ["MaxPool2D", "Quantize"],
    ),
    "AveragePool of a padded map with a larger scale": (
        lambda q, x: q.qdq(q.node("Relu", [mean_pool(q, conv_pair(q, x), auto_pad="SAME_UPPER")], "r"), "y", 0.3, -90),
        ["AveragePool2D", "Relu"],
    ),
    "AveragePool with a scale of its own": (
        lambda q, x: q.qdq(q.node("Relu", [mean_pool(q, conv_pair(q, x))], "r"), "y", 0.06, -90),
        ["DepthwiseConv2D"],
    ),
    "mean, then Relu": (
        lambda q, x: q.qdq(q.node("Relu", [q.node("GlobalAveragePool", [conv_pair(q, x)], "p")], "r"), "y", 0.01, 0),
        ["Mean", "Relu"],
    ),
    "Relu of a flattened map": (
        lambda q, x: q.qdq(
            q.gemm(
                q.qdq(q.node("Relu", [flat(q, conv_pair(q, x), "flatten", (4, 4, 4))], "r"), "f", 0.2, -3), "d", (4, 64)
            ),
            "y",
            8.0,
            0,
        ),
        ["Relu", "FullyConnected"],
    ),
    "Relu of waiting zeros": (
        lambda q, x: q.qdq(
            q.conv(
                q.qdq(
                    clip(
                        q,
                        q.node("Pad", [conv_pair(q, x), q.constant("p", np.array([0, 0, 1, 2, 0, 0, 0, 0]))], "pad"),
                        1,
                        6,
                    ),
                    "z",
                    6 / 255,
                    -128,
                ),
                "c2",
                (2, 4, 2, 2),
            ),
            "y",
            0.5,
            0,
        ),
        ["refused"],
    ),
}


@pytest.mark.parametrize("name", BEHIND_A_PAIR)
def test_activations_and_scales_behind_a_pair(name: str) -> None:
    build, layers = BEHIND_A_PAIR[name]
    if layers == ["refused"]:
        with pytest.raises(ConvertError, match=r"clip: Clip is supported as 0\.\.6"):
            read_onnx(made(build))
        return
    assert kinds(right(made(build))) == ["Conv2D", *layers]


SCORES: dict[str, tuple[Build, list[str]]] = {
    "1/255": (lambda q, x: q.qdq(q.node("Softmax", [x], "s"), "y", 1 / 255, -128), ["Softmax", "Quantize"]),
    "symmetric": (lambda q, x: q.qdq(q.node("Softmax", [x], "s"), "y", 1 / 127, 0), ["Softmax", "Quantize"]),
    "a sigmoid": (lambda q, x: q.qdq(q.node("Sigmoid", [x], "s"), "y", 1 / 255, -128), ["Logistic", "Quantize"]),
    "a sigmoid at the end": (lambda q, x: q.node("Sigmoid", [x], "s"), ["Logistic"]),
    "a tanh": (lambda q, x: q.qdq(q.node("Tanh", [x], "s"), "y", 1 / 127, 0), ["Tanh", "Quantize"]),
    "a hard swish": (lambda q, x: q.qdq(q.node("HardSwish", [x], "s"), "y", 0.05, -100), ["HardSwish"]),
    "float": (lambda q, x: q.node("Softmax", [x], "s"), ["Softmax"]),
    "float, before 13": (lambda q, x: q.node("Softmax", [x], "s", axis=1), ["Softmax"]),
}


@pytest.mark.parametrize("name", SCORES)
def test_softmax_on_any_scale(name: str) -> None:
    build, layers = SCORES[name]
    assert kinds(right(made(build, (1, 7), 11 if "13" in name else 17))) == layers


def test_what_stands_before_a_quantizer_moves_behind_it() -> None:
    def build(q: Qdq, x: str) -> str:
        row = q.node("Flatten", [q.node("GlobalAveragePool", [conv_pair(q, x)], "pool")], "flat")
        return q.qdq(q.gemm(q.qdq(row, "row", 0.05, 1), "dense", (5, 4)), "y", 1.0, 0)

    assert kinds(right(made(build))) == ["Conv2D", "Mean", "FullyConnected"]


def bias_on(q: Qdq, scale: float, kind: type = np.int32) -> str:
    """A bias behind a DequantizeLinear of a scale that is none of the layer's."""
    values = q.constant("b", q.rng.integers(-100, 100, 4).astype(kind))
    params = [q.constant("bs", np.float32(scale)), q.constant("bz", kind(0))]
    return q.node("DequantizeLinear", [values, *params], "bias")


def fake_quant_norm(q: Qdq, x: str) -> str:
    """As quantization-aware training leaves it: the convolution divided by what its weights were scaled with."""
    y = q.node(
        "Div", [raw_conv(q, x, q.constant("zeros", np.zeros(4, np.float32))), floats(q, "f", (1, 4, 1, 1), 0.2, 2)], "d"
    )
    return q.node("Relu", [batch_norm(q, q.node("Add", [y, floats(q, "b", (1, 4, 1, 1))], "a"))], "relu")


def dense_norm(q: Qdq, x: str) -> str:
    return batch_norm(q, q.node("Gemm", [x, q.weights("w", (4, 9))[0], floats(q, "b", (4,))], "dense", transB=1))


def turned_weights(q: Qdq, x: str) -> str:
    """MatMul by weights [out, in] that a Transpose turns, with scales along the outputs."""
    turned = q.node("Transpose", [q.weights("w", (4, 9))[0]], "turn", perm=[1, 0])
    return q.node("Add", [floats(q, "b", (4,)), q.node("MatMul", [x, turned], "dense")], "biased")


def clipped_weights(q: Qdq, x: str) -> str:
    """Clip between the weights and their DequantizeLinear."""
    values = q.constant("w", q.rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8))
    bounds = [q.constant("low", np.int8(-127)), q.constant("high", np.int8(127))]
    params = [q.constant("ws", np.float32(0.01)), q.constant("wz", np.int8(0))]
    weights = q.node("DequantizeLinear", [q.node("Clip", [values, *bounds], "narrow"), *params], "wdq")
    return q.node("Conv", [x, weights, bias_on(q, 0.01 * 0.05)], "conv")


def channel_by_channel(q: Qdq, x: str) -> str:
    """Arithmetic on an activation that no layer is there to take in."""
    y = q.node("Mul", [floats(q, "f", (3, 1, 1), -2, 2), x], "scaled")
    return q.node(
        "Sub", [q.constant("one", np.float32(1)), q.node("Add", [y, floats(q, "a", (1, 3, 1, 1))], "added")], "sub"
    )


FOLDED: dict[str, tuple[Build, tuple[int, ...], list[str]]] = {
    "float bias": (lambda q, x: raw_conv(q, x, floats(q, "b", (4,))), MAP, ["Conv2D"]),
    "bias on another scale": (lambda q, x: raw_conv(q, x, bias_on(q, 0.01)), MAP, ["Conv2D"]),
    "bias of int8": (lambda q, x: raw_conv(q, x, bias_on(q, 0.03, np.int8)), MAP, ["Conv2D"]),
    "batch norm": (lambda q, x: q.node("Relu", [batch_norm(q, raw_conv(q, x), epsilon=0.1)], "r"), MAP, ["Conv2D"]),
    "batch norm behind a depthwise convolution": (
        lambda q, x: batch_norm(q, raw_conv(q, x, shape=(6, 1, 3, 3), group=3), 6),
        MAP,
        ["DepthwiseConv2D"],
    ),
    "batch norm behind a dense layer": (dense_norm, (1, 9), ["FullyConnected"]),
    "batch norm behind a pair": (lambda q, x: batch_norm(q, x, 3), MAP, ["DepthwiseConv2D"]),
    "a bias and a batch norm behind NHWC": (
        lambda q, x: q.node(
            "Add",
            [q.node("Transpose", [batch_norm(q, raw_conv(q, x))], "nhwc", perm=[0, 2, 3, 1]), floats(q, "b", (4,))],
            "add",
        ),
        MAP,
        ["Conv2D"],
    ),
    "a factor behind Squeeze": (
        lambda q, x: q.node(
            "Mul", [q.node("Squeeze", [raw_conv(q, x, shape=(4, 3, 6, 6))], "squeeze"), floats(q, "f", (4,))], "mul"
        ),
        MAP,
        ["Conv2D", "Reshape"],
    ),
    "channels that are constant": (lambda q, x: batch_norm(q, raw_conv(q, x), gamma=(0, 0)), MAP, ["Conv2D"]),
    "fake quantization with batch norm": (fake_quant_norm, MAP, ["Conv2D"]),
    "turned weights": (turned_weights, (1, 9), ["FullyConnected"]),
    "clipped weights": (clipped_weights, MAP, ["Conv2D"]),
    "arithmetic by channel": (channel_by_channel, MAP, ["DepthwiseConv2D"]),
    "a product of activations": (
        lambda q, x: q.node("Mul", [q.qdq(q.node("GlobalMaxPool", [x], "p"), "p", 0.04, 3), x], "m"),
        MAP,
        ["MaxPool2D", "Quantize", "Mul"],
    ),
}


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("name", FOLDED)
def test_constants_go_into_weights_and_bias(name: str, opset: int) -> None:
    build, shape, layers = FOLDED[name]
    graph = right(made(lambda q, x: q.qdq(build(q, x), "y", 0.11, -5), shape, opset))
    assert kinds(graph) == layers


def test_a_rounded_bias_is_said() -> None:
    assert trace_onnx(made(lambda q, x: q.qdq(raw_conv(q, x, floats(q, "b", (4,))), "y", 0.1, 0)))[2] == (
        "a bias that is not int32 at input scale x weight scale is rounded to that, as TensorFlow Lite has it",
    )
    assert trace_onnx(made(lambda q, x: conv_pair(q, x)))[2] == ()


def uneven_weights(q: Qdq, x: str, low: int, high: int, zero: int, kind: type = np.uint8) -> str:
    """A dense layer whose weights have a zero point that is not the middle."""
    values = q.rng.integers(low, high + 1, (4, 9))
    values[0, :2] = low, high
    params = [q.constant("ws", np.float32(0.01)), q.constant("wz", kind(zero))]
    weights = q.node("DequantizeLinear", [q.constant("w", values.astype(kind)), *params], "wdq")
    return q.qdq(q.node("Gemm", [x, weights], "dense", transB=1), "y", 0.2, 0)


@pytest.mark.parametrize("end", ["float", "uint8", "no zero point"])
def test_unsigned_activations_are_128_less(end: str) -> None:
    q = Qdq(MAP, seed=4)
    q.unsigned = q.unsigned_weights = True
    pool = q.node("MaxPool", [conv_pair(q, q.input(), -128)], "pool", kernel_shape=[2, 2])
    y = q.qdq(q.node("Relu", [pool], "relu"), "y", 0.2, -128)
    if end == "uint8":
        q.input_type, y = onnx.TensorProto.UINT8, "y_q"
        del q.nodes[0]
        q.nodes[0].input[0] = "x"
    elif end == "no zero point":
        for node in q.nodes:
            if node.name.startswith("y_"):
                del node.input[2]
    graph = right(q.file(y))
    assert kinds(graph) == ["Conv2D", "MaxPool2D"] and graph.tensors[graph.output].quant.zero_point == -128
    said = trace_onnx(q.file(y))[2]
    assert [text.split(" is uint8 in the file, int8 here: 128 less")[0] for text in said] == (
        ["the input", "the output"] if end == "uint8" else []
    )


@pytest.mark.parametrize(("low", "high", "zero"), [(1, 128, 60), (0, 127, 127), (128, 255, 128), (30, 250, 129)])
def test_weights_that_fit_without_their_zero_point_are_right(low: int, high: int, zero: int) -> None:
    assert kinds(right(made(lambda q, x: uneven_weights(q, x, low, high, zero), (1, 9)))) == ["FullyConnected"]
    assert kinds(right(made(lambda q, x: uneven_weights(q, x, -100, 20, 7, np.int8), (1, 9)))) == ["FullyConnected"]


def channel_pair(
    q: Qdq, y: str, scales: tuple[float, ...] = (0.2, 0.05, 0.11, 0.3), zeros: tuple[int, ...] = (-128,) * 4
) -> str:
    """A Q/DQ pair with a scale for each of four channels."""
    params = [q.constant("cs", np.array(scales, np.float32)), q.constant("cz", np.array(zeros, np.int8))]
    numbers = q.node("QuantizeLinear", [y, *params], "cq", axis=1)
    return q.node("DequantizeLinear", [numbers, *params], "cdq", axis=1)


def depthwise(q: Qdq, y: str, multiplier: int = 2) -> str:
    weights, _ = q.weights("dw", (4 * multiplier, 1, 2, 2))
    return q.node("Conv", [y, weights, floats(q, "db", (4 * multiplier,))], "depthwise", group=4, pads=[1, 0, 0, 1])


@pytest.mark.parametrize("activation", ["", "Relu", "Clip"])
def test_a_scale_for_each_channel_before_a_depthwise_convolution(activation: str) -> None:
    def build(q: Qdq, x: str) -> str:
        y = q.conv(x, "conv", (4, 3, 3, 3))
        if activation:
            y = clip(q, y, 0, 12) if activation == "Clip" else q.node("Relu", [y], "relu")
        scales = (0.04, 0.02, 0.03, 0.047) if activation == "Clip" else (0.2, 0.05, 0.11, 0.3)
        pair = channel_pair(q, y, scales, (-128,) * 4 if activation else (7,) * 4)
        return q.qdq(depthwise(q, pair), "y", 0.06, 3)

    graph = right(made(build))
    assert kinds(graph) == ["Conv2D", "Pad", "DepthwiseConv2D"]
    assert len(graph.layers[2].weights.quant.scales) == 8  # type: ignore[union-attr]


NEIGHBOURS: dict[str, tuple[Build, str]] = {
    "Clip to other bounds": (
        lambda q, x: q.qdq(clip(q, conv_pair(q, x), 0, 3), "y", 0.1, -128),
        r"clip: Clip is supported as 0\.\.6, as 0 and above, or to bounds that the output's grid .* ends at, got",
    ),
    "Clip of one value": (lambda q, x: q.qdq(clip(q, x, 3, 3), "y", 0.1, 0), "lower bound of a Clip must lie below"),
    "a pool that rounds first": (
        lambda q, x: q.qdq(q.node("AveragePool", [x], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "y", 0.02, 0),
        r"p: AVERAGE_POOL_2D rounds to steps of \(0.0500000007, 3\), which are too coarse for .* let that be 0.0333333",
    ),
    "scores in steps that are too fine": (
        lambda q, x: q.qdq(q.node("Softmax", [x], "s"), "y", 0.002, -128),
        r"s: SOFTMAX rounds to steps of \(0.00390625, -128\), which are too coarse for the output scale \(0.002",
    ),
    "a float layer at the end": (lambda q, x: q.conv(x, "last", (2, 3, 2, 2)), "last_y: the output must come from"),
    "weights about a zero point": (
        lambda q, x: uneven_weights(q, q.node("Flatten", [q.node("GlobalMaxPool", [x], "p")], "f"), 0, 255, 120),
        "dense: int8 weights need zero point 0, got -8, without which they are -120 to 135; export symmetric weights",
    ),
    "a Clip of weights to numbers of another type": (
        lambda q, x: q.qdq(
            q.node("Clip", [q.constant("w", np.zeros((4, 3), np.uint8)), q.constant("l", np.int8(-127))], "clip"), "y"
        ),
        "clip: clips a constant to bounds of another type",
    ),
    "a bias that int32 cannot hold": (
        lambda q, x: q.qdq(raw_conv(q, x, q.constant("b", np.full(4, 3e7, np.float32))), "y", 0.1, 0),
        "conv: bias 30000000 of channel 0 is beyond int32 in steps of input scale x weight scale",
    ),
    "a bias that is no number": (
        lambda q, x: q.qdq(raw_conv(q, x, q.constant("b", np.full(4, np.nan, np.float32))), "y", 0.1, 0),
        "conv: bias nan of channel 0",
    ),
    "a bias of another length": (
        lambda q, x: q.qdq(raw_conv(q, x, floats(q, "b", (1,))), "y", 0.1, 0),
        "conv: its bias must be 4 values in a row",
    ),
    "batch norm behind Relu": (
        lambda q, x: q.qdq(batch_norm(q, q.node("Relu", [raw_conv(q, x)], "relu")), "y", 0.1, 0),
        "bn: stands behind an activation",
    ),
    "a factor behind a mixed shape": (
        lambda q, x: q.qdq(
            q.node("Mul", [q.node("Flatten", [raw_conv(q, x)], "flat"), floats(q, "f", (64,))], "m"), "y", 0.1, 0
        ),
        "m: stands behind a shape in which the channels of conv lie with others",
    ),
    "a scale for each channel before another layer": (
        lambda q, x: q.qdq(
            q.node("Conv", [channel_pair(q, raw_conv(q, x)), q.weights("v", (4, 4, 2, 2))[0]], "next"), "y", 0.1, 0
        ),
        "next: reads an input with a scale for each channel, which only a depthwise convolution may",
    ),
    "a scale for each channel before a pool": (
        lambda q, x: q.qdq(q.node("MaxPool", [channel_pair(q, raw_conv(q, x))], "p", kernel_shape=[2, 2]), "y", 0.1, 0),
        "p: reads cdq_y, which has a scale for each channel",
    ),
    "a scale for each channel at the end": (
        lambda q, x: channel_pair(q, raw_conv(q, x)),
        "cdq_y: the output must come from a QuantizeLinear/DequantizeLinear pair of one scale",
    ),
    "a zero point for each channel": (
        lambda q, x: q.qdq(depthwise(q, channel_pair(q, raw_conv(q, x), zeros=(0, 1, 0, 0))), "y", 0.1, 0),
        "cq: an activation has one scale, got 4; one for each channel may stand behind a convolution",
    ),
    "a scale for each channel and a Clip within": (
        lambda q, x: q.qdq(depthwise(q, channel_pair(q, clip(q, raw_conv(q, x), 0, 12))), "y", 0.1, 0),
        r"cq: Clip to \(0.0, 12.0\) differs from channel to channel",
    ),
    "batch norm in training": (
        lambda q, x: q.qdq(batch_norm(q, raw_conv(q, x), training_mode=1), "y", 0.1, 0),
        "bn: is in training mode",
    ),
    "batch norm of negative variance": (
        lambda q, x: q.qdq(batch_norm(q, raw_conv(q, x), epsilon=-3.0), "y", 0.1, 0),
        "bn: needs four finite lists, one value per channel, and variances of 0 or more",
    ),
    "a factor that differs from pixel to pixel": (
        lambda q, x: q.qdq(q.node("Mul", [raw_conv(q, x), floats(q, "f", (4, 4))], "m"), "y", 0.1, 0),
        "m: Mul by a constant of shape .* is supported as one value, or one per channel",
    ),
    "a division by an activation": (
        lambda q, x: q.qdq(q.node("Div", [floats(q, "f", (1,)), x], "d"), "y", 0.1, 0),
        "d: Div of a constant and an activation is not supported",
    ),
    "a division by 0": (
        lambda q, x: q.qdq(q.node("Div", [raw_conv(q, x), q.constant("f", np.float32(0))], "d"), "y", 0.1, 0),
        "d: divides by 0",
    ),
    "a factor too small for float32": (
        lambda q, x: q.qdq(q.node("Mul", [raw_conv(q, x), q.constant("f", np.float32(1e-37))], "m"), "y", 0.1, 0),
        "m: makes a weight scale that no float32 holds",
    ),
    "Relu of int8 numbers": (
        lambda q, x: q.qdq(q.node("Relu", ["x_q"], "r"), "y", 0.1, 0),
        "r: computes with the int8 numbers of x_q, not with the real values that they stand for",
    ),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_that_cannot_be_right_are_refused(name: str) -> None:
    build, sentence = NEIGHBOURS[name]
    with pytest.raises(ConvertError, match=sentence) as error:
        read_onnx(made(build))
    assert "\n" not in str(error.value)
