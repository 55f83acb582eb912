"""The committed reference firmware listens for a long time on the virtual board, in pieces with a snapshot behind each:
every score and decision is the host's, its clock is the microphone's, and neither board nor emulator grows. And it
listens, profiles and tells the time across the wrap of every counter it has.

KWS_LONG_HOURS: of `make test-all-long`, 4; KWS_LONG_FOLDER: where its snapshots stay, so that a run that was stopped
goes on behind its last piece.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cli import sound
from numpy.typing import NDArray

from converter import reference
from converter.audio.frontend import MicroFrontend
from converter.files import write_json
from host.emulator.board import VirtualBoard
from host.emulator.schedule import CLOCK_HZ
from host.emulator.snapshot import load_board, save_board
from host.firmware_build import build_firmware
from host.link.detector import Detector
from host.link.expected import Decision, load_model
from host.link.protocol import Heard, Record, parse_line

RATE, CYCLES_PER_SAMPLE, LABELS = 16000, CLOCK_HZ // 16000, 4
WRAP, RING = 1 << 32, 4096  # bytes that the firmware keeps of what it receives
WARM_S, MOST_GROWTH_MIB = 60.0, 32.0
Pcm = NDArray[np.int16]


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    return build_firmware(None, tmp_path_factory.mktemp("reference"))


def _lines(board: VirtualBoard, seconds: float, until: bytes | None = None) -> list[bytes]:
    """Run; what the board has sent in whole lines."""
    wire = board.chip.console.board_to_host
    reached = board.run(seconds, None if until is None else lambda: bytes(wire).endswith(until))
    assert reached or until is None, bytes(wire)[-200:]
    sent = bytes(wire)
    end = sent.rfind(b"\n") + 1
    del wire[:end]
    return sent[:end].split(b"\r\n")[:-1]


def _ask(board: VirtualBoard, command: str) -> list[bytes]:
    board.send(command.encode())
    return _lines(board, 10.0, b"m-ready\r\n")


def _heard(lines: list[bytes]) -> list[Heard]:
    records = [parse_line(line) for line in lines if line.startswith(b"m-heard")]
    return [Heard.of(record, LABELS, LABELS) for record in records if isinstance(record, Record)]


def _listening(elf: Path, pcm: Pcm) -> VirtualBoard:
    """A board that has just been told to listen; the recording begins there."""
    board = VirtualBoard(elf, pcm)
    _lines(board, 1.0, b"m-ready\r\n")
    _ask(board, "listen 0%")
    microphone = board.chip.microphone
    assert microphone.running and microphone.delivered == microphone.position > 0
    return board


def _word(board: VirtualBoard, name: str) -> int:
    return board.read_word(board.image.objects[name].address)


class HostListener:
    """What the host makes of the same sound, piece after piece."""

    def __init__(self) -> None:
        model = load_model()
        assert model.spec is not None and model.detector is not None
        self._graph, self._features, self.spec = model.graph, model.spec.features, model.detector
        self._front_end = MicroFrontend(self._features)
        self._detector = Detector(self.spec, len(model.spec.labels))
        shape = (self._features.frames, self._features.channels)
        self._window: NDArray[Any] = np.full(shape, self._features.zero_point, np.int8)
        self._frames = 0

    def hear(self, pcm: Pcm) -> list[Decision]:
        """The decisions that this sound completes."""
        rows, hop, length = self._front_end.features(pcm), self.spec.hop_frames, self._features.frames
        padded = np.concatenate([self._window, rows])
        first = hop - self._frames % hop
        ends = list(range(first, len(rows) + 1, hop))
        windows = np.stack([padded[end : end + length] for end in ends])
        scores = reference.run_batch(self._graph, windows[..., None]).reshape(len(ends), -1)
        before, self._frames, self._window = self._frames, self._frames + len(rows), padded[len(rows) :]
        found = [tuple(int(value) for value in row) for row in scores]
        return [Decision(before + end, row, self._detector.step(row)) for end, row in zip(ends, found, strict=True)]


@dataclass(frozen=True)
class Progress:
    """Behind a piece: pieces and decisions so far, words among them, the clocks, the deepest stack."""

    pieces: int
    decisions: int
    words: int
    behind_ms: float  # the firmware's milliseconds
    started_at: int  # the cycle at which the microphone's clock began
    stack_bytes: int
    wall_s: float
    resident_mib: float


def _resident_mib() -> float:
    """Of this process."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20) if file.is_file() else 0.0


def _stack_bytes(board: VirtualBoard, elf: Path, pcm: Pcm, file: Path) -> int:
    """The high-water mark that a copy of the board tells: asking ends its listening, the board itself goes on."""
    copy = VirtualBoard(elf, pcm)
    load_board(copy, file)
    _ask(copy, "stop%")
    memory = [parse_line(line) for line in _ask(copy, "memory%") if line.startswith(b"m-memory")]
    assert isinstance(memory[0], Record)
    return int(memory[0].fields[3])


