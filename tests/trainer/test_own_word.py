"""A person's own word: the data folder made of takes, and the whole line from takes to firmware and report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from spoken import recording
from trainer_corpus import say
from typer.testing import CliRunner

from converter.run_folder import ModelArtifact
from converter.spec import FeatureSpec, KwsSpec
from trainer.__main__ import app, board_tools
from trainer.data.dataset import select
from trainer.data.negatives import INDEX, Clip, Stream, make_negatives
from trainer.data.recordings import write_wav
from trainer.data.scene_studio import SceneSettings
from trainer.data.scenes import isolated_words
from trainer.errors import TrainerError
from trainer.network.model import Architecture
from trainer.run import keyword, steps
from trainer.run.keyword import KNOWN_WORDS, STEPS, Keyword, make_keyword, summary
from trainer.run.own_word import OTHERS, OTHERS_EACH, data_folder

QUIET = Progress(disable=True)
RATE_HZ = 16000
needs_voices = pytest.mark.skipif(
    shutil.which("espeak-ng") is None or shutil.which("flite") is None, reason="espeak-ng or flite is not installed"
)


def takes(folder: Path, word: str = "computer", count: int = 12) -> Path:
    for number in range(count):
        write_wav(folder / word / f"me_nohash_{number}.wav", say("yes", number))
    return folder


@needs_voices
def test_a_data_folder_is_made_of_takes_and_made_anew_when_they_change(tmp_path: Path) -> None:
    own = takes(tmp_path / "takes")
    data = data_folder(own, ("computer",), tmp_path / "data", tmp_path / "cache", QUIET)
    chosen = select(data, KwsSpec.of_words(["computer"]))
    assert chosen.by_take and sum(c.label == 2 for split in chosen.clips.values() for c in split) == 12
    assert len([f for f in data.rglob("*_nohash_0.wav") if f.parent.name != "computer"]) == OTHERS * OTHERS_EACH
    stamp = (data / "takes.txt").stat().st_mtime_ns
    data_folder(own, ("computer",), data, tmp_path / "cache", QUIET)
    assert (data / "takes.txt").stat().st_mtime_ns == stamp
    write_wav(own / "computer" / "me_nohash_99.wav", say("yes", 99))
    write_wav(own / "_background_noise_" / "kitchen.wav", np.ones(12 * RATE_HZ, np.int16))
    data_folder(own, ("computer",), data, tmp_path / "cache", QUIET)
    assert (data / "computer" / "me_nohash_99.wav").is_file()
    assert (data / "_background_noise_" / "kitchen.wav").is_file()


def test_what_is_no_folder_of_takes_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="no such folder of takes"):
        data_folder(tmp_path / "none", ("computer",), tmp_path / "data", tmp_path, QUIET)
    own = takes(tmp_path / "takes", "lamp")
    with pytest.raises(TrainerError, match="no takes of the word 'computer'; it holds lamp"):
        data_folder(own, ("computer",), tmp_path / "data", tmp_path, QUIET)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(TrainerError, match="is not a data folder made of takes"):
        data_folder(own, ("lamp",), tmp_path / "mine", tmp_path, QUIET)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_isolated_words_are_cut_from_streams_of_words_alone() -> None:
    features = KwsSpec.of_words(["computer"]).features
    words = np.concatenate([say("yes", number) for number in range(5)])
    clips = tuple(Clip(f"{n}.wav", n * RATE_HZ, RATE_HZ) for n in range(5))
    streams = [
        (Stream(kind, kind, "many", "train", "none", "f", "", clips, kind), words)
        for kind in ("words", "speech", "music")
    ]
    found = isolated_words(streams, 100, features)
    assert found.shape == (5, features.clip_samples)
    assert (np.abs(found[:, features.clip_samples // 2 - 1600 :][:, :3200]).max(axis=1) > 2000).all()
    assert len(isolated_words(streams, 3, features)) == 3 and len(isolated_words(streams, 0, features)) == 0


def test_a_network_starts_from_one_of_other_words() -> None:
    known = steps.load_float(ModelArtifact.load(KNOWN_WORDS)).state_dict()
    architecture = Architecture.of("tcn", 3, FeatureSpec(), 0.1)
    fresh, begun = (steps.untrained(architecture, 5, start).state_dict() for start in (None, str(KNOWN_WORDS)))
    for key, value in begun.items():
        assert torch.equal(value, fresh[key] if key.startswith("blocks.logits.") else known[key]), key
    with pytest.raises(TrainerError, match="its layers are not those of the network to be trained"):
        steps.untrained(replace(architecture, width=64), 5, str(KNOWN_WORDS))


@pytest.mark.slow
@needs_voices
def test_takes_become_firmware_and_report_and_a_stopped_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    monkeypatch.chdir(tmp_path)
    talks = []
    for number, speaker in enumerate(("anna", "berta", "carl")):
        talk = np.concatenate([say("other", 100 * number + n) for n in range(80)])
        write_wav(tmp_path / speaker / "talk.wav", talk)
        talks.append(tmp_path / speaker)
    make_negatives(tmp_path / "negatives", (), talks, QUIET)
    index = json.loads((tmp_path / "negatives" / INDEX).read_text())
    for stream in index["streams"] if isinstance(index, dict) else index:
        if stream["name"] == "own-carl":
            stream["split"] = "test"
    (tmp_path / "negatives" / INDEX).write_text(json.dumps(index))
    write_wav(tmp_path / "recordings" / "phone.wav", recording(40, [1 + 3 * number for number in range(12)]))
    words = ["audio", "recordings", "--word", "computer", "--out", "takes"]
    assert CliRunner().invoke(app, words).exit_code == 0
    settings = replace(keyword.SETTINGS, epochs=1, scenes=SceneSettings(count=250, spoken=4, recorded_share=0.6))
    asked = Keyword(
        ("computer",), tmp_path / "takes", tmp_path / "negatives", tmp_path / "run", None, settings=settings
    )

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(STEPS, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_keyword(asked, board_tools(), QUIET)
    before = (tmp_path / "run" / "float.pt").stat().st_mtime_ns
    assert set(json.loads((tmp_path / "run" / "keyword.json").read_text())["seconds"]) == {"train", "qat", "export"}
    seconds = make_keyword(asked, board_tools(), QUIET)
    assert set(seconds) == set(STEPS)
    assert (tmp_path / "run" / "float.pt").stat().st_mtime_ns == before
    lines = summary(asked, seconds)
    assert (
        "of 3 test takes missed" in lines[0] and "synthetic voices" in lines[1] and "people who trained it" in lines[2]
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert "computer" in page and "how others are heard is not known" in page and "of 30 missed" in page
    assert not [
        row for row in json.loads((tmp_path / "run" / "checks.json").read_text())["checks"] if row["differences"]
    ]
    write_wav(tmp_path / "takes" / "computer" / "me_nohash_50.wav", say("yes", 50))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "train_run", stopped)
        with pytest.raises(KeyboardInterrupt):  # other takes: from the start
            make_keyword(asked, board_tools(), QUIET)
