"""Recordings to int16 PCM at the spec's rate, and the explicit conversion of other recordings.

| recording | read_pcm, board stream | convert_recordings (`python -m trainer audio`) |
|---|---|---|
| WAV or FLAC, 16 kHz, mono, 16 bit | bit for bit | bit for bit |
| higher rate, up to 8 channels, 8 / 24 / 32 bit or float | refused | mean of channels, sinc resampling, rounded, clipped |
| lower rate, from 8 kHz | refused | the same, with a warning: nothing was recorded where 9 of 40 channels look |
| MP3, M4A, Ogg and what else ffmpeg reads, where it is installed | refused | decoded by ffmpeg |
| corrupt, empty, cut off, not audio, over-long, NaN | refused | refused |

`--word` looks for a word in them instead and cuts takes of one second: trainer/data/takes.py.

Training never converts silently, because a difference between how training and board clips were made is a difference
the network learns. Errors are one sentence (TrainerError).
"""  # noqa: E501

from __future__ import annotations

import functools
import io
import math
import struct
import wave
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.arrays import Float64, Int16
from converter.audio.wav import (
    MAX_SECONDS,
    SUFFIXES,
    channels_in_words,
    check_length,
    open_recording,
    read_samples,
    read_wav,
    wav_samples,
)
from converter.errors import ConvertError
from converter.files import write_atomic
from converter.spec import FeatureSpec
from converter.target import SAMPLE_RATE_HZ
from trainer.data.ffmpeg import COMPRESSED, decode, probed_rate_hz
from trainer.errors import TrainerError, warn

LEAST_RATE_HZ = 8000
FILTER_WIDTH = 64  # zero crossings of the sinc on each side
LOUDEST = 1.0  # full scale
CANCELLED = 1e-4  # of the power of the channels that their mean has at least, -40 dB
MAX_FILTER = 1 << 22  # coefficients of all phases: 32 MB
MAX_WINDOWS = 1 << 23  # samples of windows at a time: 64 MB
MOST_PER_BYTE, ALWAYS_SAMPLES = 4, 8_000_000  # that a file is converted to: more is silence, which FLAC packs at will


def read_pcm(
    path: Path | str, spec: FeatureSpec | None = None, min_samples: int = 1, max_seconds: float = MAX_SECONDS
) -> Int16:
    """int16 [n] of a recording that already has the spec's rate, mono, 16 bit; raises TrainerError for anything
    else."""
    try:
        return read_wav(path, (spec or FeatureSpec()).sample_rate_hz, min_samples, max_seconds)
    except ConvertError as error:
        raise TrainerError(str(error)) from None


def pcm_samples(path: Path, spec: FeatureSpec) -> int:
    """How many samples read_pcm would find, by the file's first bytes where it is plainly what is wanted; raises
    TrainerError as read_pcm does. A file that stays as it was is looked into once."""
    try:
        state = path.stat()
    except OSError:
        return _pcm_samples(path, 0, 0, spec.sample_rate_hz)
    return _pcm_samples(path, state.st_size, state.st_mtime_ns, spec.sample_rate_hz)


@functools.cache
def _pcm_samples(path: Path, size: int, mtime_ns: int, rate_hz: int) -> int:
    try:
        with path.open("rb") as file:
            head = file.read(44).ljust(44, b"\0")
    except OSError:
        head = b""
    form = struct.pack("<4s4sIHHIIHH4s", b"WAVE", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16, b"data")
    if head[:4] == b"RIFF" and head[8:40] == form and struct.unpack("<I", head[40:]) == (size - 44,) and size > 45:
        return (size - 44) // 2
    try:
        if samples := wav_samples(path, rate_hz):
            return samples
    except ConvertError as error:
        raise TrainerError(str(error)) from None
    raise TrainerError(f"{path}: must hold a recording, got no samples; record it again")


