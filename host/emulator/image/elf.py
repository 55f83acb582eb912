"""Load a firmware image: ELF32 for ARM, with its function symbols. Time and memory are bounded by the file: its tables
must lie in it, and its names together have a limit."""

from __future__ import annotations

import bisect
import functools
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from converter.target import NRF52840
from host.emulator.errors import BoardError

FLASH_BYTES, RAM_START, RAM_BYTES = NRF52840.flash_bytes, NRF52840.ram_start, NRF52840.ram_bytes
CODE_RAM = NRF52840.code_ram_start
_EM_ARM, _PT_LOAD = 40, 1
_SHT_SYMTAB, _SHT_STRTAB, _SHT_NOBITS = 2, 3, 8
_LOCAL, _GLOBAL = 0, 1  # a symbol's binding
_NOTYPE, _OBJECT, _FUNC, _FILE = 0, 1, 2, 4  # and its kind
_HEADER_BYTES = 52
_PROGRAM_HEADER, _SECTION_HEADER, _SYMBOL = struct.Struct("<8I"), struct.Struct("<10I"), struct.Struct("<3IBBH")
_MOST_NAME_BYTES = 1 << 24  # of all symbols together: names may overlap, so that the file alone is no bound
_AGAIN = "build or copy it again"


@dataclass(frozen=True)
class Symbol:
    """A function or object: address without the Thumb bit, bytes."""

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
        """The lowest address loaded, where the vector table lies."""
        return min(address for address, _ in self.segments)

    def symbol_at(self, address: int) -> Symbol | None:
        """The function that holds this code address, be it RAM's in the code region."""
        address = data_address(address) & ~1
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        found = self.functions[index]
        return found if address < found.address + max(found.size, 2) else None

    def name_at(self, address: int) -> str:
        """Such as main+0x1c; the address itself where no function is known."""
        found = self.symbol_at(address)
        return f"{found.name}+{(data_address(address) & ~1) - found.address:#x}" if found else f"{address & ~1:#010x}"

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [one.address for one in self.functions]


def data_address(address: int) -> int:
    """RAM at its address in the code region is the same memory as at the other one."""
    return address - CODE_RAM + RAM_START if CODE_RAM <= address < CODE_RAM + RAM_BYTES else address


def in_memory(address: int, size: int) -> bool:
    """Whether these bytes lie in the chip's flash or in its RAM."""
    return address + size <= FLASH_BYTES or RAM_START <= address <= address + size <= RAM_START + RAM_BYTES


def load_elf(file: Path, data: bytes) -> Image:
    """An ELF for this chip; raises BoardError when it is damaged or meant for another one."""
    if data[:4] != b"\x7fELF":
        raise BoardError(
            f"{file}: no ELF file (starts with {data[:4].hex() or 'nothing'}); "
            "give the firmware.elf, .hex or .bin of the build"
        )
    if len(data) < _HEADER_BYTES or data[4] != 1 or data[5] != 1:
        raise BoardError(f"{file}: not a 32-bit little-endian ELF; the nRF52840 needs one")
    machine = int.from_bytes(data[18:20], "little")
    if machine != _EM_ARM:
        raise BoardError(
            f"{file}: made for machine {machine}, the nRF52840 is ARM ({_EM_ARM}); build with arm-none-eabi-gcc"
        )
    try:
        return Image(file, _segments(data), *_symbols(data))
    except BoardError as error:
        raise BoardError(f"{file}: {error}") from None


# --- tables of the file


