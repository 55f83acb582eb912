"""The .tflite reader and writer: MLPerf Tiny's models, hostile bytes, and what the file must look like to others."""

from __future__ import annotations

import struct
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from random_layers import random_graph, random_inputs

from converter import reference
from converter.errors import ConvertError
from converter.formats.tflite import IDENTIFIER, Table
from converter.graph import Graph
from converter.operators.add import Add
from converter.operators.fully_connected import FullyConnected
from converter.spec import KwsSpec
from converter.tensor import QuantParams, Tensor
from converter.tflite import schema
from converter.tflite.interpreters import TfliteRuntime, Tflm, Unavailable
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite

INT8_MODELS = ("kws_ref_model", "ad01_int8", "pretrainedResnet_quant")


def mlperf(folder: Path, name: str) -> bytes:
    return (folder / "models" / f"{name}.tflite").read_bytes()


@pytest.mark.parametrize("name", INT8_MODELS)
def test_mlperf_models_equal_tflm_layer_by_layer(mlperf_tiny: Path, name: str) -> None:
    """Through our reader and our writer, every tensor of 20 noise inputs; and the model file as it came, outputs
    only."""
    data = mlperf(mlperf_tiny, name)
    graph = read_tflite(data)
    written = write_tflite(graph)
    assert read_tflite(written).model_id == graph.model_id
    try:
        engine, original = Tflm(graph, written), Tflm(graph, data, keep_all=False)
    except Unavailable as missing:
        pytest.skip(str(missing))
    x = np.random.default_rng(3).integers(-128, 128, (20, *graph.tensors[graph.input].shape[1:])).astype(np.int8)
    ours = reference.run_batch_all(graph, x)
    for row in range(len(x)):
        for number, theirs in enumerate(engine.tensors(x[row])):
            assert np.array_equal(ours[number][row], theirs[0]), (row, graph.tensors[number].name)
        assert np.array_equal(ours[graph.output][row], original.output(x[row])[0]), row


def test_dscnn_equals_tflm_on_every_recorded_vector(mlperf_tiny: Path) -> None:
    data = mlperf(mlperf_tiny, "kws_ref_model")
    graph = read_tflite(data)
    with np.load(mlperf_tiny / "kws_mfcc_int8.npz") as archive:
        x, labels = archive["x"], archive["y"]
    assert len(x) >= 1000
    try:
        engine = Tflm(graph, data, keep_all=False)
    except Unavailable as missing:
        pytest.skip(str(missing))
    ours = reference.run_batch(graph, x)
    differences = sum(not np.array_equal(ours[row], engine.output(x[row])[0]) for row in range(len(x)))
    assert differences == 0
    assert np.mean(ours.argmax(axis=1) == labels) > 0.9, "the vectors are the test clips: a wrong order would show"


@pytest.mark.parametrize("name", INT8_MODELS)
def test_mlperf_models_equal_tflite_reference_kernels(mlperf_tiny: Path, name: str) -> None:
    graph = read_tflite(mlperf(mlperf_tiny, name))
    try:
        engine = TfliteRuntime(graph)
    except Unavailable as missing:
        pytest.skip(str(missing))
    x = np.random.default_rng(4).integers(-128, 128, (20, *graph.tensors[graph.input].shape[1:])).astype(np.int8)
    ours = reference.run_batch(graph, x)
    assert all(np.array_equal(ours[row], engine.output(x[row])[0]) for row in range(len(x)))


def test_a_float_model_is_refused_and_named(mlperf_tiny: Path) -> None:
    with pytest.raises(ConvertError, match="must be int8, got float32"):
        read_tflite(mlperf(mlperf_tiny, "kws_ref_model_float32"))


def _mutants(data: bytes, count: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        mutant = bytearray(data)
        if number % 3 == 0:
            mutant = mutant[: int(rng.integers(0, len(data)))]
        elif number % 3 == 1:
            for _ in range(int(rng.integers(1, 8))):
                mutant[int(rng.integers(len(mutant)))] = int(rng.integers(256))
        else:
            position = int(rng.integers(0, len(mutant) - 4))
            mutant[position : position + 4] = struct.pack(
                "<I", int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, len(data)]))
            )
        found.append(bytes(mutant))
    return found


@pytest.mark.parametrize("index", [0, 1, 2, 6, 7, 9])
def test_damaged_files_are_refused_or_read(index: int) -> None:
    """A mutant may by luck still be a model; it is then a checked one, which runs."""
    graph = random_graph(index)
    refused = 0
    for mutant in _mutants(write_tflite(graph), 500, index):
        try:
            again = read_tflite(mutant)
        except ConvertError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        if again.tensors[again.input].size < 10_000:
            reference.run(again, np.zeros(again.tensors[again.input].shape, np.int8))
    assert refused >= 167, "at least every truncation is refused"


