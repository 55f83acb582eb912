"""The dense kernel with two outputs in a word of weights: every length round its steps, and sums as large as they can
get."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from kernels_on_host import SOURCES, compile_shared, run_kernel

from converter import reference
from converter.aot.kernels.dense import pack_dense_pairs
from converter.aot.lower import lower_layer
from converter.arrays import Int8
from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected
from converter.tensor import QuantParams, Tensor

LENGTHS = [*range(1, 40), 510, 511, 512, 513, 1023, 1024, 1027, 4000]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(compile_shared(tmp_path_factory.mktemp("pairs") / "nn.so", SOURCES)))


def dense(weights: Int8, zero_point: int, scale: float) -> Graph:
    outputs, inputs = weights.shape
    tensors = (
        Tensor("x", (1, inputs), QuantParams((0.1,), (zero_point,))),
        Tensor("y", (1, outputs), QuantParams((0.1,), (3,))),
    )
    bias = np.arange(outputs, dtype=np.int32) * 1000 - 2000
    return Graph(tensors, (FullyConnected("dense", 0, 1, weights, QuantParams((scale,), (0,)), bias, "NONE"),), 0, 1)


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_reference(library: ctypes.CDLL, length: int) -> None:
    rng = np.random.default_rng(length)
    for outputs, kind in ((4, "noise"), (5, "noise"), (3, "least"), (4, "extremes")):
        noise = rng.integers(-127, 128, (outputs, length)).astype(np.int8)
        weights = {
            "noise": noise,
            "least": np.full_like(noise, -127),
            "extremes": np.where(noise < 0, -127, 127).astype(np.int8),
        }[kind]
        inputs = rng.integers(-128, 128, (1, length)).astype(np.int8)
        for x in (inputs, np.full_like(inputs, -128), np.full_like(inputs, 127)):
            graph = dense(weights, -5, 0.02 / length)
            kernel = lower_layer(graph, graph.layers[0])
            assert kernel is not None and kernel.function == "nn_dense_pairs_s8_simd"
            want = reference.run(graph, x)[1]
            assert np.array_equal(run_kernel(library, kernel, [x], want.shape, length % 4), want), (outputs, kind)


def test_a_weight_of_minus_128_takes_the_other_kernel() -> None:
    weights = np.ones((4, 8), np.int8)
    weights[2, 3] = -128
    graph = dense(weights, 0, 0.01)
    kernel = lower_layer(graph, graph.layers[0])
    assert kernel is not None and kernel.function == "nn_dense_s8_simd"


def test_packing_as_nn_h_states_it() -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (6, 7)).astype(np.int8)
    words = pack_dense_pairs(weights).view("<i2").reshape(2, 2, 2, 4)  # [block, four inputs, pair, half words]
    wide = np.zeros((8, 8), np.int64)
    wide[:6, :7] = weights
    for block in range(2):
        for pair in range(2):
            a, b = wide[4 * block + 2 * pair], wide[4 * block + 2 * pair + 1]
            assert words[block, 1, pair].tolist() == [256 * b[i] + a[i] for i in (4, 6, 5, 7)]
