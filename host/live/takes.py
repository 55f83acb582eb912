"""Sound that was played to a board, kept for the next training."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from converter.arrays import Pcm
from converter.files import write_new
from converter.target import SAMPLE_RATE_HZ
from host.errors import HostError

NEGATIVES = "negatives"


def loudest_second(pcm: Pcm) -> Pcm:
    """The second with most energy, in steps of 10 ms: a take as Speech Commands has them; all of it when it is shorter.

    >>> len(loudest_second(np.zeros(40000, np.int16)))
    16000
    """
    if len(pcm) <= SAMPLE_RATE_HZ:
        return pcm
    energy = np.concatenate([[0.0], np.cumsum(pcm.astype(np.float64) ** 2)])
    starts = np.arange(0, len(pcm) - SAMPLE_RATE_HZ + 1, SAMPLE_RATE_HZ // 100)
    # of equal sums the middle one, so that a word does not stand at the edge of its take
    sums = energy[starts + SAMPLE_RATE_HZ] - energy[starts]
    best = starts[sums >= 0.99 * sums.max()]
    start = int(best[len(best) // 2])
    return pcm[start : start + SAMPLE_RATE_HZ]


def save_take(folder: Path, label: str, pcm: Pcm) -> Path:
    """FOLDER/LABEL/live_nohash_N.wav, N the first number that is free, whole or not at all; nothing is overwritten.
    HostError without sound, WriteError."""
    if not len(pcm):
        raise HostError("no sound has been played yet; start the microphone first")
    wav = io.BytesIO()
    soundfile.write(wav, pcm, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    number = 0
    while not write_new(file := folder / label / f"live_nohash_{number}.wav", wav.getvalue()):
        number += 1
    return file
