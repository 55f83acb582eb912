"""A .tflite of others that is told its words and features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from converter.__main__ import app
from converter.convert import load
from converter.errors import ConvertError
from converter.keyword_models.keywords import listening, read_features
from converter.spec import FeatureSpec, KwsSpec
from converter.tflite.writer import write_tflite

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference network as if another had made it."""
    file = tmp_path_factory.mktemp("strange") / "strange.tflite"
    file.write_bytes(write_tflite(replace(load(ROOT / "reference").graph, spec_json="")))
    return file


def convert(*words: object) -> str:
    done = CliRunner().invoke(app, ["convert", *map(str, words)])
    assert done.exit_code in (0, 1), done.output
    return ("error: " if done.exit_code and "error" not in done.output else "") + done.output


def test_it_becomes_what_its_own_project_made_of_it(strange: Path, tmp_path: Path) -> None:
    convert(strange, "--out", tmp_path / "deaf")
    assert "#define KWS_HAS_FRONTEND 0" in (tmp_path / "deaf" / "kws_model.h").read_text()
    convert(strange, "--words", "yes, stop", "--out", tmp_path / "hears")
    generated = ROOT / "firmware" / "generated"
    for name in ("model.tflite", "frontend_tables.h", "model_data.c", "model_aot.h"):
        if (generated / name).is_file():
            assert (tmp_path / "hears" / name).read_bytes() == (generated / name).read_bytes(), name
    graph = load(tmp_path / "hears").graph
    assert graph.spec_json == load(ROOT / "reference").graph.spec_json


def test_hop_and_features_reach_the_firmware(strange: Path, tmp_path: Path) -> None:
    settings = tmp_path / "features.json"
    settings.write_text(json.dumps({"step_ms": 10, "pcan_strength": 0.9}))
    convert(strange, "--words", "yes,stop", "--features", settings, "--hop", 4, "--out", tmp_path / "out")
    header = (tmp_path / "out" / "kws_model.h").read_text()
    assert "#define KWS_DETECT_HOP_FRAMES 4\n" in header and "#define KWS_STEP_SAMPLES 160\n" in header
    features = KwsSpec.from_json(load(tmp_path / "out").graph.spec_json).features
    assert features == FeatureSpec(step_ms=10, clip_ms=510, pcan_strength=0.9)
    assert read_features("micro10").step_ms == 10


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--words", "yes"), "the spec has 3 labels, the model 4 outputs"),
        (("--words", "yes,yes"), "must differ from each other"),
        (("--hop", "3"), "name its words"),
        (("--words", "yes,stop", "--features", "mfcc"), "name micro20, micro10 or a .json"),
        (("--words", "yes,stop", "--features", "{bad}"), "clip_ms"),
        (("--words", "yes,stop", "--features", "{wide}"), "features are frames of 41 channels"),
        (("--words", "yes,stop", "--features", "{thin}"), "features are frames of 20 channels"),
        (("--words", "yes,stop", "--features", "{slow}"), "without 'sample_rate_hz'"),
    ],
)
def test_what_cannot_be_is_said(given: tuple[str, ...], says: str, strange: Path, tmp_path: Path) -> None:
    for name, content in (
        ("bad", {"clip_ms": 5}),
        ("wide", {"channels": 41}),
        ("thin", {"channels": 20}),
        ("slow", {"sample_rate_hz": 8000}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    found = [str(tmp_path / f"{word[1:-1]}.json") if word[0] == "{" else word for word in given]
    told = convert(strange, *found, "--out", tmp_path / "out")
    assert told.startswith("error: ") and says in told and not (tmp_path / "out" / "kws_model.h").exists()


def test_a_model_that_knows_its_words_and_one_of_another_zero_point_are_refused(tmp_path: Path) -> None:
    assert "says its own words" in convert(ROOT / "reference", "--words", "a,b", "--out", tmp_path)
    graph = replace(load(ROOT / "reference").graph, spec_json="")
    x = graph.tensors[graph.input]
    moved = replace(x, quant=replace(x.quant, zero_points=(0,)))
    other = replace(graph, tensors=tuple(moved if t is x else t for t in graph.tensors))
    with pytest.raises(ConvertError, match="begin at -128"):
        listening(other, ("yes", "stop"), FeatureSpec())
