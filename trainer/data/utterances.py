"""Where speech lies in a recording, and how loud it is: the energy of 10 ms pieces against the recording's own
background."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from converter.arrays import Float32, Float64, Int16, Int64

PIECES_PER_S = 100
RISE_DB, PEAK_RISE_DB, FALL_DB = 8.0, 12.0, 26.0  # over the background: an utterance, its peak; below its own peak
PAUSE_S, CLICK_S = 0.2, 0.12  # a longer pause ends an utterance; what is shorter is none
BACKGROUND_S, BACKGROUND_PERCENT = 10.0, 10
VOICE_S, VOICE_LAGS_S, VOICE_CORRELATION = 0.05, (1 / 400, 1 / 60), 0.5  # a voice's least time, its periods
VOICE_FRAME_S, VOICE_DB = 0.04, 20.0


@dataclass(frozen=True)
class Utterance:
    """A loud stretch: first and past last sample, and why it cannot be a word ("": it can)."""

    first: int
    past: int
    fault: str = ""


def word_span(pcm: Int16, rate_hz: int) -> tuple[int, int]:
    """(first, past last) sample of the word in a clip: around the loudest 10 ms as long as pauses stay below 150 ms,
    counting what lies within 26 dB of the peak and 8 dB above the clip's own background."""
    step = rate_hz // PIECES_PER_S
    energy = np.square(pcm[: len(pcm) // step * step].astype(np.float64)).reshape(-1, step).mean(axis=1) + 1.0
    level_db = 10 * np.log10(np.convolve(energy, np.ones(3) / 3, "same"))
    floor_db = float(np.percentile(level_db, BACKGROUND_PERCENT))
    pieces = _loud_pieces(np.asarray(level_db, np.float64), floor_db, 15)
    word = next(piece for piece in pieces if piece[0] <= level_db.argmax() <= piece[-1])
    return int(word[0]) * step, min(len(pcm), (int(word[-1]) + 2) * step)


def word_spans(clips: Int16, rate_hz: int) -> Int64:
    """int64 [n, 2] of clips int16 [n, samples]."""
    return np.array([word_span(clip, rate_hz) for clip in clips], np.int64).reshape(-1, 2)


def active_rms(pcm: Int16 | Float32 | Float64, rate_hz: int) -> float:
    """Root mean square over the 10 ms pieces within 30 dB of the loudest: the level that an SNR over active speech is
    measured from. Pieces of a sample less than 10 ms count as silence."""
    step = rate_hz // PIECES_PER_S
    energy = np.square(pcm[: len(pcm) // step * step].astype(np.float64)).reshape(-1, step).mean(axis=1)
    return float(np.sqrt(energy[energy >= energy.max() * 1e-3].mean())) if len(energy) else 0.0


def utterances(pcm: Int16, rate_hz: int) -> list[Utterance]:
    """The loud stretches of a recording of any length, in order, clicks and sounds without a voice with their fault.

    Loud is what rises 8 dB over the background, which is the level that the quietest tenth of the 10 s around stays
    below, and is not 26 dB below its own peak; the peak rises 12 dB. Pauses up to 200 ms belong to an utterance. A
    constant offset is no sound.
    """
    step = rate_hz // PIECES_PER_S
    level_db = _levels_db(pcm, step)
    if not len(level_db):
        return []
    background_db = _background_db(level_db)
    gap, found = int(PAUSE_S * PIECES_PER_S), []
    for stretch in _runs(np.flatnonzero(level_db > background_db + RISE_DB), gap):
        first, past = int(stretch[0]), int(stretch[-1]) + 1
        floor_db = float(background_db[first:past].max())
        if level_db[first:past].max() < floor_db + PEAK_RISE_DB:
            continue
        for piece in _loud_pieces(level_db[first:past], floor_db, gap):
            begin, end = (first + int(piece[0])) * step, (first + int(piece[-1]) + 1) * step
            found.append(_judged(pcm, begin, end, rate_hz))
    return found


def voiced_seconds(sound: Float64, rate_hz: int) -> float:
    """How long a sound repeats itself at a pitch of 60 to 400 Hz, as a voice does and noise does not: the normalized
    autocorrelation of 40 ms frames, every 10 ms, those 20 dB below the loudest left out."""
    step, width = rate_hz // PIECES_PER_S, int(VOICE_FRAME_S * rate_hz)
    padded = np.pad(sound, (step, max(step, width - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::step].copy()
    frames -= frames.mean(axis=1, keepdims=True)
    power = np.square(frames).sum(axis=1)
    frames = frames[power > power.max() * 10 ** (-VOICE_DB / 10)]
    if not len(frames):
        return 0.0
    spectrum = np.fft.rfft(frames, 2 * width)
    product = np.fft.irfft(np.square(np.abs(spectrum)))
    before = np.cumsum(np.square(frames), axis=1)
    lags = np.arange(*(int(lag * rate_hz) for lag in VOICE_LAGS_S))
    head, tail = before[:, width - 1 - lags], before[:, -1:] - before[:, lags - 1]
    best = (product[:, lags] / np.sqrt(head * tail + 1e-9)).max(axis=1)
    return float((best > VOICE_CORRELATION).sum()) / PIECES_PER_S


def _judged(pcm: Int16, first: int, past: int, rate_hz: int) -> Utterance:
    seconds = (past - first) / rate_hz
    if seconds < CLICK_S:
        return Utterance(first, past, f"a click of {1000 * seconds:.0f} ms")
    if voiced_seconds(pcm[first:past].astype(np.float64), rate_hz) < VOICE_S:
        return Utterance(first, past, f"a noise of {seconds:.2f} s without a voice")
    return Utterance(first, past)


def _levels_db(pcm: Int16, step: int) -> Float64:
    """Level of each piece and its neighbours without their mean, in dB of one step of the samples."""
    pieces = pcm[: len(pcm) // step * step].reshape(-1, step)
    if not len(pieces):
        return np.zeros(0)
    mean = pieces.mean(axis=1)
    power = np.einsum("ij,ij->i", pieces, pieces, dtype=np.float64) / step
    around = np.convolve(np.ones(len(pieces)), np.ones(3), "same")
    mean, power = (np.convolve(one, np.ones(3), "same") / around for one in (mean, power))
    found: Float64 = 10 * np.log10(np.maximum(power - np.square(mean), 0) + 1.0)
    return found


def _background_db(level_db: Float64) -> Float64:
    """Of every piece, from the seconds around it."""
    half = int(BACKGROUND_S * PIECES_PER_S / 2)
    last = max(0, len(level_db) - 2 * half)  # at the ends the same seconds serve, not fewer
    centres = np.arange(0, len(level_db), PIECES_PER_S)
    starts = np.clip(centres - half, 0, last)
    values = [np.percentile(level_db[start : start + 2 * half], BACKGROUND_PERCENT) for start in starts]
    found: Float64 = np.interp(np.arange(len(level_db)), centres, values)
    return found


def _loud_pieces(level_db: Float64, floor_db: float, gap: int) -> Iterator[Int64]:
    """Runs of pieces within 26 dB of the peak that rise over the background."""
    peak_db = float(level_db.max())
    least_db = max(peak_db - FALL_DB, min(floor_db + RISE_DB, peak_db - PEAK_RISE_DB))
    return _runs(np.flatnonzero(level_db > least_db), gap)


def _runs(places: Int64, gap: int) -> Iterator[Int64]:
    """Places in groups without a gap of more."""
    return (run for run in np.split(places, np.flatnonzero(np.diff(places) > gap) + 1) if len(run))
