"""Weights of 4 bits in the .tflite: written, read back, and run by TensorFlow Lite Micro's own interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import tinyconv_like, with_low_bits
from random_layers import random_graph, random_inputs
from typer.testing import CliRunner

from converter import reference
from converter.__main__ import app
from converter.aot.model_header import tflm_arena_bytes
from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected
from converter.tensor import QuantParams
from converter.tflite.interpreters import Tflm
from converter.tflite.reader import read_tflite
from converter.tflite.writer import fits_int4, pack_int4, weight_bits, write_tflite


def graphs() -> Iterator[Graph]:
    for seed in range(3):
        yield with_low_bits(tinyconv_like(seed))
    for index in range(200):
        graph = random_graph(index)
        if graph.layers[-1].weights is not None:
            yield with_low_bits(graph, 2 + index % 3)


def test_bytes_as_the_schema_states_them() -> None:
    assert pack_int4(np.array([[1, -2], [7, -8], [-1, 0]], np.int8)) == bytes([0xE1, 0x87, 0x0F])
    assert pack_int4(np.array([3, -4, 5], np.int8)) == bytes([0xC3, 0x05])


def test_int4_file_gives_the_graph_back_and_is_smaller() -> None:
    for graph in graphs():
        small, plain = read_tflite(write_tflite(graph, int4=True)), read_tflite(write_tflite(graph))
        assert small.model_id == plain.model_id
    graph = with_low_bits(tinyconv_like(0))
    saved = len(write_tflite(graph)) - len(write_tflite(graph, int4=True))
    assert abs(saved - (4 * 4000 + 640) // 2) < 32  # less a version number and alignment


def test_a_layer_that_does_not_fit_stays_int8() -> None:
    graph = tinyconv_like(0)
    assert write_tflite(graph, int4=True) == write_tflite(graph)
    assert not any(map(fits_int4, graph.layers))
    few = with_low_bits(graph)
    dense = next(layer for layer in few.layers if isinstance(layer, FullyConnected))
    several = QuantParams(dense.weight_quant.scales * 4, (0,) * 4, 0)
    assert fits_int4(dense) and not fits_int4(replace(dense, weight_quant=several))
    assert [weight_bits(layer) for layer in with_low_bits(graph, 2).layers] == [2, 0, 2, 0]


def test_reference_equals_tflm_on_int4_weights() -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is for x86-64 Linux")
    checked = 0
    for number, graph in enumerate(graphs()):
        engine = Tflm(graph, write_tflite(graph, int4=True))
        for x in random_inputs(graph, number, 2):
            wanted = reference.run(graph, x)
            for index, theirs in enumerate(engine.tensors(x)):
                assert np.array_equal(theirs, wanted[index]), (number, graph.tensors[index].name)
            checked += 1
    assert checked > 100


def test_damaged_int4_constant_is_one_sentence() -> None:
    data = bytearray(write_tflite(with_low_bits(tinyconv_like(0)), int4=True))
    at = data.index((8000).to_bytes(4, "little"))  # the length of the dense layer's buffer
    data[at : at + 4] = (7999).to_bytes(4, "little")
    with pytest.raises(ConvertError, match=r"int4 constant .* holds 7999 bytes"):
        read_tflite(bytes(data))


def test_convert_writes_int4_when_asked(tmp_path: Path) -> None:
    graph = with_low_bits(tinyconv_like(0))
    model = tmp_path / "model.tflite"
    model.write_bytes(write_tflite(graph))
    for options, bytes_written in (([], write_tflite(graph)), (["--tflite-int4"], write_tflite(graph, int4=True))):
        out = tmp_path / f"out{len(options)}"
        done = CliRunner().invoke(app, ["convert", str(model), "--out", str(out), *options])
        assert done.exit_code == 0, done.output
        assert (out / "model.tflite").read_bytes() == bytes_written
        room = f"#define KWS_TFLM_ARENA_BYTES {tflm_arena_bytes(graph, bool(options))}\n"
        assert room in (out / "kws_model.h").read_text()
    assert tflm_arena_bytes(graph, True) >= tflm_arena_bytes(graph) + 15000  # the dense layer's weights, unpacked
