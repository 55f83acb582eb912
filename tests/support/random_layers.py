"""Seeded random int8 layers, written as one-layer Graphs: what every engine of this project is tried on.

random_graph(i) is the same Graph for ever; random_inputs(graph, i) gives its inputs. Kernel 1-11, stride 1-3, SAME and
VALID, 1-65 channels, zero points and scales up to the limits of converter/check.py, no activation / RELU / RELU6, per
tensor and per channel. Left out, because TensorFlow Lite Micro aborts or overflows int32 there: requantization factors
above 2**16, sums that may leave int32, an ADD whose output scale is 2**19 times smaller than its inputs', softmax input
scales below 2**-26, softmax over more than 511 classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from converter.arrays import Int8, Int32
from converter.check import check
from converter.errors import ConvertError
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.pad import Pad
from converter.operators.softmax import Softmax
from converter.operators.windows import Padding, output_size
from converter.quant import Activation
from converter.tensor import QuantParams, Tensor

LAYERS = 600
MAX_MACS = 300_000
Rng = np.random.Generator


def random_graph(index: int) -> Graph:
    """Layer number `index`; every ten consecutive numbers cover all kinds."""
    make = _MAKERS[index % len(_MAKERS)]
    for attempt in range(100):
        rng = np.random.default_rng([20241120, index, attempt])
        try:
            return check(make(rng))
        except ConvertError:  # a draw beyond the limits named above
            continue
    raise AssertionError(f"layer {index}: no draw in 100 keeps the rules")


def random_inputs(graph: Graph, index: int, count: int = 3) -> Int8:
    """[count, *input shape without its 1]: noise, then noise of extremes only, then -128 everywhere, then noise
    again."""
    rng = np.random.default_rng([20241121, index])
    shape = graph.tensors[graph.input].shape[1:]
    rows = []
    for number in range(count):
        noise = rng.integers(-128, 128, shape)
        rows.append(
            noise if number not in (1, 2) else np.where(noise < 0, -128, 127) if number == 1 else np.full(shape, -128)
        )
    stacked: Int8 = np.stack(rows).astype(np.int8)
    return stacked


def _pick(rng: Rng, *choices: int) -> int:
    return int(choices[rng.integers(len(choices))])


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.float32(np.exp(rng.uniform(np.log(low), np.log(high)))))


def _zero_point(rng: Rng) -> int:
    wide, near = rng.integers(-128, 128, 2).tolist(), rng.integers(-60, 60, 4).tolist()
    return _pick(rng, -128, -128, 127, 0, *wide, *near)


def _quant(rng: Rng) -> QuantParams:
    scale = _log_uniform(rng, 0.002, 0.5) if rng.random() < 0.6 else _log_uniform(rng, 1e-6, 100.0)
    return QuantParams((scale,), (_zero_point(rng),))


def _activation(rng: Rng) -> Activation:
    choices: tuple[Activation, ...] = ("NONE", "RELU", "RELU6")
    return choices[int(rng.integers(3))]


def _padding(rng: Rng) -> Padding:
    return "SAME" if rng.random() < 0.5 else "VALID"


def _channels(rng: Rng) -> int:
    return _pick(rng, 1, 2, 3, 4, 8, 16, 64, 65, int(rng.integers(1, 66)), int(rng.integers(1, 66)))


def _sizes(rng: Rng, window_hw: tuple[int, int], padding: Padding) -> tuple[int, int]:
    low = window_hw if padding == "VALID" else (1, 1)
    return int(low[0] + rng.integers(0, 13)), int(low[1] + rng.integers(0, 13))


def _weight_values(rng: Rng, shape: tuple[int, ...]) -> Int8:
    if rng.random() < 0.1:
        return np.array([-128, -127, 127], np.int8).take(rng.integers(0, 3, shape))
    return np.asarray(rng.integers(-127, 128, shape), np.int8)


def _weight_quant(rng: Rng, channels: int, axis: int) -> QuantParams:
    base = _log_uniform(rng, 1e-4, 0.05) if rng.random() < 0.6 else _log_uniform(rng, 1e-6, 1.0)
    if channels == 1 or rng.random() < 0.4:
        return QuantParams((base,), (0,))
    scales = tuple(float(np.float32(base * _log_uniform(rng, 1e-3, 1.0))) for _ in range(channels))
    return QuantParams(scales, (0,) * channels, axis)


def _output_quant(rng: Rng, x: QuantParams, weights: QuantParams, terms: int) -> QuantParams:
    """Mostly a scale that spreads the sums over int8; sometimes far too wide or far too narrow."""
    spread = x.scale * max(weights.scales) * 74.0 * 127.0 * max(terms, 1) ** 0.5
    stretch = _log_uniform(rng, 0.2, 5.0) if rng.random() < 0.8 else _log_uniform(rng, 1e-5, 1e9)
    scale = min(max(spread / 60.0 * stretch, 1e-7, x.scale * max(weights.scales) / 2**16), 1e30)
    return QuantParams((float(np.float32(scale)),), (_zero_point(rng),))


def _bias(rng: Rng, channels: int, terms: int) -> Int32:
    reach = _pick(rng, 0, 100, int(9000 * max(terms, 1) ** 0.5), 1 << 24)
    return np.asarray(rng.integers(-reach, reach + 1, channels), np.int32)


def _one_layer(x: Tensor, y: Tensor, layer: Operator) -> Graph:
    return Graph((x, y), (layer,), 0, 1)


def _conv(rng: Rng) -> Graph:
    window_hw, padding = (int(rng.integers(1, 12)), int(rng.integers(1, 12))), _padding(rng)
    stride_hw = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    if rng.random() < 0.25:
        window_hw = (1, 1)
    height, width = _sizes(rng, window_hw, padding)
    depth, channels = _channels(rng), _channels(rng)
    out_hw = [output_size(n, k, s, padding) for n, k, s in zip((height, width), window_hw, stride_hw, strict=True)]
    terms = window_hw[0] * window_hw[1] * depth
    if terms * channels * out_hw[0] * out_hw[1] > MAX_MACS:
        raise ConvertError("too much work for a test")
    x_quant, weight_quant = _quant(rng), _weight_quant(rng, channels, 0)
    y_quant = _output_quant(rng, x_quant, weight_quant, terms)
    layer = Conv2D(
        "conv",
        0,
        1,
        _weight_values(rng, (channels, *window_hw, depth)),
        weight_quant,
        _bias(rng, channels, terms),
        stride_hw,
        padding,
        _activation(rng),
    )
    return _one_layer(
        Tensor("x", (1, height, width, depth), x_quant), Tensor("y", (1, *out_hw, channels), y_quant), layer
    )


def _depthwise(rng: Rng) -> Graph:
    window_hw, padding = (int(rng.integers(1, 12)), int(rng.integers(1, 12))), _padding(rng)
    stride_hw = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    height, width = _sizes(rng, window_hw, padding)
    depth, multiplier = _channels(rng), _pick(rng, 1, 1, 1, 1, 2, 3, 8)
    channels = depth * multiplier
    out_hw = [output_size(n, k, s, padding) for n, k, s in zip((height, width), window_hw, stride_hw, strict=True)]
    terms = window_hw[0] * window_hw[1]
    if terms * channels * out_hw[0] * out_hw[1] > MAX_MACS:
        raise ConvertError("too much work for a test")
    x_quant, weight_quant = _quant(rng), _weight_quant(rng, channels, 3)
    y_quant = _output_quant(rng, x_quant, weight_quant, terms)
    layer = DepthwiseConv2D(
        "depthwise",
        0,
        1,
        _weight_values(rng, (1, *window_hw, channels)),
        weight_quant,
        _bias(rng, channels, terms),
        multiplier,
        stride_hw,
        padding,
        _activation(rng),
    )
    return _one_layer(
        Tensor("x", (1, height, width, depth), x_quant), Tensor("y", (1, *out_hw, channels), y_quant), layer
    )


def _fully_connected(rng: Rng) -> Graph:
    depth = _pick(rng, *(int(rng.integers(1, 70)) for _ in range(3)), int(rng.integers(70, 4097)))
    channels = min(_channels(rng), max(1, MAX_MACS // depth))
    x_quant, weight_quant = _quant(rng), _weight_quant(rng, channels, 0)
    y_quant = _output_quant(rng, x_quant, weight_quant, depth)
    weights, bias = _weight_values(rng, (channels, depth)), _bias(rng, channels, depth)
    layer = FullyConnected("dense", 0, 1, weights, weight_quant, bias, _activation(rng))
    return _one_layer(Tensor("x", (1, depth), x_quant), Tensor("y", (1, channels), y_quant), layer)


def _pool(rng: Rng, kind: type[AveragePool2D] | type[MaxPool2D]) -> Graph:
    window_hw, padding = (int(rng.integers(1, 12)), int(rng.integers(1, 12))), _padding(rng)
    stride_hw = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    height, width = _sizes(rng, window_hw, padding)
    quant, depth = _quant(rng), _channels(rng)
    out_hw = [output_size(n, k, s, padding) for n, k, s in zip((height, width), window_hw, stride_hw, strict=True)]
    layer = kind("pool", 0, 1, window_hw, stride_hw, padding, _activation(rng))
    return _one_layer(Tensor("x", (1, height, width, depth), quant), Tensor("y", (1, *out_hw, depth), quant), layer)


def _add(rng: Rng) -> Graph:
    """ADD of the input and of the input requantized by a 1x1 depthwise convolution, so that its operands differ."""
    shape = (1, int(rng.integers(1, 9)), int(rng.integers(1, 9)), _channels(rng))
    x = Tensor("x", shape, _quant(rng))
    ratio = _log_uniform(rng, 0.1, 10.0) if rng.random() < 0.7 else _log_uniform(rng, 1e-4, 1e4)
    second = QuantParams((float(np.float32(x.quant.scale * ratio)),), (_zero_point(rng),))
    widest = max(x.quant.scale, second.scale)
    stretch = _log_uniform(rng, 0.3, 3.0) if rng.random() < 0.7 else _log_uniform(rng, 1e-6, 1e3)
    sum_quant = QuantParams((float(np.float32(widest * stretch)),), (_zero_point(rng),))
    weight_quant = QuantParams((float(np.float32(second.scale / x.quant.scale * _log_uniform(rng, 1e-3, 1.0))),), (0,))
    side = DepthwiseConv2D(
        "side",
        0,
        1,
        _weight_values(rng, (1, 1, 1, shape[3])),
        weight_quant,
        np.zeros(shape[3], np.int32),
        1,
        (1, 1),
        "SAME",
        "NONE",
    )
    operands = (0, 1) if rng.random() < 0.5 else (1, 0)
    tensors = (x, Tensor("side_y", shape, second), Tensor("y", shape, sum_quant))
    return Graph(tensors, (side, Add("add", *operands, 2, _activation(rng))), 0, 2)


def _softmax(rng: Rng) -> Graph:
    depth = _pick(rng, 1, 2, 3, 4, 12, 65, int(rng.integers(1, 300)), 511)
    shape = (
        (1, depth)
        if depth > 300 or rng.random() < 0.5
        else (1, int(rng.integers(1, 5)), int(rng.integers(1, 5)), depth)
    )
    scale = _log_uniform(rng, 0.005, 0.5) if rng.random() < 0.6 else _log_uniform(rng, 2.0**-24, 1e4)
    beta = 1.0 if rng.random() < 0.7 else _log_uniform(rng, 0.5, 4.0)
    x = Tensor("x", shape, QuantParams((scale,), (_zero_point(rng),)))
    return _one_layer(x, Tensor("y", shape, QuantParams((1 / 256,), (-128,))), Softmax("softmax", 0, 1, beta))


def _pad(rng: Rng) -> Graph:
    rank = int(rng.integers(2, 5))
    shape = (1, *(int(rng.integers(1, 12)) for _ in range(rank - 1)))
    pads = ((0, 0), *((int(rng.integers(0, 6)), int(rng.integers(0, 6))) for _ in range(rank - 1)))
    padded = tuple(size + before + after for size, (before, after) in zip(shape, pads, strict=True))
    quant = _quant(rng)
    return _one_layer(Tensor("x", shape, quant), Tensor("y", padded, quant), Pad("pad", 0, 1, pads))


_MAKERS: tuple[Callable[[Rng], Graph], ...] = (
    _conv,
    _depthwise,
    _fully_connected,
    _conv,
    lambda rng: _pool(rng, AveragePool2D),
    _depthwise,
    _add,
    _softmax,
    lambda rng: _pool(rng, MaxPool2D),
    _pad,
)
