"""`record`: an ALSA device made of a file, through PortAudio where it is there; a real terminal; what is refused."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from rich.console import Console
from spoken import recording

from converter.arrays import Int16
from converter.commands.microphone import Microphone
from converter.files import alone
from converter.spec import FeatureSpec
from host.emulator.session.launcher import launch
from host.firmware_build import build_firmware
from trainer.data.dataset import load_noise
from trainer.data.recorder import Keys, Recorder, judge, keyboard, uninterrupted
from trainer.data.recordings import read_pcm, resample, to_int16, write_wav
from trainer.data.takes import find_takes, takes_of
from trainer.errors import TrainerError

ROOT = Path(__file__).resolve().parents[2]
ALSA = Path("/usr/share/alsa/alsa.conf")
SPEC, RATE, TRY_S = FeatureSpec(), 16000, 2.5
WORD, NOTHING = recording(TRY_S, [0.8]), recording(TRY_S, [])
LOUD, FAINT = recording(TRY_S, [0.9], level=3.0), recording(TRY_S, [0.9], level=0.0008, noise=0.00001)
OTHER, TWICE, LATE = recording(TRY_S, [1.1], word_s=0.5), recording(TRY_S, [0.3, 1.5]), recording(TRY_S, [1.9])

PLAYED = recording(1.3, [0.3])  # what is heard while a take is played, and a little longer


KWS = ("--device", "kws")  # this computer may have others


def heeds_ctrl_c() -> None:
    """In a child, before it runs: a shell's background jobs are told to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def portaudio() -> bool:
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError):
        return False
    return ALSA.is_file()


needs_alsa = pytest.mark.skipif(not portaudio(), reason="needs PortAudio and ALSA")


def alsa(folder: Path, pcm: Int16) -> dict[str, str]:
    """The environment in which PortAudio's only microphone, `kws`, hears this, as fast as it is asked."""
    pcm.tofile(folder / "microphone.raw")
    device = f'type file\nslave.pcm "null"\nfile /dev/null\ninfile {folder}/microphone.raw\nformat raw'
    (folder / "asound.conf").write_text(f"<{ALSA}>\npcm.kws {{\n{device}\n}}\n")
    return {**os.environ, "ALSA_CONFIG_PATH": str(folder / "asound.conf"), "COLUMNS": "200", "LINES": "24"}


def record(environment: dict[str, str], keys: str, *words: object) -> tuple[int, list[str], str]:
    source = () if {"--device", "--port"} & {*words} else KWS
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "record", *map(str, words), *source],
        cwd=ROOT, env=environment, input=keys, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.returncode, done.stdout.splitlines(), done.stderr


@needs_alsa
def test_takes_are_recorded_judged_dropped_and_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "data"
    environment = alsa(tmp_path, np.concatenate([WORD, NOTHING, LOUD, FAINT, OTHER, PLAYED, TWICE, LATE, WORD]))
    words = ("--word", "computer", "--out", out, "--speaker", "anna")
    code, said, errors = record(environment, "pd\n\n\n\n\npd\n\nd\nq", *words, "--takes", 3)
    assert code == 0 and not errors
    assert [line.split("; ")[0] for line in said] == [
        "kws: 16000 Hz",
        "nothing to play: press Enter and say the word first",
        "nothing to drop: the last try was not kept",
        "kept 1 of 3: anna_nohash_0.wav, 0.61 s",
        "not kept: nothing heard",
        "not kept: clipped",
        "not kept: too quiet (-71 dBFS)",
        "kept 2 of 3: anna_nohash_1.wav, 0.51 s",
        "dropped anna_nohash_1.wav",
        "not kept: 2 words were heard",
        "not kept: cut off",
        "nothing to drop: the last try was not kept",
        "kept 2 of 3: anna_nohash_1.wav, 0.61 s",
        f"{out}/computer: 2 takes by anna, 2 in all",
    ]
    for take in takes_of(out / "computer"):
        assert np.array_equal(read_pcm(take, SPEC), find_takes(WORD, SPEC)[0].pcm)
    environment = alsa(tmp_path, np.concatenate([OTHER, WORD, WORD]))
    code, said, _ = record(environment, "\n\n\n\n", *words, "--takes", 3)  # the second Enter ends
    assert code == 0 and said[1:] == [
        "kept 3 of 3: anna_nohash_2.wav, 0.51 s",
        f"{out}/computer: 3 takes by anna, 3 in all",
    ]
    code, said, _ = record(environment, "", *words, "--takes", 3)
    assert code == 0 and len(said) == 2
    code, said, _ = record(environment, "\nq", *words[:4], "--takes", 1)  # another speaker's are counted apart
    assert code == 0 and said[-1] == f"{out}/computer: 1 takes by me, 4 in all"


