"""DEPTHWISE_CONV_2D. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import flatbuffers
import numpy as np

from converter import quant
from converter.arrays import Int8, Int32, Int64
from converter.errors import require
from converter.formats.onnx import OnnxRule
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory, RowWindow
from converter.operators import weighted, windows
from converter.operators.activation import activation_slot, check_activation, read_activation
from converter.quant import Activation
from converter.tensor import QuantParams, Weights

DEPTH_MULTIPLIER, ACTIVATION, DILATION_W, DILATION_H = 3, 4, 5, 6  # of DepthwiseConv2DOptions


@dataclass(frozen=True, eq=False)
class DepthwiseConv2D:
    """Output channel c * depth_multiplier + m reads input channel c; weights [1, height, width, out]."""

    name: str
    input: int
    output: int
    weights_1hwc: Int8
    weight_quant: QuantParams
    bias: Int32
    depth_multiplier: int
    stride_hw: tuple[int, int]
    padding: windows.Padding
    activation: Activation

    TFLITE: ClassVar = TfliteOperator("DEPTHWISE_CONV_2D", 4, 2, 3, "AddDepthwiseConv2D", operands=2, int4_version=7)
    ONNX: ClassVar[Mapping[str, OnnxRule]] = {}  # a Conv node with groups, see conv2d.py
    MEMORY: ClassVar[OutputMemory] = "own"
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor [1, H, W, C]."""
        return (self.input,)

    @property
    def weights(self) -> Weights:
        """1HWC."""
        return Weights(self.weights_1hwc, self.weight_quant, self.bias)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y, shape = graph.tensors[self.input], graph.tensors[self.output], self.weights_1hwc.shape
        check_activation(self.name, self.activation, y)
        fits = len(shape) == 4 and shape[0] == 1
        require(fits, self.name, f"weights are [1, height, width, channels], got {shape}")
        channels = shape[3]
        windows.check_windows(self.name, x, y, (shape[1], shape[2]), self.stride_hw, self.padding, channels)
        fits = self.depth_multiplier >= 1 and x.shape[3] * self.depth_multiplier == channels
        rule = f"{channels} outputs are not {x.shape[3]} input channels x depth multiplier {self.depth_multiplier}"
        require(fits, self.name, rule)
        weighted.check_constants(self.name, self.weights, channels)
        by_channel = self.weights_1hwc.reshape(-1, channels).T
        weighted.check_weights(self.name, self.weights, by_channel, x.quant, self._multipliers(graph))

    def _multipliers(self, graph: Graph) -> tuple[Int64, Int64]:
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        return quant.conv_multipliers(x, self.weight_quant, y, self.weights_1hwc.shape[3])

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, out_h, out_w, channels]"""
        _, height, width, channels = self.weights_1hwc.shape
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        spread = np.repeat(inputs[0].astype(np.int32) - x.zero_point, self.depth_multiplier, axis=3)
        patches = windows.windows_of(spread, (height, width), self.stride_hw, self.padding, 0)
        weights = self.weights_1hwc[0].astype(np.int32)
        sums = np.zeros((*patches.shape[:3], channels), np.int32)
        for row in range(height):
            for column in range(width):
                sums += patches[:, :, :, row, column] * weights[row, column]
        return weighted.requantize(sums.astype(np.int64) + self.bias, self._multipliers(graph), self.activation, y)

    def cost(self, graph: Graph) -> Cost:
        """A window per output."""
        outputs = graph.tensors[self.output].size
        macs = outputs * self.weights_1hwc.size // len(self.bias)
        return Cost(macs, 2 * macs + outputs)

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """The clamp of the activation."""
        return quant.activation_range(self.activation, graph.tensors[self.output].quant)

    def rows(self, graph: Graph) -> RowWindow:
        """The window's height."""
        return windows.row_window(
            graph.tensors[self.input], self.weights_1hwc.shape[1], self.stride_hw[0], self.padding
        )

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """As CONV_2D; CMSIS-NN takes several outputs to an input without scratch."""
        return 16 * len(self.bias), 4 * self.weights_1hwc.size + 64 if self.depth_multiplier == 1 else 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """DepthwiseConv2DOptions."""
        multiplier = ("Int32", DEPTH_MULTIPLIER, self.depth_multiplier)
        activation = activation_slot(ACTIVATION, self.activation)
        return options_table(builder, *windows.window_slots(self.stride_hw, self.padding), multiplier, activation)

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> DepthwiseConv2D:
        """Operands: input, weights, bias."""
        stride_hw, padding = windows.read_window(node)
        activation = read_activation(node, ACTIVATION)
        weights, weight_quant = node.weights(1, axis=3)
        windows.refuse_dilation(node, weights.shape[1:3], DILATION_H, DILATION_W)
        bias = node.bias(2, weights.shape[-1])
        multiplier = weights.shape[-1] // node.tensor(node.input).shape[-1]  # as TFLite does, from the shapes
        return cls(
            node.name, node.input, node.output, weights, weight_quant, bias, multiplier, stride_hw, padding, activation
        )
