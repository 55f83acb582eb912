"""Build images for the virtual board: the firmware through PlatformIO (no network), small test programs through the
compiler itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from converter.files import SET_READY, finish_set, scratch_folder, write_atomic
from converter.target import NRF52840
from host.emulator.errors import BoardError
from host.tflm_sources import WANTED, copy_tflm

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


def build_firmware(model_dir: Path | None, out_dir: Path, tflm_source: Path | None = None) -> Path:
    """OUT_DIR/emulator/firmware.elf, the sketch with the compiled engine of model_dir (None: firmware/generated), and
    its linker map firmware.map; with the sources of TensorFlow Lite Micro its engine tflm.

    SCons hands paths to a shell, so sources and model are copied to a folder whose path means nothing to one and are
    built there; their own folders may have any name, and need not be writable. Raises BoardError with the compiler's
    last lines when the build fails.
    """
    compiler()
    model = model_dir or ROOT / "firmware" / "generated"
    finish_model(model)
    engine, source = ("emulator_tflm", "model_data.c") if tflm_source else ("emulator", "model_aot.c")
    if not tflm_source and is_tflm_only(model):
        raise BoardError(
            f"{model}: its model runs in TensorFlow Lite Micro only, as `convert` said; name {WANTED} by --tflm-source"
        )
    if missing := [name for name in (source, "kws_model.h") if not (model / name).is_file()]:
        raise BoardError(
            f"{model}: no {' and no '.join(missing)}; make them with `python -m converter convert MODEL --out DIR`"
        )
    with scratch_folder(Path(_plain_folder())) as name:
        place = name.resolve()
        _copy_sources(model, place)
        if tflm_source:
            copy_tflm(tflm_source, place / "model" / "kws_model.h", place / "tflm")
        plain = {key: value for key, value in os.environ.items() if not key.startswith("PLATFORMIO_")}
        flags = os.environ.get("PLATFORMIO_BUILD_FLAGS", "")  # the user's own; what else is set is for other projects
        environment = {
            **plain,
            "PLATFORMIO_BUILD_DIR": str(place / "build"),
            "PLATFORMIO_CORE_DIR": str(place / "core"),
            "PLATFORMIO_WORKSPACE_DIR": str(place / "workspace"),  # nothing shared: builds may run side by side
            "PLATFORMIO_BUILD_FLAGS": f"-ffile-prefix-map={place}=. {flags}",  # the same image wherever it is built
            "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "false",
            "PLATFORMIO_SETTING_CHECK_PLATFORMIO_INTERVAL": "3650",
            "KWS_MODEL": str(place / "model"),
        }
        command = [sys.executable, "-m", "platformio", "run", "-e", engine, "--project-dir", str(place)]
        done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
        built = place / "build" / engine
        if done.returncode != 0 or not (built / "firmware.elf").is_file():
            output = done.stdout + done.stderr
            if over := re.search(r"region `(\w+)' overflowed by (\d+) bytes", output):
                memory = {"FLASH": "flash"}.get(over[1], over[1])
                mend = "convert a smaller model" + (", or with a smaller --ram-budget" if memory == "RAM" else "")
                raise BoardError(f"{model}: the firmware is {int(over[2]):,} bytes over the board's {memory}; {mend}")
            if re.search(r"fatal error: c\w+: No such file", output):
                raise BoardError(
                    "arm-none-eabi-g++: has no C++ library, which TensorFlow Lite Micro needs; install "
                    "libstdc++-arm-none-eabi-newlib (Debian)"
                )
            told = _last_lines(output).replace(f"{place / 'model'}{os.sep}", "")
            raise BoardError(f"the firmware was not built from {model}: {told.replace(f'{place}{os.sep}', '')}")
        try:
            for file in ("firmware.map", "firmware.elf"):
                write_atomic(out_dir / "emulator" / file, (built / file).read_bytes())
        except OSError as error:
            raise BoardError(f"{out_dir}: the image cannot be written ({error.strerror}); name another place") from None
    return out_dir / "emulator" / "firmware.elf"


def is_tflm_only(model: Path) -> bool:
    """Whether the generated files are of a model that the compiled engine refuses."""
    header = model / "kws_model.h"
    return header.is_file() and b"#define KWS_TFLM_ONLY 1" in header.read_bytes()


def finish_model(model: Path) -> None:
    """Ends a `convert` into the folder that was killed; raises BoardError."""
    try:
        finish_set(model)
    except OSError as error:
        raise BoardError(f"{model}: a killed `convert` cannot be ended ({error.strerror}); mend the rights") from None


def generated_in(folder: Path) -> Path:
    """Where the generated files lie: of a run folder, or of a model that was converted into the folder. Raises
    BoardError."""
    for place in (folder / "firmware", folder):
        finish_model(place)
        if (place / "kws_model.h").is_file():
            return place
    raise BoardError(f"{folder}: holds no generated firmware; run `python -m converter convert` into it first")


def _plain_folder() -> str:
    """Where a build may take place: a writable folder whose path holds nothing that a shell reads as more than text."""
    tried = (tempfile.gettempdir(), "/tmp", str(ROOT / "build"))
    for folder in tried:
        if re.fullmatch(r"[\w/\\:.~+-]+", folder, re.ASCII) and os.path.isdir(folder) and os.access(folder, os.W_OK):
            return folder
    raise BoardError(
        f"build: needs a writable temporary folder named with letters, digits and /._- alone, got {tried[0]!r}; set "
        f"TMPDIR to one"
    )


def _copy_sources(model: Path, place: Path) -> None:
    """The project's sources and the generated ones, in PLACE and PLACE/model."""
    try:
        shutil.copytree(
            ROOT / "firmware", place / "firmware", ignore=shutil.ignore_patterns("generated*", "__pycache__")
        )
        shutil.copy(ROOT / "platformio.ini", place)
        for _ in range(10):  # until no `convert` came between
            before = model.stat().st_mtime_ns
            shutil.rmtree(place / "model", ignore_errors=True)
            (place / "model").mkdir()
            for file in model.iterdir():
                if file.suffix in (".c", ".h", ".S") and file.is_file():
                    shutil.copyfile(file, place / "model" / file.name)
            if model.stat().st_mtime_ns == before and not (model / SET_READY).exists():
                return
            finish_set(model)
        raise BoardError(f"{model}: other commands write into it without end; wait for them")
    except (OSError, shutil.Error) as error:
        raise BoardError(f"build: the sources cannot be copied ({error}); free space or mend the rights") from None


def build_bare(sources: Sequence[Path], out: Path, board_layer: bool = False, flags: Sequence[str] = ()) -> Path:
    """The ELF `out` of C or assembly sources on our start-up code; board_layer adds board_bare.c."""
    files = [BARE / "startup.c", *([BOARD_LAYER] if board_layer else []), *sources]
    _compile([*flags, *map(str, files), *_LINK], out)
    return out


def compile_objects(sources: Sequence[Path], folder: Path, flags: Sequence[str] = ()) -> list[Path]:
    """FOLDER/NAME.o of each C source, for build_bare to link into many images. Raises BoardError."""
    objects = [folder / f"{source.stem}.o" for source in sources]
    for source, made in zip(sources, objects, strict=True):
        _compile([*flags, "-c", str(source)], made)
    return objects


def _compile(wanted: Sequence[str], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [
        compiler(),
        *_CPU,
        "-O2",
        f"-DNN_CODE_RAM={NRF52840.code_ram_start:#x}u",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-std=gnu11",
        "-ffunction-sections",
        "-fdata-sections",
        f"-I{BARE}",
        f"-I{BOARD_LAYER.parent}",
        *wanted,
        "-o",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BoardError(f"{out.name} was not built: {_last_lines(done.stderr)}")


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
