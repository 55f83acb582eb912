"""Nodes that only move data: another shape or another order of the same values.

What stands before the QuantizeLinear of the model's input or of a layer is done behind it: to quantize is one and the
same for every value, wherever it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from converter.errors import ConvertError
from converter.formats.onnx import NO_PADS, OnnxNode, PendingLayer, Quantized, Real, Value, axes_of
from converter.onnx_qdq.qdq import QdqImporter, keeps_grid

MoveRule = Callable[[QdqImporter, OnnxNode, Quantized], Quantized]


def _rule(move: MoveRule) -> Callable[[QdqImporter, OnnxNode], Value]:
    """The rule of a node that does `move` to its first operand."""

    def rule(importer: QdqImporter, node: OnnxNode) -> Value:
        found = importer.value(node, 0)
        if isinstance(found, Quantized):
            return move(importer, node, found)
        waits = isinstance(found, PendingLayer) and not keeps_grid(found)
        if isinstance(found, (Real, PendingLayer)) and (waits or (isinstance(found, Real) and not found.is_int8)):
            node.asked.update(node.attributes)  # looked at when the move is done
            node.asked.update(range(len(node.inputs)))
            return replace(found, moves=(*found.moves, lambda x: move(importer, node, x)))
        return move(importer, node, importer.activation(node))

    return rule


def _flatten(importer: QdqImporter, node: OnnxNode, x: Quantized) -> Quantized:
    """Two axes."""
    axis = node.integer("axis", 1)
    split = axis if axis >= 0 else axis + len(x.shape)
    return view(importer, node, x, (math.prod(x.shape[: max(split, 0)]), math.prod(x.shape[max(split, 0) :])))


def _reshape(importer: QdqImporter, node: OnnxNode, x: Quantized) -> Quantized:
    """Sizes may hold 0 (keep) and one -1 (the rest)."""
    wanted = importer.array(node, 1)
    if wanted is None or wanted.ndim != 1 or wanted.dtype != np.int64:
        raise ConvertError(f"{node.name}: its shape must be a constant list of int64")
    sizes = [int(size) for size in wanted]
    if not node.integer("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 and axis < len(x.shape) else size for axis, size in enumerate(sizes)]
    if sizes.count(-1) == 1:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known if known > 0 else 0
    return view(importer, node, x, tuple(sizes))


def _squeeze(importer: QdqImporter, node: OnnxNode, x: Quantized) -> Quantized:
    """Squeeze and Unsqueeze."""
    axes = axes_of(importer, node)
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


def _transpose(importer: QdqImporter, node: OnnxNode, x: Quantized) -> Quantized:
    """Only changes between NCHW and NHWC, which move no data."""
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


MOVES = {
    "Flatten": _rule(_flatten),
    "Reshape": _rule(_reshape),
    "Squeeze": _rule(_squeeze),
    "Unsqueeze": _rule(_squeeze),
    "Transpose": _rule(_transpose),
}
