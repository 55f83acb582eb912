"""python tests/support/frontend/fuzz_recordings.py SEED COUNT: reads COUNT damaged recordings, prints the refusals,
fails on anything else.

A process of its own, so that a crash or a hang of the decoding library is seen from outside.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from trainer.data.recordings import convert_pcm, read_pcm
from trainer.errors import TrainerError


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One of: cut off, bits flipped in the header or anywhere, a header field at an extreme, bytes inserted, pure
    noise."""
    raw = bytearray(data)
    kind = rng.integers(6)
    if kind == 0:
        return bytes(raw[: int(rng.integers(len(raw)))])
    if kind == 1:
        for _ in range(int(rng.integers(1, 9))):
            raw[int(rng.integers(min(64, len(raw))))] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for _ in range(int(rng.integers(1, 200))):
            raw[int(rng.integers(len(raw)))] = int(rng.integers(256))
    elif kind == 3:
        place = int(rng.integers(4, 48))
        raw[place : place + 4] = int(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])).to_bytes(
            4, "little"
        )
    elif kind == 4:
        place = int(rng.integers(len(raw)))
        raw[place:place] = rng.bytes(int(rng.integers(1, 40)))
    else:
        return bytes(raw[: int(rng.integers(13))]) + rng.bytes(int(rng.integers(300)))
    return bytes(raw)


def originals() -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(4)
    made = []
    for rate, channels, subtype, form in (
        (16000, 1, "PCM_16", "WAV"),
        (16000, 1, "PCM_16", "FLAC"),
        (44100, 2, "FLOAT", "WAV"),
        (48000, 1, "PCM_24", "WAVEX"),
        (16000, 1, "IMA_ADPCM", "WAV"),
    ):
        buffer = io.BytesIO()
        soundfile.write(buffer, rng.normal(size=(1600, channels)) * 0.1, rate, format=form, subtype=subtype)
        made.append((".flac" if form == "FLAC" else ".wav", buffer.getvalue()))
    return made


def main() -> None:
    rng, count, refused, sources = np.random.default_rng(int(sys.argv[1])), int(sys.argv[2]), 0, originals()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            suffix, data = sources[index % len(sources)]
            file = Path(folder) / f"fuzz{suffix}"
            file.write_bytes(damaged(data, rng))
            for read in (read_pcm, convert_pcm):
                try:
                    pcm = read(file)
                    assert pcm.dtype == np.int16 and pcm.ndim == 1 and len(pcm) > 0
                except TrainerError as error:
                    refused += 1
                    assert "\n" not in str(error) and str(error).startswith(str(file)) and len(str(error)) < 400, str(
                        error
                    )
    print(refused)


if __name__ == "__main__":
    main()
