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
from converter.target import SAMPLE_RATE_HZ
from host.errors import HostError
from host.live.listening import Listening

CHUNK_SAMPLES = 640  # 40 ms


@contextmanager
def playing(listening: Listening, pcm: Pcm | None) -> Iterator[None]:
    """In the block the board hears a recording in real time, and behind it the sound is over; None: the computer's
    microphone until the block ends. HostError without one."""
    stop = threading.Event()
    with ExitStack() as stack:
        chunks = _recording(pcm) if pcm is not None else _microphone(stack, stop)
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


def _recording(pcm: Pcm) -> Iterator[Pcm]:
    began = time.monotonic()
    for at in range(0, len(pcm), CHUNK_SAMPLES):
        time.sleep(max(0.0, began + at / SAMPLE_RATE_HZ - time.monotonic()))
        yield pcm[at : at + CHUNK_SAMPLES]


def _microphone(stack: ExitStack, stop: threading.Event) -> Iterator[Pcm]:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, the library is not
        raise HostError(f"--mic: {error}; install the package sounddevice and the system's libportaudio2") from None
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def came(data: Any, frames: int, at: Any, status: Any) -> None:
        heard.put(bytes(data))

    try:
        form = {"samplerate": SAMPLE_RATE_HZ, "channels": 1, "dtype": "int16"}
        stack.enter_context(sounddevice.RawInputStream(blocksize=CHUNK_SAMPLES, callback=came, **form))
    except sounddevice.PortAudioError as error:
        raise HostError(
            f"--mic: the computer's usual microphone cannot be opened at 16 kHz ({error}); let its system convert, or "
            f"use the page, `host live`"
        ) from None

    def chunks() -> Iterator[Pcm]:
        while not stop.is_set():
            with suppress(queue.Empty):
                yield np.frombuffer(heard.get(timeout=0.2), np.int16)

    return chunks()
