"""Maps of other shapes, orders and axes in ONNX files: right beside onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_forms import MAP, Build, conv_pair, kinds, made, on, right
from qdq_models import Qdq


def whole_map(q: Qdq, x: str) -> str:
    return q.qdq(q.conv(x, "conv", (4, 3, 3, 3), pads=[1, 1, 1, 1]), "conv", 0.2, 5)


def reshaped(q: Qdq, y: str, shape: tuple[int, ...], name: str = "shaped") -> str:
    return on(q, q.node("Reshape", [y, q.constant(f"{name}_shape", np.array(shape, np.int64))], name), 0.2)


def turned(q: Qdq, y: str, *perm: int) -> str:
    return on(q, q.node("Transpose", [y], "turn", perm=list(perm)), 0.2)


def reduced(q: Qdq, y: str, axes: list[int], scale: float, **attributes: object) -> str:
    mean = q.node("ReduceMean", [y, q.constant("axes", np.array(axes, np.int64))], "mean", **attributes)
    return q.qdq(mean, "y", scale, 5)


def nhwc_in(q: Qdq, _: str) -> str:
    """Float [1, H, W, C], turned before it is quantized."""
    del q.nodes[:], q.initializers[:]
    q.shape = (1, 6, 5, 3)
    x = q.qdq(q.node("Transpose", ["x"], "nchw", perm=[0, 3, 1, 2]), "x", 0.05, 3)
    return q.qdq(q.conv(x, "conv", (4, 3, 3, 3)), "y", 0.2, 5)


def conv_1d(q: Qdq, x: str) -> str:
    """Padded, depthwise, pooled and reduced along one axis."""
    y = q.qdq(q.node("Relu", [q.conv(x, "a", (6, 8, 3), pads=[2, 0], strides=[2])], "r"), "a", 0.3, -128)
    y = q.qdq(q.conv(y, "b", (6, 1, 3), group=6, auto_pad="SAME_UPPER"), "b", 0.2, 3)
    y = q.node("MaxPool", [y], "pool", kernel_shape=[2], strides=[2])
    y = q.qdq(q.node("GlobalAveragePool", [y], "mean"), "mean", 0.1, 0)
    return q.qdq(q.gemm(on(q, q.node("Flatten", [y], "flat"), 0.1), "dense", (3, 6)), "y", 0.5, 0)


MOVED: dict[str, tuple[Build, tuple[int, ...], list[str]]] = {
    "a map flattened at the end": (
        lambda q, x: q.node("Flatten", [whole_map(q, x)], "flat"),
        MAP,
        ["Conv2D", "Transpose", "Reshape"],
    ),
    "a map to another map": (
        lambda q, x: q.qdq(q.conv(reshaped(q, whole_map(q, x), (1, 6, 4, 6)), "c2", (2, 6, 2, 2)), "y", 3.0, 0),
        MAP,
        ["Conv2D", "Transpose", "Reshape", "Transpose", "Conv2D"],
    ),
    "a map to NHWC": (lambda q, x: turned(q, whole_map(q, x), 0, 2, 3, 1), MAP, ["Conv2D"]),
    "axes in another order": (lambda q, x: turned(q, whole_map(q, x), 0, 3, 1, 2), MAP, ["Conv2D", "Transpose"]),
    "NHWC before the quantizer": (nhwc_in, MAP, ["Conv2D"]),
    "Flatten before a dense layer in Q/DQ": (
        lambda q, x: q.qdq(
            q.gemm(q.qdq(q.node("Flatten", [whole_map(q, x)], "flat"), "row", 0.3, 0), "dense", (3, 144)), "y", 9.0, 0
        ),
        MAP,
        ["Conv2D", "Quantize", "FullyConnected"],
    ),
    "layers along one axis": (
        conv_1d,
        (1, 8, 17),
        ["Pad", "Conv2D", "DepthwiseConv2D", "MaxPool2D", "Mean", "FullyConnected"],
    ),
    "one axis of time-major rows": (
        lambda q, x: q.qdq(q.conv(on(q, turned(q, x, 0, 2, 1), 0.05), "c", (4, 8, 3)), "y", 0.2, 0),
        (1, 17, 8),
        ["Reshape", "Conv2D"],
    ),
    "a dense layer over rows": (
        lambda q, x: q.qdq(q.node("MatMul", [x, q.weights("w", (8, 5), None)[0]], "rows"), "y", 0.2, 0),
        (1, 17, 8),
        ["Reshape", "Conv2D", "Reshape"],
    ),
    "a dense layer over columns": (
        lambda q, x: q.qdq(
            q.node("MatMul", [turned(q, x, 0, 2, 1), q.weights("w", (17, 5), None)[0]], "rows"), "y", 0.2, 0
        ),
        (1, 17, 8),
        ["Transpose", "Reshape", "Conv2D", "Reshape"],
    ),
    "a mean over one axis": (lambda q, x: reduced(q, whole_map(q, x), [-1], 0.2), MAP, ["Conv2D", "AveragePool2D"]),
    "a mean over one axis that goes, on its own scale": (
        lambda q, x: reduced(q, whole_map(q, x), [2], 0.1, keepdims=0),
        MAP,
        ["Conv2D", "DepthwiseConv2D"],
    ),
    "Softmax over rows": (
        lambda q, x: q.qdq(q.node("Softmax", [whole_map(q, x)], "s", axis=2), "y", 1 / 256, -128),
        MAP,
        ["Conv2D", "Transpose", "Softmax", "Transpose"],
    ),
    "Softmax over columns": (
        lambda q, x: q.qdq(q.node("Softmax", [whole_map(q, x)], "s", axis=3), "y", 1 / 256, -128),
        MAP,
        ["Conv2D", "Transpose", "Softmax"],
    ),
    "pads round what is not negative": (
        lambda q, x: q.qdq(
            q.node(
                "MaxPool",
                [q.qdq(q.node("Relu", [conv_pair(q, x)], "r"), "r", 0.1, 0)],
                "pool",
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
            ),
            "y",
            0.1,
            0,
        ),
        MAP,
        ["Conv2D", "Relu", "Pad", "MaxPool2D"],
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_maps_of_any_shape_and_order(name: str) -> None:
    build, shape, layers = MOVED[name]
    assert kinds(right(made(build, shape))) == layers
