"""A virtual board hears what is played to it while it runs, every score and decision as the host's."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from host_cli import Cli, refusal, wav
from voice import spoken

from converter.arrays import Pcm
from host.emulator.peripherals.pdm import LiveSound
from host.firmware_build import ROOT, build_firmware
from host.link.detector import Detector
from host.link.expected import COMMITTED, Listener, listen, load_model
from host.link.protocol import Identity
from host.live.listening import Listening, Step, open_listening
from trainer.data.recordings import resample, to_int16

SPOTTER = COMMITTED[1]
ALSA = Path("/usr/share/alsa/alsa.conf")


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    return build_firmware(ROOT / "firmware" / "generated_spotter", tmp_path_factory.mktemp("spotter"))


def packets(*parts: bytes) -> bytes:
    return b"".join((len(part) // 2).to_bytes(2, "little") + part for part in parts)


def test_live_sound_ends_where_a_recording_does() -> None:
    sound = LiveSound(io.BytesIO(packets(b"abcd", b"ef", b"", b"left", b"over", b"", b"gh")))
    assert sound.take(4) == b"" and sound.ended  # before the first recording begins
    sound.begin()
    assert (sound.take(2), sound.take(4), sound.take(4), sound.ended) == (b"ab", b"cdef", b"", True)
    sound.begin()
    assert sound.take(2) == b"le"
    sound.begin()  # the rest of the recording before is not heard
    assert (sound.take(8), sound.ended, sound.closed) == (b"gh", True, True)
    sound.begin()
    assert sound.take(2) == b"" and sound.ended


def test_a_stream_in_pieces_is_the_stream() -> None:
    model = load_model(SPOTTER)
    pcm = np.random.default_rng(1).normal(0, 900, 40_123).astype(np.int16)
    board = cast(Identity, SimpleNamespace(detector=model.detector))
    listener, at, hops = Listener(model, board), 0, []
    for size in np.random.default_rng(2).integers(0, 1900, 60):
        hops += listener.hear(pcm[at : at + size])
        at += size
    whole = Listener(model, board).hear(pcm[:at])
    assert len(whole) > 50 and [hop.frame for hop in hops] == [hop.frame for hop in whole]
    assert all(
        np.array_equal(a.features, b.features) and a.scores == b.scores for a, b in zip(hops, whole, strict=True)
    )


def played(listening: Listening, pcm: Pcm, thresholds: tuple[int, ...] | None = None) -> list[Step]:
    """What the board makes of a sound; the thresholds are sent at its third second."""
    listening.begin()

    def play() -> None:
        for at in range(0, len(pcm), 700):
            listening.play(pcm[at : at + 700])
        listening.end()

    player = threading.Thread(target=play)
    player.start()
    steps = []
    for step in listening.steps():
        steps.append(step)
        if thresholds and step.heard.frame == 150:
            listening.board.retune(thresholds)
    player.join()
    return steps


def test_board_hears_as_the_host_and_again_and_retuned(elf: Path) -> None:
    model, pcm = load_model(SPOTTER), spoken("yes", "stop")
    with open_listening(str(elf), None) as listening:
        assert model.spec and model.detector
        labels, own = model.spec.labels, listen(model, listening.board.identity, pcm)
        steps = played(listening, pcm)
        assert [step.heard.word for step in steps] == [one.word for one in own]
        assert [labels[one.word] for one in own if one.word is not None] == ["yes", "stop"]
        assert [step.heard.scores for step in steps] == [one.scores for one in own]
        assert all(step.same and step.features is not None for step in steps) and listening.different == 0

        # a second recording begins from a fresh state; in its midst words become too expensive to be heard
        highest = (2040,) * len(model.detector.thresholds)
        steps = played(listening, pcm[: len(pcm) // 320 * 320 - 7000], highest)
        assert [labels[one.heard.word] for one in steps if one.heard.word is not None] == ["yes"]
        assert listening.board.identity.detector == replace(model.detector, thresholds=highest, rates=())
        assert listening.different == 0
        assert {step.heard.lost for step in steps} == {0}


def test_differences_are_counted(elf: Path) -> None:
    """A host with other thresholds than the board's decides otherwise."""
    pcm = spoken("yes")
    with open_listening(str(elf), None) as listening:
        assert listening.board.identity.detector
        mild = replace(listening.board.identity.detector, thresholds=(100, 100))
        listening.board.identity = replace(listening.board.identity, detector=mild)
        steps = played(listening, pcm)
        own = Detector(mild, 4)
        words = [own.step(step.heard.scores) for step in steps]
        assert listening.different == sum(word != step.heard.word for word, step in zip(words, steps, strict=True)) > 0


