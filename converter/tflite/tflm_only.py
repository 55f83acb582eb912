"""A .tflite for TensorFlow Lite Micro alone: what the firmware must know of it, by a look at its ends and operators
that needs no Graph."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from converter.arrays import WIRE_TYPES
from converter.errors import ConvertError, require
from converter.formats.tflite import FLOAT32, Table
from converter.target import NRF52840
from converter.tflite import schema
from converter.tflite.file import TfliteFile

# Of builtin operators as its op resolver has them (tflite-micro of August 2026); Add and the name in camel case.
_RESOLVED = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV
DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP ELU EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER
GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND
LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MIRROR_PAD MEAN MINIMUM MUL NEG NOT_EQUAL PACK PAD PADV2
PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE SQRT
SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE_CONV TRANSPOSE UNPACK UNIDIRECTIONAL_SEQUENCE_LSTM
VAR_HANDLE WHILE ZEROS_LIKE
"""
_UNLIKE = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
RESOLVERS = {name: "Add" + _UNLIKE.get(name, name.title().replace("_", "")) for name in _RESOLVED.split()}
CUSTOM = {
    "CIRCULAR_BUFFER": "AddCircularBuffer",
    "TFLite_Detection_PostProcess": "AddDetectionPostprocess",
    "TFLM_DECODE": "AddDecode",
    "SignalPCAN": "AddPCAN",
    **{
        f"Signal{name}": f"Add{name}"
        for name in (
            *("Delay", "Energy", "FftAutoScale", "FilterBank", "FilterBankLog", "FilterBankSquareRoot", "Framer"),
            *("FilterBankSpectralSubtraction", "Irfft", "OverlapAdd", "Rfft", "Stacker", "Window"),
        )
    },
}
ZERO_POINTS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
FILTERED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": None}  # the axis of the filter's outputs
LEAST_FLASH_BESIDE, LEAST_RAM_BESIDE = 50_000, 36_000  # interpreter and kernels at least; stack, code and tables


@dataclass(frozen=True)
class WireTensor:
    """An input or output: its bytes go over the wire as they lie in memory. scale 0: none."""

    name: str
    kind: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """In memory."""
        return self.size * np.dtype(self.kind).itemsize


@dataclass(frozen=True, eq=False)
class TflmOnly:
    """The bytes of a .tflite that the compiled engine refuses, and why. layers: operators of all its subgraphs, each
    counted once; is_dense_per_channel: the Arduino library's TFLM would read only the first of several scales;
    filter_bytes: the most that CMSIS-NN's scratch for one layer takes beyond the reference kernels'; tensors: of all
    subgraphs; has_floats: among them."""

    name: str
    data: bytes
    why: str
    inputs: tuple[WireTensor, ...]
    outputs: tuple[WireTensor, ...]
    operators: tuple[str, ...]
    layers: int
    variables: int
    is_dense_per_channel: bool
    filter_bytes: int
    tensors: int
    has_floats: bool

    @property
    def model_id(self) -> str:
        """12 hex digits of the file's SHA-256."""
        return hashlib.sha256(self.data).hexdigest()[:12]

    @property
    def input_bytes(self) -> int:
        """Of all inputs, one behind the other."""
        return sum(tensor.bytes for tensor in self.inputs)

    @property
    def output_bytes(self) -> int:
        """Of all outputs, one behind the other."""
        return sum(tensor.bytes for tensor in self.outputs)

    @property
    def staged_bytes(self) -> int:
        """Of the engine's own buffers, where several tensors make one input or output."""
        return sum(
            total
            for total, tensors in ((self.input_bytes, self.inputs), (self.output_bytes, self.outputs))
            if len(tensors) > 1
        )


def read_tflm_only(name: str, data: bytes, why: str) -> TflmOnly:
    """What the firmware needs, of a file that the compiled engine refuses because of `why`; raises ConvertError for
    what is no model or has an operator that TensorFlow Lite Micro's resolver lacks."""
    model = Table.root(data)
    subgraphs = model.tables(schema.Model.SUBGRAPHS)
    require(bool(subgraphs), name, "the model has no subgraph; the file is damaged, export it again")
    main = TfliteFile(model, subgraphs[0])
    inputs, outputs = (
        tuple(_wire(main, index) for index in subgraphs[0].numbers(field, "i"))
        for field in (schema.SubGraph.INPUTS, schema.SubGraph.OUTPUTS)
    )
    require(bool(inputs and outputs), name, "the model needs an input and an output")
    operators: set[str] = set()
    layers = filter_bytes = dense_scales = tensors = 0
    has_floats = False
    variables: set[tuple[str, str]] = set()
    metadata = model.tables(schema.Model.METADATA)
    if any(entry.text(schema.Metadata.NAME) == schema.SPEC_METADATA for entry in metadata):
        raise ConvertError("its metadata kws_spec makes it a model of this project, which compiles or is damaged")
    for subgraph in subgraphs:
        file = TfliteFile(model, subgraph)
        _check_tensors(file)
        tensors += len(file.tables)
        has_floats |= any(file.type_of("tensor", index) == FLOAT32 for index in range(len(file.tables)))
        for table in subgraph.tables(schema.SubGraph.OPERATORS):
            operator = file.operator("operator", table)[1]
            operators.add(operator)
            layers += 1
            if operator in FILTERED:
                filter_bytes = max(filter_bytes, _filter_bytes(file, table, FILTERED[operator]))
            if operator == "FULLY_CONNECTED":
                dense_scales = max(dense_scales, _weight_scales(file, table))
            if operator == "VAR_HANDLE" and (options := table.table(schema.Operator.OPTIONS)):
                variables.add((options.text(0), options.text(1)))
    require(layers > 0, name, "the model has no operator")
    if missing := sorted(operators - RESOLVERS.keys() - CUSTOM.keys()):
        raise ConvertError(f"its resolver has no {', '.join(missing)}")
    return TflmOnly(
        name,
        data,
        why,
        inputs,
        outputs,
        tuple(sorted(operators)),
        layers,
        len(variables),
        dense_scales > 1,
        filter_bytes,
        tensors,
        has_floats,
    )


