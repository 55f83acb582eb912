"""QUANTIZE to another scale on every engine, and models whose ends are float32 or uint8 beside TensorFlow Lite Micro on
their own bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from operator_checks import Quant, check_file, check_on_boards, check_operator, graph_of, random_quant, refused
from tflite_files import TfliteFile

from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.quantize import Quantize
from converter.tflite.reader import read_tflite, trace_tflite
from converter.verify import original

FINE = (0.05, 3)


def quantize_graph(index: int) -> Graph:
    rng = np.random.default_rng([index, 114])
    shape = (1, *rng.integers(2, 16, rng.integers(1, 4)).tolist())
    return graph_of(Quantize("quantize", 0, 1), [shape] * 2, [random_quant(rng), random_quant(rng)])


def test_quantize_is_equal_on_every_engine(tmp_path: Path) -> None:
    assert check_operator(tmp_path, [quantize_graph(index) for index in range(80)], seen=250) == {"nn_table_s8"}
    check_on_boards(tmp_path, [quantize_graph(index) for index in range(8)])


def test_scales_too_far_apart_are_refused() -> None:
    refused(
        Quantize("quantize", 0, 1), [(1, 4), (1, 4)], [(4e6, 0), (0.5, 0)], r"quantize: the input scale may be 2\*\*22"
    )
    refused(Quantize("quantize", 0, 1), [(1, 4), (1, 5)], [FINE, FINE], "need one shape")


def ended(before: str, after: str, inner: Quant = FINE, outer: Quant = FINE, readers: int = 1) -> bytes:
    """QUANTIZE, a dense layer (max pool: its sums are known), and back, with ends of these types."""
    file = TfliteFile()
    shape, pooled = (1, 4, 4, 2), (1, 2, 2, 2)
    quants: dict[str, Quant | None] = {"float32": None, "uint8": (outer[0], outer[1] + 128), "int8": outer}
    x = file.tensor(shape, quants[before], before, "x")
    reads = [file.operator("QUANTIZE", [x], [file.tensor(shape, inner)], 89)[0] for _ in range(readers)]
    pools = [
        file.operator(
            "MAX_POOL_2D",
            [y],
            [file.tensor(pooled, inner)],
            5,
            *(("Int32", slot, 2) for slot in (1, 2, 3, 4)),
        )[0]
        for y in reads
    ]
    last = pools[0] if readers == 1 else file.operator("ADD", pools, [file.tensor(pooled, inner)], 11)[0]
    out = file.tensor(pooled, quants[after], after, "y")
    file.operator("DEQUANTIZE" if after == "float32" else "QUANTIZE", [last], [out], 38 if after == "float32" else 89)
    return file.file([x], [out])


@pytest.mark.parametrize("after", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("before", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("outer", [FINE, (0.037, -100)], ids=["one scale", "two scales"])
def test_every_pair_of_ends_is_equal(before: str, after: str, outer: Quant, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ended(before, after, outer=outer)
    for seed in range(3):
        graph = check_file(data, monkeypatch, seed)
    rescales = sum(isinstance(layer, Quantize) for layer in graph.layers)
    free = {"float32": (True, True), "uint8": (outer == FINE, outer == FINE), "int8": (False, False)}
    assert rescales == 2 - free[before][0] - free[after][1]
    assert trace_tflite(data)[2] == (before, after)


def test_two_readers_of_a_float_input(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = check_file(ended("float32", "float32", readers=2), monkeypatch)
    assert [type(layer).__name__ for layer in graph.layers] == ["MaxPool2D", "MaxPool2D", "Add"]


def test_an_output_that_is_off_by_less_than_a_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(original, "_real", lambda tensor, q: ((q - tensor.quant.zero_point) * 0.0500001).astype("<f4"))
    with pytest.raises(AssertionError, match="DIFFERENT"):
        check_file(ended("int8", "float32"), monkeypatch)


def two_scales() -> bytes:
    file = TfliteFile()
    x = file.tensor((1, 4), None, "float32")
    reads = [file.operator("QUANTIZE", [x], [file.tensor((1, 4), (scale, 0))], 89)[0] for scale in (0.1, 0.2)]
    return file.file([x], file.operator("ADD", reads, [file.tensor((1, 4))], 11))


def float_inside() -> bytes:
    file = TfliteFile()
    x, middle, y = file.tensor((1, 4)), file.tensor((1, 4), None, "float32"), file.tensor((1, 4), None, "float32")
    file.operator("DEQUANTIZE", [x], [middle], 38)
    return file.file([x], file.operator("SOFTMAX", [middle], [y], 9, ("Float32", 0, 1.0)))


def uint8_inside() -> bytes:
    file = TfliteFile()
    x, y = file.tensor((1, 4), kind="uint8"), file.tensor((1, 4), kind="uint8")
    return file.file([x], file.operator("ADD", [x, x], [y], 11))


def float_throughout() -> bytes:
    file = TfliteFile()
    x, y = file.tensor((1, 4), None, "float32", "x"), file.tensor((1, 4), None, "float32")
    return file.file([x], file.operator("ADD", [x, x], [y], 11))


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (two_scales, "t2: the input is quantized to two scales"),
        (float_inside, "t1: DEQUANTIZE is supported as the last operator"),
        (uint8_inside, "t1: tensor t0 must be int8, got uint8"),
        (float_throughout, "t1: tensor x must be int8, got float32"),
    ],
)
def test_other_types_inside_are_refused(build: object, rule: str) -> None:
    with pytest.raises(ConvertError, match=rule):
        read_tflite(build())  # type: ignore[operator]
