"""The integer rounding rules of TensorFlow Lite's int8 kernels, in numpy.

Source: TensorFlow Lite 8-bit quantization specification; gemmlowp fixed-point arithmetic. C twins: firmware/lib/nn.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from converter.graph import Activation, QuantParams

Int = NDArray[np.int64]


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(mantissa, shift) with real ~ mantissa * 2**(shift - 31), mantissa in [2**30, 2**31) or 0.

    `real` is a double. A value below 2**-32 becomes (0, 0), as in TFLite.
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    mantissa = int(math.floor(fraction * (1 << 31) + 0.5))  # std::round of a positive value
    if mantissa == 1 << 31:
        mantissa, shift = mantissa // 2, shift + 1
    return (0, 0) if shift < -31 else (mantissa, shift)


def high_mul(a: Int, b: int | Int) -> Int:
    """gemmlowp SaturatingRoundingDoublingHighMul: round(a * b / 2**31), ties away from zero, int32 saturated."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.minimum(np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31)), (1 << 31) - 1)


def rounding_shift(x: Int, exponent: int | Int) -> Int:
    """gemmlowp RoundingDivideByPOT: x / 2**exponent, ties away from zero."""
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (np.asarray(x) < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def multiply_by_quantized_multiplier(x: Int, mantissa: int | Int, shift: int | Int) -> Int:
    """x * mantissa * 2**(shift - 31) with TFLite's double rounding; mantissa and shift may be arrays over channels."""
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    widened = np.asarray(x, np.int64) << left
    wrapped = ((widened + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    return rounding_shift(high_mul(wrapped, mantissa), right)


def activation_range(activation: Activation, quant: QuantParams) -> tuple[int, int]:
    """The int8 clamp of a fused activation (TFLite CalculateActivationRangeQuantized)."""
    low, high = -128, 127
    if activation in ("RELU", "RELU6"):
        low = max(low, quant.zero_point)
    if activation == "RELU6":
        scale = np.float32(quant.scale)
        six = np.float32(6.0) / scale  # TFLite rounds a float32 quotient
        high = min(high, quant.zero_point + int(math.floor(float(six) + 0.5)))
    return low, high
