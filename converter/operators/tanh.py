"""TANH. The table follows TensorFlow Lite's fixed-point Tanh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from converter import quant
from converter.arrays import Int8
from converter.errors import require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph
from converter.operators.table import TableOperator, check_input_scale, from_onnx, saturating_table


@dataclass(frozen=True, eq=False)
class Tanh(TableOperator):
    """Output scale 1/128 and zero point 0 as TFLite demands."""

    TFLITE: ClassVar = TfliteOperator("TANH", 28, 0, 2, "AddTanh")

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        y = graph.tensors[self.output].quant
        fixed = y.scale == 1 / 128 and y.zero_point == 0
        require(fixed, self.name, f"the output is (1/128, 0), got {y.text}; quantize it so")
        check_input_scale(self.name, graph.tensors[self.input])

    def table(self, graph: Graph) -> Int8:
        """Rounded from Q0.31."""
        return saturating_table(graph.tensors[self.input].quant, quant.tanh, 24, 0)

    @staticmethod
    def _from_tanh(importer: Importer, node: OnnxNode) -> Value:
        """A Tanh node of an activation."""
        return from_onnx(Tanh, importer, node)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Tanh": _from_tanh}
