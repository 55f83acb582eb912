"""Output channels that no int8 input can change, as training leaves dead ones behind: interval arithmetic finds them,
and constants that make the same value by an ordinary sum stand in for theirs, which may be of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.arrays import Int8, Int32, Int64
from converter.operators.weighted import requantize
from converter.quant import Activation
from converter.tensor import QuantParams

EXPONENTS = (1, 20)  # a bias of 255 steps stays below 2**30
USUAL_EXPONENT = 8  # where all channels are constant


@dataclass(frozen=True, eq=False)
class ChannelConstants:
    """Weights [channels, taps], biases and multipliers (mantissas, shifts) that give the same outputs for every input;
    `constant` says which channels no input changes (their weights are zero), `values` what they give."""

    weights: Int8
    bias: Int64
    multipliers: tuple[Int64, Int64]
    constant: NDArray[np.bool_]
    values: Int8


def fold_constant_channels(
    weights: Int8, bias: Int32, multipliers: tuple[Int64, Int64], x: QuantParams, y: QuantParams, activation: Activation
) -> ChannelConstants:
    """A sum lies between those of the inputs that are worst for each weight (padding is an input of the zero point),
    and requantization never falls where sums rise: a channel whose two ends give one output gives no other.

    weights [channels, taps], bias [channels], multipliers (mantissas, shifts); no sum may leave int32 (check_weights).
    """
    wide, start = weights.astype(np.int64), bias.astype(np.int64)
    up, down = wide.clip(min=0).sum(axis=1), wide.clip(max=0).sum(axis=1)
    low, high = -128 - x.zero_point, 127 - x.zero_point
    values = requantize(start + up * low + down * high, multipliers, activation, y)
    constant = values == requantize(start + up * high + down * low, multipliers, activation, y)
    mantissas, shifts = multipliers
    others = -shifts[~constant]
    exponent = int(np.clip(np.median(others), *EXPONENTS)) if others.size else USUAL_EXPONENT
    steps = (values.astype(np.int64) - y.zero_point) << (exponent + 1)  # times 2**30 / 2**31 / 2**exponent: no rounding
    return ChannelConstants(
        np.where(constant[:, None], 0, weights).astype(np.int8),
        np.where(constant, steps, start),
        (np.where(constant, 1 << 30, mantissas), np.where(constant, -exponent, shifts)),
        constant,
        values,
    )
