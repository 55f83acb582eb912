"""The waist of the toolchain: an int8 network as plain data. Every reader ends here, every writer starts here.

Activations are NHWC, weights as TFLite stores them (CONV_2D OHWI, DEPTHWISE_CONV_2D 1HWC, FULLY_CONNECTED OI).
Scales are float32 values held as Python floats: they are read once from the Q/DQ nodes or the .tflite, never
recomputed. Source: TensorFlow Lite 8-bit quantization specification.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, Literal, NoReturn, Union

import numpy as np
from numpy.typing import NDArray

Padding = Literal["SAME", "VALID"]
Activation = Literal["NONE", "RELU", "RELU6"]
Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]


class ConvertError(ValueError):
    """A model that cannot be converted; the message says where, which rule, what came and how to mend it."""

    def __init__(self, message: str) -> None:
        """The message may quote names from a damaged file; it stays one printable line."""
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


@dataclass(frozen=True)
class QuantParams:
    """real = (q - zero_point) * scale. One scale per tensor, or one per slice along `axis` (per channel)."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None

    @property
    def scale(self) -> float:
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        return self.zero_points[0]


@dataclass(frozen=True)
class Tensor:
    """An activation: int8, per-tensor quantization, shape with batch 1 in front."""

    name: str
    shape: tuple[int, ...]
    quant: QuantParams

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Conv2D:
    name: str
    input: int
    output: int
    weights_ohwi: Int8
    weight_quant: QuantParams
    bias: Int32
    stride_hw: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass(frozen=True, eq=False)
class DepthwiseConv2D:
    """Output channel c * depth_multiplier + m reads input channel c."""

    name: str
    input: int
    output: int
    weights_1hwc: Int8
    weight_quant: QuantParams
    bias: Int32
    depth_multiplier: int
    stride_hw: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass(frozen=True, eq=False)
class FullyConnected:
    name: str
    input: int
    output: int
    weights_oi: Int8
    weight_quant: QuantParams
    bias: Int32
    activation: Activation


@dataclass(frozen=True, eq=False)
class AveragePool2D:
    name: str
    input: int
    output: int
    window_hw: tuple[int, int]
    stride_hw: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass(frozen=True, eq=False)
class MaxPool2D:
    name: str
    input: int
    output: int
    window_hw: tuple[int, int]
    stride_hw: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass(frozen=True, eq=False)
class Add:
    """Two inputs of equal shape (no broadcasting)."""

    name: str
    input: int
    input2: int
    output: int
    activation: Activation


@dataclass(frozen=True, eq=False)
class Reshape:
    name: str
    input: int
    output: int


@dataclass(frozen=True, eq=False)
class Softmax:
    """Over the last axis; output scale 1/256 and zero point -128 as TFLite demands."""

    name: str
    input: int
    output: int
    beta: float = 1.0


@dataclass(frozen=True, eq=False)
class Pad:
    """Pads with the input's zero point; `pads` holds (before, after) per axis."""

    name: str
    input: int
    output: int
    pads: tuple[tuple[int, int], ...]


Layer = Union[Conv2D, DepthwiseConv2D, FullyConnected, AveragePool2D, MaxPool2D, Add, Reshape, Softmax, Pad]


@dataclass(frozen=True, eq=False)
class Graph:
    """Layers in execution order over numbered tensors; one input, one output. spec_json is "" for a foreign model."""

    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    input: int
    output: int
    spec_json: str = ""

    @property
    def model_id(self) -> str:
        """12 hex digits of the SHA-256 of shapes, scales, attributes and weights; names do not count."""
        digest = hashlib.sha256()
        for tensor in self.tensors:
            digest.update(_canonical({"shape": tensor.shape, "quant": _plain(tensor.quant)}))
        for layer in self.layers:
            digest.update(_canonical({"kind": type(layer).__name__, **_plain(layer)}))
        digest.update(_canonical([self.input, self.output]))
        return digest.hexdigest()[:12]


def _plain(item: Any) -> dict[str, Any]:
    return {f.name: _value(getattr(item, f.name)) for f in fields(item) if f.name != "name"}


def _value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"))
        return {"shape": value.shape, "bytes": hashlib.sha256(little.tobytes()).hexdigest()}
    return _plain(value) if isinstance(value, QuantParams) else value


def _canonical(item: Any) -> bytes:
    return json.dumps(item, sort_keys=True, separators=(",", ":")).encode()


def assert_never(layer: NoReturn) -> NoReturn:
    """The last case of each match over Layer: mypy reports here every kind that the match forgot."""
    raise AssertionError(f"no case for {type(layer).__name__}")


def layer_name(tensor_name: str) -> str:
    """How readers name a layer: after the tensor it writes, without the `_q` that our ONNX export puts behind it."""
    return tensor_name.removesuffix("_q")


def layer_inputs(layer: Layer) -> tuple[int, ...]:
    """The tensors a layer reads, in operand order."""
    return (layer.input, layer.input2) if isinstance(layer, Add) else (layer.input,)


def output_size(size: int, window: int, stride: int, padding: Padding) -> int:
    """Output positions along one axis (TFLite: SAME = ceil(n / s), VALID = ceil((n - k + 1) / s))."""
    return -(-size // stride) if padding == "SAME" else -(-(size - window + 1) // stride)


def pad_before(size: int, window: int, stride: int, padding: Padding) -> int:
    """Zeros in front of one axis; under SAME the odd one goes behind (TFLite ComputePadding)."""
    if padding == "VALID":
        return 0
    return max(0, (output_size(size, window, stride, padding) - 1) * stride + window - size) // 2
