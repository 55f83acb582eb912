"""AVERAGE_POOL_2D. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers
import numpy as np

from converter.arrays import Int8
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value, pending
from converter.formats.tflite import TfliteNode, TfliteOperator
from converter.graph import Bounds, Cost, Graph, OutputMemory, RowWindow
from converter.operators import pool
from converter.operators.activation import clamp
from converter.operators.windows import Padding, onnx_output_shape, onnx_pool, row_window, windows_of
from converter.quant import Activation


@dataclass(frozen=True, eq=False)
class AveragePool2D:
    """The mean of a window, halves away from zero; padding does not count."""

    name: str
    input: int
    output: int
    window_hw: tuple[int, int]
    stride_hw: tuple[int, int]
    padding: Padding
    activation: Activation

    TFLITE: ClassVar = TfliteOperator("AVERAGE_POOL_2D", 1, 5, 2, "AddAveragePool2D")
    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None
    integer_operands: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor [1, H, W, C]."""
        return (self.input,)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        pool.check(self, graph)

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, out_h, out_w, channels]"""
        x = inputs[0].astype(np.int32)
        ones = np.ones((1, *x.shape[1:3], 1), np.int32)
        sums, counts = (
            windows_of(values, self.window_hw, self.stride_hw, self.padding, 0).sum(axis=(3, 4), dtype=np.int64)
            for values in (x, ones)
        )
        magnitude = (np.abs(sums) + counts // 2) // counts  # C's division truncates, so halves go away from zero
        y = graph.tensors[self.output].quant
        return clamp(np.where(sums > 0, magnitude, -magnitude), self.activation, y)

    def cost(self, graph: Graph) -> Cost:
        """The window once per output."""
        return Cost(operations=graph.tensors[self.output].size * self.window_hw[0] * self.window_hw[1])

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """Between the least and the largest of its inputs."""
        return pool.bounds(self, graph, x)

    def rows(self, graph: Graph) -> RowWindow:
        """The window's height."""
        return row_window(graph.tensors[self.input], self.window_hw[0], self.stride_hw[0], self.padding)

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """Pool2DOptions."""
        return pool.tflite_options(self, builder)

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> AveragePool2D:
        """One operand."""
        return cls(node.name, node.input, node.output, *pool.fields(node))

    @staticmethod
    def _from_average_pool(importer: Importer, node: OnnxNode) -> Value:
        """An AveragePool node; where padding counts it becomes a PAD."""
        x, window_hw, stride_hw, padding = onnx_pool(importer, node, node.integer("count_include_pad", 0) == 1)
        layer = AveragePool2D(node.name, x.base, -1, window_hw, stride_hw, padding, "NONE")
        return pending(layer, onnx_output_shape(x, x.shape[1], window_hw, stride_hw, padding), "nchw")

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"AveragePool": _from_average_pool}
