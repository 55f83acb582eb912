"""The host's commands against the real firmware image on the virtual board: the ARM build says what the host computes,
bit for bit."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from host_cli import Cli, refusal, sound, wav
from protocol_session import GOLDEN, Wire, transcript
from sketch_on_host import DETECTOR, ROOT, tinyconv, write_model

from converter.spec import DetectorSpec, KwsSpec
from converter.tflite.writer import write_tflite
from host.emulator.board import VirtualBoard
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import build_firmware
from host.link.client import Board, connect
from host.link.expected import Decision, listen, load_model
from host.link.protocol import Heard, Record, Run, parse_line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def elf(folder: Path) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    return build_firmware(write_model(folder / "model", tinyconv()), folder / "build")


@pytest.fixture(scope="module")
def elf_that_listens(elf: Path, folder: Path) -> Path:
    """The same sketch with its own value of KWS_LISTEN_AT_BOOT, as on the real board."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLATFORMIO_BUILD_FLAGS", "-UKWS_LISTEN_AT_BOOT")
        return build_firmware(folder / "model", folder / "listens")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    (folder / "own.tflite").write_bytes(write_tflite(tinyconv()))
    return folder / "own.tflite"


def test_golden_transcript(elf: Path) -> None:
    """The ARM image answers every command as the sketch on this machine does: CRCs, features, scores, refusals."""
    with launch(elf) as url:
        wire = Wire(url)
        assert wire.reply()[-1] == "m-ready"
        found = transcript(wire)
        wire.socket.close()
    assert found.splitlines() == GOLDEN.read_text().splitlines()


