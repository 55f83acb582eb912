"""`python -m host live`: a browser's microphone into the virtual board; what the server refuses; what it keeps."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import browser
from host_cli import sound, wav
from sketch_on_host import build, running, tinyconv, write_model
from voice import spoken
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from converter.audio.wav import read_wav
from converter.files import WriteError
from host.errors import HostError
from host.firmware_build import ROOT, build_firmware
from host.link.expected import COMMITTED, listen, load_model
from host.link.protocol import Identity
from host.live import server
from host.live.takes import NEGATIVES, loudest_second, save_take

SPOTTER = COMMITTED[1]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    return build(folder / "build", write_model(folder / "model", tinyconv()), ("-O2",))


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    return build_firmware(ROOT / "firmware" / "generated_spotter", tmp_path_factory.mktemp("spotter"))


@dataclass
class Served:
    """A running `host live`."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    @property
    def token(self) -> str:
        return urlsplit(self.address).query.removeprefix("token=")

    @contextmanager
    def socket(
        self, token: str | None = None, origin: str | None = None, host: str = "127.0.0.1"
    ) -> Iterator[ClientConnection]:
        """host: the name that a browser believes to have reached."""
        address = f"ws://{host}:{self.port}/board?token={self.token if token is None else token}"
        wire = socket.create_connection(("127.0.0.1", self.port))
        with connect(address, sock=wire, origin=None if origin is None else Origin(origin), open_timeout=20) as found:
            yield found

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        asked.request(method, path, headers=headers)
        answer = asked.getresponse()
        return answer.status, answer.read().decode()

    def stop(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, errors = self.process.communicate(timeout=30)
        return self.process.returncode, out, errors


@contextmanager
def served(*arguments: object, show: dict[str, str] | None = None) -> Iterator[Served]:
    """show: the environment of a command that opens a browser."""
    command = [sys.executable, "-m", "host", "live", *map(str, arguments), *(() if show else ("--no-browser",))]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=show)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{20,}", address), address + process.communicate()[1]
        yield Served(process, address)
    finally:
        process.kill()
        process.communicate()


def until(page: ClientConnection, key: str) -> Any:
    while key not in (message := json.loads(page.recv(timeout=30))):
        pass
    return message


def test_a_word_appears_on_the_page(elf: Path, tmp_path: Path) -> None:
    """Words in the browser's microphone; the page's decisions are the host's on the sound that was played, which is
    kept as it was."""
    microphone = wav(tmp_path / "words.wav", spoken("yes", "stop"), 16000)
    with (
        served(elf, "--save", tmp_path / "takes") as live,
        browser(tmp_path / "profile", microphone) as page,
    ):
        page.size(1280, 900)
        page.ask("Page.navigate", url=live.address)
        page.wait("document.querySelector('#start')?.disabled === false")
        page.run("document.querySelector('#start').click()")
        page.wait("document.querySelectorAll('#heard li').length >= 2")
        page.wait("document.querySelector('#now').innerText === 'stop'", 2)
        assert page.run("document.querySelector('#led').classList.contains('lit')")
        page.picture(tmp_path / "lit.png")
        assert "are off" in page.run("document.querySelector('#input').innerText")
        assert page.run("document.querySelector('#accepts').innerText") == "0.5 an hour"
        slide = "document.querySelector('#rate').value = 5; document.querySelector('#rate').oninput({target: "
        page.run(slide + "document.querySelector('#rate')})")
        page.wait("document.querySelector('#accepts').innerText === '5 an hour'")
        page.run("document.querySelector('#seconds').value = 60; document.querySelector('#labels').lastChild.click()")
        page.wait("document.querySelector('#saved').innerText.includes('live_nohash_0.wav')")
        heard = page.run("[...document.querySelectorAll('#heard li')].map((item) => item.innerText)")
        drawn = page.run(
            "new Set(document.querySelector('#features').getContext('2d').getImageData(0, 0, 600, 200).data).size"
        )
        assert drawn > 30  # colours of a spectrogram
        assert re.search(r"\d+ inferences, 0 differ", page.run("document.querySelector('#equal').innerText"))
        page.size(390, 844)
        assert page.run("document.documentElement.scrollWidth") <= 390
        page.run("document.querySelector('#start').click()")
        page.wait("document.querySelector('#now').innerText === 'Stopped'")
        code, out, errors = live.stop()
        page.wait("[...document.querySelectorAll('button')].every((button) => button.disabled)")  # nobody would answer
    assert (code, errors) == (0, "") and re.search(r"\d+ inferences, 2 words heard, 0 differ from the host's", out), out
    model = load_model(SPOTTER)
    kept = read_wav(tmp_path / "takes" / f"{NEGATIVES}_yes_stop" / "live_nohash_0.wav")
    board = cast(Identity, SimpleNamespace(detector=model.detector))
    assert model.spec
    labels = model.spec.labels
    own = listen(model, board, kept)
    told = [f"{one.frame * 0.02:.2f} s {labels[one.word]}" for one in own if one.word is not None]
    assert [" ".join(item.split()[:3]) for item in reversed(heard)] == told
    assert [item.split()[2] for item in reversed(heard)] == ["yes", "stop"]


