"""The rules a Graph must keep; after check() every consumer may trust shapes, scales and the absence of int32 overflow.

Each limit is one of TensorFlow Lite Micro's own (it aborts or computes garbage beyond), so nothing it runs well is
refused.
"""

from __future__ import annotations

import math
from typing import Union

import numpy as np
from numpy.typing import NDArray

from converter import quant
from converter.graph import (
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
    QuantParams,
    Reshape,
    Softmax,
    Tensor,
    assert_never,
    layer_inputs,
    output_size,
)
from converter.spec import KwsSpec, SpecError

MAX_ELEMENTS = 1 << 24
INT32_MAX = (1 << 31) - 1
POOL_SCALE_TOLERANCE = 1e-6

Windowed = Union[Conv2D, DepthwiseConv2D, AveragePool2D, MaxPool2D]


def check(graph: Graph) -> Graph:
    """The same graph; raises ConvertError naming the first tensor or layer that breaks a rule."""
    for tensor in graph.tensors:
        check_tensor(tensor)
    ready = {graph.input}
    for layer in graph.layers:
        for index in layer_inputs(layer):
            _require(index in ready, layer.name, "reads a tensor that no earlier layer wrote; order the layers")
        _require(layer.output not in ready, layer.name, "writes a tensor that is written already; give it its own")
        ready.add(layer.output)
        _check_layer(graph, layer)
    _require(graph.output in ready and graph.output != graph.input, "output", "no layer writes the graph's output")
    _require(len(ready) == len(graph.tensors), "graph", "there are tensors that no layer writes")
    return graph


def check_spec(graph: Graph) -> Graph:
    """The same graph; raises ConvertError when its spec_json does not describe its input and output."""
    if not graph.spec_json:
        return graph
    try:
        spec = KwsSpec.from_json(graph.spec_json)
    except SpecError as error:
        raise ConvertError(f"metadata kws_spec: {error}") from None
    x, y = graph.tensors[graph.input], graph.tensors[graph.output]
    features = spec.features
    fits = x.size == features.frames * features.channels
    _require(
        fits, x.name, f"the spec has {features.frames} x {features.channels} features, the model's input is {x.shape}"
    )
    same = x.quant.scale == float(np.float32(features.scale)) and x.quant.zero_point == features.zero_point
    _require(
        same,
        x.name,
        f"the spec's features are ({features.scale:.9g}, {features.zero_point}), the model's input {_pair(x.quant)}",
    )
    _require(y.size == len(spec.labels), y.name, f"the spec has {len(spec.labels)} labels, the model {y.size} outputs")
    return graph


def _require(holds: bool, where: str, rule: str) -> None:
    if not holds:
        raise ConvertError(f"{where}: {rule}")


def check_tensor(tensor: Tensor) -> None:
    """Raises ConvertError unless the shape is fixed, of batch 1 and not too large, with one good scale."""
    shape = tensor.shape
    sane = (
        1 <= len(shape) <= 5 and all(1 <= size <= MAX_ELEMENTS for size in shape) and math.prod(shape) <= MAX_ELEMENTS
    )
    _require(
        sane, tensor.name, f"an activation has 1 to 5 fixed dimensions and at most {MAX_ELEMENTS} elements, got {shape}"
    )
    _require(shape[0] == 1, tensor.name, f"the batch is 1, got shape {shape}; export the model for one input")
    _require(
        len(tensor.quant.scales) == 1, tensor.name, "an activation has one scale; per-channel scales are for weights"
    )
    check_quant(tensor.name, tensor.quant, channels=1)


def check_quant(name: str, params: QuantParams, channels: int) -> None:
    """Scales are positive float32 values, zero points int8; as many as channels, or one."""
    count = len(params.scales)
    fits = count in (1, channels) and len(params.zero_points) == count
    _require(
        fits, name, f"needs 1 or {channels} scales and as many zero points, got {count} and {len(params.zero_points)}"
    )
    for scale, zero_point in zip(params.scales, params.zero_points, strict=True):
        good = math.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale
        _require(good, name, f"a scale is a positive float32, got {scale}")
        _require(-128 <= zero_point <= 127, name, f"a zero point lies in -128..127, got {zero_point}")


