"""The virtual board from outside: serial line, microphone, clocks, faults told in one sentence, images it refuses, its
command."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import serial
from emulator_bare import build, results_of, run_to_finish

from host.emulator import BoardError, launch
from host.emulator.board import VirtualBoard
from host.emulator.image.load import load_image
from host.emulator.peripherals.pdm import STUCK
from host.firmware_build import build_bare

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("echo"), "echo.c", board_layer=True)


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("microphone"), "microphone.c", "results.c", board_layer=True)


def _echo_through(address: str, data: bytes) -> bytes:
    """What comes back when `data` is sent, after the greeting."""
    with serial.serial_for_url(address, baudrate=115200, timeout=10) as line:
        assert line.read(7) == b"hello\r\n"
        sender = threading.Thread(target=line.write, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            part = line.read(line.in_waiting or 1)
            if not part:
                break
            got += part
        sender.join()
        return got


@pytest.mark.parametrize("port", ["tcp:0", "pty"])
def test_a_hundred_kilobytes_go_in_and_out_unharmed(echo: Path, port: str) -> None:
    if port == "pty" and sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals")
    data = random.Random(7).randbytes(100_000)
    with launch(echo, port=port) as address:
        assert _echo_through(address, data) == data


def test_the_board_waits_for_its_reader_and_for_the_next_one(echo: Path) -> None:
    with launch(echo) as address:
        time.sleep(0.5)  # nobody reads: the greeting must still be there afterwards
        assert _echo_through(address, b"first") == b"first"
        with serial.serial_for_url(address, timeout=10) as line:
            line.write(b"second")
            assert line.read(6) == b"second"


def test_serial_bytes_take_their_time_on_the_board_but_not_here(echo: Path) -> None:
    board = VirtualBoard(echo)
    board.run(0.01)
    assert board.take_output() == b"hello\r\n"
    start, data = board.seconds, bytes(range(256)) * 4
    board.send(data)
    assert board.run(1.0, lambda: len(board.chip.console.board_to_host) == len(data))
    assert board.take_output() == data
    assert 1024 * 10 / 115200 <= board.seconds - start <= 1.1 * 1024 * 10 / 115200 + 0.01
    assert board.report().serial_overruns == 0


def test_microphone_delivers_each_sample_once(microphone: Path) -> None:
    pcm = np.random.default_rng(1).integers(-32768, 32768, 30_000).astype(np.int16)
    board = run_to_finish(microphone, pcm=pcm)
    where = board.image.objects["heard"].address
    heard = np.frombuffer(bytes(board.core.memory.span(where, 64_000) or b""), np.int16)
    np.testing.assert_array_equal(
        heard, np.concatenate([pcm, np.zeros(2000, np.int16)])
    )  # silence follows the recording
    trouble, dropped, *_ = results_of(board)
    assert (trouble, dropped) == (0, 0)
    assert 2.1 <= board.seconds <= 2.125  # 32,000 samples at exactly 16 kHz, then 100 ms, and the start
    assert board.report().cpu_load < 0.2


def test_a_board_without_microphone_says_so(microphone: Path) -> None:
    board = run_to_finish(microphone)
    assert results_of(board)[0] == 1
    assert STUCK != 0


def test_milliseconds_and_cycles_agree(microphone: Path) -> None:
    board = run_to_finish(microphone)
    _, _, cycles, stack, flash, ram = results_of(board)
    assert (
        abs(cycles - 6_400_000) < 200
    )  # 100 ms awake; where in its loop the program notices the last millisecond is open
    assert 100 < stack < 2048
    assert 1000 < flash < 10_000
    assert ram > 64_000
    assert board.chip.leds() == {"red": True, "green": False, "blue": True}


def test_sleep_is_counted_apart(echo: Path) -> None:
    board = VirtualBoard(echo)
    board.run(1.0)
    report = board.report()
    assert report.cycles_awake + report.cycles_asleep >= 64_000_000
    assert report.cpu_load < 0.01
    assert report.cycles_low < report.cycles_awake < report.cycles_high
    assert report.clock == "expected" and report.cache_on


FAULTS = [
    (1, "read of 0x30000000, where there is nothing, at read_nowhere", "caller"),
    (2, "write to 0x00001000, which is flash, at write_flash", "caller"),
    (3, "stack overflow (the stack pointer is 0x1fff", "dig"),
    (4, "undefined instruction at undefined+0x0", "caller"),
    (5, "jump to 0x08000000, where there is no code,", "caller"),
    (6, "jump to an even address, which means ARM state, at 0x00070000", "caller"),
    (7, "BKPT instruction at breakpoint+0x0", "caller"),
    (10, "at bare_unhandled+0x0 (pc 0x00000100) in the handler of interrupt 20", "unhandled"),
    (
        11,
        "UARTE0: EasyDMA from 0x00000100, 4 bytes: only RAM can be transferred at dma_from_flash",
        "last instructions",
    ),
    (12, "EXC_RETURN 0xfffffff9 outside an exception handler", "caller"),
    (14, "floating point instruction while the FPU is off (CPACR) at float_off+0x", "caller"),
    (13, "the program keeps resetting the board (100 resets)", "last instructions"),
]


def _faulty(folder: Path, number: int) -> Path:
    return build(folder, "faults.c", flags=[f"-DFAULT={number}"])


@pytest.mark.parametrize(("number", "sentence", "also"), FAULTS)
def test_a_fault_is_one_sentence_with_the_place_and_who_called(
    tmp_path: Path, number: int, sentence: str, also: str
) -> None:
    board = VirtualBoard(_faulty(tmp_path, number))
    with pytest.raises(BoardError) as told:
        board.run(1.0)
    assert sentence in str(told.value)
    assert also in str(told.value)
    assert "\n" not in str(told.value)


def test_an_endless_loop_ends_with_its_limit(tmp_path: Path) -> None:
    board = VirtualBoard(_faulty(tmp_path, 8))
    assert not board.run(0.05)
    assert board.seconds == pytest.approx(0.05, abs=1e-5)
    assert board.image.name_at(board.core.cpu.pc).startswith("endless")


def test_a_sleep_that_nothing_can_end_is_told(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="sleeps for ever at sleep_for_ever"):
        VirtualBoard(_faulty(tmp_path, 9)).run()


def _damaged(folder: Path, elf: Path, change: object) -> Path:
    data = bytearray(elf.read_bytes())
    change(data)  # type: ignore[operator]
    made = folder / "damaged.elf"
    made.write_bytes(data)
    return made


def _move_to(data: bytearray, address: int) -> None:
    """Another load address in each program header."""
    for index in range(data[44]):
        data[52 + 32 * index + 12 : 52 + 32 * index + 16] = address.to_bytes(4, "little")


BAD_IMAGES = [
    ("truncated ELF", lambda data: data.__delitem__(slice(len(data) // 3, None))),
    ("truncated ELF", lambda data: data.__delitem__(slice(60, None))),
    ("no ELF file", lambda data: data.__setitem__(slice(0, 4), b"\x7fELG")),
    ("no ELF file (starts with nothing)", lambda data: data.clear()),
    ("not a 32-bit little-endian ELF", lambda data: data.__setitem__(4, 2)),
    ("made for machine 62", lambda data: data.__setitem__(18, 62)),
    ("nothing to load", lambda data: data.__setitem__(slice(44, 46), bytes(2))),
    ("it is for another chip", lambda data: _move_to(data, 0x08000000)),
    ("it is for another chip", lambda data: data.__setitem__(slice(72, 76), b"\xff" * 4)),  # its size in memory
    ("two segments overlap at 0x0", lambda data: data.__setitem__(slice(84, 116), data[52:84])),
    ("e_phentsize must be 32, got 0", lambda data: data.__setitem__(slice(42, 46), b"\0\0\xff\xff")),
    ("e_shentsize must be 40, got 0", lambda data: data.__setitem__(slice(46, 50), bytes(4))),
]


@pytest.mark.parametrize(("sentence", "change"), BAD_IMAGES)
def test_a_bad_image_is_refused_in_one_sentence(tmp_path: Path, echo: Path, sentence: str, change: object) -> None:
    with pytest.raises(BoardError) as told:
        load_image(_damaged(tmp_path, echo, change))
    assert sentence in str(told.value)


def test_damaged_images_never_do_worse_than_a_sentence(tmp_path: Path, echo: Path) -> None:
    rng = random.Random(3)
    refused = 0
    for _ in range(150):

        def spoil(data: bytearray) -> None:
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(0, 0x200 if rng.random() < 0.7 else len(data))] = rng.randrange(256)

        try:
            VirtualBoard(_damaged(tmp_path, echo, spoil), native=False).run(0.0005)
        except BoardError:
            refused += 1
    assert refused > 10


def test_a_missing_vector_table_is_told(tmp_path: Path, echo: Path) -> None:
    image = load_image(echo)
    blank = [(address, bytes(len(data))) for address, data in image.segments]
    with pytest.raises(BoardError, match="no vector table"):
        VirtualBoard(type(image)(image.path, blank))


def _emulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "host", "emulate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_command_tells_what_is_wrong_and_leaves_with_1(tmp_path: Path, echo: Path) -> None:
    for arguments, sentence in (
        ([str(tmp_path / "none.elf")], "cannot be read"),
        ([str(echo), "--port", "com3"], "must be pty or tcp:PORT"),
        ([str(echo), "--wav", str(tmp_path / "none.wav")], "none.wav"),
        ([str(echo), "--speed", "ludicrous"], "must be max or real"),
    ):
        done = _emulate(*arguments)
        assert done.returncode == 1, done
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_launch_hands_on_the_boards_own_sentence(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="cannot be read"), launch(tmp_path / "none.elf"):
        pass


def test_launch_tells_at_its_end_that_the_program_has_faulted(tmp_path: Path) -> None:
    elf = _faulty(tmp_path, 1)
    with (
        pytest.raises(BoardError, match="read of 0x30000000, where there is nothing, at read_nowhere"),
        launch(elf) as address,
        serial.serial_for_url(address, timeout=10) as line,
        pytest.raises(serial.SerialException),
    ):  # the line is cut
        line.read(1)


def test_a_port_in_use_is_told(echo: Path) -> None:
    with launch(echo) as address:
        number = address.rpartition(":")[2]
        with pytest.raises(BoardError, match="the port cannot be opened"), launch(echo, port=f"tcp:{number}"):
            pass


def test_figures_of_a_run_go_to_a_file(tmp_path: Path, echo: Path) -> None:
    import json

    figures = tmp_path / "run.json"
    with launch(echo, json_file=figures) as address:
        assert _echo_through(address, b"abc") == b"abc"
    found = json.loads(figures.read_text())
    assert found["kind"] == "modelled" and found["clock_hz"] == 64_000_000
    assert 0 < found["cycles_low"] <= found["cycles_awake"] <= found["cycles_high"]


@pytest.mark.parametrize("until", ["0.2", "lo\r\n"])
def test_a_run_ends_after_its_seconds_or_at_its_text(tmp_path: Path, echo: Path, until: str) -> None:
    import json

    figures = tmp_path / "run.json"
    with launch(echo, json_file=figures, until=until) as address, serial.serial_for_url(address, timeout=10) as line:
        assert line.read(7) == b"hello\r\n"
        for _ in range(200):
            if figures.is_file():
                break
            time.sleep(0.05)
    assert json.loads(figures.read_text())["seconds"] == pytest.approx(0.2 if until == "0.2" else 0.0025, abs=0.0025)


def test_a_build_that_fails_is_told_with_the_compilers_words(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BoardError, match="'nothing' undeclared"):
        build_bare([wrong], tmp_path / "wrong.elf")
