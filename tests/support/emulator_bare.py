"""Build the programs of tests/support/bare and run them on the virtual board or on QEMU's Cortex-M4."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from host.emulator.board import VirtualBoard
from host.emulator.cycles.timing import EXPECTED, Timing
from host.firmware_build import build_bare

BARE = Path(__file__).parent / "bare"
QEMU = "qemu-system-arm"


def needs_compiler() -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc on this machine")


def needs_qemu() -> None:
    if shutil.which(QEMU) is None:
        pytest.skip("no qemu-system-arm on this machine")


def build(folder: Path, *names: str, board_layer: bool = False, flags: Sequence[str] = ()) -> Path:
    """ELF of tests/support/bare sources (or of absolute paths)."""
    needs_compiler()
    return build_bare([BARE / name for name in names], folder / f"{Path(names[0]).stem}.elf", board_layer, flags)


def results_of(board: VirtualBoard) -> list[int]:
    objects = board.image.objects
    first = objects["results"].address
    return [board.read_word(first + 4 * index) for index in range(board.read_word(objects["result_count"].address))]


def run_to_finish(
    elf: Path, seconds: float = 5.0, pcm: Any = None, native: bool | None = None, timing: Timing | None = EXPECTED
) -> VirtualBoard:
    """A board that has run until the program said it was finished."""
    board = VirtualBoard(elf, pcm, native, timing)
    finished = board.image.objects["finished"].address
    assert board.run(seconds, lambda: board.read_word(finished) != 0), f"not finished after {seconds} s of board time"
    return board


def run_on_qemu(elf: Path) -> list[int]:
    """The numbers that a program built with -DUNDER_QEMU prints."""
    command = [
        QEMU,
        "-M",
        "mps2-an386",
        "-nographic",
        "-semihosting",
        "-monitor",
        "none",
        "-serial",
        "none",
        "-kernel",
        str(elf),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [int(word, 16) for word in (done.stdout + done.stderr).split()]
