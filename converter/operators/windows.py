"""What operators have in common whose window moves over rows and columns: convolutions and pools."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from converter.arrays import Int32
from converter.errors import ConvertError, require
from converter.formats.onnx import NO_PADS, Importer, OnnxNode, Quantized, feature_map
from converter.formats.tflite import TfliteNode
from converter.graph import RowWindow
from converter.tensor import Tensor

Padding = Literal["SAME", "VALID"]
HW = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, bottom, left, right
PADDINGS: tuple[Padding, Padding] = ("SAME", "VALID")  # in the order of the TensorFlow Lite schema
PADDING, STRIDE_W, STRIDE_H = range(3)  # option fields that CONV_2D, DEPTHWISE_CONV_2D and the pools agree on


def output_size(size: int, window: int, stride: int, padding: Padding) -> int:
    """Output positions along one axis (TFLite: SAME = ceil(n / s), VALID = ceil((n - k + 1) / s))."""
    return -(-size // stride) if padding == "SAME" else -(-(size - window + 1) // stride)


def pads_along(size: int, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Zeros (before, behind) one axis; under SAME the odd one goes behind (TFLite ComputePadding)."""
    if padding == "VALID":
        return 0, 0
    missing = max(0, (output_size(size, window, stride, padding) - 1) * stride + window - size)
    return missing // 2, missing - missing // 2


def pad_before(size: int, window: int, stride: int, padding: Padding) -> int:
    """Zeros in front of one axis."""
    return pads_along(size, window, stride, padding)[0]


def row_window(x: Tensor, window: int, stride: int, padding: Padding) -> RowWindow:
    """Which rows of x [1, H, W, C] an output row reads."""
    return RowWindow(window, stride, pad_before(x.shape[1], window, stride, padding))


def check_windows(
    name: str, x: Tensor, y: Tensor, window_hw: HW, stride_hw: HW, padding: Padding, channels: int
) -> None:
    """Input, window, stride and output fit each other; raises ConvertError."""
    require(len(x.shape) == 4, name, f"the input is [1, height, width, channels], got {x.shape}")
    positive = all(1 <= value <= 4096 for value in (*window_hw, *stride_hw))
    require(positive, name, f"window and stride lie in 1..4096, got {window_hw} and {stride_hw}")
    require(padding in PADDINGS, name, f"padding is SAME or VALID, got {padding}")
    sizes = [output_size(n, k, s, padding) for n, k, s in zip(x.shape[1:3], window_hw, stride_hw, strict=True)]
    rule = f"the window {window_hw} is larger than its input {x.shape} under VALID padding"
    require(min(sizes) >= 1, name, rule)
    expected = (1, *sizes, channels)
    require(y.shape == expected, name, f"the output shape must be {expected}, got {y.shape}")


def windows_of(x: Int32, window_hw: HW, stride_hw: HW, padding: Padding, fill: int) -> Int32:
    """A view [n, out_h, out_w, window_h, window_w, channels] of x, padded with `fill` as TFLite's SAME does."""
    axes = list(zip(x.shape[1:3], window_hw, stride_hw, strict=True))
    padded = np.pad(x, ((0, 0), *(pads_along(*axis, padding) for axis in axes), (0, 0)), constant_values=fill)
    rows = np.lib.stride_tricks.sliding_window_view(padded, window_hw[0], axis=1)
    view = np.lib.stride_tricks.sliding_window_view(rows, window_hw[1], axis=2)  # [n, h, w, c, kh, kw]
    out_h, out_w = (output_size(*axis, padding) for axis in axes)
    strided: Int32 = view[:, :: stride_hw[0], :: stride_hw[1]][:, :out_h, :out_w].transpose(0, 1, 2, 4, 5, 3)
    return strided


def read_window(node: TfliteNode) -> tuple[HW, Padding]:
    """Stride and padding in a .tflite's options."""
    padding = node.options.number(PADDING, "b", 0)
    if padding not in (0, 1):
        raise ConvertError(f"{node.name}: the padding must be SAME or VALID, got number {padding}")
    stride_hw = node.options.number(STRIDE_H, "i", 0), node.options.number(STRIDE_W, "i", 0)
    return stride_hw, PADDINGS[padding]


def refuse_dilation(node: TfliteNode, kernel_hw: tuple[int, ...], *fields_hw: int) -> None:
    """Raises ConvertError unless the dilation factors are 1 wherever the kernel has more than one value."""
    factors = tuple(node.options.number(field, "i", 1) for field in fields_hw)
    if any(factor != 1 and size != 1 for factor, size in zip(factors, kernel_hw, strict=False)):
        raise ConvertError(
            f"{node.name}: dilation is not supported, got (height, width) = {factors}; pad the kernel with zeros"
        )


