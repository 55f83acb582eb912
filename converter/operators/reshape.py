"""RESHAPE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers

from converter.arrays import Int8
from converter.errors import require
from converter.formats.onnx import OnnxRule
from converter.formats.tflite import TfliteNode, TfliteOperator, int_vector
from converter.graph import Bounds, Cost, Graph, OutputMemory, RowWindow

NEW_SHAPE = 0  # of ReshapeOptions


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same bytes under another shape."""

    name: str
    input: int
    output: int

    TFLITE: ClassVar = TfliteOperator("RESHAPE", 22, 17, 1, "AddReshape")
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}  # views of the importer, which become a Reshape where one is needed
    MEMORY: ClassVar[OutputMemory] = "view"
    weights: ClassVar[None] = None
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor."""
        return (self.input,)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        require(x.size == y.size, self.name, f"a reshape keeps the element count, got {x.shape} to {y.shape}")

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The input."""
        return inputs[0]

    def cost(self, graph: Graph) -> Cost:
        """None."""
        return Cost()

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """Those of its input."""
        return x

    def rows(self, graph: Graph) -> RowWindow | None:
        """No output rows of its own: consumers look through a view."""
        return None

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """ReshapeOptions."""
        new_shape = int_vector(builder, graph.tensors[self.output].shape)
        builder.StartObject(7)
        builder.PrependUOffsetTRelativeSlot(NEW_SHAPE, new_shape, 0)
        return int(builder.EndObject())

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Reshape:
        """One operand; a second is ignored, the output's shape says it all."""
        return cls(node.name, node.input, node.output)
