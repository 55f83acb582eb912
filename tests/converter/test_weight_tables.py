"""Low-bit convolutions: their tables packed and unpacked, whole engines on this machine and on the virtual
board."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import Net, tinyconv_like, with_low_bits
from kernels_on_host import SOURCES, compile_shared
from traced_engine import traced_cycles

from converter import reference
from converter.aot.emit import render_aot
from converter.aot.kernels.weight_tables import pack_table, table_of, unpack_kernels
from converter.aot.lower import lower_layer
from converter.aot.native import NativeModel
from converter.arrays import Int8
from converter.convert import load
from converter.graph import Graph
from converter.tensor import QuantParams
from converter.verify import engines as verify
from converter.verify.checks import DIFFERENT, WITHIN, Check, CheckInputs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(compile_shared(tmp_path_factory.mktemp("unpack") / "nn.so", SOURCES)))


def hidden_bits(graph: Graph, bits: int) -> Graph:
    """The same network with activations of so many bits behind the first convolution, as training makes them."""
    top = 1 << bits
    tensors = [
        replace(t, quant=QuantParams((float(np.float32(t.quant.scale * 256 / top)),), (128 - top,))) if i == 1 else t
        for i, t in enumerate(graph.tensors)
    ]
    return replace(graph, tensors=tuple(tensors))


def separable(seed: int) -> Graph:
    """First convolution, depthwise and 1 x 1 convolutions: tables of every layout."""
    net = Net(np.random.default_rng(seed), (1, 12, 9, 3))
    x = net.conv(0, 24, (3, 3), (1, 1), "SAME", "RELU")
    for _ in range(2):
        x = net.conv(net.depthwise(x, (3, 3)), 24, (1, 1), (1, 1), "SAME", "RELU")
    x = net.conv(x, 10, (3, 2), (2, 1), "VALID", "NONE")
    return with_low_bits(net.graph(net.softmax(net.dense(net.flatten(x), 4))), 2 + seed % 3)


def test_tables_come_back(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(4)
    for number in range(300):
        parts = []
        for _ in range(int(rng.integers(1, 6))):
            words, bits, shift = int(rng.integers(1, 40)), int(rng.choice([2, 4, 8, 30])), int(rng.integers(0, 9))
            low = -(1 << (bits - 1))
            if bits == 30:
                parts.append(rng.integers(low, -low, words).astype("<i4").view(np.uint8))
            elif number % 3 == 0:
                parts.append(rng.integers(low, -low, 4 * words).astype(np.int8).view(np.uint8))
            else:
                shifts = np.resize([shift, int(rng.integers(0, 9))], words)[:, None]
                parts.append((rng.integers(low, -low, (words, 2)) << shifts).astype("<i2").view(np.uint8).reshape(-1))
        table = np.concatenate(parts).view("<i4")
        packed = pack_table(table)
        room = np.full(table.size + 2, 0x5A5A5A5A, np.int32)
        library.nn_unpack(packed.ctypes.data_as(ctypes.c_void_p), packed.size, room.ctypes.data_as(ctypes.c_void_p))
        assert np.array_equal(room[:-2], table) and (room[-2:] == 0x5A5A5A5A).all()
        assert packed.size <= table.size + 1 + table.size // 0xFFFE


def packed_tables(graph: Graph) -> int:
    return sum(
        table_of(kernel) is not None
        for kernel in unpack_kernels(graph, [lower_layer(graph, layer) for layer in graph.layers])
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_tinyconv_of_low_bits_streams_and_equals_the_reference(tmp_path: Path, bits: int) -> None:
    graph = with_low_bits(hidden_bits(load(ROOT / "reference").graph, bits), bits)
    assert packed_tables(graph) == 1
    text = render_aot(graph, hop_frames=2)["model_aot.c"]
    assert (
        text.count("nn_unpack(layer0_packed") == 1 and "static int unpacked;" in text
    )  # a place of its own: no more RAM than scratch
    model = NativeModel(graph, tmp_path, simd=True, hop_frames=2)
    check(graph, model)
    rows = np.random.default_rng(bits).integers(-128, 128, (49 + 40, 40)).astype(np.int8)
    model.stream_start(rows[:49].reshape(1, 49, 40, 1))
    for end in range(49 + 2, len(rows) + 1, 2):
        wanted = reference.run(graph, rows[end - 49 : end].reshape(1, 49, 40, 1))
        for layer, got in model.stream_layers(rows[end - 2 : end]):
            assert np.array_equal(got, np.ravel(wanted[graph.layers[layer].output])[-got.size :]), (end, layer)


@pytest.mark.parametrize("seed", range(2))
def test_tables_share_the_arena(tmp_path: Path, seed: int) -> None:
    graph = separable(seed)
    assert packed_tables(graph) >= 3
    assert "static int unpacked;" not in render_aot(graph)["model_aot.c"]
    check(graph, NativeModel(graph, tmp_path, simd=True))


def check(graph: Graph, model: NativeModel) -> None:
    for draw in range(3):
        x = np.random.default_rng(draw).integers(-128, 128, graph.tensors[graph.input].shape).astype(np.int8)
        wanted = reference.run(graph, x)
        for layer, got in zip(graph.layers, model.layers(x), strict=True):
            assert np.array_equal(got, np.ravel(wanted[layer.output])), (draw, layer.name)


def test_on_the_board(tmp_path: Path) -> None:
    """Low-bit weights are no slower than eight: the convolution is the same, the dense layer's inner loop no longer."""
    tinyconv = load(ROOT / "reference").graph
    graphs = {"8": tinyconv, "2": with_low_bits(hidden_bits(tinyconv, 2), 2), "separable": separable(1)}
    for name in graphs:
        (tmp_path / name).mkdir()
    eight, two, _ = (sum(traced_cycles(graph, tmp_path / name)[0]) for name, graph in graphs.items())
    print(f"2 bits: {two}, first run with unpacking; 8 bits: {eight}")
    assert two < 1.03 * eight


