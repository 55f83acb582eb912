"""The independent check: TensorFlow's own converter, given the same network with fake_quant nodes, makes the same int8
model."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_quant_nets import NETS, inputs_of

from converter import reference
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.reshape import Reshape
from converter.tflite.interpreters import Tflm, Unavailable
from converter.tflite.reader import read_tflite


@pytest.fixture(scope="session")
def by_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tensorflow_worker.py filled."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed (extra `tf`)")
    out = tmp_path_factory.mktemp("tensorflow")
    worker = Path(__file__).resolve().parents[1] / "support" / "tensorflow_worker.py"
    done = subprocess.run(
        [sys.executable, str(worker), str(out)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("name", sorted(NETS))
def test_tensorflows_converter_makes_the_same_int8_model(by_tensorflow: Path, name: str) -> None:
    ours = NETS[name]()
    data = (by_tensorflow / f"{name}.tflite").read_bytes()
    theirs = read_tflite(data)
    kept = [layer for layer in theirs.layers if not isinstance(layer, Reshape)]
    assert [type(layer) for layer in kept] == [type(layer) for layer in ours.layers]
    assert ours.tensors[0].quant == theirs.tensors[0].quant
    for mine, other in zip(ours.layers, kept, strict=True):
        assert ours.tensors[mine.output].quant == theirs.tensors[other.output].quant, mine.name
        if isinstance(mine, (Conv2D, DepthwiseConv2D, FullyConnected)):
            assert isinstance(other, (Conv2D, DepthwiseConv2D, FullyConnected))
            assert mine.weight_quant.scales == other.weight_quant.scales, mine.name
            assert np.array_equal(mine.bias, other.bias), mine.name
    x = inputs_of(ours)
    mine_all, theirs_all = reference.run_batch_all(ours, x), reference.run_batch_all(theirs, x)
    for mine, other in zip(ours.layers, kept, strict=True):
        assert np.array_equal(mine_all[mine.output], theirs_all[other.output]), mine.name
    scores = mine_all[ours.output]
    assert len(np.unique(scores)) > 20, "the network must not saturate"
    try:
        engine = Tflm(theirs, data, keep_all=False)
    except Unavailable:
        return
    assert all(np.array_equal(engine.output(x[row])[0], scores[row]) for row in range(20))


@pytest.mark.parametrize("name", sorted(NETS))
def test_tensorflows_interpreter_loads_what_we_write(by_tensorflow: Path, name: str) -> None:
    graph = NETS[name]()
    with np.load(by_tensorflow / f"{name}.npz") as said:
        assert (float(said["scale"]), int(said["zero_point"])) == (
            graph.tensors[0].quant.scale,
            graph.tensors[0].quant.zero_point,
        )
        theirs = said["outputs"].astype(int)
    ours = reference.run_batch(graph, inputs_of(graph, 5)).reshape(theirs.shape)
    assert np.abs(theirs - ours).max() <= 1, (
        "TensorFlow's current kernels round otherwise than TFLM, by one step here at most"
    )
