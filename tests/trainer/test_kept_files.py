"""The trainer's own JSON files, damaged or made up: each reader takes a value that keeps its rules, or says one
sentence, or makes the file again; nothing else."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import HOSTILE, changed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.progress import Progress
from search_table import TABLE

from converter.checked import Fields, Rule, rule_of
from converter.errors import printable
from converter.files import read_json_object
from converter.run_folder import ArtifactError, ModelArtifact
from converter.spec import DetectorSpec, KwsSpec
from host.measure import packed_study
from trainer.__main__ import board_tools
from trainer.data import synthetic
from trainer.data.negatives import load_negatives, make_negatives
from trainer.data.recordings import write_wav
from trainer.data.scene_studio import HardNegatives, SceneSettings
from trainer.errors import TrainerError
from trainer.network.model import Architecture, build
from trainer.roofline import board as roofline_board
from trainer.run.fit import TrainSettings, save_torch
from trainer.run.steps import Source, load_float, saved_settings
from trainer.search import candidate
from trainer.search.cost import CostTable
from trainer.search.run import Limits, front, show
from trainer.studies.images import ImageRun, ImageSettings
from trainer.sweep import run as sweeping
from trainer.sweep.grid import Point
from trainer.sweep.point import Job, read_result

EXAMPLES = int(os.environ.get("KWS_FUZZ_EXAMPLES", 60))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 60,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SPEC = KwsSpec.of_words(["yes", "stop"])
VALIDATED = {"validation_accuracy": 0.5, "validation_loss": 1.0, "validation_n": 8}
SETTINGS = json.loads(json.dumps(asdict(TrainSettings(scenes=SceneSettings(), hard=HardNegatives()))))
FOUND = {"hop_cycles": 900.5, "flash": 9000, "ram": 800}
ROW = {
    "kernels": [3, 5],
    "widths": [8, 16],
    "rung": 0,
    "misses": 0.25,
    "known": "",
    "on_board": True,
    "train": "python",
}
POINT = Point(bits=4)


def artifact(folder: Path) -> None:
    found = ModelArtifact.load(folder)
    if "train" in found.results:
        saved_settings(found)


def claimed(folder: Path) -> None:
    every = candidate.claim(candidate.SearchJob(folder, folder, Source("d"), ("yes",), None, board_tools()), {})
    for one in every["found"].values():
        front(one["candidates"], Limits(**every["limits"]))
    assert show(every).row_count > 0


def swept(folder: Path) -> None:
    sweeping.claim(Job(folder, folder, Source("data"), ("yes",), None, 50), [POINT])


def kept(rule: Rule) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        assert read_json_object(next(folder.glob("*.json")), rule) is not None

    return read


# File -> a whole one, and who reads it.
READERS: dict[str, tuple[dict[str, Any], Callable[[Path], object]]] = {
    "artifact.json": (
        {
            **json.loads(ModelArtifact(Path(), SPEC, DetectorSpec.untuned(2), "tinyconv", "synthetic").to_bytes()),
            "results": {
                "parameters": 9,
                "train": {**VALIDATED, "settings": SETTINGS},
                "qat": VALIDATED,
                "prune": {**VALIDATED, "kind": "structured", "parameters": 8, "nonzero": 7},
                "evaluation": {"engines": {"int8": {"test_reset": {"accuracy": 50.0, "n": 4}}}},
                "operating_point": {
                    **{"hours": 1.5, "left_out": [{"source": "a", "hours": 1.5}], "validation_words": 4},
                    **{"miss_rate_at": {"0.5": 0.25}},
                },
            },
        },
        artifact,
    ),
    "source.json": ({"data": "/data", "clips": None, "teacher": "/t", "negatives": "/n"}, Source.load),
    "search.json": (
        {
            "found": {"evolution": {"trained": [1], "candidates": [{**ROW, **FOUND, "differences": 0}]}},
            **{"limits": asdict(Limits(2, 64, 24)), "words": ["yes"], "validation_words": 10},
        },
        claimed,
    ),
    "rung0.json": ({"misses": 0.5, "rates": {"0.5": 0.5}, "loss": 1.0, "seconds": 3.0}, kept(candidate.TRIED)),
    "board0.json": ({**FOUND, "differences": 0, "inputs": 10}, kept(candidate.ON_BOARD)),
    "cost.json": ({"table": asdict(TABLE), "error": 0.01}, kept(Fields({"table": rule_of(CostTable)}))),
    "sweep.json": (
        {
            **{"words": ["yes"], "source": asdict(Source("data")), "epochs": None, "clips": 50, "smoke_test": False},
            "points": [{**asdict(POINT), "key": POINT.key}],
        },
        swept,
    ),
    "result.json": (
        {
            **{"point": asdict(POINT), "commands": ["python"], "train": {"accuracy": 50.0, "n": 4}},
            "board": {
                **{"cycles": 900.0, "board_ms": 1.5, "energy_uj": 2.5, "engine_flash_bytes": 9, "differences": 0},
                "inputs": 4,
            },
        },
        lambda folder: sweeping.table([read_result(folder)]),
    ),
    "images.json": (
        {
            **{"model": "mnist_cnn", "pictures": "digits", "settings": asdict(ImageSettings())},
            "results": {"parameters": 9, "nonzero": 8, "train": {"accuracy": 50.0, "n": 4}},
        },
        ImageRun.load,
    ),
    synthetic.MARKER: (
        {"complete": True, "settings": asdict(synthetic.SyntheticSettings(("yes",)))},
        lambda folder: synthetic._check(synthetic.SyntheticSettings(("yes",)), folder),
    ),
    "profile.json": (
        {
            **{"identity": {"clock_hz": 64_000_000}, "modelled": True},
            "roofline": [{"name": "conv", "operations": 9, "bytes": 8, "cycles": 7}],
        },
        lambda folder: roofline_board.load(folder / "profile.json").whole,
    ),
    "packed.json": (
        asdict(packed_study.Point("id", 4, 0.5, ("a", "b"), (1, 2), 1, 2, 3, 4, 5, 6, (3, 4), 9)),
        kept(packed_study._POINT),
    ),
}


def read(folder: Path, name: str, text: str | bytes) -> str:
    """What the reader said of a file of this text, "" where it took it."""
    if name == "images.json":
        (folder / "source.json").write_text('{"data": "/data"}')
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        READERS[name][1](folder)
    except (TrainerError, ArtifactError) as error:
        told = printable(str(error))  # as the command line does
        assert told and len(told) < 900, told
        return told
    finally:
        (folder / name).unlink()
    return ""


@pytest.mark.parametrize("name", READERS)
def test_every_field_is_checked_where_it_enters(name: str, tmp_path: Path) -> None:
    document = READERS[name][0]
    assert read(tmp_path, name, json.dumps(document)) == ""
    for where, damaged in changed(document):
        try:
            read(tmp_path, name, json.dumps(damaged))
        except Exception as error:
            raise AssertionError(f"{where}: {error!r}") from error


def places(value: Any) -> list[tuple[Any, ...]]:
    """The path to every part of a document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, part in parts for rest in places(part))]


