"""Load a firmware image: ELF32 for ARM, with its function symbols."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from host.emulator.errors import BoardError

FLASH_BYTES = 0x100000
RAM_START, RAM_BYTES = 0x20000000, 0x40000
_PT_LOAD, _SHT_SYMTAB, _SHT_NOBITS, _STB_GLOBAL, _EM_ARM = 1, 2, 8, 1, 40
_STT_NONE, _STT_OBJECT, _STT_FUNC, _STT_FILE = 0, 1, 2, 4


@dataclass(frozen=True)
class Symbol:
    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Image:
    """Segments at their load addresses, and what the symbol table names."""

    path: Path
    segments: list[tuple[int, bytes]]
    functions: list[Symbol] = field(default_factory=list)  # by address
    objects: dict[str, Symbol] = field(default_factory=dict)

    @property
    def vector_address(self) -> int:
        return min(address for address, _ in self.segments)

    def symbol_at(self, address: int) -> Symbol | None:
        """The function that holds this code address."""
        address &= ~1
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        found = self.functions[index]
        return found if address < found.address + max(found.size, 2) else None

    def name_at(self, address: int) -> str:
        found = self.symbol_at(address)
        return f"{found.name}+{(address & ~1) - found.address:#x}" if found else f"{address & ~1:#010x}"

    @property
    def _starts(self) -> list[int]:
        cached: list[int] | None = self.__dict__.get("_start_list")
        if cached is None:
            cached = [one.address for one in self.functions]
            self.__dict__["_start_list"] = cached
        return cached


def load_elf(file: Path, data: bytes) -> Image:
    """An ELF for this chip; raises BoardError when it is damaged or meant for another one."""
    if data[:4] != b"\x7fELF":
        raise BoardError(
            f"{file}: no ELF file (starts with {data[:4].hex() or 'nothing'}); "
            "give the firmware.elf, .hex or .bin of the build"
        )
    if len(data) < 52 or data[4] != 1 or data[5] != 1:
        raise BoardError(f"{file}: not a 32-bit little-endian ELF; the nRF52840 needs one")
    machine = struct.unpack_from("<H", data, 18)[0]
    if machine != _EM_ARM:
        raise BoardError(
            f"{file}: made for machine {machine}, the nRF52840 is ARM ({_EM_ARM}); build with arm-none-eabi-gcc"
        )
    try:
        return _parse(file, data)
    except struct.error:
        raise BoardError(f"{file}: truncated ELF ({len(data)} bytes); build or copy it again") from None


def _parse(file: Path, data: bytes) -> Image:
    phoff, shoff = struct.unpack_from("<II", data, 28)
    phentsize, phnum, _shentsize, shnum = struct.unpack_from("<HHHH", data, 42)
    segments = []
    for index in range(phnum):
        kind, offset, _virtual, physical, size = struct.unpack_from("<IIIII", data, phoff + index * phentsize)
        if kind != _PT_LOAD or size == 0:
            continue
        if offset + size > len(data):
            raise BoardError(
                f"{file}: truncated ELF, segment {index} ends at byte {offset + size} of {len(data)}; build or copy "
                f"it again"
            )
        in_flash = physical + size <= FLASH_BYTES
        in_ram = physical >= RAM_START and physical + size <= RAM_START + RAM_BYTES
        if not (in_flash or in_ram):
            raise BoardError(
                f"{file}: segment at {physical:#x}..{physical + size:#x} lies outside the nRF52840's 1 MB flash "
                "and 256 KB RAM; it is for another chip"
            )
        segments.append((physical, data[offset : offset + size]))
    if not segments:
        raise BoardError(f"{file}: nothing to load; link it with a linker script for the nRF52840")
    functions, objects = _symbols(data, shoff, shnum)
    return Image(file, segments, functions, objects)


@dataclass(frozen=True)
class SizedSymbol:
    """A function or object with the memory it takes; `file` is the source of a local one, "" for a global one."""

    name: str
    file: str
    address: int
    size: int
    in_image: bool  # has bytes in the image (.bss has none)

    @property
    def in_ram(self) -> bool:
        return self.address >= RAM_START


def sized_symbols(data: bytes) -> list[SizedSymbol]:
    """What takes memory in an ELF that load_elf accepts, each address once (the largest of its names), by address.

    A function without a size (assembly may not say it) reaches to the next function or object, or to the end of its
    section.
    """
    (shoff,) = struct.unpack_from("<I", data, 32)
    (shnum,) = struct.unpack_from("<H", data, 48)
    headers = _headers(data, shoff, shnum)
    entries = [
        entry
        for entry in _entries(data, headers)
        if entry.kind in (_STT_OBJECT, _STT_FUNC) and 0 < entry.section < len(headers)
    ]
    starts = sorted({entry.address for entry in entries})
    found: dict[int, SizedSymbol] = {}
    for entry in entries:
        header = headers[entry.section]
        size = entry.size
        if not size and entry.kind == _STT_FUNC:
            following = starts[bisect.bisect_right(starts, entry.address) :][:1]
            size = min([*following, header[3] + header[5]]) - entry.address
        if size and (entry.address not in found or found[entry.address].size < size):
            found[entry.address] = SizedSymbol(entry.name, entry.file, entry.address, size, header[1] != _SHT_NOBITS)
    return [found[address] for address in sorted(found)]


@dataclass(frozen=True)
class _Entry:
    name: str
    file: str
    value: int
    size: int
    kind: int
    is_global: bool
    section: int

    @property
    def address(self) -> int:
        """Without the Thumb bit of a function."""
        return self.value & ~1 if self.kind == _STT_FUNC else self.value


def _headers(data: bytes, shoff: int, shnum: int) -> list[tuple[int, ...]]:
    return [struct.unpack_from("<IIIIIIIIII", data, shoff + index * 40) for index in range(shnum)] if shoff else []


def _entries(data: bytes, headers: list[tuple[int, ...]]) -> Iterator[_Entry]:
    """The symbol tables in file order; a file's name stands before its local symbols, all locals before the first
    global."""
    for header in headers:
        if header[1] != _SHT_SYMTAB or header[6] >= len(headers):
            continue
        strings = data[headers[header[6]][4] :][: headers[header[6]][5]]
        file = ""
        for offset in range(header[4], header[4] + header[5], 16):
            name_at, value, size, info, _, section = struct.unpack_from("<IIIBBH", data, offset)
            name = strings[name_at : strings.find(b"\0", name_at)].decode(errors="replace")
            is_global = info >> 4 != 0
            if info & 15 == _STT_FILE:
                file = name
            yield _Entry(name, "" if is_global else file, value, size, info & 15, info >> 4 == _STB_GLOBAL, section)


def _symbols(data: bytes, shoff: int, shnum: int) -> tuple[list[Symbol], dict[str, Symbol]]:
    functions: dict[int, Symbol] = {}
    objects: dict[str, Symbol] = {}
    for entry in _entries(data, _headers(data, shoff, shnum)):
        if entry.kind == _STT_FUNC and entry.section:
            if entry.is_global or entry.address not in functions:
                functions[entry.address] = Symbol(entry.name, entry.address, entry.size)
        elif entry.name and entry.section and entry.kind in (_STT_OBJECT, _STT_NONE):
            objects.setdefault(entry.name, Symbol(entry.name, entry.value, entry.size))
    return sorted(functions.values(), key=lambda one: one.address), objects
