"""What ADD and MUL have in common: two operands, of which the second may be a constant or smaller than the first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import flatbuffers

from converter import quant
from converter.arrays import Int8
from converter.errors import require
from converter.formats.tflite import TfliteNode, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory
from converter.operators.activation import activation_slot, check_activation, read_activation
from converter.quant import Activation
from converter.tensor import Constant, QuantParams, check_quant

ACTIVATION = 0  # of AddOptions and MulOptions
B = TypeVar("B", bound="BinaryOperator")


@dataclass(frozen=True, eq=False)
class BinaryOperator:
    """The output has the first operand's shape; a smaller second one is repeated."""

    name: str
    input: int
    input2: int | Constant
    output: int
    activation: Activation

    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """Two tensors, or one beside a constant."""
        return (self.input,) if isinstance(self.input2, Constant) else (self.input, self.input2)

    @property
    def constants(self) -> tuple[tuple[str, Constant], ...]:
        """The second operand, if it is one."""
        return (("constant", self.input2),) if isinstance(self.input2, Constant) else ()

    def second(self, graph: Graph) -> tuple[tuple[int, ...], QuantParams]:
        """Shape and scale of the second operand."""
        if isinstance(self.input2, Constant):
            return self.input2.values.shape, self.input2.quant
        return graph.tensors[self.input2].shape, graph.tensors[self.input2].quant

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y, (shape2, params) = graph.tensors[self.input], graph.tensors[self.output], self.second(graph)
        check_activation(self.name, self.activation, y)
        check_quant(self.name, params, channels=1)
        fits = x.shape == y.shape and len(shape2) <= len(x.shape)
        fits = fits and all(b in (1, a) for a, b in zip(x.shape[::-1], shape2[::-1], strict=False))
        rule = f"one operand needs the output's shape and the other one that repeats in it, got {x.shape}, {shape2}"
        require(fits, self.name, f"{rule}, {y.shape}")
        _, count, _ = self.blocks(graph)
        rule = f"{shape2} repeats in {x.shape} along axes apart; reshape them so that these axes are neighbours"
        require(count == math.prod(shape2), self.name, rule)

    def blocks(self, graph: Graph) -> tuple[int, int, int]:
        """(blocks, values of the second operand in each, neighbouring outputs of each value)."""
        shape = graph.tensors[self.input].shape
        shape2, _ = self.second(graph)
        shape2 = (1,) * (len(shape) - len(shape2)) + shape2
        own = [axis for axis, size in enumerate(shape2) if size > 1]
        first, last = (own[0], own[-1] + 1) if own else (0, 0)
        return math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])

    def operands(self, graph: Graph, inputs: list[Int8]) -> tuple[Int8, Int8]:
        """Both, [n, ...] of as many axes."""
        if isinstance(self.input2, Constant):
            return inputs[0], self.input2.values
        rank = inputs[0].ndim
        return inputs[0], inputs[1].reshape(len(inputs[1]), *(1,) * (rank - inputs[1].ndim), *inputs[1].shape[1:])

    def cost(self, graph: Graph) -> Cost:
        """One per output."""
        return Cost(operations=graph.tensors[self.output].size)

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """The clamp of the activation."""
        return quant.activation_range(self.activation, graph.tensors[self.output].quant)

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """AddOptions or MulOptions."""
        return options_table(builder, activation_slot(ACTIVATION, self.activation))

    @classmethod
    def from_tflite(cls: type[B], node: TfliteNode) -> B:
        """Two operands in either order, of which one may be a constant."""
        activation = read_activation(node, ACTIVATION)
        if len(node.inputs) == 1:
            return cls(node.name, node.input, node.constant(), node.output, activation)
        x, x2 = node.inputs
        if node.tensor(x).shape != node.tensor(node.output).shape == node.tensor(x2).shape:
            x, x2 = x2, x
        return cls(node.name, x, x2, node.output, activation)
