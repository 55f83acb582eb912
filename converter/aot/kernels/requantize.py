"""How int32 sums become int8 by one high multiplication: which layers allow it, and the constants per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from converter import quant
from converter.aot.kernels.structs import Channels, NnOutput
from converter.arrays import Int32, Int64
from converter.quant import Activation
from converter.tensor import QuantParams

MAX_SCALING = 8  # int8 times 2**8 fits int16
MAX_SHIFT = 22  # -128 * 2**shift leaves room for the product
USUAL_SHIFT = 10
MAX_DOUBLINGS = 2  # of sums, beside the scaling of their weights, which k >= 2 leaves room for


@dataclass(frozen=True)
class Rounding:
    """How sums become bytes, the same for all channels of a layer; what is exact and why, see rounding().

    `shift` > 0: outputs from their zero point, 128 - 2**b, to 127; constants are the multiplier and what is added. Else
    any zero point and the full range; constants are the multiplier and the exponent less one.
    """

    shift: int
    out_zero: int

    @property
    def name(self) -> str:
        """A part of routine names."""
        return (f"s{self.shift}_" if self.shift else "z") + str(self.out_zero + 128)

    def lines(self, sums: Sequence[str], multiplier: str, addend_or_shift: str) -> list[str]:
        """Round the sums of one channel in place to int8."""
        if self.shift:
            products = [f"smmla {s}, {s}, {multiplier}, {addend_or_shift}" for s in sums]
            if self.out_zero == -128:  # which is part of what was added
                return products + [f"ssat {s}, #8, {s}, asr #{self.shift}" for s in sums]
            products += [f"usat {s}, #{(127 - self.out_zero).bit_length()}, {s}, asr #{self.shift}" for s in sums]
            return products + ([f"addw {s}, {s}, #{self.out_zero}" for s in sums] if self.out_zero else [])
        steps = [
            ("smmulr {0}, {0}, " + multiplier),
            "add.w {0}, {0}, {0}, asr #31",
            ("asr.w {0}, {0}, " + addend_or_shift),
        ]
        offset = 2 * self.out_zero + 1
        steps += [f"{'sub' if offset < 0 else 'add'}w {{0}}, {{0}}, #{abs(offset)}", "ssat {0}, #8, {0}, asr #1"]
        return [step.format(s) for step in steps for s in sums]


@dataclass(frozen=True, eq=False)
class Scaled:
    """How a layer rounds, per channel: the power of two that its weights and bias are multiplied by, the multiplier,
    and what is added to the product (rounding.shift > 0) or else how far it is shifted right, less one."""

    rounding: Rounding
    scaling: Int64
    multiplier: Int64
    addend_or_shift: Int64


@dataclass(frozen=True, eq=False)
class PackedConvRounding:
    """Per channel: y = clamp((((sum + offset) * scale * multiplier >> 32) + added) >> shift), with a step less for
    negative sums."""

    shift: int
    scale: Int64
    offset: Int64
    multiplier: Int64
    added: Int64


def channel_constants(bias: Int64, multipliers: tuple[Int64, Int64]) -> Channels:
    """Per channel: bias, mantissa and shift as int32; biases wrap modulo 2**32, as the CPU adds."""
    return Channels(bias.astype(np.int32), multipliers[0].astype(np.int32), multipliers[1].astype(np.int32))


def output_range(activation: Activation, y: QuantParams, largest: Int64, channels: Channels) -> NnOutput:
    """Zero point and clamp of the output; `largest` bounds |sum| per channel (largest_sums of the operators)."""
    low, high = quant.activation_range(activation, y)
    sum_below_2_30 = int(largest.max()) < 1 << 30 and int(channels.shift.max()) < 0
    return NnOutput(y.zero_point, low, high, int(sum_below_2_30))


def rounding(
    multiplier: Int32, shift: Int32, output: NnOutput, largest: Int64, wanted: int = USUAL_SHIFT
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
    common = _common_shift(exponent, largest, wanted) if output.sum_below_2_30 and relu_bits(output) else 0
    if common:
        return _one_shift(common, common + 1 - exponent, exponent, factor, out_zero)
    return Scaled(Rounding(0, out_zero), np.ones_like(exponent), factor, exponent - 1) if unclamped(output) else None


def rounding_doubled(multiplier: Int32, shift: Int32, output: NnOutput, largest: Int64) -> tuple[Scaled, int] | None:
    """rounding() with one right shift for exponents down to 0 and up to 8 apart: the kernel multiplies its sums, of
    scaled weights, by 2**doublings; (scaled, doublings), or None where that does not serve either."""
    exponent = -shift.astype(np.int64)
    if relu_bits(output) and int(exponent.min()) >= 0:
        for doublings in range(MAX_DOUBLINGS + 1):
            common = _common_shift(exponent, largest, USUAL_SHIFT, doublings)
            if common:
                scaling = common + 1 - exponent - doublings
                return _one_shift(common, scaling, exponent, multiplier.astype(np.int64), output.out_zero), doublings
    return None


def _one_shift(common: int, scaling: Int64, exponent: Int64, factor: Int64, out_zero: int) -> Scaled:
    """The constants of rounding(). Exponent 0 is rounded once, not twice: without 2**(k - 2)."""
    first = np.where(exponent > 0, np.int64(1) << np.maximum(common - 1 - exponent, 0), 0)
    addend = first + (1 << (common - 1)) - ((128 << common) if out_zero == -128 else 0)
    return Scaled(Rounding(common, out_zero), scaling, factor, addend)


def _common_shift(exponent: Int64, largest: Int64, wanted: int, doublings: int = 0) -> int:
    """E of rounding(), 0 where there is none."""
    shifts = range(int(exponent.max()) + 1, min(MAX_SHIFT, int(exponent.min()) + MAX_SCALING + doublings - 1) + 1)
    found = [common for common in shifts if (largest < (1 << 31) >> (common + 1 - exponent)).all()]
    return min(found, key=lambda common: abs(common - wanted), default=0)


def unclamped(output: NnOutput) -> bool:
    """Whether |sum| < 2**30 and the output is all of int8, so that saturation to 8 bits is its only clamp."""
    return bool(output.sum_below_2_30 and (output.act_min, output.act_max) == (-128, 127))


def relu_bits(output: NnOutput) -> int:
    """b where the outputs are 128 - 2**b, their zero point, to 127: 8 for a zero point of -128, fewer in low-bit
    networks; else 0."""
    low, bits = output.act_min, (128 - output.act_min).bit_length() - 1
    begins_at_zero = low == output.out_zero == 128 - (1 << bits) and output.act_max == 127
    return bits if begins_at_zero and bits > 1 else 0
