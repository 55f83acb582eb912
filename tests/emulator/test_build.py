"""Building the firmware for the virtual board: without any network, side by side, byte for byte; failures in one
sentence."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from emulator_bare import needs_compiler

from host.emulator import BoardError
from host.emulator.board import VirtualBoard
from host.emulator.image.load import load_image
from host.firmware_build import ROOT, build_firmware

NOWHERE = "http://127.0.0.1:9"  # the discard port: whoever asks the network fails


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs_compiler()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no PlatformIO packages of an earlier day


def test_two_builds_side_by_side_without_network_are_the_same_image_and_boot(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "a folder" / "two"]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda folder: build_firmware(None, folder), folders)
    assert load_image(first).segments == load_image(second).segments
    board = VirtualBoard(first)
    assert board.run(1.0, lambda: b"m-ready" in bytes(board.chip.console.board_to_host))
    assert board.take_output().startswith(b"m-timestamp-mode-performance\r\nm-lap-us-")
    assert board.report().unmodelled == []


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        BoardError, match=r"no model_aot.c and no kws_model.h; make them with `python -m converter convert"
    ):
        build_firmware(tmp_path, tmp_path / "out")


def test_a_model_that_does_not_compile_is_told_with_the_compilers_words(tmp_path: Path) -> None:
    (tmp_path / "model_aot.c").write_text("#error no such model\n")
    (tmp_path / "kws_model.h").write_text("\n")
    with pytest.raises(BoardError, match="#error no such model"):
        build_firmware(tmp_path, tmp_path / "out")


NAMES = (
    "`owned`",
    "$(owned)",
    "a;owned;b",
    "a&owned&b",
    "a|owned",
    'it\'s "quoted" $HOME',
    "two\nlines",
    "-x",
    "#%s*?",
)


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids such names")
def test_no_name_of_a_folder_is_ever_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command `owned` stands on PATH; neither the run's name nor the project's nor that of TMPDIR calls it."""
    spy, every = tmp_path / "bin" / "owned", "".join(NAMES)
    spy.parent.mkdir()
    spy.write_text(f"#!/bin/sh\necho called >> {shlex.quote(str(tmp_path / 'called'))}\n")
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(["sh", "-c", "owned"], check=True)
    assert (tmp_path / "called").read_text() == "called\n"  # it would be seen
    project = tmp_path / f"project {every}"
    shutil.copytree(ROOT / "firmware", project / "firmware")
    shutil.copy(ROOT / "platformio.ini", project)
    monkeypatch.setattr("host.firmware_build.ROOT", project)
    (project / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(project / "tmp"))
    shutil.copytree(ROOT / "firmware" / "generated", tmp_path / every / "firmware")
    elf = build_firmware(tmp_path / every / "firmware", tmp_path / every / "build")
    assert elf == tmp_path / every / "build" / "emulator" / "firmware.elf"
    assert load_image(elf).segments and elf.with_name("firmware.map").is_file()
    assert (tmp_path / "called").read_text() == "called\n"
    assert not list((project / "tmp").iterdir())


def test_without_a_plain_place_to_build_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.firmware_build.compiler", lambda: "gcc")
    monkeypatch.setattr("host.firmware_build.os.access", lambda *_: False)
    with pytest.raises(BoardError, match=r"writable temporary folder .* set TMPDIR"):
        build_firmware(None, tmp_path / "out")
