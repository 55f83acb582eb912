"""Which node is read by which rule; constants, and activations, which go into the layer before where it takes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from converter.errors import ConvertError
from converter.formats.onnx import (
    Constant,
    OnnxNode,
    OnnxRule,
    PendingLayer,
    QuantConstant,
    Quantized,
    Value,
    covers,
)
from converter.onnx_qdq.affine import arithmetic, batch_norm
from converter.onnx_qdq.grids import conv_of_channels, dequantize, quantize
from converter.onnx_qdq.moves import MOVES
from converter.onnx_qdq.qdq import QdqImporter
from converter.onnx_qdq.qlinear import FORMS
from converter.operators import OPERATORS

OPERATOR_RULES: dict[str, OnnxRule] = {key: rule for kind in OPERATORS for key, rule in kind.ONNX.items()}


def _relu(importer: QdqImporter, node: OnnxNode) -> Value:
    """As _clip."""
    return _clipped(importer, node, 0.0, math.inf)


def _clip(importer: QdqImporter, node: OnnxNode) -> Value:
    """Goes into the layer before, or is a layer of its own behind the Q/DQ pair of an activation; a clip of constants
    gives constants."""
    low, high = importer.array(node, 1), importer.array(node, 2)
    found = importer.value(node, 0)
    if isinstance(found, Constant) or (isinstance(found, QuantConstant) and not found.dequantized):
        given = {bound.dtype for bound in (low, high) if bound is not None}
        if not given <= {found.array.dtype}:  # as of numbers that were uint8
            raise ConvertError(f"{node.name}: clips a constant to bounds of another type; export the model again")
        return replace(found, array=np.asarray(np.clip(found.array, low, high), found.array.dtype))
    bounds = (
        float(low.item()) if low is not None and low.size == 1 else node.real("min", -math.inf),
        float(high.item()) if high is not None and high.size == 1 else node.real("max", math.inf),
    )
    largest = float(np.finfo(np.float32).max)  # the default before operator set 11
    bounds = (-math.inf if bounds[0] <= -largest else bounds[0], math.inf if bounds[1] >= largest else bounds[1])
    if not bounds[0] < bounds[1]:
        raise ConvertError(f"{node.name}: the lower bound of a Clip must lie below the upper one, got {bounds}")
    return _clipped(importer, node, *bounds)


def _clipped(importer: QdqImporter, node: OnnxNode, low: float, high: float) -> Value:
    found = importer.value(node, 0)
    if isinstance(found, PendingLayer):
        return found.clipped(low, high)
    x = importer.activation(node)
    if covers((low, high), importer.quant_of(x)):  # nothing to clip
        return x
    return importer.rescaled(node.name, x).clipped(low, high)


def _conv(importer: QdqImporter, node: OnnxNode) -> Value:
    """A convolution; a depthwise one also of an input with a scale for each channel."""
    return conv_of_channels(importer, node, OPERATOR_RULES["Conv"])


def _max_pool(importer: QdqImporter, node: OnnxNode) -> Value:
    """Of real values, or of the int8 numbers that stand for them: the largest is the same."""
    rule, found = OPERATOR_RULES[node.op_type], importer.value(node, 0)
    if not isinstance(found, Quantized) or found.dequantized:
        return rule(importer, node)
    real = f"{node.inputs[0]}//real"
    importer.values[real] = replace(found, dequantized=True)
    pool = rule(importer, replace(node, inputs=(real,)))
    assert isinstance(pool, PendingLayer)
    done = importer.finish_layer(node.outputs[0], pool, importer.quant_of(found))
    return replace(done, is_uint8=found.is_uint8)


def _same_value(importer: QdqImporter, node: OnnxNode) -> Value:
    """Identity."""
    return importer.value(node, 0)


def _dropout(importer: QdqImporter, node: OnnxNode) -> Value:
    """Nothing at inference, whatever its ratio and seed."""
    node.asked.update(("ratio", "seed", 1))
    training = importer.array(node, 2)
    if training is not None and training.any():
        raise ConvertError(f"{node.name}: is in training mode; export the model for inference")
    return importer.value(node, 0)


def _constant(importer: QdqImporter, node: OnnxNode) -> Value:
    """A tensor, or numbers in one of the forms of operator set 12."""
    for key in ("value", "value_floats"):
        array = node.tensor(key)
        if array is not None:
            return Constant(array)
    if "value_float" in node.attributes:
        return Constant(np.array(node.real("value_float", 0.0), np.float32))
    if "value_int" in node.attributes:
        return Constant(np.array(node.integer("value_int", 0), np.int64))
    if "value_ints" in node.attributes:
        return Constant(np.array(node.integers("value_ints", ()), np.int64))
    raise ConvertError(f"{node.name}: only constants of numbers are supported; export the model again")


RULES: dict[str, Callable[[QdqImporter, OnnxNode], Value]] = {
    **OPERATOR_RULES,
    **MOVES,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "Constant": _constant,
    "Identity": _same_value,
    "Dropout": _dropout,
    "Add": arithmetic,
    "Sub": arithmetic,
    "Mul": arithmetic,
    "Div": arithmetic,
    "BatchNormalization": batch_norm,
    "Conv": _conv,
    "MaxPool": _max_pool,
    "Relu": _relu,
    "Clip": _clip,
}
SUPPORTED = ", ".join(sorted((*RULES, *(op_type for _, op_type in FORMS))))
