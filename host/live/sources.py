"""Sound for a board that listens, from a recording or this computer's microphone, played by a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from converter.arrays import Pcm
from converter.audio.resampling import Resampler
from converter.commands.microphone import input_stream
from converter.target import SAMPLE_RATE_HZ
from host.errors import HostError
from host.live.listening import Listening
from host.measure.trial import TAIL_SAMPLES

CHUNK_SAMPLES = 640  # 40 ms


@contextmanager
def playing(listening: Listening, pcm: Pcm | None, device: str | None = None) -> Iterator[None]:
    """In the block the board hears a recording in real time, silence before it until the detector listens and behind
    it as in a trial, and then the sound is over; None: this computer's microphone, as `trainer record` knows it, until
    the block ends. ConvertError without one."""
    stop = threading.Event()
    with ExitStack() as stack:
        chunks = _recording(_between_silence(listening, pcm)) if pcm is not None else _microphone(stack, stop, device)
        listening.begin()

        def play() -> None:
            with suppress(HostError):  # whoever reads the records is told too
                for chunk in chunks:
                    if stop.is_set():
                        break
                    listening.play(chunk)
                listening.end()

        player = threading.Thread(target=play, daemon=True)
        player.start()
        try:
            yield
        finally:
            stop.set()


def silence_before(listening: Listening) -> int:
    """Samples of silence before a recording: until the detector listens."""
    audio, detector = listening.board.identity.audio, listening.board.identity.detector
    return detector.settle_frames * audio.step_samples if audio and detector else 0


def _between_silence(listening: Listening, pcm: Pcm) -> Pcm:
    return np.pad(pcm, (silence_before(listening), TAIL_SAMPLES))


def _recording(pcm: Pcm) -> Iterator[Pcm]:
    began = time.monotonic()
    for at in range(0, len(pcm), CHUNK_SAMPLES):
        time.sleep(max(0.0, began + at / SAMPLE_RATE_HZ - time.monotonic()))
        yield pcm[at : at + CHUNK_SAMPLES]


def _microphone(stack: ExitStack, stop: threading.Event, device: str | None) -> Iterator[Pcm]:
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def came(data: Any, frames: int, at: Any, status: Any) -> None:
        heard.put(bytes(data))

    _, rate_hz, _ = stack.enter_context(input_stream(device, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ // CHUNK_SAMPLES, came))
    resampler = Resampler(rate_hz, SAMPLE_RATE_HZ) if rate_hz != SAMPLE_RATE_HZ else None

    def chunks() -> Iterator[Pcm]:
        while not stop.is_set():
            with suppress(queue.Empty):
                pcm = np.frombuffer(heard.get(timeout=0.2), np.int16)
                yield resampler.push(pcm) if resampler else pcm

    return chunks()
