"""`emulate`: images of each kind, what happened when, the view in a terminal, and quiet where there is none."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from emulator_bare import build
from rich.console import Console

from host.emulator import BoardError
from host.emulator.board import VirtualBoard
from host.emulator.image.load import load_image
from host.emulator.session.timeline import Timeline
from host.emulator.session.view import LiveView, render

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("microphone"), "microphone.c", "results.c", board_layer=True)


def _converted(elf: Path, kind: str, out: Path) -> Path:
    tool = shutil.which("arm-none-eabi-objcopy")
    if tool is None:
        pytest.skip("no arm-none-eabi-objcopy on this machine")
    subprocess.run([tool, "-O", kind, str(elf), str(out)], check=True)
    return out


def _flash(image: object) -> bytes:
    whole = bytearray(b"\xff" * 0x100000)
    for address, data in image.segments:  # type: ignore[attr-defined]
        whole[address : address + len(data)] = data
    return bytes(whole)


@pytest.mark.parametrize("at", [0, 0x10000, 0x27000])
def test_elf_hex_and_bin_are_the_same_image(tmp_path: Path, at: int) -> None:
    elf = build(tmp_path, "echo.c", board_layer=True, flags=[f"-Wl,--section-start=.text={at:#x}"])
    whole = _flash(load_image(elf))
    as_hex, as_bin = (
        _converted(elf, "ihex", tmp_path / "firmware.hex"),
        _converted(elf, "binary", tmp_path / "firmware.bin"),
    )
    assert _flash(load_image(as_hex)) == whole
    assert _flash(load_image(as_bin)) == whole
    assert load_image(as_bin).vector_address == at
    board = VirtualBoard(as_bin)
    board.run(0.01)
    assert board.take_output() == b"hello\r\n"


BAD = [
    ("a.hex", b":00000001FF\n", "nothing to load"),
    ("a.hex", b":0400000000000000FC\n", "end record is missing"),
    ("a.hex", b":0400000000000000FD\n:00000001FF\n", "line 1: the checksum is wrong"),
    ("a.hex", b":04000000000000FC\n:00000001FF\n", "line 1: no Intel HEX record"),
    ("a.hex", b"\x7fELF\x00\xff", "line 1: no Intel HEX record"),
    ("a.hex", b":020000040800F2\n:0400000000000000FC\n:00000001FF\n", "it is for another chip"),
    ("a.hex", b":00000001FF\n:0400000000000000FC\n", "line 2: data behind the end record"),
    ("a.hex", b":00000009F7\n", "record type 9"),
    ("a.bin", b"", "too short for a vector table"),
    ("a.bin", bytes(4096), "no vector table of the nRF52840"),
    (
        "a.bin",
        (0x20040000).to_bytes(4, "little") + (0x08000101).to_bytes(4, "little") + bytes(100),
        "it is for another chip",
    ),
    ("a.bin", (0x20040000).to_bytes(4, "little") + (0x101).to_bytes(4, "little") + bytes(60), "truncated"),
    ("a.elf", b"nothing", "give the firmware.elf, .hex or .bin"),
]


@pytest.mark.parametrize(("name", "data", "sentence"), BAD)
def test_a_bad_image_is_refused_in_one_sentence(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BoardError) as told:
        load_image(tmp_path / name)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_damaged_hex_never_does_worse_than_a_sentence(tmp_path: Path, microphone: Path) -> None:
    good = _converted(microphone, "ihex", tmp_path / "firmware.hex").read_bytes()
    rng = random.Random(1)
    refused = 0
    for _ in range(100):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "bad.hex").write_bytes(data)
        try:
            load_image(tmp_path / "bad.hex")
        except BoardError:
            refused += 1
    assert refused > 80


def _recording(path: Path, level: int) -> Path:
    soundfile.write(path, np.full(16000, level, np.int16), 16000, subtype="PCM_16")
    return path


def test_timeline_says_what_was_played_shown_and_sent(tmp_path: Path, microphone: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    wavs = [str(_recording(folder / f"{name}.wav", 1000)) for name in ("one", "two")]
    figures = tmp_path / "run.json"
    command = [
        sys.executable,
        "-m",
        "host",
        "emulate",
        str(microphone),
        *wavs,
        "--port",
        "none",
        "--gap",
        "0.25",
        "--until",
        "2.5",
        "--json",
        str(figures),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "\x1b" not in done.stdout and done.stdout.splitlines()[0] == "serial port: none"
    found = json.loads(figures.read_text())
    told = [(one["kind"], one["text"], one["seconds"]) for one in found["timeline"]]
    assert [one[:2] for one in told] == [("sound", "sounds/one.wav"), ("sound", "sounds/two.wav"), ("led", "magenta")]
    assert told[0][2] == pytest.approx(0.25, abs=0.02)  # the program needs a moment to start its microphone
    assert told[1][2] - told[0][2] == pytest.approx(1.25, abs=0.001)
    assert told[2][2] == pytest.approx(2.1, abs=0.03)
    assert found["seconds"] == pytest.approx(2.5, abs=1e-4)


def test_a_host_that_speaks_makes_the_recording_begin_anew(microphone: Path) -> None:
    """Without one a stopped microphone goes on where it was; the timeline tells each playing, the report counts all
    samples."""
    board = VirtualBoard(microphone, np.arange(8000).astype(np.int16))
    pdm = board.chip.microphone
    timeline = Timeline(board, [(1000, "one")])
    delivered = 0
    for spoken, begun, sounds in ((False, 0, 1), (False, 0, 1), (True, 1, 2), (True, 2, 3)):
        if spoken:
            board.send(b"%")
        board.run(0.2)
        timeline.look()
        before = pdm.position
        pdm.task(4)
        pdm.task(0)
        assert (pdm.beginnings, pdm.position) == (begun, 0 if spoken else before)
        assert pdm.delivered > delivered + 2000
        delivered = pdm.delivered
        board.run(0.2)
        timeline.look()
        assert [one.text for one in timeline.moments if one.kind == "sound"] == ["one"] * sounds
    assert board.report().microphone_samples == pdm.delivered > 8000


def test_words_have_the_firmwares_names_and_colours_are_one_moment(microphone: Path) -> None:
    board = VirtualBoard(microphone)
    timeline = Timeline(board, [])
    timeline.serial(
        b"m-labels-[silence,yes]\r\nm-heard-[1,2,3,4,5,6,7,8,8080,1,0]\r\nm-heard-[1,2,3,4,5,6,7,8,8080,-1,0]\r\nhal"
    )
    timeline.serial(b"f \xff\r\n")
    told = [(one.kind, one.text) for one in timeline.moments]
    assert told == [("serial", "m-labels-[silence,yes]"), ("word", "yes"), ("serial", "half \ufffd")]
    for leds in ((1, 0, 0), (1, 1, 0)):
        timeline._led(dict(zip(("red", "green", "blue"), map(bool, leds), strict=True)))
    assert [(one.kind, one.text) for one in timeline.moments[3:]] == [("led", "yellow")]


def test_view_shows_lights_microphone_line_and_load(microphone: Path) -> None:
    board = VirtualBoard(microphone, np.tile(np.array([16384, -16384], np.int16), 16000))
    timeline = Timeline(board, [(0, "tone.wav")])
    board.run(0.5)
    timeline.look()
    timeline.serial(b"[bold]m-heard\r\n")
    console = Console(record=True, width=100, file=open("/dev/null", "w") if sys.platform != "win32" else None)  # noqa: SIM115
    console.print(render(board, timeline))
    shown = console.export_text()
    for text in ("● off", "-6.0 dBFS", "CPU load", "[bold]m-heard", "s  sound  tone.wav"):
        assert text in shown, shown


def test_view_is_silent_where_there_is_no_terminal(microphone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = VirtualBoard(microphone)
    with LiveView(board, Timeline(board, []), Console(force_terminal=False)) as view:
        view.look()
    assert capsys.readouterr().out == ""


def test_a_text_can_be_sent_without_a_port(tmp_path: Path) -> None:
    elf = build(tmp_path, "echo.c", board_layer=True)
    command = [sys.executable, "-m", "host", "emulate", str(elf), "--port", "none", "--send", "abc\n", "--until", "abc"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[:3] == ["serial port: none", "hello", "abc"]


@pytest.mark.parametrize(
    ("control", "hertz"),
    [
        (0x08000000, 1_000_000),
        (0x08400000, 32e6 / 31),
        (0x08800000, 32e6 / 30),
        (0x09800000, 32e6 / 26),
        (0x0A000000, 1_280_000),
        (0x0A800000, 32e6 / 24),
    ],
)
def test_microphone_clock_is_the_product_specifications(microphone: Path, control: int, hertz: float) -> None:
    pdm = VirtualBoard(microphone).chip.microphone
    pdm.write(0x504, control)
    clock, divider = pdm.sample_clock
    assert clock / divider == pytest.approx(hertz / 64)


def test_an_endless_loop_ends_at_its_limit_and_says_where(tmp_path: Path) -> None:
    elf = build(tmp_path, "faults.c", flags=["-DFAULT=8"])
    command = [sys.executable, "-m", "host", "emulate", str(elf), "--port", "none", "--until", "0.05"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    last = done.stdout.splitlines()[-1]
    assert (
        last.startswith("stopped at endless+0x")
        and "; last instructions: " in last
        and last.endswith(("]", "endless", "#1"))
    ), last
    assert "CPU load 100.0 %" in done.stdout


def test_any_image_named_by_the_environment_runs_and_tells_its_time(tmp_path: Path) -> None:
    """KWS_ELF: an image of our sketch, such as `pio run -e nano33ble` makes; it is neither changed nor told."""
    given = os.environ.get("KWS_ELF")
    if not given:
        pytest.skip("KWS_ELF names no firmware image to run")
    noise = np.random.default_rng(1).integers(-3000, 3000, 48000).astype(np.int16)
    board = VirtualBoard(given, noise)
    assert board.run(5.0, lambda: b"m-ready" in bytes(board.chip.console.board_to_host)), (
        "no m-ready within 5 s of board time"
    )
    board.take_output()
    board.send(b"listen 3%")
    assert board.run(20.0, lambda: b"m-listened" in bytes(board.chip.console.board_to_host)), board.take_output()
    assert board.take_output().count(b"m-heard-[") == 3
    report = board.report()
    assert 0 < report.cycles_asleep < report.seconds * 64_000_000
    assert board.seconds == pytest.approx((report.cycles_awake + report.cycles_asleep) / 64e6)


@pytest.mark.parametrize("until", ["inf", "-inf", "nan", "-1", "1e400"])
def test_a_time_that_never_comes_is_refused(microphone: Path, until: str) -> None:
    command = [sys.executable, "-m", "host", "emulate", str(microphone), "--port", "none", f"--until={until}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith(f"error: --until {until}: must be seconds of board time")
    assert len(done.stderr.splitlines()) == 1, done.stderr
