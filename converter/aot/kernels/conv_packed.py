"""Const data of nn_conv_packed_s8: which layers it takes, weights two to a word, and the constants that round its sums.

How two weights and two inputs make four products in one multiplication stands in
converter/aot/kernels/conv_packed_asm.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.aot.kernels.asm import IMMEDIATE, AsmCode
from converter.aot.kernels.conv_packed_asm import FIELD, PackedConvShape, routine
from converter.aot.kernels.requantize import PackedConvRounding, relu_bits
from converter.aot.kernels.structs import NnOutput
from converter.arrays import Int8, Int32
from converter.operators.weighted import largest_sums
from converter.tensor import QuantParams

MAX_OUT_C = 1000  # out of a store's reach beyond
CODE_ROW_BYTES = 64  # of a kernel row per tap, about
CODE_LIMIT = 3072  # of RAM for the code of a block
MAX_SCALING = 12
SLOT = 8  # NN_CONV_PACKED_SLOT
MAX_SHIFT = 23  # 128 outputs stay below 2**30


@dataclass(frozen=True)
class PackedConvWindow:
    """The shape of a convolution whose neighbouring outputs lie two values apart."""

    kernel_h: int
    kernel_w: int
    in_w: int
    in_c: int
    out_w: int
    out_c: int
    stride_h: int
    pad_left: int

    @property
    def taps(self) -> int:
        """Groups of four weights in a kernel row."""
        return -(-self.kernel_w * self.in_c // 4)

    @property
    def triples(self) -> int:
        """Words of three values that a row of outputs reads, for two outputs each."""
        return (self.out_w + 1) // 2

    @property
    def tail(self) -> int:
        """Groups of taps of the last output that no triple has, as far as their inputs lie in the row."""
        if self.out_w % 2:
            return 0
        inside = (self.pad_left + self.in_w) * self.in_c - 4 * self.triples
        return max(0, min(self.taps, -(-inside // 4)))

    @property
    def row_words(self) -> int:
        """Words of a buffered row of inputs."""
        return 2 * (self.triples + self.taps - 1) + self.tail

    @property
    def scratch_bytes(self) -> int:
        """NN_CONV_PACKED_SCRATCH"""
        return 4 * (
            buffered_rows(self.kernel_h, self.stride_h) * self.row_words + (self.row_words - self.tail) // 2 + 2 + SLOT
        )


def sums_words(out_w: int, out_c: int, tail: int) -> int:
    """Of the sums of a row of outputs."""
    return out_c // 2 * (SLOT * ((out_w + 3) // 4) + (SLOT // 2 if tail else 0))


def buffered_rows(kernel_h: int, stride_h: int) -> int:
    """NN_CONV_PACKED_ROWS"""
    return kernel_h + max(stride_h, kernel_h // 2)


def fits(window: PackedConvWindow, stride_w: int, weights_ohwi: Int8, x: QuantParams, output: NnOutput) -> bool:
    """Whether nn_conv_packed_s8 takes the shape and every sum stays within its field, whatever the input."""
    full = output.sum_below_2_30 and (relu_bits(output) > 0 or (output.act_min, output.act_max) == (-128, 127))
    shape = (
        stride_w * window.in_c == 2
        and window.kernel_w * window.in_c > 2
        and window.out_c % 2 == 0
        and window.out_c <= MAX_OUT_C
    )
    reached = 4 * (window.kernel_h + 1) * max(window.row_words, 4 * window.taps) <= IMMEDIATE
    short = window.kernel_h * CODE_ROW_BYTES * window.taps <= CODE_LIMIT
    largest = largest_sums(weights_ohwi.reshape(window.out_c, -1), np.zeros(window.out_c, np.int32), x)
    return bool(full and shape and reached and short and int(largest.max()) < 1 << (FIELD - 1))


def rounding(bias: Int32, multiplier: Int32, shift: Int32, out_zero: int) -> PackedConvRounding | None:
    """One right shift for all channels, or None where their multipliers or biases lie too far apart.

    TFLite computes h = (s * m + 2**30) >> 31, then h / 2**e, halves away from zero, e = -shift. The first is at least a
    whole number n when s * m / 2**31 >= n - 1/2. Of f = (s * 2**(k + 1) * m) >> 32, k >= 1, that is f >= 2**k * n -
    2**(k - 1), exactly. So with E = e + k the result is (f + 2**(k - 1) + 2**(E - 1)) >> E for s >= 0; below zero,
    where halves go the other way, f is 2**k less. k is chosen such that E is one number.
    """
    exponent = -shift.astype(np.int64)
    common = int(exponent.max()) + 1
    k = common - exponent
    offset = bias.astype(np.int64) - (1 << (FIELD - 1))
    reach = (np.abs(bias.astype(np.int64)) + (1 << (FIELD - 1))) << np.minimum(k + 1, 30)
    if int(k.max()) > MAX_SCALING or common > MAX_SHIFT or int(reach.max()) >= 1 << 31:
        return None
    added = (np.int64(1) << (k - 1)) + (1 << (common - 1)) + out_zero * (1 << common)
    return PackedConvRounding(common, np.int64(1) << (k + 1), offset, multiplier.astype(np.int64), added)


def constants(r: PackedConvRounding) -> Int32:
    """Per channel: the scale, the scaled offset, the multiplier and what is added to the product."""
    table: Int32 = np.stack([r.scale, r.offset * r.scale, r.multiplier, r.added], axis=1).astype(np.int32).reshape(-1)
    return table


def code(window: PackedConvWindow, shift: int, relu: int) -> AsmCode:
    """The assembly for a layer's shape and rounding."""
    shape = PackedConvShape(
        window.kernel_h, window.taps, window.tail, window.row_words, window.out_w, window.out_c, shift, relu
    )
    return AsmCode("nn_conv_packed_code", (routine(shape),))


def pack_weights(weights_ohwi: Int8, tail: int) -> Int32:
    """The order nn_conv_packed_s8 wants: see nn.h."""
    channels, rows = weights_ohwi.shape[:2]
    values = weights_ohwi.reshape(channels, rows, -1).astype(np.int64)
    taps = -(-values.shape[2] // 4)
    padded = np.zeros((channels, rows, 4 * taps), np.int64)
    padded[:, :, : values.shape[2]] = values
    fours = padded.reshape(
        channels // 2, 2, rows, taps, 2, 2
    )  # [pair of channels, a or b, row, tap, early or late, parity]
    words = fours[..., 1, :] + (fours[..., 0, :] << FIELD)  # [pair, a or b, row, tap, parity]
    main = words.transpose(0, 2, 3, 4, 1).reshape(-1)  # [pair, row, tap, parity, a or b]
    late = (fours[:, :, :, :tail, 1, 0] & 0xFFFF) + (fours[:, :, :, :tail, 1, 1] << 16)
    packed: Int32 = np.concatenate([main, late.transpose(0, 2, 3, 1).reshape(-1)]).astype(np.int32)
    return packed
