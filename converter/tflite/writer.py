"""Graph -> the bytes of a .tflite: scales bit for bit, constants 16-byte aligned, equal graphs give equal bytes.

Tensor i of the file is tensor i of the graph; constants follow. Operator i is layer i in the form that one_channel.py
gives it. The metadata entry `kws_spec` carries the spec. Weights of 4 bits or fewer may be written as type INT4, two to
a byte, the first in the lower half: TensorFlow Lite Micro reads them, but outside of its newest CMSIS-NN kernels it
unpacks them into the arena and computes with its slow reference kernels, so int8 is what is written unless int4 is
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from converter.graph import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    Layer,
    MaxPool2D,
    Pad,
    Padding,
    QuantParams,
    Reshape,
    Softmax,
    assert_never,
    layer_inputs,
)
from converter.tflite import schema
from converter.tflite.one_channel import graph_in_tflite

ALIGNMENT = 16
PER_CHANNEL_DENSE_VERSION = 12


def write_tflite(graph: Graph, int4: bool = False) -> bytes:
    """A .tflite that TensorFlow Lite, LiteRT and TensorFlow Lite Micro load; read_tflite gives the graph back.

    int4: weights that fit take half a byte.
    """
    return _Writer(graph_in_tflite(graph), int4).file()


def weights_of(layer: Layer) -> NDArray[np.int8] | None:
    """A layer's weights in TensorFlow Lite's order; None when it has none."""
    if isinstance(layer, Conv2D):
        return layer.weights_ohwi
    if isinstance(layer, DepthwiseConv2D):
        return layer.weights_1hwc
    return layer.weights_oi if isinstance(layer, FullyConnected) else None


def weight_bits(layer: Layer) -> int:
    """The least width in two's complement that holds a layer's weights, 2 to 8; 0 when it has none."""
    weights = weights_of(layer)
    if weights is None:
        return 0
    low, high = int(weights.min()), int(weights.max())
    return next(bits for bits in range(2, 9) if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1))


def fits_int4(layer: Layer) -> bool:
    """Whether TensorFlow Lite Micro takes the layer's weights as int4: a dense layer may have one scale only."""
    return 0 < weight_bits(layer) <= 4 and not (
        isinstance(layer, FullyConnected) and len(layer.weight_quant.scales) > 1
    )


def operator_name(layer: Layer) -> str:
    """The TensorFlow Lite name of a layer's operator."""
    match layer:
        case Conv2D():
            return "CONV_2D"
        case DepthwiseConv2D():
            return "DEPTHWISE_CONV_2D"
        case FullyConnected():
            return "FULLY_CONNECTED"
        case AveragePool2D():
            return "AVERAGE_POOL_2D"
        case MaxPool2D():
            return "MAX_POOL_2D"
        case Add():
            return "ADD"
        case Reshape():
            return "RESHAPE"
        case Softmax():
            return "SOFTMAX"
        case Pad():
            return "PAD"
        case _:
            assert_never(layer)


def operator_version(layer: Layer, int4: bool = False) -> int:
    """The least operator version whose kernel computes the layer as this project does; int4: on int4 weights where they
    fit."""
    if isinstance(layer, FullyConnected) and len(layer.weight_quant.scales) > 1:
        return PER_CHANNEL_DENSE_VERSION
    if int4 and fits_int4(layer):
        return schema.INT4_VERSIONS[operator_name(layer)]
    return schema.KINDS[operator_name(layer)].version


@dataclass(frozen=True)
class _Constant:
    name: str
    values: NDArray[np.generic]
    kind: int
    quant: QuantParams | None

    @property
    def payload(self) -> bytes:
        return pack_int4(self.values) if self.kind == schema.INT4 else self.values.tobytes()


def pack_int4(values: NDArray[np.generic]) -> bytes:
    """Two values to a byte, the first in the lower half; an odd count is filled with 0."""
    halves = values.reshape(-1).astype(np.int64) & 15
    padded = np.append(halves, np.zeros(len(halves) % 2, np.int64))
    return bytes((padded[0::2] | (padded[1::2] << 4)).astype(np.uint8))


