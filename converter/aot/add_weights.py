"""ADD by one multiplication for each operand, where that gives TensorFlow Lite's outputs for all 65,536 pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.arrays import Int8, Int64

WEIGHT_BITS, SUM_BITS = 24, 16  # below the point: of a weight, of a sum
REACH = 3  # how far a weight may lie from the ratio of its scales, in steps
INT8: Int64 = np.arange(-128, 128)
FREE = 1 << 40  # no bound


@dataclass(frozen=True)
class AddWeights:
    """out = clamp((a * weight_a * 2**-8 + b * weight_b * 2**-8 + offset) >> 16 to 0..255) - 128, each product rounded
    down."""

    weight_a: int
    weight_b: int
    offset: int


def find_add_weights(outputs: Int8, ratio_a: float, ratio_b: float) -> AddWeights | None:
    """For outputs [256, 256] of all a (first axis) and b from -128 to 127; the ratios are those of the operands' scales
    to the output's. None where no weights near these serve.

    Given both weights, each pair says between which offsets its output comes out; those at the clamps say one side.
    """
    wanted = outputs.astype(np.int64) + 128
    near = range(-REACH, REACH + 1)
    steps = sorted(((a, b) for a in near for b in near), key=lambda step: max(map(abs, step)))
    for step_a, step_b in steps:
        weight_a, weight_b = (
            round(ratio * (1 << WEIGHT_BITS)) + step for ratio, step in ((ratio_a, step_a), (ratio_b, step_b))
        )
        a, b = (INT8 * weight >> (WEIGHT_BITS - SUM_BITS) for weight in (weight_a, weight_b))
        sums = a[:, None] + b[None, :]
        low = int(np.where(wanted > 0, (wanted << SUM_BITS) - sums, -FREE).max())
        high = int(np.where(wanted < 255, ((wanted + 1) << SUM_BITS) - 1 - sums, FREE).min())
        offset = min(max((low + high) // 2, low), high)
        reach = int(max(-a.min(), a.max()) + max(-b.min(), b.max())) + abs(offset)
        if low <= high and reach < 1 << 31 and max(weight_a, weight_b) < 1 << 31:
            return AddWeights(weight_a, weight_b, offset)
    return None