def listen_long(elf: Path, folder: Path, pieces: int, piece_s: float) -> list[Progress]:
    """Listen to so many pieces of sound, or to what is left of them after an earlier call with this folder; what was
    found behind each. Asserts that every decision is the host's and that nothing drifts."""
    saved, notes = folder / "board.snapshot", folder / "progress.json"
    host, expected = HostListener(), []
    done = [Progress(**one) for one in json.loads(notes.read_text())] if notes.is_file() else []
    pcm, heard_before = np.zeros(0, np.int16), 0
    for number in range(len(done)):  # heard and compared already: only the host's own state is to be had again
        pcm = np.concatenate([pcm[-RATE:], sound(piece_s, seed=number)])
        expected += host.hear(pcm[-round(piece_s * RATE) :])
    if done:
        heard_before = done[-1].decisions
        expected = expected[heard_before:]
        pcm = np.load(folder / "sound.npy")
        board = VirtualBoard(elf, pcm)
        load_board(board, saved)
    for number in range(len(done), pieces):
        begun, piece = time.monotonic(), sound(piece_s, seed=number)
        expected += host.hear(piece)
        if number == 0:
            pcm = piece
            board = _listening(elf, pcm)
        else:
            pcm = np.concatenate([pcm[board.chip.microphone.position :], piece])
            board.chip.microphone.go_on_with(pcm)
        microphone = board.chip.microphone
        left = len(pcm) - microphone.position - RATE // 10  # the next piece follows without a gap
        heard = _heard(_lines(board, left / RATE))
        assert [Decision.of(one) for one in heard] == expected[: len(heard)]
        assert all(one.lost == 0 for one in heard)
        assert 0 <= (len(expected) - len(heard)) * 2 * 320 / RATE <= 0.2
        expected = expected[len(heard) :]
        save_board(board, saved)
        np.save(folder / "sound.npy", pcm)
        last = done[-1] if done else None
        resident = _resident_mib()
        ends = number in (0, pieces - 1)  # a copy of a board takes memory that Unicorn keeps: not behind every piece
        stack = _stack_bytes(board, elf, pcm, saved) if last is None or ends else last.stack_bytes
        now = Progress(
            number + 1,
            (last.decisions if last else 0) + len(heard),
            (last.words if last else 0) + sum(one.word is not None for one in heard),
            board.seconds * 1000 - _word(board, "milliseconds"),
            microphone.delivered_at - microphone.delivered * CYCLES_PER_SAMPLE,
            stack,
            time.monotonic() - begun,
            resident,
        )
        done.append(now)
        write_json(notes, [vars(one) for one in done])
    assert abs(done[-1].behind_ms - done[0].behind_ms) <= 1, "the firmware's clock drifts"
    assert len({one.started_at for one in done}) == 1, "the microphone's clock drifts from the board's"
    assert len({one.stack_bytes for one in done}) == 1, "the stack grows"
    return done


def test_listens_in_pieces_and_goes_on_from_the_last_one(elf: Path, tmp_path: Path) -> None:
    first = listen_long(elf, tmp_path, 2, 4.0)
    both = listen_long(elf, tmp_path, 3, 4.0)  # as after the process was stopped
    assert both[:2] == first and both[2].pieces == 3
    assert both[2].decisions >= 3 * 4.0 * 25 - 6


