"""Specs and artifact.json from damaged or hostile files: one sentence that names the field, or text that stays text."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hostile import changed
from sketch_on_host import SPEC, tinyconv

from converter.aot.model_header import render_kws_header
from converter.audio.tables import compute_tables, render
from converter.errors import ConvertError
from converter.run_folder import ArtifactError, ModelArtifact
from converter.spec import MAX_WORDS, DetectorSpec, FeatureSpec, KwsSpec, SpecError
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite

RATES = ((0.5, (200, 210)), (2.0, (100, 110)))
DETECTOR = DetectorSpec((200, 210), rates=RATES)
# Values that once became C, an endless number, or a traceback.
NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e308, 1e30, -5, 0, 10**400, 2**63, 16000.0, -128.0, 1e-320)
TEXTS = ("6\n#error injected", "x", ["a"], {"a": 1}, None, True)


def refused(text: str) -> str:
    """What KwsSpec.from_json says of it."""
    with pytest.raises(SpecError) as caught:
        KwsSpec.from_json(text)
    return str(caught.value)


def render_all(spec: KwsSpec, detector: DetectorSpec) -> str:
    header = render_kws_header(replace(tinyconv(), spec_json=spec.to_json()), "m", detector)
    return header + render(spec.features)


@pytest.mark.parametrize("name", asdict(FeatureSpec()))
def test_each_feature_setting_has_a_type_and_a_range(name: str) -> None:
    """A value is refused by name, or everything made of it is of the same form as ever: one macro a line, integers."""
    form = [line.split(" ")[:2] for line in render_all(SPEC, DETECTOR).splitlines() if line.startswith("#")]
    for value in (*NUMBERS, *TEXTS):
        raw = json.loads(SPEC.to_json())
        raw["features"][name] = value
        try:
            spec = KwsSpec.from_json(json.dumps(raw))
            text = render_all(spec, DETECTOR)
        except (SpecError, ConvertError) as error:
            assert str(error).isprintable() and len(str(error)) < 300
            assert name in str(error) or "frontend_tables" in str(error), (value, error)
        else:
            assert [line.split(" ")[:2] for line in text.splitlines() if line.startswith("#")] == form, value
            assert spec.spec_id == KwsSpec.from_json(spec.to_json()).spec_id


def test_an_integer_in_the_place_of_a_real_is_the_same_spec() -> None:
    raw = json.loads(SPEC.to_json())
    raw["features"]["lower_hz"] = 125
    assert KwsSpec.from_json(json.dumps(raw)).spec_id == SPEC.spec_id
    assert KwsSpec(SPEC.labels, FeatureSpec(lower_hz=125)).spec_id == SPEC.spec_id


NO_NAMES = ("", " yes", "gro\u0308\u00dfe", "a\nb", "a\0b", "\u202eevil", "../x", "a/b", "a\\b", ".hidden", "\ud800")
TEXT_NAMES = ("%s%n", "a]b,c", "ja", "\u00e91", "\u65e5\u672c", "o'clock", 'say "hi"', "why??", "`x`", "$(x)")


@pytest.mark.parametrize("word", [*NO_NAMES, "x" * 64, 3, None, ["a"]])
def test_a_word_that_is_no_name_is_refused(word: Any) -> None:
    raw = {**json.loads(SPEC.to_json()), "labels": ["silence", "unknown", word]}
    assert "KwsSpec.labels" in refused(json.dumps(raw))


@pytest.mark.parametrize("word", TEXT_NAMES)
def test_a_word_that_is_text_is_text_in_c(word: str) -> None:
    spec = KwsSpec.of_words([word, "stop"])
    assert spec.words[0] == word and KwsSpec.from_json(spec.to_json()) == spec
    names = next(line for line in render_all(spec, DETECTOR).splitlines() if "LABEL_NAMES" in line)
    assert names.isascii() and names.count('"') == 8 and "??" not in names


def test_an_accent_behind_its_letter_is_the_same_word() -> None:
    assert KwsSpec.of_words(["gro\u0308\u00dfe"]) == KwsSpec.of_words(["gr\u00f6\u00dfe"])
    with pytest.raises(SpecError, match="differ"):
        KwsSpec.of_words(["gro\u0308\u00dfe", "gr\u00f6\u00dfe"])


def test_more_words_than_a_board_hears_are_refused_at_once() -> None:
    KwsSpec.of_words([f"w{index}" for index in range(MAX_WORDS)])
    with pytest.raises(SpecError, match="at most 30 words, got 31"):
        KwsSpec.of_words([f"w{index}" for index in range(MAX_WORDS + 1)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("null", "got None"),
        ("5", "got 5"),
        ("[]", "a list of 0"),
        ('"x"', "got 'x'"),
        ("[" * 100_000, "32 deep"),
        ('{"labels":' * 100_000, "32 deep"),
        ('{"labels": ' + "9" * 5000 + "}", "labels: must be a finite number"),
        ("{", "not a spec"),
        ('{"labels": [], "features": {}, "__class__": 1}', "without '__class__'"),
        ('{"labels": [], "features": []}', "features: must be an object"),
        ('{"labels": "silence", "features": {}}', "must be a list"),
    ],
    ids=range(11),
)
def test_text_that_is_no_spec_is_one_sentence(text: str, says: str) -> None:
    told = refused(text)
    assert says in told and told.isprintable() and len(told) < 400


def test_a_tflites_spec_is_checked_before_anything_is_made_of_it() -> None:
    wanted = json.loads(SPEC.to_json())
    wanted["features"]["even_smoothing"] = 1e30
    data = write_tflite(replace(tinyconv(), spec_json=json.dumps(wanted)))
    with pytest.raises(ConvertError, match=r"kws_spec: KwsSpec\.features\.even_smoothing: .* got 1e\+30; export"):
        read_tflite(data)


def test_every_field_of_a_detector_is_checked() -> None:
    whole = json.loads(json.dumps(asdict(DETECTOR)))
    assert DetectorSpec.from_json(whole) == DETECTOR
    accepted = 0
    for where, raw in changed(whole):
        try:
            found = DetectorSpec.from_json(raw)
        except SpecError as error:
            assert "DetectorSpec" in str(error) and str(error).isprintable(), where
        else:
            accepted += 1
            assert {type(value) for value in (*found.thresholds, found.hop_frames, found.settle_frames)} == {int}
            text = render_all(SPEC, found)
            assert "script" not in text and "True" not in text and "[" not in text.split("DETECT_")[1]
    assert accepted < 40  # a default instead of a field, -1 as a threshold
    for wrong in (True, 2.0, "2", float("nan"), 51):
        with pytest.raises(SpecError, match="hop_frames"):
            DetectorSpec((1,), hop_frames=wrong)  # type: ignore[arg-type]
    for rate in (float("nan"), float("inf"), -1.0, "1", True):
        with pytest.raises(SpecError, match="rates"):
            DetectorSpec((1,), rates=((rate, (1,)),))  # type: ignore[arg-type]


def test_every_field_of_an_artifact_is_checked(tmp_path: Path) -> None:
    ModelArtifact(tmp_path, SPEC, DETECTOR, "tinyconv", "synthetic", results={"qat": {"bits": 8}}).save()
    file = tmp_path / "artifact.json"
    whole = json.loads(file.read_text())
    texts = [json.dumps(raw) for _, raw in changed(whole)]
    texts += [json.dumps({**whole, "seed": seed}) for seed in (float("inf"), float("nan"), 1e999, 10**400, "1", 2.5)]
    zero = json.loads(json.dumps(whole))
    zero["spec"]["features"]["step_ms"] = zero["spec"]["features"]["sample_rate_hz"] = True
    texts += ["", "[" * 100_000, '{"a":' * 100_000, "null", "\0", json.dumps(zero), "9" * 5000]
    accepted = 0
    for text in texts:
        file.write_text(text)
        try:
            found = ModelArtifact.load(tmp_path)
        except ArtifactError as error:
            assert str(error).startswith(f"{file}: ") and str(error).isprintable() and len(str(error)) < 700, text[:200]
        else:
            accepted += 1
            assert found.spec.features.frames == 49 and compute_tables(found.spec.features)
            assert type(found.seed) is int and type(found.model) is type(found.data) is str
            found.with_results(more=1).save()
    assert accepted < len(texts) // 4
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ArtifactError, match="damaged"):
        ModelArtifact.load(tmp_path)
