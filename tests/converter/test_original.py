"""The check that starts from the file: no model is read as another one, whatever form its nodes have; a reader made
wrong is found out, and a runtime that is missing or crashes is said."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from qdq_models import Qdq, flat, tinyconv
from random_layers import random_graph
from random_qdq import random_qdq
from typer.testing import CliRunner

from converter import convert as conversion
from converter import reference
from converter.__main__ import app
from converter.arrays import Int8
from converter.errors import ConvertError
from converter.formats.original import Original, Place
from converter.graph import Graph, Operator
from converter.onnx_qdq import patterns
from converter.onnx_qdq.reader import read_onnx, trace_onnx
from converter.operators import OPERATORS, windows
from converter.operators.concatenation import Concatenation
from converter.operators.strided_slice import StridedSlice
from converter.tflite.interpreters import Unavailable
from converter.tflite.reader import trace_tflite
from converter.tflite.writer import write_tflite
from converter.verify import oracle, original
from converter.verify.checks import EQUAL, WITHIN, Check

TFLITE_ALONE: tuple[type[Operator], ...] = (
    Concatenation,
    StridedSlice,
)  # which no node of ONNX becomes
Build = Callable[[], tuple[Qdq, str]]


def noise(graph: Graph, seed: int = 0, count: int = 3) -> Int8:
    shape = (count, *graph.tensors[graph.input].shape[1:])
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid files need no process of their own."""
    monkeypatch.setattr(original, "ask", oracle.answer)


def beside_onnxruntime(data: bytes, seed: int = 0) -> tuple[Graph, Check]:
    graph, places, _ = trace_onnx(data)
    return graph, original.compare(graph, Original("model.onnx", "onnx", data, places), noise(graph, seed))


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(1000, 3000), marks=pytest.mark.slow)])
def test_random_graphs_are_right_or_refused(seeds: range, same_process: None) -> None:
    kinds: Counter[str] = Counter()
    opsets: set[int] = set()
    wrong, refused, varied = [], 0, []
    for seed in seeds:
        data = random_qdq(seed)
        try:
            graph, check = beside_onnxruntime(data, seed)
        except ConvertError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        if check.status != WITHIN or check.checked < 3 * (len(graph.layers) + 1 - _without_place(graph)):
            wrong.append(f"seed {seed}: {check}")
        kinds.update(type(layer).__name__ for layer in graph.layers)
        opsets.add(onnx.load_model_from_string(data).opset_import[0].version)
        outputs = reference.run_batch_all(graph, noise(graph, seed))
        varied += [len(np.unique(y)) > 3 for layer in graph.layers if (y := outputs[layer.output]).size > 24]
    assert not wrong, wrong[:5]
    assert refused < 0.45 * len(seeds)
    assert np.mean(varied) > 0.85  # the grids do not hide everything by saturation
    assert (
        set(kinds) == {kind.__name__ for kind in OPERATORS if kind not in TFLITE_ALONE}
        and opsets <= set(range(10, 22))
        and len(opsets) > 9
    )


def _without_place(graph: Graph) -> int:
    """Layers that the reader makes where the file has no value."""
    made = ("/reshape", "/transpose", "/pad", "/unscaled", "/unclipped")
    return sum(layer.name.endswith(made) for layer in graph.layers)


