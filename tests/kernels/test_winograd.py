"""Exact integer Winograd convolution: portable C and the generated assembly equal the reference; what does not fit
falls back."""

from __future__ import annotations

import ctypes
import zlib
from pathlib import Path

import numpy as np
import pytest
from kernels_on_host import SOURCES, compile_shared, run_kernel
from traced_engine import noise, trace

from converter import reference
from converter.aot.kernels import winograd, winograd_asm
from converter.aot.kernels.structs import Kernel
from converter.aot.lower import lower_layer
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.windows import Padding, output_size
from converter.tensor import QuantParams, Tensor


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(compile_shared(tmp_path_factory.mktemp("winograd") / "nn.so", SOURCES)))


def layer_graph(
    seed: int,
    height: int,
    width: int,
    in_c: int,
    out_c: int,
    padding: Padding = "SAME",
    out_zero: int = -128,
    weight: int = 127,
    stride: int = 1,
) -> Graph:
    """A random 3 x 3 convolution whose outputs reach the whole int8 range; zero point -128 stands for a ReLU."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-weight, weight + 1, (out_c, 3, 3, in_c)).astype(np.int8)
    scales = tuple(float(np.float32(s)) for s in rng.uniform(0.002, 0.006, out_c))
    shape = tuple(output_size(size, 3, stride, padding) for size in (height, width))
    tensors = (
        Tensor("x", (1, height, width, in_c), QuantParams((0.05,), (int(rng.integers(-128, 128)),))),
        Tensor("y", (1, *shape, out_c), QuantParams((0.02 * in_c,), (out_zero,))),
    )
    layer = Conv2D(
        "y",
        0,
        1,
        weights,
        QuantParams(scales, (0,) * out_c, 0),
        rng.integers(-2000, 2000, out_c).astype(np.int32),
        (stride, stride),
        padding,
        "RELU" if out_zero == -128 else "NONE",
    )
    return Graph(tensors, (layer,), 0, 1)


def lowered(graph: Graph) -> Kernel:
    kernel = lower_layer(graph, graph.layers[0])
    assert kernel is not None
    return kernel


@pytest.mark.parametrize("out_zero", [-128, -128, 5, 127])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_portable_c_equals_the_reference(library: ctypes.CDLL, padding: Padding, out_zero: int) -> None:
    rng = np.random.default_rng(out_zero + len(padding) + 1000)
    for index in range(40):
        height, width = (int(size) for size in rng.integers(3, 20, 2))
        graph = layer_graph(
            index, height, width, 4 * int(rng.integers(2, 9)), 2 * int(rng.integers(1, 9)), padding, out_zero
        )
        kernel, x = lowered(graph), noise(graph)
        assert kernel.function == "nn_winograd_s8"
        assert np.array_equal(
            run_kernel(library, kernel, [x], graph.tensors[1].shape, index), reference.run(graph, x)[1]
        )


@pytest.mark.parametrize(
    "size, in_c, out_c, padding, out_zero",
    [
        ((3, 3), 8, 2, "VALID", -128),
        ((1, 1), 8, 4, "SAME", 0),
        ((5, 7), 8, 6, "SAME", -128),
        ((9, 17), 12, 2, "SAME", 19),
        ((8, 8), 64, 64, "SAME", -4),
        ((6, 10), 92, 4, "VALID", -128),
    ],
)
def test_assembly_equals_the_reference(
    tmp_path: Path, size: tuple[int, int], in_c: int, out_c: int, padding: Padding, out_zero: int
) -> None:
    graph = layer_graph(1, *size, in_c, out_c, padding, out_zero)
    assert lowered(graph).function == "nn_winograd_s8"
    ideal, expected = trace(graph, noise(graph), tmp_path)
    want = zlib.crc32(reference.run(graph, noise(graph))[1].tobytes())
    assert [crc for _, crc in ideal + expected] == [want, want]


def test_layers_of_resnet_8_take_the_cycles_stated(tmp_path: Path) -> None:
    """Cycles per multiplication of the definition; SMLAD's limit for a direct convolution is 0.5."""
    for side, channels, out_zero, stated in ((32, 16, -128, 0.74), (16, 32, 7, 0.61), (8, 64, -128, 0.51)):
        graph = layer_graph(0, side, side, channels, channels, out_zero=out_zero)
        ((cycles, crc),) = trace(graph, noise(graph), tmp_path)[0]
        assert crc == zlib.crc32(reference.run(graph, noise(graph))[1].tobytes())
        assert cycles / (side * side * 9 * channels * channels) == pytest.approx(stated, rel=0.05)


def test_what_does_not_fit_takes_another_kernel() -> None:
    for graph in (
        layer_graph(0, 8, 8, 6, 4),
        layer_graph(0, 8, 8, 4, 4),
        layer_graph(0, 8, 8, 8, 3),
        layer_graph(0, 8, 8, 8, 4, stride=2),
        layer_graph(0, 8, 8, winograd_asm.MAX_IN_C + 4, 4),
        layer_graph(0, 4, 200, 8, 4),
    ):
        assert lowered(graph).function in ("nn_conv_s8_simd", "nn_conv_patches_s8")


def test_transformed_weights_are_whole_and_four_times_those_of_the_definition() -> None:
    """One output of one tile by the definition of F(2x2, 3x3) in floating point."""
    rng = np.random.default_rng(3)
    g, d = rng.integers(-128, 128, (3, 3)), rng.integers(-128, 128, (4, 4))
    bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    at = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
    points = winograd.TWICE_G @ g @ winograd.TWICE_G.T
    y = at @ (points * (bt @ d @ bt.T)) @ at.T
    assert np.abs(points).max() <= 9 * 128 and np.abs(bt @ d @ bt.T).max() <= 4 * 128
    assert np.array_equal(y, 4 * np.array([[(g * d[i : i + 3, j : j + 3]).sum() for j in range(2)] for i in range(2)]))