@pytest.fixture
def live(program: Path, tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "mic.raw").write_bytes(sound(60.0, 4).tobytes())
    with running(program, KWS_MIC=str(tmp_path / "mic.raw")) as url, served(url) as live:
        yield live
        live.stop()


def test_only_the_page_is_served(live: Served) -> None:
    token = f"?token={live.token}"
    status, html = live.ask(f"/{token}")
    assert status == 200 and "<canvas" in html and "http" not in html.replace("http-equiv", "")  # nothing is fetched
    for path in re.findall(r'(?:src|href)="(live[^"]+)"', html):
        assert live.ask(f"/{path}")[0] == 200
    assert live.ask(f"/mic.js{token}")[0] == 200 and live.ask(f"/server.py{token}")[0] == 404
    own = {"Origin": f"http://127.0.0.1:{live.port}"}
    assert live.ask(f"/{token}", **own)[0] == 200 and live.ask(f"/{token}", "POST", **own)[0] == 405
    refused: list[tuple[str, dict[str, str]]] = [
        ("/", {}),
        ("/?token=", {}),
        ("/?token=wrong", {}),
        ("/live.js", {}),
        (f"/{token}", {"Origin": "http://evil.example"}),
        (f"/{token}", {"Origin": f"http://127.0.0.1:{live.port + 1}"}),
        (f"/{token}", {"Origin": "null"}),
        (f"/{token}", {"Host": "evil.example"}),
        (f"/{token}", {"Host": f"evil.example:{live.port}"}),
    ]
    for path, headers in refused:
        for method in ("GET", "POST"):
            status, text = live.ask(path, method, **headers)
            assert status == 403 and live.token not in text, (path, headers)
    for given, origin, host in (
        ("wrong", None, "127.0.0.1"),
        (None, "http://evil.example", "127.0.0.1"),
        (None, None, "evil.example"),
    ):
        with pytest.raises(InvalidStatus, match="403"), live.socket(given, origin, host):
            pass
    others = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    for address in [one for one in others if ":" not in one]:
        with pytest.raises(OSError):
            http.client.HTTPConnection(address, live.port, timeout=5).request("GET", "/")


def test_the_browsers_command_line_opens_the_page_once(program: Path, tmp_path: Path) -> None:
    """Who reads it there later has nothing."""
    (tmp_path / "mic.raw").write_bytes(bytes(32000))
    (tmp_path / "browser").write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    (tmp_path / "browser").chmod(0o755)
    environment = {**os.environ, "BROWSER": f"{tmp_path}/browser %s", "DISPLAY": ":0"}
    with running(program, KWS_MIC=str(tmp_path / "mic.raw")) as url, served(url, show=environment) as live:
        while not (tmp_path / "opened").is_file() or not (opened := (tmp_path / "opened").read_text().strip()):
            time.sleep(0.05)
        ticket = urlsplit(opened).query
        assert live.token not in opened and ticket.startswith("ticket=") and len(ticket) > 30
        assert live.ask("/?ticket=")[0] == live.ask("/live.js?ticket=wrong")[0] == 403
        assert live.ask(f"/?{ticket}", Origin="http://evil.example")[0] == 403
        assert live.ask(f"/?{ticket}", Host="evil.example")[0] == 403
        asked = http.client.HTTPConnection("127.0.0.1", live.port, timeout=20)
        asked.request("GET", f"/?{ticket}")
        answer = asked.getresponse()
        assert (answer.status, answer.headers["Location"]) == (303, f"/?token={live.token}")
        assert answer.headers["Cache-Control"] == "no-store"
        assert live.ask(f"/?{ticket}")[0] == 403 and live.ask(f"/?token={live.token}")[0] == 200
        live.stop()