def test_profile(cli: Cli, elf: Path, tmp_path: Path) -> None:
    result = cli("profile", elf, "--runs", 30, "--layers", "--json", tmp_path / "p.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["modelled"] and "modelled: virtual board" in result.out
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert [stages[name]["n"] for name in ("pre (slice)", "pre", "inference", "post")] == [30] * 4
    for stage, without in zip(found["stages"], found["uncached"], strict=True):
        assert stage["min_us"] <= stage["mean_us"] <= stage["max_us"] < 1e6
        if stage["name"] != "post":  # some 350 cycles, whose lines the cache has given away in between
            assert stage["mean_us"] < without["mean_us"], "the cache must help"
        assert abs(stage["mean_us"] / 1000 - stage["mean_ms"]) < 1, "the two clocks agree within millis()'s resolution"
    assert 1.8 < stages["pre"]["mean_us"] / stages["pre (slice)"]["mean_us"] < 2.2
    in_layers = sum(layer["cycles"] for layer in found["layers"])
    assert stages["inference"]["mean_cycles"] == pytest.approx(in_layers, rel=0.1)
    shares, streamed = found["hop_shares"], stages.get("inference (stream)", stages["inference"])
    hop_us = 20_000 * DetectorSpec.untuned(2).hop_frames
    assert shares["inference"] == pytest.approx(100 * streamed["mean_us"] / hop_us)
    assert sum(shares.values()) == pytest.approx(100) and shares["post"] < shares["pre"] < shares["inference"] < 10
    assert f"rest {shares['rest']:.2f} %" in " ".join(result.out.split())
    assert 0 < found["memory"]["stack_high_water"] < 16384 and found["memory"]["flash"] > 20000


def test_profile_draws_the_roofline(cli: Cli, elf: Path, model: Path, tmp_path: Path) -> None:
    """A row per layer that does arithmetic, the roof's caption and a picture; without --run a foreign model has none of
    it."""
    found, picture = tmp_path / "p.json", tmp_path / "roofline.png"
    result = cli("profile", elf, "--runs", 1, "--layers", "--run", model, "--plot", picture, "--json", found)
    assert result.code == 0, result.err
    profile = json.loads(found.read_text())
    conv, dense = profile["roofline"]
    assert (conv["name"], conv["operations"], conv["bytes"]) == (
        "conv",
        2 * 4000 * 80 + 4000,
        640 + 4 * 8 + 1960 + 4000,
    )
    assert (dense["operations"], dense["bytes"]) == (2 * 16000 + 4, 16000 + 4 * 4 + 4000 + 4)
    cycles = {layer["name"]: layer["cycles"] for layer in profile["layers"]}
    for point in (conv, dense):
        assert point["mops"] == pytest.approx(point["operations"] / cycles[point["name"]] * 64)
        assert point["roof_mops"] == 256 and point["bound"] == "compute" and 0 < point["share_of_roof"] <= 1
    words = " ".join(result.out.split())
    assert "roof" in words and "2,641 us: compute bound" in words
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size < 200_000
    result = cli("profile", elf, "--runs", 1, "--layers")
    assert result.code == 0 and "no roofline: name the board's model with --run" in result.out


def test_roofline_of_another_model_is_refused(cli: Cli, elf: Path, tmp_path: Path) -> None:
    result = cli("profile", elf, "--runs", 1, "--plot", tmp_path / "roofline.png")
    assert result.code == 1 and "the board holds model" in result.err and not (tmp_path / "roofline.png").exists()


def test_infer_layers_equal(cli: Cli, elf: Path, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(8).integers(-128, 128, (49, 40)).astype(np.int8))
    for file in (tmp_path / "x.npy", wav(tmp_path / "short.wav", sound(0.2))):
        result = cli("infer", elf, file, "--layers", "--run", model, "--json", tmp_path / "i.json")
        assert result.code == 0, result.err
        assert json.loads((tmp_path / "i.json").read_text())["differences"] == 0


def test_stream_equals_the_host(cli: Cli, elf: Path, model: Path, tmp_path: Path) -> None:
    pcm = sound(0.9, 3)
    pcm[1600:13000] = 0
    result = cli("stream", elf, wav(tmp_path / "s.wav", pcm), "--run", model, "--json", tmp_path / "s.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["compared"] and found["different"] == 0 and len(found["heard"]) == 22


def test_microphone_equals_the_host(elf: Path, model: Path, tmp_path: Path) -> None:
    pcm = sound(6.0, 4)
    with connect(str(elf), [wav(tmp_path / "mic.wav", pcm)]) as board:
        heard = list(board.listen(140))
        assert [Decision.of(item) for item in heard] == listen(load_model(model), board.identity, pcm)[:140]
        assert {item.lost for item in heard} == {0}
        assert any(item.word is not None for item in heard), "no word was heard, so decisions were not tried"
        assert all(item.pre_cycles and item.infer_cycles and item.post_cycles for item in heard)


def test_listening_from_power_up_costs_the_host_no_audio(elf_that_listens: Path, model: Path, tmp_path: Path) -> None:
    """On an image that listens by itself, as the real board's does, each listening of a host begins where the recording
    does."""
    pcm = sound(3.0, 4)
    with connect(str(elf_that_listens), [wav(tmp_path / "mic.wav", pcm)]) as board:
        expected = listen(load_model(model), board.identity, pcm)[:60]
        for _ in range(2):
            heard = list(board.listen(60))
            assert [Decision.of(item) for item in heard] == expected and heard[-1].lost == 0


def test_a_host_that_comes_late_hears_the_recording_from_its_beginning(elf_that_listens: Path, elf: Path) -> None:
    boards = [VirtualBoard(image, sound(3.0, 4)) for image in (elf_that_listens, elf)]
    heard = []
    for board in boards:
        board.run(0.3)
        board.take_output()
        alone = board.chip.microphone.delivered
        assert (alone > 3000) == (board is boards[0]), "one image listens from power-up, the other does not"
        board.send(b"%listen 40%")
        board.run(2.5)
        lines = [line for line in board.take_output().split(b"\r\n") if line.startswith(b"m-heard")]
        heard.append(
            [Decision.of(Heard.of(record, 4, 4)) for line in lines if isinstance(record := parse_line(line), Record)]
        )
        assert board.report().microphone_samples > alone + 40 * 640, "the report counts all that the microphone gave"
    assert heard[0] == heard[1] and len(heard[0]) == 40


def test_trial_by_microphone(cli: Cli, elf: Path, model: Path, tmp_path: Path) -> None:
    for index, label in enumerate(("yes", "stop", "_silence_")):
        wav(tmp_path / label / "a.wav", sound(1.0, index))
    result = cli(
        "trial",
        elf,
        *(tmp_path / label for label in ("yes", "stop", "_silence_")),
        "--times",
        2,
        "--run",
        model,
        "--json",
        tmp_path / "t.json",
    )
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "t.json").read_text())
    assert [row["expected"] for row in found["attempts"]] == ["yes", "stop", "silence"] * 2
    assert found["different"] == 0 and all(row["inferences"] >= 49 for row in found["attempts"])


def test_what_the_microphone_hears_is_what_the_host_gets(elf: Path, tmp_path: Path) -> None:
    """Bit for bit over a line as fast as USB; over one that is too slow what was lost is said."""
    pcm = sound(3.0, 6)
    for baud in (1_000_000, 0):
        with launch(elf, [wav(tmp_path / "mic.wav", pcm)], baud=baud) as url, Board(url) as board:
            steps = list(board.record(150))
            assert np.array_equal(np.concatenate([one for one, _ in steps]), pcm) == (baud > 0)
            assert any(lost for _, lost in steps) == (baud == 0) and not steps[0][1]


def test_microphone_is_not_starved_by_commands(elf: Path, tmp_path: Path) -> None:
    """Commands that print much, while the board listens, cost no audio."""
    with connect(str(elf), [wav(tmp_path / "mic.wav", sound(4.0, 5))]) as board:
        list(board.lines("listen 60"))
        board._write("help%id%memory%" * 4)
        lines = iter(lambda: board._line("listening"), None)
        end = next(line for line in lines if isinstance(line, Record) and line.key == "listened")
        assert end.fields == ("60", "0")


