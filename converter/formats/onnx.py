"""What an operator must know of a QDQ ONNX graph: its nodes, what a value can be, and what the importer offers.

One node of ONNX becomes a layer that waits for its scale, or another view of a tensor. Nothing here needs the package
onnx: converter/onnx_qdq reads the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from converter.errors import ConvertError
from converter.graph import Operator
from converter.quant import Activation
from converter.tensor import QuantParams

Array = NDArray[np.generic]
# "plain": the ONNX element order is the stored one. "nchw": ONNX says [1, C, H, W], stored is [1, H, W, C]; "ncw": ONNX
# says [1, C, W], stored is [1, 1, W, C].
Layout = Literal["plain", "nchw", "ncw"]
NO_PADS = (0, 0, 0, 0)
NO_BOUNDS = (-math.inf, math.inf)
ACTIVATIONS: dict[tuple[float, float], Activation] = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6"}
T = TypeVar("T")
Move = Callable[["Quantized"], "Quantized"]


@dataclass(frozen=True)
class Real:
    """The graph's input before its QuantizeLinear (or, when the model takes int8 or uint8, its DequantizeLinear).

    moves: what nodes make of its shape before it is quantized; it is done to the quantized tensor, in the same order.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, eq=False)
class Constant:
    """An initialiser, or numbers computed from initialisers alone."""

    array: Array


@dataclass(frozen=True, eq=False)
class QuantConstant:
    """Integers with scales: weights or a bias. `dequantized` tells the two sides of DequantizeLinear apart."""

    array: Array
    quant: QuantParams
    dequantized: bool


@dataclass(frozen=True)
class Quantized:
    """An activation on its int8 grid: a view of tensor `base` with an ONNX shape, maybe with zeros still to be put
    round it.

    `shape` counts those zeros. chw is the (C, H, W) whose NCHW order was flattened; the dense layer that follows
    permutes its weights by it. per_channel: the scale of each channel where they differ, instead of that of the tensor;
    only a depthwise convolution can read such, for its weights can make up for it.
    """

    base: int
    shape: tuple[int, ...]
    layout: Layout
    dequantized: bool
    is_uint8: bool = False  # in the file, where the numbers are 128 more
    pads_tblr: tuple[int, int, int, int] = NO_PADS
    chw: tuple[int, int, int] | None = None
    per_channel: tuple[float, ...] = ()

    @property
    def bare(self) -> Quantized:
        """Without the zeros that wait."""
        return self.padded((-self.pads_tblr[0], -self.pads_tblr[1], -self.pads_tblr[2], -self.pads_tblr[3]))

    def padded(self, tblr: tuple[int, int, int, int]) -> Quantized:
        """A feature map with more zeros round it."""
        if tblr == NO_PADS:
            return self
        top, bottom, left, right = tblr
        batch, channels, height, width = self.shape
        shape = (batch, channels, height + top + bottom, width + left + right)
        old = self.pads_tblr
        return replace(self, shape=shape, pads_tblr=(old[0] + top, old[1] + bottom, old[2] + left, old[3] + right))


@dataclass(frozen=True, eq=False)
class PendingLayer:
    """A layer that waits for the QuantizeLinear that gives its output scale; its `output` is not set yet.

    Where the operator depends on that scale, `choose` gives the layer to put in its place. bounds: the real values that
    Relu and Clip nodes let pass; moves: as a Real's.
    """

    layer: Operator
    shape: tuple[int, ...]
    layout: Layout
    stored: tuple[int, ...]  # shape of the tensor it writes
    choose: Callable[[Operator, QuantParams], Operator] | None = None
    bounds: tuple[float, float] = NO_BOUNDS
    moves: tuple[Move, ...] = ()
    moved: tuple[tuple[int, ...], int | None] | None = None  # the shape after them, and the axis of the channels

    @property
    def seen(self) -> tuple[tuple[int, ...], int | None]:
        """The shape that the next node sees, and which axis of it the layer's channels are, if one."""
        plain = len(self.shape) - 1 if self.layout == "plain" else 1
        return self.moved or (self.shape, plain)

    def clipped(self, low: float, high: float) -> PendingLayer:
        """The layer with a Clip node behind it, behind those that are there."""
        old = self.bounds
        return replace(self, bounds=(min(max(old[0], low), high), min(max(old[1], low), high)))


