"""Channels that no input changes: found where and only where all inputs agree, and right on every engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from operator_checks import check_on_boards, check_operator
from shaped_layers import small_patch_case

from converter import quant, reference
from converter.aot.constant_channels import fold_constant_channels
from converter.aot.kernels.structs import NnPointwiseLayer
from converter.aot.lower import lower_layer
from converter.arrays import Int8
from converter.check import check
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.quant import Activation
from converter.tensor import QuantParams, Tensor

ALL_PAIRS: Int8 = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)), axis=-1).astype(np.int8)


def two_inputs(seed: int, zero: int, activation: Activation) -> Graph:
    """A 1 x 1 convolution of two inputs over all their 65,536 pairs: channels whose outputs vary much, little, by one
    step at one end, and not at all."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (40, 1, 1, 2)).astype(np.int8)
    weights[rng.random(40) < 0.3] = 0
    scales = 0.01 * 2.0 ** -rng.integers(0, 20, 40)
    bias = np.clip(rng.normal(0, 1.5 / (0.0625 * scales)), -(1 << 30), 1 << 30).astype(np.int32)
    x = Tensor("x", (1, *ALL_PAIRS.shape), QuantParams((0.0625,), (int(rng.integers(-128, 128)),)))
    y = Tensor("y", (1, 256, 256, 40), QuantParams((0.03125,), (zero,)))
    weight_quant = QuantParams(tuple(float(np.float32(s)) for s in scales), (0,) * 40, 0)
    layer = Conv2D("conv", 0, 1, weights, weight_quant, bias, (1, 1), "SAME", activation)
    return check(Graph((x, y), (layer,), 0, 1))


@pytest.mark.parametrize(
    "seed, zero, activation", [(0, -128, "RELU"), (1, 3, "NONE"), (2, 0, "RELU6"), (3, 90, "RELU")]
)
def test_exactly_the_channels_that_no_input_changes_are_folded(seed: int, zero: int, activation: Activation) -> None:
    graph = two_inputs(seed, zero, activation)
    layer = graph.layers[0]
    assert isinstance(layer, Conv2D)
    x, y = (tensor.quant for tensor in graph.tensors)
    want = reference.run(graph, ALL_PAIRS[None])[1].reshape(-1, 40)
    multipliers = quant.conv_multipliers(x, layer.weight_quant, y, 40)
    found = fold_constant_channels(layer.weights_ohwi.reshape(40, 2), layer.bias, multipliers, x, y, activation)
    assert np.array_equal(found.constant, (want == want[0]).all(axis=0))
    assert 5 < found.constant.sum() < 35
    assert np.array_equal(found.values[found.constant], want[0][found.constant])
    folded = replace(layer, weights_ohwi=found.weights.reshape(40, 1, 1, 2), bias=found.bias.astype(np.int32))
    sums = folded.bias + (ALL_PAIRS.reshape(-1, 2).astype(np.int64) - x.zero_point) @ found.weights.astype(np.int64).T
    low, high = quant.activation_range(activation, y)
    scaled = quant.multiply_by_quantized_multiplier(sums, *found.multipliers)
    assert np.array_equal(np.clip(scaled + y.zero_point, low, high), want)
    assert (np.abs(sums[:, found.constant]) < 1 << 30).all()


def cases(count: int) -> list[Graph]:
    return [check(small_patch_case(number)[0]) for number in range(count)]


def test_small_patches_and_dead_channels_on_all_engines(tmp_path: Path) -> None:
    """TensorFlow Lite Micro, the reference, portable C and the portable twin of the assembly."""
    graphs = cases(240)
    functions = check_operator(tmp_path, graphs, seen=200)
    assert functions >= {"nn_pointwise_s8", "nn_conv_patches_s8", "nn_conv_s8"}
    layers = [kernel.layer for graph in graphs if (kernel := lower_layer(graph, graph.layers[0]))]
    taken = [layer for layer in layers if isinstance(layer, NnPointwiseLayer)]
    skipping = [layer for layer in taken if layer.constants is not None]
    assert min(len(skipping), len(taken) - len(skipping)) >= 50 and {layer.shift > 0 for layer in skipping} == {
        True,
        False,
    }
    assert max(layer.kernel_h * ((layer.kernel_w * layer.in_c + 1) // 2) for layer in taken) >= 130


def test_small_patches_and_dead_channels_on_boards(tmp_path: Path) -> None:
    """Sanitizers here, the assembly on QEMU's Cortex-M4."""
    check_on_boards(tmp_path, cases(60))


def test_dead_channels_of_a_depthwise_convolution_keep_the_fast_kernel(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weights, bias, scales = (
        rng.integers(-128, 128, (1, 3, 3, 12)).astype(np.int8),
        np.zeros(12, np.int32),
        np.full(12, 0.02),
    )
    weights[..., 3:8], bias[3:8], scales[3:8] = 0, [-(1 << 30), 1 << 30, 5, 0, -1], [1e-9, 1e-9, 1e-13, 1e-12, 3e-10]
    layer = DepthwiseConv2D(
        "depthwise",
        0,
        1,
        weights,
        QuantParams(tuple(float(np.float32(s)) for s in scales), (0,) * 12, 3),
        bias,
        1,
        (1, 1),
        "SAME",
        "RELU",
    )
    tensors = (
        Tensor("x", (1, 7, 6, 12), QuantParams((0.0625,), (-7,))),
        Tensor("y", (1, 7, 6, 12), QuantParams((0.09375,), (-128,))),
    )
    graph = check(Graph(tensors, (layer,), 0, 1))
    kernel = lower_layer(graph, layer)
    assert kernel is not None and kernel.function == "nn_depthwise3_s8" and getattr(kernel.layer, "shift", 0) > 0
    check_operator(tmp_path, [graph], seen=50)
    check_on_boards(tmp_path, [graph])
