"""One function per ONNX operator: operands -> a layer that waits for its scale, or another view of a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from converter.graph import (
    Add,
    AveragePool2D,
    Conv2D,
    ConvertError,
    DepthwiseConv2D,
    FullyConnected,
    Int8,
    Int32,
    MaxPool2D,
    Pad,
    Padding,
    QuantParams,
    Softmax,
    output_size,
    pad_before,
)
from converter.onnx_qdq.qdq import Walk, dequantize, quantize
from converter.onnx_qdq.values import (
    NO_PADS,
    Attributes,
    Constant,
    Pending,
    QuantConstant,
    Quantized,
    Value,
    stored_shape,
)

BIAS_SCALE_TOLERANCE = 1e-5
Pads = tuple[int, int, int, int]  # top, bottom, left, right
HW = tuple[int, int]


def _weights(walk: Walk, name: str, node: onnx.NodeProto, rank: int) -> QuantConstant:
    found = walk.value(name, node, 1)
    if not isinstance(found, QuantConstant) or not found.dequantized or found.array.dtype != np.int8:
        raise ConvertError(
            f"{name}: its weights must be int8 behind a DequantizeLinear; only int8 models are supported"
        )
    if found.array.ndim != rank:
        raise ConvertError(f"{name}: its weights must have {rank} dimensions, got {found.array.shape}")
    return found


def _bias(name: str, found: Value, x: QuantParams, weights: QuantParams, channels: int) -> Int32:
    """int32 bias; its scale must be input scale x weight scale, for TensorFlow Lite knows no other."""
    if not isinstance(found, QuantConstant) or not found.dequantized or found.array.dtype != np.int32:
        raise ConvertError(f"{name}: its bias must be int32 behind a DequantizeLinear; only int8 models are supported")
    if found.array.size != channels or len(found.quant.scales) not in (1, channels) or any(found.quant.zero_points):
        raise ConvertError(
            f"{name}: its bias must be {channels} values with zero point 0, got shape {found.array.shape}"
        )
    given = np.broadcast_to(np.array(found.quant.scales), channels)
    wanted = np.broadcast_to(np.array(weights.scales) * x.scale, channels)
    if not np.all(np.abs(given - wanted) <= BIAS_SCALE_TOLERANCE * wanted):
        worst = int(np.argmax(np.abs(given / wanted - 1)))
        raise ConvertError(
            f"{name}: bias scale {worst} must be input x weight scale {wanted[worst]:.9g}, got {given[worst]:.9g}"
        )
    return np.asarray(found.array, np.int32).reshape(channels)


def _map(walk: Walk, name: str, node: onnx.NodeProto) -> Quantized:
    x = walk.activation(name, node)
    if x.layout != "nchw":
        raise ConvertError(f"{name}: needs an input [1, channels, height, width], got {x.shape}")
    return x


def _pair(name: str, what: str, values: tuple[int, ...]) -> tuple[int, int]:
    if len(values) != 2 or not all(1 <= value <= 4096 for value in values):
        raise ConvertError(f"{name}: {what} must be two numbers in 1..4096 (2-D operators only), got {values}")
    return values[0], values[1]


def _window_pads(name: str, attributes: Attributes, size_hw: HW, window_hw: HW, stride_hw: HW) -> Pads:
    """(top, bottom, left, right) that a Conv or pool node asks for."""
    mode = attributes.text("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(size_hw, window_hw, stride_hw)
        return pads if mode == "SAME_UPPER" else (pads[1], pads[0], pads[3], pads[2])
    given = attributes.integers("pads", NO_PADS) if mode == "NOTSET" else NO_PADS
    if mode not in ("NOTSET", "VALID") or len(given) != 4 or not all(0 <= value <= 4096 for value in given):
        raise ConvertError(f"{name}: pads must be four numbers, 0 or more, got {given} with auto_pad {mode[:40]}")
    return given[0], given[2], given[1], given[3]


def _same_pads(size_hw: HW, window_hw: HW, stride_hw: HW) -> Pads:
    found = []
    for size, window, stride in zip(size_hw, window_hw, stride_hw, strict=True):
        before = pad_before(size, window, stride, "SAME")
        found += [before, max(0, (output_size(size, window, stride, "SAME") - 1) * stride + window - size) - before]
    return found[0], found[1], found[2], found[3]


def _settle_pads(
    walk: Walk, name: str, x: Quantized, pads: Pads, window_hw: HW, stride_hw: HW
) -> tuple[Quantized, Padding]:
    """The input with its zeros expressed as SAME or VALID where TensorFlow Lite can, else as a PAD layer."""
    size_hw = (x.shape[2], x.shape[3])
    if pads == NO_PADS:
        return walk.settle(name, replace(x, pads_tblr=NO_PADS)), "VALID"
    if pads == _same_pads(size_hw, window_hw, stride_hw):
        return walk.settle(name, replace(x, pads_tblr=NO_PADS)), "SAME"
    return walk.settle(name, replace(x, pads_tblr=pads)), "VALID"


def _windowed_shape(x: Quantized, channels: int, window_hw: HW, stride_hw: HW, padding: Padding) -> tuple[int, ...]:
    sizes = [output_size(n, k, s, padding) for n, k, s in zip(x.shape[2:], window_hw, stride_hw, strict=True)]
    return (1, channels, *sizes)


def _conv(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x, weights = _map(walk, name, node), _weights(walk, name, node, 4)
    channels, depth, height, width = weights.array.shape
    window_hw, stride_hw = (height, width), _pair(name, "strides", attributes.integers("strides", (1, 1)))
    if attributes.integers("dilations", (1, 1)) != (1, 1):
        raise ConvertError(f"{name}: dilation is not supported, got {attributes.integers('dilations', (1, 1))}")
    if weights.quant.axis not in (None, 0):
        raise ConvertError(f"{name}: weight scales must lie along axis 0, got axis {weights.quant.axis}")
    own = _window_pads(name, attributes, (x.shape[2], x.shape[3]), window_hw, stride_hw)
    pads = tuple(a + b for a, b in zip(own, x.pads_tblr, strict=True))
    x, padding = _settle_pads(walk, name, x, (pads[0], pads[1], pads[2], pads[3]), window_hw, stride_hw)
    bias = np.zeros(channels, np.int32)
    if len(node.input) > 2 and node.input[2]:
        bias = _bias(name, walk.value(name, node, 2), walk.quant_of(x), weights.quant, channels)
    shape = _windowed_shape(x, channels, window_hw, stride_hw, padding)
    group, values = attributes.integer("group", 1), weights.array.astype(np.int8)
    stored = stored_shape(shape, "nchw")
    if group == 1:
        ohwi: Int8 = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        return Pending(
            Conv2D(name, x.base, -1, ohwi, weights.quant, bias, stride_hw, padding, "NONE"), shape, "nchw", stored
        )
    if group != x.shape[1] or depth != 1 or channels % group:
        raise ConvertError(
            f"{name}: grouped convolution is supported only as depthwise, got {group} groups of {depth} channels"
        )
    quant = replace(weights.quant, axis=None if weights.quant.axis is None else 3)
    hwc: Int8 = np.ascontiguousarray(values.transpose(1, 2, 3, 0))
    layer = DepthwiseConv2D(name, x.base, -1, hwc, quant, bias, channels // group, stride_hw, padding, "NONE")
    return Pending(layer, shape, "nchw", stored)


def _dense(walk: Walk, name: str, x: Quantized, weights_oi: Int8, quant: QuantParams, bias: Value | None) -> Pending:
    channels, depth = weights_oi.shape
    if x.pads_tblr != NO_PADS or x.layout == "nchw":
        raise ConvertError(f"{name}: needs a flat input [1, {depth}], got {x.shape}; flatten it first")
    if x.shape[-1] != depth or math.prod(x.shape) != depth:
        raise ConvertError(f"{name}: its weights read {depth} values, the input is {x.shape}")
    if x.chw is not None:
        weights_oi = weights_oi.reshape(channels, *x.chw).transpose(0, 2, 3, 1).reshape(channels, depth)
    if len(set(quant.scales)) == 1:
        quant = QuantParams(quant.scales[:1], quant.zero_points[:1])
    zeros = np.zeros(channels, np.int32)
    values = zeros if bias is None else _bias(name, bias, walk.quant_of(x), quant, channels)
    layer = FullyConnected(name, x.base, -1, np.ascontiguousarray(weights_oi), quant, values, "NONE")
    shape = (*x.shape[:-1], channels)
    return Pending(layer, shape, "plain", shape)


def _gemm(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    plain = (attributes.real("alpha", 1.0), attributes.real("beta", 1.0), attributes.integer("transA", 0)) == (
        1.0,
        1.0,
        0,
    )
    if not plain:
        raise ConvertError(f"{name}: alpha and beta must be 1 and transA 0; fold them into the weights")
    weights = _weights(walk, name, node, 2)
    bias = walk.value(name, node, 2) if len(node.input) > 2 and node.input[2] else None
    is_oi = attributes.integer("transB", 0) == 1
    return _oriented(walk, name, node, weights, is_oi, bias)


def _oriented(
    walk: Walk, name: str, node: onnx.NodeProto, weights: QuantConstant, is_oi: bool, bias: Value | None
) -> Pending:
    out_axis = 0 if is_oi else 1
    if weights.quant.axis not in (None, out_axis):
        raise ConvertError(
            f"{name}: weight scales must lie along the outputs (axis {out_axis}), got axis {weights.quant.axis}"
        )
    values = weights.array.astype(np.int8)
    quant = replace(weights.quant, axis=None if weights.quant.axis is None else 0)
    return _dense(walk, name, walk.activation(name, node), values if is_oi else values.T, quant, bias)


def _matmul(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    return _oriented(walk, name, node, _weights(walk, name, node, 2), False, None)


def _add(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    left, right = walk.value(name, node, 0), walk.value(name, node, 1)
    for product, bias in ((left, right), (right, left)):
        if (
            isinstance(product, Pending)
            and isinstance(product.layer, FullyConnected)
            and isinstance(bias, QuantConstant)
        ):
            dense = product.layer
            if dense.activation != "NONE" or dense.bias.any():
                raise ConvertError(f"{name}: {dense.name} has a bias already")
            values = _bias(name, bias, walk.tensors[dense.input].quant, dense.weight_quant, len(dense.bias))
            return replace(product, layer=replace(dense, bias=values))
    a, b = (walk.settle(name, walk.activation(name, node, index)) for index in (0, 1))
    if a.shape != b.shape or a.layout != b.layout:
        raise ConvertError(f"{name}: the operands need one shape (no broadcasting), got {a.shape} and {b.shape}")
    return Pending(Add(name, a.base, b.base, -1, "NONE"), a.shape, a.layout, stored_shape(a.shape, a.layout))


def _pool(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x = _map(walk, name, node)
    x = walk.settle(name, x)
    window_hw = _pair(name, "kernel_shape", attributes.integers("kernel_shape", ()))
    stride_hw = _pair(name, "strides", attributes.integers("strides", (1, 1)))
    if attributes.integer("ceil_mode", 0) or attributes.integers("dilations", (1, 1)) != (1, 1):
        raise ConvertError(f"{name}: ceil_mode and dilations are not supported")
    pads = _window_pads(name, attributes, (x.shape[2], x.shape[3]), window_hw, stride_hw)
    is_max = node.op_type == "MaxPool"
    counts_zeros = not is_max and attributes.integer("count_include_pad", 0) == 1
    if counts_zeros and pads != NO_PADS:
        x, pads = walk.settle(name, replace(x, pads_tblr=pads)), NO_PADS
    if pads not in (NO_PADS, _same_pads((x.shape[2], x.shape[3]), window_hw, stride_hw)):
        raise ConvertError(
            f"{name}: its pads (top, bottom, left, right) = {pads} are neither none nor TensorFlow Lite's SAME"
        )
    padding: Padding = "VALID" if pads == NO_PADS else "SAME"
    shape = _windowed_shape(x, x.shape[1], window_hw, stride_hw, padding)
    kind = MaxPool2D if is_max else AveragePool2D
    return Pending(
        kind(name, x.base, -1, window_hw, stride_hw, padding, "NONE"), shape, "nchw", stored_shape(shape, "nchw")
    )


def _global_pool(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x = walk.settle(name, _map(walk, name, node))
    window_hw = (x.shape[2], x.shape[3])
    kind = MaxPool2D if node.op_type == "GlobalMaxPool" else AveragePool2D
    layer = kind(name, x.base, -1, window_hw, window_hw, "VALID", "NONE")
    return Pending(layer, (1, x.shape[1], 1, 1), "nchw", (1, 1, 1, x.shape[1]))


def _reduce_mean(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    given = walk.array(name, node, 1)
    axes = (
        attributes.integers("axes", ()) if given is None else tuple(int(axis) for axis in np.atleast_1d(given).ravel())
    )
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        raise ConvertError(f"{name}: ReduceMean is supported over height and width (axes 2, 3), got {axes}")
    pending = _global_pool(walk, name, node, attributes)
    assert isinstance(pending, Pending)
    return pending if attributes.integer("keepdims", 1) else replace(pending, shape=pending.shape[:2], layout="plain")


def _relu(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    found = walk.value(name, node, 0)
    if isinstance(found, Pending):
        return found.fused("RELU", name)
    x = walk.activation(name, node)
    if walk.quant_of(x).zero_point != -128:
        raise ConvertError(f"{name}: must stand before the QuantizeLinear of the layer it belongs to")
    return x


def _clip(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    low, high = walk.array(name, node, 1), walk.array(name, node, 2)
    bounds = (
        float(low.item()) if low is not None and low.size == 1 else attributes.real("min", -math.inf),
        float(high.item()) if high is not None and high.size == 1 else attributes.real("max", math.inf),
    )
    found = walk.value(name, node, 0)
    if bounds not in ((0.0, 6.0), (0.0, math.inf)) or not isinstance(found, Pending):
        raise ConvertError(f"{name}: Clip is supported right behind a layer as 0..6 or 0 and above, got {bounds}")
    return found.fused("RELU6" if bounds[1] == 6.0 else "RELU", name)


def _softmax(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x = walk.settle(name, walk.activation(name, node))
    axis = attributes.integer("axis", -1)
    last = 1 if x.layout == "nchw" else len(x.shape) - 1
    if axis not in (last, last - len(x.shape)):
        raise ConvertError(f"{name}: Softmax is supported over the classes (axis {last}), got axis {axis} of {x.shape}")
    return Pending(Softmax(name, x.base, -1), x.shape, x.layout, stored_shape(x.shape, x.layout))


def _same_value(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    return walk.value(name, node, 0)


def _constant(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    array = attributes.tensor("value")
    if array is None:
        raise ConvertError(f"{name}: only tensor constants are supported; export the model again")
    return Constant(array)


def _flatten(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x = walk.activation(name, node)
    axis = attributes.integer("axis", 1)
    split = axis if axis >= 0 else axis + len(x.shape)
    return view(walk, name, x, (math.prod(x.shape[: max(split, 0)]), math.prod(x.shape[max(split, 0) :])))


def _reshape(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x, wanted = walk.activation(name, node), walk.array(name, node, 1)
    if wanted is None or wanted.ndim != 1 or wanted.dtype != np.int64:
        raise ConvertError(f"{name}: its shape must be a constant list of int64")
    sizes = [int(size) for size in wanted]
    sizes = [x.shape[axis] if size == 0 and axis < len(x.shape) else size for axis, size in enumerate(sizes)]
    if sizes.count(-1) == 1:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known if known > 0 else 0
    return view(walk, name, x, tuple(sizes))


def _squeeze(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x, given = walk.activation(name, node), walk.array(name, node, 1)
    axes = (
        attributes.integers("axes", ()) if given is None else tuple(int(axis) for axis in np.atleast_1d(given).ravel())
    )
    if node.op_type == "Squeeze":
        gone = {axis % len(x.shape) for axis in axes} or {
            axis for axis, size in enumerate(x.shape) if size == 1 and axis > 0
        }
        if any(x.shape[axis] != 1 for axis in gone):
            raise ConvertError(f"{name}: can only squeeze axes of size 1, got axes {axes} of {x.shape}")
        return view(walk, name, x, tuple(size for axis, size in enumerate(x.shape) if axis not in gone))
    rank = len(x.shape) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(x.shape)
    return view(walk, name, x, tuple(1 if axis in new else next(rest, 1) for axis in range(rank)))


def view(walk: Walk, name: str, x: Quantized, shape: tuple[int, ...]) -> Quantized:
    """The same elements under another ONNX shape; no layer is emitted unless a consumer needs that shape."""
    if math.prod(shape) != math.prod(x.shape) or len(shape) > 5 or any(size < 1 for size in shape):
        raise ConvertError(f"{name}: cannot reshape {x.shape} to {shape}")
    if shape == x.shape:
        return x
    if x.pads_tblr != NO_PADS:
        x = walk.settle(name, x)
    is_linear = x.layout == "plain" or x.shape[1] == 1 or x.shape[2] * x.shape[3] == 1
    if not is_linear:
        if math.prod(shape[:-1]) != 1:
            raise ConvertError(
                f"{name}: can only flatten the feature map {x.shape} to one row, got {shape}; transpose it to NHWC "
                f"first"
            )
        return replace(x, shape=shape, layout="plain", chw=(x.shape[1], x.shape[2], x.shape[3]))
    if x.chw is not None and len(shape) == 4:
        raise ConvertError(f"{name}: cannot reshape a flattened feature map to {shape}; transpose it to NHWC first")
    is_map = len(shape) == 4 and (shape[1] == 1 or shape[2] * shape[3] == 1)
    return replace(x, shape=shape, layout="nchw" if is_map else "plain")


def _transpose(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x = walk.activation(name, node)
    rank = len(x.shape)
    perm = attributes.integers("perm", tuple(reversed(range(rank))))
    if sorted(perm) != list(range(rank)) or x.chw is not None:
        raise ConvertError(f"{name}: cannot transpose {x.shape} by {perm}")
    if x.pads_tblr != NO_PADS:
        x = walk.settle(name, x)
    shape = tuple(x.shape[axis] for axis in perm)
    stored = [axis for axis in ((0, 2, 3, 1) if x.layout == "nchw" else range(rank)) if x.shape[axis] > 1]
    if rank == 4 and [perm[axis] for axis in (0, 2, 3, 1) if shape[axis] > 1] == stored:
        return replace(x, shape=shape, layout="nchw")
    if [axis for axis in perm if x.shape[axis] > 1] == stored:
        return replace(x, shape=shape, layout="plain")
    raise ConvertError(f"{name}: moves data ({perm} of {x.shape}); only changes between NCHW and NHWC are supported")


def _pad(walk: Walk, name: str, node: onnx.NodeProto, attributes: Attributes) -> Value:
    x, given, value, axes = (
        walk.activation(name, node),
        walk.array(name, node, 1),
        walk.array(name, node, 2),
        walk.array(name, node, 3),
    )
    rank = len(x.shape)
    if attributes.text("mode", "constant") != "constant" or (
        value is not None and (value.size != 1 or float(value.item()) != 0.0)
    ):
        raise ConvertError(f"{name}: only padding with zeros is supported")
    chosen = list(range(rank)) if axes is None else [int(axis) % rank for axis in np.atleast_1d(axes).ravel()]
    sides = [] if given is None else [int(side) for side in np.atleast_1d(given).ravel()]
    if len(sides) != 2 * len(chosen) or min(sides, default=-1) < 0 or max(sides) > 4096:
        raise ConvertError(
            f"{name}: pads must be constant, 0 or more, two for each of {len(chosen)} axes, got {sides[:16]}"
        )
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(chosen):
        before[axis], after[axis] = sides[index], sides[index + len(chosen)]
    if x.layout == "nchw" and not any((*before[:2], *after[:2])):
        old = x.pads_tblr
        return replace(x, pads_tblr=(old[0] + before[2], old[1] + after[2], old[2] + before[3], old[3] + after[3]))
    return _padded(walk, name, walk.settle(name, x), before, after)


def _padded(walk: Walk, name: str, x: Quantized, before: list[int], after: list[int]) -> Pending:
    """A PAD layer over any axes."""
    shape = tuple(size + b + a for size, b, a in zip(x.shape, before, after, strict=True))
    order = (0, 2, 3, 1) if x.layout == "nchw" else tuple(range(len(shape)))
    pads = tuple((before[axis], after[axis]) for axis in order)
    return Pending(Pad(name, x.base, -1, pads), shape, x.layout, stored_shape(shape, x.layout))


LAYERS: dict[str, Callable[[Walk, str, onnx.NodeProto, Attributes], Value]] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "Constant": _constant,
    "Identity": _same_value,
    "Dropout": _same_value,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Relu": _relu,
    "Clip": _clip,
    "Softmax": _softmax,
    "Pad": _pad,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce_mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _squeeze,
    "Transpose": _transpose,
}
SUPPORTED = ", ".join(sorted(LAYERS))
