"""Random ONNX files with Q/DQ nodes: every operator that the reader accepts, in the forms of operator sets 10 to 21,
with now and then what it must refuse. Each is valid ONNX that onnxruntime runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from qdq_models import SCORES, Qdq

OPSETS = (10, 22)
RARE = 0.04  # of each form that is refused


@dataclass(frozen=True)
class Real:
    """A dequantized activation: its scale and zero point, and about how far its values spread."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    spread: float
    is_nhwc: bool = False


class Builder(Qdq):
    """A Qdq that appends random pieces."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        super().__init__((1,), seed, int(rng.integers(*OPSETS)))
        self.count = 0
        self.unsigned, self.unsigned_weights = (bool(rng.random() < 0.2) for _ in range(2))

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind.lower()}{self.count}"

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def small(self, low: int, high: int) -> int:
        """low..high, both included."""
        return int(self.rng.integers(low, high + 1))

    def grid(self, y: str, shape: tuple[int, ...], spread: float, low: bool = False) -> Real:
        """Puts y on a grid that its spread fills more or less."""
        scale = float(np.float32(spread * self.rng.uniform(0.4, 2.0) / 100))
        zero_point = -128 if low or self.chance(0.2) else self.small(-128, 127) if self.chance(0.3) else 0
        return Real(self.qdq(y, self.name("grid"), scale, zero_point), shape, scale, zero_point, spread)

    def same_grid(self, y: str, x: Real, shape: tuple[int, ...]) -> Real:
        """Puts y on the grid of x."""
        return replace(x, name=self.qdq(y, self.name("grid"), x.scale, x.zero_point), shape=shape)

    def one(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        return self.node(kind, inputs, self.name(kind), **attributes)

    def ints(self, values: Any) -> str:
        return self.operand("ints", np.array(values, np.int64))

    def operand(self, kind: str, value: Any) -> str:
        """A constant, as an initialiser or by a node."""
        name = self.name(kind)
        if self.chance(0.7):
            return self.constant(name, value)
        return self.node("Constant", [], name, value=onnx.numpy_helper.from_array(np.asarray(value)))

    def any_bias(self, name: str, x: Real, scales: Any, out: int) -> str:
        """A bias as it should be, or in float."""
        if self.chance(0.7):
            return self.bias(name, x.name, scales, out)
        size = 3000 * x.scale * float(scales.mean())
        return self.constant(name, self.rng.uniform(-size, size, out).astype(np.float32))

    def normed(self, y: str, channels: int, axes: int) -> str:
        """Maybe with a BatchNormalization or arithmetic per channel behind it, on about the same scale."""
        kind = self.pick(["", "", "", "BatchNormalization", "Mul", "Div", "Add", "Sub"])
        if not kind:
            return y
        values = [self.rng.uniform(0.5, 1.5, channels).astype(np.float32) for _ in range(4)]
        if kind == "BatchNormalization":
            values[0][0] *= -1
            return self.one(kind, [y, *(self.operand("norm", part) for part in values)])
        operands = [y, self.operand("factor", values[0].reshape(-1, *[1] * axes))]
        return self.one(kind, operands if kind == "Div" or self.chance(0.7) else operands[::-1])

    def activated(self, y: str) -> tuple[str, bool]:
        """Maybe Relu or Clip behind y; and whether the result starts at 0."""
        kind = self.pick(["", "", "Relu", "Relu6", "Clip"])
        if kind == "Relu":
            return self.one("Relu", [y]), True
        if not kind:
            return y, False
        top = {} if kind == "Clip" else {"max": 6.0}
        if self.chance(RARE):
            top = {"max": 3.0}
        if self.opset < 11:
            return self.one("Clip", [y], min=0.0, **top), True
        bounds = [self.operand("bound", np.float32(v)) for v in (0.0, *top.values())]
        if self.chance(RARE):
            bounds[0] = ""
        return self.one("Clip", [y, *bounds]), True


def _pads(b: Builder, kernel: tuple[int, ...]) -> dict[str, Any]:
    """Attributes for padding that leaves no window without a value."""
    kind = b.pick(["none", "none", "pads", "pads", "SAME_UPPER", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if kind == "pads":
        return {"pads": [b.small(0, k - 1) for k in (*kernel, *kernel)]}
    return {} if kind == "none" else {"auto_pad": kind}


def _window_out(size: int, k: int, s: int, begin: int, end: int, ceil: bool) -> int:
    free = size + begin + end - k
    out = (-(-free // s) if ceil else free // s) + 1
    if ceil and (out - 1) * s >= size + begin:  # a window that starts in the padding behind is left out
        out -= 1
    return out


def _out_hw(shape: tuple[int, ...], kernel: Any, stride: Any, pads: dict[str, Any], ceil: bool = False) -> list[int]:
    """Height and width that ONNX gives."""
    mode = pads.get("auto_pad", "")
    if mode.startswith("SAME"):
        return [-(-n // s) for n, s in zip(shape[2:], stride, strict=True)]
    axes = len(kernel)
    given = pads.get("pads", [0] * 2 * axes)
    return [_window_out(shape[2 + i], kernel[i], stride[i], given[i], given[axes + i], ceil) for i in range(axes)]


def conv(b: Builder, x: Real, same_size: bool = False) -> Real:
    channels = x.shape[1]
    kernel = tuple(b.small(1, min(4, size)) for size in x.shape[2:])
    stride, pads = tuple(b.small(1, 2) for _ in kernel), _pads(b, kernel)
    if same_size:
        stride, pads = (1,) * len(kernel), {"auto_pad": b.pick(["SAME_UPPER", "SAME_LOWER"])}
    attributes: dict[str, Any] = {**pads, "strides": list(stride)}
    if max(stride) == 1 and b.chance(0.5):
        del attributes["strides"]
    if b.chance(0.3):
        attributes["kernel_shape"] = list(kernel)
    group, depth, out = 1, channels, b.small(1, 5)
    if same_size:
        out = channels
    elif channels > 1 and b.chance(0.35):
        group, depth, out = channels, 1, channels * b.small(1, 2)
    elif channels % 2 == 0 and b.chance(RARE):
        group, depth, out = 2, channels // 2, 4
    if group > 1 or b.chance(0.2):
        attributes["group"] = group
    if b.chance(RARE) and not same_size and max(kernel) == 1:
        attributes["dilations"] = [2] * len(kernel)
    name = b.name("conv")
    axis = 0 if b.opset >= 13 and b.chance(0.6) else None
    weights, scales = b.weights(f"{name}_weights", (out, depth, *kernel), axis, b.chance(0.2))
    b.scales[x.name] = x.scale
    operands = [x.name, weights]
    if b.chance(0.8):
        operands.append(b.any_bias(f"{name}_bias", x, scales, out))
    y, low = b.activated(b.normed(b.node("Conv", operands, name, **attributes), out, len(kernel)))
    spread = math.sqrt(depth * math.prod(kernel)) * 73 * float(scales.mean()) * x.spread
    return b.grid(y, (1, out, *_out_hw(x.shape, kernel, stride, pads)), spread, low)


def pad(b: Builder, x: Real) -> Real:
    rank = len(x.shape)
    sides = [[0, 0] for _ in range(rank)]
    for axis in range(2 if rank == 4 else 1, rank):
        sides[axis] = [b.small(0, 2), b.small(0, 2)]
    if rank == 4 and b.chance(RARE):
        sides[1] = [0, 1]
    axes = list(range(rank))
    given = b.opset >= 18 and b.chance(0.4)
    if given:
        axes = [axis for axis in axes if sides[axis] != [0, 0]] or [rank - 1]
    flat = [sides[axis][end] for end in (0, 1) for axis in axes]
    value = b.pick([None, 0.0]) if not b.chance(RARE) else 0.5
    if b.opset < 11:
        attributes: dict[str, Any] = {"pads": flat} if value is None else {"pads": flat, "value": value}
        y = b.one("Pad", [x.name], **attributes)
    else:
        operands = [x.name, b.ints(flat)]
        if value is not None or given:
            operands.append("" if value is None else b.operand("value", np.float32(value)))
        if given:
            operands.append(b.ints([axis - (rank if b.chance(0.5) else 0) for axis in axes]))
        y = b.one("Pad", operands, **({"mode": "constant"} if b.chance(0.3) else {}))
    shape = tuple(size + before + after for size, (before, after) in zip(x.shape, sides, strict=True))
    return b.same_grid(y, x, shape) if b.chance(0.5) else replace(x, name=y, shape=shape)


def pool(b: Builder, x: Real) -> Real:
    kind = b.pick(["MaxPool", "AveragePool"])
    kernel = tuple(b.small(1, min(3, size)) for size in x.shape[2:])
    stride, pads = tuple(b.small(1, 2) for _ in kernel), _pads(b, kernel)
    if b.chance(0.6):  # what TensorFlow Lite has
        pads = b.pick([{}, {"auto_pad": "SAME_UPPER"}])
    if pads.get("auto_pad", "").startswith("SAME"):  # onnxruntime's pools fail on more stride than window
        stride = tuple(map(min, stride, kernel))
    attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(stride), **pads}
    ceil = "auto_pad" not in pads and b.chance(2 * RARE)
    if ceil:
        attributes["ceil_mode"] = 1
    if kind == "AveragePool" and not ceil and b.chance(0.3):
        attributes["count_include_pad"] = b.small(0, 1)
    if kind == "MaxPool" and b.chance(0.1):
        attributes["storage_order"] = int(b.chance(RARE))
    y = b.one(kind, [x.name], **attributes)
    shape = (1, x.shape[1], *_out_hw(x.shape, kernel, stride, pads, ceil))
    if kind == "MaxPool" and b.chance(0.4):
        return replace(x, name=y, shape=shape)
    if b.chance(0.2) and kind == "MaxPool":
        y, _ = b.activated(y)
    return b.grid(y, shape, x.spread) if b.chance(RARE) else b.same_grid(y, x, shape)


def mean(b: Builder, x: Real) -> Real:
    kind, keeps = b.pick(["GlobalAveragePool", "ReduceMean", "GlobalMaxPool"]), b.chance(0.6)
    shape: tuple[int, ...] = (*x.shape[:2], *(1 for _ in x.shape[2:]))
    if kind == "ReduceMean" and len(x.shape) == 4:
        axes = b.pick([[2, 3], [-2, -1], [3, 2], [-1, 2]]) if not b.chance(RARE) else [3]
        more: dict[str, Any] = {} if keeps and b.chance(0.5) else {"keepdims": int(keeps)}
        if b.opset >= 18:
            y = b.one("ReduceMean", [x.name, b.ints(axes)], **more)
        else:
            y = b.one("ReduceMean", [x.name], axes=axes, **more)
        whole = (1, x.shape[1], 1 if len(axes) == 2 else x.shape[2], 1)
        shape = whole if keeps else (1, x.shape[1], *whole[2:][: 2 - len(axes)])
    else:
        kind = "GlobalAveragePool" if kind == "ReduceMean" else kind
        y = b.one(kind, [x.name])
    if kind == "GlobalMaxPool" or b.chance(0.5):
        return b.same_grid(y, x, shape)
    return b.grid(y, shape, x.spread / 3)


def residual(b: Builder, x: Real) -> Real:
    if b.chance(RARE) and len(x.shape) == 4:
        other = mean(b, x)
    elif len(x.shape) == 4 and b.chance(0.8):
        other = conv(b, x, same_size=True)
    else:
        other = x
    if len(other.shape) not in (len(x.shape), 4):
        return x
    pair = [x.name, other.name]
    y, low = b.activated(b.one("Add", pair if b.chance(0.5) else pair[::-1]))
    return b.grid(y, x.shape if len(other.shape) == 4 else other.shape, max(x.spread, other.spread) * 1.4, low)


def softmax(b: Builder, x: Real) -> Real:
    rank, default = len(x.shape), b.chance(0.3)
    last = x.shape[1:] if b.opset < 13 else x.shape[-1:]
    if math.prod(last) > 500:
        return x
    attributes = {} if default else {"axis": b.pick([-1, rank - 1, b.small(-rank, rank - 1), 1 % rank])}
    if b.opset < 11 and attributes.get("axis", 0) < 0:
        attributes["axis"] += rank
    y = b.one("Softmax", [x.name], **attributes)
    if b.chance(RARE):
        return b.grid(y, x.shape, 1.0)
    name = b.qdq(y, b.name("scores"), *SCORES)
    return Real(name, x.shape, SCORES[0], SCORES[1], 0.5)


def dense(b: Builder, x: Real) -> Real:
    if x.shape[-1] != math.prod(x.shape) and (len(x.shape) == 2 or b.chance(0.6)):
        x = replace(x, name=b.one("Flatten", [x.name]), shape=(x.shape[0], math.prod(x.shape[1:])))
    depth, out, name = x.shape[-1], b.small(1, 6), b.name("dense")
    is_gemm = len(x.shape) == 2 and b.chance(0.6)
    trans_b = is_gemm and b.chance(0.5)
    shape = (out, depth) if trans_b else (depth, out)
    axis = (0 if trans_b else 1) if b.opset >= 13 and b.chance(0.5) else None
    weights, scales = b.weights(f"{name}_weights", shape, axis, b.chance(0.2))
    b.scales[x.name] = x.scale
    biased = b.chance(0.8) or (is_gemm and b.opset < 11)  # where a Gemm needs one
    bias = b.any_bias(f"{name}_bias", x, scales, out) if biased else ""
    result = (*x.shape[:-1], out)
    if is_gemm:
        attributes: dict[str, Any] = {"transB": 1} if trans_b else {"transB": 0} if b.chance(0.3) else {}
        if b.chance(RARE):
            attributes[b.pick(["alpha", "beta"])] = 0.5
        elif b.chance(0.2):
            attributes["alpha"] = 1.0
        if depth == 1 and b.chance(0.5):
            attributes["transA"] = 1
        y = b.node("Gemm", [x.name, weights, *([bias] if bias else [])], name, **attributes)
    else:
        y = b.node("MatMul", [x.name, weights], name)
        if bias:
            if b.chance(2 * RARE) and out > 1 and len(x.shape) == 2:  # [1, out] + [out, 1] is a map
                _reshape_constant(b, f"{name}_bias", [out, 1])
                result = (out, out)
            elif b.chance(0.2) and b.opset < 13:  # scales of one axis would no longer be those of this
                dims = [1] * b.small(1, 2)
                _reshape_constant(b, f"{name}_bias", [*dims, out])
                result = (*[1] * (len(dims) + 1 - len(result)), *result)
            y = b.one("Add", [y, bias] if b.chance(0.5) else [bias, y])
    y, low = b.activated(y)
    return b.grid(y, result, math.sqrt(depth) * 73 * float(scales.mean()) * x.spread, low)


def _reshape_constant(b: Builder, name: str, shape: list[int]) -> None:
    next(tensor for tensor in b.initializers if tensor.name == name).dims[:] = shape


def reshape(b: Builder, x: Real) -> Real:
    """Another shape of the same elements."""
    size, rank = math.prod(x.shape), len(x.shape)
    kind = b.pick(["flatten", "flatten", "row", "row", "rest", "map", "squeeze", "unsqueeze", "three"])
    shape: tuple[int, ...]
    if kind == "flatten":
        axis = b.small(0, rank) if b.chance(0.3) else 1
        shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
        if b.opset >= 11 and b.chance(0.2):
            axis -= rank if axis < rank else 0
        y = b.one("Flatten", [x.name], **({} if axis == 1 and b.chance(0.5) else {"axis": axis}))
    elif kind == "squeeze":
        ones = [axis for axis in range(1, rank) if x.shape[axis] == 1]
        every = b.chance(0.2)
        gone = [axis for axis in range(rank) if x.shape[axis] == 1] if every else ones[: b.small(1, 3)]
        if not gone or len(gone) == rank:
            return x
        shape = tuple(n for axis, n in enumerate(x.shape) if axis not in gone)
        y = _with_axes(b, "Squeeze", x, None if every else gone)
    elif kind == "unsqueeze" and rank < 4:
        new = b.small(1, rank)
        shape = (*x.shape[:new], 1, *x.shape[new:])
        y = _with_axes(b, "Unsqueeze", x, [new])
    else:
        channels = b.pick([n for n in range(1, 9) if size % n == 0])
        rest = size // channels
        height = b.pick([n for n in range(1, 9) if rest % n == 0])
        shape = {"map": (1, channels, height, rest // height), "three": (1, channels, rest)}.get(kind, (1, size))
        wanted = list(shape)
        if kind == "rest" and x.shape[0] == 1:
            wanted[0] = 0
        allow = {"allowzero": 1} if b.opset >= 14 and kind != "rest" and b.chance(0.2) else {}
        if b.chance(0.4):
            wanted[-1] = -1
        y = b.one("Reshape", [x.name, b.ints(wanted)], **allow)
    return b.same_grid(y, x, shape) if b.chance(0.3) else replace(x, name=y, shape=shape)


def _with_axes(b: Builder, kind: str, x: Real, axes: list[int] | None) -> str:
    if axes is None:
        return b.one(kind, [x.name])
    return b.one(kind, [x.name, b.ints(axes)]) if b.opset >= 13 else b.one(kind, [x.name], axes=axes)


def transpose(b: Builder, x: Real) -> Real:
    """To NHWC; back again a few steps later, if chance wants it."""
    rank = len(x.shape)
    perm: tuple[int, ...] = (0, 3, 1, 2) if x.is_nhwc else (0, 2, 3, 1)
    if rank != 4 or b.chance(RARE):
        perm = (
            (0, *(int(axis) + 1 for axis in b.rng.permutation(rank - 1))) if b.chance(0.9) else tuple(range(rank))[::-1]
        )
    else:
        x = replace(x, is_nhwc=not x.is_nhwc)
    y = b.one("Transpose", [x.name], perm=list(perm))
    shape = tuple(x.shape[axis] for axis in perm)
    return b.same_grid(y, x, shape) if b.chance(0.3) else replace(x, name=y, shape=shape)


def nothing(b: Builder, x: Real) -> Real:
    """Identity, Dropout, Relu, mostly on a grid that starts at 0."""
    kind = b.pick(["Identity", "Dropout", "Relu"])
    if kind == "Relu" and x.zero_point != -128 and b.chance(0.6):
        kind = "Identity"
    operands = [x.name]
    if kind == "Dropout" and b.opset >= 12 and b.chance(0.6):
        operands.append(b.constant(b.name("ratio"), np.float32(0.3)))
        if b.chance(0.5):
            operands.append(b.constant(b.name("training"), np.bool_(b.chance(RARE))))
    y = b.one(kind, operands)
    return b.same_grid(y, x, x.shape) if b.chance(0.3) else replace(x, name=y)


def again(b: Builder, x: Real) -> Real:
    """Quantized once more, maybe clipped or squashed before."""
    if b.chance(0.3):
        kind = b.pick(["Sigmoid", "Tanh", *(["HardSwish"] if b.opset >= 14 else [])])
        return b.grid(b.one(kind, [x.name]), x.shape, x.spread if kind == "HardSwish" else 1.0)
    y, low = b.activated(x.name)
    return b.grid(y, x.shape, x.spread, low)


def product(b: Builder, x: Real) -> Real:
    """Of two activations, or of one and its means."""
    other = mean(b, x) if len(x.shape) == 4 and b.chance(0.6) else again(b, x)
    if len(other.shape) != len(x.shape):
        return x
    pair = [x.name, other.name]
    y, low = b.activated(b.one("Mul", pair if b.chance(0.5) else pair[::-1]))
    return b.grid(y, x.shape, x.spread * other.spread, low)


MAP_STEPS: tuple[Callable[[Builder, Real], Real], ...] = (
    *(conv, conv, conv, pad, pad, pool, pool, residual, mean, softmax, transpose, reshape, nothing, again, product),
)
LINE_STEPS: tuple[Callable[[Builder, Real], Real], ...] = (
    *(conv, conv, pool, mean, pad, dense, softmax, transpose, reshape, nothing, again, residual),
)
ROW_STEPS: tuple[Callable[[Builder, Real], Real], ...] = (
    *(dense, dense, dense, softmax, softmax, reshape, reshape, pad, residual, nothing, transpose, again),
)


LAYERS = ("Conv", "Gemm", "MatMul", "Add", "Softmax", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean")


def random_qdq(seed: int) -> bytes:
    """The file of a seed. Int8 may stand at its input and at its output."""
    b = Builder(seed)
    b.shape = b.pick(
        [
            *[(1, b.small(1, 4), b.small(2, 9), b.small(2, 9))] * 4,
            (1, b.small(2, 30)),
            (1, b.small(1, 5), b.small(2, 9)),
        ]
    )
    scale, zero_point = float(np.float32(b.rng.uniform(0.01, 0.1))), b.small(-128, 127)
    given, shape = "x", b.shape
    if b.chance(0.15):
        perm = (0, *(int(axis) + 1 for axis in b.rng.permutation(len(shape) - 1)))
        given, shape = b.one("Transpose", ["x"], perm=list(perm)), tuple(shape[axis] for axis in perm)
    x = Real(b.qdq(given, "x", scale, zero_point), shape, scale, zero_point, scale * 73)
    if given == "x" and b.chance(0.15):
        b.input_type = onnx.TensorProto.UINT8 if b.unsigned else onnx.TensorProto.INT8
        del b.nodes[0]
        b.nodes[0].input[0] = "x"
    for _ in range(b.small(1, 5)):
        steps = {4: MAP_STEPS, 3: LINE_STEPS}.get(len(x.shape), ROW_STEPS)
        if x.is_nhwc and b.chance(0.8):
            steps = (transpose, nothing, softmax, reshape, residual)
        x = b.pick(steps)(b, x)
    if all(node.op_type not in LAYERS for node in b.nodes):
        x = (conv if len(x.shape) == 4 else dense)(b, x)
    if not x.name.startswith(("grid", "scores")):
        x = b.same_grid(x.name, x, x.shape)
    if b.chance(0.1) and b.opset >= 13 and x.shape[-1] < 500 and not x.is_nhwc:
        return b.file(b.one("Softmax", [x.name], axis=-1))
    return b.file(x.name.removesuffix("_real") + "_q" if b.chance(0.15) else x.name)
