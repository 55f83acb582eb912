"""FULLY_CONNECTED over several rows, as a Dense layer behind a sequence leaves it: every dense kernel takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from operator_checks import check_file, check_on_boards, check_operator, graph_of, random_quant, refused
from tflite_files import TfliteFile

from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected
from converter.quant import Activation
from converter.tensor import QuantParams

SIZES = ((2, 8, 5), (3, 1, 1), (4, 7, 3), (5, 64, 16), (17, 33, 4), (1, 24, 6), (3, 400, 4))  # rows, inputs, outputs
ACTIVATIONS: tuple[Activation, ...] = ("NONE", "RELU", "RELU6")


def dense(seed: int) -> Graph:
    """Rows of random size on weights of 2 to 8 bits, some mostly zero, some with a scale for each output."""
    rng = np.random.default_rng([seed, 71])
    rows, depth, channels = SIZES[seed % len(SIZES)]
    high = int(rng.choice([1, 3, 7, 127]))
    weights = rng.integers(-high, high + 1, (channels, depth)).astype(np.int8)
    if seed % 4 == 3:
        weights[rng.random(weights.shape) < 0.8] = 0
    scales = tuple(float(np.float32(s)) for s in 0.1 / high * rng.uniform(0.5, 1, channels if seed % 3 == 2 else 1))
    quant = QuantParams(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)
    bias = rng.integers(-300, 301, channels).astype(np.int32)
    layer = FullyConnected("y", 0, 1, weights, quant, bias, ACTIVATIONS[seed % 3])
    return graph_of(layer, [(1, rows, depth), (1, rows, channels)], [random_quant(rng), random_quant(rng)])


def test_rows_are_equal_on_all_engines(tmp_path: Path) -> None:
    graphs = [dense(seed) for seed in range(48)]
    functions = check_operator(tmp_path, graphs, seen=200)
    assert {"nn_dense_s8", "nn_dense_pairs_s8_simd", "nn_dense_lowbit_s8", "nn_dense_sparse_s8"} <= functions
    check_on_boards(tmp_path, graphs[: len(SIZES)], engines=1)
    assert graphs[0].layers[0].cost(graphs[0]).macs == 2 * 8 * 5


@pytest.mark.parametrize("keeps", [True, False])
def test_a_file_that_keeps_its_axes_or_not(keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, file = np.random.default_rng(0), TfliteFile()
    rows = 4 if keeps else 1
    x, y = file.tensor((1, 2, 2, 8) if keeps else (1, 8)), file.tensor((1, 2, 2, 5) if keeps else (1, 5))
    weights = file.constant(rng.integers(-127, 128, (5, 8)).astype(np.int8), (0.004, 0))
    bias = file.constant(rng.integers(-900, 900, 5).astype(np.int32), (0.0002, 0))
    file.operator("FULLY_CONNECTED", [x, weights, bias], [y], 8, ("Bool", 2, keeps))
    graph = check_file(file.file([x], [y]), monkeypatch)
    assert graph.layers[0].cost(graph).macs == rows * 40


def test_rows_that_do_not_come_out_are_refused() -> None:
    layer = dense(0).layers[0]
    quants = [(0.05, 0), (0.05, 0)]
    refused(layer, [(1, 3, 5), (1, 3, 5)], quants, "weights read rows of 8 values, the input has 15")
    refused(layer, [(1, 2, 8), (1, 3, 5)], quants, r"the output has 2 rows of 5 values, got shape \(1, 3, 5\)")
    refused(layer, [(1, 2, 8), (1, 5, 2)], quants, r"the output has 2 rows of 5 values, got shape \(1, 5, 2\)")
