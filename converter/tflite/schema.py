"""The facts of the .tflite file format that this project needs, and a bounded reader of its tables.

Field numbers count the fields of each table of the TensorFlow Lite schema from 0 (its version 3); flatbuffers layout:
flatbuffers.dev.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from converter.graph import Activation, ConvertError

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
SPEC_METADATA = "kws_spec"


class Model:
    VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS, _METADATA_BUFFER, METADATA = range(7)


class Metadata:
    NAME, BUFFER = range(2)


class SubGraph:
    TENSORS, INPUTS, OUTPUTS, OPERATORS, NAME = range(5)


class TensorTable:
    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION, IS_VARIABLE, SPARSITY, SHAPE_SIGNATURE = range(8)


class Quantization:
    MIN, MAX, SCALE, ZERO_POINT, _DETAILS_TYPE, _DETAILS, QUANTIZED_DIMENSION = range(7)


class OperatorCode:
    OLD_BUILTIN, CUSTOM, VERSION, BUILTIN = range(4)


class Operator:
    OPCODE_INDEX, INPUTS, OUTPUTS, OPTIONS_TYPE, OPTIONS = range(5)


class ConvOptions:
    PADDING, STRIDE_W, STRIDE_H, ACTIVATION, DILATION_W, DILATION_H = range(6)


class DepthwiseOptions:
    PADDING, STRIDE_W, STRIDE_H, DEPTH_MULTIPLIER, ACTIVATION, DILATION_W, DILATION_H = range(7)


class PoolOptions:
    PADDING, STRIDE_W, STRIDE_H, WINDOW_W, WINDOW_H, ACTIVATION = range(6)


class FullyConnectedOptions:
    ACTIVATION, WEIGHTS_FORMAT, KEEP_NUM_DIMS = range(3)


class SoftmaxOptions:
    BETA = 0


class AddOptions:
    ACTIVATION = 0


class ReshapeOptions:
    NEW_SHAPE = 0


FLOAT32, INT32, INT64, INT8, INT4 = 0, 2, 4, 9, 17
TYPE_NAMES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    17: "int4",
}
PADDINGS = ("SAME", "VALID")
ACTIVATIONS: dict[int, Activation] = {0: "NONE", 1: "RELU", 3: "RELU6"}
ACTIVATION_NUMBERS = {name: number for number, name in ACTIVATIONS.items()}


@dataclass(frozen=True)
class OperatorKind:
    """A builtin operator's number, the number of its options table in the union, and the version int8 kernels carry."""

    number: int
    options: int
    version: int


KINDS = {
    "ADD": OperatorKind(0, 11, 2),
    "AVERAGE_POOL_2D": OperatorKind(1, 5, 2),
    "CONV_2D": OperatorKind(3, 1, 3),
    "DEPTHWISE_CONV_2D": OperatorKind(4, 2, 3),
    "FULLY_CONNECTED": OperatorKind(9, 8, 4),
    "MAX_POOL_2D": OperatorKind(17, 5, 2),
    "RESHAPE": OperatorKind(22, 17, 1),
    "SOFTMAX": OperatorKind(25, 9, 2),
    "PAD": OperatorKind(34, 22, 2),
}
INT4_VERSIONS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 7, "FULLY_CONNECTED": 10}  # of operators with int4 weights
KIND_NAMES = {kind.number: name for name, kind in KINDS.items()}
# Named only so that an error can name them.
OTHER_NAMES = {
    2: "CONCATENATION",
    6: "DEQUANTIZE",
    14: "LOGISTIC",
    16: "LSTM",
    18: "MUL",
    19: "RELU",
    21: "RELU6",
    28: "TANH",
    32: "CUSTOM",
    39: "TRANSPOSE",
    40: "MEAN",
    41: "SUB",
    43: "SQUEEZE",
    45: "STRIDED_SLICE",
    49: "SPLIT",
    60: "PADV2",
    67: "TRANSPOSE_CONV",
    70: "EXPAND_DIMS",
    83: "PACK",
    114: "QUANTIZE",
    117: "HARD_SWISH",
}


class Table:
    """A flatbuffers table inside untrusted bytes; every access is bounds-checked and raises ConvertError."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position
        self._vtable = position - self._number("<i", position)
        self._vtable_bytes = self._number("<H", self._vtable)

    @staticmethod
    def root(data: bytes) -> Table:
        if len(data) < 8 or data[4:8] != IDENTIFIER:
            raise ConvertError("not a .tflite file: its bytes 4..7 are not TFL3; give a TensorFlow Lite model")
        return Table(data, struct.unpack_from("<I", data, 0)[0])

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
        position = self._field(field)
        return self._number("<" + form, position) if position else default

    def real(self, field: int, default: float) -> float:
        return float(self.number(field, "f", 0)) if self._field(field) else default

    def table(self, field: int) -> Table | None:
        position = self._field(field)
        return Table(self._data, position + self._number("<I", position)) if position else None

    def _vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """(position of item 0, length) of a vector; (0, 0) when absent."""
        position = self._field(field)
        if not position:
            return 0, 0
        start = position + self._number("<I", position)
        length = self._number("<I", start)
        if start + 4 + length * item_bytes > len(self._data):
            raise ConvertError(
                f"damaged .tflite: a list of {length} items at byte {start} passes the end of the file; export it again"
            )
        return start + 4, length

    def numbers(self, field: int, form: str) -> list[int]:
        start, length = self._vector(field, struct.calcsize("<" + form))
        return list(struct.unpack_from(f"<{length}{form}", self._data, start)) if length else []

    def reals(self, field: int) -> list[float]:
        return [float(value) for value in self.numbers(field, "f")]

    def bytes(self, field: int) -> bytes:
        start, length = self._vector(field, 1)
        return self._data[start : start + length]

    def text(self, field: int) -> str:
        """A name, fit for one line of an error message."""
        return "".join(c if c.isprintable() else "?" for c in self.bytes(field).decode("utf-8", "replace")[:200])

    def tables(self, field: int) -> list[Table]:
        start, length = self._vector(field, 4)
        positions = [start + 4 * index for index in range(length)]
        return [Table(self._data, position + self._number("<I", position)) for position in positions]
