"""What flows between layers: int8 numbers with their shape and scale, and what a Graph may assume of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from converter.arrays import Int8, Int32
from converter.errors import require

MAX_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class QuantParams:
    """real = (q - zero_point) * scale. One scale per tensor, or one per slice along `axis` (per channel).

    Scales are float32 values held as Python floats. Source: TensorFlow Lite 8-bit quantization specification.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None

    @property
    def scale(self) -> float:
        """The scale of a tensor that has one."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor that has one."""
        return self.zero_points[0]

    @property
    def text(self) -> str:
        """(scale, zero point), for messages."""
        return f"({self.scale:.9g}, {self.zero_point})"


@dataclass(frozen=True)
class Tensor:
    """An activation: int8, per-tensor quantization, shape with batch 1 in front."""

    name: str
    shape: tuple[int, ...]
    quant: QuantParams

    @property
    def size(self) -> int:
        """Its elements, which are its bytes."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Weights:
    """A layer's constants: weights in TensorFlow Lite's order, their scales, one int32 bias per output channel."""

    values: Int8
    quant: QuantParams
    bias: Int32

    @property
    def bits(self) -> int:
        """The least width in two's complement that holds the weights, 2 to 8."""
        low, high = int(self.values.min()), int(self.values.max())
        return next(bits for bits in range(2, 9) if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1))


@dataclass(frozen=True, eq=False)
class Constant:
    """An operand known at conversion: int8 values on one scale."""

    values: Int8
    quant: QuantParams


def check_tensor(tensor: Tensor) -> None:
    """Raises ConvertError unless the shape is fixed, of batch 1 and not too large, with one good scale."""
    shape, name = tensor.shape, tensor.name
    sane = (
        1 <= len(shape) <= 5 and all(1 <= size <= MAX_ELEMENTS for size in shape) and math.prod(shape) <= MAX_ELEMENTS
    )
    rule = f"an activation has 1 to 5 fixed dimensions and at most {MAX_ELEMENTS} elements, got {shape}"
    require(sane, name, rule)
    require(shape[0] == 1, name, f"the batch is 1, got shape {shape}; export the model for one input")
    require(len(tensor.quant.scales) == 1, name, "an activation has one scale; per-channel scales are for weights")
    check_quant(name, tensor.quant, channels=1)


def check_quant(name: str, params: QuantParams, channels: int) -> None:
    """Scales are positive float32 values, zero points int8; as many as channels, or one. Raises ConvertError."""
    count = len(params.scales)
    fits = count in (1, channels) and len(params.zero_points) == count
    rule = f"needs 1 or {channels} scales and as many zero points, got {count} and {len(params.zero_points)}"
    require(fits, name, rule)
    for scale, zero_point in zip(params.scales, params.zero_points, strict=True):
        good = math.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale
        require(good, name, f"a scale is a positive float32, got {scale}")
        require(-128 <= zero_point <= 127, name, f"a zero point lies in -128..127, got {zero_point}")


def check_same_quant(name: str, x: Tensor, y: Tensor, tolerance: float = 0.0) -> None:
    """Input and output keep one scale (within the tolerance) and zero point. Raises ConvertError."""
    same = x.quant.zero_point == y.quant.zero_point and abs(x.quant.scale - y.quant.scale) <= tolerance
    rule = f"input and output need the same scale and zero point, got {x.quant.text} and {y.quant.text}"
    require(same, name, rule)
