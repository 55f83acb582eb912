"""A .tflite file -> Graph: any int8 model of the supported operators, whoever made it. Untrusted bytes give one
ConvertError.

The ends of a model may be float32 or uint8 in the file; the Graph's are int8. QUANTIZE of a float32 input and
DEQUANTIZE of the output are taken off, uint8 becomes the int8 that is 128 less, with its zero point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from converter.arrays import Int8, Int32, Int64
from converter.check import blockers_of, check, check_layers, check_spec
from converter.errors import ConvertError, require_none
from converter.formats.original import End, Place
from converter.formats.tflite import FLOAT32, INT8, INT32, UINT8, Table
from converter.graph import Graph, Operator, layer_name
from converter.operators import OPERATORS
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.pad import Pad
from converter.operators.quantize import Quantize
from converter.operators.reshape import Reshape
from converter.operators.strided_slice import StridedSlice
from converter.tensor import Constant, QuantParams, Tensor, check_tensor
from converter.tflite import schema
from converter.tflite.file import TfliteFile
from converter.tflite.fold import fold
from converter.tflite.one_channel import depthwise_as_conv
from converter.tflite.variables import NUMBERS as VARIABLES
from converter.tflite.variables import Variables, require_operands

KINDS = {kind.TFLITE.number: kind for kind in OPERATORS}
SPLITS = {"SPLIT": 2, "SPLIT_V": 3}  # and how many operands each has
READ_HERE = (*SPLITS, *VARIABLES, "PADV2", "REDUCE_MAX", "SHAPE", "PACK", "DEQUANTIZE")
ENDS: dict[int, End] = {INT8: "int8", UINT8: "uint8", FLOAT32: "float32"}


def read_tflite(data: bytes) -> Graph:
    """The checked Graph of a .tflite's bytes; tensors are numbered input first, then in order of the layers that write
    them."""
    return trace_tflite(data)[0]


def trace_tflite(data: bytes) -> tuple[Graph, tuple[Place, ...], tuple[End, End]]:
    """read_tflite's Graph, where in the file its int8 tensors are, the output last, and of what type the file's input
    and output are."""
    model = Table.root(data)
    version = model.number(schema.Model.VERSION, "I", 0)
    if version != schema.SCHEMA_VERSION:
        raise ConvertError(f"the .tflite schema version must be {schema.SCHEMA_VERSION}, got {version}")
    subgraphs = model.tables(schema.Model.SUBGRAPHS)  # the first is the model
    if not subgraphs:
        raise ConvertError("the model has no subgraph; the file is damaged, export it again")
    reader = _Reader(TfliteFile(model, subgraphs[0]), subgraphs)
    graph = reader.graph()
    places = [Place(number, key) for key, number in reader.numbers.items() if reader.file.type_of("", key) == INT8]
    return graph, (*sorted(places, key=lambda place: place.tensor), Place(graph.output, reader.output)), reader.ends


@dataclass
class _Reader:
    file: TfliteFile
    subgraphs: list[Table] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    layers: list[Operator] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)  # file's tensor index -> graph's
    blockers: list[str] = field(default_factory=list)  # what stands in the way, a sentence each
    missing: set[int] = field(default_factory=set)  # file's tensors that operators with blockers write
    variables: Variables = field(default_factory=Variables)

    def graph(self) -> Graph:
        subgraph = self.file.subgraph
        inputs, outputs = (subgraph.numbers(f, "i") for f in (schema.SubGraph.INPUTS, schema.SubGraph.OUTPUTS))
        if not inputs or not outputs:
            raise ConvertError(f"the model must have one input and one output, got {len(inputs)} and {len(outputs)}")
        if len(inputs) > 1 or len(outputs) > 1:
            names = ", ".join(self.file.name(index) for index in (*inputs[1:], *outputs[1:]))
            self.blockers.append(
                f"the model must have one input and one output, got {len(inputs)} and {len(outputs)}; export it "
                f"without {names}"
            )
        self.input, self.output = inputs[0], outputs[0]
        for index in inputs:
            if self.file.type_of("input", index) != FLOAT32:  # else the first QUANTIZE makes the Graph's input
                self._try([index], partial(self._activation, "input", index, INT8, UINT8))
        operators = subgraph.tables(schema.SubGraph.OPERATORS)
        check_layers(len(operators))
        for position, table in enumerate(operators):
            self._try(table.numbers(schema.Operator.OUTPUTS, "i"), partial(self._read, position, table))
        if self.blockers:
            read = Graph(tuple(self.tensors), tuple(self.layers), 0, 0)
            for layer in self.layers:
                self.blockers += blockers_of(read, layer)
        require_none(self.blockers)
        if not self.tensors:
            self.file.require_type("input", self.input, INT8)
        if self.output not in self.numbers:
            raise ConvertError("no operator writes the model's output")
        variables = self.variables.found([tensor.size for tensor in self.tensors])
        layers, output = tuple(self.layers), self.numbers[self.output]
        graph = Graph(tuple(self.tensors), layers, 0, output, self._spec_json(), variables)
        return check_spec(check(graph))

    @property
    def ends(self) -> tuple[End, End]:
        return (
            ENDS[self.file.require_type("input", self.input, *ENDS)],
            ENDS[self.file.require_type("output", self.output, *ENDS)],
        )

    def _try(self, writes: list[int], read: Callable[[], object]) -> None:
        """Reads; what stands in the way is noted, and that what it would write is missing."""
        try:
            read()
        except ConvertError as error:
            self.blockers.append(str(error))
            for index in (index for index in writes if index not in self.numbers):
                try:  # so that what reads it is looked at too
                    self._activation("", index)
                except ConvertError:
                    self.missing.add(index)

    def _spec_json(self) -> str:
        for entry in self.file.model.tables(schema.Model.METADATA):
            if entry.text(schema.Metadata.NAME) == schema.SPEC_METADATA:
                index = entry.number(schema.Metadata.BUFFER, "I", 0)
                return self.file.buffer(schema.SPEC_METADATA, index).decode("utf-8", "replace")
        return ""

    def _activation(self, where: str, index: int, *types: int) -> int:
        """The graph's number of a new activation, int8 unless other types are named."""
        kind = self.file.require_type(where, index, *(types or (INT8,)))
        table, name, shape = self.file.table(where, index), self.file.name(index), self.file.shape(where, index)
        if -1 in table.numbers(schema.TensorTable.SHAPE_SIGNATURE, "i")[1:] or -1 in shape:
            raise ConvertError(f"{where}: tensor {name} has a dynamic shape; export the model with fixed sizes")
        params = self.file.quant(name, index)
        if kind == UINT8:
            params = replace(params, zero_points=tuple(zero - 128 for zero in params.zero_points))
        tensor = Tensor(name, shape, params)
        check_tensor(tensor)
        self.numbers[index] = len(self.tensors)
        self.tensors.append(tensor)
        return self.numbers[index]

    def _known(self, where: str, index: int, *types: int) -> int:
        """The graph's number of an operand that an earlier operator, or the input, provides."""
        self.file.require_type(where, index, *(types or (INT8,)))
        if index not in self.numbers:
            raise ConvertError(
                f"{where}: operand {self.file.name(index)} is a constant or not yet computed; fold it or order the "
                f"operators"
            )
        return self.numbers[index]

    def _read(self, position: int, table: Table) -> None:
        """Takes in one operator."""
        outputs, where = table.numbers(schema.Operator.OUTPUTS, "i"), f"operator {position}"
        named = bool(outputs) and 0 <= outputs[0] < len(self.file.tables)
        name = layer_name(self.file.name(outputs[0])) if named else where
        number, operator = self.file.operator(name, table)
        inputs = table.numbers(schema.Operator.INPUTS, "i")
        if number not in KINDS and operator not in READ_HERE:
            raise ConvertError(f"{name}: {operator} is not supported; README.md lists the operators that are")
        if self.missing.intersection(inputs):  # says nothing that its cause does not say
            self.missing.update(outputs)
            return
        if operator in VARIABLES:
            require_operands(name, operator, inputs, outputs)
            self._variable(name, operator, inputs, outputs, table.table(schema.Operator.OPTIONS))
            return
        if operator == "DEQUANTIZE" and len(inputs) == len(outputs) == 1:
            self._dequantize(name, inputs[0], outputs[0])
            return
        options = table.table(schema.Operator.OPTIONS)
        if len(outputs) == 1 and (values := fold(self.file, name, operator, inputs, options)) is not None:
            self.file.folded[outputs[0]] = values
            return
        if operator in SPLITS and len(inputs) == SPLITS[operator] and outputs:
            self._split(name, operator, inputs, outputs)
            return
        if operator == "REDUCE_MAX" and len(inputs) == 2 and len(outputs) == 1:
            self._reduce_max(name, inputs, outputs[0])
            return
        if operator == "PADV2" and len(inputs) == 3:
            number = self._pad_of_zeros(name, inputs)
        if number not in KINDS:
            raise ConvertError(
                f"{name}: {operator} is supported at a model's end and on shapes only, not on activations"
            )
        kind = KINDS[number]
        least = kind.TFLITE.operands
        if len(inputs) < least or len(outputs) != 1:
            raise ConvertError(
                f"{name}: {operator} needs {least} inputs and one output, got {len(inputs)} and {len(outputs)}"
            )
        if outputs[0] in self.numbers:
            raise ConvertError(f"{name}: two operators write the same tensor; give each its own")
        if kind is Quantize:
            self._quantize(name, inputs[0], outputs[0])
            return
        activations = tuple(
            self._known(name, index)
            for index in inputs[: kind.TFLITE.activations]
            if not (kind.TFLITE.may_be_constant and self._is_constant(name, index))
        )
        if not activations:
            raise ConvertError(f"{name}: {operator} of constants alone; fold it when you export the model")
        y = self._activation(name, outputs[0])
        node = _Node(self, name, operator, inputs, activations, y, options)
        self.layers.append(depthwise_as_conv(kind.from_tflite(node)))

    def _variable(self, name: str, operator: str, inputs: list[int], outputs: list[int], options: Table | None) -> None:
        """What an operator says of a variable. TensorFlow Lite Micro copies at once, so what is read behind an
        assignment would be the next value."""
        if operator == "CALL_ONCE":
            self.variables.begin(name, self.file.model, self.subgraphs, options)
            return
        if operator == "VAR_HANDLE":
            self.variables.handle(name, outputs[0], options)
            return
        variable = self.variables.named(name, inputs[0])
        if variable in self.variables.written:
            raise ConvertError(
                f"{name}: {operator} of {variable} behind its assignment; read it before, assign it once"
            )
        if operator == "ASSIGN_VARIABLE":
            self.variables.written[variable] = self._known(name, inputs[1])
        elif variable in self.variables.read:
            raise ConvertError(f"{name}: READ_VARIABLE of {variable} a second time; read it once")
        else:
            self.variables.read[variable] = self._activation(name, outputs[0])

    def _is_constant(self, where: str, index: int) -> bool:
        return index not in self.numbers and bool(self.file.data(where, index))

    def _quantize(self, name: str, x: int, y: int) -> None:
        """QUANTIZE of the float32 input, between uint8 and the same in int8, or to another scale."""
        if x == self.input and self.file.type_of(name, x) == FLOAT32:
            if not self.tensors:
                self._activation(name, y)
            elif self.file.quant(name, y) == self.tensors[0].quant:
                self.numbers[y] = 0
            else:
                raise ConvertError(f"{name}: the input is quantized to two scales; give both readers one")
            return
        number = self._known(name, x, INT8, UINT8)
        output = self._activation(name, y, INT8, UINT8)
        before, after = self.tensors[number], self.tensors[output]
        same = before.shape == after.shape and before.quant == after.quant
        if same and self.file.type_of(name, x) != self.file.type_of(name, y):
            self.tensors.pop()
            self.numbers[y] = number
        else:
            self.layers.append(Quantize(name, number, output))

    def _pad_of_zeros(self, name: str, inputs: list[int]) -> int:
        """PAD's number, where PADV2 pads with the zero point as PAD does."""
        value, zero = self.file.constant(name, inputs[2], INT8, "<i1"), self.file.quant(name, inputs[0]).zero_point
        if value.size != 1 or int(value.ravel()[0]) != zero:
            raise ConvertError(
                f"{name}: PADV2 is supported with the zero point {zero}, got {value.ravel()[:4].tolist()}"
            )
        return Pad.TFLITE.number

    def _reduce_max(self, name: str, inputs: list[int], y: int) -> None:
        """REDUCE_MAX over height and width: a pool whose window is the whole map."""
        number = self._known(name, inputs[0])
        x, axes = self.tensors[number], self.file.integers(name, inputs[1]).ravel().tolist()
        if len(x.shape) != 4 or {axis + 4 * (axis < 0) for axis in axes} != {1, 2}:
            raise ConvertError(f"{name}: REDUCE_MAX is supported over axes 1 and 2 of four, got {axes} of {x.shape}")
        if y in self.numbers:
            raise ConvertError(f"{name}: two operators write the same tensor; give each its own")
        size_hw, kept = x.shape[1:3], (1, 1, 1, x.shape[3])
        if self.file.shape(name, y) == kept:
            self.layers.append(MaxPool2D(name, number, self._activation(name, y), size_hw, size_hw, "VALID", "NONE"))
            return
        self.tensors.append(Tensor(f"{x.name}/largest", kept, self.file.quant(name, y)))
        pooled = len(self.tensors) - 1
        output = self._activation(name, y)
        self.layers += [
            MaxPool2D(f"{name}/largest", number, pooled, size_hw, size_hw, "VALID", "NONE"),
            Reshape(name, pooled, output),
        ]

    def _split(self, name: str, operator: str, inputs: list[int], outputs: list[int]) -> None:
        """SPLIT (axis, input) or SPLIT_V (input, sizes, axis): a slice for each output."""
        x, axis_at = (inputs[1], inputs[0]) if operator == "SPLIT" else (inputs[0], inputs[2])
        number, values = self._known(name, x), self.file.integers(name, axis_at)
        shape, start = self.tensors[number].shape, 0
        axis = int(values.ravel()[0]) % len(shape) if values.size == 1 else 0
        for y in outputs:
            part = layer_name(self.file.name(y))
            if y in self.numbers:
                raise ConvertError(f"{part}: two operators write the same tensor; give each its own")
            output = self._activation(part, y)
            sizes = self.tensors[output].shape
            count = sizes[axis] if axis < len(sizes) else 0
            parts = tuple((start, count, 1) if i == axis else (0, size, 1) for i, size in enumerate(shape))
            self.layers.append(StridedSlice(part, number, output, parts))
            start += count
        if start != shape[axis]:
            raise ConvertError(f"{name}: {operator} makes {start} of the {shape[axis]} values of axis {axis}")

    def _dequantize(self, name: str, x: int, y: int) -> None:
        """DEQUANTIZE at the end, which gives the output its real values."""
        if y != self.output:
            raise ConvertError(
                f"{name}: DEQUANTIZE is supported as the last operator, what follows it here computes in float32; "
                f"quantize the whole model to int8"
            )
        self.file.require_type(name, y, FLOAT32)
        self.numbers[y] = self._known(name, x)


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
        return self.reader.file.weights(self.name, self.operands[operand], axis)

    def bias(self, operand: int, channels: int) -> Int32:
        if len(self.operands) <= operand or self.operands[operand] == -1:
            return np.zeros(channels, np.int32)
        return self.reader.file.constant(self.name, self.operands[operand], INT32, "<i4").astype(np.int32)

    def constant(self) -> Constant:
        index = next(index for index in self.operands if self.reader._is_constant(self.name, index))
        values = self.reader.file.constant(self.name, index, INT8, "<i1").astype(np.int8)
        return Constant(values, self.reader.file.quant(self.name, index))

    def integers(self, operand: int) -> Int64:
        return self.reader.file.integers(self.name, self.operands[operand])
