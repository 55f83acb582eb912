"""CONV_2D. The numpy run follows TensorFlow Lite Micro's reference kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import flatbuffers
import numpy as np

from converter import quant
from converter.arrays import Int8, Int32, Int64
from converter.errors import ConvertError, require
from converter.formats.onnx import Importer, OnnxNode, OnnxRule, Value, feature_map, pending_map
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory, RowWindow
from converter.operators import weighted, windows
from converter.operators.activation import activation_slot, check_activation, read_activation
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.quant import Activation
from converter.tensor import QuantParams, Weights

ACTIVATION, DILATION_W, DILATION_H = 3, 4, 5  # of Conv2DOptions


@dataclass(frozen=True, eq=False)
class Conv2D:
    """A convolution of all input channels; weights [out, height, width, in]."""

    name: str
    input: int
    output: int
    weights_ohwi: Int8
    weight_quant: QuantParams
    bias: Int32
    stride_hw: tuple[int, int]
    padding: windows.Padding
    activation: Activation

    TFLITE: ClassVar = TfliteOperator("CONV_2D", 3, 1, 3, "AddConv2D", operands=2, int4_version=7)
    MEMORY: ClassVar[OutputMemory] = "own"
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor [1, H, W, C]."""
        return (self.input,)

    @property
    def weights(self) -> Weights:
        """OHWI."""
        return Weights(self.weights_ohwi, self.weight_quant, self.bias)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        check_activation(self.name, self.activation, y)
        require(self.weights_ohwi.ndim == 4, self.name, f"weights are [out, height, width, in], got {self._shape}")
        channels, height, width, depth = self._shape
        windows.check_windows(self.name, x, y, (height, width), self.stride_hw, self.padding, channels)
        rule = f"weights read {depth} input channels (groups are not supported), the input has {x.shape[3]}"
        require(x.shape[3] == depth, self.name, rule)
        weighted.check_constants(self.name, self.weights, channels)
        by_channel = self.weights_ohwi.reshape(channels, -1)
        weighted.check_weights(self.name, self.weights, by_channel, x.quant, self._multipliers(graph))

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.weights_ohwi.shape

    def _multipliers(self, graph: Graph) -> tuple[Int64, Int64]:
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        return quant.conv_multipliers(x, self.weight_quant, y, self._shape[0])

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n, out_h, out_w, channels]"""
        return self.from_sums(graph, self.sums(graph, inputs[0]))

    def sums(self, graph: Graph, x: Int8) -> Int64:
        """The sums before the bias: [n, out_h, out_w, channels]."""
        channels, height, width, _ = self._shape
        centred = x.astype(np.int32) - np.int32(graph.tensors[self.input].quant.zero_point)
        patches = windows.windows_of(centred, (height, width), self.stride_hw, self.padding, 0)
        columns = patches.reshape(*patches.shape[:3], -1)
        return weighted.exact_matmul(columns, self.weights_ohwi.reshape(channels, -1).T)

    def from_sums(self, graph: Graph, sums: Int64) -> Int8:
        """The outputs that such sums give."""
        y = graph.tensors[self.output].quant
        return weighted.requantize(sums + self.bias, self._multipliers(graph), self.activation, y)

    def cost(self, graph: Graph) -> Cost:
        """Every weight once per output position."""
        outputs = graph.tensors[self.output].size
        macs = outputs * self.weights_ohwi.size // len(self.bias)
        return Cost(macs, 2 * macs + outputs)

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """The clamp of the activation."""
        return quant.activation_range(self.activation, graph.tensors[self.output].quant)

    def rows(self, graph: Graph) -> RowWindow:
        """The window's height."""
        return windows.row_window(graph.tensors[self.input], self._shape[1], self.stride_hw[0], self.padding)

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """CMSIS-NN keeps two columns of int16 inputs, and a little more."""
        return 16 * len(self.bias), 4 * int(np.prod(self._shape[1:])) + 64

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """Conv2DOptions."""
        window = windows.window_slots(self.stride_hw, self.padding)
        return options_table(builder, *window, activation_slot(ACTIVATION, self.activation))

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Conv2D:
        """Operands: input, weights, bias."""
        stride_hw, padding = windows.read_window(node)
        activation = read_activation(node, ACTIVATION)
        weights, weight_quant = node.weights(1, axis=0)
        windows.refuse_dilation(node, weights.shape[1:3], DILATION_H, DILATION_W)
        bias = node.bias(2, weights.shape[0])
        return cls(node.name, node.input, node.output, weights, weight_quant, bias, stride_hw, padding, activation)

    @staticmethod
    def _from_conv(importer: Importer, node: OnnxNode) -> Value:
        """A Conv node, plain or depthwise."""
        name, x, rank = node.name, feature_map(importer, node), len(importer.activation(node).shape)
        weights = weighted.onnx_weights(importer, node, rank)
        channels, depth, *kernel = weights.array.shape
        height, width = kernel if rank == 4 else (1, *kernel)
        node = node if rank == 4 else windows.widened(node)
        window_hw, stride_hw = (height, width), windows.onnx_pair(node, "strides", node.integers("strides", (1, 1)))
        if node.integers("kernel_shape", window_hw) != window_hw:
            raise ConvertError(f"{name}: kernel_shape {node.integers('kernel_shape', ())} is not that of its weights")
        if node.integers("dilations", (1, 1)) != (1, 1):
            raise ConvertError(f"{name}: dilation is not supported, got {node.integers('dilations', (1, 1))}")
        if weights.quant.axis not in (None, 0):
            raise ConvertError(f"{name}: weight scales must lie along axis 0, got axis {weights.quant.axis}")
        own = windows.onnx_pads(node, x.shape[2:], window_hw, stride_hw)
        top, bottom, left, right = (a + b for a, b in zip(own, x.pads_tblr, strict=True))
        pads = (top, bottom, left, right)
        # zeros that TensorFlow Lite knows as SAME or VALID need no PAD layer
        same = any(pads) and pads == windows.same_pads(x.bare.shape[2:], window_hw, stride_hw)
        padding: windows.Padding = "SAME" if same else "VALID"
        x = importer.materialize(name, x.bare if same else x.padded(own))
        bias = np.zeros(channels, np.int32)
        if node.has_input(2):
            given = importer.value(node, 2)
            bias = weighted.onnx_bias(importer, name, given, importer.quant_of(x), weights.quant, channels)
        shape = windows.onnx_output_shape(x, channels, window_hw, stride_hw, padding)
        group, values = node.integer("group", 1), weights.array.astype(np.int8).reshape(channels, depth, height, width)
        if group == 1:
            ohwi: Int8 = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
            conv = Conv2D(name, x.base, -1, ohwi, weights.quant, bias, stride_hw, padding, "NONE")
            return pending_map(conv, shape, rank)
        if group != x.shape[1] or depth != 1 or channels % group:
            raise ConvertError(
                f"{name}: grouped convolution is supported only as depthwise, got {group} groups of {depth} channels"
            )
        along = replace(weights.quant, axis=None if weights.quant.axis is None else 3)
        hwc: Int8 = np.ascontiguousarray(values.transpose(1, 2, 3, 0))
        depthwise = DepthwiseConv2D(name, x.base, -1, hwc, along, bias, channels // group, stride_hw, padding, "NONE")
        return pending_map(depthwise, shape, rank)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Conv": _from_conv}
