"""Convolutions with four products in a multiplication: exact at the very edge of a field, for every shape, or another
kernel is taken."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from kernels_image import MARK, build_arm_image, run_qemu
from kernels_on_host import SOURCES, compile_shared, compiler, run_kernel

from converter import quant, reference
from converter.aot.kernels import conv_packed
from converter.aot.kernels.structs import NnConvPackedLayer
from converter.aot.lower import lower_layer
from converter.arrays import Int8
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.windows import output_size, pad_before
from converter.tensor import QuantParams, Tensor

FIELD_LIMIT = (1 << 20) - 1  # of a sum, in either direction
Case = tuple[Graph, Int8]


def case(
    weights: Int8,
    in_hw: tuple[int, int],
    x: int | None,
    x_zero: int = -128,
    y_zero: int = -128,
    padding: str = "SAME",
    stride_h: int = 2,
    act: str = "NONE",
) -> Case:
    """A convolution of these weights (OHWI) on noise or on the value x everywhere, its outputs spread over int8."""
    channels, kernel_h, kernel_w, in_c = weights.shape
    rng = np.random.default_rng([31, *weights.shape, *in_hw])
    stride = (stride_h, 2 // in_c)
    out_hw = [output_size(n, k, s, padding) for n, k, s in zip(in_hw, (kernel_h, kernel_w), stride, strict=True)]  # type: ignore[arg-type]
    scales = tuple(float(np.float32(s)) for s in rng.uniform(0.003, 0.01, channels))
    bias = rng.integers(-30000, 30000, channels).astype(np.int32)
    layer = Conv2D("conv", 0, 1, weights, QuantParams(scales, (0,) * channels, 0), bias, stride, padding, act)  # type: ignore[arg-type]
    largest = np.abs(weights.astype(np.int64)).reshape(channels, -1).sum(axis=1).max() * 255
    tensors = (
        Tensor("x", (1, *in_hw, in_c), QuantParams((0.05,), (x_zero,))),
        Tensor("y", (1, *out_hw, channels), QuantParams((float(np.float32(0.01 * 0.05 * largest / 200)),), (y_zero,))),
    )
    shape = tensors[0].shape
    values = rng.integers(-128, 128, shape) if x is None else np.full(shape, x)
    return Graph(tensors, (layer,), 0, 1), values.astype(np.int8)


def summing_to(total: int, shape: tuple[int, ...], sign: int) -> Int8:
    """Weights of one sign whose magnitudes sum to `total` in every output channel."""
    count = int(np.prod(shape[1:]))
    one = np.full(count, total // count)
    one[: total % count] += 1
    return np.broadcast_to(sign * one, (shape[0], count)).reshape(shape).astype(np.int8)


def edge_cases() -> list[Case]:
    """Sums that reach the limit of a field exactly: all weights of one sign, all inputs at the far end."""
    total = FIELD_LIMIT // 255
    found = []
    for sign in (1, -1):
        weights, end = summing_to(total, (4, 10, 8, 1), sign), (-128, 127)[sign < 0]  # else the output never changes
        found += [
            case(weights, (20, 16), 127, y_zero=end),
            case(weights, (20, 15), 127, y_zero=3),
            case(weights, (20, 14), -128, 127, y_zero=-1 - end),
            case(weights, (20, 13), None, y_zero=end),
        ]
    return found


def shape_cases() -> list[Case]:
    """Every remainder of out_w, one to four groups of taps, both depths, rows in the padding above and below, no tail
    at all."""
    found = []
    for number in range(64):
        rng = np.random.default_rng([32, number])
        in_c, row = 1 + number % 2, 3 + number % 13
        shape = (2 * int(rng.integers(1, 4)), int(rng.integers(1, 9)), max(row // in_c, 2), in_c)
        in_hw = (int(rng.integers(1, 12)) + shape[1], shape[2] + int(rng.integers(0, 12)))
        weights = rng.integers(-127, 128, shape).astype(np.int8)
        padding = ("SAME", "VALID")[number // 2 % 2]
        found.append(
            case(
                weights, in_hw, None, int(rng.integers(-128, 128)), (-128, 5, 127)[number % 3], padding, 1 + number % 3
            )
        )
        if number % 4 == 0:  # outputs of 2 to 7 bits
            found.append(case(weights, in_hw, None, 7, 128 - (1 << (2 + number // 4 % 6)), act="RELU"))
    return found


def test_sums_at_the_edge_of_a_field_and_every_shape(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(compile_shared(tmp_path / "nn.so", SOURCES)))
    widths, taps = set(), set()
    for number, (graph, x) in enumerate([*edge_cases(), *shape_cases()]):
        kernel, want = lower_layer(graph, graph.layers[0]), reference.run(graph, x)[1]
        assert kernel is not None and kernel.function == "nn_conv_packed_s8", number
        assert np.array_equal(run_kernel(library, kernel, [x], want.shape, number), want), number
        assert isinstance(kernel.layer, NnConvPackedLayer)
        widths.add(kernel.layer.out_w % 4)
        taps.add(kernel.layer.taps)
    assert widths == {0, 1, 2, 3} and taps == {1, 2, 3, 4}


def test_the_same_in_assembly(tmp_path: Path) -> None:
    compiler("qemu-system-arm")
    said = run_qemu(build_arm_image(tmp_path, [*edge_cases(), *shape_cases()], "-O2"))
    assert MARK in said, said[-4000:]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_its_field_takes_another_kernel(sign: int) -> None:
    graph, _ = case(summing_to(FIELD_LIMIT // 255 + 1, (2, 10, 8, 1), sign), (20, 16), 127, y_zero=3)
    kernel = lower_layer(graph, graph.layers[0])
    assert kernel is not None and kernel.function == "nn_conv_rows_s8_simd"


def test_rounding_equals_tflite_for_every_sum() -> None:
    """All sums of a field, multipliers and exponents of a layer mixed, every kind of zero point."""
    sums = np.arange(-FIELD_LIMIT, FIELD_LIMIT + 1, dtype=np.int64)
    rng = np.random.default_rng(33)
    for number in range(24):
        shift = -rng.integers(1 + number % 9, 12, 3).astype(np.int32)
        multiplier = np.array([1 << 30, (1 << 31) - 1, rng.integers(1 << 30, 1 << 31)]).astype(np.int32)
        bias, zero = rng.integers(-5000, 5000, 3).astype(np.int32), (-128, -128, 127, -3)[number % 4]
        rounding = conv_packed.rounding(bias, multiplier, shift, zero)
        assert rounding is not None
        for channel in range(3):
            scaled = (sums + (1 << 20) + rounding.offset[channel]) * rounding.scale[channel]
            assert np.abs(scaled).max() < 1 << 31
            product = ((scaled * rounding.multiplier[channel]) >> 32) + rounding.added[channel]
            got = np.clip(
                (product - (0 if zero == -128 else (scaled < 0) * rounding.scale[channel] // 2)) >> rounding.shift,
                -128,
                127,
            )
            want = (
                quant.multiply_by_quantized_multiplier(
                    sums + bias[channel], int(multiplier[channel]), int(shift[channel])
                )
                + zero
            )
            assert np.array_equal(got, np.clip(want, -128, 127)), (number, channel)


def test_multipliers_too_far_apart_take_another_kernel() -> None:
    one = np.array([1 << 30, 1 << 30], np.int32)
    assert conv_packed.rounding(one * 0, one, np.array([-3, -9], np.int32), -128) is not None
    assert conv_packed.rounding(one * 0, one, np.array([-1, -13], np.int32), -128) is None  # sums would leave 32 bits
    assert conv_packed.rounding(one * 0, one, np.array([-24, -24], np.int32), -128) is None
    assert conv_packed.rounding(one, one, np.array([-3, -3], np.int32), -128) is None  # a bias of 2**30


def test_the_tail_has_only_taps_within_the_row() -> None:
    """TinyConv: of the last output's late taps only k = 2, 3 meet inputs, columns 37 and 38; 6 and 7 lie in the
    padding."""
    window = conv_packed.PackedConvWindow(10, 8, 40, 1, 20, 8, 2, pad_before(40, 8, 2, "SAME"))
    assert (window.taps, window.triples, window.tail, window.row_words) == (2, 10, 1, 23)