def test_a_board_with_its_own_microphone(live: Served) -> None:
    """No sound of the page is asked for; one page at a time; what is no command is said; thresholds change at once."""
    with live.socket() as page:
        hello = until(page, "labels")
        assert hello["own_microphone"] and hello["labels"] == ["silence", "unknown", "yes", "stop"]
        step = until(page, "step")
        assert step["features"] is None and len(step["scores"]) == 4 and 0 < step["load"] < 10
        with live.socket() as other:
            assert "another page" in until(other, "error")["error"]
        for text in ("", "[]", "{}", '{"do": "thresholds", "row": 99}', '{"do": "save", "label": 1}', "\x00"):
            page.send(text)
            assert "no command" in until(page, "error")["error"], text
        page.send(json.dumps({"do": "save", "label": "../x", "seconds": 1}))
        assert "none of the model's words" in until(page, "error")["error"]
        page.send(json.dumps({"do": "save", "label": "yes", "seconds": 1}))
        assert "no sound" in until(page, "error")["error"]
        page.send(json.dumps({"do": "thresholds", "row": 0}))
        while (step := until(page, "step"))["thresholds"] != hello["rows"][0]["thresholds"]:
            pass
        assert step["rate"] == f"{hello['rows'][0]['rate']:g} an hour" and step["different"] == 0
    with live.socket() as again:  # a page that was reloaded
        assert until(again, "step")["different"] == 0
    code, out, errors = live.stop()
    assert code == 0 and errors == "" and "0 differ from the host's" in out


def test_a_dead_board_is_one_sentence(program: Path, tmp_path: Path) -> None:
    (tmp_path / "mic.raw").write_bytes(sound(60.0, 4).tobytes())
    with contextlib.ExitStack() as power, contextlib.ExitStack() as stack:
        url = power.enter_context(running(program, KWS_MIC=str(tmp_path / "mic.raw")))
        live = stack.enter_context(served(url))
        page = stack.enter_context(live.socket())
        until(page, "step")
        power.close()
        told = until(page, "error")
        assert told["ended"] and "disappeared" in told["error"]
        _, errors = live.process.communicate(timeout=30)
        assert live.process.returncode == 1 and errors == f"error: {told['error']}\n"


def test_takes_never_overwrite(tmp_path: Path) -> None:
    pcm = sound(3.0, 1)
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "live_nohash_1.wav").write_bytes(b"mine")
    made: list[Path] = []
    savers = [threading.Thread(target=lambda: made.append(save_take(tmp_path, "yes", pcm))) for _ in range(8)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert sorted(file.name for file in made) == [f"live_nohash_{n}.wav" for n in (0, 2, 3, 4, 5, 6, 7, 8)]
    assert (tmp_path / "yes" / "live_nohash_1.wav").read_bytes() == b"mine"
    assert all(np.array_equal(read_wav(file), pcm) for file in made)
    with pytest.raises(HostError, match="no sound"):
        save_take(tmp_path, "yes", pcm[:0])
    assert {file.name for file in (tmp_path / "yes").iterdir()} == {f"live_nohash_{n}.wav" for n in range(9)}
    with pytest.raises(WriteError, match="cannot be written"):
        save_take(tmp_path / "yes" / "live_nohash_1.wav", "yes", pcm)


def test_a_take_is_the_second_with_the_word() -> None:
    pcm = np.random.default_rng(0).normal(0, 10, 64_000).astype(np.int16)
    pcm[40_000:46_000] = sound(6000 / 16000, 2)
    take = loudest_second(pcm)
    at = next(start for start in range(0, 48_001) if np.array_equal(pcm[start : start + 16_000], take))
    assert 31_000 < at < 39_000 and len(take) == 16_000  # the word in the middle
    assert np.array_equal(loudest_second(pcm[:900]), pcm[:900])


@pytest.mark.parametrize(
    ("hangs", "died"), [(False, None), (True, "the board does not stop listening; start the command again")]
)
def test_a_slow_board_is_waited_for_as_long_as_its_records_come(
    monkeypatch: pytest.MonkeyPatch, hangs: bool, died: str | None
) -> None:
    over = threading.Event()

    def steps() -> Iterator[int]:
        for number in range(6):
            over.wait(60 if hangs else 0.2)
            if not over.is_set():
                yield number

    spec = SimpleNamespace(thresholds=(1,), rates=())
    board = SimpleNamespace(detector=lambda: spec, identity=SimpleNamespace(labels=("yes",)))
    fake = SimpleNamespace(
        board=board, model=None, has_own_microphone=True, begin=lambda: None, end=lambda: None, steps=steps
    )
    live = server.Live(cast(Any, fake), Path())
    monkeypatch.setattr(server, "PATIENCE_S", 0.5)
    monkeypatch.setattr(live, "_step", lambda step: {"step": step})
    live._start()
    (reader,) = live._threads
    live._stop()
    over.set()
    reader.join()
    assert live.error == died
