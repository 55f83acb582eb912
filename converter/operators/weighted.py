"""What operators with weights have in common: convolutions and the dense layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from converter import quant
from converter.arrays import Int8, Int32, Int64
from converter.errors import ConvertError, require
from converter.formats.onnx import Constant, Importer, OnnxNode, QuantConstant, Value
from converter.operators.activation import clamp
from converter.quant import Activation
from converter.tensor import QuantParams, Weights, check_quant

INT32_MAX = (1 << 31) - 1
FLOAT32_EXACT_TERMS = 512
BIAS_SCALE_TOLERANCE = 1e-5


def largest_sums(weights_by_channel: Int8, bias: Int32, x: QuantParams) -> Int64:
    """The largest |bias + sum(w * (q - zero point))| per channel that int8 inputs q of zero point x can make, and that
    any of its partial sums in any order can; weights [channels, taps], bias [channels]."""
    wide, start = weights_by_channel.astype(np.int64), bias.astype(np.int64)
    up, down = wide.clip(min=0).sum(axis=1), -wide.clip(max=0).sum(axis=1)
    high, low = 127 - x.zero_point, 128 + x.zero_point
    reach: Int64 = np.maximum(up * high + down * low + start.clip(min=0), up * low + down * high - start.clip(max=0))
    return reach


def check_weights(
    name: str, weights: Weights, weights_by_channel: Int8, x: QuantParams, multipliers: tuple[Int64, Int64]
) -> None:
    """int8 weights with zero point 0, an int32 bias per channel, and no sum that leaves int32. Raises ConvertError.

    weights_by_channel: [channels, taps]; multipliers: (mantissas, shifts) of the requantization. No partial sum, in any
    order, nor its left shift, may leave int32: C has no defined result there.
    """
    reach = largest_sums(weights_by_channel, weights.bias, x) << np.clip(multipliers[1], 0, 31)
    worst = int(reach.argmax())
    rule = f"output channel {worst} can overflow int32 (its sum reaches {int(reach[worst])}); check its bias and scales"
    require(int(reach[worst]) <= INT32_MAX - 256, name, rule)


def check_constants(name: str, weights: Weights, channels: int) -> None:
    """Types, shapes and scales of weights and bias; raises ConvertError."""
    bias = weights.bias
    require(weights.values.dtype == np.int8, name, f"weights are int8, got {weights.values.dtype}")
    biased = bias.dtype == np.int32 and bias.shape == (channels,)
    require(biased, name, f"the bias is {channels} int32 values, got {bias.dtype} {bias.shape}")
    check_quant(name, weights.quant, channels)
    worst = max(weights.quant.zero_points, key=abs)
    require(worst == 0, name, f"int8 weights need zero point 0, got {worst}; export symmetric weights")


def exact_matmul(x: Int32, weights: Int8) -> Int64:
    """x @ weights without rounding: a product of an int8 weight and an input minus its zero point is at most 2**15, so
    float32 holds sums of up to 512 of them and float64 all others."""
    kind = np.float32 if x.shape[-1] <= FLOAT32_EXACT_TERMS else np.float64
    product: Int64 = (x.astype(kind) @ weights.astype(kind)).astype(np.int64)
    return product


def requantize(sums: Int64, multipliers: tuple[Int64, Int64], activation: Activation, y: QuantParams) -> Int8:
    """int32 sums [..., channels] -> int8 outputs."""
    return clamp(quant.multiply_by_quantized_multiplier(sums, *multipliers) + y.zero_point, activation, y)


def onnx_weights(importer: Importer, node: OnnxNode, rank: int) -> QuantConstant:
    """A node's int8 weights with zero points of 0, its operand 1; others where each weight less its zero point fits."""
    found = importer.value(node, 1)
    if not isinstance(found, QuantConstant) or not found.dequantized or found.array.dtype != np.int8:
        raise ConvertError(
            f"{node.name}: its weights must be int8 behind a DequantizeLinear; only int8 models are supported"
        )
    if found.array.ndim != rank:
        raise ConvertError(f"{node.name}: its weights must have {rank} dimensions, got {found.array.shape}")
    if not any(found.quant.zero_points):
        return found
    shape = [1] * rank
    if found.quant.axis is not None:
        shape[found.quant.axis] = len(found.quant.scales)
    values = found.array.astype(np.int64) - np.array(found.quant.zero_points).reshape(shape)
    if values.min() < -128 or values.max() > 127:
        raise ConvertError(
            f"{node.name}: int8 weights need zero point 0, got {max(found.quant.zero_points, key=abs)}, without which "
            f"they are {values.min()} to {values.max()}; export symmetric weights"
        )
    zeros = (0,) * len(found.quant.scales)
    return replace(found, array=values.astype(np.int8), quant=replace(found.quant, zero_points=zeros))


