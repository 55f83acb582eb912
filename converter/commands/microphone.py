"""The computer's microphone and loudspeaker, as plain functions: blocks of samples, playing a sound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from converter.arrays import Int16
from converter.errors import ConvertError
from converter.target import SAMPLE_RATE_HZ

BLOCKS_PER_S = 10


@dataclass(frozen=True)
class Microphone:
    """An opened microphone: its rate, and int16 blocks of a tenth of a second each with whether samples before it were
    lost. The blocks end where its sound does, which a microphone's never does."""

    name: str
    rate_hz: int
    blocks: Iterator[tuple[Int16, bool]]


@contextlib.contextmanager
def microphone(device: str | None = None, rate_hz: int = SAMPLE_RATE_HZ) -> Iterator[Microphone]:
    """The microphone of input_stream, its blocks as they are asked for. Raises ConvertError."""
    with input_stream(device, rate_hz, BLOCKS_PER_S) as (name, found_hz, stream):
        yield Microphone(name, found_hz, _blocks(stream, found_hz // BLOCKS_PER_S))


@contextlib.contextmanager
def input_stream(
    device: str | None, rate_hz: int, blocks_per_s: int, callback: Callable[..., None] | None = None
) -> Iterator[tuple[str, int, Any]]:
    """Name, rate and PortAudio's stream of int16 of the microphone of this number or with this in its name, else the
    usual one; at rate_hz where it can, else at its own rate; of several channels the first or their mean, as PortAudio
    does it. callback: sounddevice's, given each block. Raises ConvertError."""
    library = _sounddevice()
    try:
        number, found = _input_device(library, device)
        form = {"device": number, "channels": 1, "dtype": "int16"}
        try:
            library.check_input_settings(samplerate=rate_hz, **form)
        except library.PortAudioError:
            rate_hz = int(found["default_samplerate"])
        form |= {"samplerate": rate_hz, "blocksize": rate_hz // blocks_per_s, "callback": callback}
        with library.RawInputStream(**form) as stream:
            yield found["name"], rate_hz, stream
    except library.PortAudioError as error:
        raise ConvertError(
            f"microphone: cannot be used ({_reason(error)}); close what else uses it, or name another by --device"
        ) from None


def play(pcm: Int16, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Begins to play it; raises ConvertError."""
    library = _sounddevice()
    try:
        library.play(pcm, rate_hz)
    except (library.PortAudioError, ValueError) as error:
        raise ConvertError(f"loudspeaker: cannot play ({_reason(error)}); look for a loudspeaker") from None


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise ConvertError("microphone: needs the Python package sounddevice; run make setup") from None
    except OSError:
        raise ConvertError(
            "microphone: needs PortAudio, got none; apt-get install libportaudio2, or brew install portaudio"
        ) from None
    return sounddevice


def _input_device(library: Any, device: str | None) -> tuple[int, dict[str, Any]]:
    """Its number and what PortAudio says of it."""
    inputs = {n: one for n, one in enumerate(library.query_devices()) if one["max_input_channels"] > 0}
    if not inputs:
        raise ConvertError(
            "microphone: none was found; plug one in, or record elsewhere and use `trainer audio --word`"
        )
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
        raise ConvertError(f"--device {device}: must fit one microphone, fits {len(fits)}; there are {shown}")
    return fits[0], inputs[fits[0]]


def _blocks(stream: Any, samples: int) -> Iterator[tuple[Int16, bool]]:
    while True:
        data, lost = stream.read(samples)
        yield np.frombuffer(data, np.int16).copy(), bool(lost)


def _reason(error: Exception) -> str:
    return str(error).split(" [PaErrorCode")[0].removeprefix("Error opening RawInputStream: ").rstrip(".")
