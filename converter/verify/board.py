"""The rung of the virtual board: the real firmware image, spoken to through its serial port by the host's own
commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter import convert as conversion
from converter.graph import ConvertError
from converter.tflite.interpreters import Unavailable
from converter.verify.engines import DIFFERENT, EQUAL, Climb, Rung, Tally
from converter.verify.frontend import generated

ROOT = Path(__file__).resolve().parents[2]
BUILD = """
import sys
from pathlib import Path
from host.firmware_build import build_firmware
print(build_firmware(*map(Path, sys.argv[1:])))
"""
PROMPT = "serial port: "
BOARD_INPUTS, STREAM_CLIPS = 3, 4
TIMEOUT_S = 600


def board(given: Climb) -> Rung:
    """CRC-32 of every layer, and the features of a recording, from the board's serial port against the reference."""
    elf = _image(given)
    tally = Tally("", "layer outputs and feature windows")
    model = _model(given)
    with _running(elf) as port:
        for number, file in enumerate(_input_files(given)):
            answer = _infer(port, file, model, given.folder / f"answer{number}.json")
            if answer.get("features_equal") is not None:
                _count(
                    tally, bool(answer["features_equal"]), f"{file.name}: the board's features differ from the host's"
                )
            for pair in answer["comparisons"]:
                layer, own = pair["board"], pair["host_crc32"]
                if layer["crc32"] is not None:
                    told = (
                        f"layer {layer['name']} of {file.name}: CRC-32 {layer['crc32']:08x} on the board, {own:08x} in "
                        f"the "
                        f"reference"
                    )
                    _count(tally, layer["crc32"] == own, told)
    return tally.rung()


def listening(given: Climb) -> Rung:
    """Clips one after another over the serial line into the listening board: every score and decision against the
    host's."""
    if not given.graph.spec_json:
        raise Unavailable("the model carries no spec, so it cannot listen")
    elf, recording, answer = _image(given), given.folder / "stream.wav", given.folder / "stream.json"
    clips = (
        given.pcm[:STREAM_CLIPS].reshape(-1)
        if len(given.pcm)
        else np.concatenate([pcm for _, pcm in generated(16000)])[:64000]
    )
    _write_wav(recording, clips)
    with _running(elf) as port:
        done = _python(
            ["-m", "host", "stream", port, str(recording), "--run", str(_model(given).resolve()), "--json", str(answer)]
        )
    if not answer.is_file():
        raise ConvertError(f"board: {_last_line(done.stderr)}")
    found = json.loads(answer.read_text())
    checked, different = len(found["heard"]), int(found["different"])
    if not found["compared"] or not checked:
        raise ConvertError("board: it made no inference while listening")
    unit = f"inferences while listening to {len(clips) / 16000:.0f} s"
    return Rung(
        "", DIFFERENT if different else EQUAL, checked, unit, different, _last_line(done.stderr) if different else ""
    )


def _write_wav(file: Path, pcm: NDArray[np.int16]) -> None:
    with wave.open(str(file), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(16000)
        recording.writeframes(pcm.astype("<i2").tobytes())


def _count(tally: Tally, equal: bool, told: str) -> None:
    tally.checked += 1
    if not equal:
        tally.differences += 1
        tally.first = tally.first or told


def _image(given: Climb) -> Path:
    """The image named by --elf, else one with this model's AOT engine, built once by the host's builder in a process of
    its own."""
    built = given.folder / "build" / "emulator" / "firmware.elf"
    if given.elf or built.is_file():
        return given.elf or built
    if shutil.which("arm-none-eabi-gcc") is None:
        raise Unavailable("no arm-none-eabi-gcc to build the firmware with; name an image by --elf")
    model = given.folder / "firmware"
    conversion.write_all(conversion.render(given.source), model)
    done = _python(["-c", BUILD, str(model), str(given.folder / "build")])
    if done.returncode != 0:
        raise ConvertError(f"firmware: the image was not built: {_last_line(done.stderr)}")
    return Path(done.stdout.strip().splitlines()[-1])


def _model(given: Climb) -> Path:
    """What the host is told to compare the board with."""
    if given.source.artifact:
        return given.source.artifact.path
    file = given.folder / "model.tflite"
    file.write_bytes(conversion.render(given.source)["model.tflite"])
    return file


def _input_files(given: Climb) -> list[Path]:
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


@contextmanager
def _running(elf: Path) -> Iterator[str]:
    """A virtual board in its own process; yields its port."""
    command = [sys.executable, "-m", "host", "emulate", str(elf.resolve()), "--port", "tcp:0"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        if not first.startswith(PROMPT):
            raise ConvertError(
                f"{elf.name}: the virtual board did not start: {_last_line(process.communicate(timeout=30)[1])}"
            )
        yield first.removeprefix(PROMPT).strip()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _infer(port: str, file: Path, model: Path, answer: Path) -> dict[str, Any]:
    done = _python(
        ["-m", "host", "infer", port, str(file), "--layers", "--run", str(model.resolve()), "--json", str(answer)]
    )
    if not answer.is_file():  # a difference is written down too, and then the exit code is 1
        raise ConvertError(f"board: {_last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def _python(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise ConvertError(f"board: no answer within {TIMEOUT_S} s; try `python -m host emulate` by hand") from None


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
