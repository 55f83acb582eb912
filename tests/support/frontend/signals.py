"""Generated PCM that reaches the corners of the front end: our own signals, the same integers on every machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from converter.arrays import Int16

RATE = 16000


def whole(values: npt.ArrayLike) -> Int16:
    """Rounded and clipped to int16."""
    return np.clip(np.rint(np.asarray(values, np.float64)), -32768, 32767).astype(np.int16)


def signals(seconds: float = 4.0, seed: int = 1) -> Iterator[tuple[str, Int16]]:
    """Named signals of about `seconds` each."""
    rng, count = np.random.default_rng(seed), int(RATE * seconds)
    time = np.arange(count) / RATE
    yield "silence", np.zeros(count, np.int16)
    yield "minus one", np.full(count, -1, np.int16)
    yield "most negative", np.full(count, -32768, np.int16)
    yield "most positive", np.full(count, 32767, np.int16)
    yield "full-scale signs", rng.choice(np.array([-32768, 32767], np.int16), count)
    yield "full-range integers", rng.integers(-32768, 32768, count).astype(np.int16)
    yield "one bit of noise", rng.integers(0, 2, count).astype(np.int16)
    yield "gaussian at every level", whole(rng.normal(size=count) * np.exp(np.linspace(-2, 10.8, count)))
    yield (
        "level jumps",
        whole(rng.normal(size=count) * np.exp(rng.uniform(-2, 11, count // 400 + 1)).repeat(400)[:count]),
    )
    yield "clipping square, gliding", whole(60000 * np.sign(np.sin(2 * np.pi * (60 + 900 * time) * time)))
    yield "clipping sine, gliding", whole(50000 * np.sin(2 * np.pi * (100 + 950 * time) * time))
    yield "pairs at a quarter of the rate", np.tile(np.array([32767, 32767, -32768, -32768], np.int16), count // 4)
    yield "impulses", impulses(count, rng)
    yield (
        "noise, then silence, then noise",
        whole(rng.normal(size=count) * 8000 * (np.arange(count) // (count // 3) != 1)),
    )
    yield "sum of tones", whole(sum(6000 * np.sin(2 * np.pi * hz * time + hz) for hz in (130, 440, 1234, 3999, 7499)))


def impulses(count: int, rng: np.random.Generator) -> Int16:
    """Single samples of any size, mostly alone in their window."""
    pcm = np.zeros(count, np.int16)
    places = np.arange(7, count, 613)
    pcm[places] = rng.integers(-32768, 32768, len(places))
    pcm[places[::3]] = -32768
    return pcm


def golden_pcm(count: int = 6 * RATE) -> Int16:
    """Gliding tone bursts in noise of changing level from integer arithmetic alone (a 32-bit congruential
    generator)."""
    state, phase, pcm = 12345, 0, []
    for index in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        phase = (phase + 1000 + index // 8) % 65536
        tone = (abs(phase - 32768) - 16384) * ((index // 4000) % 3)
        noise = ((state >> 16) - 32768) >> ((index // 9000) % 12)
        pcm.append(max(-32768, min(32767, tone + noise)))
    return np.array(pcm, np.int16)


def odd_chunks(pcm: Int16, seed: int = 2, largest: int = 997) -> list[Int16]:
    """The same samples in pieces of 0 .. largest."""
    sizes = np.random.default_rng(seed).integers(0, largest + 1, 2 * len(pcm) // largest + 8)
    pieces = np.split(pcm, np.minimum(np.cumsum(sizes), len(pcm)))
    assert sum(len(piece) for piece in pieces) == len(pcm)
    return pieces
