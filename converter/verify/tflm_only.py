"""A model for TensorFlow Lite Micro alone: its arena, and the checks that need no Graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter import convert as conversion
from converter.errors import ConvertError
from converter.target import NRF52840
from converter.tflite.interpreters import Unavailable
from converter.tflite.tflm_only import TflmOnly, require_fit
from converter.verify.checks import ABSENT, EQUAL, WITHIN, BoardAccess, Check, Checks, Mismatches
from converter.verify.original import ask

INPUTS = 5
PLAN_BYTES = (
    80  # that the interpreter's planner takes for each tensor and for each layer's scratch, with 64-bit pointers
)
MOST_ARENA_BYTES = 16 << 20  # that is tried; the board has 256 KiB
Bytes = NDArray[np.uint8]  # [n, of all tensors in a row]


@dataclass(frozen=True, eq=False)
class Ran:
    """What the interpreter made of inputs, and the arena that the board should have."""

    arena_bytes: int
    outputs: Bytes


def noise(model: TflmOnly, count: int = INPUTS) -> Bytes:
    """Inputs: of integers any, of float32 from -4 to 4, of bool 0 and 1."""
    rng = np.random.default_rng(20241120)
    parts: list[Bytes] = []
    for end in model.inputs:
        if end.kind == "float32":
            values: NDArray[Any] = rng.uniform(-4, 4, (count, end.size)).astype(np.float32)
        else:
            values = rng.integers(0, 2 if end.kind == "bool" else 256, (count, end.bytes)).astype(np.uint8)
        parts.append(np.ascontiguousarray(values).view(np.uint8).reshape(count, end.bytes))
    return np.concatenate(parts, axis=1)


def ran(model: TflmOnly, x: Bytes) -> Ran:
    """The file in TensorFlow Lite Micro, in the arena that the board gets; ConvertError where it does not run or where
    its arena does not fit, Unavailable without the package."""
    require_fit(model, 0)
    request = {
        "format": "tflm",
        "keys": [0, 1],
        "inputs": [(end.kind, end.shape) for end in model.inputs],
        "outputs": len(model.outputs),
        "beside": model.filter_bytes,
        "plan_bytes": PLAN_BYTES * (model.tensors + model.layers),
        "most_bytes": MOST_ARENA_BYTES,
    }
    arenas, outputs = ask(model.data, x, request)
    require_fit(model, int(arenas[0]))
    return Ran(int(arenas[0]), outputs)


def files(model: TflmOnly) -> tuple[dict[str, bytes], int]:
    """The generated files and the arena's bytes; ConvertError with both engines' reasons where neither runs it."""
    try:
        found = ran(model, noise(model, 1))
    except Unavailable as missing:
        raise ConvertError(
            f"{model.name}: {model.why}; TensorFlow Lite Micro does not run it here either: {missing}"
        ) from None
    return conversion.render_tflm(model, found.arena_bytes), found.arena_bytes


def run_checks(
    model: TflmOnly,
    folder: Path,
    elf: Path | None = None,
    board: BoardAccess | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Checks:
    """All checks; folder: where the generated files may lie."""
    built = folder / "build" / "emulator" / "firmware.elf"
    image = elf or (built if built.is_file() else None)
    x, done = noise(model), []
    once = functools.cache(lambda: ran(model, x))
    checks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("generated files hold the model's own bytes", lambda: _generated(model, folder, once)),
        ("TensorFlow Lite Micro runs it in the board's arena, twice the same", lambda: _twice(model, once, x)),
        ("board == TensorFlow Lite Micro, every output", lambda: _board(model, image, board, once, x)),
    )
    for claim, check in checks:
        on_progress(claim)
        try:
            done.append(replace(check(), claim=claim))
        except Unavailable as missing:
            done.append(Check(claim, ABSENT, detail=str(missing)))
    return Checks(model.model_id, "none", done)


def _generated(model: TflmOnly, folder: Path, once: Callable[[], Ran]) -> Check:
    if not (folder / conversion.HEADER).is_file():
        raise Unavailable(f"{folder} holds no generated files; name the folder that `convert` wrote")
    mismatches = Mismatches("generated files")
    for name, wanted in conversion.render_tflm(model, once().arena_bytes).items():
        file = folder / name
        got = file.read_bytes() if file.is_file() else b""
        equal = _but_name(got) == _but_name(wanted) if name == conversion.HEADER else got == wanted
        mismatches.count(equal, f"{file}: is not what convert makes of model.tflite; convert again")
    return mismatches.check()


def _but_name(header: bytes) -> list[bytes]:
    """Without the name of the file that it was made from."""
    return [line for line in header.splitlines() if not line.startswith(b"#define KWS_MODEL_NAME ")]


def _twice(model: TflmOnly, once: Callable[[], Ran], x: Bytes) -> Check:
    mismatches = Mismatches("outputs")
    for row, (one, other) in enumerate(zip(once().outputs, ran(model, x).outputs, strict=True)):
        mismatches.compare(f"input {row}", ("once", "again"), one, other)
        mismatches.count(len(one) == model.output_bytes, f"input {row}: {len(one)} bytes of {model.output_bytes}")
    return mismatches.check()


def _board(model: TflmOnly, elf: Path | None, board: BoardAccess | None, once: Callable[[], Ran], x: Bytes) -> Check:
    if elf is None or board is None:
        raise Unavailable("no image; `python -m host build DIR --tflm-source SOURCES` makes one, --elf names one")
    mismatches = Mismatches("outputs")
    wanted = once().outputs
    for row, got in enumerate(board.raw(elf, model.model_id, [bytes(values) for values in x])):
        at = 0
        for end in model.outputs:
            ours, theirs = (np.frombuffer(raw[at : at + end.bytes], end.kind) for raw in (bytes(wanted[row]), got))
            at += end.bytes
            where = f"output {end.name}, input {row}"
            if end.kind == "float32":
                mismatches.count(np.allclose(ours, theirs, 1e-4, 1e-6, equal_nan=True), f"{where}: differs")
            else:
                mismatches.compare(where, ("TFLM", "board"), ours, theirs, steps=int(model.has_floats))
    check = mismatches.check()
    if check.status != EQUAL or not model.has_floats:
        return check
    detail = (
        "it computes with floats, whose last bits depend on the machine: whole numbers within 1, floats within 1e-4"
    )
    return replace(check, status=WITHIN, detail=detail)


def size_json(model: TflmOnly, arena_bytes: int) -> dict[str, Any]:
    """What the model takes of the board; code is not counted."""
    return {
        "model_id": model.model_id,
        "engine": "tflm",
        "why": model.why,
        "operators": list(model.operators),
        "tflite_bytes": len(model.data),
        "tflm_arena_bytes": arena_bytes,
        "input_bytes": model.input_bytes,
        "output_bytes": model.output_bytes,
        "board_flash_bytes": NRF52840.flash_bytes,
        "board_ram_bytes": NRF52840.ram_bytes,
    }


def size_lines(model: TflmOnly, arena_bytes: int) -> Iterator[str]:
    """size_json for the terminal."""
    ends = model.input_bytes + model.output_bytes + model.staged_bytes
    yield f"Model {model.model_id}, TensorFlow Lite Micro only, on the {NRF52840.name} (code not counted)"
    for label, count, whole in (
        ("flash: model.tflite", len(model.data), NRF52840.flash_bytes),
        ("RAM: arena, measured and a margin", arena_bytes, NRF52840.ram_bytes),
        ("RAM: inputs and outputs beside it", ends, NRF52840.ram_bytes),
    ):
        yield f"  {label:34} {count:9,} bytes, {count / whole:7.2%} of {whole:,}"
    yield f"  operators: {', '.join(model.operators)}"
