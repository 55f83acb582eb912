"""TensorFlow Lite Micro in any ELF against the numpy reference, on the virtual board, through the serial text.

KWS_TFLM_ELF    an image with the engine "tflm", such as .pio/build/nano33ble/firmware.elf
KWS_TFLM_MODEL  the generated files it was built from (default: firmware/generated)
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from converter.arrays import Int8
from converter.graph import Graph
from converter.reference import run
from host.link.client import Board, connect
from host.link.expected import Model, load_model, require_same
from host.measure.stream import stream

ROOT = Path(__file__).resolve().parents[2]
INFERENCES = 20


@pytest.fixture(scope="module")
def host_model(elf: str) -> Model:
    return load_model(Path(os.environ.get("KWS_TFLM_MODEL") or ROOT / "firmware" / "generated") / "model.tflite")


@pytest.fixture(scope="module")
def model(host_model: Model) -> Graph:
    return host_model.graph


@pytest.fixture(scope="module")
def elf() -> str:
    named = os.environ.get("KWS_TFLM_ELF")
    if not named:
        pytest.skip("no TFLM image: set KWS_TFLM_ELF to the firmware.elf of `pio run -e nano33ble`")
    return named


@pytest.fixture(scope="module")
def board(elf: str, host_model: Model) -> Iterator[Board]:
    with connect(elf) as found:
        assert found.identity.engine == "tflm", "KWS_TFLM_ELF holds another engine"
        require_same(found.identity, host_model)
        yield found


def inputs(graph: Graph) -> Iterator[Int8]:
    """Extremes, then noise around different means."""
    shape = graph.tensors[graph.input].shape
    for value in (-128, 127, graph.tensors[graph.input].quant.zero_point):
        yield np.full(shape, value, np.int8)
    rng = np.random.default_rng(20)
    for _ in range(INFERENCES - 3):
        noise = rng.normal(rng.uniform(-100, 100), rng.uniform(5, 80), shape)
        yield np.clip(np.round(noise), -128, 127).astype(np.int8)


def test_every_layer_equals_the_reference(board: Board, model: Graph) -> None:
    for index, x in enumerate(inputs(model)):
        board.load_input(x.tobytes())
        layers, scores = board.layers()
        tensors = run(model, x)
        wanted = [zlib.crc32(tensors[layer.output].tobytes()) for layer in model.layers]
        different = [(ran.index, ran.name) for ran, crc in zip(layers, wanted, strict=True) if ran.crc32 != crc]
        assert different == [], f"input {index}"
        assert scores == tuple(tensors[model.output].ravel().tolist())
        assert all(ran.cycles > 0 for ran in layers)


def test_the_untraced_inference_gives_the_same_scores(board: Board, model: Graph) -> None:
    quant = model.tensors[model.output].quant
    for x in list(inputs(model))[:5]:
        board.load_input(x.tobytes())
        output = run(model, x)[model.output].ravel().astype(float)
        assert board.infer().results == pytest.approx((output - quant.zero_point) * quant.scale, abs=0.0006)


def test_memory_is_within_the_board(board: Board) -> None:
    memory = board.memory()
    assert 0 < memory.arena < memory.static_ram < 256 * 1024
    assert 0 < memory.stack_high_water < 32 * 1024
    assert 0 < memory.flash < 960 * 1024


def test_streamed_audio_is_heard_as_the_host_hears_it(board: Board, host_model: Model) -> None:
    """Two seconds of a tone in noise through front end, network and detector of the image: every score and decision."""
    if board.identity.audio is None:
        pytest.skip("the model of KWS_TFLM_ELF has no front end")
    rng = np.random.default_rng(7)
    time_s = np.arange(32_000) / 16_000
    pcm = (4000 * np.sin(2 * np.pi * 400 * time_s * (1 + time_s)) + rng.normal(0, 300, time_s.size)).astype(np.int16)
    heard = stream(board, pcm, host_model)
    assert len(heard.heard) > 10
    assert heard.different == 0
