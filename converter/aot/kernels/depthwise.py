"""Const data of nn_depthwise_s8_simd and nn_depthwise3_s8: weights in their order, and the assembly for the layer's
shape."""

from __future__ import annotations

import numpy as np

from converter.aot.kernels import depthwise_asm
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.depthwise_asm import DepthwiseShape
from converter.aot.kernels.requantize import Scaled
from converter.arrays import Int8, Int32, Int64


def pack_depthwise_weights(weights_1hwc: Int8) -> Int8:
    """The order nn_depthwise_s8_simd wants: see nn.h."""
    _, rows, columns, channels = weights_1hwc.shape
    padded = np.zeros((rows * columns, -(-channels // 4) * 4), np.int8)
    padded[:, :channels] = weights_1hwc.reshape(rows * columns, channels)
    return np.ascontiguousarray(padded.reshape(rows * columns, -1, 4).transpose(1, 0, 2)).reshape(-1)


def depthwise_rows(
    kernel_hw: tuple[int, int], stride_hw: tuple[int, int], out_hwc: tuple[int, int, int], scratch_limit: int
) -> int:
    """Rows of outputs that nn_depthwise3_s8 makes at a time, 0 where it does not take a layer that rounding() takes;
    nn.h states why."""
    out_h, out_w, channels = out_hwc
    fits = kernel_hw == (3, 3) and max(stride_hw) <= 2 and out_w * channels <= depthwise_asm.MAX_ROW_BYTES
    for pieces in range(1, out_h + 1) if fits else ():
        rows = -(-out_h // pieces)
        if rows <= depthwise_asm.MAX_ROWS and depthwise_scratch(rows, stride_hw, out_w) <= scratch_limit:
            return rows
    return 0


def _plane(rows: int, stride_hw: tuple[int, int], out_w: int) -> tuple[int, int]:
    """(NN_DEPTHWISE3_WORDS, NN_DEPTHWISE3_COLUMNS)"""
    return (rows + 3) // 2 if stride_hw[0] == 1 else rows + 1, (out_w - 1) * stride_hw[1] + 3


def depthwise_scratch(rows: int, stride_hw: tuple[int, int], out_w: int) -> int:
    """NN_DEPTHWISE3_SCRATCH"""
    words, columns = _plane(rows, stride_hw, out_w)
    return 4 * 4 * words * columns


def depthwise_code(
    rows: int, stride_hw: tuple[int, int], in_out_w: tuple[int, int], pad_left: int, channels: int, scaled: Scaled
) -> AsmCode:
    """The assembly that takes rows of inputs apart and the one that makes `rows` rows of outputs."""
    in_w, out_w = in_out_w
    words, columns = _plane(rows, stride_hw, out_w)
    shape = DepthwiseShape(
        rows,
        *stride_hw,
        out_w * channels,
        channels,
        words,
        4 * words * columns,
        in_w,
        min(in_w, columns - pad_left),
        scaled.rounding,
    )
    return AsmCode("nn_depthwise3_code", (depthwise_asm.routine(shape), depthwise_asm.take_routine(shape)))


def pack_depthwise(weights_1hwc: Int8, bias: Int64, scaled: Scaled) -> Int32:
    """The records nn_depthwise3_s8 wants: see nn.h."""
    columns = (
        weights_1hwc[0].astype(np.int64).transpose(2, 1, 0) << scaled.scaling[:, None, None]
    )  # [channel, kernel column, kernel row]
    halves = np.stack([columns[:, :, :2], columns[:, :, 1:]], axis=1).astype(
        "<i2"
    )  # [channel, (w0, w1) or (w1, w2), column, half]
    words = np.ascontiguousarray(halves).view("<i4").reshape(-1, 6)
    constants = np.stack([bias << scaled.scaling, scaled.multiplier, scaled.addend_or_shift], axis=1).astype(np.int32)
    packed: Int32 = np.concatenate([words, constants], axis=1).reshape(-1)
    return packed
