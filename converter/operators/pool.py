"""What AVERAGE_POOL_2D and MAX_POOL_2D have in common."""

from __future__ import annotations

from typing import Protocol

import flatbuffers

from converter import quant
from converter.formats.tflite import TfliteNode, options_table
from converter.graph import Bounds, Graph, Operator
from converter.operators.activation import activation_slot, check_activation, read_activation
from converter.operators.windows import HW, Padding, check_windows, read_window, window_slots
from converter.quant import Activation
from converter.tensor import check_same_quant

WINDOW_W, WINDOW_H, ACTIVATION = 3, 4, 5  # of Pool2DOptions
SCALE_TOLERANCE = 1e-6  # TensorFlow Lite's own


class Pool(Operator, Protocol):
    """What either has beyond other operators."""

    @property
    def window_hw(self) -> HW:
        """Rows and columns."""

    @property
    def stride_hw(self) -> HW:
        """Rows and columns."""

    @property
    def padding(self) -> Padding:
        """SAME leaves outside values out."""

    @property
    def activation(self) -> Activation:
        """Fused."""


def check(layer: Pool, graph: Graph) -> None:
    """Raises ConvertError."""
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    check_activation(layer.name, layer.activation, y)
    check_windows(layer.name, x, y, layer.window_hw, layer.stride_hw, layer.padding, x.shape[-1])
    check_same_quant(layer.name, x, y, SCALE_TOLERANCE)


def bounds(layer: Pool, graph: Graph, x: Bounds) -> Bounds:
    """Between the least and the largest of its inputs, within the clamp of the activation."""
    low, high = quant.activation_range(layer.activation, graph.tensors[layer.output].quant)
    return max(low, min(x[0], high)), min(high, max(x[1], low))


def tflite_options(layer: Pool, builder: flatbuffers.Builder) -> int:
    """Pool2DOptions."""
    window = window_slots(layer.stride_hw, layer.padding)
    size = ("Int32", WINDOW_W, layer.window_hw[1]), ("Int32", WINDOW_H, layer.window_hw[0])
    return options_table(builder, *window, *size, activation_slot(ACTIVATION, layer.activation))


def fields(node: TfliteNode) -> tuple[HW, HW, Padding, Activation]:
    """(window, stride, padding, activation) of a .tflite's pool."""
    stride_hw, padding = read_window(node)
    activation = read_activation(node, ACTIVATION)
    window_hw = node.options.number(WINDOW_H, "i", 0), node.options.number(WINDOW_W, "i", 0)
    return window_hw, stride_hw, padding, activation