def test_eight_bit_networks_are_left_alone() -> None:
    assert packed_tables(tinyconv_like(0)) == packed_tables(load(ROOT / "reference").graph) == 0


def test_fake_quant_of_low_bits_is_compared_layer_by_layer(tmp_path: Path) -> None:
    """A hidden step that float arithmetic rounds the other way moves the logits by many LSB; what is judged is each
    layer by itself."""
    source = load(ROOT / "reference")
    graph = with_low_bits(hidden_bits(source.graph, 2), 2)
    x = np.random.default_rng(8).integers(-128, 128, (6, 49, 40, 1)).astype(np.int8)
    tensors = reference.run_batch_all(graph, x)
    hidden, dense = graph.tensors[graph.layers[0].output], graph.layers[1]
    moved = tensors[1].copy()
    moved[2, 5, 5, 3] = 125 if moved[2, 5, 5, 3] == 124 else 124
    logits = reference.run_layer_batch(graph, dense, [moved.reshape(len(x), *hidden.shape[1:])])

    def check(fake: Int8, hidden_values: Int8) -> Check:
        quant = graph.tensors[dense.output].quant
        vectors = {
            "features": x.reshape(6, 49, 40),
            "logits": (fake.astype(np.float32) - quant.zero_point) * np.float32(quant.scale),
            f"layer:{graph.tensors[1].name}": hidden_values,
            f"layer:{graph.tensors[dense.output].name}": fake,
        }
        pcm = np.zeros((0, 0), np.int16)
        return verify.fake_quant(CheckInputs(replace(source, graph=graph), vectors, pcm, x, x, tmp_path))

    assert check(logits, moved).status == WITHIN
    assert "each layer" in check(logits, moved).detail
    far = moved.copy()
    far[4, 0, 0, 0] += 3 if far[4, 0, 0, 0] == 124 else -3 if far[4, 0, 0, 0] == 127 else 2
    assert (check(logits, far).status, check(logits, far).differences) == (DIFFERENT, 1)
    off = logits.copy()
    off[1, 0] += 2 if off[1, 0] < 100 else -2
    assert check(off, moved).status == DIFFERENT
