"""PAD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers
import numpy as np

from converter.arrays import Int8, Int32
from converter.errors import ConvertError, require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value, integers_of, pending, stored_order
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory, RowWindow
from converter.tensor import MAX_ELEMENTS, check_same_quant


@dataclass(frozen=True, eq=False)
class Pad:
    """Pads with the input's zero point; `pads` holds (before, after) per axis."""

    name: str
    input: int
    output: int
    pads: tuple[tuple[int, int], ...]

    TFLITE: ClassVar = TfliteOperator("PAD", 34, 22, 2, "AddPad", operands=2)
    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor."""
        return (self.input,)

    @property
    def constants(self) -> tuple[tuple[str, Int32], ...]:
        """[axes, 2]"""
        return (("pads", np.asarray(self.pads, np.int32)),)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        rule = f"needs one pair of pads per axis of {x.shape}, got {len(self.pads)}"
        require(len(self.pads) == len(x.shape), self.name, rule)
        positive = all(0 <= side <= MAX_ELEMENTS for pair in self.pads for side in pair)
        require(positive, self.name, f"pads are not negative, got {self.pads}")
        expected = tuple(size + before + after for size, (before, after) in zip(x.shape, self.pads, strict=True))
        fits = y.shape == expected and self.pads[0] == (0, 0)
        require(fits, self.name, f"the output shape must be {expected} with batch 1, got {y.shape}")
        check_same_quant(self.name, x, y)

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """The input with zeros round it."""
        zero = graph.tensors[self.output].quant.zero_point
        return np.pad(inputs[0], ((0, 0), *self.pads[1:]), constant_values=zero)

    def cost(self, graph: Graph) -> Cost:
        """Not counted."""
        return Cost()

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """Those of its input and zero."""
        zero = graph.tensors[self.output].quant.zero_point
        return min(x[0], zero), max(x[1], zero)

    def rows(self, graph: Graph) -> RowWindow:
        """Each row of its own."""
        return RowWindow(1, 1, self.pads[1][0])

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """None."""
        return 0, 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """PadOptions, which are empty."""
        return options_table(builder)

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Pad:
        """Operands: input, pads [axes, 2]."""
        values = node.integers(1)
        if values.ndim != 2 or values.shape[1] != 2:
            raise ConvertError(f"{node.name}: PAD needs pads of shape [axes, 2], got {values.shape}")
        return cls(node.name, node.input, node.output, tuple((int(before), int(after)) for before, after in values))

    @staticmethod
    def _from_pad(importer: Importer, node: OnnxNode) -> Value:
        """A Pad node of zeros; round a feature map they wait for the layer that may take them in."""
        name, x = node.name, importer.activation(node)
        given, value, axes = (importer.array(node, index) for index in (1, 2, 3))
        rank = len(x.shape)
        zero = node.real("value", 0.0) == 0.0 if value is None else value.size == 1 and float(value.item()) == 0.0
        if node.text("mode", "constant") != "constant" or not zero:
            raise ConvertError(f"{name}: only padding with zeros is supported")
        chosen = list(range(rank)) if axes is None else [axis % rank for axis in integers_of(node, axes)]
        sides = list(node.integers("pads", ()) if given is None else integers_of(node, given))
        if len(sides) != 2 * len(chosen) or min(sides, default=-1) < 0 or max(sides) > 4096:
            raise ConvertError(
                f"{name}: pads must be constant, 0 or more, two for each of {len(chosen)} axes, got {sides[:16]}"
            )
        before, after = [0] * rank, [0] * rank
        for index, axis in enumerate(chosen):
            before[axis], after[axis] = sides[index], sides[index + len(chosen)]
        if x.layout == "nchw" and not any((*before[:2], *after[:2])):
            return x.padded((before[2], after[2], before[3], after[3]))
        x = importer.materialize(name, x)
        shape = tuple(size + b + a for size, b, a in zip(x.shape, before, after, strict=True))
        pads = tuple((before[axis], after[axis]) for axis in stored_order(x))
        if x.layout == "ncw":
            pads = (pads[0], (0, 0), *pads[1:])
        return pending(Pad(name, x.base, -1, pads), shape, x.layout)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Pad": _from_pad}
