"""float32 log1p as the C libraries compute it that TFLM meets (newlib on a board, glibc before 2.41), bit for bit, on
every machine.

A correctly rounded log1p is not good enough: it moves two mel weights of the deployed features by one unit. Method: 1 +
x is split into 2^k * (1 + f) with f in [sqrt(1/2) - 1, sqrt(2) - 1]; with s = f / (2 + f), log(1 + f) = f - f^2/2 + s *
(f^2/2 + R(s^2)), R being the degree-7 minimax polynomial of that classic reduction; each operation rounds to float32.
"""

from __future__ import annotations

import numpy as np

_F = np.float32
_LN2_HIGH, _LN2_LOW = _F(np.uint32(0x3F317180).view(np.float32)), _F(np.uint32(0x3717F7D1).view(np.float32))
_POLYNOMIAL = np.array(
    [0x3F2AAAAB, 0x3ECCCCCD, 0x3E924925, 0x3E638E29, 0x3E3A3325, 0x3E1CD04F, 0x3E178897], np.uint32
).view(np.float32)
_UNREDUCED_BELOW = _F(np.uint32(0x3ED413D7).view(np.float32))  # sqrt(2) - 1
_HALVED_FROM = 0x3504F7  # fraction bits of sqrt(2)


def log1pf(x: np.float32) -> np.float32:
    """log(1 + x) in float32 for 0 <= x < 2^53; mel frequencies need no more.

    >>> [float(log1pf(np.float32(x))) for x in (0, 0.25, 1, 10)]
    [0.0, 0.2231435477733612, 0.6931471824645996, 2.397895336151123]
    """
    if not 0 <= x < 2.0**53:
        raise ValueError(f"log1pf: x must be in [0, 2^53), got {x}")
    if x < _F(2.0**-29):
        return x
    exponent, fraction, lost = (0, x, _F(0)) if x < _UNREDUCED_BELOW else _reduce(x)
    scale = _F(exponent)
    half_square = _F(_F(_F(0.5) * fraction) * fraction)
    if exponent and abs(fraction) < _F(2.0**-20):
        return _near_power(scale, fraction, half_square, lost)
    ratio = _F(fraction / _F(_F(2) + fraction))
    square, series = _F(ratio * ratio), _F(0)
    for coefficient in _POLYNOMIAL[::-1]:
        series = _F(square * _F(coefficient + series))
    correction = _F(ratio * _F(half_square + series))
    if not exponent:
        return _F(fraction - _F(half_square - correction))
    low = _F(correction + _F(_F(scale * _LN2_LOW) + lost))
    return _F(_F(scale * _LN2_HIGH) - _F(_F(half_square - low) - fraction))


def _reduce(x: np.float32) -> tuple[int, np.float32, np.float32]:
    """k, f and what the rounding of 1 + x lost, relative to it."""
    total = _F(_F(1) + x)
    bits = int(total.view(np.uint32))
    exponent = (bits >> 23) - 127
    lost = _F(_F(1) - _F(total - x)) if exponent > 0 else _F(x - _F(total - _F(1)))
    lost = _F(lost / total)
    fraction_bits = bits & 0x7FFFFF
    halve = fraction_bits >= _HALVED_FROM
    mantissa = np.uint32(fraction_bits | (0x3F000000 if halve else 0x3F800000)).view(np.float32)
    return exponent + int(halve), _F(mantissa - _F(1)), lost


def _near_power(scale: np.float32, fraction: np.float32, half_square: np.float32, lost: np.float32) -> np.float32:
    low = _F(lost + _F(scale * _LN2_LOW))
    if fraction == 0:
        return _F(_F(scale * _LN2_HIGH) + low)
    rest = _F(half_square * _F(_F(1) - _F(_F(0.66666666666666666) * fraction)))
    return _F(_F(scale * _LN2_HIGH) - _F(_F(rest - low) - fraction))
