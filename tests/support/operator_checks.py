"""What holds for every operator: the reference equals TensorFlow Lite Micro, the C kernels equal the reference, here,
under sanitizers and on a Cortex-M4, and writing and reading a .tflite gives the Graph back."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from kernels_image import MARK, build_arm_image, build_host_image, run_qemu
from kernels_on_host import SOURCES, compile_shared, compiler, run_kernel

from converter import reference
from converter.aot.lower import lower_layer
from converter.aot.native import NativeModel
from converter.arrays import Int8
from converter.check import check
from converter.errors import ConvertError
from converter.formats.original import Original
from converter.graph import Graph, Operator
from converter.tensor import QuantParams, Tensor
from converter.tflite.interpreters import Tflm, Unavailable
from converter.tflite.reader import read_tflite, trace_tflite
from converter.tflite.writer import write_tflite
from converter.verify import oracle
from converter.verify.checks import EQUAL
from converter.verify.original import compare

Quant = tuple[float, int]


def random_quant(rng: np.random.Generator, octaves: float = 3) -> Quant:
    """A scale within so many octaves of 0.05, a zero point anywhere and often at its limits."""
    scale = float(np.float32(0.05 * 2.0 ** rng.uniform(-octaves, octaves)))
    return scale, int(rng.choice([-128, -1, 0, 127, int(rng.integers(-128, 128))]))


def graph_of(
    layer: Operator, shapes: Sequence[tuple[int, ...]], quants: Sequence[Quant], before: Sequence[Operator] = ()
) -> Graph:
    """The checked Graph of the layer, behind those that make its operands, over tensors 0 (the input) to n (its
    output)."""
    params = [QuantParams((float(np.float32(scale)),), (zero,)) for scale, zero in quants]
    names = ["x", *(f"t{i}" for i in range(1, len(shapes) - 1)), "y"]
    tensors = tuple(Tensor(*values) for values in zip(names, shapes, params, strict=True))
    return check(Graph(tensors, (*before, layer), 0, layer.output))


def extremes(graph: Graph, seed: int) -> Int8:
    """Noise, values near one another, all -128 and all 127: int8 [4, ...]."""
    rng, shape = np.random.default_rng([seed, 41]), graph.tensors[graph.input].shape[1:]
    near = np.clip(rng.integers(-128, 128) + rng.integers(-3, 4, shape), -128, 127)
    rows: Int8 = np.stack([rng.integers(-128, 128, shape), near, np.full(shape, -128), np.full(shape, 127)]).astype(
        np.int8
    )
    return rows


def check_operator(folder: Path, graphs: Sequence[Graph], seen: int) -> set[str]:
    """Checks the last layer of each graph on all engines but the boards; at least `seen` different outputs must come.
    Returns the C functions that ran."""
    library = ctypes.CDLL(str(compile_shared(folder / "nn.so", SOURCES)))
    values: set[int] = set()
    functions: set[str] = set()
    for index, graph in enumerate(graphs):
        inputs, engine = extremes(graph, index), tflm(graph)
        assert read_tflite(write_tflite(graph)).model_id == graph.model_id, f"graph {index}"
        for x in inputs:
            tensors = reference.run(graph, x)
            for ours, theirs in zip(tensors, engine.tensors(x), strict=True):
                assert np.array_equal(ours, theirs), f"graph {index}: {graph.layers[-1]}"
            layer, want = graph.layers[-1], tensors[-1]
            values |= set(want.ravel().tolist())
            for kernel in (lower_layer(graph, layer, simd) for simd in (True, False)):
                assert kernel is not None
                functions.add(kernel.function)
                got = run_kernel(library, kernel, [tensors[i] for i in layer.inputs], want.shape, misalign=index)
                assert np.array_equal(got, want), f"graph {index}: {kernel.function}"
            low, high = layer.bounds(graph, _range(tensors[layer.input]))
            assert low <= want.min() and want.max() <= high, f"graph {index}"
    assert len(values) >= seen
    return functions


def _range(values: Int8) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def check_on_boards(folder: Path, graphs: Sequence[Graph], engines: int = 2) -> None:
    """The generated engine of the first ones, and the same kernels under sanitizers and on QEMU's Cortex-M4."""
    for index, graph in enumerate(graphs[:engines]):
        engine = NativeModel(graph, folder / f"engine{index}", simd=True)
        for x in extremes(graph, index):
            wanted = reference.run(graph, x)
            for layer, got in zip(graph.layers, engine.layers(x), strict=True):
                assert np.array_equal(got, wanted[layer.output].ravel()), f"graph {index}: {layer}"
    cases = [(graph, extremes(graph, index)[index % 2 :][:1]) for index, graph in enumerate(graphs)]
    done = subprocess.run([build_host_image(folder, cases)], capture_output=True, text=True, check=False)
    assert MARK in done.stdout, done.stdout + done.stderr
    compiler("qemu-system-arm")
    assert MARK in run_qemu(build_arm_image(folder, cases, "-O2"))


def tflm(graph: Graph) -> Tflm:
    try:
        return Tflm(graph)
    except Unavailable as missing:
        pytest.skip(str(missing))


def refused(layer: Operator, shapes: Sequence[tuple[int, ...]], quants: Sequence[Quant], rule: str) -> None:
    """The layer breaks the rule."""
    with pytest.raises(ConvertError, match=rule):
        graph_of(layer, shapes, quants)


def check_file(data: bytes, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Graph:
    """Every layer of the file equals what TensorFlow Lite Micro makes of its own bytes."""
    monkeypatch.setattr("converter.verify.original.ask", oracle.answer)  # valid files need no process of their own
    graph, places, ends = trace_tflite(data)
    found = compare(graph, Original("m.tflite", "tflite", data, places, ends), extremes(graph, seed))
    assert found.status == EQUAL and found.checked >= 4, found
    return graph