def test_led_shows_the_word(elf: Path) -> None:
    """Dark until the first word, then its colour (green for the first word of the model, red for the second)."""
    pins = {"green": 16, "red": 24, "blue": 6}
    board = VirtualBoard(elf, pcm=sound(6.0, 4))
    lit: list[tuple[int, set[str]]] = []
    text = bytearray()

    def look() -> bool:
        text.extend(board.take_output())
        now = {name for name, pin in pins.items() if not board.chip.pins.get("P0", 0xFFFFFFFF) >> pin & 1}
        if not lit or lit[-1][1] != now:
            lit.append((text.count(b"m-heard"), now))
        return b"m-listened" in text

    board.send(b"%listen 140%")
    assert board.run(30.0, look)
    words = [
        Heard.of(record, 4, 4)
        for line in bytes(text).split(b"\r\n")
        if line.startswith(b"m-heard")
        if isinstance(record := parse_line(line), Record)
    ]
    colours = [{2: {"green"}, 3: {"red"}}[item.word] for item in words if item.word is not None]
    shown = [colour for _, colour in lit if colour]
    assert colours and lit[0][1] == set()
    assert [colour for index, colour in enumerate(colours) if index == 0 or colours[index - 1] != colour] == [
        colour for index, colour in enumerate(shown) if index == 0 or shown[index - 1] != colour
    ]


def test_no_microphone(cli: Cli, elf: Path) -> None:
    with launch(elf) as url:
        assert refusal(cli("monitor", url)).endswith("no microphone")


def test_board_switched_off_during_a_command(elf: Path) -> None:
    with contextlib.ExitStack() as power:
        board = Board(power.enter_context(launch(elf)))
        board.load_pcm(sound(0.1))
        records = board.lines("runs 100000")
        next(records)
        power.close()
        with pytest.raises(HostError, match="the board disappeared during runs 100000%"):
            list(records)
        board.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
@pytest.mark.parametrize("stopped", ["by Ctrl-C", "killed", "in the middle of a command"])
def test_the_board_is_in_step_at_once_after_a_host_that_stopped(
    cli: Cli, elf: Path, model: Path, tmp_path: Path, stopped: str
) -> None:
    """Long runs with the instruction cache off are under way; the next host gets its own answers, at the cache's
    speed."""

    def stop(run: Run) -> None:
        if run.index == 20:
            raise KeyboardInterrupt  # as Ctrl-C does; the workers of a parallel run are deaf to the signal

    recording = wav(tmp_path / "s.wav", sound(0.5))
    with launch(elf, port="pty") as port:
        with Board(port) as board:
            board.load_pcm(sound(0.3))
            fast = max(run.pre_cycles for run in board.runs(5))  # the front end runs from flash
            board.cache(False)
            assert min(run.pre_cycles for run in board.runs(5)) > 1.05 * fast, "the cache is off"
        if stopped == "by Ctrl-C":
            with pytest.raises(KeyboardInterrupt), Board(port) as board:
                board.load_pcm(sound(0.3))
                board.cache(False)
                board.runs(1_000_000, stop)
        else:
            board = Board(port)
            board.load_pcm(sound(0.3))
            board.cache(False)
            records = board.lines("runs 1000000")
            assert isinstance(next(records), Record)
            if stopped != "killed":
                board._write("garbage \x01%\r\nnonsense 12 %%% detector -9 -9")  # the last one half sent
            board.close()
        began = time.monotonic()
        with Board(port) as board:
            waited = time.monotonic() - began
            assert board.detector().thresholds == DETECTOR.thresholds, "what was half sent is no command"
            board.load_pcm(sound(0.3))
            assert max(run.pre_cycles for run in board.runs(5)) < 1.02 * fast
        result = cli("infer", port, recording, "--layers", "--run", model, "--json", tmp_path / "i.json")
        assert result.code == 0 and json.loads((tmp_path / "i.json").read_text())["differences"] == 0, result.err
        assert waited < 10, "a million runs take hours"


def test_words_of_other_alphabets_from_conversion_to_the_hosts_commands(cli: Cli, tmp_path: Path) -> None:
    words = ("größe", "да")
    graph = tinyconv(spec=KwsSpec.of_words(words))
    (tmp_path / "own.tflite").write_bytes(write_tflite(graph))
    image = build_firmware(write_model(tmp_path / "model", graph), tmp_path / "build")
    for number, word in enumerate(words):
        wav(tmp_path / "clips" / word / "a.wav", sound(1.0, number))
    with launch(image) as port:
        with Board(port) as board:
            assert board.identity.labels == ("silence", "unknown", *words)
        result = cli("infer", port, tmp_path / "clips" / "да" / "a.wav", "--layers", "--run", tmp_path / "own.tflite")
        assert result.code == 0 and "größe" in result.out and "да" in result.out, result.err
        result = cli("trial", port, tmp_path / "clips", "--times", 1, "--run", tmp_path / "own.tflite")
        assert result.code == 0 and re.search("größe [01]/1, да [01]/1|да [01]/1, größe [01]/1", result.out), result.err
        with pytest.MonkeyPatch.context() as patch:  # a terminal that has neither letter
            patch.setenv("PYTHONIOENCODING", "ascii")
            command = [sys.executable, "-m", "host", "tune", port]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0 and b"thresholds: gr??e 60, ?? 60" in done.stdout, done.stderr


def test_missing_elf(cli: Cli, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(cli("profile", tmp_path / "none.elf"))
