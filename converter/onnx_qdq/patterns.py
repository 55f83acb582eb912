"""Nodes that become no layer of their own where a layer before takes them in: activations and biases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from converter.errors import ConvertError
from converter.formats.onnx import (
    NO_BOUNDS,
    Constant,
    OnnxNode,
    OnnxRule,
    PendingLayer,
    QuantConstant,
    Value,
    covers,
    pending,
)
from converter.onnx_qdq.moves import MOVES
from converter.onnx_qdq.qdq import QdqImporter, dequantize, quantize
from converter.operators import OPERATORS
from converter.operators.fully_connected import FullyConnected
from converter.operators.weighted import onnx_bias

OPERATOR_RULES: dict[str, OnnxRule] = {key: rule for kind in OPERATORS for key, rule in kind.ONNX.items()}


def _add(importer: QdqImporter, node: OnnxNode) -> Value:
    """A bias behind a MatMul goes into its dense layer; else the sum of two activations."""
    left, right = importer.value(node, 0), importer.value(node, 1)
    for product, bias in ((left, right), (right, left)):
        if (
            isinstance(product, PendingLayer)
            and isinstance(product.layer, FullyConnected)
            and isinstance(bias, QuantConstant)
        ):
            dense = product.layer
            if product.bounds != NO_BOUNDS or product.moves or dense.bias.any():
                raise ConvertError(f"{node.name}: {dense.name} has a bias already")
            values = onnx_bias(
                node.name, bias, importer.tensors[dense.input].quant, dense.weight_quant, len(dense.bias)
            )
            shape = np.broadcast_shapes(product.shape, bias.array.shape)
            return pending(replace(dense, bias=values), shape, product.layout)
    return OPERATOR_RULES["Add"](importer, node)


def _relu(importer: QdqImporter, node: OnnxNode) -> Value:
    """As _clip."""
    return _clipped(importer, node, 0.0, math.inf)


def _clip(importer: QdqImporter, node: OnnxNode) -> Value:
    """Goes into the layer before, or is a layer of its own behind the Q/DQ pair of an activation; a clip of constants
    gives constants."""
    low, high = importer.array(node, 1), importer.array(node, 2)
    found = importer.value(node, 0)
    if isinstance(found, Constant) or (isinstance(found, QuantConstant) and not found.dequantized):
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
    if not low <= 0.0 <= high:  # zeros that wait would not stay zeros
        x = importer.materialize(node.name, x)
    return importer.rescaled(node.name, x).clipped(low, high)


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
    """A tensor."""
    array = node.tensor("value")
    if array is None:
        raise ConvertError(f"{node.name}: only tensor constants are supported; export the model again")
    return Constant(array)


RULES: dict[str, Callable[[QdqImporter, OnnxNode], Value]] = {
    **OPERATOR_RULES,
    **MOVES,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "Constant": _constant,
    "Identity": _same_value,
    "Dropout": _dropout,
    "Add": _add,
    "Relu": _relu,
    "Clip": _clip,
}
SUPPORTED = ", ".join(sorted(RULES))
