"""The committed reference model on the virtual board hears real recordings, every score and decision as the host's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from host_cli import Cli
from sketch_on_host import ROOT

from converter import convert
from host.emulator.image.elf import load_elf
from host.firmware_build import build_firmware
from host.link.expected import REFERENCE
from host.measure.image_size import ENGINE, part_sizes


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    folder = tmp_path_factory.mktemp("reference")
    convert.write_all(convert.render(convert.load(REFERENCE)), folder / "model")
    return build_firmware(folder / "model", folder / "build")


def test_engine_and_model_fit_the_room_they_were_given(elf: Path) -> None:
    """Kernels, generated code, weights, tables, memcpy and the like: 32 KB of flash, 12 KB of RAM; all parts sum to the
    image."""
    sizes = part_sizes(elf)
    engine = next(size for size in sizes if size.part == ENGINE)
    weights = 16_000 + 640
    arena = re.findall(r"MODEL_AOT_ARENA_BYTES (\d+)", (elf.parents[2] / "model" / "model_aot.h").read_text())
    assert weights < engine.flash <= 32 * 1024
    assert int(arena[0]) <= engine.ram <= 16 * 1024
    assert all(size.flash > 0 and size.ram >= 0 for size in sizes)
    assert sum(size.flash for size in sizes) == sum(len(data) for _, data in load_elf(elf, elf.read_bytes()).segments)
    flash, ram = engine_by_the_linker_map(elf.with_name("firmware.map"))
    assert (
        0 <= flash - engine.flash <= 256 and 0 <= ram - engine.ram <= 64
    )  # by files, with the strings and alignment between symbols


def engine_by_the_linker_map(file: Path) -> tuple[int, int]:
    """(flash, RAM) of the sections that come from the engine's object files."""
    placed = file.read_text().split("Linker script and memory map")[1]
    flash = ram = 0
    for kind, address, size, source in re.findall(r"^ \.(\w+)[\w.]*\s+0x(\w+)\s+0x(\w+) (\S+)$", placed, re.MULTILINE):
        if kind not in ("text", "rodata", "data", "ramfunc", "bss") or not re.search(
            r"nn/nn_\w+\.o|model/model_aot\.o|src/engine_aot\.o|lib_a-mem(cpy|move|set)", source
        ):
            continue
        in_ram = int(address, 16) >= 0x20000000
        ram += int(size, 16) if in_ram else 0
        flash += int(size, 16) if not in_ram or kind != "bss" else 0
    return flash, ram


def test_some_recordings(cli: Cli, elf: Path, speech_commands: Path, tmp_path: Path) -> None:
    """Three of each class, by microphone; which are right is the longer test's matter."""
    files = [
        file
        for word in ("yes", "stop", "no", "_silence_")
        for file in sorted((speech_commands / word).glob("*.flac"))[:3]
    ]
    result = cli("trial", elf, *files, "--times", 1, "--json", tmp_path / "t.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["n"] == 12 and found["different"] == 0
    assert {row["heard"] for row in found["attempts"]} == {"yes", "stop", "-"}


@pytest.mark.slow
def test_trial_of_a_hundred_test_clips(cli: Cli, elf: Path, speech_commands: Path, tmp_path: Path) -> None:
    """25 per class, first in SHA-256 order of the file name: at least 85 right."""
    command = [
        sys.executable,
        "-m",
        "trainer",
        "clips",
        str(REFERENCE),
        "--out",
        str(tmp_path / "clips"),
        "--per-class",
        "25",
        "--data",
        str(speech_commands),
    ]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "COLUMNS": "80"}, timeout=600)
    result = cli("trial", elf, tmp_path / "clips", "--times", 1, "--no-table", "--json", tmp_path / "t.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["n"] == 100 and found["different"] == 0
    assert found["right"] >= 85