@pytest.mark.slow
@pytest.mark.long
def test_listens_for_hours(elf: Path, tmp_path: Path) -> None:
    hours = float(os.environ.get("KWS_LONG_HOURS", "4"))
    folder = Path(os.environ.get("KWS_LONG_FOLDER", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    done = listen_long(elf, folder, max(2, round(hours * 3600 / WARM_S)), WARM_S)
    seconds, last = done[-1].pieces * WARM_S, done[-1]
    grown = last.resident_mib - done[1].resident_mib
    print(
        f"{seconds:.0f} s of board time in {sum(one.wall_s for one in done):.0f} s: {last.decisions} decisions, "
        f"{last.words} words, all the host's; stack {last.stack_bytes} bytes; resident {done[1].resident_mib:.0f} MiB "
        f"behind the second piece, {last.resident_mib:.0f} at the end"
    )
    assert last.decisions >= seconds * 25 - 6
    assert grown < MOST_GROWTH_MIB


# --- counters that wrap


def _move_on(
    board: VirtualBoard, cycles: int = 0, ms: int = 0, us: int = 0, samples: int = 0, received: int = 0
) -> None:
    """As if the board had been up for longer: its cycle counter, and what the firmware counts and remembers of it, are
    so much further."""
    board.core.system.move_cycle_counter(cycles)
    for name, size, step in (
        *(("_ZZL6microsvE11last_cycles", 4, cycles), ("_ZL12began_cycles", 4, cycles)),
        *(("milliseconds", 4, ms), ("_ZZL6microsvE7last_ms", 4, ms), ("_ZL8began_ms", 4, ms)),
        *(("mic_written", 4, samples), ("mic_taken", 4, samples)),
        *(("rx_known", 4, received), ("rx_taken", 4, received)),
        ("_ZZL6microsvE8total_us", 8, us),
    ):
        span = board.core.memory.span(board.image.objects[name].address, size)
        assert span is not None
        span[:] = (int.from_bytes(span, "little") + step & (1 << 8 * size) - 1).to_bytes(size, "little")
    timer = board.chip.bus.by_base[0x4001B000]  # TIMER4 counts the bytes received
    timer.move_on(received)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Told:
    """What a board says across a while, with the times of each stage: of the microphone, of sound over the line; time
    stamps in microseconds."""

    heard: list[Heard]
    streamed: list[Heard]
    stamps: list[int]


def _stamp(board: VirtualBoard, blanks: str = "") -> int:
    lines = _ask(board, f"{blanks}timestamp%")
    return next(int(line.rsplit(b"-", 1)[1]) for line in lines if line.startswith(b"m-lap-us-"))


def _asked(board: VirtualBoard) -> Told:
    """Two seconds of listening, one of sound over the line, then time stamps with sleep between them."""
    heard = _heard(_lines(board, 2.0))
    _ask(board, "stop%")
    _ask(board, "stream%")
    streamed = _heard(_ask(board, "quiet 16000%"))
    stamps = []
    for pause in (0.0, 0.1, 0.3, 0.0):
        _lines(board, pause)
        stamps.append(_stamp(board))
    _lines(board, 0.01)
    stamps.append(_stamp(board, RING * " "))
    return Told(heard, streamed, stamps)


# How far in front of its wrap each counter stands when the two seconds begin, of which the core is awake for 130 ms.
WRAPS: dict[str, dict[str, int]] = {
    "cycles while it listens": {"cycles": 1_000_003},
    "cycles in an inference": {"cycles": 3_333_333},
    "cycles with sound over the line": {"cycles": 8_000_000},
    "milliseconds": {"ms": 777},
    "microseconds": {"us": 1_234_567},
    "samples": {"samples": 8192},
    "bytes received": {"received": 1},
    "all at once": {"cycles": 2_000_000, "ms": 900, "us": 900_000, "samples": 16384, "received": 1},
}
NAMES = {"ms": "milliseconds", "samples": "mic_written", "received": "rx_known"}


@pytest.fixture(scope="module")
def in_time(elf: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pcm, Told]:
    """A listening board in a snapshot, its sound, and what it tells far from any wrap."""
    pcm = sound(6.0, seed=5)
    board = _listening(elf, pcm)
    _stamp(board)
    _lines(board, 0.5)
    file = tmp_path_factory.mktemp("wraps") / "listening.snapshot"
    save_board(board, file)
    assert all(_word(board, name) < WRAP // 2 for name in NAMES.values())
    return file, pcm, _asked(board)


@pytest.mark.parametrize("name", WRAPS)
def test_nothing_changes_where_a_counter_wraps(elf: Path, in_time: tuple[Path, Pcm, Told], name: str) -> None:
    file, pcm, before = in_time
    board = VirtualBoard(elf, pcm)
    load_board(board, file)
    now = {
        "cycles": board.core.system.cyccnt(),
        "us": int.from_bytes(
            board.core.memory.span(board.image.objects["_ZZL6microsvE8total_us"].address, 8) or b"", "little"
        ),
        **{kind: _word(board, variable) for kind, variable in NAMES.items()},
    }
    far = {kind: WRAP - front - now[kind] for kind, front in WRAPS[name].items()}
    for kind, multiple in (("samples", 8192), ("received", RING)):  # where it stands in its ring stays
        if kind in far:
            far[kind] = far[kind] // multiple * multiple
    _move_on(board, **far)
    assert all(now[kind] + far[kind] < WRAP for kind in far)
    told = _asked(board)
    assert told.heard == before.heard and len(told.heard) >= 49
    assert told.streamed == before.streamed and len(told.streamed) >= 23
    moved = [stamp - far.get("us", 0) for stamp in told.stamps]
    assert np.abs(np.array(moved) - before.stamps).max() <= 20  # more digits take a little longer to be sent
    after = {
        "cycles": board.core.system.cyccnt(),
        **{kind: _word(board, variable) for kind, variable in NAMES.items()},
        "us": told.stamps[-1] % WRAP,
    }
    assert all(after[kind] < WRAP // 2 for kind in far), "the counter has not wrapped"