@dataclass(frozen=True)
class _Section:
    """A section header's fields."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


def _table(data: bytes, name: str, offset: int, size: int) -> bytes:
    """The bytes of a table, which must lie in the file."""
    if offset + size > len(data):
        raise BoardError(f"truncated ELF, {name} ends at byte {offset + size} of {len(data)}; {_AGAIN}")
    return data[offset : offset + size]


def _entries(data: bytes, kind: str, layout: struct.Struct) -> list[tuple[int, ...]]:
    """The program ("ph") or section headers ("sh")."""
    phoff, shoff, phentsize, phnum, shentsize, shnum = _tables(data)
    offset, size, count = (phoff, phentsize, phnum) if kind == "ph" else (shoff, shentsize, shnum)
    if not offset:
        return []
    if size != layout.size:
        raise BoardError(f"damaged ELF, e_{kind}entsize must be {layout.size}, got {size}; {_AGAIN}")
    table = _table(data, f"the table of e_{kind}off and e_{kind}num ({count} entries)", offset, count * size)
    return list(layout.iter_unpack(table))


def _tables(data: bytes) -> tuple[int, int, int, int, int, int]:
    """e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum."""
    return struct.unpack_from("<28x2I6x4H", data)


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    """What is to be loaded, checked before any of it is copied."""
    spans = []
    for index, header in enumerate(_entries(data, "ph", _PROGRAM_HEADER)):
        kind, offset, virtual, address, size, memory, _, _ = header
        if kind != _PT_LOAD or size == 0:
            continue
        if offset + size > len(data):
            raise BoardError(
                f"truncated ELF, segment {index} (p_offset + p_filesz) ends at byte {offset + size} of {len(data)}; "
                f"{_AGAIN}"
            )
        for start, length in ((address, size), (virtual, memory)):
            if not in_memory(start, length):
                raise BoardError(
                    f"segment {index} at {start:#x}..{start + length:#x} lies outside the nRF52840's 1 MB flash "
                    "and 256 KB RAM; it is for another chip"
                )
        spans.append((address, size, offset, index))
    if not spans:
        raise BoardError("nothing to load; link it with a linker script for the nRF52840")
    by_address = sorted(spans)
    for (address, size, _, one), (following, _, _, other) in itertools.pairwise(by_address):
        if following < address + size:
            raise BoardError(
                f"damaged ELF, two segments overlap at {following:#x} (p_paddr and p_filesz of program headers {one} "
                f"and {other}); {_AGAIN}"
            )
    return [(address, data[offset : offset + size]) for address, size, offset, _ in spans]


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
        """Whether it lies in RAM."""
        return self.address >= RAM_START


def sized_symbols(data: bytes) -> list[SizedSymbol]:
    """What takes memory in an ELF that load_elf accepts, each address once (the largest of its names), by address.

    A function without a size (assembly may not say it) reaches to the next function or object, or to the end of its
    section.
    """
    sections = _sections(data)
    entries = [
        one for one in _named(data, sections) if one.kind in (_OBJECT, _FUNC) and 0 < one.section < len(sections)
    ]
    starts = sorted({one.address for one in entries})
    found: dict[int, SizedSymbol] = {}
    for one in entries:
        section, size = sections[one.section], one.size
        if not size and one.kind == _FUNC:
            following = bisect.bisect_right(starts, one.address)
            ends = [starts[following]] if following < len(starts) else []
            size = min([*ends, section.address + section.size]) - one.address
        if size and (one.address not in found or found[one.address].size < size):
            in_image = section.type != _SHT_NOBITS
            found[one.address] = SizedSymbol(one.name, one.file, one.address, size, in_image)
    return [found[address] for address in sorted(found)]


@dataclass(frozen=True)
class _Named:
    """An entry of the symbol table; `file`: the source of a local one; address without a function's Thumb bit."""

    name: str
    kind: int
    binding: int
    section: int
    file: str
    address: int
    size: int


def _sections(data: bytes) -> list[_Section]:
    return [_Section(*fields) for fields in _entries(data, "sh", _SECTION_HEADER)]


def _named(data: bytes, sections: list[_Section]) -> Iterator[_Named]:
    """The symbols in file order: a file's name stands before its local symbols, all locals before the first global."""
    table = next((one for one in sections if one.type == _SHT_SYMTAB), None)
    if table is None:
        return
    if table.entry_size != _SYMBOL.size or table.size % _SYMBOL.size:
        raise BoardError(
            f"damaged ELF, sh_entsize of the symbol table must be {_SYMBOL.size} and divide its sh_size, "
            f"got {table.entry_size} and {table.size}; {_AGAIN}"
        )
    entries = _table(data, "the symbol table (sh_offset + sh_size)", table.offset, table.size)
    if table.link >= len(sections) or sections[table.link].type != _SHT_STRTAB:
        raise BoardError(f"damaged ELF, sh_link of the symbol table must be a string table, got {table.link}; {_AGAIN}")
    strings = sections[table.link]
    texts = _table(data, "the string table of the symbols (sh_offset + sh_size)", strings.offset, strings.size)
    names, name_bytes, file = {0: ""}, 0, ""
    for at, value, size, info, _, section in _SYMBOL.iter_unpack(entries):
        if at not in names:
            end = texts.find(b"\0", at)
            if end < 0:
                raise BoardError(
                    f"damaged ELF, st_name {at} of a symbol does not name a text in its table of {len(texts)} bytes; "
                    f"{_AGAIN}"
                )
            name_bytes += end - at
            if name_bytes > _MOST_NAME_BYTES:
                raise BoardError(
                    f"damaged ELF, the names of its symbols (st_name) must take at most {_MOST_NAME_BYTES:,} bytes "
                    f"together; {_AGAIN}"
                )
            names[at] = texts[at:end].decode(errors="replace")
        kind, binding = info & 15, info >> 4
        file = names[at] if kind == _FILE else file
        address = value & ~1 if kind == _FUNC else value
        yield _Named(names[at], kind, binding, section, file if binding == _LOCAL else "", address, size)


def _symbols(data: bytes) -> tuple[list[Symbol], dict[str, Symbol]]:
    functions: dict[int, Symbol] = {}
    objects: dict[str, Symbol] = {}
    for one in _named(data, _sections(data)):
        if not one.section:
            continue
        found = Symbol(one.name, one.address, one.size)
        if one.kind == _FUNC:
            if one.binding == _GLOBAL or one.address not in functions:
                functions[one.address] = found
        elif one.name and one.kind in (_OBJECT, _NOTYPE):
            objects.setdefault(one.name, found)
    return sorted(functions.values(), key=lambda one: one.address), objects
