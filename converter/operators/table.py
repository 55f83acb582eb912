"""What operators of one int8 to one int8 have in common: all but the table of 256 outputs that they are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import flatbuffers
import numpy as np

from converter import quant
from converter.arrays import Int8, Int64
from converter.errors import require
from converter.formats.onnx import Importer, OnnxNode, PendingLayer, pending
from converter.formats.tflite import TfliteNode, options_table
from converter.graph import Bounds, Cost, Graph, Operator, OutputMemory, RowWindow
from converter.tensor import QuantParams, Tensor

INTEGER_BITS = 4  # of the fixed-point argument of LOGISTIC and TANH
EVERY_INT8: Int64 = np.arange(-128, 128)
T = TypeVar("T", bound="TableOperator")


@dataclass(frozen=True, eq=False)
class TableOperator(ABC):
    """Each output depends on the input in its place alone, so the board looks it up."""

    name: str
    input: int
    output: int

    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor of any shape."""
        return (self.input,)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        require(x.shape == y.shape, self.name, f"input and output need one shape, got {x.shape} and {y.shape}")

    @abstractmethod
    def table(self, graph: Graph) -> Int8:
        """The outputs for the inputs -128 to 127, in that order."""

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The input's shape."""
        found: Int8 = self.table(graph)[inputs[0].astype(np.int64) + 128]
        return found

    def cost(self, graph: Graph) -> Cost:
        """Not counted."""
        return Cost()

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """The least and the largest output for inputs within x."""
        part = self.table(graph)[x[0] + 128 : x[1] + 129]
        return int(part.min()), int(part.max())

    def rows(self, graph: Graph) -> RowWindow:
        """Each row of its own."""
        return RowWindow(1, 1, 0)

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """A table without fields."""
        return options_table(builder)

    @classmethod
    def from_tflite(cls: type[T], node: TfliteNode) -> T:
        """One operand."""
        return cls(node.name, node.input, node.output)


def check_input_scale(name: str, x: Tensor) -> None:
    """What LOGISTIC and TANH take; raises ConvertError."""
    fine = 2.0**-27 < x.quant.scale < 8  # from 8 on TensorFlow Lite Micro takes 0 for a large negative value
    require(fine, name, f"the input scale lies between 2**-27 and 8, got {x.quant.scale:.9g}")


def saturating_table(x: QuantParams, function: Callable[[Int64], Int64], shift: int, zero_point: int) -> Int8:
    """The table of a `function` from Q4.27 to Q0.31, rounded by `shift`; beyond the range of Q4.27 it is at its ends.

    Source: TensorFlow Lite's CalculateInputRadius.
    """
    mantissa, left = quant.quantize_multiplier(x.scale * 2.0 ** (31 - INTEGER_BITS))
    radius = math.floor(((1 << INTEGER_BITS) - 1) * 2.0 ** (31 - INTEGER_BITS) / 2.0**left)
    centred = EVERY_INT8 - x.zero_point
    inside = np.abs(centred) < radius
    argument = quant.multiply_by_quantized_multiplier(np.where(inside, centred, 0), mantissa, left)
    values = np.clip(quant.rounding_shift(function(argument), shift) + zero_point, -128, 127)
    return np.where(inside, values, np.where(centred < 0, -128, 127)).astype(np.int8)


def from_onnx(kind: Callable[[str, int, int], Operator], importer: Importer, node: OnnxNode) -> PendingLayer:
    """The operator `kind` on every value of the node's operand, whatever view of its tensor that is."""
    x = importer.materialize(node.name, importer.activation(node))
    return pending(kind(node.name, x.base, -1), x.shape, x.layout)
