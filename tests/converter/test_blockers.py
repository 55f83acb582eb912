"""Everything that stands in the way of a model is said at once, by the names of layers and operators."""

from __future__ import annotations

import numpy as np
import pytest
from tflite_files import TfliteFile

from converter.check import check
from converter.errors import ConvertError, require_none
from converter.graph import Graph
from converter.operators.concatenation import Concatenation
from converter.operators.softmax import Softmax
from converter.tensor import QuantParams, Tensor
from converter.tflite.reader import read_tflite


def blocked() -> bytes:
    """Two inputs, two operators that are missing, a rule broken behind them, and layers that are right."""
    file = TfliteFile()
    x, second = file.tensor((1, 4, 4, 1), name="x"), file.tensor((1, 3), name="age")
    squared = [file.tensor((1, 4, 4, 1), name=name) for name in ("squared", "again")]
    scores, last = file.tensor((1, 4, 4, 1), name="scores"), file.tensor((1, 16), name="last")
    file.operator("SQUARE", [x], [squared[0]])
    file.operator("SQUARE", [squared[0]], [squared[1]])
    file.operator("SOFTMAX", [squared[1]], [scores], 9, ("Float32", 0, 1.0))
    filtered = file.operator("SVDF", [scores], [file.tensor((1, 4, 4, 1), None, "float32", "filtered")])
    file.operator("ADD", [filtered[0], scores], [file.tensor((1, 4, 4, 1), name="unsaid")], 11)
    file.operator("RESHAPE", [scores], [last])
    return file.file([x, second], [last])


def test_a_file_names_all_of_them() -> None:
    with pytest.raises(ConvertError) as error:
        read_tflite(blocked())
    said = str(error.value)
    assert said.startswith("4 things stand in the way: (1) the model must have one input and one output, got 2 and 1")
    assert "export it without age; (2) squared and 1 more: SQUARE is not supported" in said
    assert "(3) filtered: SVDF is not supported" in said
    assert "(4) scores: the output is (1/256, -128), got (0.0500000007, 3)" in said
    assert "unsaid" not in said and "operator number" not in said


def test_one_alone_is_said_as_it_is() -> None:
    file = TfliteFile()
    x = file.tensor((1, 4), name="x")
    with pytest.raises(ConvertError, match=r"^y: SIN is not supported; README.md lists the operators that are$"):
        read_tflite(file.file([x], file.operator("SIN", [x], [file.tensor((1, 4), name="y")])))
    file = TfliteFile()
    x, y = file.tensor((1, 4), name="x"), file.tensor((1, 4), name="y")
    file.operator("ADD", [x, x], [y], 11, ("Int8", 0, 4))
    with pytest.raises(ConvertError, match=r"^y: the fused activation must be none, RELU or RELU6, got TANH"):
        read_tflite(file.file([x], [y]))


def test_activations_packed_or_measured_are_no_shapes() -> None:
    file = TfliteFile()
    x = file.tensor((1, 4), name="x")
    with pytest.raises(ConvertError, match=r"^y: PACK is supported at a model's end and on shapes only"):
        read_tflite(file.file([x], file.operator("PACK", [x, x], [file.tensor((2, 1, 4), name="y")], 59)))


def test_a_graph_names_every_layer_that_breaks_a_rule() -> None:
    quant = QuantParams((float(np.float32(0.1)),), (0,))
    tensors = tuple(Tensor(name, (1, 4), quant) for name in ("x", "a", "b"))
    layers = (Softmax("first", 0, 1), Concatenation("second", 1, (0,), 2, 1))
    with pytest.raises(ConvertError, match=r"^2 things stand in the way: \(1\) first: .*; \(2\) second: "):
        check(Graph(tensors, layers, 0, 2))


def test_more_than_a_dozen_are_counted() -> None:
    with pytest.raises(ConvertError, match=r"^20 things .*\(12\) l11: rule 11; and 8 more$"):
        require_none([f"l{number}: rule {number}" for number in range(20)])
    require_none([])
