"""The numpy reference against TensorFlow Lite Micro on random layers that our own writer wrote."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from random_layers import LAYERS, random_graph, random_inputs

from converter import quant, reference
from converter.check import check
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.tensor import QuantParams, Tensor
from converter.tflite.interpreters import Tflm, Unavailable
from converter.tflite.legacy_rounding import diverging_sums
from converter.tflite.one_channel import depthwise_as_conv
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite

BATCHES = 12


@pytest.mark.parametrize("part", range(BATCHES))
def test_reference_equals_tflm_on_random_layers(part: int) -> None:
    for index in range(part, LAYERS, BATCHES):
        graph = random_graph(index)
        try:
            engine = Tflm(graph)
        except Unavailable as missing:
            pytest.skip(str(missing))
        inputs = random_inputs(graph, index)
        ours = reference.run_batch_all(graph, inputs)
        for row, x in enumerate(inputs):
            for number, theirs in enumerate(engine.tensors(x)):
                assert np.array_equal(ours[number][row], theirs[0]), f"layer {index} row {row} tensor {number}"


def test_random_layers_cover_what_they_claim() -> None:
    graphs = [random_graph(index) for index in range(LAYERS)]
    layers = [layer for graph in graphs for layer in graph.layers]
    kinds = Counter(type(layer).__name__ for layer in layers)
    wanted = ("Conv2D", "DepthwiseConv2D", "FullyConnected", "AveragePool2D", "MaxPool2D", "Add", "Softmax", "Pad")
    assert min(kinds[kind] for kind in wanted) >= 50
    weighted = [layer for layer in layers if isinstance(layer, (Conv2D, DepthwiseConv2D, FullyConnected))]
    assert {len(layer.weight_quant.scales) > 1 for layer in weighted} == {True, False}
    assert {layer.activation for layer in weighted} == {"NONE", "RELU", "RELU6"}
    windows = [layer.weights_ohwi.shape[1:3] for layer in layers if isinstance(layer, Conv2D)]
    assert {size for window in windows for size in window} == set(range(1, 12))
    assert {layer.stride_hw[0] for layer in layers if isinstance(layer, Conv2D)} == {1, 2, 3}
    assert {graph.tensors[0].quant.zero_point for graph in graphs} >= {-128, 0, 127}
    outputs = [reference.run(graph, random_inputs(graph, index, 1))[graph.output] for index, graph in enumerate(graphs)]
    assert sum(len(np.unique(output)) > 4 for output in outputs) > LAYERS // 2, "most layers must not saturate"


def test_written_layers_read_back_equal() -> None:
    for index in range(0, LAYERS, 3):
        graph = random_graph(index)
        data = write_tflite(graph)
        again = read_tflite(data)
        assert again.model_id == replace(graph, layers=tuple(map(depthwise_as_conv, graph.layers))).model_id, index
        assert write_tflite(again) == data, index


def test_one_scale_dense_takes_the_scale_product_in_double_as_tflm_does() -> None:
    """Biases put where the float32 product of the scales (older TensorFlow Lite) and the double one round apart."""
    rng = np.random.default_rng(1)
    told_apart = 0
    for _ in range(20):
        s_in, s_weight = (float(np.float32(rng.uniform(1.6e-4, 2.2e-4))) for _ in range(2))
        s_out = 0.5
        rounded, exact = float(np.float32(s_in) * np.float32(s_weight)) / s_out, s_in * s_weight / s_out
        bias = np.array([round(55.5 / ((rounded + exact) / 2)) + step for step in range(-30, 31)], np.int32)
        layer = FullyConnected("dense", 0, 1, np.zeros((61, 1), np.int8), QuantParams((s_weight,), (0,)), bias, "NONE")
        x, y = Tensor("x", (1, 1), QuantParams((s_in,), (0,))), Tensor("y", (1, 61), QuantParams((s_out,), (0,)))
        graph = check(Graph((x, y), (layer,), 0, 1))
        ours = reference.run(graph, np.zeros((1, 1), np.int8))[1]
        try:
            assert np.array_equal(ours, Tflm(graph).output(np.zeros((1, 1), np.int8)))
        except Unavailable as missing:
            pytest.skip(str(missing))
        known = set(diverging_sums(graph, layer))
        older = quant.multiply_by_quantized_multiplier(bias.astype(np.int64), *quant.quantize_multiplier(rounded))
        assert {int(value) for value in np.maximum(ours[0], older)[ours[0] != older]} <= known
        told_apart += int((ours[0] != older).sum())
    assert told_apart > 0, "no draw tells the two rules apart"


def _one_dense(s_in: float, s_weight: float, s_out: float, zero_point: int) -> tuple[Graph, FullyConnected]:
    layer = FullyConnected(
        "d", 0, 1, np.ones((1, 1), np.int8), QuantParams((s_weight,), (0,)), np.zeros(1, np.int32), "NONE"
    )
    x, y = Tensor("x", (1, 1), QuantParams((s_in,), (0,))), Tensor("y", (1, 1), QuantParams((s_out,), (zero_point,)))
    return Graph((x, y), (layer,), 0, 1), layer


def test_older_dense_rule_is_decided_exactly() -> None:
    """Against the sums round every half: an output is named if and only if some sum there rounds to it under one rule
    alone."""
    rng = np.random.default_rng(2)
    named = 0
    for _ in range(30):
        s_in, s_weight = (float(np.float32(rng.uniform(1e-4, 2e-3))) for _ in range(2))
        graph, layer = _one_dense(s_in, s_weight, 0.5, 3)
        exact = s_in * s_weight / 0.5
        found = set(diverging_sums(graph, layer))
        for value in range(-127, 128):
            sums = round((value - 0.5 - 3) / exact) + np.arange(-60, 61, dtype=np.int64)
            rules = [
                quant.multiply_by_quantized_multiplier(sums, *quant.quantize_multiplier(real)) + 3 >= value
                for real in (exact, float(np.float32(s_in) * np.float32(s_weight)) / 0.5)
            ]
            assert (value in found) == bool((rules[0] != rules[1]).any()), value
        named += len(found)
    assert named > 0
    assert diverging_sums(*_one_dense(float(np.float32(0.0123)), 2.0**-9, 0.37, -5)) == [], (
        "a power of two leaves no rounding"
    )
