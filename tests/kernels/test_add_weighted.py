"""ADD by weights: every pair of values, every length, on every engine; where no weights serve, the kernel of before."""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernels_image import MARK, build_arm_image, build_host_image, run_qemu
from kernels_on_host import SOURCES, compile_shared, compiler, run_kernel
from operator_checks import check_operator, graph_of, random_quant

from converter import reference
from converter.aot.kernels.structs import NnAddWeightedLayer
from converter.aot.lower import lower_layer
from converter.arrays import Int8
from converter.graph import Graph
from converter.operators.add import Add
from converter.operators.quantize import Quantize
from converter.quant import Activation

EVERY: Int8 = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")).astype(np.int8)
ACTIVATIONS: tuple[Activation, ...] = ("NONE", "RELU", "RELU6")


def pairs_graph(seed: int, shape: tuple[int, ...] = (1, 256, 256)) -> Graph:
    """An ADD of two inputs, of which tests give both: scales up to 8 apart, any zero points."""
    rng = np.random.default_rng([seed, 9])
    quants = [random_quant(rng), random_quant(rng), random_quant(rng)]
    layer = Add("add", 0, 1, 2, ACTIVATIONS[seed % 3])
    return graph_of(layer, [shape] * 3, quants, [Quantize("other", 0, 1)])


def test_every_pair_equals_the_reference(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(compile_shared(tmp_path / "nn.so", SOURCES)))
    functions: Counter[str] = Counter()
    for seed in range(40):
        graph = pairs_graph(seed)
        kernel = lower_layer(graph, graph.layers[-1])
        assert kernel is not None
        want = graph.layers[-1].run(graph, [EVERY[:1], EVERY[1:]])
        assert np.array_equal(run_kernel(library, kernel, [EVERY[0], EVERY[1]], want.shape, seed), want), seed
        functions[kernel.function] += 1
    assert min(functions.values()) >= 15 and len(functions) == 2, functions


def test_ties_below_zero_keep_the_kernel_of_before(tmp_path: Path) -> None:
    """Halves of a sum at scale 1/2 go away from zero on both sides of it, which no one shift does."""
    graph = graph_of(
        Add("add", 0, 1, 2, "NONE"), [(1, 256, 256)] * 3, [(0.5, 0), (0.5, 0), (1.0, 0)], [Quantize("other", 0, 1)]
    )
    kernel = lower_layer(graph, graph.layers[-1])
    assert kernel is not None and kernel.function == "nn_add_s8_simd"


@pytest.mark.parametrize("misalign", range(4))
def test_every_length(tmp_path: Path, misalign: int) -> None:
    library = ctypes.CDLL(str(compile_shared(tmp_path / "nn.so", SOURCES)))
    rng = np.random.default_rng(misalign)
    graph = pairs_graph(0)
    whole = lower_layer(graph, graph.layers[-1])
    assert whole is not None and isinstance(whole.layer, NnAddWeightedLayer)
    for length in range(68):
        a, b = rng.integers(-128, 128, (2, 1, length)).astype(np.int8)
        kernel = replace(whole, layer=replace(whole.layer, count=length))
        got = run_kernel(library, kernel, [a, b], (1, length), misalign)
        assert np.array_equal(got, graph.layers[-1].run(graph, [a, b]))


def test_on_tensorflow_lite_micro_and_on_boards(tmp_path: Path) -> None:
    graphs = [pairs_graph(seed, (1, 7 + seed, 25)) for seed in range(24)]
    check_operator(tmp_path, graphs, seen=100)
    rng = np.random.default_rng(3)
    cases = [(graph, rng.integers(-128, 128, graph.tensors[0].shape).astype(np.int8)) for graph in graphs]
    assert {reference.run(graph, x)[2].size % 4 for graph, x in cases} == {0, 1, 2, 3}
    compiler("qemu-system-arm")
    build_host_image(tmp_path, cases)
    assert MARK in run_qemu(build_arm_image(tmp_path, cases, "-O2"))
