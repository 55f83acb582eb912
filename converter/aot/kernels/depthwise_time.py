"""Const data of nn_depthwise_time_s8: which layers it takes, records of four channels, the assembly for a layer's
shape."""

from __future__ import annotations

import numpy as np

from converter.aot.kernels import depthwise_time_asm
from converter.aot.kernels.asm import IMMEDIATE, AsmCode
from converter.aot.kernels.depthwise_time_asm import GROUP, DepthwiseTimeShape
from converter.aot.kernels.requantize import Scaled
from converter.arrays import Int8, Int32, Int64

MAX_KERNEL = 32  # rows; the code takes 34 bytes a row


def fits(kernel_hw: tuple[int, int], stride_hw: tuple[int, int], in_w: int, channels: int) -> bool:
    """Whether nn_depthwise_time_s8 takes a layer that rounding() or rounding_doubled() takes; nn.h states why."""
    rows, columns = kernel_hw
    short = 2 <= rows <= MAX_KERNEL and (rows - 1) * in_w * channels <= IMMEDIATE
    return short and columns == 1 and stride_hw == (1, 1) and channels >= GROUP


def code(kernel_h: int, row_bytes: int, scaled: Scaled, doublings: int) -> AsmCode:
    """The assembly for the channels of one pixel."""
    shape = DepthwiseTimeShape(kernel_h, row_bytes, doublings, scaled.rounding)
    return AsmCode("nn_depthwise_time_code", (depthwise_time_asm.routine(shape),))


def pack_weights(weights_1hwc: Int8, bias: Int64, in_zero: int, scaled: Scaled) -> Int32:
    """The records nn_depthwise_time_s8 wants: see nn.h."""
    rows, channels = weights_1hwc.shape[1], weights_1hwc.shape[3]
    weights = weights_1hwc.reshape(rows, channels).astype(np.int64)
    biases = (bias - in_zero * weights.sum(axis=0)) << scaled.scaling
    halves = weights << scaled.scaling
    records = []
    for first in (*range(0, channels - GROUP + 1, GROUP), *([channels - GROUP] if channels % GROUP else [])):
        four = slice(first, first + GROUP)
        pairs = halves[: rows - rows % 2, four].reshape(-1, 2, GROUP).transpose(0, 2, 1).reshape(-1)
        taps = np.concatenate([pairs, halves[rows - rows % 2 :, four].reshape(-1)]).astype("<i2").view("<i4")
        constants = np.stack([scaled.multiplier[four], scaled.addend_or_shift[four]], axis=1).reshape(-1)
        records += [biases[four].astype(np.int32), taps, constants.astype(np.int32)]
    packed: Int32 = np.concatenate(records)
    return packed