def _check_tensors(file: TfliteFile) -> None:
    """ConvertError for what no converter writes and the interpreter takes as it comes: scales that are no positive
    numbers, zero points beyond the type, constants of another size than their shape's."""
    for index, table in enumerate(file.tables):
        kind, name = schema.type_name(file.type_of("tensor", index)), file.name(index)
        found = table.table(schema.TensorTable.QUANTIZATION)
        if found and kind in ZERO_POINTS:
            scales, zeros = found.reals(schema.Quantization.SCALE), found.numbers(schema.Quantization.ZERO_POINT, "q")
            fine = all(math.isfinite(scale) and scale > 0 for scale in scales)
            require(fine, name, "has a scale that is no positive number; the file is damaged, export it again")
            low, high = ZERO_POINTS[kind]
            fine = all(low <= zero <= high for zero in zeros)
            require(fine, name, f"has a zero point outside {low}..{high}; the file is damaged, export it again")
        data, shape = file.data(name, index), file.shape(name, index)
        if data and kind in WIRE_TYPES:
            fine = len(data) == math.prod(shape) * np.dtype(kind).itemsize
            told = f"a constant {kind} of shape {list(shape)[:8]} holds {len(data)} bytes"
            require(fine, name, f"{told}; the file is damaged or sparse, export it again")


def _wire(file: TfliteFile, index: int) -> WireTensor:
    kind, name, shape = schema.type_name(file.type_of("end", index)), file.name(index), file.shape("end", index)
    if kind not in WIRE_TYPES or len(shape) > 6 or not all(0 < size <= NRF52840.ram_bytes for size in shape):
        raise ConvertError(f"{name}: {kind} of shape {list(shape)} cannot be an input or output; export it with others")
    found = file.table("end", index).table(schema.TensorTable.QUANTIZATION)
    scales = found.reals(schema.Quantization.SCALE) if found else []
    zeros = found.numbers(schema.Quantization.ZERO_POINT, "q") if found else []
    has_one = len(scales) == 1 and math.isfinite(scales[0])
    return WireTensor(name, kind, shape, scales[0] if has_one else 0.0, zeros[0] if has_one and zeros else 0)


def _weight_scales(file: TfliteFile, table: Table) -> int:
    inputs = table.numbers(schema.Operator.INPUTS, "i")
    found = file.table("operator", inputs[1]).table(schema.TensorTable.QUANTIZATION) if len(inputs) > 1 else None
    return len(found.reals(schema.Quantization.SCALE)) if found else 0


def _filter_bytes(file: TfliteFile, table: Table, axis: int | None) -> int:
    """Two int16 columns of the filter's window (a depthwise one's is of all channels); all of a transposed one."""
    inputs = table.numbers(schema.Operator.INPUTS, "i")
    shape = file.shape("operator", inputs[1]) if len(inputs) > 1 else ()
    if len(shape) != 4 or not all(0 < size <= NRF52840.flash_bytes for size in shape):
        return 0
    return 4 * math.prod(shape) // (shape[0] if axis == 0 else 1)


def require_fit(model: TflmOnly, arena_bytes: int) -> None:
    """ConvertError where the board's memory certainly cannot hold the model and the least firmware round it."""
    ram = arena_bytes + model.input_bytes + model.output_bytes + model.staged_bytes
    for memory, of, count, beside, has in (
        ("flash", "model", len(model.data), LEAST_FLASH_BESIDE, NRF52840.flash_bytes),
        ("RAM", "arena, inputs and outputs", ram, LEAST_RAM_BESIDE, NRF52840.ram_bytes),
    ):
        if (over := count + beside - has) > 0:
            raise ConvertError(
                f"{model.name}: is for TensorFlow Lite Micro only ({model.why}), and there at least {over:,} bytes "
                f"over the {memory} of the {NRF52840.name}: {count:,} bytes of {of} and {beside:,} of firmware, "
                f"{has:,} are there; make it smaller"
            )
