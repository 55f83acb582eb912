"""A .tflite file -> Graph: any int8 model of the supported operators, whoever made it. Untrusted bytes give one
ConvertError."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from converter.check import MAX_ELEMENTS, check, check_spec, check_tensor
from converter.graph import (
    Activation,
    Add,
    AveragePool2D,
    Conv2D,
    ConvertError,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    Int8,
    Int32,
    Layer,
    MaxPool2D,
    Pad,
    Padding,
    QuantParams,
    Reshape,
    Softmax,
    Tensor,
    layer_name,
)
from converter.tflite import schema
from converter.tflite.one_channel import in_graph
from converter.tflite.schema import Table


def read_tflite(data: bytes) -> Graph:
    """The checked Graph of a .tflite's bytes; tensors are numbered input first, then in order of the layers that write
    them."""
    model = Table.root(data)
    version = model.number(schema.Model.VERSION, "I", 0)
    if version != schema.SCHEMA_VERSION:
        raise ConvertError(f"the .tflite schema version must be {schema.SCHEMA_VERSION}, got {version}")
    subgraphs = model.tables(schema.Model.SUBGRAPHS)
    if len(subgraphs) != 1:
        raise ConvertError(f"the model must have one subgraph, got {len(subgraphs)}; control flow is not supported")
    return _Reader(model, subgraphs[0]).graph()


@dataclass
class _Options:
    """The attributes that windowed operators share."""

    stride_hw: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass
class _Reader:
    model: Table
    subgraph: Table
    tensors: list[Tensor] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)  # file's tensor index -> graph's

    def __post_init__(self) -> None:
        self.tables = self.subgraph.tables(schema.SubGraph.TENSORS)
        self.buffers = self.model.tables(schema.Model.BUFFERS)
        self.codes = self.model.tables(schema.Model.OPERATOR_CODES)

    def graph(self) -> Graph:
        inputs, outputs = (self.subgraph.numbers(f, "i") for f in (schema.SubGraph.INPUTS, schema.SubGraph.OUTPUTS))
        if len(inputs) != 1 or len(outputs) != 1:
            raise ConvertError(f"the model must have one input and one output, got {len(inputs)} and {len(outputs)}")
        self._activation("input", inputs[0])
        layers = [
            self._layer(index, table) for index, table in enumerate(self.subgraph.tables(schema.SubGraph.OPERATORS))
        ]
        if outputs[0] not in self.numbers:
            raise ConvertError("no operator writes the model's output")
        graph = Graph(
            tuple(self.tensors), tuple(layers), self.numbers[inputs[0]], self.numbers[outputs[0]], self._spec_json()
        )
        return check_spec(check(graph))

    def _spec_json(self) -> str:
        for entry in self.model.tables(schema.Model.METADATA):
            if entry.text(schema.Metadata.NAME) == schema.SPEC_METADATA:
                return self._buffer(schema.SPEC_METADATA, entry.number(schema.Metadata.BUFFER, "I", 0)).decode(
                    "utf-8", "replace"
                )
        return ""

    def _buffer(self, where: str, index: int) -> bytes:
        if not 0 <= index < len(self.buffers):
            raise ConvertError(f"{where}: buffer {index} does not exist, the file has {len(self.buffers)}")
        return self.buffers[index].bytes(0)

    def _table(self, where: str, index: int) -> Table:
        if not 0 <= index < len(self.tables):
            raise ConvertError(f"{where}: tensor {index} does not exist, the file has {len(self.tables)}")
        return self.tables[index]

    def _name(self, index: int) -> str:
        return self._table("operator", index).text(schema.TensorTable.NAME) or f"tensor_{index}"

    def _quant(self, name: str, table: Table) -> QuantParams:
        found = table.table(schema.TensorTable.QUANTIZATION)
        scales = found.reals(schema.Quantization.SCALE) if found else []
        if found is None or not scales:
            raise ConvertError(f"{name}: has no quantization; only fully int8 models are supported, quantize it first")
        zero_points = found.numbers(schema.Quantization.ZERO_POINT, "q") or [0] * len(scales)
        axis = found.number(schema.Quantization.QUANTIZED_DIMENSION, "i", 0) if len(scales) > 1 else None
        return QuantParams(tuple(scales), tuple(zero_points), axis)

    def _type(self, where: str, index: int) -> int:
        return self._table(where, index).number(schema.TensorTable.TYPE, "b", schema.FLOAT32)

    def _require_type(self, where: str, index: int, wanted: int) -> None:
        found = self._type(where, index)
        if found != wanted:
            want, got = schema.TYPE_NAMES[wanted], schema.TYPE_NAMES.get(found, f"type {found}")
            raise ConvertError(
                f"{where}: tensor {self._name(index)} must be {want}, got {got}; quantize the model to int8"
            )

    def _activation(self, where: str, index: int) -> int:
        """The graph's number of an int8 activation, new or known."""
        if index in self.numbers:
            return self.numbers[index]
        self._require_type(where, index, schema.INT8)
        table, name = self._table(where, index), self._name(index)
        shape = tuple(table.numbers(schema.TensorTable.SHAPE, "i"))
        if -1 in table.numbers(schema.TensorTable.SHAPE_SIGNATURE, "i")[1:] or -1 in shape:
            raise ConvertError(f"{where}: tensor {name} has a dynamic shape; export the model with fixed sizes")
        tensor = Tensor(name, shape, self._quant(name, table))
        check_tensor(tensor)
        self.numbers[index] = len(self.tensors)
        self.tensors.append(tensor)
        return self.numbers[index]

    def _known(self, where: str, index: int) -> int:
        """The graph's number of an operand that an earlier operator, or the input, provides."""
        if index not in self.numbers:
            self._require_type(where, index, schema.INT8)
            raise ConvertError(
                f"{where}: operand {self._name(index)} is a constant or not yet computed; fold it or order the "
                f"operators"
            )
        return self.numbers[index]

    def _constant(
        self, where: str, index: int, kind: int, dtype: str
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        self._require_type(where, index, kind)
        table = self._table(where, index)
        shape = table.numbers(schema.TensorTable.SHAPE, "i")
        data = self._buffer(where, table.number(schema.TensorTable.BUFFER, "I", 0))
        count = math.prod(shape)
        fits = (
            len(shape) <= 5
            and all(0 < size <= MAX_ELEMENTS for size in shape)
            and len(data) == count * np.dtype(dtype).itemsize
        )
        if not fits:
            name = self._name(index)
            raise ConvertError(
                f"{where}: constant {name} of shape {shape} holds {len(data)} bytes; sparse or external data is not "
                f"read"
            )
        return np.frombuffer(data, dtype).reshape(shape)

    def _int4(self, where: str, index: int) -> Int8:
        """Two values to a byte, the first in the lower half."""
        shape = self._table(where, index).numbers(schema.TensorTable.SHAPE, "i")
        data = self._buffer(where, self._table(where, index).number(schema.TensorTable.BUFFER, "I", 0))
        count = math.prod(shape)
        if len(shape) > 5 or not all(0 < size <= MAX_ELEMENTS for size in shape) or len(data) != (count + 1) // 2:
            raise ConvertError(
                f"{where}: int4 constant {self._name(index)} of shape {shape} holds {len(data)} bytes, not half as many"
            )
        packed = np.frombuffer(data, np.uint8)
        halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
        values: Int8 = ((halves ^ 8) - 8).reshape(shape)
        return values

    def _weights(self, where: str, index: int, axis: int) -> tuple[Int8, QuantParams]:
        if self._type(where, index) == schema.INT4:
            values = self._int4(where, index)
        else:
            values = self._constant(where, index, schema.INT8, "<i1").astype(np.int8)
        if not values.ndim:
            raise ConvertError(f"{where}: weights need dimensions, got a single number")
        params = self._quant(self._name(index), self._table(where, index))
        if params.axis is not None and params.axis != axis:
            raise ConvertError(f"{where}: per-channel weights need quantized dimension {axis}, got {params.axis}")
        return values, params

    def _bias(self, where: str, inputs: list[int], channels: int) -> Int32:
        if len(inputs) < 3 or inputs[2] == -1:
            return np.zeros(channels, np.int32)
        return self._constant(where, inputs[2], schema.INT32, "<i4").astype(np.int32)

    def _kind(self, where: str, table: Table) -> str:
        index = table.number(schema.Operator.OPCODE_INDEX, "I", 0)
        if index >= len(self.codes):
            raise ConvertError(f"{where}: operator code {index} does not exist, the file has {len(self.codes)}")
        code = self.codes[index]
        number = max(
            code.number(schema.OperatorCode.OLD_BUILTIN, "b", 0), code.number(schema.OperatorCode.BUILTIN, "i", 0)
        )
        if number not in schema.KIND_NAMES:
            name = code.text(schema.OperatorCode.CUSTOM) or schema.OTHER_NAMES.get(number, f"operator number {number}")
            raise ConvertError(
                f"{where}: {name} is not supported; the supported operators are {', '.join(sorted(schema.KINDS))}"
            )
        return schema.KIND_NAMES[number]

    def _layer(self, position: int, table: Table) -> Layer:
        outputs = table.numbers(schema.Operator.OUTPUTS, "i")
        where = f"operator {position}"
        name = layer_name(self._name(outputs[0])) if outputs and 0 <= outputs[0] < len(self.tables) else where
        kind = self._kind(name, table)
        inputs = table.numbers(schema.Operator.INPUTS, "i")
        least = {"ADD": 2, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "PAD": 2}.get(kind, 1)
        if len(inputs) < least or len(outputs) != 1:
            raise ConvertError(
                f"{name}: {kind} needs {least} inputs and one output, got {len(inputs)} and {len(outputs)}"
            )
        if outputs[0] in self.numbers:
            raise ConvertError(f"{name}: two operators write the same tensor; give each its own")
        x = self._known(name, inputs[0])
        if kind == "ADD":
            self._known(name, inputs[1])
        y = self._activation(name, outputs[0])
        return self._of_kind(name, kind, x, y, inputs, table.table(schema.Operator.OPTIONS))

    def _of_kind(self, name: str, kind: str, x: int, y: int, inputs: list[int], options: Table | None) -> Layer:
        if kind == "RESHAPE":
            return Reshape(name, x, y)
        if kind == "PAD":
            return Pad(name, x, y, self._pads(name, inputs[1]))
        if options is None:
            raise ConvertError(f"{name}: {kind} has no options; the file is damaged, export it again")
        if kind == "SOFTMAX":
            return Softmax(name, x, y, options.real(schema.SoftmaxOptions.BETA, 0.0))
        if kind == "ADD":
            return Add(name, x, self._known(name, inputs[1]), y, _fused(name, options, schema.AddOptions.ACTIVATION))
        if kind == "FULLY_CONNECTED":
            return self._fully_connected(name, x, y, inputs, options)
        if kind == "CONV_2D":
            return self._conv(name, x, y, inputs, options)
        if kind == "DEPTHWISE_CONV_2D":
            return self._depthwise(name, x, y, inputs, options)
        shared = _window_options(name, options, schema.PoolOptions.ACTIVATION)
        window_hw = (
            options.number(schema.PoolOptions.WINDOW_H, "i", 0),
            options.number(schema.PoolOptions.WINDOW_W, "i", 0),
        )
        pool = AveragePool2D if kind == "AVERAGE_POOL_2D" else MaxPool2D
        return pool(name, x, y, window_hw, shared.stride_hw, shared.padding, shared.activation)

    def _conv(self, name: str, x: int, y: int, inputs: list[int], options: Table) -> Conv2D:
        shared = _window_options(name, options, schema.ConvOptions.ACTIVATION)
        _refuse_dilation(name, options, schema.ConvOptions.DILATION_W, schema.ConvOptions.DILATION_H)
        weights, params = self._weights(name, inputs[1], axis=0)
        bias = self._bias(name, inputs, weights.shape[0])
        return Conv2D(name, x, y, weights, params, bias, shared.stride_hw, shared.padding, shared.activation)

    def _depthwise(self, name: str, x: int, y: int, inputs: list[int], options: Table) -> Layer:
        shared = _window_options(name, options, schema.DepthwiseOptions.ACTIVATION)
        _refuse_dilation(name, options, schema.DepthwiseOptions.DILATION_W, schema.DepthwiseOptions.DILATION_H)
        weights, params = self._weights(name, inputs[1], axis=3)
        bias = self._bias(name, inputs, weights.shape[-1])
        in_channels = self.tensors[x].shape[-1]
        multiplier = weights.shape[-1] // in_channels  # TFLite derives it from the shapes, too
        layer = DepthwiseConv2D(
            name, x, y, weights, params, bias, multiplier, shared.stride_hw, shared.padding, shared.activation
        )
        return in_graph(layer)

    def _fully_connected(self, name: str, x: int, y: int, inputs: list[int], options: Table) -> FullyConnected:
        if options.number(schema.FullyConnectedOptions.WEIGHTS_FORMAT, "b", 0) != 0:
            raise ConvertError(f"{name}: shuffled FULLY_CONNECTED weights are not supported; export plain int8 weights")
        weights, params = self._weights(name, inputs[1], axis=0)
        bias = self._bias(name, inputs, weights.shape[0])
        return FullyConnected(
            name, x, y, weights, params, bias, _fused(name, options, schema.FullyConnectedOptions.ACTIVATION)
        )

    def _pads(self, name: str, index: int) -> tuple[tuple[int, int], ...]:
        is_wide = self._type(name, index) == schema.INT64
        values = self._constant(name, index, *((schema.INT64, "<i8") if is_wide else (schema.INT32, "<i4")))
        if values.ndim != 2 or values.shape[1] != 2:
            raise ConvertError(f"{name}: PAD needs pads of shape [axes, 2], got {values.shape}")
        return tuple((int(before), int(after)) for before, after in values)


def _fused(name: str, options: Table, field_number: int) -> Activation:
    number = options.number(field_number, "b", 0)
    if number not in schema.ACTIVATIONS:
        raise ConvertError(f"{name}: the fused activation must be none, RELU or RELU6, got number {number}")
    return schema.ACTIVATIONS[number]


def _window_options(name: str, options: Table, activation_field: int) -> _Options:
    """CONV_2D, DEPTHWISE_CONV_2D and the pools agree on fields 0 to 2."""
    padding = options.number(schema.ConvOptions.PADDING, "b", 0)
    if padding not in (0, 1):
        raise ConvertError(f"{name}: the padding must be SAME or VALID, got number {padding}")
    stride_hw = (
        options.number(schema.ConvOptions.STRIDE_H, "i", 0),
        options.number(schema.ConvOptions.STRIDE_W, "i", 0),
    )
    return _Options(stride_hw, "VALID" if padding else "SAME", _fused(name, options, activation_field))


def _refuse_dilation(name: str, options: Table, *fields: int) -> None:
    factors = tuple(options.number(number, "i", 1) for number in fields)
    if factors != (1, 1):
        raise ConvertError(f"{name}: dilation is not supported, got {factors}")
