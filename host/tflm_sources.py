"""Which files of TensorFlow Lite Micro's sources one model's image needs, copied to where it is built."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from host.emulator.errors import BoardError

WANTED = (
    "the sources of TensorFlow Lite Micro with third_party/flatbuffers, gemmlowp and ruy beside tensorflow/ (its "
    "create_tflm_tree.py makes such a folder, and an Arduino library holds one in src/)"
)
RESOLVER = Path("tensorflow/lite/micro/micro_mutable_op_resolver.h")
KERNELS = Path("tensorflow/lite/micro/kernels")
# Folders whose every source belongs to the interpreter; of KERNELS those that the model's operators need.
CORE = (
    *("tensorflow/lite/micro", "tensorflow/lite/micro/arena_allocator", "tensorflow/lite/micro/memory_planner"),
    *("tensorflow/lite/micro/tflite_bridge", "tensorflow/lite/core/api", "tensorflow/lite/core/c"),
    *("tensorflow/lite/kernels", "tensorflow/lite/kernels/internal", "tensorflow/lite/kernels/internal/reference"),
    *("tensorflow/lite", "tensorflow/lite/c", "tensorflow/lite/micro/kernels", "tensorflow/lite/schema"),
    *("tensorflow/compiler/mlir/lite/schema", "tensorflow/compiler/mlir/lite/core/api"),
)
SIGNAL = ("signal/micro/kernels", "signal/src", "signal/src/kiss_fft_wrappers", "third_party/kissfft")
APART = re.compile(r"test|debug_log|recording_|mock|fake_|flatbuffer_conversions_main|hexdump")
SOURCES = (".c", ".cc", ".cpp")


def copy_tflm(source: Path, header: Path, place: Path) -> None:
    """The headers, and the sources that the operators of kws_model.h need, in PLACE; CMSIS-NN's kernels where they are.
    Raises BoardError where it is no such folder."""
    base = source / "src" if (source / "src" / RESOLVER).is_file() else source
    if not (base / RESOLVER).is_file() or not (base / "third_party" / "flatbuffers").is_dir():
        raise BoardError(f"{source}: holds no {RESOLVER} or no third_party/flatbuffers; wanted are {WANTED}")
    for file in (*_headers(base), *_sources(base, _registrations(base, header.read_text()))):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / file, place / file)


def _headers(base: Path) -> Iterator[Path]:
    for top in ("tensorflow", "signal", "third_party"):
        for suffix in ("*.h", "*.inc"):
            yield from (file.relative_to(base) for file in (base / top).rglob(suffix))


def _registrations(base: Path, header: str) -> set[str]:
    """Of the operators in KWS_TFLM_ADD_OPS, by the resolver of these sources."""
    resolver = (base / RESOLVER).read_text()
    found = set()
    for method in re.findall(r"\(r\)\.(Add\w+)\(\)", header):
        body = re.search(rf"TfLiteStatus {method}\(.*?\n  }}", resolver, re.DOTALL)
        name = re.search(r"Register_(\w+)", body[0]) if body else None
        if name is None:
            raise BoardError(f"{base}: its resolver has no {method}, which the model needs; take newer sources")
        found.add(name[1])
    return found


def _sources(base: Path, registrations: set[str]) -> Iterator[Path]:
    has_signal = any((base / "signal" / "micro" / "kernels" / f"{name.lower()}.cc").is_file() for name in registrations)
    for folder in (*CORE, *(SIGNAL if has_signal else ())):
        for file in sorted((base / folder).glob("*.c*")):
            if file.suffix not in SOURCES or APART.search(file.name):
                continue
            is_kernel = folder == str(KERNELS)
            faster = base / KERNELS / "cmsis_nn" / file.name
            if is_kernel and faster.is_file() and _has_cmsis_nn(base):
                file = faster
            if not is_kernel or _is_needed(file.read_text(), registrations):
                yield file.relative_to(base)
    if _has_cmsis_nn(base):
        yield from (file.relative_to(base) for file in sorted((base / "third_party/cmsis_nn/Source").rglob("*.c")))
        yield from (
            file.relative_to(base)
            for file in sorted((base / KERNELS / "cmsis_nn").glob("*.cc"))
            if not (base / KERNELS / file.name).is_file() and _is_needed(file.read_text(), registrations)
        )


def _has_cmsis_nn(base: Path) -> bool:
    return (base / "third_party" / "cmsis_nn" / "Source").is_dir() and (base / KERNELS / "cmsis_nn").is_dir()


def _is_needed(text: str, registrations: set[str]) -> bool:
    """Whether a kernel's source is one of these, or what several share."""
    defined = set(re.findall(r"^\w*Registration\*? Register_(\w+)\(\)\s*{", text, re.MULTILINE))
    return not defined or not registrations.isdisjoint(defined)
