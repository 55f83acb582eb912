"""CONCATENATION: int8 operands of one scale, joined along an axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers
import numpy as np

from converter.arrays import Int8
from converter.errors import ConvertError, require
from converter.formats.onnx import OnnxRule
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory
from converter.operators.activation import read_activation
from converter.tensor import check_same_quant

AXIS, ACTIVATION = 0, 1  # of ConcatenationOptions
MOST_OPERANDS = 10  # TensorFlow Lite Micro's own


@dataclass(frozen=True, eq=False)
class Concatenation:
    """`others` behind the first operand, along `axis` (from 1 on)."""

    name: str
    input: int
    others: tuple[int, ...]
    output: int
    axis: int

    TFLITE: ClassVar = TfliteOperator("CONCATENATION", 2, 10, 2, "AddConcatenation", activations=MOST_OPERANDS + 1)
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}
    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor or more, alike but for the axis."""
        return (self.input, *self.others)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        y, parts = graph.tensors[self.output], [graph.tensors[index] for index in self.inputs]
        shapes = [part.shape for part in parts]
        rule = f"joins at most {MOST_OPERANDS} tensors, got {len(parts)}; join them in two steps"
        require(len(parts) <= MOST_OPERANDS, self.name, rule)
        axis, rank = self.axis, len(y.shape)
        inside = 1 <= axis < rank and all(len(shape) == rank for shape in shapes)
        rule = f"joins tensors of {rank} axes along one of 1 to {rank - 1}, got axis {axis} of {shapes}"
        require(inside, self.name, rule)
        wanted = (*y.shape[:axis], sum(shape[axis] for shape in shapes), *y.shape[axis + 1 :])
        alike = all((*shape[:axis], *shape[axis + 1 :]) == (*y.shape[:axis], *y.shape[axis + 1 :]) for shape in shapes)
        require(alike and y.shape == wanted, self.name, f"{shapes} along axis {axis} do not make {y.shape}")
        for part in parts:
            check_same_quant(self.name, part, y)

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The operands, one behind the other."""
        return np.concatenate(inputs, self.axis)

    def widths(self, graph: Graph) -> list[int]:
        """Bytes in a row that come from each operand."""
        return [math.prod(graph.tensors[index].shape[self.axis :]) for index in self.inputs]

    def cost(self, graph: Graph) -> Cost:
        """Not counted."""
        return Cost()

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """All of int8: the other operands' are not known."""
        return x if not self.others else (-128, 127)

    def rows(self, graph: Graph) -> None:
        """Runs on the whole map."""

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """Its parameters."""
        return 64, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """ConcatenationOptions."""
        return options_table(builder, ("Int32", AXIS, self.axis))

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Concatenation:
        """Any number of operands."""
        if read_activation(node, ACTIVATION) != "NONE":
            raise ConvertError(f"{node.name}: CONCATENATION has no activation in int8; put it into the layers before")
        axis = node.options.number(AXIS, "i", 0)
        rank = len(node.tensor(node.output).shape)
        return cls(node.name, node.inputs[0], node.inputs[1:], node.output, axis + rank if axis < 0 else axis)
