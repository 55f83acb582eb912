"""FULLY_CONNECTED. The numpy run follows TensorFlow Lite Micro's reference kernel of 2026 (quant.py says how older ones
round)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import flatbuffers
import numpy as np

from converter import quant
from converter.arrays import Int8, Int32, Int64
from converter.errors import ConvertError, require
from converter.formats.onnx import NO_PADS, Importer, OnnxNode, OnnxRule, PendingLayer, Value, pending
from converter.formats.tflite import TfliteNode, TfliteOperator, options_table
from converter.graph import Bounds, Cost, Graph, OutputMemory
from converter.operators import weighted
from converter.operators.activation import activation_slot, check_activation, read_activation
from converter.operators.conv2d import Conv2D
from converter.quant import Activation
from converter.tensor import QuantParams, Weights

ACTIVATION, WEIGHTS_FORMAT, KEEP_NUM_DIMS = range(3)  # of FullyConnectedOptions


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """A dense layer; weights [out, in]. An input of several times as many values is rows, each a product of its own."""

    name: str
    input: int
    output: int
    weights_oi: Int8
    weight_quant: QuantParams
    bias: Int32
    activation: Activation

    TFLITE: ClassVar = TfliteOperator(
        "FULLY_CONNECTED", 9, 8, 4, "AddFullyConnected", operands=2, int4_version=10, per_channel_version=12
    )
    MEMORY: ClassVar[OutputMemory] = "own"
    constants: ClassVar[tuple[()]] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """One tensor of any shape."""
        return (self.input,)

    @property
    def weights(self) -> Weights:
        """OI."""
        return Weights(self.weights_oi, self.weight_quant, self.bias)

    def check(self, graph: Graph) -> None:
        """Raises ConvertError."""
        x, y = graph.tensors[self.input], graph.tensors[self.output]
        check_activation(self.name, self.activation, y)
        require(self.weights_oi.ndim == 2, self.name, f"weights are [out, in], got {self.weights_oi.shape}")
        channels, depth = self.weights_oi.shape
        rows = x.size // depth
        require(x.size == rows * depth, self.name, f"weights read rows of {depth} values, the input has {x.size}")
        fits = y.size == rows * channels and (rows == 1 or y.shape[-1] == channels)
        require(fits, self.name, f"the output has {rows} rows of {channels} values, got shape {y.shape}")
        weighted.check_constants(self.name, self.weights, channels)
        weighted.check_weights(self.name, self.weights, self.weights_oi, x.quant, self._multipliers(graph))

    def _multipliers(self, graph: Graph) -> tuple[Int64, Int64]:
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        return quant.fully_connected_multipliers(x, self.weight_quant, y, self.weights_oi.shape[0])

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """[n * rows, out]"""
        x, y = graph.tensors[self.input].quant, graph.tensors[self.output].quant
        centred = inputs[0].reshape(-1, self.weights_oi.shape[1]).astype(np.int32) - np.int32(x.zero_point)
        sums = weighted.exact_matmul(centred, self.weights_oi.T) + self.bias
        return weighted.requantize(sums, self._multipliers(graph), self.activation, y)

    def cost(self, graph: Graph) -> Cost:
        """Every weight once a row."""
        macs = self.weights_oi.size * (graph.tensors[self.input].size // self.weights_oi.shape[1])
        return Cost(macs, 2 * macs + graph.tensors[self.output].size)

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """The clamp of the activation."""
        return quant.activation_range(self.activation, graph.tensors[self.output].quant)

    def rows(self, graph: Graph) -> None:
        """Mixes all rows."""

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """Multipliers per output."""
        return 16 * len(self.bias), 0

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """FullyConnectedOptions."""
        keeps_dims = ("Bool", KEEP_NUM_DIMS, len(graph.tensors[self.output].shape) != 2)
        return options_table(builder, activation_slot(ACTIVATION, self.activation), keeps_dims)

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> FullyConnected:
        """Operands: input, weights, bias."""
        if node.options.number(WEIGHTS_FORMAT, "b", 0) != 0:
            raise ConvertError(
                f"{node.name}: shuffled FULLY_CONNECTED weights are not supported; export plain int8 weights"
            )
        weights, weight_quant = node.weights(1, axis=0)
        bias = node.bias(2, weights.shape[0])
        return cls(node.name, node.input, node.output, weights, weight_quant, bias, read_activation(node, ACTIVATION))

    @staticmethod
    def _from_gemm(importer: Importer, node: OnnxNode) -> Value:
        """A Gemm node of plain factors, with its bias."""
        factors = node.real("alpha", 1.0), node.real("beta", 1.0), node.integer("transA", 0)
        if factors != (1.0, 1.0, 0):
            raise ConvertError(f"{node.name}: alpha and beta must be 1 and transA 0; fold them into the weights")
        bias = importer.value(node, 2) if node.has_input(2) else None
        return _dense(importer, node, is_oi=node.integer("transB", 0) == 1, bias=bias)

    @staticmethod
    def _from_matmul(importer: Importer, node: OnnxNode) -> Value:
        """A MatMul node; an Add behind it may bring its bias."""
        return _dense(importer, node, is_oi=False, bias=None)

    ONNX: ClassVar[Mapping[str, OnnxRule]] = {"Gemm": _from_gemm, "MatMul": _from_matmul}


def _dense(importer: Importer, node: OnnxNode, is_oi: bool, bias: Value | None) -> PendingLayer:
    name, weights, out_axis = node.name, weighted.onnx_weights(importer, node, 2), 0 if is_oi else 1
    if weights.quant.axis not in (None, out_axis):
        raise ConvertError(
            f"{name}: weight scales must lie along the outputs (axis {out_axis}), got axis {weights.quant.axis}"
        )
    params = replace(weights.quant, axis=None if weights.quant.axis is None else 0)
    values = weights.array.astype(np.int8)
    weights_oi = values if is_oi else values.T
    channels, depth = weights_oi.shape
    x = importer.activation(node)
    if x.pads_tblr != NO_PADS or x.shape[-1] != depth:
        raise ConvertError(f"{name}: its weights read {depth} values, the last axis of its input, got {x.shape}")
    if x.layout != "plain" or math.prod(x.shape) != depth:
        x = importer.in_order(name, x)
    if x.chw is not None:
        weights_oi = weights_oi.reshape(channels, *x.chw).transpose(0, 2, 3, 1).reshape(channels, depth)
    if len(set(params.scales)) == 1:
        params = QuantParams(params.scales[:1], params.zero_points[:1])
    sums_from = np.zeros(channels, np.int32)
    if bias is not None:
        sums_from = weighted.onnx_bias(importer, name, bias, importer.quant_of(x), params, channels)
    rows = math.prod(x.shape[:-1])
    if rows == 1:
        layer = FullyConnected(name, x.base, -1, np.ascontiguousarray(weights_oi), params, sums_from, "NONE")
        return pending(layer, (*x.shape[:-1], channels), "plain")
    base = importer.materialize(name, replace(x, shape=(1, 1, rows, depth))).base
    ohwi = np.ascontiguousarray(weights_oi).reshape(channels, 1, 1, depth)
    conv = Conv2D(name, base, -1, ohwi, params, sums_from, (1, 1), "VALID", "NONE")
    return replace(pending(conv, (*x.shape[:-1], channels), "plain"), stored=(1, 1, rows, channels))
