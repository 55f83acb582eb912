"""Depthwise convolutions along time: rounding of exponents far apart, cycles on the virtual board, what falls back."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from traced_engine import noise, trace

from converter import quant, reference
from converter.aot.kernels.requantize import rounding, rounding_doubled
from converter.aot.kernels.structs import NnOutput
from converter.aot.lower import lower_layer
from converter.graph import Graph
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.quant import Activation
from converter.tensor import QuantParams, Tensor


def layer_graph(
    rows: int, kernel: int, channels: int, spread: float = 1.0, stride: int = 1, activation: Activation = "RELU"
) -> Graph:
    """VALID, one column, the largest real multiplier 0.9; the channels' scales fall to `spread` of the first one."""
    rng = np.random.default_rng([rows, kernel, channels])
    scales = tuple(float(np.float32(0.02 * spread ** (i / (channels - 1)))) for i in range(channels))
    layer = DepthwiseConv2D(
        "y",
        0,
        1,
        rng.integers(-127, 128, (1, kernel, 1, channels)).astype(np.int8),
        QuantParams(scales, (0,) * channels, 3),
        rng.integers(-2000, 2000, channels).astype(np.int32),
        1,
        (stride, 1),
        "VALID",
        activation,
    )
    out_rows = (rows - kernel) // stride + 1
    y_quant = QuantParams((0.05 * 0.02 / (0.9 if spread < 1 else 0.01),), (-128 if activation == "RELU" else 4,))
    x = Tensor("x", (1, rows, 1, channels), QuantParams((0.05,), (-128,)))
    return Graph((x, Tensor("y", (1, out_rows, 1, channels), y_quant)), (layer,), 0, 1)


@pytest.mark.parametrize("zero", [-128, 0, 96, 124])
def test_exponents_from_0_to_8_are_rounded_as_tflite_rounds_them(zero: int) -> None:
    rng = np.random.default_rng(zero + 128)
    shifts = -(np.arange(36, dtype=np.int32) % 9)
    exact = 1 << 30 | rng.integers(0, 4, 36) << 28
    multipliers = np.where(np.arange(36) % 2, rng.integers(1 << 30, (1 << 31) - 1, 36), exact).astype(np.int32)
    largest = np.full(36, 1 << 20, np.int64)
    output = NnOutput(out_zero=zero, act_min=zero, act_max=127, sum_below_2_30=0)
    assert rounding(multipliers, shifts, output, largest) is None
    found = rounding_doubled(multipliers, shifts, output, largest)
    assert found is not None and found[1] == 2 and set(found[0].scaling.tolist()) == set(range(9))
    scaled, doublings = found
    sums = np.concatenate([rng.integers(1 - (1 << 20), 1 << 20, (36, 4000)), rng.integers(-999, 999, (36, 9000))], 1)
    shifted = sums << (scaled.scaling[:, None] + doublings)
    assert np.abs(shifted).max() < 1 << 31
    high = ((shifted * scaled.multiplier[:, None]) >> 32) + scaled.addend_or_shift[:, None]
    low = 0 if zero == -128 else zero
    got = np.clip(high >> scaled.rounding.shift, zero - low, 127 - low) + low
    channels = zip(sums, multipliers.tolist(), shifts.tolist(), strict=True)
    want = np.stack([quant.multiply_by_quantized_multiplier(row, m, shift) for row, m, shift in channels])
    assert np.array_equal(got, np.clip(want + zero, zero, 127))


def test_exponents_too_far_apart_or_sums_too_large_are_not_taken() -> None:
    output = NnOutput(out_zero=-128, act_min=-128, act_max=127, sum_below_2_30=1)
    multipliers, largest = np.full(2, 1 << 30, np.int32), np.full(2, 1 << 20, np.int64)
    assert rounding_doubled(multipliers, np.array([0, -8], np.int32), output, largest) is not None
    assert rounding_doubled(multipliers, np.array([0, -9], np.int32), output, largest) is None
    assert rounding_doubled(multipliers, np.array([1, -3], np.int32), output, largest) is None
    assert rounding_doubled(multipliers, np.array([0, -8], np.int32), output, largest << 1) is None
    assert rounding_doubled(multipliers, np.array([0, -8], np.int32), replace(output, act_max=99), largest) is None


def test_what_does_not_fit_takes_another_kernel() -> None:
    for graph, function in (
        (layer_graph(12, 9, 88), "nn_depthwise_time_s8"),
        (layer_graph(12, 9, 88, spread=2.0**-8), "nn_depthwise_time_s8"),
        (layer_graph(12, 9, 88, spread=2.0**-11), "nn_depthwise_s8_simd"),
        (layer_graph(12, 9, 3), "nn_depthwise_s8_simd"),
        (layer_graph(12, 9, 88, stride=2), "nn_depthwise_s8_simd"),
        (layer_graph(12, 9, 600), "nn_depthwise_s8_simd"),
    ):
        kernel = lower_layer(graph, graph.layers[0])
        assert kernel is not None and kernel.function == function
        assert kernel.scratch_bytes == 0


@pytest.mark.parametrize(("rows", "kernel", "spread", "stated"), [(14, 9, 1.0, 3.2), (24, 5, 2.0**-8, 4.2)])
def test_layers_of_the_spotter_take_the_cycles_stated(
    tmp_path: Path, rows: int, kernel: int, spread: float, stated: float
) -> None:
    """Cycles per multiplication of 88 channels, all calls and roundings with them."""
    graph = layer_graph(rows, kernel, 88, spread)
    ((cycles, crc),) = trace(graph, noise(graph), tmp_path)[0]
    assert crc == zlib.crc32(reference.run(graph, noise(graph))[1].tobytes())
    assert cycles / ((rows - kernel + 1) * kernel * 88) == pytest.approx(stated, rel=0.03)