@dataclass
class _Writer:
    graph: Graph
    int4: bool = False
    constants: list[_Constant] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def file(self) -> bytes:
        b, graph = self.builder, self.graph
        inputs = [self._inputs(layer) for layer in graph.layers]  # fills self.constants
        payloads = [b"", *(c.payload for c in self.constants)]
        metadata = []
        if graph.spec_json:
            metadata = [self._metadata(schema.SPEC_METADATA, len(payloads))]
            payloads.append(graph.spec_json.encode())
        buffers = self._offsets([self._buffer(payload) for payload in payloads])
        codes = sorted(
            {(schema.KINDS[operator_name(layer)].number, operator_version(layer, self.int4)) for layer in graph.layers}
        )
        operators = [
            self._operator(layer, operands, codes) for layer, operands in zip(graph.layers, inputs, strict=True)
        ]
        subgraph = self._subgraph(self._offsets(self._tensors()), self._offsets(operators))
        fields = {
            schema.Model.OPERATOR_CODES: self._offsets([self._code(*code) for code in codes]),
            schema.Model.SUBGRAPHS: self._offsets([subgraph]),
            schema.Model.DESCRIPTION: b.CreateString("nano33-kws"),
            schema.Model.BUFFERS: buffers,
            schema.Model.METADATA: self._offsets(metadata),
        }
        b.StartObject(7)
        b.PrependUint32Slot(schema.Model.VERSION, schema.SCHEMA_VERSION, 0)
        self._end_offsets(fields)
        b.Finish(b.EndObject(), file_identifier=schema.IDENTIFIER)
        return bytes(b.Output())

    def _end_offsets(self, fields: dict[int, int]) -> None:
        for number, offset in fields.items():
            self.builder.PrependUOffsetTRelativeSlot(number, offset, 0)

    def _offsets(self, items: Sequence[int]) -> int:
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.builder.PrependUOffsetTRelative(item)
        return int(self.builder.EndVector())

    def _raw(self, data: bytes, item_bytes: int, alignment: int) -> int:
        """A vector of ready little-endian items."""
        b = self.builder
        b.StartVector(item_bytes, len(data) // item_bytes, alignment)
        b.head = b.head - len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        return int(b.EndVector())

    def _ints(self, values: Sequence[int]) -> int:
        return self._raw(np.asarray(values, "<i4").tobytes(), 4, 4)

    def _buffer(self, payload: bytes) -> int:
        data = self._raw(payload, 1, ALIGNMENT) if payload else 0
        self.builder.StartObject(1)
        self._end_offsets({0: data} if data else {})
        return int(self.builder.EndObject())

    def _metadata(self, name: str, buffer: int) -> int:
        text = self.builder.CreateString(name)
        self.builder.StartObject(2)
        self._end_offsets({schema.Metadata.NAME: text})
        self.builder.PrependUint32Slot(schema.Metadata.BUFFER, buffer, 0)
        return int(self.builder.EndObject())

    def _code(self, number: int, version: int) -> int:
        b = self.builder
        b.StartObject(4)
        b.PrependInt8Slot(schema.OperatorCode.OLD_BUILTIN, number, 0)
        b.PrependInt32Slot(schema.OperatorCode.VERSION, version, 1)
        b.PrependInt32Slot(schema.OperatorCode.BUILTIN, number, 0)
        return int(b.EndObject())

    def _subgraph(self, tensors: int, operators: int) -> int:
        fields = {
            schema.SubGraph.TENSORS: tensors,
            schema.SubGraph.INPUTS: self._ints([self.graph.input]),
            schema.SubGraph.OUTPUTS: self._ints([self.graph.output]),
            schema.SubGraph.OPERATORS: operators,
            schema.SubGraph.NAME: self.builder.CreateString("main"),
        }
        self.builder.StartObject(5)
        self._end_offsets(fields)
        return int(self.builder.EndObject())

    def _tensors(self) -> list[int]:
        activations = [self._tensor(t.name, t.shape, schema.INT8, 0, t.quant) for t in self.graph.tensors]
        constants = [self._tensor(c.name, c.values.shape, c.kind, 1 + i, c.quant) for i, c in enumerate(self.constants)]
        return activations + constants

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, buffer: int, quant: QuantParams | None) -> int:
        b = self.builder
        fields = {schema.TensorTable.SHAPE: self._ints(shape), schema.TensorTable.NAME: b.CreateString(name)}
        if quant is not None:
            fields[schema.TensorTable.QUANTIZATION] = self._quant(quant)
        b.StartObject(8)
        b.PrependInt8Slot(schema.TensorTable.TYPE, kind, 0)
        b.PrependUint32Slot(schema.TensorTable.BUFFER, buffer, 0)
        self._end_offsets(fields)
        return int(b.EndObject())

    def _quant(self, quant: QuantParams) -> int:
        fields = {
            schema.Quantization.SCALE: self._raw(np.asarray(quant.scales, "<f4").tobytes(), 4, 4),
            schema.Quantization.ZERO_POINT: self._raw(np.asarray(quant.zero_points, "<i8").tobytes(), 8, 8),
        }
        self.builder.StartObject(7)
        self._end_offsets(fields)
        self.builder.PrependInt32Slot(schema.Quantization.QUANTIZED_DIMENSION, quant.axis or 0, 0)
        return int(self.builder.EndObject())

    def _inputs(self, layer: Layer) -> list[int]:
        """Operand numbers of a layer, its constants registered."""
        operands, name = list(layer_inputs(layer)), self.graph.tensors[layer.output].name
        if isinstance(layer, Pad):
            return [*operands, self._constant(f"{name}/pads", np.asarray(layer.pads, "<i4"), schema.INT32, None)]
        weights = weights_of(layer)
        if weights is None or not isinstance(layer, (Conv2D, DepthwiseConv2D, FullyConnected)):
            return operands
        kind = schema.INT4 if self.int4 and fits_int4(layer) else schema.INT8
        bias_quant = _bias_quant(self.graph.tensors[layer.input].quant, layer.weight_quant)
        return [
            *operands,
            self._constant(f"{name}/weights", weights, kind, layer.weight_quant),
            self._constant(f"{name}/bias", layer.bias.astype("<i4"), schema.INT32, bias_quant),
        ]

    def _constant(self, name: str, values: NDArray[np.generic], kind: int, quant: QuantParams | None) -> int:
        self.constants.append(_Constant(name, values, kind, quant))
        return len(self.graph.tensors) + len(self.constants) - 1

    def _operator(self, layer: Layer, operands: list[int], codes: list[tuple[int, int]]) -> int:
        kind = schema.KINDS[operator_name(layer)]
        options = self._options(layer)
        fields = {
            schema.Operator.INPUTS: self._ints(operands),
            schema.Operator.OUTPUTS: self._ints([layer.output]),
            schema.Operator.OPTIONS: options,
        }
        self.builder.StartObject(5)
        self.builder.PrependUint32Slot(
            schema.Operator.OPCODE_INDEX, codes.index((kind.number, operator_version(layer, self.int4))), 0
        )
        self.builder.PrependUint8Slot(schema.Operator.OPTIONS_TYPE, kind.options, 0)
        self._end_offsets(fields)
        return int(self.builder.EndObject())

    def _options(self, layer: Layer) -> int:
        b = self.builder
        new_shape = self._ints(self.graph.tensors[layer.output].shape) if isinstance(layer, Reshape) else 0
        b.StartObject(7)
        match layer:
            case Conv2D():
                self._window(layer.padding, layer.stride_hw)
                self._fused(schema.ConvOptions.ACTIVATION, layer)
            case DepthwiseConv2D():
                self._window(layer.padding, layer.stride_hw)
                b.PrependInt32Slot(schema.DepthwiseOptions.DEPTH_MULTIPLIER, layer.depth_multiplier, 0)
                self._fused(schema.DepthwiseOptions.ACTIVATION, layer)
            case FullyConnected():
                self._fused(schema.FullyConnectedOptions.ACTIVATION, layer)
                b.PrependBoolSlot(
                    schema.FullyConnectedOptions.KEEP_NUM_DIMS, len(self.graph.tensors[layer.output].shape) != 2, False
                )
            case AveragePool2D() | MaxPool2D():
                self._window(layer.padding, layer.stride_hw)
                b.PrependInt32Slot(schema.PoolOptions.WINDOW_W, layer.window_hw[1], 0)
                b.PrependInt32Slot(schema.PoolOptions.WINDOW_H, layer.window_hw[0], 0)
                self._fused(schema.PoolOptions.ACTIVATION, layer)
            case Add():
                self._fused(schema.AddOptions.ACTIVATION, layer)
            case Reshape():
                b.PrependUOffsetTRelativeSlot(schema.ReshapeOptions.NEW_SHAPE, new_shape, 0)
            case Softmax():
                b.PrependFloat32Slot(schema.SoftmaxOptions.BETA, layer.beta, 0.0)
            case Pad():
                pass
            case _:
                assert_never(layer)
        return int(b.EndObject())

    def _window(self, padding: Padding, stride_hw: tuple[int, int]) -> None:
        self.builder.PrependInt8Slot(schema.ConvOptions.PADDING, schema.PADDINGS.index(padding), 0)
        self.builder.PrependInt32Slot(schema.ConvOptions.STRIDE_W, stride_hw[1], 0)
        self.builder.PrependInt32Slot(schema.ConvOptions.STRIDE_H, stride_hw[0], 0)

    def _fused(
        self, field_number: int, layer: Conv2D | DepthwiseConv2D | FullyConnected | AveragePool2D | MaxPool2D | Add
    ) -> None:
        self.builder.PrependInt8Slot(field_number, schema.ACTIVATION_NUMBERS[layer.activation], 0)


def _bias_quant(x: QuantParams, weights: QuantParams) -> QuantParams:
    """The bias scale is input scale x weight scale, rounded to float32 once."""
    scales = tuple(float(np.float32(x.scale) * np.float32(scale)) for scale in weights.scales)
    return QuantParams(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)
