"""What an operator must know of the .tflite format: its tables, and how a reader hands an operator over.

Field numbers count the fields of each table of the TensorFlow Lite schema from 0 (its version 3); flatbuffers layout:
flatbuffers.dev.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import flatbuffers
import numpy as np

from converter.arrays import Int8, Int32, Int64
from converter.errors import Budget, ConvertError, printable
from converter.tensor import Constant, QuantParams, Tensor

IDENTIFIER = b"TFL3"
TABLE_BYTES = 16  # that a table in a list counts: no smaller one says anything
FLOAT32, INT32, UINT8, INT64, INT8, RESOURCE, INT4 = 0, 2, 3, 4, 9, 13, 17
"""Of TensorType: what the tensors of an int8 model may be, and float32, which is the default."""


@dataclass(frozen=True)
class TfliteOperator:
    """A builtin operator: its name, its number, that of its options table in the union BuiltinOptions, the least
    version whose int8 kernel computes it as this project does, and the method of TFLM's op resolver for it."""

    name: str
    number: int
    options_type: int
    version: int
    resolver: str
    activations: int = 1  # operands that layers compute, in front of all others
    operands: int = 1  # at least, with constants
    may_be_constant: bool = False  # one of the activations
    int4_version: int = 0  # on int4 weights; 0: has none
    per_channel_version: int = 0  # on weights of several scales; 0: as with one


class TfliteNode(Protocol):
    """One operator of a .tflite, as its reader hands it to from_tflite; bad data raises ConvertError."""

    @property
    def name(self) -> str:
        """What the layer will be called."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """The graph's numbers of the activations it reads."""

    @property
    def input(self) -> int:
        """The first of them."""

    @property
    def output(self) -> int:
        """The graph's number of the tensor it writes."""

    @property
    def options(self) -> Table:
        """Its options table."""

    def tensor(self, number: int) -> Tensor:
        """An activation by the graph's number."""

    def weights(self, operand: int, axis: int) -> tuple[Int8, QuantParams]:
        """int8 or int4 weights; several scales must lie along `axis`."""

    def bias(self, operand: int, channels: int) -> Int32:
        """An int32 bias, zeros when it is left out."""

    def constant(self) -> Constant:
        """The one int8 constant among the activations."""

    def integers(self, operand: int) -> Int64:
        """A constant of int32 or int64 indices."""


class Table:
    """A flatbuffers table inside untrusted bytes; every access is bounds-checked, what is taken out in all is bounded
    by the file's size, and ConvertError is raised beyond."""

    __slots__ = ("_budget", "_data", "_position", "_vtable", "_vtable_bytes")

    def __init__(self, data: bytes, position: int, budget: Budget) -> None:
        self._data, self._position, self._budget = data, position, budget
        self._vtable = position - self._number("<i", position)
        self._vtable_bytes = self._number("<H", self._vtable)

    @staticmethod
    def root(data: bytes) -> Table:
        """The Model table of a file; raises ConvertError."""
        if len(data) < 8 or data[4:8] != IDENTIFIER:
            raise ConvertError("not a .tflite file: its bytes 4..7 are not TFL3; give a TensorFlow Lite model")
        return Table(data, struct.unpack_from("<I", data, 0)[0], Budget(len(data)))

    def _number(self, form: str, position: int) -> int:
        if position < 0 or position + struct.calcsize(form) > len(self._data):
            raise ConvertError(
                f"damaged .tflite: an offset points to byte {position} of {len(self._data)}; export it again"
            )
        value: int = struct.unpack_from(form, self._data, position)[0]
        return value

    def _field(self, number: int) -> int:
        """Position of a field's value, 0 when absent."""
        slot = 4 + 2 * number
        offset = self._number("<H", self._vtable + slot) if slot + 2 <= self._vtable_bytes else 0
        return self._position + offset if offset else 0

    def number(self, field: int, form: str, default: int) -> int:
        """A scalar of struct's type `form`."""
        position = self._field(field)
        return self._number("<" + form, position) if position else default

    def real(self, field: int, default: float) -> float:
        """A float32."""
        return float(self.number(field, "f", 0)) if self._field(field) else default

    def table(self, field: int) -> Table | None:
        """A table that the field refers to."""
        position = self._field(field)
        return Table(self._data, position + self._number("<I", position), self._budget) if position else None

    def _vector(self, field: int, item_bytes: int, costs: int | None = None) -> tuple[int, int]:
        """(position of item 0, length) of a vector; (0, 0) when absent. costs: bytes that an item counts, if not its
        own."""
        position = self._field(field)
        if not position:
            return 0, 0
        start = position + self._number("<I", position)
        length = self._number("<I", start)
        if start + 4 + length * item_bytes > len(self._data):
            raise ConvertError(
                f"damaged .tflite: a list of {length} items at byte {start} passes the end of the file; export it again"
            )
        self._budget.take(length * (item_bytes if costs is None else costs))
        return start + 4, length

    def numbers(self, field: int, form: str) -> list[int]:
        """A vector of scalars of struct's type `form`; [] if missing."""
        start, length = self._vector(field, struct.calcsize("<" + form))
        return list(struct.unpack_from(f"<{length}{form}", self._data, start)) if length else []

    def reals(self, field: int) -> list[float]:
        """A vector of float32."""
        return [float(value) for value in self.numbers(field, "f")]

    def bytes(self, field: int) -> bytes:
        """A vector of uint8."""
        start, length = self._vector(field, 1)
        return self._data[start : start + length]

    def text(self, field: int) -> str:
        """A name, fit for one line of an error message."""
        start, length = self._vector(field, 1, costs=0)
        return printable(self._data[start : start + min(length, 800)].decode("utf-8", "replace")[:200])

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        start, length = self._vector(field, 4, costs=TABLE_BYTES)
        positions = [start + 4 * index for index in range(length)]
        return [Table(self._data, position + self._number("<I", position), self._budget) for position in positions]


def raw_vector(builder: flatbuffers.Builder, data: bytes, item_bytes: int, alignment: int) -> int:
    """The offset of a vector of ready little-endian items."""
    builder.StartVector(item_bytes, len(data) // item_bytes, alignment)
    builder.head = builder.head - len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return int(builder.EndVector())


def int_vector(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    """The offset of a vector of int32."""
    return raw_vector(builder, np.asarray(values, "<i4").tobytes(), 4, 4)


def options_table(builder: flatbuffers.Builder, *slots: tuple[str, int, float]) -> int:
    """The offset of an options table of (form, field, value): form is a name of Builder.Prepend...Slot; values equal to
    0 are left out, as flatbuffers does with defaults."""
    builder.StartObject(7)
    for form, field, value in slots:
        getattr(builder, f"Prepend{form}Slot")(field, value, 0)
    return int(builder.EndObject())