def window_slots(stride_hw: HW, padding: Padding) -> tuple[tuple[str, int, int], ...]:
    """What options_table writes for stride and padding."""
    return (
        ("Int8", PADDING, PADDINGS.index(padding)),
        ("Int32", STRIDE_W, stride_hw[1]),
        ("Int32", STRIDE_H, stride_hw[0]),
    )


def widened(node: OnnxNode) -> OnnxNode:
    """A node whose window moves along one axis, as one whose window has height 1."""
    found = dict(node.attributes)
    for key in ("kernel_shape", "strides", "dilations"):
        if isinstance(found.get(key), tuple) and len(found[key]) == 1:
            found[key] = (1, *found[key])
    if isinstance(found.get("pads"), tuple) and len(found["pads"]) == 2:
        found["pads"] = (0, found["pads"][0], 0, found["pads"][1])
    return replace(node, attributes=found)


def onnx_pair(node: OnnxNode, what: str, values: tuple[int, ...]) -> HW:
    """Two sizes in 1..4096; raises ConvertError."""
    if len(values) != 2 or not all(1 <= value <= 4096 for value in values):
        raise ConvertError(f"{node.name}: {what} must be two numbers in 1..4096 (2-D operators only), got {values}")
    return values[0], values[1]


def same_pads(size_hw: tuple[int, ...], window_hw: HW, stride_hw: HW) -> Pads:
    """The zeros that TensorFlow Lite's SAME puts round a map."""
    (top, bottom), (left, right) = (
        pads_along(*axis, "SAME") for axis in zip(size_hw, window_hw, stride_hw, strict=True)
    )
    return top, bottom, left, right


def onnx_pads(node: OnnxNode, size_hw: tuple[int, ...], window_hw: HW, stride_hw: HW) -> Pads:
    """The zeros that a Conv or pool node asks for."""
    mode, given = node.text("auto_pad", "NOTSET"), node.integers("pads", NO_PADS)  # which auto_pad overrules
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(size_hw, window_hw, stride_hw)
        return pads if mode == "SAME_UPPER" else (pads[1], pads[0], pads[3], pads[2])
    given = given if mode == "NOTSET" else NO_PADS
    if mode not in ("NOTSET", "VALID") or len(given) != 4 or not all(0 <= value <= 4096 for value in given):
        raise ConvertError(f"{node.name}: pads must be four numbers, 0 or more, got {given} with auto_pad {mode[:40]}")
    return given[0], given[2], given[1], given[3]


def onnx_output_shape(x: Quantized, channels: int, window_hw: HW, stride_hw: HW, padding: Padding) -> tuple[int, ...]:
    """[1, channels, height, width]."""
    sizes = [output_size(n, k, s, padding) for n, k, s in zip(x.shape[2:], window_hw, stride_hw, strict=True)]
    return (1, channels, *sizes)


def onnx_pool(importer: Importer, node: OnnxNode, counts_zeros: bool) -> tuple[Quantized, HW, HW, Padding]:
    """(input, window, stride, padding) of an AveragePool or MaxPool node; counts_zeros: padding counts as values."""
    name, x = node.name, importer.materialize(node.name, feature_map(importer, node))
    node = widened(node) if len(importer.activation(node).shape) == 3 else node
    window_hw = onnx_pair(node, "kernel_shape", node.integers("kernel_shape", ()))
    stride_hw = onnx_pair(node, "strides", node.integers("strides", (1, 1)))
    if node.integer("ceil_mode", 0) or node.integers("dilations", (1, 1)) != (1, 1):
        raise ConvertError(f"{name}: ceil_mode and dilations are not supported")
    pads = onnx_pads(node, x.shape[2:], window_hw, stride_hw)
    is_same = pads in (NO_PADS, same_pads(x.shape[2:], window_hw, stride_hw))
    inside = all(pad < size for pad, size in zip(pads, (*window_hw[:1] * 2, *window_hw[1:] * 2), strict=True))
    largest = node.op_type == "MaxPool" and inside and importer.never_negative(x)  # of which zeros change nothing
    if (counts_zeros or (largest and not is_same)) and pads != NO_PADS:
        x, pads, is_same = importer.materialize(name, x.padded(pads)), NO_PADS, True
    if not is_same:
        raise ConvertError(
            f"{name}: its pads (top, bottom, left, right) = {pads} are neither none nor TensorFlow Lite's SAME"
            + (", which takes values of 0 and above; put a Relu before it" if node.op_type == "MaxPool" else "")
        )
    return x, window_hw, stride_hw, "VALID" if pads == NO_PADS else "SAME"
