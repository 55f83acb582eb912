"""Const data of nn_pointwise_s8: weights scaled and paired to int16, and the assembly for the layer's shape."""

from __future__ import annotations

import numpy as np

from converter.aot.kernels import pointwise_asm
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.pointwise_asm import PointwiseShape
from converter.aot.kernels.requantize import Scaled
from converter.arrays import Int8, Int32, Int64


def pointwise_fits(kernel_hw: tuple[int, int], in_c: int, out_c: int) -> bool:
    """Whether nn_pointwise_s8 takes a layer that rounding() takes; nn.h states why."""
    return (
        kernel_hw == (1, 1) and in_c <= pointwise_asm.MAX_IN_C and out_c % 2 == 0 and out_c <= pointwise_asm.MAX_OUT_C
    )


def pointwise_code(in_c: int, out_c: int, stride_w: int, scaled: Scaled) -> AsmCode:
    """The assembly for one pixel and for a block of them."""
    shape = PointwiseShape(in_c, out_c, stride_w * in_c, scaled.rounding)
    return AsmCode(
        "nn_pointwise_code", tuple(pointwise_asm.routine(shape, pixels) for pixels in (1, pointwise_asm.BLOCK))
    )


def pack_pointwise(weights_oi: Int8, bias: Int64, in_zero: int, scaled: Scaled) -> Int32:
    """The records nn_pointwise_s8 wants: see nn.h."""
    out_c, in_c = weights_oi.shape
    weights = weights_oi.astype(np.int64)
    biases = (bias - in_zero * weights.sum(axis=1)) << scaled.scaling
    whole = in_c - in_c % 4
    tail: dict[int, list[int]] = {0: [], 1: [0, 1], 2: [0, 1], 3: [0, 2, 1, 3]}
    order = [k for group in range(0, whole, 4) for k in (group, group + 2, group + 1, group + 3)] + [
        whole + k for k in tail[in_c % 4]
    ]
    padded = np.zeros((out_c, whole + 4), np.int64)
    padded[:, :in_c] = weights << scaled.scaling[:, None]
    words = (
        np.ascontiguousarray(padded[:, order]).astype("<i2").view("<i4").reshape(out_c // 2, 2, -1).transpose(0, 2, 1)
    )
    constants = np.stack([scaled.multiplier, scaled.addend_or_shift], axis=1).reshape(out_c // 2, 4)
    records = [part.astype(np.int32) for part in (biases.reshape(-1, 2), words.reshape(out_c // 2, -1), constants)]
    packed: Int32 = np.concatenate(records, axis=1).reshape(-1)
    return packed
