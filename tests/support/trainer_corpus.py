"""A small data folder of generated sounds, shaped like Speech Commands: each word is a chirp of its own, each speaker a
pitch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from converter.arrays import Int16
from trainer.data.recordings import write_wav

RATE_HZ = 16000


def speaker(number: int) -> str:
    return hashlib.sha256(f"speaker {number}".encode()).hexdigest()[:8]


def say(word: str, number: int) -> Int16:
    """A second with a chirp in it whose slope tells the word."""
    rng = np.random.default_rng([number, *word.encode()])
    slope = {"yes": 3000.0, "stop": -2500.0}.get(word, 0.0)
    time = np.arange(6000) / RATE_HZ
    start_hz = 800 + (2000 if slope < 0 else 0) + rng.uniform(-150, 150)
    tone = np.sin(2 * np.pi * (start_hz * time + slope * time**2)) * np.hanning(6000)
    clip = rng.normal(0, 0.001, RATE_HZ)
    at = int(rng.integers(2000, 8000))
    clip[at : at + 6000] += rng.uniform(0.2, 0.6) * tone
    pcm: Int16 = np.rint(clip * 32767).astype(np.int16)
    return pcm


def make(folder: Path, words: tuple[str, ...] = ("yes", "stop", "other", "more"), speakers: int = 40) -> Path:
    """Write the corpus; with 40 speakers each split has some of every word."""
    for word in words:
        for number in range(speakers):
            write_wav(folder / word / f"{speaker(number)}_nohash_0.wav", say(word, number))
    rng = np.random.default_rng(5)
    for name, level in (("hiss", 3000.0), ("murmur", 300.0)):
        write_wav(
            folder / "_background_noise_" / f"{name}.wav",
            rng.normal(0, level, 12 * RATE_HZ).clip(-32768, 32767).astype(np.int16),
        )
    return folder
