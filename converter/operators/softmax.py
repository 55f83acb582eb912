"""SOFTMAX. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import flatbuffers
import numpy as np

from converter import quant
from converter.arrays import Int8
from converter.errors import ConvertError, require
from converter.formats.onnx import Importer, Move, OnnxNode, OnnxRule, Value, pending, stored_order
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory
from converter.tensor import QuantParams

BETA = 0  # of SoftmaxOptions
MOST_CLASSES = 511
SCORES = QuantParams((1 / 256,), (-128,))  # TensorFlow Lite's only grid for its output


@dataclass(frozen=True, eq=False)
class Softmax:
    """Over the last axis; output scale 1/256 and zero point -128 as TFLite demands."""

    name: str
    input: int
    output: int
    beta: float = 1.0

    TFLITE: ClassVar = TfliteOperator("SOFTMAX", 25, 9, 2, "AddSoftmax")
    MEMORY: ClassVar[OutputMemory] = "in place"
    weights: ClassVar[None] = None
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor [..., classes]."""
        return (self.input,)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        require(x.shape == y.shape, self.name, f"input and output need one shape, got {x.shape} and {y.shape}")
        fixed = (y.quant.scale, y.quant.zero_point) == (SCORES.scale, SCORES.zero_point)
        require(fixed, self.name, f"the output is (1/256, -128), got {y.quant.text}")
        rule = f"at most {MOST_CLASSES} classes, TensorFlow Lite Micro aborts on equal scores beyond; got {x.shape[-1]}"
        require(x.shape[-1] <= MOST_CLASSES, self.name, rule)
        good = math.isfinite(self.beta) and self.beta > 0 and float(np.float32(self.beta)) == self.beta
        good = good and self.beta * x.quant.scale * (1 << 26) > 1.0
        require(good, self.name, f"beta is a float32 and beta x input scale exceeds 2**-26, got beta {self.beta}")

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The input's shape."""
        x = inputs[0]
        mantissa, left_shift, diff_min = quant.softmax_multiplier(graph.tensors[self.input].quant, self.beta)
        difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
        counted = difference >= diff_min
        rescaled = quant.high_mul(np.where(counted, difference, 0) << left_shift, mantissa)
        powers = np.where(counted, quant.exp_of_negative(rescaled), 0)
        total = quant.rounding_shift(powers, 12).sum(axis=-1, keepdims=True)  # Q12.19
        bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)  # position of the leading one
        reciprocal = quant.one_over_one_plus((total << (32 - bits)) - (1 << 31))
        shares = quant.rounding_shift(quant.high_mul(reciprocal, powers), (bits - 20) + 31 - 8)
        return np.where(counted, np.clip(shares - 128, -128, 127), -128).astype(np.int8)

    def cost(self, graph: Graph) -> Cost:
        """Not counted."""
        return Cost()

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """All of int8."""
        return -128, 127

    def rows(self, graph: Graph) -> None:
        """Runs on the whole map."""

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """SoftmaxOptions."""
        return options_table(builder, ("Float32", BETA, self.beta))

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Softmax:
        """One operand."""
        return cls(node.name, node.input, node.output, node.options.real(BETA, 0.0))

    @staticmethod
    def _from_softmax(importer: Importer, node: OnnxNode) -> Value:
        """A Softmax node over one axis, or before operator set 13 over all from one on; what does not lie innermost is
        turned there and back."""
        x = importer.materialize(node.name, importer.activation(node))
        rank, flattens = len(x.shape), node.opset < 13
        given = node.integer("axis", 1 if flattens else -1)
        axis = given % rank
        if not -rank <= given < rank:
            raise ConvertError(f"{node.name}: axis {given} is none of {x.shape}; export the model again")
        summed = [i for i in range(axis, rank if flattens else axis + 1) if x.shape[i] > 1]
        classes = math.prod(x.shape[i] for i in summed)
        stored = [i for i in stored_order(x) if x.shape[i] > 1]
        moves: tuple[Move, ...] = ()
        if set(summed) != set(stored[len(stored) - len(summed) :]):
            perm = (*(i for i in range(rank) if i not in summed), *summed)
            back = tuple(perm.index(i) for i in range(rank))
            x = importer.materialize(node.name, importer.transposed(node.name, x, perm, "plain"))
            moves = (lambda y: importer.transposed(f"{node.name}/back", y, back, "plain"),)
        y = replace(pending(Softmax(node.name, x.base, -1), x.shape, x.layout), moves=moves)
        if y.stored[-1] == classes:
            return y
        # The order within a group is nothing to Softmax: any view whose last axis is the group will do.
        rest = math.prod(x.shape) // classes
        rows = replace(x, shape=(1, classes) if rest == 1 else (1, rest, classes), layout="plain")
        return replace(y, layer=Softmax(node.name, importer.materialize(node.name, rows).base, -1), stored=rows.shape)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Softmax": _from_softmax}
