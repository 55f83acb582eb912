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
from converter.formats.onnx import (
    NO_PADS,
    Constant,
    Layout,
    OnnxNode,
    PendingLayer,
    QuantConstant,
    Quantized,
    Real,
    Value,
    axes_of,
    stored_order,
)
from converter.onnx_qdq.qdq import QdqImporter, keeps_grid

MoveRule = Callable[[QdqImporter, OnnxNode, Quantized], Quantized]


def _rule(move: MoveRule) -> Callable[[QdqImporter, OnnxNode], Value]:
    """The rule of a node that does `move` to its first operand."""

    def rule(importer: QdqImporter, node: OnnxNode) -> Value:
        found = importer.value(node, 0)
        if isinstance(found, (Constant, QuantConstant)):
            return _of_constant(importer, node, found)
        if isinstance(found, Quantized):
            return move(importer, node, found)
        waits = isinstance(found, PendingLayer) and not keeps_grid(found)
        if isinstance(found, (Real, PendingLayer)) and (waits or (isinstance(found, Real) and found.kind == "float32")):
            node.asked.update(node.attributes)  # looked at when the move is done
            node.asked.update(range(len(node.inputs)))
            moves = (*found.moves, lambda x: move(importer, node, x))
            if isinstance(found, Real):
                return replace(found, moves=moves)
            return replace(found, moves=moves, moved=_axis_after(importer, node, *found.seen))
        return move(importer, node, importer.activation(node))

    return rule


def _axis_after(
    importer: QdqImporter, node: OnnxNode, old: tuple[int, ...], axis: int | None
) -> tuple[tuple[int, ...], int | None]:
    """The shape that the node makes of another, and where an axis of that has gone; None where it is mixed with
    others."""
    if node.op_type == "Transpose":
        perm = _perm(node, old)
        return tuple(old[i] for i in perm), None if axis is None else perm.index(axis)
    shape = SHAPES[node.op_type](importer, node, old)
    if math.prod(shape) != math.prod(old) or min(shape, default=1) < 0 or len(shape) > 8:
        raise ConvertError(f"{node.name}: cannot reshape {old} to {shape}")
    if axis is None:
        return shape, None
    before = math.prod(old[:axis])
    kept = [i for i, size in enumerate(shape) if size == old[axis] and math.prod(shape[:i]) == before]
    return shape, kept[-1] if kept else None


def _of_constant(importer: QdqImporter, node: OnnxNode, found: Constant | QuantConstant) -> Value:
    """Constants moved at once; scales per channel keep to their axis."""
    old = found.array.shape
    shape, axis = _axis_after(importer, node, old, found.quant.axis if isinstance(found, QuantConstant) else None)
    array = found.array.transpose(_perm(node, old)) if node.op_type == "Transpose" else found.array.reshape(shape)
    if isinstance(found, Constant):
        return Constant(array)
    if axis is None and found.quant.axis is not None:
        raise ConvertError(f"{node.name}: a reshape from {old} to {shape} leaves no axis for its scales")
    return replace(found, array=array, quant=replace(found.quant, axis=axis))


def _flatten(importer: QdqImporter, node: OnnxNode, old: tuple[int, ...]) -> tuple[int, ...]:
    """Two axes."""
    axis = node.integer("axis", 1)
    split = axis if axis >= 0 else axis + len(old)
    return math.prod(old[: max(split, 0)]), math.prod(old[max(split, 0) :])


