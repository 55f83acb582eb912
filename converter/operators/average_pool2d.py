"""AVERAGE_POOL_2D. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from converter.arrays import Int8
from converter.formats.onnx import OnnxRule
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph
from converter.operators.activation import clamp
from converter.operators.pool import Pool2D
from converter.operators.windows import windows_of


@dataclass(frozen=True, eq=False)
class AveragePool2D(Pool2D):
    """The mean of a window, halves away from zero."""

    TFLITE: ClassVar = TfliteOperator("AVERAGE_POOL_2D", 1, 5, 2, "AddAveragePool2D")

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, out_h, out_w, channels]"""
        x = inputs[0].astype(np.int32)
        ones = np.ones((1, *x.shape[1:3], 1), np.int32)
        sums, counts = (
            windows_of(values, self.window_hw, self.stride_hw, self.padding, 0).sum(axis=(3, 4), dtype=np.int64)
            for values in (x, ones)
        )
        magnitude = (np.abs(sums) + counts // 2) // counts  # C's division truncates, so halves go away from zero
        y = graph.tensors[self.output].quant
        return clamp(np.where(sums > 0, magnitude, -magnitude), self.activation, y)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}  # may become a MEAN or a convolution, see mean.py
