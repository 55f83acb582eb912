"""TRANSPOSE and STRIDED_SLICE on every engine, and SPLIT and SPLIT_V, which are read as slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from operator_checks import check_file, check_on_boards, check_operator, graph_of, random_quant, refused
from tflite_files import TfliteFile

from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.strided_slice import StridedSlice
from converter.operators.transpose import Transpose
from converter.tflite.reader import read_tflite

FINE = (0.05, 3)


def copy_graph(index: int) -> Graph:
    """A transposed map, or every second or third value of parts of it, forwards or backwards."""
    rng = np.random.default_rng([index, 39])
    shape = (1, *rng.integers(1, 8, rng.integers(1, 4)).tolist())
    quants = [random_quant(rng)] * 2
    if index % 2:
        perm = (0, *(1 + rng.permutation(len(shape) - 1)).tolist())
        return graph_of(Transpose("y", 0, 1, perm), [shape, tuple(shape[axis] for axis in perm)], quants)
    parts, shrunk = [(0, 1, 1)], list[int]()
    for axis, size in enumerate(shape[1:], 1):
        step = int(rng.choice([-3, -2, -1, 1, 1, 2]))
        start = int(rng.integers(0, size))
        most = (size - 1 - start if step > 0 else start) // abs(step) + 1
        parts.append((start, int(rng.integers(1, most + 1)), step))
        if rng.integers(4) == 0:
            shrunk, parts[-1] = [*shrunk, axis], (start, 1, 1)
    kept = tuple(count for axis, (_, count, _) in enumerate(parts) if axis not in shrunk)
    return graph_of(StridedSlice("y", 0, 1, tuple(parts), tuple(shrunk)), [shape, kept], quants)


def test_it_is_equal_on_every_engine(tmp_path: Path) -> None:
    graphs = [copy_graph(index) for index in range(40)]
    assert check_operator(tmp_path, graphs, seen=240) == {"nn_strided_copy_s8"}
    check_on_boards(tmp_path, graphs[:6])


@pytest.mark.parametrize(
    ("operator", "axis", "sizes"), [("SPLIT", -1, (2, 2)), ("SPLIT", 1, (1, 1, 1)), ("SPLIT_V", 2, (3, 1))]
)
def test_splits_are_slices(operator: str, axis: int, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    file = TfliteFile()
    x = file.tensor((1, 3, 4), FINE)
    shapes = [tuple(size if i == axis % 3 else full for i, full in enumerate((1, 3, 4))) for size in sizes]
    parts, y = [file.tensor(shape, FINE) for shape in shapes], file.tensor((1, 3, 4), FINE)
    at = file.constant(np.array(axis, np.int32))
    if operator == "SPLIT":
        file.operator("SPLIT", [at, x], parts, 35, ("Int32", 0, len(parts)))
    else:
        file.operator("SPLIT_V", [x, file.constant(np.array(sizes, np.int32)), at], parts, 79, ("Int32", 0, len(parts)))
    file.operator("CONCATENATION", parts[::-1], [y], 10, ("Int32", 0, axis))
    graph = check_file(file.file([x], [y]), monkeypatch)
    assert [type(layer).__name__ for layer in graph.layers] == ["StridedSlice"] * len(sizes) + ["Concatenation"]


def test_what_breaks_a_rule_is_refused() -> None:
    two = [FINE, FINE]
    refused(Transpose("y", 0, 1, (0, 2, 2)), [(1, 2, 3), (1, 3, 2)], two, r"y: needs each axis of \(1, 2, 3\) once")
    refused(Transpose("y", 0, 1, (0, 2, 1)), [(1, 2, 3), (1, 2, 3)], two, r"y: the output shape must be \(1, 3, 2\)")
    refused(Transpose("y", 0, 1, (0, 1)), [(1, 2), (1, 2)], [FINE, (0.1, 3)], "y: input and output need the same scale")
    whole = (0, 1, 1)
    refused(
        StridedSlice("y", 0, 1, (whole, (2, 2, 1))), [(1, 3), (1, 2)], two, "y: takes 2 values from 2 on by 1 of axis 1"
    )
    refused(StridedSlice("y", 0, 1, (whole, (2, 2, -3))), [(1, 3), (1, 2)], two, "y: takes 2 values from 2 on by -3")
    refused(StridedSlice("y", 0, 1, (whole, (0, 2, 1))), [(1, 3), (1, 3)], two, r"y: the output shape must be \(1, 2\)")
    refused(StridedSlice("y", 0, 1, (whole,) * 5), [(1,) * 5] * 2, two, "y: takes parts of at most 4 axes")
    file = TfliteFile()
    x, part = file.tensor((1, 4), FINE), file.tensor((1, 2), FINE, name="half")
    file.operator("SPLIT", [file.constant(np.array(1, np.int32)), x], [part], 35, ("Int32", 0, 1))
    with pytest.raises(ConvertError, match="half: SPLIT makes 2 of the 4 values of axis 1"):
        read_tflite(file.file([x], [part]))
