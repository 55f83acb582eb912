"""The virtual board ends at its time and at a signal whatever the firmware does, and says one sentence where the chip's
parts would go round at one moment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from emulator_bare import build

from host.emulator import BoardError
from host.emulator.board import VirtualBoard

ROOT = Path(__file__).resolve().parents[2]
CHAIN = "a chain of events that shortcuts or PPI start at one moment must have at most 64"
KINDS = {  # RESTLESS of restless.c -> the sentence; "": it runs until its time is over
    1: "",
    2: f"UARTE0+0x150: {CHAIN}",
    3: f"GPIOTE+0x104: {CHAIN}",
    4: "",
    5: "",
    6: "",
    7: "",
    8: "",
    9: "",
    10: "jump to 0xf0f0f0f0, where there is no code,",
    11: "",
    12: CHAIN,
    13: "",
}


def restless(folder: Path, number: int) -> Path:
    return build(folder, "restless.c", flags=[f"-DRESTLESS={number}"])


def _command(elf: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "host", "emulate", str(elf), "--port", "none", *arguments]


@pytest.mark.parametrize(("number", "sentence"), KINDS.items())
def test_it_ends_at_its_time_or_with_a_sentence(tmp_path: Path, number: int, sentence: str) -> None:
    seconds = "0.001" if number in (5, 7, 9, 11) else "0.02"  # each moment of these is work
    command = _command(restless(tmp_path, number), "--until", seconds, "--send", "abc")
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == bool(sentence), done.stderr
    assert sentence in done.stderr and len(done.stderr.strip().splitlines()) == bool(sentence), done.stderr
    said = done.stdout[done.stdout.index("board time") :]
    assert said.startswith(f"board time {seconds}") or sentence
    assert len(said) < 10_000
    assert time.monotonic() - begun < 30


def test_each_register_is_named_once_and_neighbours_together(tmp_path: Path) -> None:
    board = VirtualBoard(restless(tmp_path, 8))
    assert not board.run(0.02)
    lines = board.report().unmodelled
    assert any(line == "CCM/AAR+0x000..0x600 (read)" for line in lines)
    assert len(lines) == 201 and lines[-1].endswith(" more") and len(set(lines)) == 201


def test_what_starts_itself_at_one_moment_is_told(tmp_path: Path) -> None:
    board = VirtualBoard(restless(tmp_path, 13))

    def again() -> None:
        board.schedule.after(0, again)

    again()
    with pytest.raises(BoardError, match="at most 10,000 events may be due at one moment"):
        board.run(0.01)


def test_cancelled_events_do_not_gather(tmp_path: Path) -> None:
    board = VirtualBoard(restless(tmp_path, 13))
    for number in range(100_000):
        board.schedule.after(1 << 40, lambda: None).cancel()
        if number % 100 == 0:
            board.schedule.after(1 << 41, lambda: None)
    assert len(board.schedule._queue) < 4000


@pytest.mark.parametrize("number", [1, 4, 5, 7, 9, 13])
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_its_report(tmp_path: Path, number: int, which: int) -> None:
    """Also a board that sleeps for a day in real time, and one that was stopped (SIGSTOP) when the signal came."""
    command = _command(restless(tmp_path, number), *(["--speed", "real"] if number == 13 else []))
    board = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert board.stdout is not None and board.stdout.readline() == "serial port: none\n"
    time.sleep(1.0)
    board.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    assert board.poll() is None
    board.send_signal(which)
    board.send_signal(signal.SIGCONT)
    out, errors = board.communicate(timeout=10)
    assert (board.returncode, errors) == (0, "")
    assert out.startswith("board time") and "stopped at" in out


def test_a_stop_in_between_changes_nothing(tmp_path: Path) -> None:
    """SIGSTOP and SIGCONT: the run ends at its time with the same figures."""
    command = _command(restless(tmp_path, 1), "--until", "0.6")
    outputs = []
    for stops in (0, 3):
        board = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert board.stdout is not None and board.stdout.readline() == "serial port: none\n"
        for _ in range(stops):
            board.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            board.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        outputs.append(board.communicate(timeout=30)[0])
        assert board.returncode == 0
    assert outputs[0] == outputs[1]
