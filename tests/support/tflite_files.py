"""A .tflite as any converter may write it, tensor by tensor and operator by operator; converter/tflite/writer.py is not
used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from converter.formats.tflite import (
    FLOAT32,
    IDENTIFIER,
    INT8,
    INT32,
    RESOURCE,
    UINT8,
    int_vector,
    options_table,
    raw_vector,
)
from converter.tflite import schema

TYPES = {"float32": FLOAT32, "int32": INT32, "uint8": UINT8, "int8": INT8, "resource": RESOURCE, "int16": 7}
Slot = tuple[str, int, Any]


@dataclass
class TfliteFile:
    """Tensors and operators are numbered in the order in which they are added; `called` are the subgraphs behind the
    first, without inputs and outputs."""

    tensors: list[tuple[str, tuple[int, ...], str, tuple[float, int] | None, bytes]] = field(default_factory=list)
    operators: list[tuple[str, Sequence[int], Sequence[int], int, Sequence[Slot]]] = field(default_factory=list)
    signatures: dict[int, tuple[int, ...]] = field(default_factory=dict)
    called: list[TfliteFile] = field(default_factory=list)

    def tensor(
        self, shape: tuple[int, ...], quant: tuple[float, int] | None = (0.05, 3), kind: str = "int8", name: str = ""
    ) -> int:
        """An activation; quant: (scale, zero point)."""
        self.tensors.append((name or f"t{len(self.tensors)}", shape, kind, quant, b""))
        return len(self.tensors) - 1

    def constant(self, values: NDArray[Any], quant: tuple[float, int] | None = None, name: str = "") -> int:
        """Values of a type of TYPES."""
        stored = np.ascontiguousarray(values)
        text = name or f"c{len(self.tensors)}"
        self.tensors.append((text, values.shape, str(values.dtype), quant, stored.tobytes()))
        return len(self.tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: int = 0, *slots: Slot
    ) -> Sequence[int]:
        """options: the number of its table in BuiltinOptions; slots: as options_table takes them, and ("String", field,
        text)."""
        self.operators.append((name, inputs, outputs, options, slots))
        return outputs

    def file(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The bytes."""
        b = flatbuffers.Builder(1024)
        parts = [self, *self.called]
        names = sorted({name for part in parts for name, *_ in part.operators})
        stored = [data for part in parts for *_, data in part.tensors]
        buffers = [self._table(b, {})]
        buffers += [self._table(b, {0: raw_vector(b, data, 1, 16)} if data else {}) for data in stored]
        subgraphs, first = [], 1
        for part in parts:
            ends = (inputs, outputs) if part is self else ([], [])
            subgraphs.append(part._subgraph(b, names, first, *ends))
            first += len(part.tensors)
        model = {
            schema.Model.OPERATOR_CODES: self._list(b, [self._code(b, name) for name in names]),
            schema.Model.SUBGRAPHS: self._list(b, subgraphs),
            schema.Model.BUFFERS: self._list(b, buffers),
        }
        b.Finish(self._table(b, model, (("Uint32", schema.Model.VERSION, 3),)), file_identifier=IDENTIFIER)
        return bytes(b.Output())

    def _subgraph(
        self, b: flatbuffers.Builder, names: list[str], buffer: int, inputs: Sequence[int], outputs: Sequence[int]
    ) -> int:
        tensors = [self._tensor(b, index, buffer + index) for index in range(len(self.tensors))]
        operators = []
        for name, reads, writes, options, slots in self.operators:
            made = [
                ("UOffsetTRelative", slot, b.CreateString(value)) if form == "String" else (form, slot, value)
                for form, slot, value in slots
            ]
            fields = {
                schema.Operator.OPTIONS: options_table(b, *made),
                schema.Operator.INPUTS: int_vector(b, reads),
                schema.Operator.OUTPUTS: int_vector(b, writes),
            }
            numbers = (
                ("Uint32", schema.Operator.OPCODE_INDEX, names.index(name)),
                ("Uint8", schema.Operator.OPTIONS_TYPE, options),
            )
            operators.append(self._table(b, fields if options else dict(list(fields.items())[1:]), numbers))
        subgraph = {
            schema.SubGraph.TENSORS: self._list(b, tensors),
            schema.SubGraph.INPUTS: int_vector(b, inputs),
            schema.SubGraph.OUTPUTS: int_vector(b, outputs),
            schema.SubGraph.OPERATORS: self._list(b, operators),
        }
        return self._table(b, subgraph)

    def _tensor(self, b: flatbuffers.Builder, index: int, buffer: int) -> int:
        name, shape, kind, quant, _ = self.tensors[index]
        fields = {schema.TensorTable.SHAPE: int_vector(b, shape), schema.TensorTable.NAME: b.CreateString(name)}
        if index in self.signatures:
            fields[schema.TensorTable.SHAPE_SIGNATURE] = int_vector(b, self.signatures[index])
        if quant is not None:
            scale, zero = np.asarray(quant[:1], "<f4").tobytes(), np.asarray(quant[1:], "<i8").tobytes()
            params = {
                schema.Quantization.SCALE: raw_vector(b, scale, 4, 4),
                schema.Quantization.ZERO_POINT: raw_vector(b, zero, 8, 8),
            }
            fields[schema.TensorTable.QUANTIZATION] = self._table(b, params)
        numbers = (
            ("Int8", schema.TensorTable.TYPE, TYPES[kind]),
            ("Uint32", schema.TensorTable.BUFFER, buffer),
        )
        return self._table(b, fields, numbers)

    def _code(self, b: flatbuffers.Builder, name: str) -> int:
        is_builtin = name in schema.OPERATOR_NAMES
        number = schema.OPERATOR_NAMES.index(name if is_builtin else "CUSTOM")
        numbers = (
            ("Int8", schema.OperatorCode.OLD_BUILTIN, min(number, 127)),
            ("Int32", schema.OperatorCode.VERSION, 1),
            ("Int32", schema.OperatorCode.BUILTIN, number),
        )
        return self._table(b, {} if is_builtin else {schema.OperatorCode.CUSTOM: b.CreateString(name)}, numbers)

    @staticmethod
    def _list(b: flatbuffers.Builder, items: Sequence[int]) -> int:
        b.StartVector(4, len(items), 4)
        for item in reversed(items):
            b.PrependUOffsetTRelative(item)
        return int(b.EndVector())

    @staticmethod
    def _table(b: flatbuffers.Builder, offsets: dict[int, int], numbers: Sequence[Slot] = ()) -> int:
        b.StartObject(8)
        for form, slot, value in numbers:
            getattr(b, f"Prepend{form}Slot")(slot, value, 0)
        for slot, offset in offsets.items():
            b.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return int(b.EndObject())
