"""A .tflite's tensors, constants and operators by their numbers in the file, each access checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from converter.arrays import Int8, Int64
from converter.errors import ConvertError
from converter.formats.tflite import FLOAT32, INT4, INT8, INT32, INT64, Table
from converter.tensor import MAX_ELEMENTS, QuantParams
from converter.tflite import schema


@dataclass
class TfliteFile:
    """The first subgraph. Each method raises ConvertError that begins with `where`."""

    model: Table
    subgraph: Table
    folded: dict[int, Int64] = field(default_factory=dict)  # integer tensors whose value is known before any inference

    def __post_init__(self) -> None:
        """Reads the lists."""
        self.tables = self.subgraph.tables(schema.SubGraph.TENSORS)
        self.buffers = self.model.tables(schema.Model.BUFFERS)
        self.codes = self.model.tables(schema.Model.OPERATOR_CODES)

    def buffer(self, where: str, index: int) -> bytes:
        """A buffer's bytes; empty where a tensor is no constant."""
        if not 0 <= index < len(self.buffers):
            raise ConvertError(f"{where}: buffer {index} does not exist, the file has {len(self.buffers)}")
        return self.buffers[index].bytes(0)

    def table(self, where: str, index: int) -> Table:
        """A tensor's table."""
        if not 0 <= index < len(self.tables):
            raise ConvertError(f"{where}: tensor {index} does not exist, the file has {len(self.tables)}")
        return self.tables[index]

    def name(self, index: int) -> str:
        """A tensor's name."""
        return self.table("operator", index).text(schema.TensorTable.NAME) or f"tensor_{index}"

    def shape(self, where: str, index: int) -> tuple[int, ...]:
        """A tensor's shape."""
        return tuple(self.table(where, index).numbers(schema.TensorTable.SHAPE, "i"))

    def data(self, where: str, index: int) -> bytes:
        """A constant's bytes; empty for a tensor that is computed."""
        return self.buffer(where, self.table(where, index).number(schema.TensorTable.BUFFER, "I", 0))

    def type_of(self, where: str, index: int) -> int:
        """A tensor's TensorType."""
        return self.table(where, index).number(schema.TensorTable.TYPE, "b", FLOAT32)

    def require_type(self, where: str, index: int, *wanted: int) -> int:
        """The tensor's type, one of the wanted."""
        found = self.type_of(where, index)
        if found not in wanted:
            want, got = schema.TYPE_NAMES[wanted[0]], schema.type_name(found)
            raise ConvertError(
                f"{where}: tensor {self.name(index)} must be {want}, got {got}; quantize the model to int8"
            )
        return found

    def quant(self, name: str, index: int) -> QuantParams:
        """A tensor's scales and zero points."""
        found = self.table(name, index).table(schema.TensorTable.QUANTIZATION)
        scales = found.reals(schema.Quantization.SCALE) if found else []
        if found is None or not scales:
            raise ConvertError(f"{name}: has no quantization; only fully int8 models are supported, quantize it first")
        zero_points = found.numbers(schema.Quantization.ZERO_POINT, "q") or [0] * len(scales)
        axis = found.number(schema.Quantization.QUANTIZED_DIMENSION, "i", 0) if len(scales) > 1 else None
        return QuantParams(tuple(scales), tuple(zero_points), axis)

    def constant(
        self, where: str, index: int, kind: int, dtype: str
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """A constant's values."""
        self.require_type(where, index, kind)
        shape, data = self.shape(where, index), self.data(where, index)
        count = math.prod(shape)
        fits = (
            len(shape) <= 5
            and all(0 < size <= MAX_ELEMENTS for size in shape)
            and len(data) == count * np.dtype(dtype).itemsize
        )
        if not fits:
            name = self.name(index)
            raise ConvertError(
                f"{where}: constant {name} of shape {list(shape)} holds {len(data)} bytes; sparse or external data is "
                f"not read"
            )
        return np.frombuffer(data, dtype).reshape(shape)

    def integers(self, where: str, index: int) -> Int64:
        """int32 or int64 values that are known before any inference."""
        if index in self.folded:
            return self.folded[index]
        form = (INT64, "<i8") if self.type_of(where, index) == INT64 else (INT32, "<i4")
        return self.constant(where, index, *form).astype(np.int64)

    def weights(self, where: str, index: int, axis: int) -> tuple[Int8, QuantParams]:
        """int8 or int4 weights; several scales must lie along `axis`."""
        if self.type_of(where, index) == INT4:
            values = self._int4(where, index)
        else:
            values = self.constant(where, index, INT8, "<i1").astype(np.int8)
        if not values.ndim:
            raise ConvertError(f"{where}: weights need dimensions, got a single number")
        params = self.quant(self.name(index), index)
        if params.axis is not None and params.axis != axis:
            raise ConvertError(f"{where}: per-channel weights need quantized dimension {axis}, got {params.axis}")
        return values, params

    def _int4(self, where: str, index: int) -> Int8:
        """Two values to a byte, the first in the lower half."""
        shape, data = self.shape(where, index), self.data(where, index)
        count = math.prod(shape)
        if len(shape) > 5 or not all(0 < size <= MAX_ELEMENTS for size in shape) or len(data) != (count + 1) // 2:
            raise ConvertError(
                f"{where}: int4 constant {self.name(index)} of shape {list(shape)} holds {len(data)} bytes, not half "
                f"as many"
            )
        packed = np.frombuffer(data, np.uint8)
        halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
        values: Int8 = ((halves ^ 8) - 8).reshape(shape)
        return values

    def operator(self, where: str, table: Table) -> tuple[int, str]:
        """An operator's number and name."""
        index = table.number(schema.Operator.OPCODE_INDEX, "I", 0)
        if index >= len(self.codes):
            raise ConvertError(f"{where}: operator code {index} does not exist, the file has {len(self.codes)}")
        code = self.codes[index]
        number = max(
            code.number(schema.OperatorCode.OLD_BUILTIN, "b", 0), code.number(schema.OperatorCode.BUILTIN, "i", 0)
        )
        return number, code.text(schema.OperatorCode.CUSTOM) or schema.operator_name(number)
