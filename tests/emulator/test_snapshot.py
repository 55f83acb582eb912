"""A board that was saved and loaded goes on as one that never stopped: the whole of its state at the end is equal, byte
for byte, however often and wherever it was cut. A file that is damaged or of another board is one sentence."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator_bare import BARE, build
from host_cli import Cli, refusal, sound
from numpy.typing import NDArray

from host.emulator import BoardError
from host.emulator.board import VirtualBoard
from host.emulator.snapshot import load_board, save_board

ROOT = Path(__file__).resolve().parents[2]
CYCLE = 1 / 64e6
Cut = Callable[[VirtualBoard], bool]
CUTS: dict[str, Cut] = {
    "asleep": lambda board: board.core.sleeping,
    "in a handler": lambda board: bool(board.core.nvic.active),
    "while DMA sends": lambda board: board.chip.console.is_sending,
    "while DMA records": lambda board: board.chip.microphone.running,
}


def _moved(board: VirtualBoard, elf: Path, pcm: NDArray[np.int16] | None, file: Path) -> VirtualBoard:
    """Another board with the same state."""
    save_board(board, file)
    other = VirtualBoard(elf, pcm, native=board.core.counter.name == "native")
    load_board(other, file)
    save_board(other, file.with_suffix(".again"))
    assert file.read_bytes() == file.with_suffix(".again").read_bytes()
    return other


def _relayed(
    board: VirtualBoard, elf: Path, pcm: NDArray[np.int16] | None, folder: Path, moments: list[float], cuts: set[str]
) -> tuple[VirtualBoard, set[str]]:
    """The board after moving to another one at each moment and, soon after, wherever a cut is; which were met."""
    met: set[str] = set()
    for moment in moments:
        board.run(max(0.0, moment - board.seconds))
        board = _moved(board, elf, pcm, folder / "cut.board")
        for name in sorted(cuts):
            for _ in range(2000):
                if CUTS[name](board):
                    met.add(name)
                    board = _moved(board, elf, pcm, folder / "cut.board")
                    break
                if board.core.sleeping:
                    awake = board.core
                    board.run(0.001, lambda core=awake: not core.sleeping)  # type: ignore[misc]
                else:
                    board.run(CYCLE)  # a block
    return board, met


PROGRAMS: dict[str, tuple[tuple[str, ...], bool, float, set[str]]] = {  # name -> sources, board layer, seconds, cuts
    "echo": (("echo.c",), True, 0.12, {"asleep", "in a handler", "while DMA sends"}),
    "microphone": (("microphone.c", "results.c"), True, 2.3, {"asleep", "in a handler", "while DMA records"}),
    "peripherals": (("peripherals.c", "results.c"), False, 0.15, set()),
    "interconnect": (("interconnect.c", "results.c"), False, 0.004, set()),
    "exceptions": (("exceptions.c", "results.c"), False, 0.001, {"in a handler"}),
    "sleep": (("sleep.c", "results.c"), False, 0.003, {"asleep"}),
    "flash": (("flash.c", "results.c"), False, 0.3, set()),
    "traps": (("traps.c", "results.c"), False, 0.0012, set()),
    "it_loop": (("it_loop.S", "results.c"), False, 0.0013, set()),
    "two_addresses": (("two_addresses.c", "results.c"), False, 0.001, set()),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_goes_on_as_if_it_had_never_stopped(tmp_path: Path, name: str) -> None:
    sources, layer, end, wanted = PROGRAMS[name]
    elf = build(tmp_path, *sources, board_layer=layer)
    pcm = sound(2.0) if name == "microphone" else None
    rng = random.Random(name)
    unbroken, broken = VirtualBoard(elf, pcm), VirtualBoard(elf, pcm)
    for board in (unbroken, broken):
        board.send(bytes(range(256)) * 4)
    moments = sorted(rng.uniform(0, 0.9 * end) for _ in range(8))
    broken, met = _relayed(broken, elf, pcm, tmp_path, moments, wanted)
    end = max(end, broken.seconds)
    for board in (unbroken, broken):
        board.run(end - board.seconds)
    for board, file in ((unbroken, "unbroken"), (broken, "broken")):
        save_board(board, tmp_path / file)
    assert met == wanted
    assert _differences(tmp_path / "unbroken", tmp_path / "broken") == []
    assert unbroken.report() == broken.report()
    assert unbroken.take_output() == broken.take_output()


def _state(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        return dict(json.loads(archive.read("state.json")))


def _differences(first: Path, second: Path) -> list[str]:
    """The parts of two snapshots that are not equal."""
    one, other = _state(first), _state(second)
    found = [name for name in one if one[name] != other.get(name)]
    with zipfile.ZipFile(first) as a, zipfile.ZipFile(second) as b:
        return found + [name for name in a.namelist() if name != "state.json" and a.read(name) != b.read(name)]


def test_the_counter_in_python_goes_on_alike(tmp_path: Path) -> None:
    elf = build(tmp_path, "echo.c", board_layer=True)
    boards = []
    for native in (True, False):
        board = VirtualBoard(elf, native=native)
        board.send(b"some words")
        board.run(0.001)
        board = _moved(board, elf, None, tmp_path / "cut.board")
        board.run(0.003)
        save_board(board, tmp_path / board.core.counter.name)
        boards.append(board)
    assert _differences(tmp_path / "native", tmp_path / "python") == []


ACROSS_A_PAGE = """
    .syntax unified
    .thumb
    .cpu cortex-m4
    .text
    .global main
    .type main, %function
    .balign 4096
    .space 4086
