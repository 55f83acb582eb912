"""The computer's microphone and keyboard, as plain functions: blocks of samples, keys, playing a sound."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from converter.arrays import Int16
from converter.target import SAMPLE_RATE_HZ
from trainer.errors import TrainerError

BLOCKS_PER_S = 10
Keys = Callable[[], str | None]


@dataclass(frozen=True)
class Microphone:
    """An opened microphone: its rate, and int16 blocks of a tenth of a second each with whether samples before it were
    lost. The blocks end where its sound does, which a microphone's never does."""

    name: str
    rate_hz: int
    blocks: Iterator[tuple[Int16, bool]]


@contextlib.contextmanager
def microphone(device: str | None = None, rate_hz: int = SAMPLE_RATE_HZ) -> Iterator[Microphone]:
    """The microphone of this number or with this in its name, else the usual one; at rate_hz where it can, else at its
    own rate; of several channels the first or their mean, as PortAudio does it. Raises TrainerError."""
    library = _sounddevice()
    try:
        number, found = _input_device(library, device)
        form = {"device": number, "channels": 1, "dtype": "int16"}
        try:
            library.check_input_settings(samplerate=rate_hz, **form)
        except library.PortAudioError:
            rate_hz = int(found["default_samplerate"])
        with library.RawInputStream(samplerate=rate_hz, blocksize=rate_hz // BLOCKS_PER_S, **form) as stream:
            yield Microphone(found["name"], rate_hz, _blocks(stream, rate_hz // BLOCKS_PER_S))
    except library.PortAudioError as error:
        raise TrainerError(
            f"record: the microphone cannot be used ({_reason(error)}); close what else uses it, or name another by "
            f"--device"
        ) from None


def play(pcm: Int16, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Begins to play it; raises TrainerError."""
    library = _sounddevice()
    try:
        library.play(pcm, rate_hz)
    except (library.PortAudioError, ValueError) as error:
        raise TrainerError(f"record: cannot be played ({_reason(error)}); look for a loudspeaker") from None


@contextlib.contextmanager
def keyboard() -> Iterator[Keys]:
    """A function that returns the next key that was pressed, None when none was, `q` where the input has ended."""
    if sys.platform == "win32":
        import msvcrt

        def typed() -> str | None:
            key = msvcrt.getwch() if msvcrt.kbhit() else None
            if key in ("\x00", "\xe0"):  # an arrow or a function key: its letter is none
                msvcrt.getwch()
                return None
            return key.replace("\r", "\n") if key else None

        yield typed
        return
    import termios
    import tty

    stdin = sys.stdin.fileno()

    def pressed() -> str | None:
        if not select.select([stdin], [], [], 0)[0]:
            return None
        key = os.read(stdin, 1).decode(errors="replace") or "q"
        if key != "\x1b":
            return key
        while select.select([stdin], [], [], 0.01)[0]:  # an arrow or a function key: its letters are none
            if not os.read(stdin, 32):
                return "q"
        return None

    if not os.isatty(stdin):
        yield pressed
        return
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        yield pressed
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise TrainerError("record: needs the Python package sounddevice; run make setup") from None
    except OSError:
        raise TrainerError(
            "record: needs PortAudio, got none; install it (apt-get install libportaudio2, or brew install portaudio)"
        ) from None
    return sounddevice


def _input_device(library: Any, device: str | None) -> tuple[int, dict[str, Any]]:
    """Its number and what PortAudio says of it."""
    inputs = {n: one for n, one in enumerate(library.query_devices()) if one["max_input_channels"] > 0}
    if not inputs:
        raise TrainerError("record: no microphone was found; plug one in, or record elsewhere and use `audio --word`")
    if device is None:
        usual = library.default.device[0]
        number = usual if usual in inputs else next(iter(inputs))
        return number, inputs[number]
    for number, one in inputs.items():
        if device == str(number) or device == one["name"]:
            return number, one
    fits = [number for number, one in inputs.items() if device.lower() in one["name"].lower()]
    if len(fits) != 1:
        shown = ", ".join(f"{number} ({one['name']})" for number, one in inputs.items())
        raise TrainerError(f"--device {device}: must fit one microphone, fits {len(fits)}; there are {shown}")
    return fits[0], inputs[fits[0]]


def _blocks(stream: Any, samples: int) -> Iterator[tuple[Int16, bool]]:
    while True:
        data, lost = stream.read(samples)
        yield np.frombuffer(data, np.int16).copy(), bool(lost)


def _reason(error: Exception) -> str:
    return str(error).split(" [PaErrorCode")[0].removeprefix("Error opening RawInputStream: ").rstrip(".")
