"""RELU that no layer before it took in. The table follows TensorFlow Lite Micro's ReluQuantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from converter import quant
from converter.arrays import Int8
from converter.errors import require
from converter.formats.onnx import OnnxRule
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph
from converter.operators.activation import clamp
from converter.operators.table import EVERY_INT8, TableOperator


@dataclass(frozen=True, eq=False)
class Relu(TableOperator):
    """What is negative becomes 0; the output has a scale of its own."""

    TFLITE: ClassVar = TfliteOperator("RELU", 19, 0, 2, "AddRelu")
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        ratio = self._ratio(graph)
        require(ratio < 1 << 22, self.name, f"the input scale may be 2**22 of the output's at most, got {ratio:.3g}")

    def _ratio(self, graph: Graph) -> float:
        """A float32 quotient, unlike QUANTIZE's."""
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        return float(np.float32(x.scale) / np.float32(y.scale))

    def table(self, graph: Graph) -> Int8:
        """Rounded twice, as everywhere."""
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        multiplier = quant.quantize_multiplier(self._ratio(graph))
        scaled = quant.multiply_by_quantized_multiplier(EVERY_INT8 - x.zero_point, *multiplier)
        return clamp(scaled + y.zero_point, "RELU", y)
