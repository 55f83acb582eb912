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
from sketch_on_host import tinyconv

from converter import convert
from converter.aot.emit import LEAST_FLASH_BESIDE, LEAST_RAM_BESIDE
from converter.files import SET_READY, write_set
from host.emulator import BoardError
from host.emulator.board import VirtualBoard
from host.emulator.image.load import load_image
from host.firmware_build import ROOT, build_firmware
from host.measure.image_size import ENGINE, part_sizes

STACK_BYTES = 16 << 10  # of the linker script
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


def test_a_killed_conversion_is_ended_before_the_build(tmp_path: Path) -> None:
    """What it had decided lies in a folder of its own until then, beside the files of an older model."""
    write_set({"kws_model.h": b"old", "model_aot.c": b"#error old\n", "only_old.h": b"old"}, tmp_path / "model")
    shutil.copytree(ROOT / "firmware" / "generated", tmp_path / "model" / SET_READY)
    elf = build_firmware(tmp_path / "model", tmp_path / "out")
    assert load_image(elf).segments and not (tmp_path / "model" / SET_READY).exists()


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


def test_the_least_firmware_that_convert_counts_on_is_less_than_the_least_there_is(tmp_path: Path) -> None:
    """By an image without a front end; not much less, so that few models are left to the linker."""
    files = convert.render(convert.Source(tinyconv(1, None), "no front end"))
    convert.write_all(files, tmp_path / "model")
    sizes = part_sizes(build_firmware(tmp_path / "model", tmp_path / "out"))
    beside = [size for size in sizes if size.part != ENGINE]
    flash, ram = sum(size.flash for size in beside), sum(size.ram for size in beside) + STACK_BYTES
    assert 0 <= flash - LEAST_FLASH_BESIDE <= 2048 and 0 <= ram - LEAST_RAM_BESIDE <= 2048


@pytest.mark.parametrize(("memory", "words"), [("RAM", 1 << 16), ("flash", 1 << 18)])
def test_what_only_the_linker_can_know_is_one_sentence_too(tmp_path: Path, memory: str, words: int) -> None:
    """A model that took more than convert counted: which memory, and how many bytes over."""
    shutil.copytree(ROOT / "firmware" / "generated", tmp_path / "model")
    kind = "static volatile" if memory == "RAM" else "static const volatile"
    table = (
        f"{kind} int table[{words}] = {{{'0' if memory == 'RAM' else '1'}}};\nint used(void) {{ return table[1]; }}\n"
    )
    with (tmp_path / "model" / "model_aot.c").open("a") as file:
        file.write(f"{table}int (*volatile kept)(void) __attribute__((used)) = used;\n")
        file.write("__attribute__((constructor)) static void keep(void) { kept(); }\n")
    with pytest.raises(BoardError, match=rf"the firmware is [\d,]+ bytes over the board's {memory}; convert a smaller"):
        build_firmware(tmp_path / "model", tmp_path / "out")
