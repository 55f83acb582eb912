"""Forms that the usual exporters write, each in a small file: right beside onnxruntime layer by layer, or refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from qdq_models import Qdq, flat

from converter.arrays import Int8
from converter.errors import ConvertError
from converter.formats.original import Original
from converter.graph import Graph
from converter.onnx_qdq.reader import read_onnx, trace_onnx
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite
from converter.verify import oracle, original
from converter.verify.checks import WITHIN

Build = Callable[[Qdq, str], str]
MAP = (1, 3, 6, 6)


@pytest.fixture(autouse=True)
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid files need no process of their own."""
    monkeypatch.setattr(original, "_ask", oracle.answer)


def kinds(graph: Graph) -> list[str]:
    return [type(layer).__name__ for layer in graph.layers]


def noise(graph: Graph) -> Int8:
    shape = (8, *graph.tensors[graph.input].shape[1:])
    return np.random.default_rng(5).integers(-128, 128, shape).astype(np.int8)


def right(data: bytes) -> Graph:
    """The Graph of a file, each of whose layers is within one step of onnxruntime's, and whose .tflite is the same."""
    graph, places = trace_onnx(data)
    check = original.compare(graph, Original("model.onnx", "onnx", data, places), noise(graph))
    assert check.status == WITHIN, check
    assert read_tflite(write_tflite(graph)).model_id == graph.model_id
    return graph


def made(build: Build, shape: tuple[int, ...] = MAP, opset: int = 18) -> bytes:
    q = Qdq(shape, seed=4, opset=opset)
    return q.file(build(q, q.input()))


def conv_pair(q: Qdq, x: str, zero_point: int = 0, scale: float = 0.2) -> str:
    return q.qdq(q.conv(x, "conv", (4, 3, 3, 3)), "conv", scale, zero_point)


def on(q: Qdq, y: str, scale: float) -> str:
    """y, whose readers may know its scale."""
    q.scales[y] = scale
    return y


def clip(q: Qdq, x: str, low: float, high: float) -> str:
    return q.node("Clip", [x, *(q.constant(f"b{v}", np.float32(v)) for v in (low, high))], "clip")


BEHIND_A_PAIR: dict[str, tuple[Build, list[str]]] = {
    "Relu, symmetric": (lambda q, x: q.qdq(q.node("Relu", [conv_pair(q, x)], "r"), "y", 0.15, 0), ["Relu"]),
    "Relu, unsigned": (lambda q, x: q.qdq(q.node("Relu", [conv_pair(q, x)], "r"), "y", 0.07, -128), ["Relu"]),
    "Relu without a pair behind": (
        lambda q, x: q.qdq(q.conv(on(q, q.node("Relu", [conv_pair(q, x)], "r"), 0.2), "c2", (2, 4, 2, 2)), "y", 3.0, 0),
        ["Relu", "Conv2D"],
    ),
    "Relu at the end": (lambda q, x: q.node("Relu", [conv_pair(q, x)], "r"), ["Relu"]),
    "Clip 0..6": (lambda q, x: q.qdq(clip(q, conv_pair(q, x), 0, 6), "y", 0.09, -20), ["Quantize", "Relu6"]),
    "Clip to the grid's ends": (lambda q, x: q.qdq(clip(q, conv_pair(q, x), -2, 3), "y", 5 / 255, -26), ["Quantize"]),
    "a scale of its own": (lambda q, x: q.qdq(conv_pair(q, x), "y", 0.31, 4), ["Quantize"]),
    "MaxPool with a scale of its own": (
        lambda q, x: q.qdq(q.node("MaxPool", [conv_pair(q, x)], "p", kernel_shape=[2, 2]), "y", 0.3, -9),
        ["MaxPool2D", "Quantize"],
    ),
    "AveragePool with a larger scale": (
        lambda q, x: q.qdq(
            q.node("Relu", [q.node("AveragePool", [conv_pair(q, x)], "p", kernel_shape=[2, 2])], "r"), "y", 0.3, -90
        ),
        ["AveragePool2D", "Relu"],
    ),
    "mean, then Relu": (
        lambda q, x: q.qdq(q.node("Relu", [q.node("GlobalAveragePool", [conv_pair(q, x)], "p")], "r"), "y", 0.01, 0),
        ["Mean", "Relu"],
    ),
    "Relu of a flattened map": (
        lambda q, x: q.qdq(
            q.gemm(q.qdq(q.node("Relu", [flat(q, conv_pair(q, x), "flatten", (4, 4, 4))], "r"), "f", 0.2, -3), "d", (4, 64)),
            "y",
            8.0,
            0,
        ),
        ["Relu", "FullyConnected"],
    ),
    "Relu of waiting zeros": (
        lambda q, x: q.qdq(
            q.conv(
                q.qdq(
                    clip(
                        q,
                        q.node("Pad", [conv_pair(q, x), q.constant("p", np.array([0, 0, 1, 2, 0, 0, 0, 0]))], "pad"),
                        1,
                        6,
                    ),
                    "z",
                    6 / 255,
                    -128,
                ),
                "c2",
                (2, 4, 2, 2),
            ),
            "y",
            0.5,
            0,
        ),
        ["refused"],
    ),
}


