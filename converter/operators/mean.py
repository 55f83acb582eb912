"""MEAN over axes that lie beside each other. The numpy run follows TensorFlow Lite's QuantizedMeanOrSum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import flatbuffers
import numpy as np

from converter import quant
from converter.arrays import Int8, Int32
from converter.errors import ConvertError, require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, PendingLayer, Value, axes_of, feature_map, pending_map
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, Operator, OutputMemory
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.pool import SCALE_TOLERANCE, from_onnx_global_pool, from_onnx_pool
from converter.tensor import QuantParams

KEEP_DIMS = 0  # of ReducerOptions
INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean over axes beside each other, the batch not among them, on an output scale of its own; in the output they
    are 1 (keep_dims) or left out. Over height and width (1, 2) it is a channel's."""

    name: str
    input: int
    output: int
    axes: tuple[int, ...] = (1, 2)

    TFLITE: ClassVar = TfliteOperator("MEAN", 40, 27, 2, "AddMean", operands=2)
    MEMORY: ClassVar[OutputMemory] = "own"
    weights: ClassVar[None] = None

    @property
    def constants(self) -> tuple[tuple[str, Int32], ...]:
        """The axes."""
        return (("axes", np.array(self.axes, np.int32)),)

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor [1, ...]."""
        return (self.input,)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        run = bool(self.axes) and self.axes == tuple(range(self.axes[0], self.axes[-1] + 1))
        told = f"MEAN is supported over axes beside each other, the batch not among them, got {self.axes} of {x.shape}"
        require(run and self.axes[0] >= 1 and self.axes[-1] < len(x.shape), self.name, told)
        kept = tuple(1 if axis in self.axes else size for axis, size in enumerate(x.shape))
        left = tuple(size for axis, size in enumerate(x.shape) if axis not in self.axes)
        require(y.shape in (kept, left), self.name, f"the output is {kept} or {left}, got {y.shape}")
        reach = max(127 - x.quant.zero_point, 128 + x.quant.zero_point) * self.count(graph)
        fine = reach << max(self.multiplier(graph)[1], 0) <= INT32_MAX
        rule = f"a sum of {self.count(graph)} values on output scale {y.quant.scale:.9g} can overflow int32"
        require(fine, self.name, f"{rule}; make the map smaller or the scale larger")

    def count(self, graph: Graph) -> int:
        """Values to a mean."""
        return self.split(graph)[1]

    def split(self, graph: Graph) -> tuple[int, int, int]:
        """(maps, values to a mean, channels): the input's sizes before, in and behind the axes."""
        shape = graph.tensors[self.input].shape
        first, past = self.axes[0], self.axes[-1] + 1
        return math.prod(shape[:first]), math.prod(shape[first:past]), math.prod(shape[past:])

    def multiplier(self, graph: Graph) -> tuple[int, int]:
        """(mantissa, shift) that take a sum to the output scale: the quotient of the scales with the division by the
        count in its mantissa, whose bits the shift makes up for."""
        x, y, count = graph.tensors[self.input].quant, graph.tensors[self.output].quant, self.count(graph)
        mantissa, shift = quant.quantize_multiplier(x.scale / y.scale)
        bits = min(count.bit_length() - 1, 32, 31 + shift)
        return (mantissa << bits) // count, shift - bits

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, maps * channels]"""
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        values = inputs[0].reshape(len(inputs[0]), *self.split(graph))
        sums = values.sum(axis=2, dtype=np.int64).reshape(len(values), -1) - self.count(graph) * x.zero_point
        scaled = quant.multiply_by_quantized_multiplier(sums, *self.multiplier(graph))
        return np.clip(scaled + y.zero_point, -128, 127).astype(np.int8)

    def cost(self, graph: Graph) -> Cost:
        """Every input once."""
        return Cost(operations=graph.tensors[self.input].size)

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """The means of maps that are everywhere at one of the input's bounds."""
        shape = (1, *graph.tensors[self.input].shape[1:])
        low, high = (int(self.run(graph, [np.full(shape, edge, np.int8)])[0, 0]) for edge in x)
        return low, high

    def rows(self, graph: Graph) -> None:
        """Mixes all rows."""

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """An int32 sum per output, the axes and an index."""
        return 0, 4 * graph.tensors[self.output].size + 64

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """ReducerOptions."""
        rank = len(graph.tensors[self.input].shape)
        return options_table(builder, ("Bool", KEEP_DIMS, len(graph.tensors[self.output].shape) == rank))

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Mean:
        """Operands: input, axes; the output's shape says whether dimensions are kept."""
        axes, rank = node.integers(1).ravel().tolist(), len(node.tensor(node.input).shape)
        require(len(axes) <= rank, node.name, f"names {len(axes)} axes of {rank}")
        return cls(node.name, node.input, node.output, tuple(sorted({a + rank if a < 0 else a for a in axes})))

    @staticmethod
    def _from_global_pool(importer: Importer, node: OnnxNode) -> PendingLayer:
        """A GlobalAveragePool node."""
        return _on_any_scale(importer, from_onnx_global_pool(AveragePool2D, importer, node))

    @staticmethod
    def _from_average_pool(importer: Importer, node: OnnxNode) -> PendingLayer:
        """An AveragePool node; where padding counts it becomes a PAD."""
        counts_zeros = node.integer("count_include_pad", 0) == 1
        return _on_any_scale(importer, from_onnx_pool(AveragePool2D, importer, node, counts_zeros))

    @staticmethod
    def _from_reduce_mean(importer: Importer, node: OnnxNode) -> Value:
        """A ReduceMean node over height and width, or over one of them."""
        x, rank = feature_map(importer, node), len(importer.activation(node).shape)
        given = axes_of(importer, node)
        axes = {axis + rank if axis < 0 else axis for axis in given}
        if not axes or not axes <= set(range(2, rank)):
            raise ConvertError(
                f"{node.name}: ReduceMean is supported over height and width (axes 2, 3 of [1, channels, height, "
                f"width]), got axes {given} of {rank}"
            )
        kept = [axis not in axes for axis in range(rank)]
        height, width = (1 if stays else size for stays, size in zip(kept[-2:], x.shape[2:], strict=True))
        x = importer.materialize(node.name, x)
        pool = AveragePool2D(node.name, x.base, -1, (height, width), (height, width), "VALID", "NONE")
        shape = (1, x.shape[1], x.shape[2] // height, x.shape[3] // width)
        found = _on_any_scale(importer, pending_map(pool, shape, rank))
        if node.integer("keepdims", 1):
            return found
        left = tuple(size for size, stays in zip(found.shape, kept, strict=True) if stays)
        return replace(found, shape=left, layout="plain" if len(left) == 2 else "ncw")

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {
        "AveragePool": _from_average_pool,
        "GlobalAveragePool": _from_global_pool,
        "ReduceMean": _from_reduce_mean,
    }


def _on_any_scale(importer: Importer, pool: PendingLayer) -> PendingLayer:
    """An average pool where its input and output share one scale. Else a MEAN, which has a scale of its own, or a
    depthwise convolution by weights of 1, whose sum is exact; a pool whose padding does not count stays."""
    layer = pool.layer
    assert isinstance(layer, AveragePool2D)
    shape, x = importer.stored(layer.input)
    height, width = layer.window_hw

    def choose(_: Operator, y: QuantParams) -> Operator:
        if (x.zero_point == y.zero_point and abs(x.scale - y.scale) <= SCALE_TOLERANCE) or layer.padding == "SAME":
            return layer
        if layer.window_hw == shape[1:3]:
            return Mean(layer.name, layer.input, -1)
        ones = np.ones((1, height, width, shape[3]), np.int8)
        share = QuantParams((float(np.float32(1 / (height * width))),), (0,))
        zeros = np.zeros(shape[3], np.int32)
        return DepthwiseConv2D(layer.name, layer.input, -1, ones, share, zeros, 1, layer.stride_hw, "VALID", "NONE")

    return replace(pool, choose=choose)
