"""The C kernels: portable == SIMD == numpy reference, on this machine and, with the real instructions, on a Cortex-M4
in QEMU."""

from __future__ import annotations

import ctypes
import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from kernels_image import (
    Case,
    expected_outputs,
)
from kernels_on_host import SOURCES, compile_shared, run_kernel
from random_layers import LAYERS, random_graph
from shaped_layers import FILLS, X_QUANT, Y_QUANT, _noise, patch_case, plane_case, point_case, rows_case, time_case

from converter import reference
from converter.aot.kernels.conv import pack_conv_weights, pack_row_weights
from converter.aot.kernels.dense import pack_dense_weights
from converter.aot.kernels.depthwise import pack_depthwise_weights
from converter.aot.kernels.pointwise_asm import MAX_TAPS
from converter.aot.kernels.structs import Kernel, NnConvLayer, NnDenseLayer, NnDenseLowbitLayer, NnDenseSparseLayer
from converter.aot.lower import lower_layer
from converter.aot.lower_conv import SIMD_SCRATCH_LIMIT
from converter.arrays import Int8
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.windows import output_size
from converter.tensor import QuantParams, Tensor

BATCHES = 6


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(compile_shared(tmp_path_factory.mktemp("nn") / "nn.so", SOURCES)))


def both_forms(graph: Graph) -> list[Kernel]:
    """The last layer's SIMD and portable kernels."""
    kernels = [lower_layer(graph, graph.layers[-1], simd) for simd in (True, False)]
    return [kernel for kernel in kernels if kernel is not None]


@pytest.mark.parametrize("part", range(BATCHES))
def test_kernels_equal_reference_on_random_layers(library: ctypes.CDLL, part: int) -> None:
    for index in range(part, LAYERS, BATCHES):
        graph = random_graph(index)
        for row in range(3):
            inputs, want = expected_outputs(index, row)
            for kernel in both_forms(graph):
                got = run_kernel(library, kernel, inputs, want.shape, misalign=index + row)
                assert np.array_equal(got, want), f"layer {index} row {row}: {kernel.function}"


def test_random_layers_reach_every_kernel() -> None:
    counts = Counter(kernel.function for index in range(LAYERS) for kernel in both_forms(random_graph(index)))
    assert len(counts) == 20, counts
    assert counts.pop("nn_pointwise_s8") >= 5  # more, and nn_depthwise3_s8, in test_generated_kernels_on_every_shape
    assert counts.pop("nn_add_weighted_s8_simd") + counts.pop("nn_add_s8_simd") >= 50  # more in test_add_weighted.py
    assert counts.pop("nn_conv_patches_s8") >= 5  # more in test_constant_channels.py
    assert counts.pop("nn_dense_sparse_s8") == 1  # one output, which plain int8 pads to four; more in test_packed.py
    assert counts.pop("nn_dense_s8_simd") >= 5  # weights of -128; the fills below have them at every length
    assert (
        counts.pop("nn_conv_rows_s8_simd") + counts.pop("nn_conv_packed_s8") >= 5
    )  # more in test_conv_rows_of_every_shape
    assert min(counts.values()) >= 50, counts
    layers = [kernel.layer for index in range(LAYERS) for kernel in both_forms(random_graph(index))]
    with_output = (NnConvLayer, NnDenseLayer, NnDenseLowbitLayer, NnDenseSparseLayer)
    bounded = Counter(layer.output.sum_below_2_30 for layer in layers if isinstance(layer, with_output))
    assert min(bounded[0], bounded[1]) >= 25, bounded


# -- every length, alignment and extreme of the inner loops
# -------------------------------------------------------------


def _graph(
    x_shape: tuple[int, ...], y_shape: tuple[int, ...], layer: Conv2D | DepthwiseConv2D | FullyConnected
) -> Graph:
    return Graph((Tensor("x", x_shape, X_QUANT), Tensor("y", y_shape, Y_QUANT)), (layer,), 0, 1)


def _dense(length: int, channels: int, weights: Int8) -> Graph:
    bias = np.arange(channels, dtype=np.int32) * 1000
    return _graph(
        (1, length), (1, channels), FullyConnected("dense", 0, 1, weights, QuantParams((0.02,), (0,)), bias, "NONE")
    )


def _conv(length: int, weights: Int8) -> Graph:
    channels, height = weights.shape[0], 5
    out_h = output_size(height, weights.shape[1], 1, "SAME")
    layer = Conv2D(
        "conv",
        0,
        1,
        weights,
        QuantParams((0.02,), (0,)),
        np.arange(channels, dtype=np.int32) * 900,
        (1, 1),
        "SAME",
        "NONE",
    )
    return _graph((1, height, 1, length), (1, out_h, 1, channels), layer)


