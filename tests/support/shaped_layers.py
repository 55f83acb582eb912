"""Layers of every shape that a generated kernel takes, and the values to fill them with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from kernels_image import (
    Case,
)

from converter.aot.kernels.pointwise_asm import MAX_TAPS
from converter.arrays import Int8
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.windows import Padding, output_size
from converter.quant import Activation
from converter.tensor import QuantParams, Tensor

Fill = Callable[[tuple[int, ...], int], Int8]


def _noise(shape: tuple[int, ...], seed: int) -> Int8:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


FILLS: dict[str, Fill] = {
    "noise": _noise,
    "lowest": lambda shape, seed: np.full(shape, -128, np.int8),
    "extremes": lambda shape, seed: np.where(_noise(shape, seed) < 0, -128, 127).astype(np.int8),
}


X_QUANT, Y_QUANT = QuantParams((0.05,), (127,)), QuantParams((3.7,), (-5,))


OUTPUTS: tuple[tuple[int, Activation], ...] = (
    (-128, "RELU"),
    (-5, "NONE"),
    (0, "RELU"),
    (96, "RELU"),
    (-128, "NONE"),
    (124, "RELU"),
)


def plane_case(number: int) -> Case:
    """A 3 x 3 depthwise convolution: strides, pads, pieces of whole and of fewer rows, all kinds of OUTPUTS."""
    rng = np.random.default_rng([4, number])
    height, width, channels = int(rng.integers(3, 12)), int(rng.integers(3, 12)), int(rng.integers(1, 14))
    if number % 7 == 0:  # more than one piece
        height, width, channels = int(rng.integers(35, 90)), int(rng.integers(3, 6)), int(rng.integers(1, 6))
    if number % 20 == 19:  # a row of as many bytes as the code can step over
        height, width, channels = int(rng.integers(3, 6)), int(rng.integers(40, 60)), int(rng.integers(60, 69))
    stride_hw: tuple[int, int] = (1 + number // 2 % 2, 1 + number // 3 % 2)
    padding: Padding = "VALID" if number % 5 == 0 else "SAME"
    weights, bias = (
        FILLS[list(FILLS)[number % 3]]((1, 3, 3, channels), number),
        np.arange(channels, dtype=np.int32) * 999,
    )
    zero, activation = OUTPUTS[number // 3 % len(OUTPUTS)]
    layer = DepthwiseConv2D(
        "depthwise", 0, 1, weights, QuantParams((0.02,), (0,)), bias, 1, stride_hw, padding, activation
    )
    out_hw = [output_size(n, 3, s, layer.padding) for n, s in zip((height, width), stride_hw, strict=True)]
    y_quant = QuantParams((1.5,), (zero,))
    tensors = (Tensor("x", (1, height, width, channels), X_QUANT), Tensor("y", (1, *out_hw, channels), y_quant))
    return Graph(tensors, (layer,), 0, 1), FILLS[list(FILLS)[number // 2 % 3]](tensors[0].shape, number)


def time_case(number: int) -> Case:
    """A K x 1 depthwise convolution, K 2 to 32: pads, odd channels, all kinds of OUTPUTS, exponents 0 to 8 apart."""
    rng = np.random.default_rng([7, number])
    kernel, channels = 2 + number % 31, int(rng.integers(4, 24))
    height, width = kernel + int(rng.integers(0, 12)), 1 + number % 11 // 9
    padding: Padding = "SAME" if number % 4 == 1 else "VALID"
    make = FILLS[list(FILLS)[number % 3]]
    spread = (1.0, 2.0**-4, 2.0**-8)[number // 3 % 3]  # of the channels' scales
    scales = tuple(float(np.float32(0.02 * spread ** (i / (channels - 1)))) for i in range(channels))
    zero, activation = OUTPUTS[number // 2 % len(OUTPUTS)]
    layer = DepthwiseConv2D(
        "depthwise",
        0,
        1,
        make((1, kernel, 1, channels), number),
        QuantParams(scales, (0,) * channels, 3),
        np.asarray(rng.integers(-9999, 10_000, channels), np.int32),
        1,
        (1, 1),
        padding,
        activation,
    )
    x_quant = QuantParams((0.05,), (int(rng.choice([-128, 127, 0, -7])),))
    # spread 2**-8 with real multipliers from 1/2 to below 1 on, exponent 0, as few sums in a narrow layer have
    factor = float(rng.uniform(0.5, 0.99)) if number // 3 % 3 == 2 and activation == "RELU" else 0.01
    y_quant = QuantParams((float(np.float32(0.05 * 0.02 / factor)),), (zero,))
    out_h = output_size(height, kernel, 1, padding)
    tensors = (Tensor("x", (1, height, width, channels), x_quant), Tensor("y", (1, out_h, width, channels), y_quant))
    return Graph(tensors, (layer,), 0, 1), FILLS[list(FILLS)[number // 2 % 3]](tensors[0].shape, number)


def point_case(number: int) -> Case:
    """A 1 x 1 convolution: every depth up to the limit, strides, few and many pixels, scales apart, all kinds of
    OUTPUTS."""
    rng = np.random.default_rng([6, number])
    depth, channels = 1 + number % (2 * MAX_TAPS), 2 * int(rng.integers(1, 6))
    height, width, stride = int(rng.integers(1, 5)), int(rng.integers(1, 8)), 1 + number % 3 // 2
    spread = (1.0, 0.05, 1e-4)[
        number % 3
    ]  # what the shifts of the channels differ by: 0, a few, more than one shift for all can serve
    scales = tuple(float(np.float32(0.02 * spread ** (i / channels))) for i in range(channels))
    weights, bias = (
        FILLS[list(FILLS)[number % 3]]((channels, 1, 1, depth), number),
        np.arange(channels, dtype=np.int32) * 999,
    )
    zero, activation = OUTPUTS[number // 2 % len(OUTPUTS)]
    layer = Conv2D(
        "conv", 0, 1, weights, QuantParams(scales, (0,) * channels, 0), bias, (stride, stride), "SAME", activation
    )
    out_hw = [output_size(n, 1, stride, "SAME") for n in (height, width)]
    y_quant = QuantParams((float(np.float32(0.04 * np.sqrt(depth))),), (zero,))
    tensors = (Tensor("x", (1, height, width, depth), X_QUANT), Tensor("y", (1, *out_hw, channels), y_quant))
    return Graph(tensors, (layer,), 0, 1), FILLS[list(FILLS)[number // 2 % 3]](tensors[0].shape, number)


def patch_case(number: int) -> Case:
    """A convolution by patches: every remainder of the unrolled loop, odd and even channels, the output's zero point
    -128 or not."""
    rng = np.random.default_rng([5, number])
    height, width, depth, channels = (int(rng.integers(low, high)) for low, high in ((1, 7), (1, 7), (1, 130), (1, 9)))
    channels += (number % 3 == 0) * (1 - channels % 2)  # 1 x 1 of even channels has a kernel of its own
    kernel_hw = [(1, 1), (min(height, 2), min(width, 3)), (min(height, 3), 1)][number % 3]
    stride, padding = 1 + number % 7 // 6, ("SAME", "VALID")[number % 2]
    weights, bias = (
        FILLS[list(FILLS)[number % 3]]((channels, *kernel_hw, depth), number),
        np.arange(channels, dtype=np.int32) * 999,
    )
    layer = Conv2D("conv", 0, 1, weights, QuantParams((0.02,), (0,)), bias, (stride, stride), padding, "RELU")  # type: ignore[arg-type]
    out_hw = [output_size(n, k, stride, layer.padding) for n, k in zip((height, width), kernel_hw, strict=True)]
    y_quant = QuantParams((float(np.float32(0.04 * np.sqrt(weights[0].size))),), ((-128, -5)[number // 2 % 2],))
    tensors = (Tensor("x", (1, height, width, depth), X_QUANT), Tensor("y", (1, *out_hw, channels), y_quant))
    return Graph(tensors, (layer,), 0, 1), FILLS[list(FILLS)[number // 2 % 3]](tensors[0].shape, number)


def small_patch_case(number: int) -> Case:
    """A convolution whose patches hold few values: rows of every remainder up to the limit, strides, pads on all sides,
    all kinds of OUTPUTS; in two of three some channels are dead, with constants as training leaves them."""
    rng = np.random.default_rng([8, number])
    kernel_hw = [(1, 1), (2, 2), (3, 3), (4, 1), (1, 3), (3, 2)][number % 6]
    depth = int(rng.integers(1, min(72, 2 * MAX_TAPS // (kernel_hw[0] * kernel_hw[1]))))
    channels, stride_hw = 2 * int(rng.integers(1, 6)), (1 + number // 6 % 3, 1 + number // 2 % 3)
    height = kernel_hw[0] + int(rng.integers(0, 6))
    width = kernel_hw[1] + stride_hw[1] * int(rng.integers(3, 9)) + int(rng.integers(0, 2))
    padding: Padding = "SAME" if number % 4 else "VALID"
    weights = FILLS[list(FILLS)[number // 6 % 3]]((channels, *kernel_hw, depth), number)
    bias = np.arange(channels, dtype=np.int32) * 999
    scales = np.full(channels, 0.02)
    dead = rng.random(channels) < (0.0, 0.6, 1.0 if number % 5 == 0 else 0.9)[(number + number // 6) % 3]
    weights[dead] = 0
    bias[dead] = rng.choice([-(1 << 30), 1 << 30, 0, -7, 12345], dead.sum())
    scales[dead] = rng.choice([1e-9, 3e-11, 1e-13, 0.02], dead.sum())
    quant = QuantParams(tuple(float(np.float32(scale)) for scale in scales), (0,) * channels, 0)
    zero, activation = OUTPUTS[number // 3 % len(OUTPUTS)]
    layer = Conv2D("conv", 0, 1, weights, quant, bias, stride_hw, padding, activation)
    out_hw = [output_size(*sizes, padding) for sizes in zip((height, width), kernel_hw, stride_hw, strict=True)]
    y_quant = QuantParams((float(np.float32(0.04 * np.sqrt(weights[0].size))),), (zero,))
    tensors = (
        Tensor("x", (1, height, width, depth), QuantParams((0.0625,), (int(rng.choice([-128, 127, -7])),))),
        Tensor("y", (1, *out_hw, channels), y_quant),
    )
    return Graph(tensors, (layer,), 0, 1), FILLS[list(FILLS)[number // 2 % 3]](tensors[0].shape, number)


def rows_case(depth: int, number: int) -> Case:
    """A convolution whose output pixels lie one pair of values apart: stride_w * depth is 2."""
    rng = np.random.default_rng([3, depth, number])
    kernel_hw = (int(rng.integers(1, 12)), 1 + number % 11)
    height, width = int(kernel_hw[0] + rng.integers(0, 9)), int(kernel_hw[1] + rng.integers(0, 25))
    channels, stride_hw = int(rng.integers(1, 9)) * (1 + number % 5 % 2), (int(rng.integers(1, 4)), 2 // depth)
    padding: Padding = "SAME" if rng.random() < 0.7 else "VALID"
    weights, bias = _noise((channels, *kernel_hw, depth), number), np.arange(channels, dtype=np.int32) * 999
    layer = Conv2D(
        "conv", 0, 1, weights, QuantParams((0.02,), (0,)), bias, stride_hw, padding, "RELU" if number % 2 else "NONE"
    )
    out_hw = [output_size(n, k, s, padding) for n, k, s in zip((height, width), kernel_hw, stride_hw, strict=True)]
    tensors = Tensor("x", (1, height, width, depth), X_QUANT), Tensor("y", (1, *out_hw, channels), Y_QUANT)
    graph = Graph(tensors, (layer,), 0, 1)
    if number % 4 < 2:  # a RELU as training gives it, and the same zero point without one
        y_quant = QuantParams((float(np.float32(0.02 * X_QUANT.scale * 40 * np.sqrt(weights[0].size) / 2)),), (-128,))
        graph = replace(graph, tensors=(graph.tensors[0], Tensor("y", graph.tensors[1].shape, y_quant)))
    return graph, FILLS[list(FILLS)[number % 3]](graph.tensors[0].shape, number)
