"""ADD. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers
import numpy as np

from converter import quant
from converter.arrays import Int8
from converter.errors import ConvertError, require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value, pending
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory, RowWindow
from converter.operators.activation import activation_slot, check_activation, clamp, read_activation
from converter.quant import Activation

ACTIVATION = 0  # of AddOptions


@dataclass(frozen=True, eq=False)
class Add:
    """Two inputs of equal shape (no broadcasting)."""

    name: str
    input: int
    input2: int
    output: int
    activation: Activation

    TFLITE: ClassVar = TfliteOperator("ADD", 0, 11, 2, "AddAdd", activations=2, operands=2)
    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """Two tensors."""
        return self.input, self.input2

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, x2, y = (graph.tensors[index] for index in (*self.inputs, self.output))
        check_activation(self.name, self.activation, y)
        same = x.shape == x2.shape == y.shape
        rule = f"the operands need one shape (no broadcasting), got {x.shape}, {x2.shape}, {y.shape}"
        require(same, self.name, rule)
        ratio = 2.0 * max(x.quant.scale, x2.quant.scale) / ((1 << quant.ADD_LEFT_SHIFT) * y.quant.scale)
        fine = ratio < 1.0 and quant.quantize_multiplier(ratio)[1] <= 0
        scale = f"the output scale {y.quant.scale:.9g}"
        require(fine, self.name, f"{scale} is too small beside its inputs' (ratio {ratio:.3g}, must be below 1)")

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The inputs' shape."""
        x, x2, y = (graph.tensors[index].quant for index in (*self.inputs, self.output))
        first, second, out = quant.add_multipliers(x, x2, y)
        scaled = [
            quant.multiply_by_quantized_multiplier(
                (values.astype(np.int64) - params.zero_point) << quant.ADD_LEFT_SHIFT, *multiplier
            )
            for values, params, multiplier in zip(inputs, (x, x2), (first, second), strict=True)
        ]
        total = quant.multiply_by_quantized_multiplier(scaled[0] + scaled[1], *out)
        return clamp(total + y.zero_point, self.activation, y)

    def cost(self, graph: Graph) -> Cost:
        """One per output."""
        return Cost(operations=graph.tensors[self.output].size)

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """The clamp of the activation."""
        return quant.activation_range(self.activation, graph.tensors[self.output].quant)

    def rows(self, graph: Graph) -> RowWindow:
        """Each row of its own."""
        return RowWindow(1, 1, 0)

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """AddOptions."""
        return options_table(builder, activation_slot(ACTIVATION, self.activation))

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Add:
        """Two operands."""
        x, x2 = node.inputs
        return cls(node.name, x, x2, node.output, read_activation(node, ACTIVATION))

    @staticmethod
    def _from_add(importer: Importer, node: OnnxNode) -> Value:
        """An Add node of two activations."""
        a, b = (importer.materialize(node.name, importer.activation(node, index)) for index in (0, 1))
        if a.shape != b.shape or a.layout != b.layout:
            raise ConvertError(
                f"{node.name}: the operands need one shape (no broadcasting), got {a.shape} and {b.shape}"
            )
        return pending(Add(node.name, a.base, b.base, -1, "NONE"), a.shape, a.layout)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Add": _from_add}