def _reshape(importer: QdqImporter, node: OnnxNode, old: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes may hold 0 (keep) and one -1 (the rest)."""
    wanted = importer.array(node, 1)
    if wanted is None or wanted.ndim != 1 or wanted.dtype != np.int64:
        raise ConvertError(f"{node.name}: its shape must be a constant list of int64")
    sizes = [int(size) for size in wanted]
    if not node.integer("allowzero", 0):
        sizes = [old[axis] if size == 0 and axis < len(old) else size for axis, size in enumerate(sizes)]
    if sizes.count(-1) == 1:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(old) // known if known > 0 else 0
    return tuple(sizes)


def _squeeze(importer: QdqImporter, node: OnnxNode, old: tuple[int, ...]) -> tuple[int, ...]:
    """Squeeze and Unsqueeze."""
    axes = axes_of(importer, node)
    if node.op_type == "Squeeze":
        gone = {axis % len(old) for axis in axes if old} or {axis for axis, size in enumerate(old) if size == 1}
        if any(old[axis] != 1 for axis in gone):
            raise ConvertError(f"{node.name}: can only squeeze axes of size 1, got axes {axes} of {old}")
        return tuple(size for axis, size in enumerate(old) if axis not in gone)
    rank = len(old) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(old)
    return tuple(1 if axis in new else next(rest, 1) for axis in range(rank))


SHAPES = {"Flatten": _flatten, "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _squeeze}


def _shaped(importer: QdqImporter, node: OnnxNode, x: Quantized) -> Quantized:
    return view(importer, node, x, SHAPES[node.op_type](importer, node, x.shape))


def _perm(node: OnnxNode, shape: tuple[int, ...]) -> tuple[int, ...]:
    rank = len(shape)
    perm = node.integers("perm", tuple(reversed(range(rank))))
    if sorted(perm) != list(range(rank)):
        raise ConvertError(f"{node.name}: cannot transpose {shape} by {perm}")
    return perm


def view(importer: QdqImporter, node: OnnxNode, x: Quantized, shape: tuple[int, ...]) -> Quantized:
    """The same elements under another ONNX shape; no layer is emitted unless they must be stored otherwise for it, or a
    consumer needs that shape."""
    if math.prod(shape) != math.prod(x.shape) or len(shape) > 5 or any(size < 1 for size in shape):
        raise ConvertError(f"{node.name}: cannot reshape {x.shape} to {shape}")
    if shape == x.shape:
        return x
    if x.pads_tblr != NO_PADS:
        x = importer.materialize(node.name, x)
    is_linear = x.layout == "plain" or x.shape[1] == 1 or math.prod(x.shape[2:]) == 1
    if not is_linear:
        if math.prod(shape[:-1]) == 1:
            channels, height, width = x.shape[1], *(1,) * (4 - len(x.shape)), *x.shape[2:]
            return replace(x, shape=shape, layout="plain", chw=(channels, height, width))
        sizes = [size for size in x.shape[2:] if size > 1]
        if len(shape) in (3, 4) and shape[:2] == x.shape[:2] and [size for size in shape[2:] if size > 1] == sizes:
            return replace(x, shape=shape, layout="nchw" if len(shape) == 4 else "ncw")
        x = importer.in_order(node.name, x)
    if x.chw is not None and len(shape) in (3, 4):
        x = importer.in_order(node.name, x)
    is_map = len(shape) == 4 and shape[0] == 1 and (shape[1] == 1 or shape[2] * shape[3] == 1)
    return replace(x, shape=shape, layout="nchw" if is_map else "plain")


def _transpose(importer: QdqImporter, node: OnnxNode, x: Quantized) -> Quantized:
    """Another view where channels go innermost or come from there, else a layer."""
    perm = _perm(node, x.shape)
    if (
        len(perm) in (3, 4) and x.chw is None and x.shape[perm[0]] == 1
    ):  # whether it is a map now, in the order in which it is stored
        layout: Layout = "nchw" if len(perm) == 4 else "ncw"
        order = (0, *range(2, len(perm)), 1)
        stored = [axis for axis in stored_order(x) if x.shape[axis] > 1]
        if [perm[axis] for axis in order if x.shape[perm[axis]] > 1] == stored:
            return importer.transposed(node.name, x, perm, layout)
    return importer.transposed(node.name, x, perm, "plain")


MOVES = {**dict.fromkeys(SHAPES, _rule(_shaped)), "Transpose": _rule(_transpose)}
