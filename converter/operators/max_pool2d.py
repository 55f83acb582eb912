"""MAX_POOL_2D. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from converter.arrays import Int8
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value
from converter.formats.tflite import TfliteOperator
from converter.graph import Graph
from converter.operators.activation import clamp
from converter.operators.pool import Pool2D, from_onnx_global_pool, from_onnx_pool
from converter.operators.windows import windows_of


@dataclass(frozen=True, eq=False)
class MaxPool2D(Pool2D):
    """The largest value of a window."""

    TFLITE: ClassVar = TfliteOperator("MAX_POOL_2D", 17, 5, 2, "AddMaxPool2D")

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, out_h, out_w, channels]"""
        windows = windows_of(inputs[0].astype(np.int32), self.window_hw, self.stride_hw, self.padding, -128)
        return clamp(windows.max(axis=(3, 4)).astype(np.int64), self.activation, graph.tensors[self.output].quant)

    @staticmethod
    def _from_max_pool(importer: Importer, node: OnnxNode) -> Value:
        """A MaxPool node."""
        return from_onnx_pool(MaxPool2D, importer, node, counts_zeros=False)

    @staticmethod
    def _from_global_pool(importer: Importer, node: OnnxNode) -> Value:
        """A GlobalMaxPool node."""
        return from_onnx_global_pool(MaxPool2D, importer, node)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"MaxPool": _from_max_pool, "GlobalMaxPool": _from_global_pool}
