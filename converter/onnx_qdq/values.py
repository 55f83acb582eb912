"""What an ONNX value can be while a QDQ graph is walked, and how its numbers are read; nothing here knows an
operator."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from converter.check import MAX_ELEMENTS
from converter.graph import Activation, ConvertError, Layer, Pad, QuantParams, Reshape, Softmax

Array = NDArray[np.generic]
# "plain": the ONNX element order is the stored one. "nchw": ONNX says [1, C, H, W], stored is [1, H, W, C].
Layout = Literal["plain", "nchw"]
NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True)
class Real:
    """The graph's input before its QuantizeLinear (or, when the model takes int8, its DequantizeLinear)."""

    name: str
    shape: tuple[int, ...]
    is_int8: bool


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

    chw is the (C, H, W) whose NCHW order was flattened; the dense layer that follows permutes its weights by it.
    """

    base: int
    shape: tuple[int, ...]
    layout: Layout
    dequantized: bool
    pads_tblr: tuple[int, int, int, int] = NO_PADS
    chw: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Pending:
    """A layer that waits for the QuantizeLinear that gives its output scale; its `output` is not set yet."""

    layer: Layer
    shape: tuple[int, ...]
    layout: Layout
    stored: tuple[int, ...]

    def fused(self, activation: Activation, name: str) -> Pending:
        if isinstance(self.layer, (Reshape, Softmax, Pad)) or self.layer.activation != "NONE":
            raise ConvertError(
                f"{name}: cannot be fused with {self.layer.name}; one activation may follow a layer that sums or pools"
            )
        return replace(self, layer=replace(self.layer, activation=activation))


Value = Union[Real, Constant, QuantConstant, Quantized, Pending]


def stored_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    return (shape[0], shape[2], shape[3], shape[1]) if layout == "nchw" else shape


def natural_layout(shape: tuple[int, ...]) -> Layout:
    return "nchw" if len(shape) == 4 else "plain"


def array_of(tensor: onnx.TensorProto) -> Array:
    """The numbers of an initialiser; raises ConvertError when they are elsewhere or do not fit its shape."""
    where = tensor.name[:200] or "an initialiser"
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ConvertError(f"{where}: its data lies in another file; save the model in one file")
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > MAX_ELEMENTS:
        raise ConvertError(f"{where}: shape {tuple(tensor.dims)} is not supported")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise ConvertError(f"{where}: damaged ({' '.join(str(error).split())[:200]}); export the model again") from None


class Attributes:
    """A node's attributes by name, each checked for its type."""

    def __init__(self, name: str, node: onnx.NodeProto) -> None:
        self._name, self._found = name, {attribute.name: attribute for attribute in node.attribute}

    def _get(self, key: str, kind: int) -> Any:
        attribute = self._found.get(key)
        if attribute is None:
            return None
        if attribute.type != kind:
            raise ConvertError(f"{self._name}: attribute {key} is of the wrong type; export the model again")
        return attribute

    def integer(self, key: str, default: int) -> int:
        found = self._get(key, onnx.AttributeProto.INT)
        return default if found is None else int(found.i)

    def real(self, key: str, default: float) -> float:
        found = self._get(key, onnx.AttributeProto.FLOAT)
        return default if found is None else float(found.f)

    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        found = self._get(key, onnx.AttributeProto.INTS)
        return default if found is None else tuple(int(value) for value in found.ints)

    def text(self, key: str, default: str) -> str:
        found = self._get(key, onnx.AttributeProto.STRING)
        return default if found is None else bytes(found.s).decode("utf-8", "replace")

    def tensor(self, key: str) -> Array | None:
        found = self._get(key, onnx.AttributeProto.TENSOR)
        return None if found is None else array_of(found.t)


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
    elif zero_point.size == len(scales) and zero_point.dtype.kind in "iu":
        zero_points = tuple(int(value) for value in np.atleast_1d(zero_point))
    else:
        raise ConvertError(
            f"{name}: needs as many integer zero points as scales, got {zero_point.dtype} of shape {zero_point.shape}"
        )
    return QuantParams(scales, zero_points, axis if len(scales) > 1 else None)
