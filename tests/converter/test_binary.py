"""ADD and MUL on every engine: two tensors, a constant, a smaller operand that repeats along any neighbouring axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from operator_checks import Quant, check_file, check_on_boards, check_operator, graph_of, random_quant, refused
from tflite_files import TfliteFile

from converter.errors import ConvertError
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.concatenation import Concatenation
from converter.operators.mul import Mul
from converter.operators.quantize import Quantize
from converter.quant import Activation
from converter.tensor import Constant, QuantParams
from converter.tflite.reader import read_tflite

FINE = (0.05, 3)
ACTIVATIONS: tuple[Activation, ...] = ("NONE", "RELU", "RELU6")
FORMS = [(a, b) for a in range(5) for b in range(a, 5)]  # axes of four that are the second operand's own


def constant(values: object, quant: Quant = FINE) -> Constant:
    return Constant(np.array(values, np.int8), QuantParams((float(np.float32(quant[0])),), (quant[1],)))


def binary_graph(kind: type[Add] | type[Mul], index: int) -> Graph:
    """The first operand is made of the input, which is the second where that is no constant."""
    rng = np.random.default_rng([index, 18])
    first, last = FORMS[index % len(FORMS)]
    shape = (1, *rng.integers(2, 6, 3).tolist())
    own = tuple(size if first <= axis < last else 1 for axis, size in enumerate(shape))
    activation = ACTIVATIONS[index % 3]
    while True:
        x, x2, y = (random_quant(rng) for _ in range(3))
        try:
            if index % 2:
                few = own[rng.integers(len(own)) :] if first >= last else own[first:]
                second = constant(rng.integers(-128, 128, few), x2)
                return graph_of(kind("y", 0, second, 1, activation), [shape, shape], [x, y])
            layers: list[Operator] = []
            shapes, quants = [own], [x2]
            for axis in (axis for axis in range(1, 4) if own[axis] < shape[axis]):
                at, before = len(layers), shapes[-1]
                layers.append(Concatenation(f"t{at + 1}", at, (at,) * (shape[axis] - 1), at + 1, axis))
                shapes.append((*before[:axis], shape[axis], *before[axis + 1 :]))
                quants.append(x2)
            at = len(layers)
            layers.append(Quantize(f"t{at + 1}", at, at + 1))
            layer = kind("y", at + 1, 0, at + 2, activation)
            return graph_of(layer, [*shapes, shape, shape], [*quants, x, y], layers)
        except ConvertError as error:
            assert "too small beside" in str(error)


@pytest.mark.parametrize("kind", [Add, Mul])
def test_it_is_equal_on_every_engine(kind: type[Add] | type[Mul], tmp_path: Path) -> None:
    graphs = [binary_graph(kind, index) for index in range(90)]
    functions = check_operator(tmp_path, graphs, seen=220)
    add = {"nn_add_s8", "nn_add_s8_simd", "nn_add_weighted_s8_simd", "nn_add_repeat_s8", "nn_add_constant_s8"}
    assert functions == (add if kind is Add else {"nn_mul_s8", "nn_mul_constant_s8"})
    check_on_boards(tmp_path, graphs[:12])


@pytest.mark.parametrize("operator", ["ADD", "MUL"])
def test_operands_in_either_order(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for swapped in (False, True):
        file = TfliteFile()
        x, sums, y = (file.tensor((1, 3, 4), FINE) for _ in range(3))
        factors = file.constant(np.array([-128, -3, 5, 127], np.int8), (0.031, -7))
        options = 11 if operator == "ADD" else 21
        file.operator(operator, [factors, x] if swapped else [x, factors], [sums], options)
        file.operator(operator, [sums, sums], [y], options, ("Int8", 0, 1))
        graph = check_file(file.file([x], [y]), monkeypatch)
        assert [len(layer.inputs) for layer in graph.layers] == [1, 2]


def test_what_breaks_a_rule_is_refused() -> None:
    row = constant([1, 2, 3, 4])
    refused(
        Mul("y", 0, row, 1, "NONE"), [(1, 3, 5), (1, 3, 5)], [FINE, FINE], r"y: one operand needs the output's shape"
    )
    refused(Mul("y", 0, row, 1, "NONE"), [(1, 3, 1), (1, 3, 4)], [FINE, FINE], r"got \(1, 3, 1\), \(4,\), \(1, 3, 4\)")
    apart = constant(np.ones((2, 1, 2)))
    refused(Add("y", 0, apart, 1, "NONE"), [(1, 2, 3, 2)] * 2, [FINE, FINE], "repeats in .* along axes apart")
    refused(Mul("y", 0, row, 1, "NONE"), [(1, 4), (1, 4)], [FINE, (1e-8, 0)], "y: the output scale .* overflow int32")
    refused(Add("y", 0, row, 1, "NONE"), [(1, 4), (1, 4)], [FINE, (1e-8, 0)], "y: the output scale .* is too small")
    file = TfliteFile()
    x, y, factors = file.tensor((1, 4)), file.tensor((1, 4), name="y"), file.constant(np.ones(4, np.int8), FINE)
    file.operator("MUL", [factors, factors], [y], 21)
    with pytest.raises(ConvertError, match="y: MUL of constants alone"):
        read_tflite(file.file([x], [y]))
