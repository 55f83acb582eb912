"""STRIDED_SLICE; the reader makes SPLIT and SPLIT_V of it, one for each output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers
import numpy as np

from converter.arrays import Int8, Int32, Int64
from converter.errors import require
from converter.formats.onnx import OnnxRule
from converter.formats.slices import END_MASK, SHRINK_MASK, ranges_of
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Graph
from converter.operators.copied import CopyOperator

MOST_AXES = 4  # TensorFlow Lite Micro's own
Part = tuple[int, int, int]  # first index, how many, step


@dataclass(frozen=True, eq=False)
class StridedSlice(CopyOperator):
    """A part of each axis; the output leaves out the axes of `shrunk`, of which one index is taken."""

    parts: tuple[Part, ...]
    shrunk: tuple[int, ...] = ()

    TFLITE: ClassVar = TfliteOperator("STRIDED_SLICE", 45, 32, 2, "AddStridedSlice", operands=4)
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}

    @property
    def constants(self) -> tuple[tuple[str, Int32], ...]:
        """Begin, end, strides; an end in front of index 0 is masked."""
        ends = [start + count * step for start, count, step in self.parts]
        columns = {
            "begin": [start for start, _, _ in self.parts],
            "end": [max(end, 0) for end in ends],
            "strides": [step for _, _, step in self.parts],
        }
        return tuple((name, np.array(values, np.int32)) for name, values in columns.items())

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        super().check(graph)
        rank = len(x.shape)
        require(
            rank == len(self.parts) <= MOST_AXES, self.name, f"takes parts of at most {MOST_AXES} axes of {x.shape}"
        )
        require(self.parts[0] == (0, 1, 1) and 0 not in self.shrunk, self.name, "keeps the batch, which is axis 0")
        for axis, (start, count, step) in enumerate(self.parts):
            last = start + (count - 1) * step
            inside = count > 0 and step and 0 <= start < x.shape[axis] and 0 <= last < x.shape[axis]
            rule = f"takes {count} values from {start} on by {step} of axis {axis}, which has {x.shape[axis]}"
            require(bool(inside), self.name, rule)
        wanted = tuple(count for axis, (_, count, _) in enumerate(self.parts) if axis not in self.shrunk)
        require(y.shape == wanted, self.name, f"the output shape must be {wanted}, got {y.shape}")

    def taken(self, values: Int8 | Int64) -> Int8 | Int64:
        """A part of each axis but the batch."""
        view = values
        for axis, (start, count, step) in enumerate(self.parts[1:], 1):
            end = start + count * step
            view = view[(slice(None),) * axis + (slice(start, end if end >= 0 else None, step),)]
        return view

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, ...]"""
        return np.ascontiguousarray(self.taken(inputs[0])).astype(np.int8)

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """StridedSliceOptions."""
        masked = sum(1 << axis for axis, (start, n, step) in enumerate(self.parts) if start + n * step < 0)
        shrunk = sum(1 << axis for axis in self.shrunk)
        return options_table(builder, ("Int32", END_MASK, masked), ("Int32", SHRINK_MASK, shrunk))

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> StridedSlice:
        """Operands: input, begin, end, strides."""
        shape = node.tensor(node.input).shape
        ranges, shrunk = ranges_of(node.name, node.options, shape, *(node.integers(i) for i in (1, 2, 3)))
        parts = tuple((taken.start, len(taken), taken.step) for taken in ranges)
        return cls(node.name, node.input, node.output, parts, tuple(i for i, gone in enumerate(shrunk) if gone))
