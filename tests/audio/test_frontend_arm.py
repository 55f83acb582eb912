"""The C front end as machine code of the board's CPU: compiled by arm-none-eabi-gcc, run on an emulated Cortex-M4,
equal to the oracle."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from frontend.signals import RATE, golden_pcm, signals

from converter.arrays import Int16
from converter.audio.frontend import MicroFrontend, quantize_features
from converter.audio.native import SOURCES
from converter.audio.tables import render
from converter.spec import FeatureSpec

HERE = Path(__file__).resolve().parents[1] / "support" / "frontend"
GCC, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=softfp", "-mfpu=fpv4-sp-d16")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror")
pytestmark = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"no {GCC} on this machine")


def compile_for_board(folder: Path, *flags: str) -> Path:
    (folder / "frontend_tables.h").write_text(render(FeatureSpec()))
    made = folder / "stream.elf"
    sources = [str(source) for source in sorted(SOURCES.glob("*.c"))]
    subprocess.run(
        [
            GCC,
            "-std=gnu11",
            *flags,
            *CPU,
            *WARNINGS,
            "--specs=rdimon.specs",
            f"-T{HERE / 'mps2.ld'}",
            f"-I{folder}",
            f"-I{SOURCES}",
            *sources,
            str(HERE / "stream_main.c"),
            "-o",
            str(made),
        ],
        check=True,
    )
    return made


def run_on_board(elf: Path, pcm: Int16) -> bytes:
    """What the program wrote: raw uint16 frames, then int8 features."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"no {QEMU} on this machine")
    pcm.astype("<i2").tofile(elf.parent / "pcm.bin")
    command = [
        QEMU,
        "-M",
        "mps2-an386",
        "-nographic",
        "-monitor",
        "none",
        "-serial",
        "none",
        "-semihosting-config",
        "enable=on,target=native",
        "-kernel",
        str(elf),
    ]
    done = subprocess.run(command, cwd=elf.parent, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return (elf.parent / "raw.bin").read_bytes()


def assert_equal_to_the_oracle(output: bytes, pcm: Int16) -> None:
    expected = MicroFrontend().process(pcm)
    assert len(output) == expected.size * 3
    assert (np.frombuffer(output, "<u2", expected.size) != expected.ravel()).sum() == 0
    assert (np.frombuffer(output, np.int8, offset=expected.size * 2) != quantize_features(expected).ravel()).sum() == 0


def test_header_is_clean_in_the_arduino_cores_cpp(tmp_path: Path) -> None:
    (tmp_path / "frontend_tables.h").write_text(render(FeatureSpec()))
    (tmp_path / "sketch.cpp").write_text(
        '#include "frontend.h"\nextern "C" void probe(frontend_state *state) { frontend_reset(state); }\n'
    )
    subprocess.run(
        [
            GCC,
            "-xc++",
            "-std=gnu++14",
            *CPU,
            *WARNINGS,
            "-Wunused",
            f"-I{tmp_path}",
            f"-I{SOURCES}",
            "-c",
            str(tmp_path / "sketch.cpp"),
            "-o",
            str(tmp_path / "sketch.o"),
        ],
        check=True,
    )


def test_without_feature_settings_there_is_nothing_to_build(tmp_path: Path) -> None:
    for source in SOURCES.glob("*.c"):
        command = [GCC, "-std=gnu11", *CPU, "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", "-c", str(source)]
        subprocess.run([*command, "-o", str(tmp_path / "nothing.o")], check=True)


@pytest.mark.parametrize(
    "flags", [["-O2"], ["-Os"], ["-O0"], ["-O2", "-DFRONTEND_SIMD=0"], ["-Os", "-DNN_EMULATE", "-DFRONTEND_SIMD=1"]]
)
def test_cortex_m4_equals_the_oracle_on_generated_streams(tmp_path: Path, flags: list[str]) -> None:
    pcm = np.concatenate([*(pcm for _, pcm in signals(seconds=1.5, seed=11)), golden_pcm()])
    assert_equal_to_the_oracle(run_on_board(compile_for_board(tmp_path, *flags), pcm), pcm)


def test_cortex_m4_equals_the_oracle_on_recordings(tmp_path: Path, speech_commands: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    files = [
        file
        for folder in sorted(speech_commands.iterdir())
        if folder.is_dir()
        for file in sorted(folder.glob("*.*"))[:4]
    ]
    pcm = np.concatenate([soundfile.read(file, dtype="int16")[0] for file in files if file.suffix in (".flac", ".wav")])
    assert len(pcm) >= 60 * RATE
    assert_equal_to_the_oracle(run_on_board(compile_for_board(tmp_path, "-O2"), pcm), pcm)