def _check_layer(graph: Graph, layer: Layer) -> None:
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    if not isinstance(layer, (Reshape, Softmax, Pad)) and layer.activation == "RELU6":
        _require(
            6.0 / y.quant.scale < 1 << 30,
            layer.name,
            f"6 / output scale must stay below 2**30, the scale is {y.quant.scale}",
        )
    match layer:
        case Conv2D():
            _check_conv(layer, x, y)
        case DepthwiseConv2D():
            _check_depthwise(layer, x, y)
        case FullyConnected():
            _check_fully_connected(layer, x, y)
        case AveragePool2D() | MaxPool2D():
            _check_windows(layer, x, y, layer.window_hw, x.shape[-1])
            _check_same_quant(layer.name, x, y, POOL_SCALE_TOLERANCE)
        case Add():
            _check_add(layer, x, graph.tensors[layer.input2], y)
        case Reshape():
            _require(x.size == y.size, layer.name, f"a reshape keeps the element count, got {x.shape} to {y.shape}")
        case Softmax():
            _check_softmax(layer, x, y)
        case Pad():
            _check_pad(layer, x, y)
        case _:
            assert_never(layer)


def _check_windows(layer: Windowed, x: Tensor, y: Tensor, window_hw: tuple[int, int], channels: int) -> None:
    _require(len(x.shape) == 4, layer.name, f"the input is [1, height, width, channels], got {x.shape}")
    positive = all(1 <= value <= 4096 for value in (*window_hw, *layer.stride_hw))
    _require(positive, layer.name, f"window and stride lie in 1..4096, got {window_hw} and {layer.stride_hw}")
    _require(layer.padding in ("SAME", "VALID"), layer.name, f"padding is SAME or VALID, got {layer.padding}")
    sizes = [
        output_size(n, k, s, layer.padding) for n, k, s in zip(x.shape[1:3], window_hw, layer.stride_hw, strict=True)
    ]
    _require(
        min(sizes) >= 1, layer.name, f"the window {window_hw} is larger than its input {x.shape} under VALID padding"
    )
    expected = (1, *sizes, channels)
    _require(y.shape == expected, layer.name, f"the output shape must be {expected}, got {y.shape}")


def _check_conv(layer: Conv2D, x: Tensor, y: Tensor) -> None:
    _require(
        layer.weights_ohwi.ndim == 4,
        layer.name,
        f"weights are [out, height, width, in], got {layer.weights_ohwi.shape}",
    )
    channels, height, width, depth = layer.weights_ohwi.shape
    _check_windows(layer, x, y, (height, width), channels)
    _require(
        x.shape[3] == depth,
        layer.name,
        f"weights read {depth} input channels (groups are not supported), the input has {x.shape[3]}",
    )
    multipliers = _check_weights(layer.name, layer.weights_ohwi, layer.weight_quant, layer.bias, channels, x, y)
    _check_accumulator(layer.name, layer.weights_ohwi.reshape(channels, -1), layer.bias, x.quant, multipliers)


def _check_depthwise(layer: DepthwiseConv2D, x: Tensor, y: Tensor) -> None:
    shape = layer.weights_1hwc.shape
    _require(
        layer.weights_1hwc.ndim == 4 and shape[0] == 1,
        layer.name,
        f"weights are [1, height, width, channels], got {shape}",
    )
    channels = shape[3]
    _check_windows(layer, x, y, (shape[1], shape[2]), channels)
    fits = layer.depth_multiplier >= 1 and x.shape[3] * layer.depth_multiplier == channels
    _require(
        fits,
        layer.name,
        f"{channels} outputs are not {x.shape[3]} input channels x depth multiplier {layer.depth_multiplier}",
    )
    multipliers = _check_weights(layer.name, layer.weights_1hwc, layer.weight_quant, layer.bias, channels, x, y)
    _check_accumulator(layer.name, layer.weights_1hwc.reshape(-1, channels).T, layer.bias, x.quant, multipliers)


def _check_fully_connected(layer: FullyConnected, x: Tensor, y: Tensor) -> None:
    _require(layer.weights_oi.ndim == 2, layer.name, f"weights are [out, in], got {layer.weights_oi.shape}")
    channels, depth = layer.weights_oi.shape
    _require(x.size == depth, layer.name, f"weights read {depth} values (one row), the input has {x.size}")
    _require(y.size == channels, layer.name, f"the output has {channels} values, got shape {y.shape}")
    multipliers = _check_weights(layer.name, layer.weights_oi, layer.weight_quant, layer.bias, channels, x, y)
    _check_accumulator(layer.name, layer.weights_oi, layer.bias, x.quant, multipliers)


