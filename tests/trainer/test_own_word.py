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
from trainer.__main__ import app
from trainer.data.dataset import select
from trainer.data.negatives import INDEX, Clip, Stream, make_negatives
from trainer.data.recordings import write_wav
from trainer.data.scene_studio import SceneSettings
from trainer.data.scenes import isolated_words
from trainer.errors import TrainerError
from trainer.network.model import Architecture
from trainer.run import keyword, steps
from trainer.run.keyword import KNOWN_WORDS, STEPS
from trainer.run.own_word import OTHERS, OTHERS_EACH, data_folder, listed_takes

QUIET = Progress(disable=True)
SPEC = KwsSpec.of_words(["computer"])
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
    data = data_folder(own, SPEC, tmp_path / "data", tmp_path / "cache", QUIET)
    chosen = select(data, KwsSpec.of_words(["computer"]))
    assert chosen.by_take and sum(c.label == 2 for split in chosen.clips.values() for c in split) == 12
    assert len([f for f in data.rglob("*_nohash_0.wav") if f.parent.name != "computer"]) == OTHERS * OTHERS_EACH
    stamp = (data / "takes.txt").stat().st_mtime_ns
    data_folder(own, SPEC, data, tmp_path / "cache", QUIET)
    assert (data / "takes.txt").stat().st_mtime_ns == stamp
    write_wav(own / "computer" / "me_nohash_99.wav", say("yes", 99))
    write_wav(own / "_background_noise_" / "kitchen.wav", np.ones(12 * RATE_HZ, np.int16))
    data_folder(own, SPEC, data, tmp_path / "cache", QUIET)
    assert (data / "computer" / "me_nohash_99.wav").is_file()
    assert (data / "_background_noise_" / "kitchen.wav").is_file()


def test_what_is_no_folder_of_takes_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="no such folder of takes"):
        data_folder(tmp_path / "none", SPEC, tmp_path / "data", tmp_path, QUIET)
    own = takes(tmp_path / "takes", "lamp")
    with pytest.raises(TrainerError, match="no takes of the word 'computer'; it holds lamp"):
        data_folder(own, SPEC, tmp_path / "data", tmp_path, QUIET)
    (own / "computer").mkdir()
    with pytest.raises(TrainerError, match="'computer'; its folder holds no WAV or FLAC file; `python -m trainer aud"):
        data_folder(own, SPEC, tmp_path / "data", tmp_path, QUIET)
    write_wav(own / "lamp" / "me_nohash_0.wav", np.zeros(16000, np.int16))
    with pytest.raises(TrainerError, match=r"me_nohash_0\.wav: holds no sound; record it again"):
        data_folder(own, KwsSpec.of_words(["lamp"]), tmp_path / "data", tmp_path, QUIET)
    write_wav(own / "lamp" / "me_nohash_0.wav", np.ones(20000, np.int16))
    with pytest.raises(TrainerError, match=r"me_nohash_0\.wav: a take lasts at most 1000 ms, got 1250"):
        data_folder(own, KwsSpec.of_words(["lamp"]), tmp_path / "data", tmp_path, QUIET)
    takes(tmp_path / "takes", "lamp")
    with pytest.raises(TrainerError, match="lamp: must hold a folder 'lamp', is one; name the folder around it"):
        listed_takes(own / "lamp", ("lamp",), SPEC.features)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(TrainerError, match="is not a data folder made of takes"):
        data_folder(own, KwsSpec.of_words(["lamp"]), tmp_path / "mine", tmp_path, QUIET)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_what_training_would_refuse_or_leave_out_is_said_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = takes(tmp_path / "takes", "gro\u0308sse", 2)
    word, noise = "gr\u00f6sse", own / "_background_noise_" / "a.wav"
    folder = next(own.iterdir())  # spelt as a Mac does
    asked = keyword.Keyword((word,), own, tmp_path / "negatives", tmp_path / "run", None)
    with pytest.raises(TrainerError, match=r"2 clips of the word 'gr.sse', of which each split needs one; record"):
        keyword.make_keyword(asked, lambda: None, QUIET)  # type: ignore[arg-type]
    assert not (tmp_path / "negatives").exists()
    for apart in (
        replace(asked, run=own),
        replace(asked, run=own / "run"),
        replace(asked, negatives=own / "negatives"),
        replace(asked, negatives=asked.run),
        replace(asked, takes=asked.run / "live"),
    ):
        with pytest.raises(TrainerError, match="must not lie in each other; name another --"):
            keyword.make_keyword(apart, lambda: None, QUIET)  # type: ignore[arg-type]
    assert sorted(path.name for path in own.iterdir()) == [folder.name]
    takes(own, folder.name, 3)
    (folder / "4.mp3").write_bytes(b"sound")
    assert len(listed_takes(own, (word,), SPEC.features)) == 3 and "not 4.mp3" in capsys.readouterr().err
    write_wav(noise, np.ones(5 * RATE_HZ, np.int16))
    with pytest.raises(TrainerError, match=r"a\.wav: a noise recording must last at least 11 s, got 5\.0 s; record"):
        listed_takes(own, (word,), SPEC.features)
    noise.unlink()
    shutil.copyfile(folder / "me_nohash_0.wav", folder / "me_nohash_0.flac")
    with pytest.raises(TrainerError, match=r"has the name of me_nohash_0\.flac; rename one"):
        listed_takes(own, (word,), SPEC.features)


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


