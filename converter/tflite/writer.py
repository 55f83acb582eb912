"""Graph -> the bytes of a .tflite: scales bit for bit, constants 16-byte aligned, equal graphs give equal bytes.

Tensor i of the file is tensor i of the graph; constants follow. Operators are the layers in the form of one_channel.py;
variables are read among these in the order of the tensors, behind all they get their next values. The
metadata entry `kws_spec` carries the spec. Weights of 4 bits or fewer may be written as type INT4, two to a byte, the
first in the lower half: TensorFlow Lite Micro reads them, but outside of its newest CMSIS-NN kernels it unpacks them
into the arena and computes with its slow reference kernels, so int8 is what is written unless int4 is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from converter.formats.tflite import IDENTIFIER, INT4, INT8, INT32, RESOURCE, int_vector, raw_vector
from converter.graph import Graph, Operator
from converter.tensor import Constant, QuantParams
from converter.tflite import schema
from converter.tflite.one_channel import graph_in_tflite
from converter.tflite.variables import INIT_SUBGRAPH, OPTIONS_TYPES, SHARED_NAME
from converter.tflite.variables import NUMBERS as VARIABLES

ALIGNMENT = 16
OLD_BUILTIN_MAX = 127  # stands for every greater number


def write_tflite(graph: Graph, int4: bool = False) -> bytes:
    """A .tflite that TensorFlow Lite, LiteRT and TensorFlow Lite Micro load; read_tflite gives the graph back.

    int4: weights that fit take half a byte.
    """
    return _Writer(graph_in_tflite(graph), int4).file()


def weight_bits(layer: Operator) -> int:
    """The least width in two's complement that holds a layer's weights, 2 to 8; 0 when it has none."""
    return layer.weights.bits if layer.weights is not None else 0


def fits_int4(layer: Operator) -> bool:
    """Whether TensorFlow Lite Micro takes the layer's weights as int4: a dense layer may have one scale only."""
    weights = layer.weights
    if weights is None or weights.bits > 4:
        return False
    return not (layer.TFLITE.per_channel_version and len(weights.quant.scales) > 1)


def operator_version(layer: Operator, int4: bool = False) -> int:
    """The least operator version whose kernel computes the layer as this project does; int4: on int4 weights where they
    fit."""
    kind, weights = layer.TFLITE, layer.weights
    if weights is not None and kind.per_channel_version and len(weights.quant.scales) > 1:
        return kind.per_channel_version
    return kind.int4_version if int4 and fits_int4(layer) else kind.version


