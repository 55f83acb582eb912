"""The integer rounding rules of TensorFlow Lite's int8 kernels, in numpy.

Source: TensorFlow Lite 8-bit quantization specification; gemmlowp fixed-point arithmetic. C twins: firmware/lib/nn.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from converter.arrays import Int64
from converter.tensor import QuantParams

Activation = Literal["NONE", "RELU", "RELU6"]


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(mantissa, shift) with real ~ mantissa * 2**(shift - 31), mantissa in [2**30, 2**31) or 0.

    `real` is a double. A value below 2**-32 becomes (0, 0), as in TFLite.
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    mantissa = math.floor(fraction * (1 << 31) + 0.5)  # std::round of a positive value
    if mantissa == 1 << 31:
        mantissa, shift = mantissa // 2, shift + 1
    return (0, 0) if shift < -31 else (mantissa, shift)


def high_mul(a: Int64, b: int | Int64) -> Int64:
    """gemmlowp SaturatingRoundingDoublingHighMul: round(a * b / 2**31), halves upward, int32 saturated.

    gemmlowp adds a nudge of the product's sign and truncates; that is this floor for either sign.
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    product += 1 << 30
    product >>= 31
    return np.minimum(product, (1 << 31) - 1)


def rounding_shift(x: Int64, exponent: int | Int64) -> Int64:
    """gemmlowp RoundingDivideByPOT: x / 2**exponent, halves away from zero."""
    shift: Int64 = np.asarray(exponent, np.int64)
    half: Int64 = (np.int64(1) << shift) >> 1
    return np.right_shift(x + half - ((x < 0) & (half > 0)), shift)


def multiply_by_quantized_multiplier(x: Int64, mantissa: int | Int64, shift: int | Int64) -> Int64:
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
        high = min(high, quant.zero_point + math.floor(float(six) + 0.5))
    return low, high


def conv_multipliers(
    input: QuantParams, weights: QuantParams, output: QuantParams, channels: int
) -> tuple[Int64, Int64]:
    """(mantissas, shifts) per output channel of CONV_2D and DEPTHWISE_CONV_2D: products of scales taken in double."""
    scales = weights.scales if len(weights.scales) > 1 else weights.scales * channels
    pairs = [quantize_multiplier(input.scale * scale / output.scale) for scale in scales]
    return np.array([m for m, _ in pairs], np.int64), np.array([s for _, s in pairs], np.int64)


def fully_connected_multipliers(
    input: QuantParams, weights: QuantParams, output: QuantParams, channels: int
) -> tuple[Int64, Int64]:
    """(mantissas, shifts) per output of FULLY_CONNECTED, as the package tflite-micro of 2026 computes them: like a
    convolution's.

    Older TensorFlow Lite (tflite-runtime 2.14, the Arduino library of 2024) rounds s_in * s_w of a one-scale dense
    layer to float32 first: outputs differ by 1 only where sum * factor lies within about 3e-8 (relative) of a half;
    tflite/legacy_rounding.py decides for a model.
    """
    return conv_multipliers(input, weights, output, channels)


ADD_LEFT_SHIFT = 20


def add_multipliers(input1: QuantParams, input2: QuantParams, output: QuantParams) -> tuple[tuple[int, int], ...]:
    """(mantissa, shift) of both inputs and of the sum; TFLite demands each real multiplier below 1, so every shift <=
    0."""
    twice_max = 2.0 * max(input1.scale, input2.scale)
    reals = (input1.scale / twice_max, input2.scale / twice_max, twice_max / ((1 << ADD_LEFT_SHIFT) * output.scale))
    return tuple(quantize_multiplier(real) for real in reals)


SOFTMAX_INTEGER_BITS = 5


def softmax_multiplier(input: QuantParams, beta: float) -> tuple[int, int, int]:
    """(mantissa, left shift, diff_min): differences to the row's maximum below diff_min count as exp(...) = 0."""
    real = min(beta * input.scale * (1 << (31 - SOFTMAX_INTEGER_BITS)), float((1 << 31) - 1))
    mantissa, shift = quantize_multiplier(real)
    radius = ((1 << SOFTMAX_INTEGER_BITS) - 1) * (1 << (31 - SOFTMAX_INTEGER_BITS)) / (1 << max(shift, 0))
    return mantissa, shift, -math.floor(radius)


def _saturating_double(x: Int64, exponent: int) -> Int64:
    """gemmlowp SaturatingRoundingMultiplyByPOT for exponent > 0: x * 2**exponent, int32 saturated."""
    threshold = (1 << (31 - exponent)) - 1
    shifted = np.where(x > threshold, (1 << 31) - 1, x << exponent)
    return np.where(x < -threshold, -(1 << 31), shifted)


_EXP_EIGHTH = round(math.exp(-1 / 8) * 2.0**31)
_THIRD = round(2.0**31 / 3)


def exp_of_negative(x: Int64, integer_bits: int = SOFTMAX_INTEGER_BITS) -> Int64:
    """exp(x) as Q0.31 of x <= 0 with so many integer bits (5: Q5.26): gemmlowp exp_on_negative_values (a quartic on
    [-1/4, 0), then a barrel shifter)."""
    quarter = 1 << (29 - integer_bits)
    modulo = (x & (quarter - 1)) - quarter
    y = (modulo << integer_bits) + (1 << 28)
    y2 = high_mul(y, y)
    y3, y4 = high_mul(y2, y), high_mul(y2, y2)
    tail = rounding_shift(high_mul(rounding_shift(y4, 2) + y3, _THIRD) + y2, 1)
    result = _EXP_EIGHTH + high_mul(y + tail, _EXP_EIGHTH)
    remainder = modulo - x
    for power in range(-2, integer_bits):
        factor, bit = round(math.exp(-(2.0**power)) * 2.0**31), 31 - integer_bits + power
        result = np.where(remainder & (1 << bit), high_mul(result, factor), result)
    return np.where(x == 0, (1 << 31) - 1, result)


def _two_over_one_plus(x: Int64) -> Int64:
    """2 / (1 + x) as Q2.29 of x in [0, 1) as Q0.31: gemmlowp's three Newton-Raphson steps."""
    half = (x + (1 << 31)) // 2  # RoundingHalfSum of a non-negative x and 2**31 - 1
    guess = round(48 / 17 * 2.0**29) + high_mul(half, round(-32 / 17 * 2.0**29))
    for _ in range(3):
        error = (1 << 29) - high_mul(half, guess)
        guess = guess + _saturating_double(high_mul(guess, error), 2)
    return guess


def one_over_one_plus(x: Int64) -> Int64:
    """1 / (1 + x) as Q0.31 of x in [0, 1) as Q0.31."""
    return _saturating_double(_two_over_one_plus(x), 1)


def logistic(x: Int64) -> Int64:
    """1 / (1 + exp(-x)) as Q0.31 of x as Q4.27: gemmlowp logistic."""
    positive = one_over_one_plus(exp_of_negative(-np.abs(x), 4))
    return np.where(x == 0, 1 << 30, np.where(x > 0, positive, (1 << 31) - 1 - positive))


def tanh(x: Int64) -> Int64:
    """tanh(x) as Q0.31 of x as Q4.27: gemmlowp tanh, whose exp(-2 |x|) reads the same bits as Q5.26."""
    size = _saturating_double(_two_over_one_plus(exp_of_negative(-np.abs(x), 5)) - (1 << 29), 2)
    return np.where(x == 0, 0, np.where(x > 0, size, -size))
