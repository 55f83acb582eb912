"""The numpy int8 run of a Graph: what every engine of this project must equal, bit for bit.

Each kernel follows TensorFlow Lite Micro's reference kernel of the same name. All sums are exact: a product of an int8
weight and an input minus its zero point is at most 2**15, so float32 holds sums of up to 512 of them and float64 all
others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converter import quant
from converter.graph import (
    Activation,
    Add,
    AveragePool2D,
    Conv2D,
    ConvertError,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    Int8,
    Int32,
    Layer,
    MaxPool2D,
    Pad,
    Padding,
    QuantParams,
    Reshape,
    Softmax,
    assert_never,
    layer_inputs,
    output_size,
    pad_before,
)

Int = NDArray[np.int64]
FLOAT32_EXACT_TERMS = 512
CHUNK = 16  # small enough for the caches


def run(graph: Graph, x_int8: Int8) -> list[Int8]:
    """All tensors of one inference, in the graph's numbering; x has the input tensor's shape."""
    return [
        tensor[0:1].reshape(info.shape)
        for tensor, info in zip(_run_all(graph, _batch(graph, x_int8)), graph.tensors, strict=True)
    ]


def run_batch(graph: Graph, x_int8: Int8) -> Int8:
    """The output tensor for n inputs stacked along axis 0: [n, *output shape without its 1]."""
    batch = _batch(graph, x_int8)
    return np.concatenate(
        [_run_all(graph, batch[start : start + CHUNK])[graph.output] for start in range(0, len(batch), CHUNK)]
    )


def run_batch_all(graph: Graph, x_int8: Int8) -> list[Int8]:
    """Every tensor for n inputs stacked along axis 0; for comparing layer by layer."""
    batch = _batch(graph, x_int8)
    parts = [_run_all(graph, batch[start : start + CHUNK]) for start in range(0, len(batch), CHUNK)]
    return [np.concatenate(tensors) for tensors in zip(*parts, strict=True)]


def _batch(graph: Graph, x_int8: Int8) -> Int8:
    info = graph.tensors[graph.input]
    if x_int8.dtype != np.int8 or x_int8.size == 0 or x_int8.size % info.size:
        raise ConvertError(
            f"{info.name}: the input is int8 of shape {info.shape}, or several stacked, got {x_int8.dtype} "
            f"{x_int8.shape}"
        )
    return x_int8.reshape(-1, *info.shape[1:])


def _run_all(graph: Graph, batch: Int8) -> list[Int8]:
    tensors: list[Int8] = [np.empty(0, np.int8)] * len(graph.tensors)
    tensors[graph.input] = batch
    for layer in graph.layers:
        inputs = [tensors[index] for index in layer_inputs(layer)]
        tensors[layer.output] = _run_layer(graph, layer, inputs).reshape(
            len(batch), *graph.tensors[layer.output].shape[1:]
        )
    return tensors


def run_layer(graph: Graph, layer: Layer, inputs: list[Int8]) -> Int8:
    """One layer alone on its operands (each with the tensor's shape); for tests of single kernels."""
    return _run_layer(graph, layer, inputs).reshape(graph.tensors[layer.output].shape)


def run_layer_batch(graph: Graph, layer: Layer, inputs: list[Int8]) -> Int8:
    """The same for operands of n inferences stacked along axis 0."""
    return _run_layer(graph, layer, inputs).reshape(len(inputs[0]), *graph.tensors[layer.output].shape[1:])


def _run_layer(graph: Graph, layer: Layer, inputs: list[Int8]) -> Int8:
    x = inputs[0]
    x_quant, y_quant = graph.tensors[layer.input].quant, graph.tensors[layer.output].quant
    match layer:
        case Conv2D():
            return conv_from_sums(graph, layer, conv_sums(graph, layer, x))
        case DepthwiseConv2D():
            return _depthwise(layer, x, x_quant, y_quant)
        case FullyConnected():
            return _fully_connected(layer, x, x_quant, y_quant)
        case AveragePool2D():
            return _average_pool(layer, x, y_quant)
        case MaxPool2D():
            windows = _windows(x.astype(np.int32), layer.window_hw, layer.stride_hw, layer.padding, -128)
            return _clamp(windows.max(axis=(3, 4)).astype(np.int64), layer.activation, y_quant)
        case Add():
            return _add(layer, x, inputs[1], x_quant, graph.tensors[layer.input2].quant, y_quant)
        case Reshape():
            return x
        case Softmax():
            return _softmax(x, x_quant, layer.beta)
        case Pad():
            return np.pad(x, ((0, 0), *layer.pads[1:]), constant_values=y_quant.zero_point)
        case _:
            assert_never(layer)


def _exact_matmul(x: Int32, weights: Int8) -> Int:
    kind = np.float32 if x.shape[-1] <= FLOAT32_EXACT_TERMS else np.float64
    product: Int = (x.astype(kind) @ weights.astype(kind)).astype(np.int64)
    return product


def _requantize(sums: Int, multipliers: tuple[Int, Int], activation: Activation, y_quant: QuantParams) -> Int8:
    scaled = quant.multiply_by_quantized_multiplier(sums, *multipliers)
    return _clamp(scaled + y_quant.zero_point, activation, y_quant)


def _clamp(values: Int, activation: Activation, y_quant: QuantParams) -> Int8:
    return np.clip(values, *quant.activation_range(activation, y_quant)).astype(np.int8)


def _windows(x: Int32, window_hw: tuple[int, int], stride_hw: tuple[int, int], padding: Padding, fill: int) -> Int32:
    """A view [n, out_h, out_w, window_h, window_w, channels] of x, padded with `fill` as TFLite's SAME does."""
    pads = []
    for size, window, stride in zip(x.shape[1:3], window_hw, stride_hw, strict=True):
        before = pad_before(size, window, stride, padding)
        reach = (output_size(size, window, stride, padding) - 1) * stride + window
        pads.append((before, max(0, reach - size - before)))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    rows = np.lib.stride_tricks.sliding_window_view(padded, window_hw[0], axis=1)
    view = np.lib.stride_tricks.sliding_window_view(rows, window_hw[1], axis=2)  # [n, h, w, c, kh, kw]
    outputs = [
        output_size(size, window, stride, padding)
        for size, window, stride in zip(x.shape[1:3], window_hw, stride_hw, strict=True)
    ]
    strided: Int32 = view[:, :: stride_hw[0], :: stride_hw[1]][:, : outputs[0], : outputs[1]].transpose(
        0, 1, 2, 4, 5, 3
    )
    return strided


def _fully_connected(layer: FullyConnected, x: Int8, x_quant: QuantParams, y_quant: QuantParams) -> Int8:
    sums = (
        _exact_matmul(x.reshape(len(x), -1).astype(np.int32) - np.int32(x_quant.zero_point), layer.weights_oi.T)
        + layer.bias
    )
    multipliers = quant.fully_connected_multipliers(x_quant, layer.weight_quant, y_quant, layer.weights_oi.shape[0])
    return _requantize(sums, multipliers, layer.activation, y_quant)


def conv_sums(graph: Graph, layer: Conv2D, x: Int8) -> Int:
    """A convolution's sums before its bias: [n, out_h, out_w, channels]."""
    channels, height, width, _ = layer.weights_ohwi.shape
    centred = x.astype(np.int32) - np.int32(graph.tensors[layer.input].quant.zero_point)
    windows = _windows(centred, (height, width), layer.stride_hw, layer.padding, 0)
    columns = windows.reshape(*windows.shape[:3], -1)
    return _exact_matmul(columns, layer.weights_ohwi.reshape(channels, -1).T)


def conv_from_sums(graph: Graph, layer: Conv2D, sums: Int) -> Int8:
    """Its outputs."""
    x_quant, y_quant = graph.tensors[layer.input].quant, graph.tensors[layer.output].quant
    multipliers = quant.conv_multipliers(x_quant, layer.weight_quant, y_quant, sums.shape[-1])
    return _requantize(sums + layer.bias, multipliers, layer.activation, y_quant)


def _depthwise(layer: DepthwiseConv2D, x: Int8, x_quant: QuantParams, y_quant: QuantParams) -> Int8:
    _, height, width, channels = layer.weights_1hwc.shape
    spread = np.repeat(x.astype(np.int32) - x_quant.zero_point, layer.depth_multiplier, axis=3)
    windows = _windows(spread, (height, width), layer.stride_hw, layer.padding, 0)
    weights = layer.weights_1hwc[0].astype(np.int32)
    sums = np.zeros((*windows.shape[:3], channels), np.int32)
    for row in range(height):
        for column in range(width):
            sums += windows[:, :, :, row, column] * weights[row, column]
    wide = sums.astype(np.int64) + layer.bias
    return _requantize(
        wide, quant.conv_multipliers(x_quant, layer.weight_quant, y_quant, channels), layer.activation, y_quant
    )


def _average_pool(layer: AveragePool2D, x: Int8, y_quant: QuantParams) -> Int8:
    ones = np.ones((1, *x.shape[1:3], 1), np.int32)
    sums, counts = (
        _windows(values, layer.window_hw, layer.stride_hw, layer.padding, 0).sum(axis=(3, 4), dtype=np.int64)
        for values in (x.astype(np.int32), ones)
    )
    magnitude = (np.abs(sums) + counts // 2) // counts  # C's division truncates toward zero, so halves go away from it
    return _clamp(np.where(sums > 0, magnitude, -magnitude), layer.activation, y_quant)


def _add(layer: Add, x: Int8, x2: Int8, x_quant: QuantParams, x2_quant: QuantParams, y_quant: QuantParams) -> Int8:
    first, second, out = quant.add_multipliers(x_quant, x2_quant, y_quant)
    scaled = [
        quant.multiply_by_quantized_multiplier(
            (values.astype(np.int64) - params.zero_point) << quant.ADD_LEFT_SHIFT, *multiplier
        )
        for values, params, multiplier in ((x, x_quant, first), (x2, x2_quant, second))
    ]
    total = quant.multiply_by_quantized_multiplier(scaled[0] + scaled[1], *out)
    return _clamp(total + y_quant.zero_point, layer.activation, y_quant)


def _softmax(x: Int8, x_quant: QuantParams, beta: float) -> Int8:
    mantissa, left_shift, diff_min = quant.softmax_multiplier(x_quant, beta)
    difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    counted = difference >= diff_min
    rescaled = quant.high_mul(np.where(counted, difference, 0) << left_shift, mantissa)
    powers = np.where(counted, quant.exp_of_negative(rescaled), 0)
    total = quant.rounding_shift(powers, 12).sum(axis=-1, keepdims=True)  # Q12.19
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)  # position of the leading one
    reciprocal = quant.one_over_one_plus((total << (32 - bits)) - (1 << 31))
    shares = quant.rounding_shift(quant.high_mul(reciprocal, powers), (bits - 20) + 31 - 8)
    return np.where(counted, np.clip(shares - 128, -128, 127), -128).astype(np.int8)