def convert_pcm(
    path: Path | str, spec: FeatureSpec | None = None, min_samples: int = 1, max_seconds: float = MAX_SECONDS
) -> Int16:
    """int16 [n] at the spec's rate of any WAV or FLAC of at least 8 kHz, with a warning of a lower rate than the
    spec's; bit for bit where nothing needs to change."""
    spec = spec or FeatureSpec()
    rate_hz = spec.sample_rate_hz
    try:
        with open_recording(path, max_seconds) as recording:
            found_hz = recording.samplerate
            _require_rate(path, found_hz, spec)
            exact = (found_hz, recording.channels, recording.subtype) == (rate_hz, 1, "PCM_16")
            most = ALWAYS_SAMPLES + MOST_PER_BYTE * Path(path).stat().st_size
            if not exact and recording.frames * recording.channels > most:
                raise TrainerError(
                    f"{path}: must not unpack to more than {most} samples, got {recording.frames} of "
                    f"{channels_in_words(recording.channels)}; it is mostly silence, cut it"
                )
            samples = read_samples(recording, "int16" if exact else "float64", always_2d=not exact)
        check_length(path, samples, recording.frames, 1, found_hz)
        if exact:
            check_length(path, samples, 0, min_samples, rate_hz)
            return np.asarray(samples, np.int16)
        if not np.isfinite(samples).all():
            raise TrainerError(f"{path}: samples must be finite numbers, got NaN or infinity; export it again")
        if (over := (np.abs(samples) > LOUDEST).mean()) > 0.001:
            raise TrainerError(
                f"{path}: {100 * over:.0f} % of its samples lie beyond full scale, which 16 bits cannot hold; export "
                f"it at a lower level"
            )
        mono = samples.mean(axis=1)
        if np.square(mono).mean() < CANCELLED * np.square(samples).mean():
            raise TrainerError(f"{path}: its channels cancel each other, one is turned over; export one of them alone")
        pcm = to_int16(resample(mono, found_hz, rate_hz, str(path)))
        check_length(path, pcm, 0, min_samples, rate_hz)
    except ConvertError as error:
        raise TrainerError(str(error)) from None
    return pcm


def _require_rate(path: Path | str, found_hz: int, spec: FeatureSpec) -> None:
    if found_hz < min(LEAST_RATE_HZ, spec.sample_rate_hz):
        raise TrainerError(f"{path}: must be sampled at {LEAST_RATE_HZ} Hz or more, got {found_hz} Hz; record it again")
    low, high, top = (math.log1p(hz / 700) for hz in (spec.lower_hz, spec.upper_hz, found_hz / 2))  # mel
    centres = (low + (high - low) * (channel + 1) / (spec.channels + 1) for channel in range(spec.channels))
    if found_hz < spec.sample_rate_hz and (deaf := sum(centre > top for centre in centres)):
        warn(
            f"{path}: sampled at {found_hz} Hz: nothing above {found_hz / 2:g} Hz was recorded, where {deaf} of "
            f"{spec.channels} channels look; record at {spec.sample_rate_hz / 1000:g} kHz if you can"
        )


