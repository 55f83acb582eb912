"""CONCATENATION on every engine, with any number of operands along any axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from operator_checks import check_file, check_on_boards, check_operator, graph_of, random_quant, refused
from tflite_files import TfliteFile

from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.concatenation import Concatenation
from converter.operators.pad import Pad
from converter.tflite.reader import read_tflite

FINE = (0.05, 3)


def concatenation_graph(index: int) -> Graph:
    """Paddings of the input are the other operands."""
    rng = np.random.default_rng([index, 2])
    shape = (1, *rng.integers(1, 7, rng.integers(1, 4)).tolist())
    axis, count = int(rng.integers(1, len(shape))), (1, 2, 3, 10)[index % 4]
    before, shapes = [], [shape]
    for number in range(1, count):
        pads = [(0, 0)] * len(shape)
        pads[axis] = int(rng.integers(0, 3)), int(rng.integers(0, 3))
        before.append(Pad(f"t{number}", 0, number, tuple(pads)))
        shapes.append(tuple(size + sum(pair) for size, pair in zip(shape, pads, strict=True)))
    shapes.append((*shape[:axis], sum(part[axis] for part in shapes), *shape[axis + 1 :]))
    layer = Concatenation("y", 0, tuple(range(1, count)), count, axis)
    return graph_of(layer, shapes, [random_quant(rng)] * (count + 1), before)


def test_concatenation_is_equal_on_every_engine(tmp_path: Path) -> None:
    graphs = [concatenation_graph(index) for index in range(60)]
    assert check_operator(tmp_path, graphs, seen=250) == {"nn_concatenation_s8"}
    check_on_boards(tmp_path, graphs[:8])


@pytest.mark.parametrize("axis", [2, -1])
def test_files_of_others(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative axis; one tensor twice."""
    file = TfliteFile()
    x, y = file.tensor((1, 3, 4), FINE), file.tensor((1, 3, 8), FINE)
    file.operator("CONCATENATION", [x, x], [y], 10, ("Int32", 0, axis))
    graph = check_file(file.file([x], [y]), monkeypatch)
    assert isinstance(graph.layers[0], Concatenation) and graph.layers[0].axis == 2


def test_what_breaks_a_rule_is_refused() -> None:
    twice = Concatenation("y", 0, (0,), 1, 1)
    refused(twice, [(1, 4), (1, 7)], [FINE, FINE], r"y: \[\(1, 4\), \(1, 4\)\] along axis 1 do not make \(1, 7\)")
    refused(twice, [(1, 4), (1, 8)], [FINE, (0.1, 3)], "y: input and output need the same scale")
    refused(Concatenation("y", 0, (0,), 1, 0), [(1, 4), (1, 4)], [FINE, FINE], "got axis 0")
    refused(Concatenation("y", 0, (0,) * 10, 1, 1), [(1, 4), (1, 44)], [FINE, FINE], "at most 10 tensors, got 11")
    file = TfliteFile()
    x, y = file.tensor((1, 4)), file.tensor((1, 8), name="joined")
    file.operator("CONCATENATION", [x, x], [y], 10, ("Int32", 0, 1), ("Int8", 1, 1))
    with pytest.raises(ConvertError, match="joined: CONCATENATION has no activation"):
        read_tflite(file.file([x], [y]))
