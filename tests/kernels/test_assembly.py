"""The kernels made by converter/asm_*.py: their rounding is TFLite's, and their assembly runs every shape on a
Cortex-M4."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernels_image import MARK, Case, build_arm_image, run_qemu
from kernels_on_host import compiler
from shaped_layers import patch_case, plane_case, point_case, small_patch_case, time_case

from converter import quant
from converter.aot.kernels.pointwise_asm import MAX_TAPS
from converter.aot.kernels.requantize import Scaled, rounding
from converter.aot.kernels.structs import NnOutput
from converter.aot.lower import lower_layer
from converter.arrays import Int64


def round_scaled(found: Scaled, sums: Int64) -> Int64:
    """nn_round_scaled of sums[channel, :], which are not scaled yet."""
    scaled = (sums << found.scaling[:, None]) * found.multiplier[:, None]
    assert (np.abs(scaled) < 1 << 62).all()
    zero = found.rounding.out_zero
    low = 0 if zero == -128 else zero
    values: Int64 = (
        np.clip(((scaled >> 32) + found.addend_or_shift[:, None]) >> found.rounding.shift, zero - low, 127 - low) + low
    )
    return values


@pytest.mark.parametrize("zero", [-128, 0, 64, 96, 112, 120, 124])
def test_one_shift_for_all_channels_rounds_as_tflite(zero: int) -> None:
    """Ties, sums round the clamps, the largest sums; multipliers with few bits set, where ties happen."""
    rng = np.random.default_rng(zero + 128)
    shifts = -rng.integers(3, 10, 64).astype(np.int32)
    exact = 1 << 30 | rng.integers(0, 4, 64) << 28
    multipliers = np.where(np.arange(64) % 2, rng.integers(1 << 30, (1 << 31) - 1, 64), exact).astype(np.int32)
    largest = np.full(64, 1 << 21, np.int64)
    output = NnOutput(out_zero=zero, act_min=zero, act_max=127, sum_below_2_30=1)
    found = rounding(multipliers, shifts, output, largest)
    assert found is not None and found.rounding.shift > 0
    sums = np.concatenate(
        [
            rng.integers(-(1 << 21) + 1, 1 << 21, (64, 20_000)),
            rng.integers(-3000, 3000, (64, 20_000)),
            np.broadcast_to([0, 1, -1, (1 << 21) - 1, 1 - (1 << 21)], (64, 5)),
        ],
        axis=1,
    )
    channels = zip(sums, multipliers.tolist(), shifts.tolist(), strict=True)
    want = np.stack(
        [quant.multiply_by_quantized_multiplier(row, multiplier, shift) for row, multiplier, shift in channels]
    )
    assert np.array_equal(round_scaled(found, sums), np.clip(want + zero, zero, 127))


def test_shifts_too_far_apart_take_the_other_form_or_none() -> None:
    multipliers, largest = np.full(2, 1 << 30, np.int32), np.full(2, 1 << 20, np.int64)
    shifts = np.array([-2, -12], np.int32)
    whole = NnOutput(out_zero=-128, act_min=-128, act_max=127, sum_below_2_30=1)
    found = rounding(multipliers, shifts, whole, largest)
    assert found is not None and found.rounding.shift == 0 and found.addend_or_shift.tolist() == [1, 11]
    assert rounding(multipliers, shifts, replace(whole, out_zero=96, act_min=96), largest) is None
    assert rounding(multipliers, shifts, replace(whole, sum_below_2_30=0), largest) is None
    assert rounding(multipliers, -np.array([7, 9], np.int32), replace(whole, act_max=100), largest) is None


def test_layers_of_one_shape_share_their_code() -> None:
    multipliers, largest = np.full(2, 1 << 30, np.int32), np.full(2, 1 << 20, np.int64)
    output = NnOutput(out_zero=-128, act_min=-128, act_max=127, sum_below_2_30=1)
    found = [rounding(multipliers, np.full(2, shift, np.int32), output, largest) for shift in (-5, -6, -9)]
    assert len({scaled.rounding for scaled in found if scaled}) == 1 and None not in found


def generated_cases() -> list[Case]:
    """Every depth of a 1 x 1 convolution, all forms of the others."""
    return [
        *map(point_case, range(2 * MAX_TAPS)),
        *map(plane_case, range(220)),
        *map(time_case, range(186)),
        *map(patch_case, range(140)),
        *map(small_patch_case, range(240)),
    ]


@pytest.mark.slow  # 1,074 layers: a minute of compiling
def test_every_shape_on_a_cortex_m4(tmp_path: Path) -> None:
    compiler("qemu-system-arm")
    cases = generated_cases()
    functions = Counter(kernel.function for graph, _ in cases if (kernel := lower_layer(graph, graph.layers[-1])))
    assert (
        min(
            functions[name]
            for name in (
                "nn_pointwise_s8",
                "nn_conv_patches_s8",
                "nn_depthwise3_s8",
                "nn_depthwise_time_s8",
                "nn_conv_s8_simd",
            )
        )
        >= 50
    ), functions
    for start in range(0, len(cases), 300):  # all of them do not fit in the machine's 4 MB
        said = run_qemu(build_arm_image(tmp_path, cases[start : start + 300], "-O2"))
        assert MARK in said, said[-4000:]
