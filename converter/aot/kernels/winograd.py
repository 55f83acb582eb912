"""Const data of nn_winograd_s8: transformed weights, and the assembly for the layer's shape."""

from __future__ import annotations

import numpy as np

from converter.aot.kernels import winograd_asm
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.requantize import Scaled, unclamped
from converter.aot.kernels.structs import NnOutput
from converter.aot.kernels.winograd_asm import COLUMNS, POINTS, TILES, WinogradShape
from converter.arrays import Int8, Int32, Int64

MIN_IN_C = 8  # below, the transforms cost more than the products saved
TWICE_G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
BIAS_POINT = 5  # (1, 1): the one point that every output of a tile takes with a factor of 1
LOWEST = 2  # 4 = 2**2 times the sums is what whole weights make


def row_bytes(out_w: int, in_c: int) -> int:
    """Of the padded input; NN_WINOGRAD_COLUMNS(out_w) * in_c."""
    return (-(-out_w // (2 * TILES)) * 2 * TILES + COLUMNS - 2 * TILES) * in_c


def scratch_bytes(in_c: int, out_w: int, out_c: int) -> int:
    """NN_WINOGRAD_SCRATCH"""
    return 32 * TILES * in_c + 4 * TILES * out_c + 4 * row_bytes(out_w, in_c)


def fits(
    kernel_hw: tuple[int, int],
    stride_hw: tuple[int, int],
    in_c: int,
    out_wc: tuple[int, int],
    output: NnOutput,
) -> bool:
    """Whether nn_winograd_s8 takes a layer of this shape; nn.h states why."""
    out_w, out_c = out_wc
    return (
        kernel_hw == (3, 3)
        and stride_hw == (1, 1)
        and in_c % 4 == 0
        and MIN_IN_C <= in_c <= winograd_asm.MAX_IN_C
        and out_c % 2 == 0
        and out_c <= winograd_asm.MAX_OUT_C
        and row_bytes(out_w, in_c) <= winograd_asm.MAX_ROW_BYTES
        and unclamped(output)
    )


def pack(weights_ohwi: Int8, bias: Int64, in_zero: int, largest: Int64, scaled: Scaled) -> Int32 | None:
    """The records nn_winograd_s8 wants (nn.h), or None where a weight leaves int16 or a sum int32; `largest` bounds
    |sum| per channel."""
    out_c, in_c = weights_ohwi.shape[0], weights_ohwi.shape[3]
    scaling = np.maximum(scaled.scaling, LOWEST)
    weights = weights_ohwi.astype(np.int64)
    points = (
        np.einsum("pi,oijc,qj->opqc", TWICE_G, weights, TWICE_G).reshape(out_c, POINTS, in_c)
        << (scaling - LOWEST)[:, None, None]
    )
    if int(np.abs(points).max()) >= 1 << 15 or int((largest << scaling).max()) >= 1 << 31:
        return None
    order = [k for group in range(0, in_c, 4) for k in (group, group + 2, group + 1, group + 3)]
    words = (
        np.ascontiguousarray(points[:, :, order])
        .astype("<i2")
        .view("<i4")
        .reshape(out_c // 2, 2, POINTS, -1)
        .transpose(0, 2, 3, 1)
    )
    init = np.zeros((out_c // 2, POINTS, 2), np.int32)
    init[:, BIAS_POINT] = ((bias - in_zero * weights.sum(axis=(1, 2, 3))) << scaling).reshape(-1, 2)
    records = np.concatenate([init, words.reshape(out_c // 2, POINTS, in_c)], axis=2).reshape(out_c // 2, -1)
    constants = np.stack([scaled.multiplier, scaled.addend_or_shift], axis=1).astype(np.int32).reshape(out_c // 2, 4)
    packed: Int32 = np.concatenate([records, constants], axis=1).reshape(-1)
    return packed


def code(in_c: int, out_w: int, out_c: int, scaled: Scaled) -> AsmCode:
    """The assembly of both steps: transformed inputs, then products and outputs."""
    shape = WinogradShape(in_c, out_c, row_bytes(out_w, in_c), scaled.rounding)
    return AsmCode("nn_winograd_code", (winograd_asm.transform(shape), winograd_asm.multiply(shape)))