Value = Union[Real, Constant, QuantConstant, Quantized, PendingLayer]


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """A node in plain data: operands by the names of the values they are, attributes as Python values, with the
    defaults of the model's operator set (`opset`).

    `asked` keeps what a rule looked at, attributes by name and operands by number: what it did not is refused.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    asked: set[str | int] = field(default_factory=set)

    def has_input(self, index: int) -> bool:
        """Whether an optional operand is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def _attribute(self, key: str, kind: type[T]) -> T | None:
        self.asked.add(key)
        found = self.attributes.get(key)
        if found is not None and not isinstance(found, kind):
            raise ConvertError(f"{self.name}: attribute {key} is of the wrong type; export the model again")
        return found

    def integer(self, key: str, default: int) -> int:
        """An attribute of one integer."""
        found = self._attribute(key, int)
        return default if found is None else found

    def real(self, key: str, default: float) -> float:
        """An attribute of one float32."""
        found = self._attribute(key, float)
        return default if found is None else found

    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An attribute of several integers."""
        found = self._attribute(key, tuple)
        return default if found is None else found

    def text(self, key: str, default: str) -> str:
        """An attribute of text."""
        found = self._attribute(key, str)
        return default if found is None else found

    def tensor(self, key: str) -> Array | None:
        """An attribute that is a tensor."""
        return self._attribute(key, np.ndarray)


class Importer(Protocol):
    """What the reader of a QDQ graph offers to the operators; every method raises ConvertError."""

    def value(self, node: OnnxNode, index: int) -> Value:
        """What an operand stands for."""

    def array(self, node: OnnxNode, index: int) -> Array | None:
        """A constant operand, None when it is left out."""

    def activation(self, node: OnnxNode, index: int = 0) -> Quantized:
        """An operand on its int8 grid, seen as real numbers."""

    def quant_of(self, value: Quantized) -> QuantParams:
        """The scale of an activation."""

    def stored(self, tensor: int) -> tuple[tuple[int, ...], QuantParams]:
        """Shape and scale of a tensor of the Graph."""

    def never_negative(self, x: Quantized) -> bool:
        """Whether no real value of the activation lies below 0, whatever the input."""

    def note(self, text: str) -> None:
        """What the user of the model should know about how it was read."""

    def as_map(self, name: str, x: Quantized) -> Quantized:
        """The same values with their channels innermost, by a Transpose where they are not yet; three or four axes."""

    def in_order(self, name: str, x: Quantized) -> Quantized:
        """The same values stored in ONNX's order, by a Transpose where they are not yet."""

    def transposed(self, name: str, x: Quantized, perm: tuple[int, ...], layout: Layout) -> Quantized:
        """Axis i of the result is axis perm[i] of x; a Transpose where that moves data."""

    def materialize(self, name: str, value: Quantized) -> Quantized:
        """The same values as a tensor of their own shape: a view becomes a Reshape, waiting zeros become a Pad."""


OnnxRule = Callable[[Importer, OnnxNode], Value]


def pending(layer: Operator, shape: tuple[int, ...], layout: Layout) -> PendingLayer:
    """A layer that writes a tensor of this ONNX shape."""
    return PendingLayer(layer, shape, layout, stored_shape(shape, layout))


