"""MUL. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from converter import quant
from converter.arrays import Int8
from converter.errors import ConvertError, require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value, pending
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph
from converter.operators.activation import clamp
from converter.operators.binary import BinaryOperator

LARGEST_PRODUCT = 255 * 255


@dataclass(frozen=True, eq=False)
class Mul(BinaryOperator):
    """The product."""

    TFLITE: ClassVar = TfliteOperator("MUL", 18, 21, 2, "AddMul", activations=2, operands=2, may_be_constant=True)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        _, shift = self.multiplier(graph)
        rule = f"the output scale {graph.tensors[self.output].quant.scale:.9g} is too small beside its inputs'"
        require(LARGEST_PRODUCT << max(shift, 0) < 1 << 31, self.name, f"{rule}: products overflow int32")

    def multiplier(self, graph: Graph) -> tuple[int, int]:
        """(mantissa, shift) that take a product to the output scale."""
        x, y, (_, x2) = graph.tensors[self.input].quant, graph.tensors[self.output].quant, self.second(graph)
        return quant.quantize_multiplier(x.scale * x2.scale / y.scale)

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The first input's shape."""
        x, y, (_, x2) = graph.tensors[self.input].quant, graph.tensors[self.output].quant, self.second(graph)
        first, second = (values.astype(np.int64) for values in self.operands(graph, list(inputs)))
        product = (first - x.zero_point) * (second - x2.zero_point)
        scaled = quant.multiply_by_quantized_multiplier(product, *self.multiplier(graph))
        return clamp(scaled + y.zero_point, self.activation, y)

    def rows(self, graph: Graph) -> None:
        """Runs on the whole map."""

    @staticmethod
    def _from_mul(importer: Importer, node: OnnxNode) -> Value:
        """A Mul node of two activations, of which one may repeat in the other."""
        a, b = (importer.materialize(node.name, importer.activation(node, index)) for index in (0, 1))
        if len(a.shape) != len(b.shape):
            raise ConvertError(f"{node.name}: the operands need as many axes, got {a.shape} and {b.shape}")
        if a.layout != b.layout:
            a, b = (importer.materialize(node.name, importer.in_order(node.name, x)) for x in (a, b))
        if math.prod(a.shape) < math.prod(b.shape):
            a, b = b, a
        return pending(Mul(node.name, a.base, b.base, -1, "NONE"), a.shape, a.layout)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Mul": _from_mul}
