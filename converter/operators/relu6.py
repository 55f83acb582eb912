"""RELU6 that no layer before it took in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from converter.arrays import Int8
from converter.formats.onnx import OnnxRule
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph
from converter.operators.activation import check_activation, clamp
from converter.operators.table import EVERY_INT8, TableOperator
from converter.tensor import check_same_quant


@dataclass(frozen=True, eq=False)
class Relu6(TableOperator):
    """Between 0 and 6, on the input's scale: TensorFlow Lite Micro clamps and does not rescale."""

    TFLITE: ClassVar = TfliteOperator("RELU6", 21, 0, 2, "AddRelu6")
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        check_same_quant(self.name, graph.tensors[self.input], graph.tensors[self.output])
        check_activation(self.name, "RELU6", graph.tensors[self.output])

    def table(self, graph: Graph) -> Int8:
        """The clamp."""
        return clamp(EVERY_INT8, "RELU6", graph.tensors[self.output].quant)
