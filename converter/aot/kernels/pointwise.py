"""Const data of nn_pointwise_s8 and nn_depthwise3_s8: weights scaled and paired to int16, and the assembly for the
layer's shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.aot.kernels import depthwise_asm as asm_depthwise
from converter.aot.kernels import pointwise_asm as asm_pointwise
from converter.aot.kernels.asm import AsmCode, Rounding
from converter.aot.kernels.conv_packed import relu_bits
from converter.aot.kernels.depthwise_asm import DepthwiseShape
from converter.aot.kernels.pointwise_asm import PointwiseShape
from converter.aot.kernels.structs import NnOutput
from converter.graph import Int8, Int32

Int = NDArray[np.int64]
MAX_SCALING = 8  # int8 times 2**8 fits int16
MAX_SHIFT = 22  # -128 * 2**shift leaves room for the product
USUAL_SHIFT = 10


@dataclass(frozen=True, eq=False)
class Scaled:
    """How a layer rounds: per channel the power of two that its weights and bias are multiplied by, and the two
    constants."""

    rounding: Rounding
    scaling: Int
    multiplier: Int
    second: Int


def rounding(
    multiplier: Int32, shift: Int32, output: NnOutput, largest: Int, wanted: int = USUAL_SHIFT
) -> Scaled | None:
    """One right shift for all channels where the output begins at its zero point, else one per channel; None where
    neither serves.

    TFLite computes h = (s * m + 2**30) >> 31 and, for h >= 0, (h + 2**(e - 1)) >> e, e = -shift of the channel. Nested
    divisions by powers of two are one: this is (s * m + 2**30 + 2**(e + 30)) >> (31 + e). With s' = s * 2**k, k = E + 1
    - e >= 2, it is (((s' * m) >> 32) + 2**(k - 2) + 2**(E - 1)) >> E, whose first half is one SMMLA; a zero point of
    -128 joins the constant as
    -128 * 2**E. For h < 0 both are at most zero, so that the clamp at zero hides the difference. `largest` bounds |s|
    per channel. Of the shifts that serve the one nearest `wanted` is taken, always the same, so that layers of one
    shape share their code.
    """
    exponent, out_zero = -shift.astype(np.int64), output.out_zero
    factor = multiplier.astype(np.int64)
    common = _common_shift(exponent, largest, wanted) if output.bounded and relu_bits(output) else 0
    if common:
        scaling = common + 1 - exponent
        second = (np.int64(1) << (scaling - 2)) + (1 << (common - 1)) - ((128 << common) if out_zero == -128 else 0)
        return Scaled(Rounding(common, out_zero), scaling, factor, second)
    return Scaled(Rounding(0, out_zero), np.ones_like(exponent), factor, exponent - 1) if full_range(output) else None


def _common_shift(exponent: Int, largest: Int, wanted: int) -> int:
    """E of rounding(), 0 where there is none."""
    found = []
    for common in range(int(exponent.max()) + 1, min(MAX_SHIFT, int(exponent.min()) + MAX_SCALING - 1) + 1):
        if (largest < (1 << 31) >> (common + 1 - exponent)).all():
            found.append(common)
    return min(found, key=lambda common: abs(common - wanted), default=0)


def full_range(output: NnOutput) -> bool:
    """Whether sums are bounded and no activation narrows the output."""
    return bool(output.bounded and (output.act_min, output.act_max) == (-128, 127))


def pointwise_fits(kernel_hw: tuple[int, int], in_c: int, out_c: int) -> bool:
    """Whether nn_pointwise_s8 takes a layer that rounding() takes; nn.h states why."""
    return (
        kernel_hw == (1, 1) and in_c <= asm_pointwise.MAX_IN_C and out_c % 2 == 0 and out_c <= asm_pointwise.MAX_OUT_C
    )


def pointwise_code(in_c: int, out_c: int, stride_w: int, scaled: Scaled) -> AsmCode:
    shape = PointwiseShape(in_c, out_c, stride_w * in_c, scaled.rounding)
    return AsmCode(
        "nn_pointwise_code", tuple(asm_pointwise.routine(shape, pixels) for pixels in (1, asm_pointwise.BLOCK))
    )


def pack_pointwise(weights_oi: Int8, bias: Int, in_zero: int, scaled: Scaled) -> Int32:
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
    constants = np.stack([scaled.multiplier, scaled.second], axis=1).reshape(out_c // 2, 4)
    records = [part.astype(np.int32) for part in (biases.reshape(-1, 2), words.reshape(out_c // 2, -1), constants)]
    packed: Int32 = np.concatenate(records, axis=1).reshape(-1)
    return packed


def depthwise_rows(
    kernel_hw: tuple[int, int], stride_hw: tuple[int, int], out_hwc: tuple[int, int, int], scratch_limit: int
) -> int:
    """Rows of outputs that nn_depthwise3_s8 makes at a time, 0 where it does not take a layer that rounding() takes;
    nn.h states why."""
    out_h, out_w, channels = out_hwc
    fits = kernel_hw == (3, 3) and max(stride_hw) <= 2 and out_w * channels <= asm_depthwise.MAX_ROW_BYTES
    for pieces in range(1, out_h + 1) if fits else ():
        rows = -(-out_h // pieces)
        if rows <= asm_depthwise.MAX_ROWS and depthwise_scratch(rows, stride_hw, out_w) <= scratch_limit:
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
    return AsmCode("nn_depthwise3_code", (asm_depthwise.routine(shape), asm_depthwise.take_routine(shape)))


def pack_depthwise(weights_1hwc: Int8, bias: Int, scaled: Scaled) -> Int32:
    """The records nn_depthwise3_s8 wants: see nn.h."""
    columns = (
        weights_1hwc[0].astype(np.int64).transpose(2, 1, 0) << scaled.scaling[:, None, None]
    )  # [channel, kernel column, kernel row]
    halves = np.stack([columns[:, :, :2], columns[:, :, 1:]], axis=1).astype(
        "<i2"
    )  # [channel, (w0, w1) or (w1, w2), column, half]
    words = np.ascontiguousarray(halves).view("<i4").reshape(-1, 6)
    constants = np.stack([bias << scaled.scaling, scaled.multiplier, scaled.second], axis=1).astype(np.int32)
    packed: Int32 = np.concatenate([words, constants], axis=1).reshape(-1)
    return packed
