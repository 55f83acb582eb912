"""Build images for the virtual board: the firmware through PlatformIO (no network), small test programs through the
compiler itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from host.emulator.errors import BoardError

ROOT = Path(__file__).resolve().parents[1]
BARE = ROOT / "firmware" / "bare"
BOARD_LAYER = ROOT / "firmware" / "src" / "board_bare.c"
_CPU = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=softfp"]
_LINK = [
    "-nostartfiles",
    "--specs=nano.specs",
    "--specs=nosys.specs",
    "-Wl,--gc-sections",
    "-Wl,--no-warn-rwx-segments",
    "-T",
    str(BARE / "nrf52840.ld"),
]
_INSTALL = "install gcc-arm-none-eabi and libnewlib-arm-none-eabi (Debian), or put arm-none-eabi-gcc on PATH"


def compiler() -> str:
    """Path of arm-none-eabi-gcc; raises BoardError where there is none."""
    found = shutil.which("arm-none-eabi-gcc")
    if found is None:
        raise BoardError(f"arm-none-eabi-gcc: not found; {_INSTALL}")
    return found


def build_firmware(model_dir: Path | None, out_dir: Path) -> Path:
    """The ELF of the sketch with the compiled engine of model_dir (None: firmware/generated), built under out_dir.

    Raises BoardError with the compiler's last lines when the build fails.
    """
    compiler()
    environment = {
        **os.environ,
        "PLATFORMIO_BUILD_DIR": str(out_dir.resolve()),
        "PLATFORMIO_CORE_DIR": str(out_dir.resolve() / "core"),
        "PLATFORMIO_WORKSPACE_DIR": str(out_dir.resolve() / "workspace"),  # nothing shared: builds may run side by side
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "false",
        "PLATFORMIO_SETTING_CHECK_PLATFORMIO_INTERVAL": "3650",
    }
    environment.pop("KWS_MODEL", None)
    if model_dir is not None:
        environment["KWS_MODEL"] = str(model_dir.resolve())
    command = [sys.executable, "-m", "platformio", "run", "-e", "emulator", "--project-dir", str(ROOT)]
    elf = out_dir / "emulator" / "firmware.elf"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not elf.is_file():
        raise BoardError(
            f"the firmware was not built from {model_dir or 'firmware/generated'}: "
            f"{_last_lines(done.stdout + done.stderr)}"
        )
    return elf


def build_bare(sources: Sequence[Path], out: Path, board_layer: bool = False, flags: Sequence[str] = ()) -> Path:
    """The ELF `out` of C or assembly sources on our start-up code; board_layer adds board_bare.c."""
    files = [BARE / "startup.c", *([BOARD_LAYER] if board_layer else []), *sources]
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [
        compiler(),
        *_CPU,
        "-O2",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-std=gnu11",
        "-ffunction-sections",
        "-fdata-sections",
        f"-I{BARE}",
        f"-I{BOARD_LAYER.parent}",
        *flags,
        *map(str, files),
        *_LINK,
        "-o",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BoardError(f"{out.name} was not built: {_last_lines(done.stderr)}")
    return out


def _last_lines(text: str) -> str:
    """What went wrong, from the end of a build's output."""
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not line.startswith(("---", "===", "Environment"))
    ]
    signs = ("error", "undefined reference", "cannot find", "make them with")
    told = [line for line in lines if any(sign in line.lower() for sign in signs)]
    return " | ".join((told or lines)[-4:]) or "no output"
