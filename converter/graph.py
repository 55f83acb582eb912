"""The waist of the toolchain: an int8 network as plain data. Every reader ends here, every writer starts here.

Activations are NHWC, weights as TFLite stores them (CONV_2D OHWI, DEPTHWISE_CONV_2D 1HWC, FULLY_CONNECTED OI).
Scales are float32 values held as Python floats: they are read once from the Q/DQ nodes or the .tflite, never
recomputed. Source: TensorFlow Lite 8-bit quantization specification.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, cast

import flatbuffers
import numpy as np

from converter.arrays import Int8, Int32
from converter.formats.tflite import TfliteNode, TfliteOperator
from converter.tensor import Constant, QuantParams, Tensor, Weights

OutputMemory = Literal["view", "in place", "own"]
Bounds = tuple[int, int]  # least and largest int8 value


@dataclass(frozen=True)
class Cost:
    """Work of one inference: multiply-accumulates, and operations (2 per MAC, 1 per bias at every output element)."""

    macs: int = 0
    operations: int = 0


@dataclass(frozen=True)
class RowWindow:
    """Which rows of its input (axis 1, time) an output row reads: `window` of them from row * stride - pad_top on."""

    window: int
    stride: int
    pad_top: int

    def first_tap(self, row: int) -> int:
        """The first input row that output row `row` reads; below 0 or past the end lies padding."""
        return row * self.stride - self.pad_top


class Operator(Protocol):
    """What a layer must answer: all the meaning of an operator. One file of converter/operators/ holds one operator;
    how it is computed on the board stands in converter/aot."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    TFLITE: ClassVar[TfliteOperator]
    """Its number, versions and names in TensorFlow Lite."""
    ONNX: ClassVar[Mapping[str, Callable[..., Any]]]
    """For each type of ONNX node that alone becomes this operator an OnnxRule (converter/formats/onnx.py)."""
    MEMORY: ClassVar[OutputMemory]
    """Whether its output is its input's bytes, may overwrite them, or needs its own."""

    @property
    def name(self) -> str:
        """What messages, profiles and verify call the layer."""

    @property
    def input(self) -> int:
        """The first tensor it reads."""

    @property
    def output(self) -> int:
        """The tensor it writes."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """The tensors it reads, in operand order."""

    @property
    def weights(self) -> Weights | None:
        """Its int8 weights and int32 bias, if it has such."""

    @property
    def constants(self) -> tuple[tuple[str, Int32 | Constant], ...]:
        """Constant operands that a .tflite holds behind the activations: (name, values)."""

    def check(self, graph: Graph) -> None:
        """Raises ConvertError naming the first rule that the layer breaks in the graph."""

    def run(self, graph: Graph, inputs: Sequence[Int8]) -> Int8:
        """Its output for operands of n inferences stacked along axis 0, bit for bit as TensorFlow Lite Micro's."""

    def cost(self, graph: Graph) -> Cost:
        """The work of one inference."""

    def bounds(self, graph: Graph, x: Bounds) -> Bounds:
        """Bounds of its output that hold for all inputs when its first operand lies in x."""

    def rows(self, graph: Graph) -> RowWindow | None:
        """How output rows depend on input rows; None when every output may depend on every row."""

    def tflm_bytes(self, graph: Graph) -> tuple[int, int]:
        """(lasting, passing) bytes that TensorFlow Lite Micro with CMSIS-NN takes for it beside its activations."""

    def tflite_options(self, graph: Graph, builder: flatbuffers.Builder) -> int:
        """The offset of its options table, just written."""

    @classmethod
    def from_tflite(cls, node: TfliteNode) -> Operator:
        """The layer that a .tflite's operator describes; raises ConvertError."""


def with_fields(layer: Operator, **changes: Any) -> Operator:
    """A copy of the layer with other values in some fields."""
    return cast(Operator, dataclasses.replace(cast(Any, layer), **changes))


@dataclass(frozen=True)
class Variable:
    """What a model keeps from one inference to the next: tensor `read` holds it while the layers run, and then gets
    what they wrote to tensor `written`. Before the first inference each of its values is `initial`."""

    name: str
    read: int
    written: int
    initial: int


@dataclass(frozen=True, eq=False)
class Graph:
    """Layers in execution order over numbered tensors; one input, one output. spec_json is "" for a foreign model.

    Where it has variables, inputs stacked along axis 0 are inferences one after the other, from a reset.
    """

    tensors: tuple[Tensor, ...]
    layers: tuple[Operator, ...]
    input: int
    output: int
    spec_json: str = ""
    variables: tuple[Variable, ...] = ()

    @property
    def model_id(self) -> str:
        """12 hex digits of the SHA-256 of shapes, scales, attributes and weights; names do not count."""
        digest = hashlib.sha256()
        for tensor in self.tensors:
            digest.update(_canonical({"shape": tensor.shape, "quant": _plain(tensor.quant)}))
        for layer in self.layers:
            digest.update(_canonical({"kind": type(layer).__name__, **_plain(layer)}))
        digest.update(_canonical([self.input, self.output]))
        for variable in self.variables:
            digest.update(_canonical(_plain(variable)))
        return digest.hexdigest()[:12]


def _plain(item: Any) -> dict[str, Any]:
    return {f.name: _value(getattr(item, f.name)) for f in fields(item) if f.name != "name"}


def _value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"))
        return {"shape": value.shape, "bytes": hashlib.sha256(little.tobytes()).hexdigest()}
    return _plain(value) if isinstance(value, (QuantParams, Constant)) else value


def _canonical(item: Any) -> bytes:
    return json.dumps(item, sort_keys=True, separators=(",", ":")).encode()


def layer_name(tensor_name: str) -> str:
    """How readers name a layer: after the tensor it writes, without the `_q` that our ONNX export puts behind it."""
    return tensor_name.removesuffix("_q")
