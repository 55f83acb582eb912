"""OPERATORS is complete: one operator to a file, each with a lowering, no two under one name or number."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import branched, tinyconv_like

from converter.aot.emit_stream import part_struct
from converter.aot.lower import LOWERINGS, lower_layer
from converter.aot.stream_plan import Part
from converter.graph import Graph, Operator
from converter.onnx_qdq.patterns import OPERATOR_RULES
from converter.operators import OPERATORS
from converter.operators.reshape import Reshape
from converter.reference import run_batch_all
from converter.tflite import schema

FOLDER = Path(__file__).resolve().parents[2] / "converter" / "operators"
SHARED = {"__init__", "activation", "binary", "copied", "pool", "table", "weighted", "windows"}


def test_each_file_holds_one_operator_and_the_tuple_all() -> None:
    files = {file.stem for file in FOLDER.glob("*.py")} - SHARED
    assert {kind.__module__.rsplit(".", 1)[1] for kind in OPERATORS} == files
    assert len(OPERATORS) == len(files) == len(set(OPERATORS))


def test_each_has_a_lowering() -> None:
    assert {kind for kind, _ in LOWERINGS} == set(OPERATORS) and len(LOWERINGS) == len(OPERATORS)


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda kind: kind.TFLITE.name)
def test_it_is_frozen_and_named_once(kind: type[Operator]) -> None:
    assert is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    names = [field.name for field in fields(kind)]
    assert names[:2] == ["name", "input"] and "output" in names  # model_id hashes the fields; names do not count
    others = [other.TFLITE for other in OPERATORS if other is not kind]
    assert kind.TFLITE.number not in {other.number for other in others}
    assert kind.TFLITE.name not in {other.name for other in others}
    assert schema.operator_name(kind.TFLITE.number) == kind.TFLITE.name


def test_no_two_take_one_node_of_onnx() -> None:
    rules = [key for kind in OPERATORS for key in kind.ONNX]
    assert sorted(rules) == sorted(OPERATOR_RULES)


@pytest.mark.parametrize("graph", [tinyconv_like(1), branched(1)], ids=["tinyconv", "branched"])
def test_layers_with_rows_have_a_struct_for_parts(graph: Graph) -> None:
    for layer in graph.layers:
        kernel, rows = lower_layer(graph, layer), layer.rows(graph)
        assert (kernel is None) == isinstance(layer, Reshape)
        part = Part((0, 1), (0, 1), 0)
        if kernel is not None and rows is not None:
            part_struct(kernel.layer, part, graph.tensors[layer.output].shape[1])
        elif kernel is not None:
            with pytest.raises(AssertionError, match="not computed in parts"):
                part_struct(kernel.layer, part, 1)


def test_bounds_hold() -> None:
    """No output leaves the bounds an operator claims for inputs within theirs."""
    for seed in range(3):
        graph = branched(seed)
        x = np.random.default_rng(seed).integers(-128, 128, (8, *graph.tensors[graph.input].shape[1:])).astype(np.int8)
        tensors = run_batch_all(graph, x)
        for layer in graph.layers:
            first = tensors[layer.input]
            low, high = layer.bounds(graph, (int(first.min()), int(first.max())))
            assert low <= tensors[layer.output].min() and tensors[layer.output].max() <= high, layer.name
