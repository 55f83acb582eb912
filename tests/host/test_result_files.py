"""JSON results that somebody damaged or made up: one sentence, or a page in which they are text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile import SCRIPT, changed

from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, KwsSpec
from host.errors import HostError
from host.report.run_page import write_report
from host.report.sweep_data import load_sweep
from host.report.sweep_page import write_sweep_report

SPEC = KwsSpec.of_words(["yes", "stop"])
SCORES = {"accuracy": 50.0, "n": 4, "per_class": [50.0] * 4, "per_class_n": [1] * 4, "confusion": [[1] * 4] * 4}
MISSES = {"clean": 1, "noise 10 dB": 2}
COUNTS = {"yes": 1, "stop": 0}
FACTS = {"hours": 1.0, "false_accepts": 1, "per_hour": 1.0, "bound": 2.0, "per_word": COUNTS}
STAGE: dict[str, Any] = {
    "work": "1 slice",
    "n": 3,
    "min_us": 1.0,
    "max_us": 3.0,
    "mean_us": 2.0,
    "min_ms": 0,
    "max_ms": 1,
    "mean_ms": 0.1,
}
STAGES = [{"name": "pre (slice)", **STAGE}, {"name": "inference", **STAGE}]
DOCUMENTS: dict[str, dict[str, Any]] = {
    "evaluation": {
        "labels": list(SPEC.labels),
        "engines": {"int8": {"test_reset": SCORES}},
        "float_to_int8": {"n": 4, "gained": 1, "lost": 0, "net_loss_points": -25.0},
        "listening": {
            **{"seconds": 3, "heard": 1, "words": 2, "miss_rate": 0.5},
            **{"false_accepts": 0, "false_accepts_per_hour": 0.0},
        },
        "listening_streams": {
            **{"engine": "C", "hours": 1.0, "speakers": 1},
            "conditions": [{"name": "clean", "words": 2, "misses": 1, "confusions": 0, "per_word": COUNTS}],
            "sources": [{"name": "a", "speaker": "b", "language": "c", "licence": "d", **FACTS}],
            "other_words": [{"word": "go", "n": 3, "taken": 1, "as": {"yes": 1}}],
            "shipped": {**FACTS, "misses": MISSES},
            "curve": {"total": [3, 1], "misses": {"clean": [0, 1], "noise 10 dB": [1, 2]}, "drawn": [0, 2]},
        },
    },
    "profile": {
        "identity": {
            **{"spec_id": SPEC.spec_id, "model_id": "0" * 12, "board": "b", "engine": "aot", "clock_hz": 64_000_000}
        },
        "modelled": True,
        "stages": STAGES,
        "uncached": STAGES,
        "layers": [{"name": "conv", "cycles": 9, "crc32": 7}, {"name": "view", "cycles": 0, "crc32": None}],
        "memory": {"flash": 1, "static_ram": 2, "arena": 3, "stack_high_water": 4},
    },
    "trial": {
        "attempts": [
            {"file": "yes/a.wav", "expected": "yes", "heard": "-", "margin": -3, "right": False, "different": 0}
        ],
        **{"right": 0, "n": 1, "different": 0},
    },
    "compare": {
        "timings": [{"engine": "e", "note": "", "n": 2, "median_us": 3.0, "slowdown_of_board": None}],
    },
    "checks": {
        "model_id": "0" * 12,
        "differs": False,
        "checks": [{"claim": "c", "status": "equal", "unit": "u", "detail": "", "checked": 3, "differences": 0}],
    },
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    ModelArtifact(tmp_path, SPEC, DetectorSpec.untuned(2), "tinyconv", "synthetic").save()
    return tmp_path


def report(run: Path, kind: str, text: str) -> str:
    """The page about a run with this file, "" where it was refused in one sentence that names the file."""
    file = run / f"{kind}.json"
    file.write_text(text)
    given = {} if kind == "evaluation" else {kind: file}
    try:
        return write_report(run, run / "report.html", **given).read_text()
    except HostError as error:
        told = str(error)
        assert told.startswith(f"{file}: ") or told.startswith("--profile: of spec"), told
        assert told.isprintable() and len(told) < 700 and ("python -m" in told or "profile the board" in told), told
        return ""
    finally:
        file.unlink()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_every_field_of_a_result_is_checked_or_escaped(run: Path, kind: str) -> None:
    whole = report(run, kind, json.dumps(DOCUMENTS[kind]))
    assert whole and "<script" not in whole
    refused = 0
    for where, document in changed(DOCUMENTS[kind]):
        page = report(run, kind, json.dumps(document))
        assert "<script" not in page, where
        refused += not page
    assert refused >= 30  # of numbers, at least, most hostile values break a rule


def test_the_page_begins_with_what_a_hop_costs_where_the_network_streams(run: Path) -> None:
    document = DOCUMENTS["profile"]
    assert "An inference takes <b>0.00 ms</b> (modelled)" in report(run, "profile", json.dumps(document))
    hop = {**STAGE, "name": "inference (stream)", "min_us": 1000.0, "mean_us": 1110.0, "max_us": 1200.0}
    streams = {**document, **{key: [*document[key], hop] for key in ("stages", "uncached")}}
    page = report(run, "profile", json.dumps(streams))
    assert "part of a hop takes <b>1.11 ms</b> (modelled) and 11.0 uJ (modelled), a whole window 0.00 ms" in page


NO_OBJECT = ("", "[1", "null", "[]", '"a"', "NaN", '{"n": Infinity}', '{"n": 1e999}', "\x00", "\ufeff{}", "9" * 5000)
TOO_DEEP = ("[" * 200_000, '{"a":' * 200_000, '{"a": "' + "\\" * 99_999)


@pytest.mark.parametrize("text", [*NO_OBJECT, *TOO_DEEP], ids=lambda text: text[:20].replace("\x00", "NUL"))
def test_what_is_no_json_object_is_one_sentence(run: Path, text: str) -> None:
    for kind in DOCUMENTS:
        assert report(run, kind, text) == ""


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("trial", {"n": 2}, "must count the 1 attempts"),
        ("trial", {"right": 2}, "must count the 1 attempts"),
        ("evaluation", {"labels": ["a"]}, "one figure for each of 1 labels"),
        ("profile", {"uncached": STAGES[:1]}, "the same stages"),
        ("profile", {"stages": [{"name": "inference", **STAGE, "max_us": 1.5}]}, "between minimum and maximum"),
    ],
)
def test_relations_between_fields_are_checked(run: Path, kind: str, change: dict[str, Any], says: str) -> None:
    (run / f"{kind}.json").write_text(json.dumps({**DOCUMENTS[kind], **change}))
    with pytest.raises(HostError, match=says):
        write_report(run, None, **({} if kind == "evaluation" else {kind: run / f"{kind}.json"}))


def test_every_field_of_a_sweep_is_checked_or_escaped(tmp_path: Path) -> None:
    made = {"model": "m", "seed": 0, "kind": "none", "amount": 0.0, "finetune": 0, "method": "ptq", "bits": 8}
    point = {**made, "key": "p"}
    figures: tuple[str, ...] = ("nonzero", "operations_nonzero", "engine_flash_bytes", "engine_ram_bytes")
    figures += (
        "flash_bytes",
        "ram_bytes",
        "cycles_stream_hop",
        "host_us",
        "board_ms",
        "cycles",
        "cycles_uncached",
        "energy_uj",
        "inputs",
    )
    files: dict[str, dict[str, Any]] = {
        "sweep.json": {"points": [point], "words": ["yes"], "smoke_test": False},
        "points/p/result.json": {
            **{"train": {"accuracy": 90.0, "n": 5}, "board": dict.fromkeys(figures, 3), "commands": ["c"]}
        },
        "float/m/float.json": {"model": "m", "accuracy": 91.0},
    }
    for name, document in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(document))
    assert len(load_sweep(tmp_path).rows) == 1
    for name, document in files.items():
        for where, damaged in changed(document):
            (tmp_path / name).write_text(json.dumps(damaged))
            try:
                page = write_sweep_report(tmp_path, tmp_path / "report.html").read_text()
            except HostError as error:
                assert str(error).isprintable() and "sweep" in str(error), where
            else:
                assert SCRIPT not in page, where
        (tmp_path / name).write_text(json.dumps(document))
