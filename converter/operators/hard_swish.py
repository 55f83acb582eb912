"""HARD_SWISH, x * relu6(x + 3) / 6. The table follows TensorFlow Lite's int16 arithmetic (reference HardSwish)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from converter import quant
from converter.arrays import Int8, Int64
from converter.errors import require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph
from converter.operators.table import EVERY_INT8, TableOperator, from_onnx

HIRES_BITS = 7  # more than an int8's, of the input on its way
RELUISH_SCALE = np.float32(3) / np.float32(32768)  # of relu6(x + 3) - 3 as int16
HALF_RANGE = 1 << 15


@dataclass(frozen=True, eq=False)
class HardSwish(TableOperator):
    """Scales of the output from 1/128 to 512 times the input's: beyond, TensorFlow Lite's 16 bits do not reach."""

    TFLITE: ClassVar = TfliteOperator("HARD_SWISH", 117, 0, 1, "AddHardSwish")

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        shifts = [self._multiplier(graph, scale)[1] for scale in (np.float32(y.scale), RELUISH_SCALE)]
        rule = f"the output scale is 1/128 to 512 times the input's, got {y.scale:.9g} and {x.scale:.9g}; choose others"
        require(-15 <= shifts[0] <= 0 and -15 <= shifts[1] <= 15, self.name, rule)

    def _multiplier(self, graph: Graph, scale: np.float32) -> tuple[int, int]:
        """(int16 mantissa, shift) from the input's finer steps to those of the scale, all quotients in float32."""
        hires = np.float32(1 / 128) * np.float32(graph.tensors[self.input].quant.scale)
        mantissa, shift = quant.quantize_multiplier(float(hires / scale))
        return min((mantissa + HALF_RANGE) >> 16, HALF_RANGE - 1), shift

    def table(self, graph: Graph) -> Int8:
        """x by its own relu6(x + 3) / 6, both int16."""
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        hires = (EVERY_INT8 - x.zero_point) << HIRES_BITS
        to_output, shift = self._multiplier(graph, np.float32(y.scale))
        mantissa, left = self._multiplier(graph, RELUISH_SCALE)
        gate = _int16(hires << max(left - 1, 0))
        gate = _high_mul(gate, mantissa)
        gate = _int16(gate << 1) if left > 0 else quant.rounding_shift(gate, -left)
        gate = (gate + HALF_RANGE) >> 1
        product = gate * _high_mul(hires, to_output)
        output = quant.rounding_shift(_toward_zero(product), -shift) + y.zero_point
        return np.clip(output, -128, 127).astype(np.int8)

    @staticmethod
    def _from_hard_swish(importer: Importer, node: OnnxNode) -> Value:
        """A HardSwish node of an activation."""
        return from_onnx(HardSwish, importer, node)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"HardSwish": _from_hard_swish}


def _int16(values: Int64) -> Int64:
    return np.clip(values, -HALF_RANGE, HALF_RANGE - 1)


def _high_mul(values: Int64, factor: int) -> Int64:
    """gemmlowp's SaturatingRoundingDoublingHighMul of int16; factor is never the least int16."""
    product = values * factor
    return _toward_zero(product + np.where(product >= 0, 1 << 14, 1 - (1 << 14)))


def _toward_zero(product: Int64) -> Int64:
    found: Int64 = np.sign(product) * (np.abs(product) >> 15)
    return found
