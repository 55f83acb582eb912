"""Synthetic speech: the same bytes each time, continued when interrupted, shaped so that the splits have every
class."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.progress import Progress

from converter.spec import KwsSpec
from trainer.data.dataset import SPLITS, select
from trainer.data.synthetic import MARKER, NOISES, OTHER_WORDS, SyntheticSettings, plan, synthesize
from trainer.errors import TrainerError
from trainer.run import steps as runs
from trainer.run.fit import TrainSettings

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")
SETTINGS = SyntheticSettings(("yes", "hello board"), speakers=40, others=1, noise_s=12)


def make(settings: SyntheticSettings, folder: Path) -> Path:
    with Progress(disable=True) as progress:
        return synthesize(settings, folder, progress)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(SETTINGS, tmp_path_factory.mktemp("synthetic") / "corpus")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@needs_espeak
def test_same_bytes_again_and_after_an_interruption(made: Path, tmp_path: Path) -> None:
    again = make(SETTINGS, tmp_path / "again")
    assert contents(again) == contents(made)
    marker = again / MARKER
    marker.write_text(marker.read_text().replace("true", "false"))
    lost = sorted((again / "yes").iterdir())[:5]
    for file in lost:
        file.unlink()
    assert contents(make(SETTINGS, again)) == contents(made)


@needs_espeak
def test_finished_corpus_is_left_alone(made: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in made.rglob("*.wav")}
    make(SETTINGS, made)
    assert before == {f: f.stat().st_mtime_ns for f in made.rglob("*.wav")}
    with pytest.raises(TrainerError, match="other settings"):
        make(SyntheticSettings(("no",)), made)


@needs_espeak
def test_shaped_like_speech_commands(made: Path) -> None:
    chosen = select(made, KwsSpec.of_words(SETTINGS.words))
    for split in SPLITS:
        assert {c.label for c in chosen.clips[split]} >= ({0, 2, 3} if split == "train" else {0, 1, 2, 3})
    assert {f.stem for f in (made / "_background_noise_").iterdir()} == set(NOISES)
    for file in list((made / "yes").iterdir())[:10]:
        pcm, rate = soundfile.read(file, dtype="int16")
        assert (rate, len(pcm), pcm.ndim) == (16000, 16000, 1)
        assert 2000 < np.abs(pcm).max() < 32000 and (np.abs(pcm) > 500).mean() > 0.02


def test_plan_is_decided_by_the_seed() -> None:
    one, other = plan(SETTINGS), plan(SyntheticSettings(SETTINGS.words, seed=1))
    assert one == plan(SETTINGS) and one[0] != other[0]
    assert len(one) == 40 * 3 and len({u.file for u in one}) == len(one)
    assert len({u.voice for u in plan(SyntheticSettings(("yes",)))}) > 60
    assert all(u.word in SETTINGS.words or u.word in OTHER_WORDS for u in one)


@needs_espeak
def test_what_is_trained_on_a_synthetic_folder_is_a_smoke_test(made: Path, tmp_path: Path) -> None:
    source = runs.Source(str(made))
    chosen = select(made, KwsSpec.of_words(SETTINGS.words))
    assert source.synthetic and runs.describe(source, chosen) == "synthetic"
    assert runs.default_settings(source, "tinyconv", None, 0).augment.copies < TrainSettings().augment.copies
    assert not runs.Source(str(tmp_path)).synthetic


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SyntheticSettings(()), "one or more different words"),
        (SyntheticSettings(("yes", "yes")), "different words"),
        (SyntheticSettings(("../x",)), "a word starts with"),
        (SyntheticSettings(("-v",)), "a word starts with"),
        (SyntheticSettings(("yes",), speakers=3), "--speakers"),
    ],
)
def test_unusable_settings(settings: SyntheticSettings, expected: str, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=expected):
        make(settings, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(TrainerError, match="not a synthetic corpus"):
        make(SETTINGS, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["letter.txt"]
    (tmp_path / "_background_noise_").mkdir()
    with pytest.raises(TrainerError, match="not a synthetic corpus"):
        make(SETTINGS, tmp_path)


def test_without_espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrainerError, match="install the system package espeak-ng"):
        make(SETTINGS, tmp_path / "x")
