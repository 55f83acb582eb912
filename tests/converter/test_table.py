"""LOGISTIC, TANH, HARD_SWISH, RELU and RELU6 on every engine: all 256 inputs on many scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operator_checks import Quant, check_on_boards, check_operator, graph_of, random_quant, refused

from converter import reference
from converter.graph import Graph
from converter.operators.hard_swish import HardSwish
from converter.operators.logistic import Logistic
from converter.operators.relu import Relu
from converter.operators.relu6 import Relu6
from converter.operators.table import EVERY_INT8, TableOperator
from converter.operators.tanh import Tanh

KINDS: tuple[type[TableOperator], ...] = (Logistic, Tanh, HardSwish, Relu, Relu6)
FIXED: dict[type[TableOperator], Quant] = {Logistic: (1 / 256, -128), Tanh: (1 / 128, 0)}
SHAPE = (1, 16, 16)


def table_graph(kind: Any, index: int) -> Graph:
    rng = np.random.default_rng([index, 14])
    x = random_quant(rng, octaves=7 if kind in FIXED else 3)
    y = FIXED.get(kind) or (x if kind is Relu6 else random_quant(rng))
    return graph_of(kind("y", 0, 1), [SHAPE, SHAPE], [x, y])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.TFLITE.name)
def test_it_is_equal_on_every_engine(kind: type[TableOperator], tmp_path: Path) -> None:
    graphs = [table_graph(kind, index) for index in range(16)]
    assert check_operator(tmp_path, graphs, seen=90) == {"nn_table_s8"}


def test_boards_make_the_same_of_it(tmp_path: Path) -> None:
    check_on_boards(tmp_path, [table_graph(kind, 0) for kind in KINDS], engines=len(KINDS))


@pytest.mark.parametrize(
    "function",
    [
        (Logistic, lambda x: 1 / (1 + np.exp(-x))),
        (Tanh, np.tanh),
        (HardSwish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ],
)
def test_it_is_the_function_it_is_called_after(function: tuple[type[TableOperator], np.ufunc]) -> None:
    """Within a step and a rounding, wherever the fixed point does not saturate."""
    kind, real = function
    for index in range(20):
        graph = table_graph(kind, index)
        x, y = graph.tensors[0].quant, graph.tensors[1].quant
        if x.scale > 1:  # one step from 0 may saturate already
            continue
        ours = reference.run(graph, EVERY_INT8.astype(np.int8).reshape(SHAPE))[1].ravel().astype(int)
        wanted = real((EVERY_INT8 - x.zero_point) * x.scale) / y.scale + y.zero_point
        assert np.abs(ours - np.clip(wanted, -128, 127)).max() < 1.5


def test_what_breaks_a_rule_is_refused() -> None:
    shapes = [(1, 4), (1, 4)]
    refused(Logistic("y", 0, 1), shapes, [(0.1, 0), (1 / 255, -128)], r"y: the output is \(1/256, -128\), got")
    refused(Tanh("y", 0, 1), shapes, [(0.1, 0), (1 / 128, 1)], r"y: the output is \(1/128, 0\), got")
    refused(Tanh("y", 0, 1), shapes, [(17.0, 0), (1 / 128, 0)], r"y: the input scale lies between")
    refused(HardSwish("y", 0, 1), shapes, [(1.3, 0), (0.01, 0)], r"y: the output scale is 1/128 to 512 times the input")
    refused(
        HardSwish("y", 0, 1), shapes, [(0.001, 0), (0.6, 0)], r"y: the output scale is 1/128 to 512 times the input"
    )
    refused(Relu("y", 0, 1), shapes, [(4e6, 0), (0.5, 0)], r"y: the input scale may be 2\*\*22")
    refused(Relu6("y", 0, 1), shapes, [(0.1, 0), (0.2, 0)], "y: input and output need the same scale")