@pytest.mark.parametrize("index", range(10))
def test_shapes_without_dimensions_are_refused(index: int) -> None:
    data = write_tflite(random_graph(index))
    tables = Table.root(data).tables(schema.Model.SUBGRAPHS)[0].tables(schema.SubGraph.TENSORS)
    for table in tables:
        position, _ = table._vector(schema.TensorTable.SHAPE, 4)
        with pytest.raises(ConvertError):
            read_tflite(data[: position - 4] + bytes(4) + data[position:])


def test_foreign_bytes_are_refused() -> None:
    rng = np.random.default_rng(1)
    header = struct.pack("<I", 8) + IDENTIFIER
    for junk in (
        b"",
        b"TFL3",
        header,
        header + b"\xff" * 40,
        b"\0" * 64,
        header + bytes(rng.integers(0, 256, 4000, dtype=np.uint8)),
    ):
        with pytest.raises(ConvertError):
            read_tflite(junk)


def _with_operator(number: int) -> bytes:
    """A model whose only operator has another number than any supported one."""
    data = bytearray(write_tflite(random_graph(9)))
    code = Table.root(bytes(data)).tables(schema.Model.OPERATOR_CODES)[0]
    for field, form in ((schema.OperatorCode.OLD_BUILTIN, "<b"), (schema.OperatorCode.BUILTIN, "<i")):
        struct.pack_into(form, data, code._field(field), number)
    return bytes(data)


@pytest.mark.parametrize(("number", "name"), [(122, "SCATTER_ND"), (52, "BIDIRECTIONAL_SEQUENCE_LSTM")])
def test_unsupported_operators_are_named_with_their_node(number: int, name: str) -> None:
    with pytest.raises(ConvertError, match=rf"^y: {name} is not supported") as error:
        read_tflite(_with_operator(number))
    assert "\n" not in str(error.value)


def test_constants_lie_on_16_bytes_and_scales_are_kept_bit_for_bit() -> None:
    graph = random_graph(3)
    data = write_tflite(graph)
    model = Table.root(data)
    for buffer in model.tables(schema.Model.BUFFERS)[1:]:
        start, length = buffer._vector(0, 1)
        assert length and start % 16 == 0
    first = (
        model.tables(schema.Model.SUBGRAPHS)[0]
        .tables(schema.SubGraph.TENSORS)[0]
        .table(schema.TensorTable.QUANTIZATION)
    )
    assert first and first.reals(schema.Quantization.SCALE) == [graph.tensors[0].quant.scale]
    assert flatbuffers.util.BufferHasIdentifier(data, 0, IDENTIFIER)


def test_spec_travels_in_the_file_and_a_spec_of_another_model_is_refused() -> None:
    spec = KwsSpec.of_words(["yes", "stop"])
    x = Tensor("features_q", (1, 49, 40, 1), QuantParams((spec.features.scale,), (-128,)))
    y = Tensor("scores_q", (1, 4), QuantParams((0.5,), (0,)))
    weights = np.ones((4, 1960), np.int8)
    layer = FullyConnected("scores", 0, 1, weights, QuantParams((2**-7,), (0,)), np.zeros(4, np.int32), "NONE")
    graph = Graph((x, y), (layer,), 0, 1, spec.to_json())
    again = read_tflite(write_tflite(graph))
    assert again.spec_json == spec.to_json() and again.model_id == graph.model_id
    assert [layer.name for layer in again.layers] == ["scores"]
    other = Graph((x, y), (layer,), 0, 1, KwsSpec.of_words(["yes"]).to_json())
    with pytest.raises(ConvertError, match="labels"):
        read_tflite(write_tflite(other))
    with pytest.raises(ConvertError, match="kws_spec"):
        read_tflite(write_tflite(Graph((x, y), (layer,), 0, 1, "{}")))


def test_tflite_runtime_runs_what_we_write() -> None:
    """Every kind of random layer loads there; per-channel dense needs a newer version and must be refused, not
    miscomputed."""
    ran = 0
    for index in range(60):
        graph = random_graph(index)
        try:
            engine = TfliteRuntime(graph)
        except Unavailable as missing:
            if "not installed" in str(missing):
                pytest.skip(str(missing))
            dense = [layer for layer in graph.layers if isinstance(layer, FullyConnected)]
            assert dense and len(dense[0].weight_quant.scales) > 1, str(missing)
            continue
        ran += 1
        x = random_inputs(graph, index, 1)
        assert np.array_equal(engine.output(x[0])[0], reference.run(graph, x[0])[graph.output][0]), index
    assert ran > 50


def test_add_operands_keep_their_order() -> None:
    adds = [random_graph(index) for index in range(6, 600, 10)]
    orders = {(layer.input, layer.input2) for graph in adds for layer in graph.layers if isinstance(layer, Add)}
    assert orders == {(0, 1), (1, 0)}
    for graph in adds[:10]:
        again = read_tflite(write_tflite(graph))
        assert [(a.input, a.input2) for a in again.layers if isinstance(a, Add)] == [
            (a.input, a.input2) for a in graph.layers if isinstance(a, Add)
        ]
