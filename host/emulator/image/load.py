"""A firmware image by its kind: ELF, Intel HEX or raw binary; the last two have no symbols."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from host.emulator.errors import BoardError
from host.emulator.image.elf import FLASH_BYTES, RAM_BYTES, RAM_START, Image, in_memory, load_elf

_DATA, _END, _SEGMENT, _START_SEGMENT, _LINEAR, _START_LINEAR = range(6)
_APPLICATION = 0x10000  # where the board's bootloader jumps to: Arduino images are linked here
_PAGE = 0x1000
_MOST_BYTES = 1 << 26  # an image with all its debugging information has a few million


def load_image(path: Path | str) -> Image:
    """The image in a file; raises BoardError when it is damaged or meant for another chip."""
    file = Path(path)
    try:
        with file.open("rb") as source:
            data = source.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BoardError(f"{file}: cannot be read ({error.strerror})") from None
    if len(data) > _MOST_BYTES:
        raise BoardError(
            f"{file}: more than {_MOST_BYTES:,} bytes, the flash has {FLASH_BYTES:,}; it is no image of it"
        )
    if file.suffix.lower() == ".hex":
        return Image(file, _read_hex(file, data))
    if file.suffix.lower() == ".bin":
        return Image(file, [(_link_address(file, data), data)])
    return load_elf(file, data)


def _link_address(file: Path, data: bytes) -> int:
    """Where a raw binary belongs: at the page where its handlers lie inside it and most of its function pointers meet a
    function."""
    if len(data) < 64:
        raise BoardError(
            f"{file}: {len(data)} bytes, too short for a vector table; give the whole firmware.bin of the build"
        )
    stack, entry = struct.unpack_from("<II", data)
    if not RAM_START < stack <= RAM_START + RAM_BYTES or not entry & 1 or entry >= FLASH_BYTES:
        raise BoardError(
            f"{file}: no vector table of the nRF52840 at its start (stack {stack:#010x}, reset {entry:#010x}); "
            "it is for another chip, or no raw binary"
        )
    handlers = [
        word & ~1 for word in struct.unpack_from("<14I", data, 4) if word & 1
    ]  # reset .. PendSV; reserved ones are even
    low, high = min(handlers), max(handlers)
    fits: list[int] = [
        base
        for base in (_APPLICATION, 0, *range(0, FLASH_BYTES, _PAGE))
        if base + 64 <= low and high < base + len(data) <= FLASH_BYTES
    ]
    words, halves = np.frombuffer(data, "<u4", len(data) // 4), np.frombuffer(data, "<u2", len(data) // 2)
    if not fits:
        raise BoardError(
            f"{file}: {len(data)} bytes, and its handlers lie at {low:#x}..{high:#x}: truncated, or more than "
            f"the flash; "
            "build or copy it again"
        )
    return max(fits, key=lambda base: _functions_met(words, halves, base))  # the first of equals


def _functions_met(words: npt.NDArray[np.uint32], halves: npt.NDArray[np.uint16], base: int) -> int:
    """How many odd words point at a PUSH of the image when it lies at `base`."""
    targets = words[(words & 1 == 1) & (words > base) & (words - base < 2 * len(halves))] - base >> 1
    first = halves[targets]
    return int(np.count_nonzero((first >> 8 == 0xB5) | (first == 0xE92D)))


def _read_hex(file: Path, data: bytes) -> list[tuple[int, bytes]]:
    """Intel HEX: its data as segments without holes."""
    base, at_end = 0, False
    parts: list[tuple[int, bytearray]] = []
    for number, line in enumerate(data.decode("latin-1").split("\n"), 1):
        text = line.strip()
        if not text:
            continue
        if at_end:
            raise BoardError(f"{file}: line {number}: data behind the end record; build or copy it again")
        kind, address, payload = _record(f"{file}: line {number}", text)
        if kind == _DATA:
            _append(parts, base + address, payload)
        elif kind in (_SEGMENT, _LINEAR):
            base = int.from_bytes(payload, "big") << (4 if kind == _SEGMENT else 16)
        at_end = kind == _END
    if not at_end:
        raise BoardError(f"{file}: truncated Intel HEX, the end record is missing; build or copy it again")
    return _checked(file, parts)


def _record(where: str, text: str) -> tuple[int, int, bytes]:
    """Kind, address and data of a line."""
    try:
        raw = bytes.fromhex(text[1:])
    except ValueError:
        raw = b""
    if text[0] != ":" or len(raw) < 5 or len(raw) != raw[0] + 5:
        raise BoardError(f"{where}: no Intel HEX record ({text[:20]!r}); build or copy it again")
    if sum(raw) & 0xFF:
        raise BoardError(f"{where}: the checksum is wrong; build or copy it again")
    kind, size = raw[3], raw[0]
    if kind > _START_LINEAR or (kind in (_SEGMENT, _LINEAR) and size != 2):
        raise BoardError(
            f"{where}: record type {kind} with {size} bytes is not known; write the file with "
            f"arm-none-eabi-objcopy -O ihex"
        )
    return kind, raw[1] << 8 | raw[2], raw[4:-1]


def _append(parts: list[tuple[int, bytearray]], address: int, payload: bytes) -> None:
    if parts and parts[-1][0] + len(parts[-1][1]) == address:
        parts[-1][1].extend(payload)
    elif payload:
        parts.append((address, bytearray(payload)))


def _checked(file: Path, parts: list[tuple[int, bytearray]]) -> list[tuple[int, bytes]]:
    found = []
    for address, payload in sorted(parts, key=lambda part: part[0]):
        end = address + len(payload)
        is_uicr = (
            address >= 0x10001000 and end <= 0x10002000
        )  # factory tools put the reset pin there; the board has its own
        if not in_memory(address, len(payload)) and not is_uicr:
            raise BoardError(
                f"{file}: data at {address:#x}..{end:#x} lies outside the nRF52840's 1 MB flash and 256 KB RAM; "
                "it is for another chip"
            )
        if not is_uicr:
            found.append((address, bytes(payload)))
    if not found:
        raise BoardError(f"{file}: nothing to load")
    return found
