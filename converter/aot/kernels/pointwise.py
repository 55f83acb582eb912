"""Const data of nn_pointwise_s8 and nn_conv_patches_s8: weights scaled and paired to int16, and the assembly for the
layer's shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converter.aot.kernels import pointwise_asm
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.pointwise_asm import PointwiseShape
from converter.aot.kernels.requantize import Scaled
from converter.arrays import Int8, Int32, Int64


def pointwise_fits(rows: int, row_values: int, out_c: int) -> bool:
    """Whether nn_pointwise_s8 (kernels of 1 x 1) or nn_conv_patches_s8 takes a layer that rounding() takes; nn.h states
    why. A pixel is `rows` rows of so many values."""
    taps = rows * ((row_values + 1) // 2)
    return taps <= pointwise_asm.MAX_TAPS and out_c % 2 == 0 and out_c <= pointwise_asm.MAX_OUT_C


def pointwise_code(shape: PointwiseShape) -> AsmCode:
    """The assembly for one pixel and for a block of them."""
    return AsmCode(
        "nn_pointwise_code", tuple(pointwise_asm.routine(shape, pixels) for pixels in (1, pointwise_asm.BLOCK))
    )


def computed_channels(constant: NDArray[np.bool_]) -> Int64 | None:
    """The channels that are computed, an even number; None: all, since a pair of constant ones is not to be had."""
    found = np.flatnonzero(~constant)
    if constant.sum() < 2:
        return None
    first = found[:1] if found.size else np.zeros(1, np.int64)  # once more is harmless
    both: Int64 = np.concatenate([found, *[first] * (found.size % 2 if found.size else 2)])
    return both


def pack_pointwise(
    weights_ork: Int8, bias: Int64, in_zero: int, scaled: Scaled, computed: Int64 | None = None
) -> Int32:
    """The records that the kernels want, of `computed` channels: see nn.h. Weights [channels, rows, values]."""
    out_c, _, row = weights_ork.shape
    weights = weights_ork.astype(np.int64)
    biases = (bias - in_zero * weights.sum(axis=(1, 2))) << scaled.scaling
    whole = row - row % 4
    tail: dict[int, list[int]] = {0: [], 1: [0, 1], 2: [0, 1], 3: [0, 2, 1, 3]}
    order = [k for group in range(0, whole, 4) for k in (group, group + 2, group + 1, group + 3)] + [
        whole + k for k in tail[row % 4]
    ]
    padded = np.zeros((*weights.shape[:2], whole + 4), np.int64)
    padded[:, :, :row] = weights << scaled.scaling[:, None, None]
    words = np.ascontiguousarray(padded[:, :, order]).astype("<i2").view("<i4").reshape(out_c, -1)
    constants = np.stack([scaled.multiplier, scaled.addend_or_shift], axis=1)
    channels = np.arange(out_c) if computed is None else computed
    pairs = len(channels) // 2
    records = [
        biases[channels].reshape(pairs, 2),
        words[channels].reshape(pairs, 2, -1).transpose(0, 2, 1).reshape(pairs, -1),
        constants[channels].reshape(pairs, 4),
    ]
    if computed is not None:
        records.append(computed[0::2, None] | computed[1::2, None] << 16)
    packed: Int32 = np.concatenate([part.astype(np.int32) for part in records], axis=1).reshape(-1)
    return packed
