"""Nodes that multiply by and add constants per channel: they go into the weights and the bias of the layer before, or
become a depthwise convolution of 1 x 1.

A factor changes a channel's weight scale and none of its weights, so that nothing is rounded but the bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from converter.arrays import Int8
from converter.errors import ConvertError, require
from converter.formats.onnx import (
    NO_BOUNDS,
    Constant,
    OnnxNode,
    PendingLayer,
    QuantConstant,
    Value,
    feature_map,
    pending,
    pending_map,
)
from converter.graph import Operator, with_fields
from converter.onnx_qdq.qdq import QdqImporter, keeps_grid
from converter.operators.add import Add
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.mul import Mul
from converter.operators.weighted import bias_steps, onnx_bias, real_constant
from converter.tensor import QuantParams

Real64 = NDArray[np.float64]
CHANNEL_AXIS = {"weights_ohwi": 0, "weights_1hwc": 3, "weights_oi": 0}
# What an operator makes of x and a constant c, and of c and x: (factor of x, summand).
FOLDS: dict[str, tuple[Callable[[Real64], tuple[Real64, Real64]] | None, ...]] = {
    "Add": (lambda c: (np.ones_like(c), c), lambda c: (np.ones_like(c), c)),
    "Sub": (lambda c: (np.ones_like(c), -c), lambda c: (-np.ones_like(c), c)),
    "Mul": (lambda c: (c, np.zeros_like(c)), lambda c: (c, np.zeros_like(c))),
    "Div": (lambda c: (1.0 / c, np.zeros_like(c)), None),
}
OF_TWO = {"Add": Add.ONNX["Add"], "Mul": Mul.ONNX["Mul"]}


def arithmetic(importer: QdqImporter, node: OnnxNode) -> Value:
    """Add, Sub, Mul or Div: of an activation and a constant, or of two activations where TensorFlow Lite can."""
    operands = importer.value(node, 0), importer.value(node, 1)
    constants = [isinstance(found, (Constant, QuantConstant)) for found in operands]
    if not any(constants) and node.op_type in OF_TWO:
        return OF_TWO[node.op_type](importer, node)
    at = 0 if constants[0] else 1  # where the constant is
    fold = FOLDS[node.op_type][1 - at]
    if sum(constants) != 1 or fold is None:
        what = "constants alone" if all(constants) else "a constant and an activation" if at == 0 else "two activations"
        raise ConvertError(f"{node.name}: {node.op_type} of {what} is not supported; simplify the model before export")
    constant, value = operands[at], operands[1 - at]
    if isinstance(constant, QuantConstant) and node.op_type == "Add" and _lacks_bias(value):
        return _dense_bias(importer, node.name, value, constant)
    real = real_constant(node.name, constant)
    require(bool(np.isfinite(real).all()), node.name, f"{node.op_type} by a constant that is not finite")
    require(node.op_type != "Div" or bool((real != 0).all()), node.name, "divides by 0; export the model again")
    return _folded(importer, node, 1 - at, *fold(real))


def _lacks_bias(found: Value) -> TypeGuard[PendingLayer]:
    """Whether it is a dense layer as a MatMul node leaves it."""
    if not isinstance(found, PendingLayer) or found.moves:
        return False
    return isinstance(found.layer, FullyConnected) and not found.layer.bias.any()


def _dense_bias(importer: QdqImporter, name: str, product: PendingLayer, bias: QuantConstant) -> PendingLayer:
    """A dense layer with the int32 bias that an Add node brings, whatever axes of 1 that has."""
    dense = product.layer
    _require_bare(name, product)
    assert isinstance(dense, FullyConnected)
    x = importer.tensors[dense.input].quant
    values = onnx_bias(importer, name, bias, x, dense.weight_quant, len(dense.bias))
    shape = np.broadcast_shapes(product.shape, bias.array.shape)
    return pending(replace(dense, bias=values), shape, product.layout)


def batch_norm(importer: QdqImporter, node: OnnxNode) -> Value:
    """BatchNormalization by the statistics it has learnt."""
    if node.integer("training_mode", 0) or len(node.outputs) > 1:
        raise ConvertError(f"{node.name}: is in training mode; export the model for inference")
    node.asked.add("momentum")
    scale, shift, mean, variance = (real_constant(node.name, importer.value(node, index)) for index in range(1, 5))
    spread = variance + node.real("epsilon", 1e-5)
    sizes = {values.shape for values in (scale, shift, mean, variance)}
    finite = all(np.isfinite(values).all() for values in (scale, shift, mean, spread))
    if len(sizes) != 1 or scale.ndim != 1 or not finite or not (spread > 0).all():
        raise ConvertError(f"{node.name}: needs four finite lists, one value per channel, and variances of 0 or more")
    found = importer.value(node, 0)
    rank = len(found.seen[0]) if isinstance(found, PendingLayer) else len(importer.activation(node).shape)
    factor = scale / np.sqrt(spread)
    column = (-1, *[1] * max(rank - 2, 0))
    return _folded(importer, node, 0, factor.reshape(column), (shift - mean * factor).reshape(column))


def _folded(importer: QdqImporter, node: OnnxNode, index: int, factor: Real64, summand: Real64) -> PendingLayer:
    """Operand `index` of the node times the factor plus the summand."""
    found = importer.value(node, index)
    if not isinstance(found, PendingLayer) or keeps_grid(found):
        found = _pointwise(importer, node, index)
    _require_bare(node.name, found)
    if found.layer.weights is None:
        raise ConvertError(
            f"{node.name}: {node.op_type} behind {found.layer.name}, which has no weights to take it in; put a "
            f"QuantizeLinear/DequantizeLinear pair between them"
        )
    shape, axis = found.seen
    if axis is None:
        raise ConvertError(
            f"{node.name}: stands behind a shape in which the channels of {found.layer.name} lie with others; put it "
            f"before the Reshape"
        )
    factors, summands = (_per_channel(node, values, shape, axis) for values in (factor, summand))
    return replace(found, layer=scaled(importer, node.name, found.layer, factors, summands))


def _require_bare(name: str, found: PendingLayer) -> None:
    rule = f"stands behind an activation of {found.layer.name}; put a Q/DQ pair between them"
    require(found.bounds == NO_BOUNDS, name, rule)


def _pointwise(importer: QdqImporter, node: OnnxNode, index: int) -> PendingLayer:
    """A depthwise convolution that gives back its input."""
    x = importer.materialize(node.name, feature_map(importer, node, index))
    channels = x.shape[1]
    ones: Int8 = np.ones((1, 1, 1, channels), np.int8)
    zeros = np.zeros(channels, np.int32)
    same = QuantParams((1.0,), (0,))
    layer = DepthwiseConv2D(node.name, x.base, -1, ones, same, zeros, 1, (1, 1), "VALID", "NONE")
    return pending_map(layer, x.shape, len(importer.activation(node, index).shape))


def _per_channel(node: OnnxNode, values: Real64, shape: tuple[int, ...], axis: int) -> Real64:
    """Values that broadcast to `shape` as one for each channel; raises ConvertError."""
    column = values.reshape([1] * (len(shape) - values.ndim) + list(values.shape))
    fits = column.ndim == len(shape) and column.size == column.shape[axis] and column.size in (1, shape[axis])
    rule = (
        f"{node.op_type} by a constant of shape {values.shape} is supported as one value, or one per channel of {shape}"
    )
    require(fits, node.name, rule)
    return np.broadcast_to(column.reshape(-1), shape[axis])


def scaled(importer: QdqImporter, name: str, layer: Operator, factors: Real64, summands: Real64) -> Operator:
    """A layer with weights whose sums, channel by channel, are multiplied by the factors and added to; raises
    ConvertError."""
    field = next(field for field in CHANNEL_AXIS if hasattr(layer, field))
    assert layer.weights is not None
    axis, old = CHANNEL_AXIS[field], layer.weights
    signs = np.sign(factors).astype(np.int64)
    column = [-1 if i == axis else 1 for i in range(old.values.ndim)]
    values = old.values.astype(np.int64) * signs.reshape(column)
    require(
        int(values.max()) <= 127, name, "a factor below 0 makes +128 of a weight of -128; export weights of -127 to 127"
    )
    scales = np.broadcast_to(np.array(old.quant.scales), len(factors)) * np.where(factors == 0, 1.0, np.abs(factors))
    with np.errstate(over="ignore"):
        stored = scales.astype(np.float32).astype(np.float64)
    good = np.isfinite(stored) & (stored >= float(np.finfo(np.float32).tiny))
    require(bool(good.all()), name, "makes a weight scale that no float32 holds; leave out channels that are constant")
    steps = stored * importer.tensors[layer.input].quant.scale
    bias = bias_steps(name, old.bias * signs * steps + summands, steps)
    if summands.any():
        importer.note(
            "a bias that is not int32 at input scale x weight scale is rounded to that, as TensorFlow Lite has it"
        )
    several = len(set(stored.tolist())) > 1
    kept = tuple(stored.tolist()) if several else (float(stored[0]),)
    params = QuantParams(kept, (0,) * len(kept), axis if several else None)
    return with_fields(layer, **{field: values.astype(np.int8)}, weight_quant=params, bias=bias)
