"""Recordings to int16 PCM at the spec's rate, and the explicit conversion of other recordings.

| recording | read_pcm, board stream | convert_recording (`python -m trainer audio`) |
|---|---|---|
| WAV or FLAC, 16 kHz, mono, 16 bit | bit for bit | bit for bit |
| higher rate, up to 8 channels, 8 / 24 / 32 bit or float | refused | mean of channels, sinc resampling, rounded, clipped |
| lower rate (8 kHz) | refused | refused: nothing above half its rate was recorded, yet 9 of 40 channels look there |
| corrupt, empty, cut off, not audio, over-long, NaN | refused | refused |

Training never converts silently, because a difference between how training and board clips were made is a difference
the network learns. Errors are one sentence (TrainerError).
"""  # noqa: E501

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from converter.arrays import Float64, Int16
from converter.audio.wav import (
    MAX_SECONDS,
    SUFFIXES,
    channels_in_words,
    check_length,
    open_recording,
    read_samples,
    read_wav,
)
from converter.errors import ConvertError
from converter.files import write_atomic
from converter.spec import FeatureSpec
from converter.target import SAMPLE_RATE_HZ
from trainer.errors import TrainerError

FILTER_WIDTH = 64  # zero crossings of the sinc on each side
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


def convert_pcm(
    path: Path | str, spec: FeatureSpec | None = None, min_samples: int = 1, max_seconds: float = MAX_SECONDS
) -> Int16:
    """int16 [n] at the spec's rate of any WAV or FLAC of at least that rate; bit for bit where nothing needs to
    change."""
    rate_hz = (spec or FeatureSpec()).sample_rate_hz
    try:
        with open_recording(path, max_seconds) as recording:
            found_hz = recording.samplerate
            if found_hz < rate_hz:
                raise TrainerError(
                    f"{path}: must be sampled at {rate_hz} Hz or more, got {found_hz} Hz; record it again"
                )
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
        pcm = to_int16(resample(samples.mean(axis=1), found_hz, rate_hz, str(path)))
        check_length(path, pcm, 0, min_samples, rate_hz)
    except ConvertError as error:
        raise TrainerError(str(error)) from None
    return pcm


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
    soundfile.write(buffer, pcm, sample_rate_hz, format="WAV", subtype="PCM_16")
    write_atomic(path, buffer.getvalue())


def convert_recording(source: Path, out: Path, spec: FeatureSpec | None = None) -> list[Path]:
    """Write 16 kHz mono 16 bit WAVs of a recording, or of every recording below a folder, to the folder `out`; returns
    what was written."""
    spec = spec or FeatureSpec()
    if source.is_dir():
        files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise TrainerError(f"{source}: must hold .wav or .flac files, got none; name another folder")
    else:
        files = [source]
    targets = [
        out / (file.relative_to(source) if source.is_dir() else Path(file.name)).with_suffix(".wav") for file in files
    ]
    for file, target in zip(files, targets, strict=True):
        if target.exists() and target.resolve() == file.resolve():
            raise TrainerError(f"{file}: must not be overwritten by its own conversion; choose another --out folder")
        write_wav(target, convert_pcm(file, spec), spec.sample_rate_hz)
    return targets
