"""Matrix product of logarithmic numbers, summed without a multiplier.

A number is a sign and an exponent e in steps of 1/base octave; a product adds exponents. To add numbers, e = q * base +
r is taken apart, and +-(1 << q) goes into the integer accumulator of remainder r; at the end each accumulator is scaled
by 2^(r/base) once and the few results are summed (US patent 12,141,225, application 2021-0056446). The hybrid form
keeps accumulators for the upper bits of r only and adds +-(base + low) << q, taking 2^(low/base) for 1 + low/base; with
no upper bit that is Mitchell's conversion (IRE EC-11, 1962).

Two precisions are apart from the base: that of the accumulators, and that of the conversion, in which the constants are
held and the accumulators scaled and summed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.errors import TrainerError

CONVERSIONS = ("exact", "lut", "hybrid", "mitchell")
OCTAVES = 20  # of each operand, counted down from its largest magnitude; what is smaller counts as zero
LUT_FRACTION_BITS = 8


def encode(x: Tensor, base: int) -> tuple[Tensor, Tensor, int]:
    """Sign (-1, 0, 1), exponent over the smallest kept (0 and up), and that smallest: x is about sign * 2^((exponent +
    smallest) / base).

    >>> encode(torch.tensor([8.0, -1.0, 0.0]), 1)
    (tensor([ 1, -1,  0]), tensor([20, 17,  0]), -17)
    """
    magnitude = x.double().abs()
    if not bool(torch.isfinite(magnitude).all()):
        raise TrainerError(
            "log matmul: every number has a finite logarithm or is 0, got inf or nan; remove these first"
        )
    if not bool((magnitude > 0).any()):
        return torch.zeros_like(x, dtype=torch.int64), torch.zeros_like(x, dtype=torch.int64), 0
    e = torch.round(torch.log2(magnitude.clamp_min(torch.finfo(torch.float64).tiny)) * base).long()
    smallest = int(e[magnitude > 0].max()) - OCTAVES * base
    sign = torch.where((magnitude > 0) & (e >= smallest), torch.sign(x.double()).long(), 0)
    return sign, (e - smallest).clamp_min(0), smallest


Accumulator = int | torch.dtype | None


def log_matmul(
    a: Tensor,
    b: Tensor,
    base: int | None = None,
    conversion: str = "exact",
    sorted_bits: int = 0,
    accumulator: Accumulator = None,
    arithmetic: torch.dtype = torch.float64,
) -> Tensor:
    """a [..., m, k] times b [..., k, n] of logarithmic numbers, as a's type.

    base None adds unrounded exponents. exact scales the accumulators by 2^(r/base), lut by the same constants with 8
    bits of fraction, hybrid sorts on the upper sorted_bits of r, mitchell on none. One bit does not pay: 2^r is nearest
    to 1 + r at both ends of the octave.

    accumulator: None holds whole sums; a number of bits is a fixed-point register that no sum can overflow, every
    product rounded to it; a floating type rounds after every addition. arithmetic: the type of the conversion.
    """
    _check(base, conversion, sorted_bits, a.shape[-1])
    if base is None:
        return _unrounded(a, b)
    (a_sign, a_e, a_smallest), (b_sign, b_e, b_smallest) = encode(a, base), encode(b, base)
    low_bits = (
        0 if conversion in ("exact", "lut") else base.bit_length() - 1 - (sorted_bits if conversion == "hybrid" else 0)
    )
    octaves, rest = divmod(a_smallest + b_smallest, base)  # of the smallest product: a power of two, and steps above it
    rows = []
    for i in range(a.shape[-2]):
        sign, e = a_sign[..., i, :, None] * b_sign, a_e[..., i, :, None] + b_e + rest
        if isinstance(accumulator, torch.dtype):
            rows.append(_accumulate_rounded(sign, e, octaves, base, low_bits, accumulator).double())
        else:
            shift = _dropped_bits(a.shape[-1], base if low_bits else 1, accumulator)
            held = _accumulate(sign, e, base, low_bits, shift).double()
            rows.append(held * 2.0 ** (octaves + shift) / (base if low_bits else 1))
    sums = torch.stack(rows, dim=-3).to(arithmetic)  # [..., m, accumulators, n]
    constants = 2.0 ** (torch.arange(base >> low_bits, dtype=torch.float64, device=a.device) * (1 << low_bits) / base)
    if conversion == "lut":
        constants = torch.round(constants * (1 << LUT_FRACTION_BITS)) / (1 << LUT_FRACTION_BITS)
    scaled = sums * constants.to(arithmetic)[:, None]
    y = scaled[..., 0, :]
    for r in range(1, scaled.shape[-2]):
        y = y + scaled[..., r, :]
    return y.to(a.dtype)


def _dropped_bits(terms: int, largest_mantissa: int, accumulator: int | None) -> int:
    """Low bits that a register of so many bits has no room for, when the largest possible sum is to fit."""
    needed = 2 * OCTAVES + 2 + terms.bit_length() + (largest_mantissa.bit_length() if largest_mantissa > 1 else 0)
    return 0 if accumulator is None else max(0, needed - accumulator)


def _accumulate(sign: Tensor, e: Tensor, base: int, low_bits: int, shift: int = 0) -> Tensor:
    """The integer accumulators [..., base >> low_bits, n] after all products [..., k, n] went into theirs, each rounded
    to a multiple of 2^shift and counted in those."""
    q, r = torch.div(e, base, rounding_mode="floor"), e % base
    mantissa = base + (r & ((1 << low_bits) - 1)) if low_bits else torch.ones_like(r)
    accumulators = torch.zeros(*e.shape[:-2], base >> low_bits, e.shape[-1], dtype=torch.int64, device=e.device)
    product = mantissa << q
    if shift:
        product = (product + (1 << (shift - 1))) >> shift
    accumulators.scatter_add_(-2, r >> low_bits, sign * product)
    return accumulators


def _accumulate_rounded(sign: Tensor, e: Tensor, octaves: int, base: int, low_bits: int, dtype: torch.dtype) -> Tensor:
    """The same accumulators in a floating type, the products added one after the other, each time rounded."""
    q, r = torch.div(e, base, rounding_mode="floor"), e % base
    mantissa = 1 + (r & ((1 << low_bits) - 1)) / base if low_bits else torch.ones(r.shape, device=e.device)
    products, places = (sign * mantissa.double() * 2.0 ** (q + octaves).double()).to(dtype), r >> low_bits
    held = torch.zeros(*e.shape[:-2], base >> low_bits, e.shape[-1], dtype=dtype, device=e.device)
    for k in range(e.shape[-2]):
        at = places[..., k : k + 1, :]
        held = held.scatter(-2, at, held.gather(-2, at) + products[..., k : k + 1, :])
    return held


def _unrounded(a: Tensor, b: Tensor) -> Tensor:
    sign_a, sign_b, log_a, log_b = (
        a.double().sign(),
        b.double().sign(),
        a.double().abs().log2(),
        b.double().abs().log2(),
    )
    rows = []
    for i in range(a.shape[-2]):
        products = torch.exp2(log_a[..., i, :, None] + log_b)  # the logarithm of 0 is -inf and comes back as 0
        rows.append((sign_a[..., i, :, None] * sign_b * products).sum(-2))
    return torch.stack(rows, dim=-2).to(a.dtype)


def _check(base: int | None, conversion: str, sorted_bits: int, terms: int) -> None:
    if conversion not in CONVERSIONS:
        raise TrainerError(
            f"log matmul: the conversion is one of {', '.join(CONVERSIONS)}, got {conversion!r}; name one of these"
        )
    if base is None:
        if conversion != "exact":
            raise TrainerError(
                f"log matmul: {conversion} needs steps of 1/base octave, got no base; give base, for example 8"
            )
        return
    if base < 1:
        raise TrainerError(f"log matmul: base is at least 1 step per octave, got {base}; choose for example 8")
    if conversion in ("hybrid", "mitchell") and base & (base - 1):
        raise TrainerError(
            f"log matmul: {conversion} splits the remainder's bits, so base is a power of two, got {base}; choose 8"
        )
    if conversion == "hybrid" and not 0 <= sorted_bits < base.bit_length():
        raise TrainerError(
            f"log matmul: base {base} has {base.bit_length() - 1} bits of remainder, got sorted_bits {sorted_bits}"
        )
    bits = 2 * OCTAVES + 2 + terms.bit_length() + (base.bit_length() if conversion in ("hybrid", "mitchell") else 0)
    if bits > 63:
        raise TrainerError(f"log matmul: a sum of {terms} products fits into 63 bits, got {bits}; split the inner axis")