@needs_alsa
def test_room_sound_is_recorded_in_files_that_training_takes(tmp_path: Path) -> None:
    out = tmp_path / "data"
    room = recording(80, [])
    code, said, errors = record(alsa(tmp_path, room), "", "--room", "1.2", "--out", out)
    assert code == 0 and not errors
    files = [out / "_background_noise_" / f"room_{number}.wav" for number in range(2)]
    assert said[1:] == [f"kept {file}, 36 s" for file in files]
    assert np.array_equal(np.concatenate([load_noise(file, SPEC) for file in files]), room[: 72 * RATE])
    code, said, _ = record(alsa(tmp_path, np.zeros(20 * RATE, np.int16)), "", "--room", "0.2", "--out", out)
    assert code == 0 and "gives no sound at all" in said[1]
    both = np.concatenate([recording(12, []), WORD])
    code, said, _ = record(alsa(tmp_path, both), "\nq", "--room", "0.2", "--word", "computer", "--out", out)
    assert said[1] == f"kept {out}/_background_noise_/room_2.wav, 12 s" and said[2].startswith("kept 1 of 30: ")


@needs_alsa
def test_what_cannot_be_recorded_from_is_one_sentence(tmp_path: Path) -> None:
    environment, out = alsa(tmp_path, WORD), tmp_path / "data"
    for words, says in (
        (("--word", "computer", "--device", "none such"), "must fit one microphone, fits 0; there are "),
        ((), "needs something to record"),
        (("--word", "a/b"), "without slashes"),
        (("--word", "computer", "--speaker", "a/b"), "a speaker's name"),
    ):
        code, _, errors = record(environment, "", "--out", out, *words)
        assert code == 1 and says in errors and len(errors.splitlines()) == 1 and not out.exists()
    config = Path(environment["ALSA_CONFIG_PATH"])
    config.write_text("".join(config.read_text().splitlines(keepends=True)[1:]))  # without the system's: none opens
    code, _, errors = record(environment, "", "--out", out, "--word", "computer", "--device", "0")
    assert code == 1 and "none was found" in errors and len(errors.splitlines()) == 1


def test_without_portaudio_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    script = (
        "import ctypes.util, sys\nctypes.util.find_library = lambda name: None\nfrom trainer.__main__ import app\n"
        "app(['record', '--word', 'computer', '--out', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "data"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "needs PortAudio" in done.stderr and "apt-get install libportaudio2" in done.stderr


@needs_alsa
def test_ctrl_c_at_a_terminal_loses_no_take_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    import pty
    import termios

    def at_its_terminal() -> None:
        heeds_ctrl_c()
        os.close(os.open(os.ttyname(0), os.O_RDWR))

    out = tmp_path / "data"
    environment = alsa(tmp_path, np.tile(WORD, 240))
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    command = [sys.executable, "-m", "trainer", "record", "--word", "computer", "--out", str(out), "--takes", "9", *KWS]
    session = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=at_its_terminal,
    )  # fmt: skip
    try:
        shown = _shown_until(master, b"take 1 of 9: Enter, then say 'computer'")
        assert b"dBFS" in shown
        for _ in range(30):
            os.write(master, b"\n")
            shown = _shown_until(master, b"kept")
            if b"not kept" not in shown:
                break
        assert b"speak now" in shown
        os.write(master, b"\x03")
        _shown_until(master, b"interrupted; start the same command again to continue")
        assert session.wait(20) == 130
        assert termios.tcgetattr(slave)[3] == before[3]
    finally:
        session.kill()
        os.close(master)
        os.close(slave)
    (take,) = takes_of(out / "computer")
    assert len(read_pcm(take, SPEC)) == RATE


