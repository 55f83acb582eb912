"""Recordings of a made-up word: two syllables of a buzzing voice, a hiss before and a stop between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converter.arrays import Float64, Int16
from converter.target import SAMPLE_RATE_HZ


def spoken_word(seconds: float = 0.6, pitch_hz: float = 120.0, seed: int = 0) -> Float64:
    """One word, its loudest sample 1."""
    rng, samples = np.random.default_rng(seed), int(seconds * SAMPLE_RATE_HZ)
    time = np.arange(samples) / SAMPLE_RATE_HZ
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * time + k * k) / k for k in range(1, 24))
    place = time / seconds
    syllables = np.clip(np.minimum(place / 0.05, (0.45 - place) / 0.05), 0, 1)
    syllables += 0.7 * np.clip(np.minimum((place - 0.6) / 0.05, (1 - place) / 0.1), 0, 1)
    sound = buzz * syllables + 0.05 * rng.normal(size=samples) * (place < 0.1)
    found: Float64 = sound / np.abs(sound).max()
    return found


def recording(
    seconds: float, words_at_s: Sequence[float], level: float = 0.3, noise: float = 0.001, word_s: float = 0.6
) -> Int16:
    """Words of this amplitude, of full scale 1, in noise of this root mean square."""
    sound = np.random.default_rng(7).normal(size=int(seconds * SAMPLE_RATE_HZ)) * noise
    for number, at_s in enumerate(words_at_s):
        word = level * spoken_word(word_s, 100 + 11 * number, number)
        first = int(at_s * SAMPLE_RATE_HZ)
        sound[first : first + len(word)] += word
    pcm: Int16 = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
    return pcm
