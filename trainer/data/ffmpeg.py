"""Sound of any format that ffmpeg reads."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from converter.arrays import Int16
from converter.files import scratch_folder
from converter.target import SAMPLE_RATE_HZ
from trainer.errors import TrainerError

_FAMILIAR = (".mp3", ".mp4", ".oga", ".ogg", ".opus", ".webm", ".wma", ".wv", ".3gp", ".snd", ".w64")
_OLDER = (".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".g722", ".gsm", ".m4a", ".m4b", ".mka", ".mp2")
COMPRESSED = {*_FAMILIAR, *_OLDER}  # sound files that are neither WAV nor FLAC
LOCAL = ("-protocol_whitelist", "file")  # a playlist that calls itself sound fetches nothing


def require(program: str, mend: str, where: str = "") -> None:
    """Raises TrainerError, which says how to get it, where the program is not there."""
    if shutil.which(program) is None:
        raise TrainerError(f"{where}{program}: not found; install it ({mend})")


def probed_rate_hz(file: Path) -> int:
    """The sample rate of the sound in a file that ffmpeg reads; raises TrainerError."""
    require("ffprobe", "apt-get install ffmpeg, or export as WAV", f"{file}: needs ")
    command = ["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries", "stream=sample_rate"]
    command += [*LOCAL, "-of", "default=nw=1:nk=1", *_format(file), str(file.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = done.stdout.split()
    if done.returncode or not found or not found[0].isdecimal():
        raise _unreadable(file, done.stderr)
    return int(found[0])


def _format(file: Path) -> list[str]:
    return ["-f", "g722"] if file.suffix.lower() == ".g722" else []


def _unreadable(file: Path, said: str) -> TrainerError:
    reason = (said.strip().splitlines() or ["no message"])[-1].removeprefix(f"{file.resolve()}: ")
    return TrainerError(f"{file}: no sound that ffmpeg can read ({reason[-200:]}); remove it")


def decode(files: Sequence[Path], max_seconds: int | None = None) -> list[Int16]:
    """int16 PCM at 16 kHz, its first max_seconds, of sound files of any format that ffmpeg reads; raises TrainerError
    naming the first that it does not."""
    require("ffmpeg", "apt-get install ffmpeg")
    with scratch_folder() as folder:
        outputs = [folder / f"{number}.s16" for number in range(len(files))]
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y"]
        for file in files:
            command += [*LOCAL, *_format(file), "-i", str(file.resolve())]
        for number, output in enumerate(outputs):
            command += ["-map", f"{number}:a:0", *([] if max_seconds is None else ["-t", str(max_seconds)])]
            command += ["-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-f", "s16le", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode and len(files) == 1:
            raise _unreadable(files[0], done.stderr)
        if done.returncode:
            return [pcm for file in files for pcm in decode([file], max_seconds)]
        return [np.fromfile(output, "<i2").astype(np.int16) for output in outputs]