def _depthwise(length: int, weights: Int8) -> Graph:
    bias = np.arange(length, dtype=np.int32) * 70
    layer = DepthwiseConv2D("depthwise", 0, 1, weights, QuantParams((0.02,), (0,)), bias, 1, (1, 1), "SAME", "NONE")
    return _graph((1, 3, 4, length), (1, 3, 4, length), layer)


@pytest.mark.parametrize("fill", FILLS)
def test_every_length_and_alignment(library: ctypes.CDLL, fill: str) -> None:
    make = FILLS[fill]
    for length in range(1, 68):
        graphs = [
            _dense(length, 5, make((5, length), length)),
            _conv(length, make((3, 2, 1, length), length + 1)),
            _depthwise(length, make((1, 3, 3, length), length + 2)),
        ]
        for graph in graphs:
            x = make(graph.tensors[0].shape, length + 3)
            want = reference.run(graph, x)[1]
            for kernel in both_forms(graph):
                for misalign in range(4):
                    got = run_kernel(library, kernel, [x], want.shape, misalign)
                    assert np.array_equal(got, want), f"{kernel.function}: length {length}, misaligned by {misalign}"


@pytest.mark.parametrize("depth", [1, 2])
def test_conv_rows_of_every_shape(library: ctypes.CDLL, depth: int) -> None:
    """All kernel widths, strides and pads, and output widths round the kernel's five pixels."""
    functions: Counter[str] = Counter()
    for number in range(150):
        graph, x = rows_case(depth, number)
        want = reference.run(graph, x)[1]
        simd, portable = both_forms(graph)
        assert portable.function == "nn_conv_s8" and simd.function in (
            "nn_conv_rows_s8_simd",
            "nn_conv_packed_s8",
            "nn_pointwise_s8",
        )
        for kernel in (simd, portable):
            got = run_kernel(library, kernel, [x], want.shape, number)
            assert np.array_equal(got, want), f"{kernel.function}: depth {depth}, number {number}"
        functions[simd.function] += 1
    assert min(functions["nn_conv_rows_s8_simd"], functions["nn_conv_packed_s8"]) >= 30, functions


# zero point and activation of what the generated kernels put out: all of int8, then 8, 7, 5 and 2 bits from zero on


def test_patches_of_every_shape(library: ctypes.CDLL) -> None:
    functions: Counter[str] = Counter()
    for number in range(200):
        graph, x = patch_case(number)
        want = reference.run(graph, x)[1]
        for kernel in both_forms(graph):
            got = run_kernel(library, kernel, [x], want.shape, number)
            assert np.array_equal(got, want), f"{kernel.function}: number {number}"
            functions[kernel.function] += 1
    assert functions["nn_conv_s8_simd"] >= 150, functions


@pytest.mark.parametrize(
    ("case", "function", "count"),
    [
        (plane_case, "nn_depthwise3_s8", 220),
        (time_case, "nn_depthwise_time_s8", 186),
        (point_case, "nn_pointwise_s8", 2 * MAX_TAPS),
    ],
)
def test_generated_kernels_on_every_shape(
    library: ctypes.CDLL, case: Callable[[int], Case], function: str, count: int
) -> None:
    """The portable twins of the assembly; the assembly itself runs below, on a Cortex-M4."""
    taken, forms = 0, set()
    for number in range(count):
        graph, x = case(number)
        want = reference.run(graph, x)[1]
        for kernel in both_forms(graph):
            got = run_kernel(library, kernel, [x], want.shape, number)
            assert np.array_equal(got, want), f"{kernel.function}: number {number}"
            taken += kernel.function == function
            forms.add(bool(getattr(kernel.layer, "shift", 0)))
    assert taken >= 0.8 * count and forms == {True, False}


