"""The C kernels on the host: compiled once per session, called through ctypes with what converter/aot/lower.py made."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.aot.kernels.asm import Code
from converter.aot.kernels.structs import Channels, Kernel, NnConcatenationLayer, NnOutput, members
from converter.arrays import Int8

ROOT = Path(__file__).resolve().parents[2]
NN = ROOT / "firmware" / "lib" / "nn"
SOURCES = sorted(NN.glob("*.c"))
STRICT = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Wdouble-promotion", "-Wfloat-conversion", "-Werror")
GUARD = 32
FILL = 0x5A


def compiler(name: str = "gcc") -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine")
    return path


def compile_shared(target: Path, sources: Sequence[Path], *flags: str, include: Sequence[Path] = ()) -> Path:
    """A shared object of our C; no warning is let pass."""
    folders = [f"-I{folder}" for folder in (NN, *include)]
    command = [compiler(), *STRICT, "-O2", "-fPIC", "-shared", *flags, *folders, *map(str, sources), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def compile_objects(folder: Path, sources: Sequence[Path]) -> list[Path]:
    """Object files for compile_shared, so that the kernels are compiled once for many models."""
    command = [compiler(), *STRICT, "-O2", "-fPIC", f"-I{NN}", "-c", *map(str, sources)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [folder / f"{source.stem}.o" for source in sources]


_TYPES: dict[str, Any] = {"int32_t": ctypes.c_int32}


def struct_types() -> dict[str, Any]:
    """The structs of nn.h as ctypes ones, read from the header itself."""
    if len(_TYPES) == 1:
        text = re.sub(r"//[^\n]*", "", (NN / "nn.h").read_text() + (NN / "nn_lowbit.h").read_text())
        for body, name in re.findall(
            r"typedef struct \{([^{}]*)\} (nn_(?:\w+_layer|channel|output));", text, re.DOTALL
        ):
            members = [field for line in body.split(";") for field in _fields(line.strip())]
            _TYPES[name] = type(name, (ctypes.Structure,), {"_fields_": members})
    return _TYPES


def _fields(declaration: str) -> list[tuple[str, Any]]:
    if not declaration:
        return []
    kind, names = re.fullmatch(r"(?:const )?(\w+) (.*)", declaration, re.DOTALL).groups()  # type: ignore[union-attr]
    found: list[tuple[str, Any]] = []
    for name in (part.strip() for part in names.split(",")):
        array = re.fullmatch(r"(\w+)\[(\d+)\]", name)
        if name.startswith("*"):
            found.append((name[1:], ctypes.c_void_p))
        elif array:
            found.append((array[1], _TYPES[kind] * int(array[2])))
        else:
            found.append((name, _TYPES[kind]))
    return found


def make_struct(kernel: Kernel) -> tuple[Any, list[Any]]:
    """The filled struct and what it points at, which must live as long."""
    types = struct_types()
    struct = types[kernel.layer.struct]()
    kept: list[Any] = []
    for name, value in members(kernel.layer):
        if isinstance(value, Channels):
            value = np.stack([value.bias, value.multiplier, value.shift], axis=1).astype(np.int32)
        if isinstance(value, Code):  # assembly of another CPU: the portable form runs
            value = None
        if isinstance(value, np.ndarray):
            room = np.zeros(value.nbytes + 8, np.uint8)
            start = -room.ctypes.data % 4
            room[start : start + value.nbytes] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            kept.append(room)
            setattr(struct, name, room.ctypes.data + start)
        elif isinstance(value, NnOutput):
            setattr(struct, name, types["nn_output"](**dict(members(value))))
        elif isinstance(value, tuple):
            setattr(struct, name, (ctypes.c_int32 * len(value))(*value))
        else:
            setattr(struct, name, value)
    return struct, kept


class Guarded:
    """Bytes at a chosen misalignment with a wall of known bytes on both sides."""

    def __init__(self, size: int, misalign: int = 0, align: int = 16) -> None:
        self.room = np.full(size + 2 * GUARD + 2 * align, FILL, np.uint8)
        self.start = GUARD + (-(self.room.ctypes.data + GUARD) % align) + misalign
        self.size = size
        self.address = self.room.ctypes.data + self.start

    @property
    def bytes(self) -> NDArray[np.uint8]:
        return self.room[self.start : self.start + self.size]

    def check(self) -> None:
        assert (self.room[: self.start] == FILL).all(), "written in front of the buffer"
        assert (self.room[self.start + self.size :] == FILL).all(), "written behind the buffer"


def run_kernel(
    library: ctypes.CDLL, kernel: Kernel, inputs: Sequence[Int8], out_shape: tuple[int, ...], misalign: int = 0
) -> Int8:
    """The kernel's output; guards round inputs, scratch and output are checked, inputs must be left as they are."""
    struct, kept = make_struct(kernel)
    rooms = [Guarded(x.size, (misalign + i) % 4) for i, x in enumerate(inputs)]
    for room, x in zip(rooms, inputs, strict=True):
        room.bytes[:] = x.reshape(-1).view(np.uint8)
    out = Guarded(int(np.prod(out_shape)), (misalign + 2) % 4)
    scratch = Guarded(kernel.scratch_bytes)
    function: Callable[..., None] = getattr(library, kernel.function)
    given = [ctypes.c_void_p(room.address) for room in rooms]
    if isinstance(kernel.layer, NnConcatenationLayer):
        given = [ctypes.cast((ctypes.c_void_p * len(rooms))(*given), ctypes.c_void_p)]
    last = [ctypes.c_void_p(out.address)] + ([ctypes.c_void_p(scratch.address)] if len(inputs) == 1 else [])
    function(ctypes.byref(struct), *given, *last)
    for guarded in (*rooms, out, scratch):
        guarded.check()
    for room, x in zip(rooms, inputs, strict=True):
        assert (room.bytes == x.reshape(-1).view(np.uint8)).all(), "the kernel wrote into its input"
    del kept
    return out.bytes.view(np.int8).reshape(out_shape).copy()
