"""TRANSPOSE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers
import numpy as np

from converter.arrays import Int8, Int32, Int64
from converter.errors import require
from converter.formats.onnx import OnnxRule
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Graph
from converter.operators.copied import CopyOperator


@dataclass(frozen=True, eq=False)
class Transpose(CopyOperator):
    """Axis i of the output is axis perm[i] of the input; the batch stays in front."""

    perm: tuple[int, ...]

    TFLITE: ClassVar = TfliteOperator("TRANSPOSE", 39, 26, 2, "AddTranspose", operands=2)
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}

    @property
    def constants(self) -> tuple[tuple[str, Int32], ...]:
        """The axes."""
        return (("perm", np.array(self.perm, np.int32)),)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        super().check(graph)
        fine = sorted(self.perm) == list(range(len(x.shape))) and self.perm[0] == 0
        require(fine, self.name, f"needs each axis of {x.shape} once, the batch first, got {self.perm}")
        wanted = tuple(x.shape[axis] for axis in self.perm)
        require(y.shape == wanted, self.name, f"the output shape must be {wanted}, got {y.shape}")

    def taken(self, values: Int8 | Int64) -> Int8 | Int64:
        """Axes in another order."""
        return values.transpose(self.perm)

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, ...]"""
        return np.ascontiguousarray(self.taken(inputs[0])).astype(np.int8)

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """TransposeOptions, which are empty."""
        return options_table(builder)

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Transpose:
        """Operands: input, axes."""
        axes, rank = node.integers(1).ravel().tolist(), len(node.tensor(node.input).shape)
        return cls(node.name, node.input, node.output, tuple(axis + rank if axis < 0 else axis for axis in axes))