@pytest.mark.parametrize("bias", [-(1 << 31), (1 << 31) - 1, -(1 << 30), (1 << 30) - 1, 1 << 30])
def test_sums_that_leave_int32_wrap_alike(library: ctypes.CDLL, bias: int) -> None:
    """No trained model does this, but a kernel must not depend on it: all forms add modulo 2**32, like the
    reference."""
    biases = np.full(8, bias, np.int32)
    weights = _noise((8, 3, 4, 2), 1)
    layers: list[tuple[tuple[int, ...], tuple[int, ...], Conv2D | DepthwiseConv2D | FullyConnected]] = [
        (
            (1, 5, 6, 2),
            (1, 5, 6, 8),
            Conv2D("a", 0, 1, weights, QuantParams((0.02,), (0,)), biases, (1, 1), "SAME", "NONE"),
        ),
        (
            (1, 5, 6, 8),
            (1, 5, 6, 8),
            DepthwiseConv2D(
                "b", 0, 1, weights.reshape(1, 4, 6, 8), QuantParams((0.02,), (0,)), biases, 1, (1, 1), "SAME", "NONE"
            ),
        ),
        (
            (1, 24),
            (1, 8),
            FullyConnected("c", 0, 1, weights.reshape(8, 24), QuantParams((0.02,), (0,)), biases, "NONE"),
        ),
    ]
    for x_shape, y_shape, layer in layers:
        graph = _graph(x_shape, y_shape, layer)
        graph = dataclasses.replace(
            graph, tensors=(graph.tensors[0], Tensor("y", y_shape, QuantParams((2.0**13,), (3,))))
        )
        x = _noise(x_shape, 2)
        want = reference.run(graph, x)[1]
        assert len(np.unique(want)) > (1 if abs(bias) > 1 << 30 else 0)
        for kernel in both_forms(graph):
            assert np.array_equal(run_kernel(library, kernel, [x], want.shape), want), kernel.function


def test_length_zero_gives_the_bias(library: ctypes.CDLL) -> None:
    for kernel in both_forms(_dense(1, 7, np.ones((7, 1), np.int8))):
        assert isinstance(kernel.layer, NnDenseLayer)
        layer = dataclasses.replace(kernel.layer, in_n=0, weights=np.empty(0, np.int8))
        empty = dataclasses.replace(kernel, layer=layer)
        got = run_kernel(library, empty, [np.empty(0, np.int8)], (1, 7))
        channels = kernel.layer.channels
        want = np.clip(np.round(channels.bias.astype(np.float64) * 0.001 / 3.7) - 5, -128, 127)
        assert np.array_equal(got[0], want), kernel.function


def test_conv_that_would_want_much_scratch_takes_the_portable_kernel(library: ctypes.CDLL) -> None:
    weights = _noise((2, 9, 9, 65), 1)
    graph = _conv_square(weights)
    simd, portable = both_forms(graph)
    assert simd.function == portable.function == "nn_conv_s8"
    assert simd.scratch_bytes == 0
    small = both_forms(_conv_square(_noise((2, 3, 3, 65), 1)))[0]
    assert small.function == "nn_conv_s8_simd"
    assert 0 < small.scratch_bytes <= SIMD_SCRATCH_LIMIT


def _conv_square(weights: Int8) -> Graph:
    layer = Conv2D("conv", 0, 1, weights, QuantParams((0.02,), (0,)), np.zeros(2, np.int32), (1, 1), "SAME", "NONE")
    return _graph((1, 9, 9, weights.shape[3]), (1, 9, 9, 2), layer)


def test_packed_weights_lie_in_the_stated_order() -> None:
    weights = np.arange(1, 3 * 2 * 7 + 1, dtype=np.int8).reshape(3, 2, 1, 7)
    packed = pack_conv_weights(weights).reshape(
        2, 2, 4, 2, 2
    )  # [pair of channels, row, pair of taps, tap, channel a or b]
    row = weights[0, 1, 0]
    assert packed[0, 1, :, :, 0].tolist() == [[row[0], row[2]], [row[1], row[3]], [row[4], row[5]], [row[6], 0]]
    assert (packed[1, :, :, :, 1] == 0).all()
    rows = pack_row_weights(weights).reshape(3, 2, 2, 4)
    assert rows[0, 1].tolist() == [[row[0], row[2], row[1], row[3]], [row[4], row[6], row[5], 0]]
    depthwise = pack_depthwise_weights(weights.reshape(1, 2, 3, 7)).reshape(2, 6, 4)
    assert depthwise[1, 5].tolist() == [*weights.reshape(6, 7)[5, 4:], 0]
    dense = pack_dense_weights(weights.reshape(6, 7)).reshape(2, 2, 4, 4)
    assert dense[1, 1].tolist() == [
        [*weights.reshape(6, 7)[4, 4:], 0],
        [*weights.reshape(6, 7)[5, 4:], 0],
        [0] * 4,
        [0] * 4,
    ]
    for pack in (packed, rows, depthwise, dense):
        assert sorted(pack[pack != 0]) == sorted(weights.reshape(-1))