def test_the_terminal_plays_a_recording(cli: Cli, elf: Path, tmp_path: Path) -> None:
    """A take, which is shorter than what the detector needs to settle and ends with the word."""
    file = wav(tmp_path / "yes.wav", spoken("yes", before_s=0.1, between_s=0.0))
    result = cli("monitor", elf, "--wav", file)
    assert result.code == 0, result.err
    assert "yes.wav begins at 1.50 s, when the detector has settled" in " ".join(result.out.split())
    assert "1 words heard" in result.out and "0 differ from the host's" in result.out and "CPU load" in result.out


def test_a_virtual_board_without_sound_says_so(cli: Cli, elf: Path, tmp_path: Path) -> None:
    assert refusal(cli("monitor", elf)).endswith("add --wav FILE or --mic")
    assert "name one" in refusal(cli("monitor", str(elf), "--mic", "--wav", tmp_path / "x.wav"))
    assert "add --mic" in refusal(cli("monitor", elf, "--wav", tmp_path / "x.wav", "--device", "1"))
    assert "name a run folder" in refusal(cli("monitor", "socket://127.0.0.1:1", "--mic"))
    assert "no generated firmware" in refusal(cli("live", tmp_path, "--no-browser"))


def test_no_microphone_on_this_computer(cli: Cli, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "sounddevice" in refusal(cli("monitor", elf, "--mic"))


REFUSES_16_KHZ = """import sounddevice
settings = sounddevice.check_input_settings
def check(samplerate, **form):
    if samplerate == 16000:
        raise sounddevice.PortAudioError("Invalid sample rate")
    settings(samplerate=samplerate, **form)
sounddevice.check_input_settings = check
"""


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_the_computers_microphone(elf: Path, tmp_path: Path, rate_hz: int) -> None:
    """PortAudio and ALSA as on any computer, the device made of a file; one that does not do 16 kHz gives its own rate,
    which ALSA's all say is 44.1 kHz."""
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: the system's library is missing
        pytest.skip(f"no PortAudio on this machine: {error}")
    if not ALSA.is_file():
        pytest.skip("no ALSA on this machine")
    pcm = to_int16(resample(spoken("yes") / 32768, 16000, rate_hz))
    (tmp_path / "yes.raw").write_bytes(pcm.tobytes())
    (tmp_path / "asound.conf").write_text(
        f"""<{ALSA}>
pcm.kws {{ type plug; slave {{ pcm played; rate {rate_hz}; channels 1; format S16_LE }} }}
pcm.played {{ type file; slave.pcm "null"; file "/dev/null"; infile "{tmp_path}/yes.raw"; format "raw" }}
"""
    )
    environment = {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "COLUMNS": "200"}

    def monitor(device: str) -> subprocess.CompletedProcess[str]:
        words = ["host", "monitor", str(elf), "--mic", "--device", device, "--inferences", "90"]
        script = (REFUSES_16_KHZ if rate_hz != 16000 else "") + "import sys\nfrom host.__main__ import main\nmain()"
        command = [sys.executable, "-c", script.replace("main()", f"sys.argv = {words!r}\nmain()")]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    done = monitor("kws")
    assert done.returncode == 0, done.stderr
    assert "90 inferences, 1 words heard" in done.stdout and "0 differ from the host's" in done.stdout
    done = monitor("none such")
    assert done.returncode == 1 and "--device none such: must fit one microphone, fits 0; there are" in done.stderr
