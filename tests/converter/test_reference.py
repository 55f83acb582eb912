"""The committed model: its generated code is what convert writes, and it equals TensorFlow Lite Micro on a thousand
recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter import convert as conversion
from converter.aot.stream_plan import plan_stream
from converter.operators.softmax import Softmax
from converter.size import model_size
from converter.tflite.interpreters import Unavailable
from converter.tflite.legacy_rounding import agrees_with_legacy_rounding
from converter.verify import run as verify
from converter.verify.checks import EQUAL
from converter.verify.engines import tflm

ROOT = Path(__file__).resolve().parents[2]
REFERENCE, SPOTTER = ROOT / "reference", ROOT / "reference" / "spotter"
GENERATED = {REFERENCE: ROOT / "firmware" / "generated", SPOTTER: ROOT / "firmware" / "generated_spotter"}
RECORDINGS = 1000
both = pytest.mark.parametrize("model", [REFERENCE, SPOTTER], ids=["tinyconv", "spotter"])


@both
def test_generated_code_is_what_convert_writes(model: Path) -> None:
    files = conversion.render(conversion.load(model))
    for name, data in files.items():
        assert (GENERATED[model] / name).read_bytes() == data, f"{name}: run `make reference`"
    strangers = {file.name for file in GENERATED[model].iterdir()} - set(files) - {"README.md", ".gitkeep"}
    assert not strangers


def test_the_spotter_streams_and_keeps_to_its_budget() -> None:
    """0.6 M MAC a window, logits at the end, every hop of 40 ms computed alone, a table of rates for the board."""
    source = conversion.load(SPOTTER)
    size, plan = model_size(source.graph), plan_stream(source.graph, 2)
    assert size.macs <= 600_000 and plan.hop_bytes == 80
    assert not any(isinstance(layer, Softmax) for layer in source.graph.layers)
    assert source.detector is not None and len(source.detector.rates) >= 5
    assert source.detector.thresholds in dict(source.detector.rates).values()


def test_reference_model_is_the_same_in_older_tensorflow_lite() -> None:
    """So that the Arduino library's TFLM engine, of 2024, must give the AOT engine's scores for every input."""
    assert agrees_with_legacy_rounding(conversion.load(REFERENCE).graph)


@both
def test_a_thousand_recordings_equal_tflm_layer_by_layer(model: Path, speech_commands: Path) -> None:
    layers = len(conversion.load(model).graph.layers)
    with verify.prepared(model, RECORDINGS, audio=speech_commands) as given:
        assert len(given.recorded) == RECORDINGS
        try:
            check = tflm(given)
        except Unavailable as missing:
            pytest.skip(str(missing))
    assert check.status == EQUAL and check.checked == layers * (RECORDINGS + verify.NOISE_INPUTS), check.detail