def _shown_until(master: int, wanted: bytes) -> bytes:
    shown, deadline = b"", time.monotonic() + 60
    while wanted not in shown:
        assert select.select([master], [], [], max(0, deadline - time.monotonic()))[0], shown[-500:]
        shown += os.read(master, 65536)
    return shown


@needs_alsa
def test_a_stopped_recording_of_the_room_keeps_what_was_heard(tmp_path: Path) -> None:
    out = tmp_path / "data"
    command = [sys.executable, "-m", "trainer", "record", "--room", "600", "--out", str(out), *KWS]
    with subprocess.Popen(
        command, cwd=ROOT, env=alsa(tmp_path, recording(30, [])), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        preexec_fn=heeds_ctrl_c,
    ) as session:  # fmt: skip
        assert session.stdout is not None
        assert session.stdout.readline()  # the name: it listens
        deadline = time.monotonic() + 60
        while len(list(out.rglob("room_*.wav"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        session.send_signal(signal.SIGINT)
        assert session.wait(20) == 130
    files = sorted(out.rglob("*"))
    assert len(files) >= 3 and not [file for file in files if file.name.startswith(".")]
    for file in files[1:]:
        assert len(load_noise(file, SPEC)) >= 11 * RATE


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    return build_firmware(ROOT / "firmware" / "generated", tmp_path_factory.mktemp("board"))


def test_takes_by_a_boards_own_microphone(elf: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "data", os.environ | {"COLUMNS": "200"}
    write_wav(tmp_path / "said.wav", np.concatenate([WORD, LOUD, OTHER]))
    words = ("--word", "computer", "--out", out, "--speaker", "anna")
    with launch(elf, [tmp_path / "said.wav"], baud=1_000_000) as url:
        code, lines, errors = record(said, "\n\n\nq", *words, "--port", url)
        assert code == 0 and not errors and lines[0] == f"nrf52840-bare at {url}: 16000 Hz"
        assert [line.split(",")[0].split("; ")[0] for line in lines[1:4]] == [
            "kept 1 of 30: anna_nohash_0.wav",
            "not kept: clipped",
            "kept 2 of 30: anna_nohash_1.wav",
        ]
        code, lines, _ = record(said, "\nq", *words, "--takes", 3, "--port", url)  # a start plays it anew
        assert code == 0 and lines[1].startswith("kept 3 of 3: ")
    for file, pcm in zip(takes_of(out / "computer"), (WORD, OTHER, WORD), strict=True):
        assert np.array_equal(read_pcm(file, SPEC), find_takes(pcm, SPEC)[0].pcm)
    with launch(elf, [tmp_path / "said.wav"]) as url:  # 115200 baud
        code, lines, _ = record(said, "\nq", *words, "--port", url)
        assert (
            code == 0 and "samples were lost" in lines[1] and "USB" in lines[1] and len(takes_of(out / "computer")) == 3
        )
    for port, says in (
        (str(elf), "hears recordings only; start it with one"),
        ("socket://127.0.0.1:1", "nobody listens there"),
    ):
        code, _, errors = record(said, "", *words, "--port", port)
        assert code == 1 and says in errors and len(errors.splitlines()) == 1
    with launch(elf) as url:
        code, _, errors = record(said, "", *words, "--port", url)
        assert code == 1 and "no microphone" in errors and len(errors.splitlines()) == 1


def test_two_sessions_in_one_folder_are_told_of_each_other(tmp_path: Path) -> None:
    for place in ("computer", "_background_noise_"):
        with alone(tmp_path / place):
            code, _, errors = record({**os.environ}, "", "--word", "computer", "--room", "1", "--out", tmp_path)
            assert code == 1 and f"{place}: another command is at work in it" in errors


def heard(pcm: Int16, rate_hz: int = RATE, lost: bool = False) -> Microphone:
    def blocks() -> Iterator[tuple[Int16, bool]]:
        for start in range(0, len(pcm), rate_hz // 10):
            yield pcm[start : start + rate_hz // 10], lost

    return Microphone("a test", rate_hz, blocks())


def keys(text: str) -> Callable[[], str | None]:
    left = iter(text)
    return lambda: next(left, "q")


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_arrows_and_function_keys_are_no_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "rb") as stdin, keyboard_of(stdin, monkeypatch) as pressed:
        for sent, wanted in ((b"\x1b[D", None), (b"d", "d"), (b"\x1bOP", None), (b"\x1bOQ", None), (b"\n", "\n")):
            os.write(master, sent)
            select.select([stdin], [], [], 2)
            assert pressed() == wanted, sent
        assert pressed() is None
    os.close(master)


def keyboard_of(stdin: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[Keys]:
    monkeypatch.setattr(sys, "stdin", stdin)
    return keyboard()


def test_keys_that_end_before_the_takes_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "said").open("w") as file, Path(os.devnull).open("rb") as stdin:
        with keyboard_of(stdin, monkeypatch) as pressed, pytest.raises(TrainerError, match="0 of 2 takes, and no more"):
            Recorder(heard(WORD), pressed, lambda pcm, rate: None, Console(file=file)).takes(tmp_path / "w", "anna", 2)
        left = iter(["\n", ""])
        session = Recorder(heard(WORD), lambda: next(left), lambda pcm, rate: None, Console(file=file))
        assert session.takes(tmp_path / "w", "anna", 1) == 1


def test_a_microphone_of_another_rate_gives_the_same_take(tmp_path: Path) -> None:
    quick = to_int16(resample(WORD / 32768, RATE, 48000))
    with (tmp_path / "said").open("w") as file:
        session = Recorder(heard(quick, 48000), keys("\n"), lambda pcm, rate: None, Console(file=file))
        assert session.takes(tmp_path / "computer", "anna", 5) == 1
    (take,) = takes_of(tmp_path / "computer")
    difference = read_pcm(take, SPEC).astype(np.int32) - find_takes(WORD, SPEC)[0].pcm
    assert np.abs(difference).max() < 400


def test_a_try_with_lost_samples_is_refused_and_played_back_whole(tmp_path: Path) -> None:
    played: list[Int16] = []
    with (tmp_path / "said").open("w") as file:
        session = Recorder(
            heard(WORD, lost=True), keys("\np"), lambda pcm, rate: played.append(pcm), Console(file=file)
        )
        assert session.takes(tmp_path / "computer", "anna", 5) == 0
    assert "samples were lost" in (tmp_path / "said").read_text()
    assert np.array_equal(played[0], WORD)


def test_clicks_beside_a_word_do_not_matter() -> None:
    clicked = WORD.copy()
    clicked[2000:2100] = 9000
    assert not judge(clicked, SPEC).fault and "muted" in judge(np.zeros(40000, np.int16), SPEC).fault
    clicked = NOTHING.copy()
    clicked[2000:2100] = 9000
    assert judge(clicked, SPEC).fault.startswith("nothing heard")


def test_ctrl_c_waits_while_a_take_is_written() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append("to its end")
    assert done and signal.getsignal(signal.SIGINT) is before
