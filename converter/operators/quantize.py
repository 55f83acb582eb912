"""QUANTIZE of int8 to another scale. The numpy run follows TensorFlow Lite's Requantize; QUANTIZE of float32 and
DEQUANTIZE are a model's ends, which the reader takes off."""

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
from converter.operators.table import EVERY_INT8, TableOperator


@dataclass(frozen=True, eq=False)
class Quantize(TableOperator):
    """The same real values, as near as the output's scale and zero point can say them."""

    TFLITE: ClassVar = TfliteOperator("QUANTIZE", 114, 89, 2, "AddQuantize")
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        ratio = self._ratio(graph)
        rule = f"the input scale may be 2**22 of the output's at most, got {ratio:.3g}"  # 255 of them fit int32
        require(ratio < 1 << 22, self.name, rule)

    def _ratio(self, graph: Graph) -> float:
        return graph.tensors[self.input].quant.scale / graph.tensors[self.output].quant.scale

    def table(self, graph: Graph) -> Int8:
        """Rounded twice, as everywhere."""
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        multiplier = quant.quantize_multiplier(self._ratio(graph))
        scaled = quant.multiply_by_quantized_multiplier(EVERY_INT8 - x.zero_point, *multiplier)
        return np.clip(scaled + y.zero_point, -128, 127).astype(np.int8)