@pytest.mark.parametrize("name", BEHIND_A_PAIR)
def test_activations_and_scales_behind_a_pair(name: str) -> None:
    build, layers = BEHIND_A_PAIR[name]
    if layers == ["refused"]:
        with pytest.raises(ConvertError, match=r"clip: Clip is supported as 0\.\.6"):
            read_onnx(made(build))
        return
    assert kinds(right(made(build))) == ["Conv2D", *layers]


SCORES: dict[str, tuple[Build, list[str]]] = {
    "1/255": (lambda q, x: q.qdq(q.node("Softmax", [x], "s"), "y", 1 / 255, -128), ["Softmax", "Quantize"]),
    "symmetric": (lambda q, x: q.qdq(q.node("Softmax", [x], "s"), "y", 1 / 127, 0), ["Softmax", "Quantize"]),
    "float": (lambda q, x: q.node("Softmax", [x], "s"), ["Softmax"]),
    "float, before 13": (lambda q, x: q.node("Softmax", [x], "s", axis=1), ["Softmax"]),
}


@pytest.mark.parametrize("name", SCORES)
def test_softmax_on_any_scale(name: str) -> None:
    build, layers = SCORES[name]
    assert kinds(right(made(build, (1, 7), 11 if "13" in name else 17))) == layers


def test_what_stands_before_a_quantizer_moves_behind_it() -> None:
    def build(q: Qdq, x: str) -> str:
        row = q.node("Flatten", [q.node("GlobalAveragePool", [conv_pair(q, x)], "pool")], "flat")
        return q.qdq(q.gemm(q.qdq(row, "row", 0.05, 1), "dense", (5, 4)), "y", 1.0, 0)

    assert kinds(right(made(build))) == ["Conv2D", "Mean", "FullyConnected"]


NEIGHBOURS: dict[str, tuple[Build, str]] = {
    "Clip to other bounds": (
        lambda q, x: q.qdq(clip(q, conv_pair(q, x), 0, 3), "y", 0.1, -128),
        r"clip: Clip is supported as 0\.\.6, as 0 and above, or to bounds that the output's grid .* ends at, got",
    ),
    "Clip of one value": (lambda q, x: q.qdq(clip(q, x, 3, 3), "y", 0.1, 0), "lower bound of a Clip must lie below"),
    "a pool that rounds first": (
        lambda q, x: q.qdq(q.node("AveragePool", [x], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "y", 0.02, 0),
        "p: input and output need the same scale and zero point",
    ),
    "a float layer at the end": (lambda q, x: q.conv(x, "last", (2, 3, 2, 2)), "last_y: the output must come from"),
    "Relu of int8 numbers": (
        lambda q, x: q.qdq(q.node("Relu", ["x_q"], "r"), "y", 0.1, 0),
        "r: computes with the int8 numbers of x_q, not with the real values that they stand for",
    ),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_that_cannot_be_right_are_refused(name: str) -> None:
    build, sentence = NEIGHBOURS[name]
    with pytest.raises(ConvertError, match=sentence) as error:
        read_onnx(made(build))
    assert "\n" not in str(error.value)