def onnx_bias(
    importer: Importer, name: str, found: Value, x: QuantParams, weights: QuantParams, channels: int
) -> Int32:
    """int32 bias on the grid input scale x weight scale, the only one that TensorFlow Lite knows: what the file has
    there is taken as it is, any other constant is rounded to it."""
    if isinstance(found, Constant) and found.array.dtype == np.int32:  # of an operator that computes with int8 numbers
        if found.array.shape != (channels,):
            raise ConvertError(f"{name}: its bias must be {channels} values in a row, got shape {found.array.shape}")
        return np.asarray(found.array, np.int32)
    real = real_constant(name, found)
    if real.size != channels or real.shape[-1:] not in ((), (channels,)):  # else it broadcasts to a map
        raise ConvertError(f"{name}: its bias must be {channels} values in a row, got shape {real.shape}")
    steps = np.broadcast_to(np.array(weights.scales) * x.scale, channels)
    if isinstance(found, QuantConstant) and found.array.dtype == np.int32 and not any(found.quant.zero_points):
        given = np.broadcast_to(np.array(found.quant.scales), channels)
        if np.all(np.abs(given - steps) <= BIAS_SCALE_TOLERANCE * steps):
            return np.asarray(found.array, np.int32).reshape(channels)
    importer.note(
        "a bias that is not int32 at input scale x weight scale is rounded to that, as TensorFlow Lite has it"
    )
    return bias_steps(name, real.reshape(channels), steps)


def bias_steps(name: str, real: NDArray[np.float64], steps: NDArray[np.float64]) -> Int32:
    """A real bias in whole steps of the sums, one per channel; raises ConvertError."""
    rounded = np.rint(real / steps)
    good = np.isfinite(rounded) & (np.abs(rounded) <= INT32_MAX)
    if not good.all():
        worst = int(np.argmin(good))
        raise ConvertError(
            f"{name}: bias {real[worst]:.9g} of channel {worst} is beyond int32 in steps of input scale x weight scale "
            f"{steps[worst]:.9g}; give the channel a larger weight scale, or leave it out if its weights are about 0"
        )
    steps_int32: Int32 = rounded.astype(np.int32)
    return steps_int32


def real_constant(name: str, found: Value) -> NDArray[np.float64]:
    """The real values of a constant operand, float32 or behind a DequantizeLinear; raises ConvertError."""
    if isinstance(found, Constant) and found.array.dtype == np.float32:
        return found.array.astype(np.float64)
    if not isinstance(found, QuantConstant) or not found.dequantized:
        raise ConvertError(f"{name}: needs a constant, float32 or behind a DequantizeLinear; export the model again")
    shape = [1] * found.array.ndim
    if found.quant.axis is not None:
        shape[found.quant.axis] = len(found.quant.scales)
    scales, zero_points = (np.array(values).reshape(shape) for values in (found.quant.scales, found.quant.zero_points))
    real: NDArray[np.float64] = (found.array.astype(np.int64) - zero_points) * scales
    return real.reshape(found.array.shape)