def of_the_page(beginning: str) -> list[str]:
    """What comes behind `python -m trainer` in the first command of docs/own_keyword.md that begins so, as written."""
    lines = (Path(__file__).parents[2] / "docs" / "own_keyword.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"    python -m trainer {beginning}"))
    return line.split("#")[0].split()[3:]


@pytest.mark.slow
@needs_voices
def test_the_page_is_followed_from_a_recording_to_firmware_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands as written, with a short training, stopped once."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    monkeypatch.chdir(tmp_path)
    talks = []
    for number, speaker in enumerate(("anna", "berta", "carl")):
        talk = np.concatenate([say("other", 100 * number + n) for n in range(80)])
        write_wav(tmp_path / speaker / "talk.wav", talk)
        talks.append(tmp_path / speaker)
    streams = tmp_path / "build" / "negatives"
    make_negatives(streams, (), talks, QUIET)
    index = json.loads((streams / INDEX).read_text())
    for stream in index["streams"]:
        stream["split"] = "test" if stream["name"] == "own-carl" else "train"
    (streams / INDEX).write_text(json.dumps(index))
    short = replace(keyword.SETTINGS, epochs=1, scenes=SceneSettings(count=250, spoken=4, recorded_share=0.6))
    monkeypatch.setattr(keyword, "SETTINGS", short)
    write_wav(tmp_path / "recordings" / "phone.wav", recording(40, [1 + 3 * number for number in range(12)]))
    assert CliRunner().invoke(app, of_the_page("audio")).exit_code == 0

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(STEPS, "evaluate", (stopped, "evaluation.json"))
        assert CliRunner().invoke(app, of_the_page("keyword")).exit_code == 130
    run = tmp_path / "build" / "computer"
    before = (run / "float.pt").stat().st_mtime_ns
    assert set(json.loads((run / "keyword.json").read_text())["seconds"]) == {"train", "qat", "export"}
    done = CliRunner().invoke(app, of_the_page("keyword"))
    assert done.exit_code == 0, done.output
    assert (run / "float.pt").stat().st_mtime_ns == before
    assert set(json.loads((run / "keyword.json").read_text())["seconds"]) == set(STEPS)
    told = ("of 3 test takes missed", "synthetic voices, which are no people", "people who trained it", "host live")
    assert all(words in done.output for words in told)
    page = (run / "report.html").read_text()
    assert "computer" in page and "how others are heard is not known" in page and "of 30 missed" in page
    assert not any(row["differences"] for row in json.loads((run / "checks.json").read_text())["checks"])
    (run / "report.html").unlink()
    (run / "evaluation.json").unlink()  # as `qat` by hand leaves it
    assert CliRunner().invoke(app, of_the_page("keyword")).exit_code == 0
    assert (run / "report.html").is_file() and (run / "float.pt").stat().st_mtime_ns == before
    write_wav(tmp_path / "takes" / "computer" / "anna_nohash_50.wav", say("yes", 50))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "train_run", stopped)
        assert CliRunner().invoke(app, of_the_page("keyword")).exit_code == 130  # other takes: from the start