main:
    movs r0, #200
    movs r1, #0
    cmp r0, #0
again:
    itttt ne  // Unicorn ends its block at the page's end, behind the first of four
    addne r1, #1
    addne r1, #2
    addne r1, #3
    addne r1, #4
    subs r0, #1
    bne again
    ldr r0, =results
    str r1, [r0]
    bl finish
"""


def test_is_moved_in_an_it_block_too(tmp_path: Path) -> None:
    """Beside a board that is stopped at the same moments: a stop in an IT block, where it goes on instruction by
    instruction, costs a board some cycles by itself."""
    (tmp_path / "across.S").write_text(ACROSS_A_PAGE)
    elf = build(tmp_path, str(tmp_path / "across.S"), "results.c")
    unbroken, broken = VirtualBoard(elf), VirtualBoard(elf)
    cuts = 0
    while broken.seconds < 0.0015:
        for board in (unbroken, broken):
            board.run(37 * CYCLE)
        if broken.core.cpu.it_state:
            broken, cuts = _moved(broken, elf, None, tmp_path / "cut.board"), cuts + 1
    for board, file in ((unbroken, "unbroken"), (broken, "broken")):
        save_board(board, tmp_path / file)
    assert cuts > 3
    assert broken.read_word(broken.image.objects["results"].address) == 2000
    assert _differences(tmp_path / "unbroken", tmp_path / "broken") == []


EXCLUSIVE = """
#include "results.h"
#include "nrf52840.h"

static volatile uint32_t word = 5, other;

