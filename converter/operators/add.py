"""ADD. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from converter import quant
from converter.arrays import Int8
from converter.errors import ConvertError, require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value, pending
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph, RowWindow
from converter.operators.activation import clamp
from converter.operators.binary import BinaryOperator
from converter.tensor import Constant


@dataclass(frozen=True, eq=False)
class Add(BinaryOperator):
    """The sum."""

    TFLITE: ClassVar = TfliteOperator("ADD", 0, 11, 2, "AddAdd", activations=2, operands=2, may_be_constant=True)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        super().check(graph)
        x, y, (_, x2) = graph.tensors[self.input].quant, graph.tensors[self.output].quant, self.second(graph)
        ratio = 2.0 * max(x.scale, x2.scale) / ((1 << quant.ADD_LEFT_SHIFT) * y.scale)
        fine = ratio < 1.0 and quant.quantize_multiplier(ratio)[1] <= 0
        scale = f"the output scale {y.scale:.9g}"
        require(fine, self.name, f"{scale} is too small beside its inputs' (ratio {ratio:.3g}, must be below 1)")

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The first input's shape."""
        x, y, (_, x2) = graph.tensors[self.input].quant, graph.tensors[self.output].quant, self.second(graph)
        first, second, out = quant.add_multipliers(x, x2, y)
        scaled = [
            quant.multiply_by_quantized_multiplier(
                (values.astype(np.int64) - params.zero_point) << quant.ADD_LEFT_SHIFT, *multiplier
            )
            for values, params, multiplier in zip(
                self.operands(graph, list(inputs)), (x, x2), (first, second), strict=True
            )
        ]
        total = quant.multiply_by_quantized_multiplier(scaled[0] + scaled[1], *out)
        return clamp(total + y.zero_point, self.activation, y)

    def repeats(self, graph: Graph) -> bool:
        """Whether the second operand is a constant or smaller than the first."""
        return isinstance(self.input2, Constant) or graph.tensors[self.input2].shape != graph.tensors[self.input].shape

    def rows(self, graph: Graph) -> RowWindow | None:
        """Each row of its own; beside an operand that repeats it runs on the whole map."""
        return None if self.repeats(graph) else RowWindow(1, 1, 0)

    @staticmethod
    def _from_add(importer: Importer, node: OnnxNode) -> Value:
        """An Add node of two activations."""
        a, b = (importer.materialize(node.name, importer.activation(node, index)) for index in (0, 1))
        if a.layout != b.layout:
            a, b = (importer.materialize(node.name, importer.in_order(node.name, x)) for x in (a, b))
        if a.shape != b.shape:
            raise ConvertError(
                f"{node.name}: the operands need one shape (no broadcasting), got {a.shape} and {b.shape}"
            )
        return pending(Add(node.name, a.base, b.base, -1, "NONE"), a.shape, a.layout)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Add": _from_add}
