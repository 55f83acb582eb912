"""Nodes that become no layer of their own: views of a tensor, activations and biases that go into the layer before."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from converter.errors import ConvertError
from converter.formats.onnx import (
    NO_PADS,
    Constant,
    OnnxNode,
    OnnxRule,
    PendingLayer,
    QuantConstant,
    Quantized,
    Value,
    axes_of,
    pending,
)
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
            if dense.activation != "NONE" or dense.bias.any():
                raise ConvertError(f"{node.name}: {dense.name} has a bias already")
            values = onnx_bias(
                node.name, bias, importer.tensors[dense.input].quant, dense.weight_quant, len(dense.bias)
            )
            shape = np.broadcast_shapes(product.shape, bias.array.shape)
            return pending(replace(dense, bias=values), shape, product.layout)
    return OPERATOR_RULES["Add"](importer, node)


def _relu(importer: QdqImporter, node: OnnxNode) -> Value:
    """Fused into the layer before; behind a grid that begins at zero it changes nothing."""
    found = importer.value(node, 0)
    if isinstance(found, PendingLayer):
        return found.fused("RELU", node.name)
    x = importer.activation(node)
    if importer.quant_of(x).zero_point != -128:
        raise ConvertError(f"{node.name}: must stand before the QuantizeLinear of the layer it belongs to")
    return x


def _clip(importer: QdqImporter, node: OnnxNode) -> Value:
    """Fused as RELU or RELU6."""
    low, high = importer.array(node, 1), importer.array(node, 2)
    bounds = (
        float(low.item()) if low is not None and low.size == 1 else node.real("min", -math.inf),
        float(high.item()) if high is not None and high.size == 1 else node.real("max", math.inf),
    )
    largest = float(np.finfo(np.float32).max)  # the default before operator set 11
    bounds = (-math.inf if bounds[0] <= -largest else bounds[0], math.inf if bounds[1] >= largest else bounds[1])
    found = importer.value(node, 0)
    if bounds not in ((0.0, 6.0), (0.0, math.inf)) or not isinstance(found, PendingLayer):
        raise ConvertError(f"{node.name}: Clip is supported right behind a layer as 0..6 or 0 and above, got {bounds}")
    return found.fused("RELU6" if bounds[1] == 6.0 else "RELU", node.name)


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


def _flatten(importer: QdqImporter, node: OnnxNode) -> Value:
    """Two axes."""
    x = importer.activation(node)
    axis = node.integer("axis", 1)
    split = axis if axis >= 0 else axis + len(x.shape)
    return view(importer, node, x, (math.prod(x.shape[: max(split, 0)]), math.prod(x.shape[max(split, 0) :])))


def _reshape(importer: QdqImporter, node: OnnxNode) -> Value:
    """Sizes may hold 0 (keep) and one -1 (the rest)."""
    x, wanted = importer.activation(node), importer.array(node, 1)
    if wanted is None or wanted.ndim != 1 or wanted.dtype != np.int64:
        raise ConvertError(f"{node.name}: its shape must be a constant list of int64")
    sizes = [int(size) for size in wanted]
    if not node.integer("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 and axis < len(x.shape) else size for axis, size in enumerate(sizes)]
    if sizes.count(-1) == 1:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known if known > 0 else 0
    return view(importer, node, x, tuple(sizes))


def _squeeze(importer: QdqImporter, node: OnnxNode) -> Value:
    """Squeeze and Unsqueeze."""
    x, axes = importer.activation(node), axes_of(importer, node)
    if node.op_type == "Squeeze":
        gone = {axis % len(x.shape) for axis in axes} or {axis for axis, size in enumerate(x.shape) if size == 1}
        if any(x.shape[axis] != 1 for axis in gone):
            raise ConvertError(f"{node.name}: can only squeeze axes of size 1, got axes {axes} of {x.shape}")
        return view(importer, node, x, tuple(size for axis, size in enumerate(x.shape) if axis not in gone))
    rank = len(x.shape) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(x.shape)
    return view(importer, node, x, tuple(1 if axis in new else next(rest, 1) for axis in range(rank)))


def view(importer: QdqImporter, node: OnnxNode, x: Quantized, shape: tuple[int, ...]) -> Quantized:
    """The same elements under another ONNX shape; no layer is emitted unless a consumer needs that shape."""
    if math.prod(shape) != math.prod(x.shape) or len(shape) > 5 or any(size < 1 for size in shape):
        raise ConvertError(f"{node.name}: cannot reshape {x.shape} to {shape}")
    if shape == x.shape:
        return x
    if x.pads_tblr != NO_PADS:
        x = importer.materialize(node.name, x)
    is_linear = x.layout == "plain" or x.shape[1] == 1 or x.shape[2] * x.shape[3] == 1
    if not is_linear:
        if math.prod(shape[:-1]) != 1:
            raise ConvertError(
                f"{node.name}: can only flatten the feature map {x.shape} to one row, got {shape}; transpose it to "
                f"NHWC first"
            )
        return replace(x, shape=shape, layout="plain", chw=(x.shape[1], x.shape[2], x.shape[3]))
    if x.chw is not None and len(shape) == 4:
        raise ConvertError(
            f"{node.name}: cannot reshape a flattened feature map to {shape}; transpose it to NHWC first"
        )
    is_map = len(shape) == 4 and (shape[1] == 1 or shape[2] * shape[3] == 1)
    return replace(x, shape=shape, layout="nchw" if is_map else "plain")


def _transpose(importer: QdqImporter, node: OnnxNode) -> Value:
    """Only changes between NCHW and NHWC, which move no data."""
    x = importer.activation(node)
    rank = len(x.shape)
    perm = node.integers("perm", tuple(reversed(range(rank))))
    if sorted(perm) != list(range(rank)) or x.chw is not None:
        raise ConvertError(f"{node.name}: cannot transpose {x.shape} by {perm}")
    if x.pads_tblr != NO_PADS:
        x = importer.materialize(node.name, x)
    shape = tuple(x.shape[axis] for axis in perm)
    stored = [axis for axis in ((0, 2, 3, 1) if x.layout == "nchw" else range(rank)) if x.shape[axis] > 1]
    if rank == 4 and [perm[axis] for axis in (0, 2, 3, 1) if shape[axis] > 1] == stored:
        return replace(x, shape=shape, layout="nchw")
    if [axis for axis in perm if x.shape[axis] > 1] == stored:
        return replace(x, shape=shape, layout="plain")
    raise ConvertError(
        f"{node.name}: moves data ({perm} of {x.shape}); only changes between NCHW and NHWC are supported"
    )


RULES: dict[str, Callable[[QdqImporter, OnnxNode], Value]] = {
    **OPERATOR_RULES,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "Constant": _constant,
    "Identity": _same_value,
    "Dropout": _dropout,
    "Add": _add,
    "Relu": _relu,
    "Clip": _clip,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _squeeze,
    "Transpose": _transpose,
}
SUPPORTED = ", ".join(sorted(RULES))