// One STREX far behind its LDREX: it must find what LDREX has marked.
int main(void) {
    uint32_t value, failed;
    __asm__ volatile("ldrex %0, [%1]" : "=r"(value) : "r"(&word) : "memory");
    for (int i = 0; i < 1000; i++) other++;
    __asm__ volatile("strex %0, %1, [%2]" : "=&r"(failed) : "r"(value + 1), "r"(&word) : "memory");
    result(failed);
    result(word);
    finish();
}
"""


def test_an_exclusive_access_is_finished_by_the_board_that_loads(tmp_path: Path) -> None:
    (tmp_path / "exclusive.c").write_text(EXCLUSIVE)
    elf = build(tmp_path, str(tmp_path / "exclusive.c"), "results.c", flags=[f"-I{BARE}"])
    board = VirtualBoard(elf)
    first = board.image.objects["other"].address
    while board.read_word(first) < 100:
        board.run(20 * CYCLE)
    assert board.read_word(first) < 1000
    board = _moved(board, elf, None, tmp_path / "cut.board")
    board.run(0.01)
    results = board.image.objects["results"].address
    assert (board.read_word(results), board.read_word(results + 4)) == (0, 6)


def _emulate(elf: Path, *arguments: object) -> bytes:
    """What the board sent, by a process of its own."""
    command = [sys.executable, "-m", "host", "emulate", str(elf), "--port", "none", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    head, _, rest = done.stdout.partition(b"serial port: none\n")
    assert not head
    return rest[: rest.index(b"board time ")]


def test_the_command_saves_and_resumes_in_a_fresh_process(tmp_path: Path) -> None:
    elf = build(tmp_path, "echo.c", board_layer=True)
    text = "a sentence that takes the line a while. " * 10
    whole = _emulate(elf, "--send", text, "--until", 0.1, "--save", tmp_path / "whole")
    first = _emulate(elf, "--send", text, "--until", 0.021, "--save", tmp_path / "first")
    second = _emulate(elf, "--resume", tmp_path / "first", "--until", 0.1, "--save", tmp_path / "second")
    assert whole.decode().strip() == f"hello\n{text}".strip()
    assert first and second and (first + second).replace(b"\n", b"") == whole.replace(b"\n", b"")
    assert (tmp_path / "second").read_bytes() == (tmp_path / "whole").read_bytes()
    assert len((tmp_path / "whole").read_bytes()) < 100_000


def test_the_command_refuses_what_cannot_be_saved_or_resumed(cli: Cli, tmp_path: Path) -> None:
    elf = build(tmp_path, "echo.c", board_layer=True)
    assert "a host at a serial port cannot be saved" in refusal(cli("emulate", elf, "--save", tmp_path / "a"))
    (tmp_path / "bad").write_bytes(b"nothing")
    told = refusal(cli("emulate", elf, "--port", "none", "--resume", tmp_path / "bad", "--until", 0.01))
    assert "bad: no snapshot of a board, or a damaged one" in told
    told = refusal(cli("emulate", elf, "--port", "none", "--resume", tmp_path / "none", "--until", 0.01))
    assert "cannot be read" in told


def _written(file: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _told(board: VirtualBoard, file: Path) -> str:
    with pytest.raises(BoardError) as told:
        load_board(board, file)
    assert "\n" not in str(told.value) and len(str(told.value)) < 600
    return str(told.value)


def test_another_board_or_version_is_told_apart(tmp_path: Path) -> None:
    elf, pcm = build(tmp_path, "echo.c", board_layer=True), sound(0.5)
    other = build(tmp_path, "microphone.c", "results.c", board_layer=True)
    board = VirtualBoard(elf, pcm)
    board.run(0.01)
    save_board(board, tmp_path / "a")
    assert "saved with an image" in _told(VirtualBoard(other, pcm), tmp_path / "a")
    assert "saved with a microphone" in _told(VirtualBoard(elf), tmp_path / "a")
    assert "saved with a microphone" in _told(VirtualBoard(elf, pcm[1:]), tmp_path / "a")
    assert "saved with a clock expected" in _told(VirtualBoard(elf, pcm, timing=None), tmp_path / "a")
    members = _members(tmp_path / "a")
    state = json.loads(members["state.json"])
    _written(tmp_path / "b", {**members, "state.json": json.dumps({**state, "version": 999}).encode()})
    assert "a snapshot of version 999" in _told(VirtualBoard(elf, pcm), tmp_path / "b")
    _written(tmp_path / "c", {**members, "ram": b"\0" * (64 << 20)})
    assert "ram must have 262144 bytes" in _told(VirtualBoard(elf, pcm), tmp_path / "c")
    _written(tmp_path / "d", {**members, "more": b""})
    assert "holds 6 parts" in _told(VirtualBoard(elf, pcm), tmp_path / "d")


def _spoiled(value: Any, rng: random.Random) -> Any:
    """The same with one thing changed, somewhere inside."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.95:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        copy: Any = value.copy()
        what = rng.random()
        if what < 0.01:
            del copy[key]
        elif what < 0.02 and isinstance(value, list):
            copy.append(copy[key])
        else:
            copy[key] = _spoiled(copy[key], rng)
        return copy
    near = value + rng.choice([-1, 1, 255, 1 << 16]) if isinstance(value, int) else 0
    wild: Any = rng.choice([0, -1, 0xFFFFFFFF, 1 << 59, 1 << 90, 1.5, True, None, "x", [], {}, [[0]]])
    return wild if rng.random() < 0.3 else near


@pytest.mark.parametrize("name", ["microphone", "traps", "echo"])
def test_a_spoiled_snapshot_is_refused_or_goes_on_and_ends(tmp_path: Path, name: str) -> None:
    """Whatever stands in it: one sentence, or a board that runs, stops at its time and can be saved again."""
    sources, layer, end, _ = PROGRAMS[name]
    elf = build(tmp_path, *sources, board_layer=layer)
    pcm = sound(0.3)
    board = VirtualBoard(elf, pcm)
    board.send(b"some text to be sent")
    board.run(end / 2)
    save_board(board, tmp_path / "good")
    members, state = _members(tmp_path / "good"), _state(tmp_path / "good")
    rng, refused, ran = random.Random(1), 0, 0
    for _ in range(60):
        spoiled = dict(state)
        part = rng.choice(sorted(state))
        spoiled[part] = _spoiled(state[part], rng)
        _written(tmp_path / "bad", {**members, "state.json": json.dumps(spoiled).encode()})
        try:
            other = VirtualBoard(elf, pcm)
            load_board(other, tmp_path / "bad")
            ran += 1
            other.run(0.001)
            save_board(other, tmp_path / "again")
            load_board(VirtualBoard(elf, pcm), tmp_path / "again")
        except BoardError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 10 and ran > 10


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    elf = build(tmp_path, "echo.c", board_layer=True)
    board = VirtualBoard(elf)
    board.run(0.01)
    save_board(board, tmp_path / "good")
    good, rng = (tmp_path / "good").read_bytes(), random.Random(2)
    for index in range(60):
        data = bytearray(good)
        if index % 2:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "bad").write_bytes(data)
        try:
            load_board(board := VirtualBoard(elf), tmp_path / "bad")
        except BoardError as error:
            assert "\n" not in str(error)
        else:  # what was hit tells the time or the system that wrote it
            save_board(board, tmp_path / "same")
            assert _differences(tmp_path / "same", tmp_path / "good") == []