def _check_weights(
    name: str, weights: Int8, params: QuantParams, bias: Int32, channels: int, x: Tensor, y: Tensor
) -> NDArray[np.int64]:
    """Shifts of the requantization per channel."""
    _require(weights.dtype == np.int8, name, f"weights are int8, got {weights.dtype}")
    biased = bias.dtype == np.int32 and bias.shape == (channels,)
    _require(biased, name, f"the bias is {channels} int32 values, got {bias.dtype} {bias.shape}")
    check_quant(name, params, channels)
    worst = max(params.zero_points, key=abs)
    _require(worst == 0, name, f"int8 weights need zero point 0, got {worst}; export symmetric weights")
    is_dense = weights.ndim == 2
    rule = quant.fully_connected_multipliers if is_dense else quant.conv_multipliers
    return rule(x.quant, params, y.quant, channels)[1]


def _check_accumulator(
    name: str, weights_by_channel: Int8, bias: Int32, x: QuantParams, shifts: NDArray[np.int64]
) -> None:
    """No partial sum, in any order, nor its left shift, may leave int32: C has no defined result there."""
    wide = weights_by_channel.astype(np.int64)
    low, high = -128 - x.zero_point, 127 - x.zero_point
    positive = np.maximum(wide * low, wide * high).clip(min=0).sum(axis=1) + np.maximum(bias.astype(np.int64), 0)
    negative = np.minimum(wide * low, wide * high).clip(max=0).sum(axis=1) + np.minimum(bias.astype(np.int64), 0)
    reach = np.maximum(positive, -negative) << np.clip(shifts, 0, 31)
    worst = int(reach.argmax())
    fine = int(reach[worst]) <= INT32_MAX - 256
    _require(
        fine,
        name,
        f"output channel {worst} can overflow int32 (its sum reaches {int(reach[worst])}); check its bias and scales",
    )


def _check_same_quant(name: str, x: Tensor, y: Tensor, tolerance: float) -> None:
    same = x.quant.zero_point == y.quant.zero_point and abs(x.quant.scale - y.quant.scale) <= tolerance
    _require(
        same, name, f"input and output need the same scale and zero point, got {_pair(x.quant)} and {_pair(y.quant)}"
    )


def _pair(params: QuantParams) -> str:
    return f"({params.scale:.9g}, {params.zero_point})"


def _check_add(layer: Add, x: Tensor, x2: Tensor, y: Tensor) -> None:
    same = x.shape == x2.shape == y.shape
    _require(same, layer.name, f"the operands need one shape (no broadcasting), got {x.shape}, {x2.shape}, {y.shape}")
    ratio = 2.0 * max(x.quant.scale, x2.quant.scale) / ((1 << quant.ADD_LEFT_SHIFT) * y.quant.scale)
    fine = ratio < 1.0 and quant.quantize_multiplier(ratio)[1] <= 0
    _require(
        fine,
        layer.name,
        f"the output scale {y.quant.scale:.9g} is too small beside its inputs' (ratio {ratio:.3g}, must be below 1)",
    )


def _check_softmax(layer: Softmax, x: Tensor, y: Tensor) -> None:
    _require(x.shape == y.shape, layer.name, f"input and output need one shape, got {x.shape} and {y.shape}")
    _require(
        y.quant.scale == 1 / 256 and y.quant.zero_point == -128,
        layer.name,
        f"the output is (1/256, -128), got {_pair(y.quant)}",
    )
    _require(
        x.shape[-1] < 512,
        layer.name,
        f"at most 511 classes, TensorFlow Lite Micro aborts on equal scores beyond; got {x.shape[-1]}",
    )
    good = math.isfinite(layer.beta) and layer.beta > 0 and float(np.float32(layer.beta)) == layer.beta
    good = good and layer.beta * x.quant.scale * (1 << 26) > 1.0
    _require(good, layer.name, f"beta is a float32 and beta x input scale exceeds 2**-26, got beta {layer.beta}")


def _check_pad(layer: Pad, x: Tensor, y: Tensor) -> None:
    _require(
        len(layer.pads) == len(x.shape),
        layer.name,
        f"needs one pair of pads per axis of {x.shape}, got {len(layer.pads)}",
    )
    _require(
        all(0 <= side <= MAX_ELEMENTS for pair in layer.pads for side in pair),
        layer.name,
        f"pads are not negative, got {layer.pads}",
    )
    expected = tuple(size + before + after for size, (before, after) in zip(x.shape, layer.pads, strict=True))
    fits = y.shape == expected and layer.pads[0] == (0, 0)
    _require(fits, layer.name, f"the output shape must be {expected} with batch 1, got {y.shape}")
    _check_same_quant(layer.name, x, y, 0.0)
