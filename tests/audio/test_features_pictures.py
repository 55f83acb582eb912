"""Pictures of recordings: the numbers drawn, the file written, the terminal's version, and what is refused."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from frontend.signals import golden_pcm, whole
from rich.console import Console

from converter.audio.frontend import MicroFrontend
from trainer.data.recordings import write_wav
from trainer.errors import TrainerError
from trainer.studies.feature_pictures import chosen, plot_features, show_features, view

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture()
def words(tmp_path: Path) -> Path:
    """Two words of three clips each; b is the loudest, c the quietest."""
    for word, hertz in (("yes", 1000), ("no", 440)):
        for name, level in (("a", 3000), ("b", 20000), ("c", 200)):
            time = np.arange(16000) / 16000
            write_wav(tmp_path / word / f"{name}.wav", whole(level * np.sin(2 * math.pi * hertz * time)))
    return tmp_path


def test_views_have_the_right_numbers(tmp_path: Path) -> None:
    time = np.arange(16000) / 16000
    write_wav(tmp_path / "tone.wav", whole(32767 * np.sin(2 * math.pi * 2000 * time)))
    seen = view(tmp_path / "tone.wav")
    assert seen.spectrogram_db.shape == (257, 49) and seen.mel_db.shape == (40, 49) and seen.mfcc.shape == (13, 49)
    assert int(seen.spectrum_db.argmax()) == 64  # 2 kHz of 257 bins to 8 kHz
    assert abs(float(seen.spectrum_db.max())) < 0.1 and abs(seen.peak_dbfs) < 0.01  # a full-scale sine is 0 dBFS
    assert seen.features.tolist() == MicroFrontend().features(seen.pcm).tolist()


def test_a_words_folder_stands_for_its_loudest_and_quietest_clip(words: Path) -> None:
    found = chosen([words / "yes", words / "no" / "a.wav"])
    assert [file.relative_to(words).as_posix() for file in found] == ["yes/b.wav", "yes/c.wav", "no/a.wav"]


def test_picture_is_written_whole(words: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    out = tmp_path / "new" / "features.png"
    plot_features([words / "yes", words / "no"], out)
    picture = imread(out)
    assert picture.shape[0] > 1400 and picture.shape[1] > 1700
    assert float(np.asarray(picture)[..., :3].std()) > 0.1
    plot_features([words / "yes" / "a.wav"], tmp_path / "one.png")
    assert imread(tmp_path / "one.png").shape[1] < picture.shape[1]


def test_silence_and_one_window_can_be_drawn(tmp_path: Path) -> None:
    write_wav(tmp_path / "zero.wav", np.zeros(480, np.int16))
    plot_features([tmp_path / "zero.wav"], tmp_path / "zero.png")
    assert (tmp_path / "zero.png").stat().st_size > 10000


@pytest.mark.parametrize("colours", [True, False])
def test_terminal_shows_every_recording(words: Path, colours: bool) -> None:
    text = io.StringIO()
    console = Console(file=text, width=140, force_terminal=colours, color_system="truecolor" if colours else None)
    write_wav(words / "long.wav", np.resize(golden_pcm(), 16000 * 9))
    show_features([words / "yes" / "b.wav", words / "long.wav"], console=console)
    shown = text.getvalue()
    for expected in ("yes/b", "long", "7.5 kHz", "125 Hz", "0.98 s", "8.98 s", "▀" if colours else "█"):
        assert expected in shown
    assert max(len(line) for line in shown.splitlines()) <= 140 or colours


def test_refusals(words: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    write_wav(tmp_path / "short.wav", np.zeros(479, np.int16))
    write_wav(tmp_path / "long.wav", np.zeros(16000 * 31, np.int16))
    many, missing = [words / "yes"] * 5, [tmp_path / "none.wav"]
    for given, rule in (
        ([tmp_path / "nothing"], "must hold"),
        ([tmp_path / "short.wav"], "too short"),
        (many, "1 to 8 recordings"),
        ([tmp_path / "long.wav"], "at most 30 s"),
        (missing, "no such file"),
        ([], "1 to 8 recordings"),
    ):
        with pytest.raises(TrainerError, match=rule):
            plot_features(given, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_commands(words: Path, tmp_path: Path) -> None:
    def trainer(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trainer", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    done = trainer("features", words / "yes", "--out", tmp_path / "f.png")
    assert done.returncode == 0 and (tmp_path / "f.png").is_file() and done.stdout.rstrip().endswith("f.png"), (
        done.stderr
    )
    done = trainer("audio", words, "--out", tmp_path / "converted")
    assert done.returncode == 0 and len(done.stdout.split()) == 6
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    for command in ("features", "audio"):
        done = trainer(command, broken, "--out", tmp_path / "never" / "out")
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith(f"error: {broken}")
        assert not (tmp_path / "never").exists()
