"""What AVERAGE_POOL_2D and MAX_POOL_2D have in common: all but what a window becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import flatbuffers

from converter import quant
from converter.formats.onnx import Importer, OnnxNode, PendingLayer, feature_map, pending_map
from converter.formats.tflite import TfliteNode, options_table
from converter.graph import Bounds, Cost, Graph, Operator, OutputMemory, RowWindow
from converter.operators.activation import activation_slot, check_activation, read_activation
from converter.operators.windows import (
    HW,
    Padding,
    check_windows,
    onnx_output_shape,
    onnx_pool,
    read_window,
    row_window,
    window_slots,
)
from converter.quant import Activation
from converter.tensor import check_same_quant

WINDOW_W, WINDOW_H, ACTIVATION = 3, 4, 5  # of Pool2DOptions
SCALE_TOLERANCE = 1e-6  # TensorFlow Lite's own
P = TypeVar("P", bound="Pool2D")


@dataclass(frozen=True, eq=False)
class Pool2D:
    """A window over rows and columns of each channel; padding does not count."""

    name: str
    input: int
    output: int
    window_hw: HW
    stride_hw: HW
    padding: Padding
    activation: Activation

    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor [1, H, W, C]."""
        return (self.input,)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        check_activation(self.name, self.activation, y)
        check_windows(self.name, x, y, self.window_hw, self.stride_hw, self.padding, x.shape[-1])
        check_same_quant(self.name, x, y, SCALE_TOLERANCE)

    def cost(self, graph: Graph) -> Cost:
        """The window once per output."""
        return Cost(operations=graph.tensors[self.output].size * self.window_hw[0] * self.window_hw[1])

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """Between the least and the largest of its inputs, within the clamp of the activation."""
        low, high = quant.activation_range(self.activation, graph.tensors[self.output].quant)
        return max(low, min(x[0], high)), min(high, max(x[1], low))

    def rows(self, graph: Graph) -> RowWindow:
        """The window's height."""
        return row_window(graph.tensors[self.input], self.window_hw[0], self.stride_hw[0], self.padding)

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """Pool2DOptions."""
        window = window_slots(self.stride_hw, self.padding)
        size = ("Int32", WINDOW_W, self.window_hw[1]), ("Int32", WINDOW_H, self.window_hw[0])
        return options_table(builder, *window, *size, activation_slot(ACTIVATION, self.activation))

    @classmethod
    def from_tflite(cls: type[P], node: TfliteNode) -> P:
        """One operand."""
        stride_hw, padding = read_window(node)
        activation = read_activation(node, ACTIVATION)
        window_hw = node.options.number(WINDOW_H, "i", 0), node.options.number(WINDOW_W, "i", 0)
        return cls(node.name, node.input, node.output, window_hw, stride_hw, padding, activation)


def from_onnx_pool(
    kind: Callable[..., Operator], importer: Importer, node: OnnxNode, counts_zeros: bool
) -> PendingLayer:
    """The pool `kind` of an AveragePool or MaxPool node."""
    x, window_hw, stride_hw, padding = onnx_pool(importer, node, counts_zeros)
    layer = kind(node.name, x.base, -1, window_hw, stride_hw, padding, "NONE")
    shape = onnx_output_shape(x, x.shape[1], window_hw, stride_hw, padding)
    return pending_map(layer, shape, len(importer.activation(node).shape))


def from_onnx_global_pool(kind: Callable[..., Operator], importer: Importer, node: OnnxNode) -> PendingLayer:
    """The pool `kind` over the whole map."""
    x = importer.materialize(node.name, feature_map(importer, node))
    window_hw = (x.shape[2], x.shape[3])
    layer = kind(node.name, x.base, -1, window_hw, window_hw, "VALID", "NONE")
    return pending_map(layer, (1, x.shape[1], 1, 1), len(importer.activation(node).shape))
