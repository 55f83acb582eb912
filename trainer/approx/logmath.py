"""Matrix product of logarithmic numbers, summed without a multiplier.

A number is a sign and an exponent e in steps of 1/base octave; a product adds exponents. To add numbers, e = q * base +
r is taken apart, and +-(1 << q) goes into the integer accumulator of remainder r; at the end each accumulator is scaled
by 2^(r/base) once and the few results are summed (US patent 12,141,225, application 2021-0056446). The hybrid form
keeps accumulators for the upper bits of r only and adds +-(base + low) << q, taking 2^(low/base) for 1 + low/base; with
no upper bit that is Mitchell's conversion (IRE EC-11, 1962).
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


def log_matmul(
    a: Tensor, b: Tensor, base: int | None = None, conversion: str = "exact", sorted_bits: int = 0
) -> Tensor:
    """a [..., m, k] times b [..., k, n] of logarithmic numbers, as a's type.

    base None adds unrounded exponents. exact scales the accumulators by 2^(r/base), lut by the same constants with 8
    bits of fraction, hybrid sorts on the upper sorted_bits of r, mitchell on none. One bit does not pay: 2^r is nearest
    to 1 + r at both ends of the octave.
    """
    _check(base, conversion, sorted_bits, a.shape[-1])
    if base is None:
        return _unrounded(a, b)
    (a_sign, a_e, a_smallest), (b_sign, b_e, b_smallest) = encode(a, base), encode(b, base)
    low_bits = (
        0 if conversion in ("exact", "lut") else base.bit_length() - 1 - (sorted_bits if conversion == "hybrid" else 0)
    )
    rows = [
        _accumulate(a_sign[..., i, :, None] * b_sign, a_e[..., i, :, None] + b_e, base, low_bits)
        for i in range(a.shape[-2])
    ]
    sums = torch.stack(rows, dim=-3).double()  # [..., m, accumulators, n]
    constants = 2.0 ** (torch.arange(base >> low_bits, dtype=torch.float64, device=a.device) * (1 << low_bits) / base)
    if conversion == "lut":
        constants = torch.round(constants * (1 << LUT_FRACTION_BITS)) / (1 << LUT_FRACTION_BITS)
    unit = 2.0 ** ((a_smallest + b_smallest) / base) / (base if low_bits else 1)
    y: Tensor = (sums * constants[:, None]).sum(-2) * unit
    return y.to(a.dtype)


def _accumulate(sign: Tensor, e: Tensor, base: int, low_bits: int) -> Tensor:
    """The integer accumulators [..., base >> low_bits, n] after all products [..., k, n] went into theirs."""
    q, r = torch.div(e, base, rounding_mode="floor"), e % base
    mantissa = base + (r & ((1 << low_bits) - 1)) if low_bits else torch.ones_like(r)
    accumulators = torch.zeros(*e.shape[:-2], base >> low_bits, e.shape[-1], dtype=torch.int64, device=e.device)
    accumulators.scatter_add_(-2, r >> low_bits, sign * (mantissa << q))
    return accumulators


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
