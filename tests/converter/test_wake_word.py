"""microWakeWord's models from their manifests: through convert and the compiled engine, and on the listening board."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cli import sound
from random_layers import random_graph

from converter import convert
from converter.aot.native import NativeModel
from converter.arrays import Int8, Int16
from converter.audio.frontend import MicroFrontend, quantize_features
from converter.check import check
from converter.errors import ConvertError
from converter.graph import Graph, Variable
from converter.keyword_models.wake_word import read_wake_word
from converter.operators.add import Add
from converter.operators.fully_connected import FullyConnected
from converter.spec import KwsSpec
from converter.tensor import QuantParams, Tensor
from converter.tflite.interpreters import installed
from converter.tflite.writer import write_tflite
from host.errors import HostError
from host.firmware_build import build_firmware
from host.link.client import connect
from host.link.expected import load_model
from host.measure.monitor import View
from host.measure.stream import stream
from trainer.data.synthetic_speech import ENGLISH, say

NAMES = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
LONG_S = 600
package = pytest.mark.skipif(installed("pymicro-wakeword") == "not installed", reason="the extra wakewords")


def manifest(name: str) -> Path:
    found = importlib.metadata.distribution("pymicro-wakeword").locate_file(f"pymicro_wakeword/models/{name}.json")
    return Path(str(found))


def listened(source: convert.Source, pcm: Int16) -> Int8:
    """int8 [inferences, 1, frames, channels]: what the model takes while its front end hears pcm."""
    features = KwsSpec.from_json(source.graph.spec_json).features
    rows = quantize_features(MicroFrontend(features).process(pcm), features)
    shape = source.graph.tensors[source.graph.input].shape
    return rows[: len(rows) // shape[1] * shape[1]].reshape(-1, *shape)


def spoken(phrase: str, count: int) -> Int16:
    """The phrase by so many synthetic voices, a second of silence round each."""
    engine = next((e for e in ("flite", "espeak-ng") if shutil.which(e)), None)
    if engine is None:
        pytest.skip("neither flite nor espeak-ng is installed")
    rng, silence = np.random.default_rng(3), np.zeros(16000, np.int16)
    parts = [part for _ in range(count) for part in (silence, silence, say(engine, phrase, ENGLISH, rng))]
    return np.concatenate([*parts, silence])


@package
@pytest.mark.parametrize("name", NAMES)
def test_what_a_manifest_says(name: str) -> None:
    source = convert.load(manifest(name))
    about = json.loads(manifest(name).read_text())
    spec = KwsSpec.from_json(source.graph.spec_json)
    assert spec.words == (about["wake_word"],)
    assert (spec.features.frames, spec.features.channels, spec.features.step_ms) == (3, 40, 10)
    detector, micro = source.detector, about["micro"]
    assert detector is not None and detector.hop_frames == 3
    count, cutoff = micro["sliding_window_size"], micro["probability_cutoff"]
    (least,) = detector.thresholds
    assert detector.average_count == count and (least - 1) / count / 256 <= cutoff < least / count / 256
    assert detector.suppress_frames == detector.settle_frames == 100


@package
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] if n != NAMES[-1] else []) for n in NAMES])
def test_ten_minutes_are_those_of_tensorflow_lite_micro(name: str, tmp_path: Path) -> None:
    """The file's own bytes, one inference after the other, speech and loud sounds in it."""
    runtime = pytest.importorskip("tflite_micro").runtime
    source = convert.load(manifest(name))
    assert source.original is not None
    pcm = np.concatenate([spoken(name.replace("_", " "), 8), sound(LONG_S, 1)])[: LONG_S * 16000]
    x = listened(source, pcm)
    engine, interpreter = (
        NativeModel(source.graph, tmp_path, simd=True),
        runtime.Interpreter.from_bytes(source.original.data),
    )
    ours = engine.outputs(x).reshape(-1).astype(np.int16) + 128
    theirs = np.zeros(len(x), np.int16)
    for at, row in enumerate(x):
        interpreter.set_input(row, 0)
        interpreter.invoke()
        theirs[at] = interpreter.get_output(0)[0, 0]
    assert len(x) > LONG_S * 33 and np.array_equal(ours, theirs)
    assert len(set(theirs.tolist())) > 20 and theirs.max() > 200


