"""LOGISTIC, the sigmoid. The table follows TensorFlow Lite's fixed-point Logistic."""

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
class Logistic(TableOperator):
    """1 / (1 + exp(-x)); output scale 1/256 and zero point -128 as TFLite demands."""

    TFLITE: ClassVar = TfliteOperator("LOGISTIC", 14, 0, 2, "AddLogistic")

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        y = graph.tensors[self.output].quant
        fixed = y.scale == 1 / 256 and y.zero_point == -128
        require(fixed, self.name, f"the output is (1/256, -128), got {y.text}; quantize it so")
        check_input_scale(self.name, graph.tensors[self.input])

    def table(self, graph: Graph) -> Int8:
        """Rounded from Q0.31."""
        return saturating_table(graph.tensors[self.input].quant, quant.logistic, 23, -128)

    @staticmethod
    def _from_sigmoid(importer: Importer, node: OnnxNode) -> Value:
        """A Sigmoid node of an activation."""
        return from_onnx(Logistic, importer, node)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Sigmoid": _from_sigmoid}