@dataclass(frozen=True)
class _Constant:
    name: str
    values: NDArray[np.generic]
    kind: int
    quant: QuantParams | None

    @property
    def payload(self) -> bytes:
        return pack_int4(self.values) if self.kind == INT4 else self.values.tobytes()


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
        for variable in graph.variables:
            tensor = graph.tensors[variable.read]
            first = np.full(tensor.shape, variable.initial, np.int8)
            self._constant(f"{variable.name}/initial", first, INT8, tensor.quant)
        payloads = [b"", *(c.payload for c in self.constants)]
        metadata = []
        if graph.spec_json:
            metadata = [self._metadata(schema.SPEC_METADATA, len(payloads))]
            payloads.append(graph.spec_json.encode())
        buffers = self._offsets([self._buffer(payload) for payload in payloads])
        codes = sorted(
            {(layer.TFLITE.number, operator_version(layer, self.int4)) for layer in graph.layers}
            | {(number, 1) for number in VARIABLES.values() if graph.variables}
        )
        operators = [
            self._operator(layer, operands, codes) for layer, operands in zip(graph.layers, inputs, strict=True)
        ]
        subgraphs = self._with_variables(operators, codes)
        fields = {
            schema.Model.OPERATOR_CODES: self._offsets([self._code(*code) for code in codes]),
            schema.Model.SUBGRAPHS: self._offsets(subgraphs),
            schema.Model.DESCRIPTION: b.CreateString("nano33-kws"),
            schema.Model.BUFFERS: buffers,
            schema.Model.METADATA: self._offsets(metadata),
        }
        b.StartObject(7)
        b.PrependUint32Slot(schema.Model.VERSION, schema.SCHEMA_VERSION, 0)
        self._end_offsets(fields)
        b.Finish(b.EndObject(), file_identifier=IDENTIFIER)
        return bytes(b.Output())

    def _end_offsets(self, fields: dict[int, int]) -> None:
        for number, offset in fields.items():
            self.builder.PrependUOffsetTRelativeSlot(number, offset, 0)

    def _offsets(self, items: Sequence[int]) -> int:
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.builder.PrependUOffsetTRelative(item)
        return int(self.builder.EndVector())

    def _buffer(self, payload: bytes) -> int:
        data = raw_vector(self.builder, payload, 1, ALIGNMENT) if payload else 0
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
        b.PrependInt8Slot(schema.OperatorCode.OLD_BUILTIN, min(number, OLD_BUILTIN_MAX), 0)
        b.PrependInt32Slot(schema.OperatorCode.VERSION, version, 1)
        b.PrependInt32Slot(schema.OperatorCode.BUILTIN, number, 0)
        return int(b.EndObject())

    def _with_variables(self, operators: list[int], codes: list[tuple[int, int]]) -> list[int]:
        """The subgraph of the layers' operators, and where there are variables another, that gives them their first
        values."""
        b, variables, tensors = self.builder, self.graph.variables, self._tensors()
        ends = [self.graph.input], [self.graph.output]
        if not variables:
            return [self._subgraph("main", tensors, operators, *ends)]

        def operator(name: str, inputs: list[int], outputs: list[int], options: int) -> int:
            return self._operator_table(
                codes.index((VARIABLES[name], 1)), OPTIONS_TYPES[name], inputs, outputs, options
            )

        def plain() -> int:
            b.StartObject(0)
            return int(b.EndObject())

        def handle(name: str, index: int) -> int:
            text = b.CreateString(name)
            b.StartObject(2)
            self._end_offsets({SHARED_NAME: text})
            return operator("VAR_HANDLE", [], [index], int(b.EndObject()))

        b.StartObject(1)
        b.PrependInt32Slot(INIT_SUBGRAPH, 1, 0)
        before, behind, once = [operator("CALL_ONCE", [], [], int(b.EndObject()))], [], []
        steps = dict(zip((layer.output for layer in self.graph.layers), operators, strict=True))
        first = []  # tensors of the second subgraph: a handle, its first values
        for number, variable in enumerate(variables):
            index, tensor = len(tensors) + number, self.graph.tensors[variable.read]
            before.append(handle(variable.name, index))
            steps[variable.read] = operator("READ_VARIABLE", [index], [variable.read], plain())
            behind.append(operator("ASSIGN_VARIABLE", [index, variable.written], [], plain()))
            buffer = 1 + len(self.constants) - len(variables) + number
            first += [
                self._tensor(variable.name, (), RESOURCE, 0, None),
                self._tensor(f"{variable.name}/initial", tensor.shape, INT8, buffer, tensor.quant),
            ]
            at = 2 * number
            once += [handle(variable.name, at), operator("ASSIGN_VARIABLE", [at, at + 1], [], plain())]
        tensors += [self._tensor(variable.name, (), RESOURCE, 0, None) for variable in variables]
        return [
            self._subgraph("main", tensors, [*before, *(steps[number] for number in sorted(steps)), *behind], *ends),
            self._subgraph("first values", first, once, [], []),
        ]

    def _subgraph(
        self, name: str, tensors: list[int], operators: list[int], inputs: list[int], outputs: list[int]
    ) -> int:
        lists = self._offsets(tensors), self._offsets(operators)
        fields = {
            schema.SubGraph.TENSORS: lists[0],
            schema.SubGraph.INPUTS: int_vector(self.builder, inputs),
            schema.SubGraph.OUTPUTS: int_vector(self.builder, outputs),
            schema.SubGraph.OPERATORS: lists[1],
            schema.SubGraph.NAME: self.builder.CreateString(name),
        }
        self.builder.StartObject(5)
        self._end_offsets(fields)
        return int(self.builder.EndObject())

    def _tensors(self) -> list[int]:
        activations = [self._tensor(t.name, t.shape, INT8, 0, t.quant) for t in self.graph.tensors]
        constants = [self._tensor(c.name, c.values.shape, c.kind, 1 + i, c.quant) for i, c in enumerate(self.constants)]
        return activations + constants

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, buffer: int, quant: QuantParams | None) -> int:
        b = self.builder
        fields = {
            schema.TensorTable.SHAPE: int_vector(self.builder, shape),
            schema.TensorTable.NAME: b.CreateString(name),
        }
        if quant is not None:
            fields[schema.TensorTable.QUANTIZATION] = self._quant(quant)
        b.StartObject(8)
        b.PrependInt8Slot(schema.TensorTable.TYPE, kind, 0)
        b.PrependUint32Slot(schema.TensorTable.BUFFER, buffer, 0)
        self._end_offsets(fields)
        return int(b.EndObject())

    def _quant(self, quant: QuantParams) -> int:
        fields = {
            schema.Quantization.SCALE: raw_vector(self.builder, np.asarray(quant.scales, "<f4").tobytes(), 4, 4),
            schema.Quantization.ZERO_POINT: raw_vector(
                self.builder, np.asarray(quant.zero_points, "<i8").tobytes(), 8, 8
            ),
        }
        self.builder.StartObject(7)
        self._end_offsets(fields)
        self.builder.PrependInt32Slot(schema.Quantization.QUANTIZED_DIMENSION, quant.axis or 0, 0)
        return int(self.builder.EndObject())

    def _inputs(self, layer: Operator) -> list[int]:
        """Operand numbers of a layer, its constants registered."""
        operands, name = list(layer.inputs), self.graph.tensors[layer.output].name
        for what, values in layer.constants:
            if isinstance(values, Constant):
                operands.append(self._constant(f"{name}/{what}", values.values, INT8, values.quant))
            else:
                operands.append(self._constant(f"{name}/{what}", values.astype("<i4"), INT32, None))
        if layer.weights is not None:
            weights = layer.weights
            kind = INT4 if self.int4 and fits_int4(layer) else INT8
            bias_quant = _bias_quant(self.graph.tensors[layer.input].quant, weights.quant)
            operands.append(self._constant(f"{name}/weights", weights.values, kind, weights.quant))
            operands.append(self._constant(f"{name}/bias", weights.bias.astype("<i4"), INT32, bias_quant))
        return operands

    def _constant(self, name: str, values: NDArray[np.generic], kind: int, quant: QuantParams | None) -> int:
        self.constants.append(_Constant(name, values, kind, quant))
        return len(self.graph.tensors) + len(self.constants) - 1

    def _operator(self, layer: Operator, operands: list[int], codes: list[tuple[int, int]]) -> int:
        kind, code = layer.TFLITE, codes.index((layer.TFLITE.number, operator_version(layer, self.int4)))
        options = layer.tflite_options(self.graph, self.builder)
        return self._operator_table(code, kind.options_type, operands, [layer.output], options)

    def _operator_table(self, code: int, options_type: int, inputs: list[int], outputs: list[int], options: int) -> int:
        fields = {
            schema.Operator.OPTIONS: options,
            schema.Operator.INPUTS: int_vector(self.builder, inputs),
            schema.Operator.OUTPUTS: int_vector(self.builder, outputs),
        }
        self.builder.StartObject(5)
        self.builder.PrependUint32Slot(schema.Operator.OPCODE_INDEX, code, 0)
        self.builder.PrependUint8Slot(schema.Operator.OPTIONS_TYPE, options_type, 0)
        self._end_offsets({number: fields[number] for number in sorted(fields)})
        return int(self.builder.EndObject())


def _bias_quant(x: QuantParams, weights: QuantParams) -> QuantParams:
    """The bias scale is input scale x weight scale, rounded to float32 once."""
    scales = tuple(float(np.float32(x.scale) * np.float32(scale)) for scale in weights.scales)
    return QuantParams(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)