def stored_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The NHWC shape of an ONNX one; a list gets the batch in front that ONNX left out."""
    if layout != "plain":
        return shape[0], *(1,) * (4 - len(shape)), *shape[2:], shape[1]
    return shape if len(shape) > 1 else (1, *shape)


def stored_order(x: Quantized) -> tuple[int, ...]:
    """The ONNX axes in the order in which they are stored, the innermost last."""
    rank = len(x.shape)
    return tuple(range(rank)) if x.layout == "plain" else (0, *range(2, rank), 1)


def covers(bounds: tuple[float, float], quant: QuantParams) -> bool:
    """Whether the grid ends within the bounds, so that whatever is quantized to it is clipped to them."""
    low, high = (np.rint(np.float32(bound) / np.float32(quant.scale)) + quant.zero_point for bound in bounds)
    return bool(low <= -128 and high >= 127)


def activation_of(name: str, bounds: tuple[float, float], quant: QuantParams) -> Activation:
    """The activation that clips an output of this grid to the bounds; raises ConvertError where TensorFlow Lite has
    none."""
    if bounds in ACTIVATIONS:
        return ACTIVATIONS[bounds]
    if covers(bounds, quant):
        return "NONE"
    if bounds[0] == 0.0 and covers((-math.inf, bounds[1]), quant):
        return "RELU"
    raise ConvertError(
        f"{name}: Clip is supported as 0..6, as 0 and above, or to bounds that the output's grid {quant.text} ends at, "
        f"got {bounds}; give the QuantizeLinear behind it a scale that ends there"
    )


def feature_map(importer: Importer, node: OnnxNode, index: int = 0) -> Quantized:
    """An operand of the node as [1, channels, height, width]; one of [1, channels, width] has height 1."""
    x = importer.activation(node, index)
    if len(x.shape) not in (3, 4):
        raise ConvertError(f"{node.name}: needs an input [1, channels, height, width], got {x.shape}")
    x = importer.as_map(node.name, x)
    return x if len(x.shape) == 4 else replace(x, shape=(*x.shape[:2], 1, x.shape[2]), layout="nchw")


def pending_map(layer: Operator, shape: tuple[int, ...], rank: int) -> PendingLayer:
    """A layer that writes a map [1, channels, height, width], which ONNX has without the height where it has three
    axes."""
    found = pending(layer, shape, "nchw")
    return found if rank == 4 else replace(found, shape=(shape[0], shape[1], shape[3]), layout="ncw")


def axes_of(importer: Importer, node: OnnxNode) -> tuple[int, ...]:
    """The axes a node names, in its operand 1 or (before opset 13 and 18) in an attribute."""
    given = importer.array(node, 1)
    return node.integers("axes", ()) if given is None else integers_of(node, given)


def integers_of(node: OnnxNode, given: Array) -> tuple[int, ...]:
    """A constant operand of integers, in a row; raises ConvertError for other numbers."""
    if given.dtype.kind not in "iu":
        raise ConvertError(f"{node.name}: axes, pads and sizes must be integers, got {given.dtype}")
    return tuple(int(value) for value in given.ravel())


def quant_params(name: str, scale: Array, zero_point: Array | None, axis: int | None) -> QuantParams:
    """Scales and zero points of a Q or DQ node, bit for bit."""
    if scale.dtype != np.float32 or scale.ndim > 1 or scale.size == 0:
        raise ConvertError(
            f"{name}: scales are one float32 or a list of them, got {scale.dtype} of shape {scale.shape}"
        )
    scales = tuple(float(value) for value in np.atleast_1d(scale))
    if not all(math.isfinite(value) and value > 0 for value in scales):
        raise ConvertError(f"{name}: scales are positive and finite, got {min(scales)}")
    if zero_point is None:
        zero_points = (0,) * len(scales)
    elif zero_point.ndim <= 1 and zero_point.size == len(scales) and zero_point.dtype.kind in "iu":
        zero_points = tuple(int(value) for value in np.atleast_1d(zero_point))
    else:
        raise ConvertError(
            f"{name}: needs as many integer zero points as scales, got {zero_point.dtype} of shape {zero_point.shape}"
        )
    return QuantParams(scales, zero_points, axis if len(scales) > 1 else None)
