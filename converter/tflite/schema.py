"""The tables of a .tflite file that its reader and writer share.

Field numbers count the fields of each table of the TensorFlow Lite schema from 0 (its version 3); flatbuffers layout:
flatbuffers.dev.
"""

from __future__ import annotations

SCHEMA_VERSION = 3
SPEC_METADATA = "kws_spec"


class Model:
    """Field numbers."""

    VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS, _METADATA_BUFFER, METADATA = range(7)


class Metadata:
    """Field numbers."""

    NAME, BUFFER = range(2)


class SubGraph:
    """Field numbers."""

    TENSORS, INPUTS, OUTPUTS, OPERATORS, NAME = range(5)


class TensorTable:
    """Field numbers."""

    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION, IS_VARIABLE, SPARSITY, SHAPE_SIGNATURE = range(8)


class Quantization:
    """Field numbers."""

    MIN, MAX, SCALE, ZERO_POINT, _DETAILS_TYPE, _DETAILS, QUANTIZED_DIMENSION = range(7)


class OperatorCode:
    """Field numbers."""

    OLD_BUILTIN, CUSTOM, VERSION, BUILTIN = range(4)


class Operator:
    """Field numbers."""

    OPCODE_INDEX, INPUTS, OUTPUTS, OPTIONS_TYPE, OPTIONS = range(5)


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
# Of operators that are not supported, so that an error can name them; those of converter/operators go first.
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
