"""A .tflite file -> Graph: any int8 model of the supported operators, whoever made it. Untrusted bytes give one
ConvertError."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from converter.arrays import Int8, Int32, Int64
from converter.check import check, check_layers, check_spec
from converter.errors import ConvertError
from converter.formats.original import Place
from converter.formats.tflite import FLOAT32, INT4, INT8, INT32, INT64, Table
from converter.graph import Graph, Operator, layer_name
from converter.operators import OPERATORS
from converter.tensor import MAX_ELEMENTS, QuantParams, Tensor, check_tensor
from converter.tflite import schema
from converter.tflite.one_channel import depthwise_as_conv

KINDS = {kind.TFLITE.number: kind for kind in OPERATORS}
SUPPORTED = ", ".join(sorted(kind.TFLITE.name for kind in OPERATORS))


def read_tflite(data: bytes) -> Graph:
    """The checked Graph of a .tflite's bytes; tensors are numbered input first, then in order of the layers that write
    them."""
    return trace_tflite(data)[0]


def trace_tflite(data: bytes) -> tuple[Graph, tuple[Place, ...]]:
    """read_tflite's Graph, and where in the file its tensors are, the output last."""
    model = Table.root(data)
    version = model.number(schema.Model.VERSION, "I", 0)
    if version != schema.SCHEMA_VERSION:
        raise ConvertError(f"the .tflite schema version must be {schema.SCHEMA_VERSION}, got {version}")
    subgraphs = model.tables(schema.Model.SUBGRAPHS)
    if len(subgraphs) != 1:
        raise ConvertError(f"the model must have one subgraph, got {len(subgraphs)}; control flow is not supported")
    reader = _Reader(model, subgraphs[0])
    graph = reader.graph()
    keys = {number: index for index, number in reader.numbers.items()}
    order = [*range(len(graph.tensors)), graph.output]
    return graph, tuple(Place(number, keys[number]) for number in order)


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
        operators = self.subgraph.tables(schema.SubGraph.OPERATORS)
        check_layers(len(operators))
        layers = [self._layer(index, table) for index, table in enumerate(operators)]
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

    def type_of(self, where: str, index: int) -> int:
        return self._table(where, index).number(schema.TensorTable.TYPE, "b", FLOAT32)

    def _require_type(self, where: str, index: int, wanted: int) -> None:
        found = self.type_of(where, index)
        if found != wanted:
            want, got = schema.TYPE_NAMES[wanted], schema.TYPE_NAMES.get(found, f"type {found}")
            raise ConvertError(
                f"{where}: tensor {self._name(index)} must be {want}, got {got}; quantize the model to int8"
            )

    def _activation(self, where: str, index: int) -> int:
        """The graph's number of an int8 activation, new or known."""
        if index in self.numbers:
            return self.numbers[index]
        self._require_type(where, index, INT8)
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
            self._require_type(where, index, INT8)
            raise ConvertError(
                f"{where}: operand {self._name(index)} is a constant or not yet computed; fold it or order the "
                f"operators"
            )
        return self.numbers[index]

    def constant(
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

    def weights(self, where: str, index: int, axis: int) -> tuple[Int8, QuantParams]:
        if self.type_of(where, index) == INT4:
            values = self._int4(where, index)
        else:
            values = self.constant(where, index, INT8, "<i1").astype(np.int8)
        if not values.ndim:
            raise ConvertError(f"{where}: weights need dimensions, got a single number")
        params = self._quant(self._name(index), self._table(where, index))
        if params.axis is not None and params.axis != axis:
            raise ConvertError(f"{where}: per-channel weights need quantized dimension {axis}, got {params.axis}")
        return values, params

    def _kind(self, where: str, table: Table) -> type[Operator]:
        index = table.number(schema.Operator.OPCODE_INDEX, "I", 0)
        if index >= len(self.codes):
            raise ConvertError(f"{where}: operator code {index} does not exist, the file has {len(self.codes)}")
        code = self.codes[index]
        number = max(
            code.number(schema.OperatorCode.OLD_BUILTIN, "b", 0), code.number(schema.OperatorCode.BUILTIN, "i", 0)
        )
        if number not in KINDS:
            name = code.text(schema.OperatorCode.CUSTOM) or schema.OTHER_NAMES.get(number, f"operator number {number}")
            raise ConvertError(f"{where}: {name} is not supported; the supported operators are {SUPPORTED}")
        return KINDS[number]

    def _layer(self, position: int, table: Table) -> Operator:
        outputs = table.numbers(schema.Operator.OUTPUTS, "i")
        where = f"operator {position}"
        name = layer_name(self._name(outputs[0])) if outputs and 0 <= outputs[0] < len(self.tables) else where
        kind = self._kind(name, table)
        inputs = table.numbers(schema.Operator.INPUTS, "i")
        least = kind.TFLITE.operands
        if len(inputs) < least or len(outputs) != 1:
            raise ConvertError(
                f"{name}: {kind.TFLITE.name} needs {least} inputs and one output, got {len(inputs)} and {len(outputs)}"
            )
        if outputs[0] in self.numbers:
            raise ConvertError(f"{name}: two operators write the same tensor; give each its own")
        activations = tuple(self._known(name, index) for index in inputs[: kind.TFLITE.activations])
        y = self._activation(name, outputs[0])
        node = _Node(self, name, kind.TFLITE.name, inputs, activations, y, table.table(schema.Operator.OPTIONS))
        return depthwise_as_conv(kind.from_tflite(node))


@dataclass(frozen=True)
class _Node:
    """A TfliteNode."""

    reader: _Reader
    name: str
    operator: str
    operands: list[int]
    inputs: tuple[int, ...]
    output: int
    given_options: Table | None

    @property
    def input(self) -> int:
        return self.inputs[0]

    @property
    def options(self) -> Table:
        if self.given_options is None:
            raise ConvertError(f"{self.name}: {self.operator} has no options; the file is damaged, export it again")
        return self.given_options

    def tensor(self, number: int) -> Tensor:
        return self.reader.tensors[number]

    def weights(self, operand: int, axis: int) -> tuple[Int8, QuantParams]:
        return self.reader.weights(self.name, self.operands[operand], axis)

    def bias(self, operand: int, channels: int) -> Int32:
        if len(self.operands) <= operand or self.operands[operand] == -1:
            return np.zeros(channels, np.int32)
        return self.reader.constant(self.name, self.operands[operand], INT32, "<i4").astype(np.int32)

    def integers(self, operand: int) -> Int64:
        index = self.operands[operand]
        is_wide = self.reader.type_of(self.name, index) == INT64
        form = (INT64, "<i8") if is_wide else (INT32, "<i4")
        return self.reader.constant(self.name, index, *form).astype(np.int64)
