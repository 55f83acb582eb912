"""QuantizeLinear and DequantizeLinear: which grid a value lies on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from converter.errors import ConvertError
from converter.formats.onnx import (
    NO_BOUNDS,
    Array,
    Constant,
    OnnxNode,
    OnnxRule,
    PendingLayer,
    QuantConstant,
    Quantized,
    Real,
    Value,
    covers,
    quant_params,
    stored_shape,
)
from converter.formats.original import Place
from converter.onnx_qdq.affine import scaled
from converter.onnx_qdq.qdq import TYPES, QdqImporter
from converter.tensor import QuantParams, Tensor

BYTES = ("int8", "uint8")
CONSTANTS = (*BYTES, "int32")


def _grid(importer: QdqImporter, node: OnnxNode, kinds: tuple[str, ...]) -> tuple[QuantParams, str]:
    """The scales of a Q or DQ node and which of the integer types its zero point is of; that of uint8 is 128 less, for
    int8 stands for it."""
    name, scale, zero_point = node.name, importer.array(node, 1), importer.array(node, 2)
    if scale is None:
        raise ConvertError(f"{name}: has no scale; export the model again")
    got = zero_point.dtype.name if zero_point is not None else kinds[0]
    if zero_point is None and node.op_type == "QuantizeLinear":
        asked = node.integer("output_dtype", 0)
        got = TYPES.get(asked, f"type {asked}") if asked else "uint8"
    if got not in kinds:
        raise ConvertError(f"{name}: needs {' or '.join(kinds)}, got {got}; export a model of 8 bits")
    if got == "uint8":
        zero_point = (np.zeros(scale.shape) if zero_point is None else zero_point).astype(np.int64) - 128
    return quant_params(name, scale, zero_point, node.integer("axis", 1)), got


def quantize(importer: QdqImporter, node: OnnxNode) -> Value:
    """QuantizeLinear: an activation's or constant's grid."""
    name = node.name
    found = importer.value(node, 0)
    quant, kind = _grid(importer, node, BYTES)
    if isinstance(found, Constant):
        importer.budget.take(found.array.nbytes)
        return _quantized_constant(name, found.array, quant)
    if len(quant.scales) != 1:
        done = _per_channel(importer, node, found, quant)
    elif isinstance(found, Real) and found.kind == "float32":
        done = _input(importer, name, found, quant, node.outputs[0])
    elif isinstance(found, PendingLayer):
        done = importer.finish_layer(node.outputs[0], found, quant)
    elif isinstance(found, Quantized) and found.dequantized:
        done = found
        if importer.quant_of(found) != quant:
            done = importer.finish_layer(node.outputs[0], importer.rescaled(name, found), quant)
    else:
        raise ConvertError(f"{name}: its input {node.inputs[0][:200]} is quantized already")
    return replace(done, dequantized=False, is_uint8=kind == "uint8")


def _per_channel(importer: QdqImporter, node: OnnxNode, found: Value, quant: QuantParams) -> Quantized:
    """A layer whose output has a scale for each channel: its weights take in what they differ by, so that its tensor
    has the largest."""
    name, scales = node.name, np.array(quant.scales)
    if (
        not isinstance(found, PendingLayer)
        or (found.layer.weights is None or found.moves or found.layout == "plain")
        or (quant.axis != 1 or found.shape[1] != len(scales) or len(set(quant.zero_points)) > 1)
    ):
        raise ConvertError(
            f"{name}: an activation has one scale, got {len(scales)}; one for each channel may stand behind a "
            f"convolution, before a depthwise one, on one zero point"
        )
    whole = QuantParams((max(quant.scales),), quant.zero_points[:1])
    bounds = found.bounds
    grids = [replace(whole, scales=(scale,)) for scale in quant.scales]
    if bounds not in (NO_BOUNDS, (0.0, math.inf)):  # bounds are of real values, which differ
        if not all(covers(bounds, grid) for grid in grids):
            raise ConvertError(f"{name}: Clip to {bounds} differs from channel to channel; quantize it per tensor")
        bounds = NO_BOUNDS
    layer = scaled(importer, name, found.layer, whole.scale / scales, np.zeros(len(scales)))
    done = importer.finish_layer(node.outputs[0], replace(found, layer=layer, bounds=bounds), whole)
    return replace(done, per_channel=quant.scales)


def conv_of_channels(importer: QdqImporter, node: OnnxNode, rule: OnnxRule) -> Value:
    """A Conv node by its rule; where its input has a scale for each channel a depthwise one, whose weights make up for
    it."""
    x, weights = importer.value(node, 0), importer.value(node, 1)
    if not isinstance(x, Quantized) or not x.per_channel:
        return rule(importer, node)
    known = isinstance(weights, QuantConstant) and weights.dequantized and weights.quant.axis in (None, 0)
    channels, shape = len(x.per_channel), weights.array.shape if isinstance(weights, QuantConstant) else ()
    depthwise = node.integer("group", 1) == channels and len(shape) > 2 and shape[1] == 1 and shape[0] % channels == 0
    if not isinstance(weights, QuantConstant) or not known or not depthwise:
        raise ConvertError(
            f"{node.name}: reads an input with a scale for each channel, which only a depthwise convolution may; "
            f"quantize activations per tensor"
        )
    each = np.repeat(np.array(x.per_channel) / importer.quant_of(x).scale, shape[0] // channels)
    scales = (np.array(weights.quant.scales) * each).astype(np.float32)
    zeros = np.broadcast_to(weights.quant.zero_points, len(scales))
    params = QuantParams(tuple(scales.tolist()), tuple(zeros.tolist()), 0)
    names = f"{node.inputs[0]}//scaled", f"{node.inputs[1]}//scaled by {node.outputs[0]}"
    importer.values[names[0]], importer.values[names[1]] = replace(x, per_channel=()), replace(weights, quant=params)
    return rule(importer, replace(node, inputs=(*names, *node.inputs[2:])))


def _input(importer: QdqImporter, name: str, found: Real, quant: QuantParams, tensor_name: str) -> Quantized:
    layout = importer.input_layout
    if not importer.tensors:
        importer.tensors.append(Tensor(tensor_name, stored_shape(found.shape, layout), quant))
        importer.places.append(Place(0, found.name if found.moves else tensor_name, layout != "plain"))
    if importer.tensors[0].quant != quant:
        raise ConvertError(f"{name}: the input {found.name[:200]} is quantized twice, with different scales")
    x = Quantized(0, found.shape, layout, dequantized=False)
    for move in found.moves:
        x = move(x)
    return x


def _quantized_constant(name: str, array: Array, quant: QuantParams) -> QuantConstant:
    """Float weights put on their grid as ONNX defines it: halves to even, saturated."""
    if array.dtype != np.float32 or (len(quant.scales) > 1 and not _axis_fits(array, quant)):
        raise ConvertError(
            f"{name}: cannot quantize a constant of {array.dtype} {array.shape} with {len(quant.scales)} scales"
        )
    shape = [1] * array.ndim
    if quant.axis is not None:
        shape[quant.axis] = len(quant.scales)
    scale, zero_point = np.array(quant.scales, np.float32).reshape(shape), np.array(quant.zero_points).reshape(shape)
    rounded = np.rint(np.nan_to_num(np.asarray(array, np.float32)) / scale) + zero_point
    return QuantConstant(np.clip(rounded, -128, 127).astype(np.int8), quant, dequantized=False)


def _axis_fits(array: Array, quant: QuantParams) -> bool:
    axis = quant.axis or 0
    return -array.ndim <= axis < array.ndim and array.shape[axis] == len(quant.scales)


def dequantize(importer: QdqImporter, node: OnnxNode) -> Value:
    """DequantizeLinear: integers seen as real numbers."""
    name = node.name
    found = importer.value(node, 0)
    if isinstance(found, Constant):
        kind = found.array.dtype.name
        if kind not in CONSTANTS:
            raise ConvertError(f"{name}: a constant must be int8 or uint8 (weights) or int32 (bias), got {kind}")
        quant, _ = _grid(importer, node, (kind,))
        if quant.axis is not None and not _axis_fits(found.array, quant):
            raise ConvertError(
                f"{name}: {len(quant.scales)} scales along axis {quant.axis} do not fit shape {found.array.shape}"
            )
        axis = quant.axis if quant.axis is None or quant.axis >= 0 else quant.axis + found.array.ndim
        array = found.array if kind != "uint8" else (found.array.astype(np.int16) - 128).astype(np.int8)
        return QuantConstant(array, replace(quant, axis=axis), dequantized=True)
    known: tuple[str, ...] = BYTES
    if isinstance(found, Quantized):
        known = ("uint8",) if found.is_uint8 else ("int8",)
    elif isinstance(found, Real) and found.kind != "float32":
        known = (found.kind,)
    quant, kind = _grid(importer, node, known)
    if isinstance(found, QuantConstant) and not found.dequantized and found.quant == quant:
        return replace(found, dequantized=True)
    if isinstance(found, Real) and found.kind != "float32":
        taken = _input(importer, name, found, quant, found.name)
        return replace(taken, dequantized=True, is_uint8=kind == "uint8")
    if not isinstance(found, Quantized) or found.dequantized:
        raise ConvertError(f"{name}: its input {node.inputs[0][:200]} is not quantized")
    grid = importer.quant_of(found)
    if found.per_channel:
        grid = QuantParams(found.per_channel, grid.zero_points * len(found.per_channel), 1)
    if grid != quant:
        raise ConvertError(f"{name}: its scale or zero point differs from that of the QuantizeLinear before it")
    return replace(found, dequantized=True)
