"""WAV and FLAC recordings as the board hears them: 16 kHz, mono, 16 bit integers. Anything else is refused in one
sentence, never changed.

Opening and checking is shared with trainer.audio, which converts other recordings when it is told to.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from converter.arrays import Int16
from converter.errors import ConvertError
from converter.target import SAMPLE_RATE_HZ

SUFFIXES, FORMATS = (".wav", ".flac"), ("WAV", "WAVEX", "FLAC")
MAX_SECONDS = 3600
_UNKNOWN, _BLOCK = 0x7F000000, 1 << 16  # recorders and pipes announce 2 GB or 4 GB, or nothing, until they finish


def read_wav(
    path: Path | str, sample_rate_hz: int = SAMPLE_RATE_HZ, min_samples: int = 1, max_seconds: float = MAX_SECONDS
) -> Int16:
    """int16 [n] of a recording that already is sample_rate_hz, mono, 16 bit; raises ConvertError for anything else."""
    with open_recording(path, max_seconds) as recording:
        _require_form(path, recording, sample_rate_hz)
        pcm: Int16 = read_samples(recording, "int16")
    check_length(path, pcm, recording.frames, min_samples, sample_rate_hz)
    return pcm


def wav_samples(path: Path | str, sample_rate_hz: int = SAMPLE_RATE_HZ) -> int:
    """How many samples read_wav would find by the file's header; raises ConvertError as read_wav does."""
    with open_recording(path) as recording:
        _require_form(path, recording, sample_rate_hz)
        return int(recording.frames)


def _require_form(path: Path | str, recording: soundfile.SoundFile, sample_rate_hz: int) -> None:
    found = f"{recording.samplerate} Hz, {channels_in_words(recording.channels)}, {recording.subtype}"
    if (recording.samplerate, recording.channels, recording.subtype) != (sample_rate_hz, 1, "PCM_16"):
        raise ConvertError(
            f"{path}: must be {sample_rate_hz} Hz, mono, PCM_16, got {found}; convert it with `python -m trainer audio`"
        )


def read_samples(recording: soundfile.SoundFile, dtype: str, always_2d: bool = False) -> npt.NDArray[Any]:
    """All samples, block by block: memory follows what is in the file, not what a damaged header announces."""
    blocks = [recording.read(_BLOCK, dtype=dtype, always_2d=always_2d)]
    while len(blocks[-1]) == _BLOCK:
        blocks.append(recording.read(_BLOCK, dtype=dtype, always_2d=always_2d))
    return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]


def channels_in_words(channels: int) -> str:
    """For messages."""
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def check_length(
    path: Path | str, samples: npt.NDArray[Any], announced: int, min_samples: int, sample_rate_hz: int
) -> None:
    """Raises ConvertError when fewer samples came than the header announced or the caller needs."""
    if len(samples) < announced:
        raise ConvertError(
            f"{path}: cut off, {announced} samples are announced, got {len(samples)}; copy or record it again"
        )
    if len(samples) < min_samples:
        needed = f"{min_samples} samples ({1000 * min_samples / sample_rate_hz:g} ms)"
        raise ConvertError(f"{path}: too short, needs at least {needed}, got {len(samples)}; record it again")


@contextmanager
def open_recording(path: Path | str, max_seconds: float = MAX_SECONDS) -> Iterator[soundfile.SoundFile]:
    """The opened recording, its header checked; raises ConvertError, also for what goes wrong while it is read."""
    file = Path(path)
    if not file.is_file():
        raise ConvertError(
            f"{path}: must be a recording, got {'a folder' if file.is_dir() else 'no such file'}; name a WAV or "
            f"FLAC file"
        )
    if file.suffix.lower() not in SUFFIXES:
        raise ConvertError(f"{path}: must be a .wav or .flac file, got `{file.suffix}`; export it again as WAV")
    try:
        with _opened(file) as recording:
            _check_header(file, recording, max_seconds)
            yield recording
    except (soundfile.LibsndfileError, RuntimeError, OSError, EOFError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = reason.rsplit("': ", 1)[-1].rstrip(".")
        raise ConvertError(f"{path}: must be readable as WAV or FLAC, got `{reason}`; export it again") from None


def _check_header(path: Path, recording: soundfile.SoundFile, max_seconds: float) -> None:
    if recording.format not in FORMATS:
        raise ConvertError(f"{path}: must be WAV or FLAC inside too, got {recording.format}; export it again as WAV")
    if recording.channels > 8 or not 1000 <= recording.samplerate <= 768000:
        found = f"{recording.channels} channels at {recording.samplerate} Hz"
        raise ConvertError(f"{path}: must have 1 to 8 channels at 1 to 768 kHz, got {found}; export it again")
    seconds = recording.frames / recording.samplerate
    if seconds > max_seconds:
        raise ConvertError(f"{path}: must last at most {max_seconds:g} s, got {seconds:.1f} s; cut it")


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """A WAV shorter than its header says is read without complaint by libsndfile, and one whose header says 0 bytes of
    samples as empty; here the first is refused, unless nobody ever wrote the length, and the second read to its end."""
    size, unfinished_at = path.stat().st_size, 0
    if size == 0:
        raise ConvertError(f"{path}: must hold a recording, got an empty file; record it again")
    with path.open("rb") as file:
        if file.read(4) == b"RIFF":
            (announced,) = struct.unpack("<I", file.read(4).ljust(4, b"\0"))
            name, length = next((chunk for chunk in _chunks(file, size) if chunk[0] == b"data"), (b"", 0))
            start = file.tell()
            if name and length < _UNKNOWN and start + length > size:
                raise ConvertError(
                    f"{path}: cut off, {length} bytes of samples are announced, got {size - start}; copy it again"
                )
            if name and length == 0 and start < size and not start < announced + 8 < _UNKNOWN:
                unfinished_at = start
    if not unfinished_at:
        named = path if os.name == "nt" else os.fsencode(path)  # which need not be UTF-8
        with soundfile.SoundFile(named) as recording:
            yield recording
        return
    with _Finished(path, unfinished_at, size) as finished, soundfile.SoundFile(finished) as recording:
        yield recording


class _Finished(io.FileIO):
    """A WAV file whose two lengths reach to its end, whatever its recorder left in their place."""

    def __init__(self, path: Path, data_at: int, size: int) -> None:
        super().__init__(path)
        lengths = (4, size - 8), (data_at - 4, size - data_at)
        self._bytes = {at + i: b for at, n in lengths for i, b in enumerate(struct.pack("<I", min(n, 0xFFFFFFFE)))}

    def readinto(self, buffer: Any) -> int:
        start, into = self.tell(), memoryview(buffer).cast("B")
        count = super().readinto(into) or 0
        for at, byte in self._bytes.items():
            if start <= at < start + count:
                into[at - start] = byte
        return count


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk, the file standing at its first byte; at most a thousand, so that a damaged file
    ends."""
    position = 12
    for _ in range(1000):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        name, length = struct.unpack("<4sI", header)
        yield name, length
        position += 8 + length + length % 2
        if position > size:
            return
