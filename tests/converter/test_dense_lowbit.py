"""Dense layers of 4 and 2 bits and sparse ones: portable C, then the assembly in QEMU and on the virtual board, against
the reference."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import branched, tinyconv_like
from kernels_image import MARK, build_arm_image, build_host_image, run_qemu
from kernels_on_host import SOURCES, compile_shared, run_kernel
from traced_engine import traced_cycles

from converter import reference
from converter.aot.kernels.low_bits import dense_lowbit, dense_lowbit_asm
from converter.aot.kernels.low_bits.dense_lowbit import DenseFormat, choose_dense, dense_formats, value_range
from converter.aot.kernels.low_bits.dense_lowbit_asm import PackedShape, SparseShape
from converter.aot.lower import lower_layer
from converter.arrays import Int8
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.reshape import Reshape
from converter.tensor import QuantParams, Tensor

LENGTHS = [*range(1, 36), 47, 48, 49, 63, 64, 67, 496, 497, 505, 1023, 4000]
FORMATS = ["int4", "int2", "sparse4+4", "sparse4+8", "sparse8+4", "sparse8+8"]
Forced = dict[bytes, str]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(compile_shared(tmp_path_factory.mktemp("packed") / "nn.so", SOURCES)))


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forced]:
    """Weights -> the format they are to take, however large it is."""
    wanted: Forced = {}

    def choose(weights: Int8, x_range: tuple[int, int]) -> DenseFormat:
        return next(f for f in dense_formats(weights, x_range) if f.name == wanted[weights.tobytes()])

    monkeypatch.setattr(dense_lowbit, "choose_dense", choose)
    yield wanted


def dense(weights: Int8, zero_point: int = -5) -> Graph:
    outputs, inputs = weights.shape
    tensors = (
        Tensor("x", (1, inputs), QuantParams((0.1,), (zero_point,))),
        Tensor("y", (1, outputs), QuantParams((0.1,), (3,))),
    )
    bias = np.arange(outputs, dtype=np.int32) * 100 - 200
    scale = float(np.float32(1 / (inputs * max(1, int(np.abs(weights.astype(int)).max())))))
    return Graph(tensors, (FullyConnected("dense", 0, 1, weights, QuantParams((scale,), (0,)), bias, "NONE"),), 0, 1)


def behind_relu(weights: Int8, zero_point: int) -> Graph:
    """A dense layer whose inputs lie in zero_point..127, as those of a low-bit network do."""
    outputs, inputs = weights.shape
    hidden, out = QuantParams((0.1,), (zero_point,)), QuantParams((float(np.float32(0.01 * inputs**0.5)),), (3,))
    tensors = (
        Tensor("x", (1, 1, inputs, 1), QuantParams((0.1,), (-5,))),
        Tensor("h", (1, 1, inputs, 1), hidden),
        Tensor("f", (1, inputs), hidden),
        Tensor("y", (1, outputs), out),
    )
    one = np.full((1, 1, 1, 1), 90, np.int8)
    conv = Conv2D("conv", 0, 1, one, QuantParams((0.011,), (0,)), np.array([7], np.int32), (1, 1), "SAME", "RELU")
    last = FullyConnected(
        "dense", 2, 3, weights, QuantParams((0.01,), (0,)), np.arange(outputs, dtype=np.int32) * 100, "NONE"
    )
    return Graph(tensors, (conv, Reshape("flat", 1, 2), last), 0, 3)


def weights_for(name: str, outputs: int, length: int, rng: np.random.Generator, kind: str = "noise") -> Int8:
    low, high = {"int4": (-8, 7), "int2": (-2, 1)}.get(name, (-8, 7) if name.endswith("4") else (-128, 127))
    values = rng.integers(low, high + 1, (outputs, length))
    if kind == "extremes":
        values = np.where(values < 0, low, high)
    elif kind == "symmetric":
        values = np.maximum(values, -high)
    if name.startswith("sparse"):
        values *= rng.random(values.shape) < 0.08
    return values.astype(np.int8)


@pytest.mark.parametrize("name", FORMATS)
def test_portable_form_equals_the_reference(library: ctypes.CDLL, forced: Forced, name: str) -> None:
    for length in LENGTHS:
        rng = np.random.default_rng(length)
        for outputs, kind in ((4, "noise"), (5, "symmetric"), (3, "extremes")):
            weights = weights_for(name, outputs, length, rng, kind)
            forced[weights.tobytes()] = name
            noise = rng.integers(-128, 128, (1, length)).astype(np.int8)
            for x in (noise, np.full_like(noise, -128), np.full_like(noise, 127)):
                graph = dense(weights)
                kernel = lower_layer(graph, graph.layers[0])
                assert kernel is not None and kernel.function in ("nn_dense_lowbit_s8", "nn_dense_sparse_s8")
                want = reference.run(graph, x)[1]
                assert np.array_equal(run_kernel(library, kernel, [x], want.shape, length % 4), want), (
                    length,
                    outputs,
                    kind,
                )


def image_cases(forced: Forced) -> list[tuple[Graph, Int8]]:
    """Every format round its steps, with sums as large as they can get."""
    cases = []
    for name in FORMATS:
        for length in (*range(1, 36, 3), 496, 497, 505, 1003):
            rng = np.random.default_rng([length, 5])
            weights = weights_for(name, 1 + length % 6, length, rng, ("noise", "extremes", "symmetric")[length % 3])
            forced[weights.tobytes()] = name
            x = rng.integers(-128, 128, (1, length)).astype(np.int8)
            cases += [(dense(weights), x), (dense(weights, 127), np.full_like(x, -128))]
    return cases


def test_assembly_equals_the_reference_in_qemu(tmp_path: Path, forced: Forced) -> None:
    assert MARK in run_qemu(build_arm_image(tmp_path, image_cases(forced), "-O2"))


def test_no_byte_outside_is_touched(tmp_path: Path, forced: Forced) -> None:
    image = build_host_image(tmp_path, image_cases(forced))
    done = subprocess.run([image], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and MARK in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("bits, zero_point", [(4, -128), (4, 112), (2, 124), (2, -128)])
def test_board_equals_the_reference_in_the_cycles_modelled(tmp_path: Path, bits: int, zero_point: int) -> None:
    top = (1 << (bits - 1)) - 1
    weights = np.random.default_rng(bits).integers(-top, top + 1, (4, 4000)).astype(np.int8)
    check_on_board(weights, zero_point, f"int{bits}", tmp_path)


@pytest.mark.parametrize(
    "sparsity, top, name", [(0.6, 127, "sparse4+8"), (0.95, 127, "sparse8+8"), (0.8, 7, "sparse4+4")]
)
def test_sparse_layer_on_the_board(tmp_path: Path, sparsity: float, top: int, name: str) -> None:
    rng = np.random.default_rng(9)
    weights = rng.integers(-top, top + 1, (4, 4000)) * (rng.random((4, 4000)) > sparsity)
    check_on_board(weights.astype(np.int8), -128, name, tmp_path)


def check_on_board(weights: Int8, zero_point: int, name: str, folder: Path) -> None:
    graph = behind_relu(weights, zero_point)
    chosen = choose_dense(weights, value_range(graph, 2))
    assert chosen.name == name
    ideal, expected = traced_cycles(graph, folder)
    print(f"{name}: modelled {chosen.cycles}, ideal {ideal[2]}, expected {expected[2]}")
    assert abs(chosen.cycles - ideal[2]) < 0.08 * ideal[2]


def test_choice_takes_the_smallest_that_is_not_slow() -> None:
    rng = np.random.default_rng(1)
    everything = (-128, 127)

    def chosen(low: int, high: int, shape: tuple[int, int], zeros: float = 0.0) -> str:
        values = rng.integers(low, high + 1, shape) * (rng.random(shape) >= zeros)
        return choose_dense(values.astype(np.int8), everything).name

    assert chosen(-127, 127, (4, 4000)) == "int8"
    assert chosen(-127, 127, (4, 4000), 0.3) == "int8"  # sparse would take more bytes and time
    assert chosen(-8, 7, (4, 4000)) == chosen(-7, 7, (4, 4000)) == chosen(-3, 3, (4, 4000)) == "int4"
    assert chosen(-8, 8, (4, 4000)) == "int8"
    assert chosen(-2, 1, (4, 4000)) == chosen(-1, 1, (4, 4000)) == "int2"
    assert chosen(-2, 2, (4, 4000)) == "int4"
    assert chosen(-7, 7, (4, 64)) == "int8"  # the code would take more than the weights save
    assert chosen(-7, 7, (4, 4000), 0.5) == "int4"  # sparse would take hardly less and be slower
    assert chosen(-127, 127, (4, 4000), 0.75) == "sparse4+8"
    formats = dense_formats(rng.integers(-1, 2, (4, 4000)).astype(np.int8), everything)
    assert [f.name for f in formats] == ["int8", "int4", "int2", "sparse4+4", "sparse4+8", "sparse8+4", "sparse8+8"]


def test_packing_as_nn_packed_h_states_it() -> None:
    weights = np.random.default_rng(0).integers(-2, 2, (6, 21)).astype(np.int64)
    wide = np.zeros((8, 32), np.int64)
    wide[:6, :21] = weights
    four = dense_lowbit.pack_dense(weights.astype(np.int8), PackedShape(4, 0, 8, 1)).view(np.uint32).reshape(2, 8, 2)
    two = dense_lowbit.pack_dense(weights.astype(np.int8), PackedShape(2, 0, 2, 1)).view(np.uint32).reshape(2, 8)
    for block, group, i in np.ndindex(2, 8, 4):
        a, b, c, d = wide[4 * block : 4 * block + 4, 4 * group + i]
        half = int(four[block, group, i % 2] >> np.uint32(16 * (i // 2))) & 0xFFFF
        assert half == (a + 8) + 16 * (b + 8) + 256 * (c + 8) + 4096 * (d % 16)
        for p, lower, upper in ((i % 2, a, b), (2 + i % 2, c, d)):
            word = int(two[block, group])
            turned = (word >> (4 * p) | word << (32 - 4 * p)) & 0xFFFFFFFF
            half = turned >> (16 * (i // 2)) & 0xFFFF
            assert (half & 3, half >> 14) == (lower + 2, upper % 4)


def test_sparse_entries_give_the_weights_back() -> None:
    rng = np.random.default_rng(3)
    weights = (rng.integers(-8, 8, (3, 900)) * (rng.random((3, 900)) < 0.02)).astype(np.int8)
    weights[1] = 0
    for shape in (SparseShape(4, 4), SparseShape(4, 8), SparseShape(8, 4), SparseShape(8, 8)):
        words, groups = dense_lowbit.pack_sparse(weights, shape)
        assert groups.tolist() == [max(1, -(-count // 8)) for count in dense_lowbit.entry_counts(weights, shape)]
        data = iter(words.view(np.uint32).tolist())
        for row, count in zip(weights, groups, strict=True):
            found, at = np.zeros(900, np.int64), 0
            for _ in range(count):
                distances, values = (
                    numbers([next(data) for _ in range(bits // 4)], bits) for bits in (shape.distance_bits, shape.bits)
                )
                for distance, value in zip(distances, values, strict=True):
                    at += distance
                    found[at] += value - (value >> (shape.bits - 1) << shape.bits)
            assert np.array_equal(found, row)


def numbers(words: list[int], bits: int) -> list[int]:
    if bits == 8:
        return [word >> (8 * i) & 255 for word in words for i in range(4)]
    return [words[0] >> (8 * i + half) & 15 for half in (0, 4) for i in range(4)]


@pytest.mark.parametrize("seed", range(4))
def test_no_tensor_leaves_its_range(seed: int) -> None:
    for graph in (branched(seed), tinyconv_like(seed)):
        for draw in range(3):
            x = (
                np.random.default_rng([seed, draw])
                .integers(-128, 128, graph.tensors[graph.input].shape)
                .astype(np.int8)
            )
            for index, tensor in enumerate(reference.run(graph, x)):
                low, high = value_range(graph, index)
                assert low <= tensor.min() and tensor.max() <= high


def test_sums_of_a_chunk_stay_apart() -> None:
    """The largest sums that the assembly's fields must hold."""
    assert dense_lowbit_asm.CHUNK_4_BITS * 8 * 128 < 1 << 19 and dense_lowbit_asm.CHUNK_4_BITS // 2 * 128 < 1 << 15
    for low, high in ((-128, 127), (124, 127), (-128, -128), (-128, 0), (0, 127)):
        for least in (-2, -1):
            shape = dense_lowbit.packed_shape(2, least, (low, high))
            reach = max(abs(low - shape.base), abs(high - shape.base))
            assert (
                shape.chunk_turns * dense_lowbit_asm.TURN * (1 + shape.offset) * reach < 1 << 13
                and shape.offset >= -least
            )