JSON_VALUES = st.recursive(
    st.sampled_from(HOSTILE) | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("name", READERS)
@settings(parent=FUZZ)
@given(data=st.data())
def test_several_fields_and_bytes_made_wrong_are_one_sentence_too(name: str, data: st.DataObject) -> None:
    document = json.loads(json.dumps(READERS[name][0]))
    for _ in range(data.draw(st.integers(0, 3))):
        *path, last = data.draw(st.sampled_from([place for place in places(document) if place]))
        part = document
        for key in path:
            part = part[key]
        part[last] = copy.deepcopy(data.draw(JSON_VALUES))  # which may be changed in its turn
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    at = data.draw(st.integers(0, len(text)))
    with tempfile.TemporaryDirectory() as folder:
        read(Path(folder), name, text[:at] + data.draw(st.just(b"") | st.binary(max_size=4)) + text[at:])


def test_an_index_of_negatives_is_checked_with_its_streams(tmp_path: Path) -> None:
    write_wav(tmp_path / "anna" / "a.wav", np.zeros(16000, np.int16))
    write_wav(tmp_path / "anna" / "b.wav", np.ones(8000, np.int16))
    folder = tmp_path / "negatives"
    make_negatives(folder, (), [tmp_path / "anna"], Progress(disable=True))
    index = folder / "negatives.json"
    document = json.loads(index.read_text())
    document["streams"][0]["clips"].append(["c.wav", 24000, 0])  # packages hold recordings of no sound too
    index.write_text(json.dumps(document))
    assert [len(pcm) for _, pcm in load_negatives(folder, ("yes",))] == [24000]
    refused = 0
    for where, damaged in changed(document):
        index.write_text(json.dumps(damaged))
        try:
            ((stream, pcm),) = load_negatives(folder, ("yes",))
        except TrainerError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1, where
        else:
            assert sum(clip.samples for clip in stream.clips) == len(pcm) == 24000, where
            assert Path(stream.file).name == stream.file, where
    assert refused > 100


def test_a_checkpoint_of_another_network_is_one_sentence(tmp_path: Path) -> None:
    run = ModelArtifact(tmp_path, SPEC, DetectorSpec.untuned(2), "tinyconv", "synthetic").save()
    architecture = Architecture.of("tinyconv", 4, SPEC.features, 0.1)
    facts, state = asdict(architecture), build(architecture).state_dict()
    whole: dict[str, Any] = {"architecture": facts, "state": state, "spec_id": SPEC.spec_id}
    save_torch(run.float_checkpoint, whole)
    load_float(run)
    parts: tuple[dict[str, Any], ...] = (
        {"architecture": {}},
        {"architecture": {**facts, "labels": -1}},
        {"architecture": 1},
        {"architecture": {**facts, "model": "x"}},
        {"state": {}},
        {"state": {name: torch.zeros(1) for name in state}},
        {"state": 3},
    )
    for part in parts:
        save_torch(run.float_checkpoint, {**whole, **part})
        with pytest.raises(TrainerError, match=r"float\.pt: not of this network") as caught:
            load_float(run)
        assert len(str(caught.value).splitlines()) == 1