def pad_then_same() -> tuple[Qdq, str]:
    """SAME counts from the padded map: 5 + 1, so that Conv adds 1 behind, not on both sides."""
    q = Qdq((1, 2, 5, 5))
    x = q.node("Pad", [q.input(), q.constant("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))], "pad")
    q.scales[x] = 0.05
    return q, q.qdq(q.conv(x, "conv", (4, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"), "y", 0.3)


def softmax_flattens(axis: int | None, shape: tuple[int, ...] = (1, 3, 4)) -> tuple[Qdq, str]:
    """Before operator set 13 Softmax goes over all axes from `axis` on, by default from 1."""
    q = Qdq(shape, opset=11)
    y = q.node("Softmax", [q.input(0.02)], "softmax", **({} if axis is None else {"axis": axis}))
    return q, q.qdq(y, "scores", 1 / 256, -128)


def pad_then_flatten() -> tuple[Qdq, str]:
    q = Qdq((1, 3, 3, 3))
    x = q.node("Pad", [q.input(), q.constant("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))], "pad")
    x = flat(q, x, "flatten", (3, 4, 4))
    q.scales[x] = 0.05
    return q, q.qdq(q.gemm(x, "dense", (5, 48)), "y", 1.0)


def squeeze_all() -> tuple[Qdq, str]:
    """Without axes Squeeze takes the batch too."""
    q = Qdq((1, 6, 1, 1), opset=11)
    x = q.node("Squeeze", [q.input()], "squeeze")
    weights, _ = q.weights("w", (6, 4), None)
    y = q.qdq(q.node("MatMul", [x, weights], "dense"), "logits", 0.1, 0)
    return q, q.qdq(q.node("Softmax", [y], "softmax", axis=0), "scores", 1 / 256, -128)


def bias_of_two_axes() -> tuple[Qdq, str]:
    """[1, 4] + [1, 1, 4] has three axes."""
    q = Qdq((1, 6), opset=11)
    weights, scales = q.weights("w", (6, 4), None)
    x = q.input()
    bias = q.bias("b", x, scales, 4)
    next(tensor for tensor in q.initializers if tensor.name == "b").dims[:] = [1, 1, 4]
    y = q.qdq(q.node("Add", [q.node("MatMul", [x, weights], "dense"), bias], "biased"), "logits", 0.1, 0)
    return q, q.qdq(q.node("Softmax", [y], "softmax", axis=2), "scores", 1 / 256, -128)


def old_attributes() -> tuple[Qdq, str]:
    """Pads and bounds as attributes, before operator set 11."""
    q = Qdq((1, 2, 5, 4), opset=10)
    x = q.node("Pad", [q.input()], "pad", pads=[0, 0, 1, 0, 0, 0, 0, 1])
    q.scales[x] = 0.05
    y = q.node("Clip", [q.conv(x, "conv", (3, 2, 2, 2), axis=None)], "clip", min=0.0)
    return q, q.qdq(y, "y", 0.1, -128)


def two_readers_of_a_pool() -> tuple[Qdq, str]:
    q = Qdq((1, 3, 6, 6))
    x = q.node("MaxPool", [q.input()], "pool", kernel_shape=[2, 2], strides=[2, 2])
    q.scales[x] = 0.05
    side = q.qdq(q.conv(x, "conv", (3, 3, 1, 1)), "conv", 0.1, 3)
    return q, q.qdq(q.node("Add", [x, side], "sum"), "y", 0.1, -3)


RIGHT: dict[str, Build] = {
    "Pad, then auto_pad SAME": pad_then_same,
    "Softmax 11 without axis": lambda: softmax_flattens(None),
    "Softmax 11 over a map": lambda: softmax_flattens(1, (1, 3, 4, 2)),
    "Softmax 11 over the last axis": lambda: softmax_flattens(2),
    "Softmax 11 over three of five axes": lambda: softmax_flattens(2, (1, 5, 3, 2, 1)),
    "Softmax 11 over rows and columns": lambda: softmax_flattens(2, (1, 3, 4, 2)),
    "Pad, then Flatten": pad_then_flatten,
    "Squeeze of every 1": squeeze_all,
    "a bias of three axes": bias_of_two_axes,
    "attributes of operator set 10": old_attributes,
    "a pool read twice": two_readers_of_a_pool,
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_was_or_could_be_read_as_another_model_is_right(name: str, same_process: None) -> None:
    q, output = RIGHT[name]()
    graph, check = beside_onnxruntime(q.file(output))
    assert check.status == WITHIN, check
    assert sum(type(layer).__name__ == "MaxPool2D" for layer in graph.layers) <= 1


def _batch_norm(q: Qdq, x: str) -> str:
    y = q.conv(x, "conv", (3, 3, 2, 2))
    parts = [q.constant(f"bn{i}", np.array([0.5, 1.5, 2.0], np.float32)) for i in range(4)]
    return q.qdq(q.node("Relu", [q.node("BatchNormalization", [y, *parts], "bn")], "relu"), "y", 0.1, -128)


def _after_conv(q: Qdq, x: str) -> str:
    return q.qdq(q.conv(x, "conv", (3, 3, 2, 2)), "conv", 0.1, 3)


def _row(q: Qdq, x: str, shape: tuple[int, ...]) -> str:
    return q.node("Reshape", [x, q.constant("shape", np.array(shape, np.int64))], "reshape")


def _moved_weights(q: Qdq, x: str) -> str:
    weights, _ = q.weights("w", (4, 6), None)
    flipped = q.node("Transpose", [weights], "flip", perm=[1, 0])
    return q.qdq(q.node("MatMul", [_row(q, x, (1, 18, 6)), flipped], "dense"), "y", 0.1, 3)


def _value_float(q: Qdq, x: str) -> str:
    low, high = (q.node("Constant", [], name, value_float=v) for name, v in (("low", 0.0), ("high", 6.0)))
    return q.qdq(q.node("Clip", [q.conv(x, "conv", (3, 3, 2, 2)), low, high], "clip"), "y", 0.05, -128)


def _nhwc(q: Qdq, x: str) -> str:
    y = q.conv(q.node("Transpose", [x], "nchw", perm=[0, 3, 1, 2]), "conv", (2, 6, 2, 2))
    return q.qdq(q.node("Transpose", [y], "nhwc", perm=[0, 2, 3, 1]), "y", 0.1, 3)


def _uint8(q: Qdq, x: str) -> str:
    params = [q.constant("us", np.float32(0.1)), q.constant("uz", np.uint8(131))]
    y = q.node("QuantizeLinear", [q.conv(x, "conv", (3, 3, 2, 2)), *params], "uq")
    return q.node("DequantizeLinear", [y, *params], "udq")


# Kinds of public models, each on an input [1, 3, 6, 6]; which of them are supported is no matter here.
KINDS: dict[str, Callable[[Qdq, str], str]] = {
    "BatchNormalization": _batch_norm,
    "Clip by Constant with value_float": _value_float,
    "Conv over one axis": lambda q, x: q.qdq(q.conv(_row(q, x, (1, 3, 36)), "conv", (4, 3, 3)), "y", 0.3, 3),
    "Flatten of a map at the end": lambda q, x: flat(q, _after_conv(q, x), "flatten", (3, 5, 5)),
    "GlobalAveragePool with a scale of its own": lambda q, x: q.qdq(
        q.node("GlobalAveragePool", [x], "p"), "y", 0.02, -5
    ),
    "HardSwish": lambda q, x: q.qdq(q.node("HardSwish", [q.conv(x, "conv", (3, 3, 2, 2))], "h"), "y", 0.1, -100),
    "MatMul over the last of three axes": lambda q, x: q.qdq(
        q.node("MatMul", [_row(q, x, (1, 18, 6)), q.weights("w", (6, 4), None)[0]], "dense"), "y", 0.1, 3
    ),
    "MatMul of transposed weights": _moved_weights,
    "MaxPool with pads that are not SAME": lambda q, x: q.qdq(
        q.node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), "y", 0.05, 3
    ),
    "NHWC in and out": _nhwc,
    "ReduceMean over one axis": lambda q, x: q.qdq(
        q.node("ReduceMean", [x, q.constant("axes", np.array([-1], np.int64))], "mean"), "y", 0.05, 3
    ),
    "Relu between two scales": lambda q, x: q.qdq(q.node("Relu", [_after_conv(q, x)], "relu"), "y", 0.07, -128),
    "a change of scale alone": lambda q, x: q.qdq(q.qdq(x, "again", 0.07, 0), "y", 0.06, 1),
    "Reshape of a map to a map": lambda q, x: q.qdq(
        q.conv(_row(q, _after_conv(q, x), (1, 5, 3, 5)), "conv2", (2, 5, 2, 2)), "y", 0.3, 3
    ),
    "Softmax on 1/255": lambda q, x: q.qdq(
        q.node("Softmax", [flat(q, x, "flatten", (3, 6, 6))], "s"), "y", 1 / 255, -128
    ),
    "uint8 activations": _uint8,
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_public_models_are_right_or_refused(name: str, same_process: None) -> None:
    q = Qdq((1, 3, 6, 6))
    x = q.input()
    for made in ("conv_real", "reshape_y", "nchw_y", "x_real"):
        q.scales[made] = 0.1 if made == "conv_real" else 0.05
    if name == "Reshape of a map to a map":
        q.scales["reshape_y"] = 0.1
    data = q.file(KINDS[name](q, x))
    assert _runs(data)
    try:
        graph, check = beside_onnxruntime(data)
    except ConvertError as error:
        assert "\n" not in str(error) and ": " in str(error)
    else:
        assert check.status == WITHIN and graph.layers, check


def _runs(data: bytes) -> bool:
    """The file is one that onnxruntime takes."""
    model = onnx.load_model_from_string(data)
    x = np.zeros((1, 1, 3, 6, 6), np.float32)
    return len(oracle.answer(data, x, {"format": "onnx", "keys": [model.graph.output[0].name], "input": "x"})) == 1


def _bias_that_makes_a_map() -> tuple[Qdq, str]:
    q, y = Qdq((1, 6), opset=11), ""
    weights, scales = q.weights("w", (6, 4), None)
    x = q.input()
    bias = q.bias("b", x, scales, 4)
    next(tensor for tensor in q.initializers if tensor.name == "b").dims[:] = [4, 1]
    y = q.node("Add", [q.node("MatMul", [x, weights], "dense"), bias], "biased")
    return q, q.qdq(y, "logits", 0.1, 0)


def _one_node(kind: str, inputs: int = 1, opset: int = 18, **attributes: object) -> tuple[Qdq, str]:
    q = Qdq((1, 2, 6, 6), opset=opset)
    more = [q.constant(f"c{i}", np.array(1, np.float32 if i == 0 else np.bool_)) for i in range(inputs - 1)]
    y = q.node(kind, [q.input(), *more], "node")
    q.nodes[-1].attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return q, q.qdq(y, "y", 0.05, 3)


REFUSED: dict[str, tuple[Build, str]] = {
    "a bias down a column": (_bias_that_makes_a_map, "its bias must be 4 values"),
    "Dropout in training": (lambda: _one_node("Dropout", 3), "training mode"),
    "an attribute that no rule looks at": (
        lambda: _one_node("MaxPool", kernel_shape=[2, 2], storage_order=1),
        "attribute storage_order of MaxPool is not supported",
    ),
    "an attribute of another operator set": (
        lambda: _one_node("AveragePool", opset=18, kernel_shape=[2, 2], dilations=[2, 2]),
        "AveragePool has no attribute dilations in operator set 18",
    ),
    "an operand too many": (lambda: _one_node("Relu", 2), "Relu takes 1 to 1 inputs"),
    "an operator that its set lacks": (lambda: _one_node("Dropout", opset=9), "operator set 9 has no QuantizeLinear"),
    "an operator set to come": (lambda: _one_node("Relu", opset=999), "one ONNX operator set of 1 to"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(name: str) -> None:
    build, message = REFUSED[name]
    q, output = build()
    with pytest.raises(ConvertError, match=message) as error:
        read_onnx(q.file(output))
    assert "\n" not in str(error.value)


def test_a_value_computed_twice_is_refused() -> None:
    q = Qdq((1, 4))
    x = q.input()
    q.node("Identity", [x], "a")
    q.node("Identity", [x], "a")
    with pytest.raises(ConvertError, match="a_y is computed twice"):
        read_onnx(q.file(q.qdq("a_y", "y", 0.05, 3)))


def converted(tmp_path: Path, name: str, data: bytes) -> tuple[int, str, bool]:
    """(exit code, what it says, whether anything was written)."""
    (tmp_path / name).write_bytes(data)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["convert", str(tmp_path / name), "--out", str(out)])
    said = result.output + (str(result.exception) if result.exception else "")
    return result.exit_code, said, out.exists()


def test_convert_says_what_it_compared(tmp_path: Path) -> None:
    code, said, written = converted(tmp_path, "m.onnx", tinyconv())
    assert code == 0 and written and "m.onnx itself in onnxruntime 1." in said
    assert "15 layer outputs of 3 inputs, every value within one step" in said
    code, said, _ = converted(tmp_path, "m.tflite", write_tflite(random_graph(3)))
    assert code == 0 and ("every value equal" in said or "not available here" in said)


def test_a_reader_made_wrong_is_found_out_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(patterns.RULES, "Relu", lambda importer, node: importer.value(node, 0))
    q = Qdq((1, 1, 8, 8))
    data = q.file(q.qdq(q.node("Relu", [q.conv(q.input(), "conv", (2, 1, 3, 3))], "relu"), "y", 0.1, 0))
    code, said, written = converted(tmp_path, "m.onnx", data)
    assert code == 1 and not written
    assert "was read wrongly, layer y, input 0, index 0: ours -" in said and "onnxruntime 0; nothing is written" in said


@pytest.mark.parametrize("wrong", ["scale", "layout", "pads", "output"])
def test_other_faults_of_the_onnx_reader_are_found(
    wrong: str, same_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = Qdq((1, 2, 8, 7))
    x = q.conv(q.input(), "conv", (3, 2, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2])
    data = q.file(q.qdq(x, "y", 0.3, 5))
    graph, places, _ = trace_onnx(data)
    if wrong == "scale":
        old = graph.tensors[graph.output].quant
        tensors = (*graph.tensors[:-1], replace(graph.tensors[-1], quant=replace(old, scales=(0.4,))))
        graph = replace(graph, tensors=tensors)
    elif wrong == "layout":
        places = tuple(replace(place, is_nchw=False) for place in places)
    elif wrong == "pads":
        real = windows.onnx_pads
        upper = {"auto_pad": "SAME_UPPER"}
        monkeypatch.setattr(windows, "onnx_pads", lambda node, *sizes: real(replace(node, attributes=upper), *sizes))
        graph, places, _ = trace_onnx(data)
    else:
        places = (*places[:-1], replace(places[-1], key="x_real"))
    check = original.compare(graph, Original("m.onnx", "onnx", data, places), noise(graph))
    assert check.differences and "ours" in check.detail and "onnxruntime" in check.detail


def test_a_tflite_read_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = next(seed for seed in range(40) if any(hasattr(layer, "stride_hw") for layer in random_graph(seed).layers))
    data = write_tflite(random_graph(seed))
    graph, places, _ = trace_tflite(data)
    file = Original("m.tflite", "tflite", data, places)
    try:
        check = original.compare(graph, file, noise(graph))
    except Unavailable as missing:
        pytest.skip(str(missing))
    assert check.status == EQUAL and check.checked == 3 * (len(graph.tensors) + 1)
    layer = next(layer for layer in graph.layers if layer.weights is not None)
    assert layer.weights is not None
    layer.weights.bias.setflags(write=True)
    layer.weights.bias[:] += 100_000
    wrong = original.compare(graph, file, noise(graph))
    assert wrong.differences and f"layer {layer.name}, input 0" in wrong.detail and "TFLM" in wrong.detail
    with pytest.raises(ConvertError, match=r"m\.tflite: was read wrongly, layer .*: ours -?\d+, TFLM -?\d+; nothing"):
        original.short_check(graph, file)


def test_a_missing_or_crashing_runtime_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tinyconv()
    graph, places, _ = trace_onnx(data)
    file = Original("m.onnx", "onnx", data, places)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(Unavailable, match="onnxruntime is not installed"):
            original.short_check(graph, file)
        code, said, written = converted(tmp_path, "m.onnx", data)
        assert code == 0 and written and "not available here (the package onnxruntime is not installed)" in said
    with monkeypatch.context() as patch:
        patch.setattr(original, "MODULE", "no_such_module")
        with pytest.raises(Unavailable, match=r"crashes on this file \(exit status 1\)"):
            original.short_check(graph, file)
    with pytest.raises(Unavailable, match="cannot run this file"):
        original.compare(graph, replace(file, places=(Place(0, "nowhere"),)), noise(graph))


def test_the_source_of_a_run_or_a_file_holds_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(tinyconv())
    found = conversion.load(tmp_path / "m.onnx").original
    assert found is not None and found.data == tinyconv() and found.places[-1].key == "scores_real"
    assert [place.tensor for place in found.places] == [0, 1, 2, 3, 3]
