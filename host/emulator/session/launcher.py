"""Start a virtual board in its own process and give back where its serial port is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from host.emulator.errors import BoardError

_ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def launch(
    elf: Path | str,
    wavs: Sequence[Path | str] = (),
    gap: float = 0.0,
    port: str = "tcp:0",
    json_file: Path | None = None,
    until: str | None = None,
    clock: str = "expected",
    sound: int | None = None,
    baud: int = 0,
) -> Iterator[str]:
    """Yields the address to give to pyserial ("socket://127.0.0.1:PORT" or a pty); the board ends with the block.

    json_file receives the figures of the run at the end. sound is a pipe into the microphone (see LiveSound): the end
    to read from, which is closed here; the other one must be closed within the block. Raises BoardError with the
    board's own sentence when it does not start, and at the end of the block when the program has faulted meanwhile.
    """
    images = (str(Path(file).resolve()) for file in (elf, *wavs))
    command = [sys.executable, "-m", "host.emulator", *images, "--port", port, "--gap", str(gap), "--json-lines"]
    command += ["--json", str(json_file.resolve())] if json_file else []
    command += ["--until", until] if until else []
    command += ["--clock", clock] if clock != "expected" else []
    command += ["--baud", str(baud)] if baud else []
    command += ["--live"] if sound is not None else []
    try:
        pipe = subprocess.PIPE
        board = subprocess.Popen(command, cwd=_ROOT, stdin=sound, stdout=pipe, stderr=pipe, text=True)
    finally:
        if sound is not None:
            os.close(sound)
    assert board.stdout is not None
    try:
        first = board.stdout.readline()
        if not first:
            board.wait(timeout=30)
            raise BoardError("the virtual board ended before it had a serial port")
        yield str(json.loads(first)["serial_port"])
    finally:
        _end(board)


def _end(board: subprocess.Popen[str]) -> None:
    """Stop the board; when its program had already faulted, that is what the user must read."""
    if board.poll() is None:
        board.terminate()
    try:
        _, errors = board.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        board.kill()
        board.communicate()
        return
    last = (errors.strip().splitlines() or [""])[-1]
    if board.returncode > 0 and last:  # also of a board that was just about to say so when it was told to stop
        raise BoardError(json.loads(last)["error"] if last.startswith("{") else last)