def resample(signal: Float64, from_hz: int, to_hz: int, where: str = "resample") -> Float64:
    """The signal at another rate by torchaudio's windowed sinc interpolation, in double precision.

    >>> len(resample(np.zeros(48000), 48000, 16000))
    16000
    """
    if from_hz == to_hz:
        return signal
    import torch

    from trainer.data import torchaudio_cpu

    ratio = Fraction(from_hz, to_hz)
    half_taps = math.ceil(FILTER_WIDTH * max(1.0, float(ratio)))  # torchaudio keeps a filter for every phase
    if ratio.denominator * (ratio.numerator + 2 * half_taps) > MAX_FILTER:
        raise TrainerError(
            f"{where}: the rate must have a simple ratio to {to_hz} Hz, got {from_hz} Hz; export it at 16, 44.1 "
            f"or 48 kHz"
        )
    torchaudio: Any = torchaudio_cpu.load()
    transform = torchaudio.transforms.Resample(from_hz, to_hz, lowpass_filter_width=FILTER_WIDTH, dtype=torch.float64)
    step, new = ratio.numerator, ratio.denominator  # `step` samples become `new`

    def resampled(part: Float64) -> Float64:
        found: Float64 = transform(torch.from_numpy(np.ascontiguousarray(part, np.float64))).numpy()
        return found

    steps = -(-len(signal) // step)
    block = max(1, MAX_WINDOWS // (step + 2 * half_taps))  # torch lays the windows of all steps side by side
    if steps <= block:
        return resampled(signal)
    margin, parts = -(-half_taps // step) + 1, []
    for start in range(0, steps, block):
        first = max(0, start - margin)
        part = resampled(signal[first * step : (start + block + margin) * step])
        parts.append(part[(start - first) * new : (start - first + block) * new])
    return np.concatenate(parts)


def to_int16(signal: npt.ArrayLike) -> Int16:
    """Full scale +-1 to int16, rounded to nearest and clipped.

    >>> to_int16([-2.0, -1.0, 0.0, 0.5, 1.0]).tolist()
    [-32768, -32768, 0, 16384, 32767]
    """
    pcm: Int16 = np.clip(np.rint(np.asarray(signal, np.float64) * 32768.0), -32768, 32767).astype(np.int16)
    return pcm


def write_wav(path: Path, pcm: Int16, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """A 16 bit mono WAV, whole or not at all."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:  # which Ctrl-C ends properly, as it does not in a callback of libsndfile
        file.setparams((1, 2, sample_rate_hz, len(pcm), "NONE", ""))
        file.writeframes(pcm.astype("<i2").tobytes())
    write_atomic(path, buffer.getvalue())


def convert_recordings(sources: Sequence[Path], out: Path, spec: FeatureSpec | None = None) -> Iterator[Path | str]:
    """Writes a 16 kHz mono 16 bit WAV to the folder `out` for each recording, and for each below a folder; yields what
    was written, or the sentence why one was not. Hidden files are no recordings.

    Raises TrainerError, with nothing written, where two of them would become one file.
    """
    spec = spec or FeatureSpec()
    plan: dict[Path, Path] = {}
    empty = []
    for source in sources:
        files = recordings_of(source)
        if not files:
            empty.append(f"{source}: must hold .wav or .flac files, got none; name another folder")
        for file in files:
            target = out / (file.relative_to(source) if source.is_dir() else Path(file.name)).with_suffix(".wav")
            if plan.setdefault(target, file) != file:
                raise TrainerError(
                    f"{file}: would become {target} as {plan[target]} does; convert them to different --out folders"
                )
    yield from empty
    for target, file in plan.items():
        try:
            _convert(file, target, spec)
        except TrainerError as error:
            yield str(error)
        except OSError as error:
            yield f"{target}: cannot be written ({error.strerror}); name another --out folder"
        else:
            yield target


def recordings_of(folder: Path) -> list[Path]:
    """Sound files of any kind in a folder, broken links too, for whoever opens them says so; a file itself."""
    if not folder.is_dir():
        return [folder]
    found = (file for file in folder.rglob("*") if file.suffix.lower() in (*SUFFIXES, *COMPRESSED))
    return sorted(file for file in found if not file.is_dir() and not is_hidden(file.relative_to(folder)))


def is_hidden(path: Path) -> bool:
    """True for what a computer keeps beside the user's files: names that begin with a dot, and __MACOSX."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _convert(file: Path, target: Path, spec: FeatureSpec) -> None:
    if target.exists() and target.resolve() == file.resolve():
        raise TrainerError(f"{file}: must not be overwritten by its own conversion; choose another --out folder")
    pcm = converted(file, spec)
    if target.exists() and not _holds(target, pcm, spec):
        raise TrainerError(f"{target}: is there and another recording than {file}; choose another --out folder")
    write_wav(target, pcm, spec.sample_rate_hz)


def converted(file: Path, spec: FeatureSpec) -> Int16:
    """int16 [n] at the spec's rate of a recording of any kind; raises TrainerError."""
    return _decode(file, spec) if file.suffix.lower() in COMPRESSED else convert_pcm(file, spec)


def _holds(target: Path, pcm: Int16, spec: FeatureSpec) -> bool:
    try:
        return np.array_equal(read_pcm(target, spec), pcm)
    except TrainerError:
        return False


def _decode(file: Path, spec: FeatureSpec) -> Int16:
    """int16 [n] of a file that libsndfile is not asked for, by ffmpeg; raises TrainerError."""
    if not file.is_file():
        raise TrainerError(f"{file}: must be a recording, got no such file; name another")
    _require_rate(file, probed_rate_hz(file), spec)
    (pcm,) = decode([file], MAX_SECONDS + 1)
    if len(pcm) > MAX_SECONDS * spec.sample_rate_hz:
        raise TrainerError(f"{file}: must last at most {MAX_SECONDS} s; cut it")
    if not len(pcm):
        raise TrainerError(f"{file}: must hold a recording, got no sound; record it again")
    return pcm
