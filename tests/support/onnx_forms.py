"""Small ONNX files in the forms of exporters, and the check that each is read right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from qdq_models import Qdq

from converter.arrays import Int8
from converter.formats.original import Original
from converter.graph import Graph
from converter.onnx_qdq.reader import trace_onnx
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite
from converter.verify import oracle, original
from converter.verify.checks import WITHIN

Build = Callable[[Qdq, str], str]
MAP = (1, 3, 6, 6)


def kinds(graph: Graph) -> list[str]:
    return [type(layer).__name__ for layer in graph.layers]


def noise(graph: Graph) -> Int8:
    shape = (8, *graph.tensors[graph.input].shape[1:])
    return np.random.default_rng(5).integers(-128, 128, shape).astype(np.int8)


def right(data: bytes) -> Graph:
    """The Graph of a file, each of whose layers is within one step of onnxruntime's, and whose .tflite is the same."""
    graph, places, _ = trace_onnx(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, "ask", oracle.answer)  # valid files need no process of their own
        check = original.compare(graph, Original("model.onnx", "onnx", data, places), noise(graph))
    assert check.status == WITHIN, check
    assert read_tflite(write_tflite(graph)).model_id == graph.model_id
    return graph


def made(build: Build, shape: tuple[int, ...] = MAP, opset: int = 18) -> bytes:
    q = Qdq(shape, seed=4, opset=opset)
    return q.file(build(q, q.input()))


def conv_pair(q: Qdq, x: str, zero_point: int = 0, scale: float = 0.2) -> str:
    return q.qdq(q.conv(x, "conv", (4, 3, 3, 3)), "conv", scale, zero_point)


def mean_pool(q: Qdq, y: str, **attributes: object) -> str:
    return q.node("AveragePool", [y], "p", kernel_shape=[2, 2], **attributes)


def on(q: Qdq, y: str, scale: float) -> str:
    """y, whose readers may know its scale."""
    q.scales[y] = scale
    return y


def clip(q: Qdq, x: str, low: float, high: float) -> str:
    return q.node("Clip", [x, *(q.constant(f"b{v}", np.float32(v)) for v in (low, high))], "clip")


def raw_conv(q: Qdq, x: str, bias: str = "", shape: tuple[int, ...] = (4, 3, 3, 3), **attributes: object) -> str:
    """A convolution without a bias, or with one of any kind."""
    weights, _ = q.weights("w", shape)
    return q.node("Conv", [x, weights, *([bias] if bias else [])], "conv", **attributes)


def floats(q: Qdq, name: str, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0) -> str:
    return q.constant(name, q.rng.uniform(low, high, shape).astype(np.float32))


def batch_norm(q: Qdq, y: str, channels: int = 4, gamma: tuple[float, float] = (-1.5, 1.5), **attributes: float) -> str:
    parts = [floats(q, "gamma", (channels,), *gamma), floats(q, "beta", (channels,)), floats(q, "mean", (channels,))]
    return q.node("BatchNormalization", [y, *parts, floats(q, "var", (channels,), 0.1, 2.0)], "bn", **attributes)
