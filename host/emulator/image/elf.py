"""Load a firmware image: ELF32 for ARM, with its function symbols."""

from __future__ import annotations

import bisect
import functools
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section, SymbolTableSection
from elftools.elf.sections import Symbol as ElfSymbol

from converter.target import NRF52840
from host.emulator.errors import BoardError

FLASH_BYTES, RAM_START, RAM_BYTES = NRF52840.flash_bytes, NRF52840.ram_start, NRF52840.ram_bytes
_EM_ARM = 40
_PROGRAM_HEADER, _SECTION_HEADER, _SYMBOL = 32, 40, 16  # bytes of one table entry of an ELF32


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
        """The function that holds this code address."""
        address &= ~1
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        found = self.functions[index]
        return found if address < found.address + max(found.size, 2) else None

    def name_at(self, address: int) -> str:
        """Such as main+0x1c; the address itself where no function is known."""
        found = self.symbol_at(address)
        return f"{found.name}+{(address & ~1) - found.address:#x}" if found else f"{address & ~1:#010x}"

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [one.address for one in self.functions]


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
    if len(data) < 52 or data[4] != 1 or data[5] != 1:
        raise BoardError(f"{file}: not a 32-bit little-endian ELF; the nRF52840 needs one")
    machine = int.from_bytes(data[18:20], "little")
    if machine != _EM_ARM:
        raise BoardError(
            f"{file}: made for machine {machine}, the nRF52840 is ARM ({_EM_ARM}); build with arm-none-eabi-gcc"
        )
    try:
        elf = _open(data)
        return Image(file, _segments(file, data, elf), *_symbols(elf))
    except ELFError:
        raise BoardError(f"{file}: truncated ELF ({len(data)} bytes); build or copy it again") from None


def _open(data: bytes) -> ELFFile:
    elf = ELFFile(io.BytesIO(data))
    segments, sections = elf["e_phoff"], elf["e_shoff"]
    if (segments and elf["e_phentsize"] != _PROGRAM_HEADER) or (sections and elf["e_shentsize"] != _SECTION_HEADER):
        raise ELFError("table entries of another size")  # entries of no size would never end
    return elf


def _segments(file: Path, data: bytes, elf: ELFFile) -> list[tuple[int, bytes]]:
    """What is to be loaded, checked before any of it is copied."""
    spans = []
    for index, segment in enumerate(elf.iter_segments()):
        offset, size, address = segment["p_offset"], segment["p_filesz"], segment["p_paddr"]
        if segment["p_type"] != "PT_LOAD" or size == 0:
            continue
        if offset + size > len(data):
            raise BoardError(
                f"{file}: truncated ELF, segment {index} ends at byte {offset + size} of {len(data)}; build or copy "
                f"it again"
            )
        for start, length in ((address, size), (segment["p_vaddr"], segment["p_memsz"])):
            if not in_memory(start, length):
                raise BoardError(
                    f"{file}: segment at {start:#x}..{start + length:#x} lies outside the nRF52840's 1 MB flash "
                    "and 256 KB RAM; it is for another chip"
                )
        spans.append((address, size, offset))
    if not spans:
        raise BoardError(f"{file}: nothing to load; link it with a linker script for the nRF52840")
    by_address = sorted(spans)
    for (address, size, _), (following, _, _) in itertools.pairwise(by_address):
        if following < address + size:
            raise BoardError(f"{file}: two segments overlap at {following:#x}; build or copy it again")
    return [(address, data[offset : offset + size]) for address, size, offset in spans]


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
    sections = list(_open(data).iter_sections())
    entries = [
        (symbol, kind, file, address)
        for symbol, kind, file, address in _entries(sections)
        if kind in ("STT_OBJECT", "STT_FUNC") and symbol["st_shndx"] in range(1, len(sections))
    ]
    starts = sorted({address for _, _, _, address in entries})
    found: dict[int, SizedSymbol] = {}
    for symbol, kind, file, address in entries:
        section, size = sections[symbol["st_shndx"]], symbol["st_size"]
        if not size and kind == "STT_FUNC":
            following = starts[bisect.bisect_right(starts, address) :][:1]
            size = min([*following, section["sh_addr"] + section["sh_size"]]) - address
        if size and (address not in found or found[address].size < size):
            found[address] = SizedSymbol(symbol.name, file, address, size, section["sh_type"] != "SHT_NOBITS")
    return [found[address] for address in sorted(found)]


def _entries(sections: list[Section]) -> Iterator[tuple[ElfSymbol, str, str, int]]:
    """(symbol, its kind, the source file of a local one, address without a function's Thumb bit) in file order; a
    file's name stands before its local symbols, all locals before the first global."""
    table = next((one for one in sections if one["sh_type"] == "SHT_SYMTAB"), None)
    if not isinstance(table, SymbolTableSection):
        return
    if table["sh_entsize"] != _SYMBOL:
        raise ELFError("symbols of another size")
    file = ""
    for symbol in table.iter_symbols():
        kind, value = symbol["st_info"]["type"], symbol["st_value"]
        file = symbol.name if kind == "STT_FILE" else file
        is_local = symbol["st_info"]["bind"] == "STB_LOCAL"
        yield symbol, kind, file if is_local else "", value & ~1 if kind == "STT_FUNC" else value


def _symbols(elf: ELFFile) -> tuple[list[Symbol], dict[str, Symbol]]:
    functions: dict[int, Symbol] = {}
    objects: dict[str, Symbol] = {}
    for symbol, kind, _, address in _entries(list(elf.iter_sections())):
        if symbol["st_shndx"] == "SHN_UNDEF":
            continue
        found = Symbol(symbol.name, address, symbol["st_size"])
        if kind == "STT_FUNC":
            if symbol["st_info"]["bind"] == "STB_GLOBAL" or address not in functions:
                functions[address] = found
        elif symbol.name and kind in ("STT_OBJECT", "STT_NOTYPE"):
            objects.setdefault(symbol.name, found)
    return sorted(functions.values(), key=lambda one: one.address), objects
