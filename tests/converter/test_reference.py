"""The committed model: its generated code is what convert writes, and it equals TensorFlow Lite Micro on a thousand
recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter import convert as conversion
from converter.tflite.interpreters import Unavailable
from converter.tflite.legacy_rounding import agrees_with_legacy_rounding
from converter.verify import run as verify
from converter.verify.checks import EQUAL
from converter.verify.engines import tflm

ROOT = Path(__file__).resolve().parents[2]
REFERENCE, GENERATED = ROOT / "reference", ROOT / "firmware" / "generated"
RECORDINGS = 1000


def test_generated_code_is_what_convert_writes() -> None:
    files = conversion.render(conversion.load(REFERENCE))
    for name, data in files.items():
        assert (GENERATED / name).read_bytes() == data, f"{name}: run `make reference`"
    strangers = {file.name for file in GENERATED.iterdir()} - set(files) - {"README.md", ".gitkeep"}
    assert not strangers


def test_reference_model_is_the_same_in_older_tensorflow_lite() -> None:
    """So that the Arduino library's TFLM engine, of 2024, must give the AOT engine's scores for every input."""
    assert agrees_with_legacy_rounding(conversion.load(REFERENCE).graph)


def test_a_thousand_recordings_equal_tflm_layer_by_layer(speech_commands: Path) -> None:
    with verify.prepared(REFERENCE, RECORDINGS, audio=speech_commands) as given:
        assert len(given.recorded) == RECORDINGS
        try:
            check = tflm(given)
        except Unavailable as missing:
            pytest.skip(str(missing))
    assert check.status == EQUAL and check.checked == 3 * (RECORDINGS + verify.NOISE_INPUTS), check.detail
