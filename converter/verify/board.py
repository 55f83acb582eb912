"""Checks of the virtual board: the real firmware image, spoken to through its serial port by the host's functions."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path

import numpy as np

from converter import convert as conversion
from converter.arrays import Int16
from converter.errors import ConvertError
from converter.target import SAMPLE_RATE_HZ
from converter.tflite.interpreters import Unavailable
from converter.verify.checks import DIFFERENT, EQUAL, BoardAccess, Check, CheckInputs, Mismatches
from converter.verify.frontend import synthetic_signals

BOARD_INPUTS, STREAM_CLIPS = 3, 4


def board(given: CheckInputs) -> Check:
    """CRC-32 of every layer, and the features of a recording, from the board's serial port against the reference."""
    access = _access(given)
    files = _input_files(given)
    mismatches = Mismatches("layer outputs and feature windows")
    for file, answer in zip(files, access.infer(_image(given, access), _model(given), files), strict=True):
        if answer.features_equal is not None:
            mismatches.count(answer.features_equal, f"{file.name}: the board's features differ from the host's")
        for layer in answer.layers:
            if layer.board_crc32 is not None:
                message = (
                    f"layer {layer.name} of {file.name}: CRC-32 {layer.board_crc32:08x} on the board, "
                    f"{layer.host_crc32:08x} in the reference"
                )
                mismatches.count(layer.board_crc32 == layer.host_crc32, message)
    return mismatches.check()


def listening(given: CheckInputs) -> Check:
    """Clips one after another over the serial line into the listening board: every score and decision against the
    host's."""
    if not given.graph.spec_json:
        raise Unavailable("the model carries no spec, so it cannot listen")
    access = _access(given)
    pcm = (
        given.pcm[:STREAM_CLIPS].reshape(-1)
        if len(given.pcm)
        else np.concatenate([pcm for _, pcm in synthetic_signals(SAMPLE_RATE_HZ)])[:64000]
    )
    found = access.listen(_image(given, access), _model(given), pcm)
    if not found.compared or not found.inferences:
        raise ConvertError("board: it made no inference while listening")
    unit = f"inferences while listening to {len(pcm) / SAMPLE_RATE_HZ:.0f} s"
    if not found.different:
        return Check("", EQUAL, found.inferences, unit)
    detail = "scores or decisions differ from the host's; `python -m host infer --layers` finds the layer"
    return Check("", DIFFERENT, found.inferences, unit, found.different, detail)


def _access(given: CheckInputs) -> BoardAccess:
    if given.board is None:
        raise Unavailable("nobody gave access to a virtual board; `python -m converter verify` does")
    return given.board


def _write_wav(file: Path, pcm: Int16) -> None:
    with wave.open(str(file), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(SAMPLE_RATE_HZ)
        recording.writeframes(pcm.astype("<i2").tobytes())


def _image(given: CheckInputs, access: BoardAccess) -> Path:
    """The image named by --elf, else one with this model's AOT engine, built once by the host's builder."""
    built = given.folder / "build" / "emulator" / "firmware.elf"
    if given.elf or built.is_file():
        return given.elf or built
    if shutil.which("arm-none-eabi-gcc") is None:
        raise Unavailable("no arm-none-eabi-gcc to build the firmware with; name an image by --elf")
    model = given.folder / "firmware"
    conversion.write_all(conversion.render(given.source), model)
    return access.build(model, given.folder / "build")


def _model(given: CheckInputs) -> Path:
    """What the host is to compare the board with."""
    if given.source.artifact:
        return given.source.artifact.path
    file = given.folder / "model.tflite"
    file.write_bytes(conversion.render(given.source)["model.tflite"])
    return file


def _input_files(given: CheckInputs) -> list[Path]:
    """Network inputs as .npy, and the first recording as a .wav when there is one."""
    chosen = [*given.recorded[:BOARD_INPUTS], *given.noise[:1]]
    files = []
    for index, values in enumerate(chosen):
        files.append(given.folder / f"input{index}.npy")
        np.save(files[-1], values)
    if len(given.pcm) and given.graph.spec_json:
        files.append(given.folder / "recording.wav")
        _write_wav(files[-1], given.pcm[0])
    return files
