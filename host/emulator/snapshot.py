"""All of a virtual board in a file: a board that loads it goes on as the one that was saved, bit for bit and cycle for
cycle.

The file is a zip of state.json and of plain bytes: `ram`, `uicr`, `flash` (as it differs from the image's: exclusive
or) and `code`, the instructions whose cycles are known. What belongs in state.json, and within which limits, the parts
of the board say themselves (SAVED). Image and recording are not in it; their hashes are. A host at the other end of the
serial port is no part of the board.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.checked import Choice, Fields, Items, Named, Row, Rule, Text, Whole, check, json_of
from converter.files import write_atomic
from host.emulator.board import VirtualBoard
from host.emulator.cpu.core_state import (
    MONITOR,
    REGISTERS,
    read_monitor,
    read_registers,
    write_monitor,
    write_registers,
)
from host.emulator.cycles.blocks import MOST_CODE
from host.emulator.cycles.counting import STATE_RULES
from host.emulator.cycles.timing import EXPECTED
from host.emulator.errors import BoardError
from host.emulator.image.elf import FLASH_BYTES, RAM_BYTES, Image
from host.emulator.peripherals.base import FLAG_WORDS
from host.emulator.peripherals.nvmc import PAGE, UICR
from host.emulator.schedule import MOST_CYCLES

VERSION = 1  # of the format, and of what the board does with it: another one when either changes
_MOST_BYTES = 64 << 20
_MEMBERS = {"state.json": 32 << 20, "ram": RAM_BYTES, "uicr": PAGE, "flash": FLASH_BYTES, "code": MOST_CODE}
_WAITING = Items(Row((Whole(0, 0x1FC), Whole(0, MOST_CYCLES), Whole(0, MOST_CYCLES))), most=64)
_FILE: Mapping[str, Rule] = {
    "version": Whole(),
    "image": Text(64),
    "recording": Text(64),
    "clock": Choice(("expected", "ideal")),
    "registers": REGISTERS,
    "monitor": MONITOR,
    "instruction_cache": Items(
        Items(Whole(0, 0xFFFFFFFE), most=EXPECTED.cache_ways), EXPECTED.cache_sets, EXPECTED.cache_sets
    ),
    "peripherals": Named(Fields({"waiting": _WAITING})),
}


def save_board(board: VirtualBoard, path: Path) -> None:
    """Write the board to a file, whole or not at all; between two calls of its run(). Raises BoardError for a board
    that cannot be saved, WriteError."""
    core = board.core
    if board.chip.microphone.live is not None:
        raise BoardError(f"{path}: a board whose sound comes while it runs cannot be saved")
    if core.counter.timing != EXPECTED:
        raise BoardError(f"{path}: a board of another timing than the expected one cannot be saved")
    state: dict[str, Any] = {
        **_labels(board),
        "registers": read_registers(core.uc),
        "monitor": read_monitor(core.uc),
        "instruction_cache": core.counter.lines,
        "peripherals": {
            f"{base:#010x}": {
                **_values(one, one.SAVED),
                "waiting": [(slot, event.when, event.order) for slot, event in one.waiting.items()],
            }
            for base, one in board.chip.bus.by_base.items()
        },
    }
    for name, part, rules in _parts(board):
        state[name] = _values(part, rules)
    uicr = bytes(core.uc.mem_read(UICR, PAGE))
    flash = _difference(bytes(core.memory.flash), board.image)
    members = {"ram": bytes(core.memory.ram), "uicr": uicr, "flash": flash, "code": core.blocks.codes}
    write_atomic(path, _packed({"state.json": json.dumps(state, sort_keys=True).encode(), **members}))


def load_board(board: VirtualBoard, path: Path) -> None:
    """Make a new board, with the same image and recording, the one that was saved. Raises BoardError when the file is
    damaged or of another board; the board is of no use then."""
    try:
        _load(board, *_unpacked(path))
    except BoardError as error:
        raise BoardError(f"{path}: {error}") from None


def _load(board: VirtualBoard, state: dict[str, Any], members: dict[str, bytes]) -> None:
    core, labels = board.core, _labels(board)
    check("version", state.get("version"), Whole(), BoardError)
    if state["version"] != VERSION:
        raise BoardError(f"a snapshot of version {state['version']}, this is version {VERSION}; run from the start")
    parts = {name: Fields(rules, closed=True) for name, _, rules in _parts(board)}
    check("", state, Fields({**_FILE, **parts}, closed=True), BoardError)
    for name, what in (("image", "an image"), ("recording", "a microphone"), ("clock", "a clock")):
        if state[name] != labels[name]:
            raise BoardError(
                f"saved with {what} {state[name][:12]}, this board has {labels[name][:12]}; "
                "give the image, the recordings and the clock that it was saved with"
            )
    core.memory.flash[:] = _difference(members["flash"], board.image)
    core.memory.ram[:] = members["ram"]
    core.uc.mem_write(UICR, members["uicr"])
    write_registers(core.uc, state["registers"])
    write_monitor(core.uc, state["monitor"])
    core.counter.lines = state["instruction_cache"]
    core.blocks.codes = members["code"]
    core.schedule.clear()
    for name, part, rules in _parts(board):
        _put_back(part, rules, state[name])
    if core.counter.state.last > len(core.blocks.table):
        raise BoardError("the block of instructions in execution is not in its table")
    _load_peripherals(board, state["peripherals"])
    core.follow_control()
    core.watch_stores(board.chip.nvmc.writes)
    core.clock.look_soon()


def _load_peripherals(board: VirtualBoard, found: dict[str, Any]) -> None:
    bus = board.chip.bus
    if missing := [one.name for base, one in bus.by_base.items() if f"{base:#010x}" not in found]:
        raise BoardError(f"it has no {missing[0]}")
    known = {f"{base:#010x}": base for base in (*bus.by_base, *range(0x40000000, 0x40000000 + 4 * FLAG_WORDS, 0x1000))}
    for text, state in found.items():
        if text not in known:
            raise BoardError(f"no peripheral can be at {text[:20]}")
        one = bus.by_base.get(known[text]) or board.chip.find(known[text])
        check(one.name, state, Fields({**one.SAVED, "waiting": _WAITING}, closed=True), BoardError)
        _put_back(one, one.SAVED, state)
        for slot, when, order in state["waiting"]:
            one.wait_again(slot, when, order)
        one.show_flags()


def _labels(board: VirtualBoard) -> dict[str, Any]:
    """Of what a board with the same state must be made."""
    return {
        "version": VERSION,
        "image": hashlib.sha256(_flash_of(board.image)).hexdigest(),
        "recording": board.chip.microphone.recording_id,
        "clock": "ideal" if board.core.counter.state.ideal_clock else "expected",
    }


def _parts(board: VirtualBoard) -> Iterator[tuple[str, Any, Mapping[str, Rule]]]:
    """Name, object and rules of all but the peripherals, in the order in which they can be put back."""
    core = board.core
    yield "counter", core.counter.state, STATE_RULES
    for name, part in (
        *(("schedule", core.schedule), ("nvic", core.nvic), ("system", core.system)),
        *(("systick", core.system.systick), ("core", core), ("blocks", core.blocks)),
        *(("board", board), ("unmodelled", board.unmodelled)),
    ):
        yield name, part, part.SAVED


def _values(part: Any, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """The attributes that the rules name, as JSON has them."""
    found = {name: getattr(part, name) for name in rules}
    return {
        name: sorted(value.items() if isinstance(value, dict) else value)
        if isinstance(value, (dict, set))
        else list(value)
        if isinstance(value, (deque, bytearray))
        else value
        for name, value in found.items()
    }


def _put_back(part: Any, rules: Mapping[str, Rule], values: dict[str, Any]) -> None:
    """What _values gave; collections stay the same objects, to which others may hold."""
    for name in rules:
        now, value = getattr(part, name), values[name]
        if isinstance(now, (dict, set)):
            now.clear()
            now.update(value)
        elif isinstance(now, (deque, bytearray)):
            now.clear()
            now.extend(value)
        else:
            setattr(part, name, tuple(value) if isinstance(now, tuple) else value)


def _flash_of(image: Image) -> bytes:
    flash = bytearray(b"\xff" * FLASH_BYTES)
    for address, data in image.segments:
        if address < FLASH_BYTES:
            flash[address : address + len(data)] = data
    return bytes(flash)


def _difference(flash: bytes, image: Image) -> bytes:
    """Exclusive or with the image's flash; twice is nothing."""
    number = int.from_bytes(flash, "little") ^ int.from_bytes(_flash_of(image), "little")
    return number.to_bytes(FLASH_BYTES, "little")


# --- the file


def _packed(members: Mapping[str, bytes]) -> bytes:
    """A zip; equal boards give equal bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in members.items():
            if len(data) > _MEMBERS[name]:
                raise BoardError(f"the board's {name} takes {len(data):,} bytes, at most {_MEMBERS[name]:,} are kept")
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _unpacked(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The state, and the other members by name; all within their limits."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BoardError(f"cannot be read ({error.strerror})") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(archive.namelist())
            if len(data) > _MOST_BYTES or names != sorted(_MEMBERS):
                raise BoardError(f"holds {len(names)} parts, a snapshot has {', '.join(_MEMBERS)}")
            members = {name: _member(archive, name) for name in _MEMBERS}
        state = json_of(members.pop("state.json"))
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError, OSError) as error:
        raise BoardError(f"no snapshot of a board, or a damaged one ({error}); save it again") from None
    if not isinstance(state, dict):
        raise BoardError("state.json must be an object")
    return state, members


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    most = _MEMBERS[name]
    with archive.open(name) as member:
        data = member.read(most + 1)
    if len(data) > most or (name in ("ram", "uicr", "flash") and len(data) != most):
        raise ValueError(f"{name} must have {most} bytes")
    return data
