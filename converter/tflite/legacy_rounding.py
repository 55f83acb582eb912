"""Does a dense layer give the same with older TensorFlow Lite, which rounds the product of its scales to float32?
Exactly, for all sums.

tflite-runtime 2.14 and the Arduino library of 2024 do so; the package tflite-micro of 2026, our reference, keeps the
product in double.
"""

from __future__ import annotations

import numpy as np

from converter import quant
from converter.arrays import Int64
from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected


def diverging_sums(graph: Graph, layer: FullyConnected) -> list[int]:
    """Every int8 output that some int32 sum reaches under one rule but not under the other; empty means equal for every
    input.

    Both rules rise with the sum, so they are equal when each output begins at the same least sum.
    """
    if len(layer.weight_quant.scales) > 1:
        return []
    x, y = graph.tensors[layer.input].quant, graph.tensors[layer.output].quant
    exact = quant.quantize_multiplier(x.scale * layer.weight_quant.scale / y.scale)
    older = quant.quantize_multiplier(float(np.float32(x.scale) * np.float32(layer.weight_quant.scale)) / y.scale)
    outputs: Int64 = np.arange(-127, 128, dtype=np.int64)
    apart = _least_sums(outputs - y.zero_point, exact) != _least_sums(outputs - y.zero_point, older)
    return [int(value) for value in outputs[apart]]


def _least_sums(wanted: Int64, multiplier: tuple[int, int]) -> Int64:
    """For each value the least sum that is scaled to it or above, by bisection."""
    limit = ((1 << 31) - 1) >> max(multiplier[1], 0)
    low, high = np.full(len(wanted), -limit, np.int64), np.full(len(wanted), limit, np.int64)
    while np.any(low < high):
        middle = (low + high) >> 1
        enough = quant.multiply_by_quantized_multiplier(middle, *multiplier) >= wanted
        high, low = np.where(enough, middle, high), np.where(enough, low, middle + 1)
    return high


def agrees_with_legacy_rounding(graph: Graph) -> bool:
    """True when no input whatever tells the two rules apart on any dense layer."""
    return not any(diverging_sums(graph, layer) for layer in graph.layers if isinstance(layer, FullyConnected))