@package
@pytest.mark.slow
def test_the_board_hears_its_word_and_every_number_is_the_hosts(tmp_path: Path) -> None:
    source = convert.load(manifest("okay_nabu"))
    convert.write_all(convert.render(source), tmp_path)
    written = convert.load(tmp_path)  # the folder alone, without its manifest
    with pytest.raises(HostError, match=r"holds no image for a virtual board; run `python -m host build"):
        connect(str(tmp_path)).__enter__()
    assert written.graph.model_id == source.graph.model_id and written.hop_frames == 3
    build_firmware(tmp_path, tmp_path / "build")
    model = load_model(tmp_path)
    with connect(str(tmp_path)) as board:
        view = View(board.identity, True, model)
        assert board.identity.outputs == board.identity.labels[2:] == ("Okay_Nabu",)
        found = stream(board, spoken("okay nabu", 2), model, view.add)
        assert found.host and found.different == 0
        assert [word for _, word in found.words] == ["Okay Nabu"] * 2
        again = stream(board, sound(1, 1), model)  # from a reset: what was heard before is forgotten
        assert again.host and again.different == 0 and not again.words
    assert [word.split("  ")[-1] for word in view.words] == ["Okay_Nabu"] * 2 and len(view.shares()) == 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"type": "macro"}, "type: must be one of micro, got 'macro'"),
        ({"wake_word": ""}, "a word is printable, not empty"),
        ({"model": "../m.tflite"}, "its model must lie beside it"),
        ({"model": None}, "model"),
        ({"micro": {"sliding_window_size": 5}}, "probability_cutoff"),
        ({"micro": {"probability_cutoff": 0.9}}, "says no sliding_window_size"),
        ({"micro": {"probability_cutoff": "0.9", "sliding_window_size": 5}}, "probability_cutoff"),
        ({"micro": {"probability_cutoff": 0.9, "sliding_window_size": 0}}, "sliding_window_size"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(change: dict[str, Any], rule: str, tmp_path: Path) -> None:
    good = {
        "type": "micro",
        "wake_word": "computer",
        "model": "m.tflite",
        "micro": {"probability_cutoff": 0.5, "sliding_window_size": 4},
    }
    file = tmp_path / "m.json"
    file.write_text(json.dumps({**good, **change}))
    with pytest.raises(ConvertError, match=rule):
        word = read_wake_word(file)
        word.spec(convert.load(word.model).graph)


def test_a_manifest_without_its_model_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text('{"type": "micro", "wake_word": "x", "model": "m.tflite", "micro": {}}')
    with pytest.raises(ConvertError, match="no microWakeWord manifest"):
        convert.load(file)
    micro = {"probability_cutoff": 0.5, "sliding_window_size": 4}
    file.write_text(json.dumps({"type": "micro", "wake_word": "x", "model": "m.tflite", "micro": micro}))
    with pytest.raises(ConvertError, match=r"m\.tflite: cannot be read"):
        convert.load(file)


def test_a_model_that_cannot_be_a_wake_words_is_refused(tmp_path: Path) -> None:
    """One that keeps no state, and one whose input is longer than a hop may be."""
    file, micro = tmp_path / "m.json", {"probability_cutoff": 0.5, "sliding_window_size": 4}
    file.write_text(json.dumps({"type": "micro", "wake_word": "x", "model": "m.tflite", "micro": micro}))
    (tmp_path / "m.tflite").write_bytes(write_tflite(random_graph(0)))
    with pytest.raises(ConvertError, match=r"a wake word's model takes \[1, frames, channels\]"):
        convert.load(file)
    quant, one = QuantParams((float(np.float32(0.1)),), (-128,)), QuantParams((1 / 256,), (-128,))
    x, kept = Tensor("x", (1, 60, 2), quant), Tensor("kept", (1, 60, 2), quant)
    y, score = Tensor("y", (1, 60, 2), quant), Tensor("score", (1, 1), one)
    weights = np.zeros((1, 120), np.int8)
    dense = FullyConnected("score", 2, 3, weights, QuantParams((0.25,), (0,)), np.zeros(1, np.int32), "NONE")
    layers = (Add("y", 0, 1, 2, "NONE"), dense)
    graph = check(Graph((x, kept, y, score), layers, 0, 3, variables=(Variable("kept", 1, 2, -128),)))
    with pytest.raises(ConvertError, match=r"m\.tflite: DetectorSpec\.hop_frames: must be .* 1 to 50, got 60"):
        read_wake_word(file).spec(graph)
