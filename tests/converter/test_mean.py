"""MEAN: reference, TensorFlow Lite Micro, tflite-runtime and the C kernels agree on every byte;
.tflite files in the forms they come in (ONNX: test_onnx_qdq.py)."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kernels_image import MARK, build_arm_image, build_host_image, run_qemu
from kernels_on_host import SOURCES, compile_shared, compiler, run_kernel
from mean_graphs import mean_graph, mean_inputs

from converter import reference
from converter.aot.lower import lower_layer
from converter.aot.model_header import render_kws_header
from converter.check import check
from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.mean import Mean
from converter.tensor import QuantParams, Tensor
from converter.tflite.interpreters import TfliteRuntime, Tflm, Unavailable
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite

GRAPHS = 240


@pytest.mark.parametrize("engine", [Tflm, TfliteRuntime])
def test_reference_equals_tensorflow_lite(engine: type[Tflm] | type[TfliteRuntime]) -> None:
    seen = set()
    for index in range(GRAPHS):
        graph = mean_graph(index)
        try:
            other = engine(graph)
        except Unavailable as missing:
            pytest.skip(str(missing))
        inputs = mean_inputs(graph, index)
        for ours, x in zip(reference.run_batch(graph, inputs), inputs, strict=True):
            assert np.array_equal(ours, other.output(x).reshape(ours.shape)), f"mean {index}"
            seen |= set(ours.ravel().tolist())
    assert len(seen) > 250


def test_c_kernels_equal_reference(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(compile_shared(tmp_path / "nn.so", SOURCES)))
    functions = set()
    for index in range(GRAPHS):
        graph = mean_graph(index)
        for x in mean_inputs(graph, index):
            want = reference.run(graph, x)[1]
            for kernel in (lower_layer(graph, graph.layers[0], simd) for simd in (True, False)):
                assert kernel is not None
                functions.add(kernel.function)
                got = run_kernel(library, kernel, [x], want.shape, misalign=index)
                assert np.array_equal(got, want), f"mean {index}: {kernel.function}"
    assert functions == {"nn_mean_s8", "nn_mean_s8_simd"}
    assert any(mean_graph(index).tensors[0].size // mean_graph(index).tensors[1].size > 256 for index in range(GRAPHS))


def test_c_kernels_under_sanitizers_and_on_a_cortex_m4(tmp_path: Path) -> None:
    cases = [
        (mean_graph(index), mean_inputs(mean_graph(index), index)[index % 2 : index % 2 + 1]) for index in range(24)
    ]
    done = subprocess.run([build_host_image(tmp_path, cases)], capture_output=True, text=True, check=False)
    assert MARK in done.stdout, done.stdout + done.stderr
    compiler("qemu-system-arm")
    assert MARK in run_qemu(build_arm_image(tmp_path, cases, "-O2"))


@pytest.mark.parametrize("index", [2, 3])
def test_tflite_round_trip(index: int) -> None:
    graph = mean_graph(index)
    again = read_tflite(write_tflite(graph))
    assert again.model_id == graph.model_id
    assert len(again.tensors[1].shape) == (4 if index % 2 else 2)
    assert "(r).AddMean();" in render_kws_header(graph, "mean")


@pytest.mark.parametrize(("axes", "fine"), [((2, 1), True), ((-2, -3), True), ((0, 1), False), ((1, 3), False)])
def test_axes_of_others(axes: tuple[int, ...], fine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a converter of others may write them."""
    monkeypatch.setattr(Mean, "constants", (("axes", np.array(axes, np.int32)),))
    data = write_tflite(mean_graph(3))
    if fine:
        assert isinstance(read_tflite(data).layers[0], Mean)
    else:
        with pytest.raises(ConvertError, match=r"MEAN is supported over axes beside each other"):
            read_tflite(data)


def test_what_breaks_a_rule_is_refused() -> None:
    x, y = QuantParams((0.0625,), (0,)), QuantParams((0.0625,), (0,))
    for shape, out, rule in (
        ((1, 5), (1,), "axes beside each other"),
        ((1, 5, 4, 3), (1, 4), r"\(1, 3\)"),
        ((1, 4096, 4096, 1), (1, 1), "overflow int32"),
    ):
        with pytest.raises(ConvertError, match=rule):
            check(Graph((Tensor("x", shape, x), Tensor("y", out, y)), (Mean("mean", 0, 1),), 0, 1))
