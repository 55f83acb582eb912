"""What TRANSPOSE and STRIDED_SLICE have in common: each output is an input from elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from converter.arrays import Int8, Int64
from converter.graph import Bounds, Cost, Graph, OutputMemory, RowWindow
from converter.tensor import check_same_quant

MOST_AXES = 5  # of nn_strided_copy_s8


@dataclass(frozen=True, eq=False)
class CopyOperator(ABC):
    """int8 that moves, on one scale."""

    name: str
    input: int
    output: int

    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor."""
        return (self.input,)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        check_same_quant(self.name, graph.tensors[self.input], graph.tensors[self.output])

    @abstractmethod
    def taken(self, values: Int8 | Int64) -> Int8 | Int64:
        """A view of values of the input's shape, [n, ...]: those of the output, with axes that it leaves out."""

    def strides(self, graph: Graph) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """(number of the first input that is copied, axes of the copy, steps along them), MOST_AXES each."""
        numbers = np.arange(graph.tensors[self.input].size, dtype=np.int64).reshape(graph.tensors[self.input].shape)
        view = self.taken(numbers)
        missing = (1,) * (MOST_AXES - view.ndim)
        steps = tuple(step // numbers.itemsize for step in view.strides)
        return int(view.flat[0]), missing + view.shape, (0,) * len(missing) + steps

    def cost(self, graph: Graph) -> Cost:
        """Not counted."""
        return Cost()

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """Those of its input."""
        return x

    def rows(self, graph: Graph) -> RowWindow | None:
        """Runs on the whole map."""
        return None

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """Its parameters."""
        return 128, 0
