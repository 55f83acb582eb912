"""Const data of nn_conv_fir_s8: weights combined, doubled and paired to int16, and the assembly for the layer's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter import asm_conv_fir
from converter.graph import Int8, Int32


@dataclass(frozen=True)
class FirCode:
    """nn_fir_code of one layer: assembly where the CPU has SMLAD, a null pointer elsewhere."""

    shape: asm_conv_fir.FirShape
    sizes: tuple[int, ...]

    def render(self, prefix: str) -> str:
        return asm_conv_fir.render(prefix, self.shape, self.sizes)


def block_sizes(q_total: int, taps: int) -> list[int]:
    """NN_FIR_BLOCK of nn.h until no pair of pixels is left."""
    sizes = []
    while q_total:
        of_four = 4 if taps <= asm_conv_fir.MAX_TAPS_OF_4 else 2
        sizes.append(of_four if q_total == 4 else min(q_total, 3))
        q_total -= sizes[-1]
    return sizes


def fits(kernel_w: int, in_c: int, stride_w: int, out_wc: tuple[int, int], output: dict[str, int]) -> bool:
    """Whether nn_conv_fir_s8 takes the layer; nn.h states why."""
    taps, row_words = row_sizes(kernel_w, in_c, out_wc[0])
    full = output["bounded"] and (relu_bits(output) > 0 or (output["act_min"], output["act_max"]) == (-128, 127))
    narrow = 4 * row_words <= asm_conv_fir.MAX_STRIDE and 8 * taps <= asm_conv_fir.MAX_STRIDE
    return bool(full and stride_w * in_c == 2 and kernel_w * in_c > 2 and out_wc[1] % 2 == 0 and narrow)


def relu_bits(output: Mapping[str, int]) -> int:
    """b where the outputs are 128 - 2**b, their zero point, to 127: 8 for a zero point of -128, fewer in networks of few bits; else 0."""
    low, bits = output["act_min"], (128 - output["act_min"]).bit_length() - 1
    begins_at_zero = low == output["out_zero"] == 128 - (1 << bits) and output["act_max"] == 127
    return bits if begins_at_zero and bits > 1 else 0


def row_sizes(kernel_w: int, in_c: int, out_w: int) -> tuple[int, int]:
    """(NN_FIR_TAPS, NN_FIR_ROW_WORDS)"""
    taps = -(-kernel_w * in_c // 4)
    return taps, (out_w + 1) // 2 + taps - 1


def scratch_bytes(kernel_hw: tuple[int, int], in_c: int, out_wc: tuple[int, int], stride_h: int) -> int:
    """NN_CONV_FIR_SCRATCH"""
    rows = kernel_hw[0] + max(stride_h, kernel_hw[0] // 2)
    return 4 * (row_sizes(kernel_hw[1], in_c, out_wc[0])[1] * (3 * rows + 2) + 1 + -(-out_wc[1] // 4))


def pack_weights(weights_ohwi: Int8) -> Int32:
    """The order nn_conv_fir_s8 wants: see nn.h."""
    channels, rows = weights_ohwi.shape[:2]
    values = weights_ohwi.reshape(channels, rows, -1).astype(np.int32)
    taps = -(-values.shape[2] // 4)
    padded = np.zeros((channels, rows, 4 * taps), np.int32)
    padded[:, :, :values.shape[2]] = values
    words = padded.reshape(channels // 2, 2, rows, taps, 2, 2)  # [pair of channels, a or b, row, tap, even or odd, half of the word]
    even, odd = words[..., 0, :], words[..., 1, :]
    streams = 2 * np.stack([even + odd, even, odd], axis=1)  # [pair, stream, a or b, row, tap, half]
    packed: Int32 = np.ascontiguousarray(streams.transpose(0, 1, 3, 4, 2, 5)).astype(np.int16).reshape(-1).view(np.int32)
    return packed


def constants(bias: Int32, multiplier: Int32, shift: Int32, out_zero: int, relu: bool) -> Int32:
    """Per pair of channels: both doubled biases, then per channel what rounds its sums (finish() in nn_conv_fir.c)."""
    exponent = -shift.astype(np.int64)
    if relu:
        second, third = np.int64(1) << (exponent - 1), exponent
    else:
        second, third = np.full_like(exponent, 2 * out_zero + 1), exponent - 1
    rounding: NDArray[np.int64] = np.stack([multiplier.astype(np.int64), second, third], axis=1).reshape(-1, 6)
    table: Int32 = np.concatenate([2 * bias.astype(np.int64).reshape(-1, 2), rounding], axis=1).astype(np.int32).reshape(-1)
    return table
