"""ELF files that say more than they hold: each ends in one sentence, or is read, within seconds and 500 MB."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from host.emulator import BoardError
from host.emulator.image.elf import load_elf, sized_symbols

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES, MOST_SECONDS, MOST_KILOBYTES = 2_000_000, 10.0, 500_000
CODE = struct.pack("<2I", 0x20001000, 0x41) + bytes(0x38) + bytes.fromhex("fee7")  # vector table; b .
PROGRAM = (1, 52 + 32, 0, 0, len(CODE), len(CODE), 5, 4)  # type, offset, vaddr, paddr, filesz, memsz, flags, align


def elf(
    programs: Sequence[tuple[int, ...]] | bytes = b"",
    sections: Sequence[tuple[int, ...]] = (),
    more: bytes = b"",
    **fields: int,
) -> bytes:
    """header, program headers (one for CODE where none are given), CODE, `more`, section headers; `fields` overrule
    those of the header."""
    table = programs if isinstance(programs, bytes) else b"".join(struct.pack("<8I", *one) for one in programs)
    table = table or struct.pack("<8I", *PROGRAM)
    body = table + CODE + more
    rows = b"".join(struct.pack("<10I", *one) for one in sections)
    header = {"phoff": 52, "shoff": 52 + len(body) if rows else 0, "phentsize": 32, "phnum": len(table) // 32}
    header |= {"shentsize": 40, "shnum": len(sections)} | fields
    return (
        struct.pack("<4s12BHHIIIII", b"\x7fELF", 1, 1, 1, *[0] * 9, 2, 40, 1, 1, header["phoff"], header["shoff"], 0)
        + struct.pack("<6H", 52, header["phentsize"], header["phnum"], header["shentsize"], header["shnum"], 0)
        + body
        + rows
    )


AT = 52 + 32 + len(CODE)  # where `more` begins


def with_symbols(symbols: Sequence[tuple[int, ...]] | bytes, names: bytes, **changed: int) -> bytes:
    """A symbol table (name, value, size, info, other, section) and its strings; `changed`: fields of its header."""
    table = symbols if isinstance(symbols, bytes) else b"".join(struct.pack("<3IBBH", *one) for one in symbols)
    row = {"type": 2, "offset": AT, "size": len(table), "link": 3, "entsize": 16} | changed
    sections = [
        (0,) * 10,
        (0, 1, 6, 0, 84, len(CODE), 0, 0, 4, 0),
        (0, row["type"], 0, 0, row["offset"], row["size"], row["link"], 0, 4, row["entsize"]),
        (0, 3, 0, 0, AT + len(table), len(names), 0, 0, 1, 0),
    ]
    return elf(sections=sections, more=table + names)


def function(number: int, name: int) -> bytes:
    return struct.pack("<3IBBH", name, 0x41 + 2 * number, 0, 0x12, 0, 1)


MANY = 100_000
LONG = b"\0" + b"n" * 300_000 + b"\0"
HOSTILE = {
    "64 GB of overlapping headers of no size": (
        elf(struct.pack("<8I", 1, 84, 0, 0, 0x100000, 0x100000, 5, 4), phentsize=0, phnum=0xFFFF, more=bytes(1 << 20)),
        "e_phentsize must be 32, got 0",
    ),
    "60,000 headers of the same megabyte": (
        elf([(1, 84, 0, 0, 0x100000, 0x100000, 5, 4)] * 60_000),
        "two segments overlap at 0x0 (p_paddr and p_filesz of program headers 0 and 1)",
    ),
    "more headers than the file holds": (
        elf(phnum=9000),
        "the table of e_phoff and e_phnum (9000 entries) ends at byte",
    ),
    "headers behind the file": (elf(phoff=0xFFFFFFF0), "the table of e_phoff and e_phnum (1 entries) ends at byte"),
    "a segment behind the file": (elf([(*PROGRAM[:4], 4000, 4000, 5, 4)]), "segment 0 (p_offset + p_filesz) ends at"),
    "a segment that wraps round": (elf([(1, 84, 0, 0xFFFFFFFF, 8, 8, 5, 4)]), "segment 0 at 0xffffffff..0x100000007"),
    "a segment of 4 GB in memory": (elf([(*PROGRAM[:5], 0xFFFFFFFF, 5, 4)]), "lies outside the nRF52840's"),
    "sections of another size": (elf(sections=[(0,) * 10], shentsize=0), "e_shentsize must be 40, got 0"),
    "more sections than the file holds": (elf(sections=[(0,) * 10], shnum=0xFEFF), "the table of e_shoff and e_shnum"),
    "symbols of no size": (with_symbols([], b"\0", entsize=0), "sh_entsize of the symbol table must be 16"),
    "half a symbol": (with_symbols([], b"\0", size=24), "divide its sh_size, got 16 and 24"),
    "symbols behind the file": (
        with_symbols([], b"\0", size=0xFFFFFFF0),
        "the symbol table (sh_offset + sh_size) ends",
    ),
    "names in the symbols themselves": (with_symbols([], b"\0", link=2), "sh_link of the symbol table must be"),
    "names in no section": (with_symbols([], b"\0", link=77), "must be a string table, got 77"),
    "a name outside its table": (with_symbols(function(0, 9), b"\0abc\0"), "st_name 9 of a symbol does not name"),
    "a name without an end": (with_symbols(function(0, 1), b"\0abc"), "st_name 1 of a symbol does not name"),
    "30 GB of overlapping names": (
        with_symbols(b"".join(function(number, 1 + number) for number in range(MANY)), LONG),
        "(st_name) must take at most 16,777,216 bytes",
    ),
}
LARGE = {
    "one long name for all": with_symbols(b"".join(function(number, 1) for number in range(MANY)), LONG),
    "functions without a size": with_symbols(
        b"".join(function(number, 1 + number % 8) for number in range(MANY)), b"\0abcdefg\0"
    ),
    "sections": elf(sections=[(0, 6, 0, 0, 0, 0xFFFFFFFF, 0, 0, 1, 0)] * 48_000),
    "symbol tables": elf(sections=[(0, 2, 0, 0, 84, 0, 1, 0, 1, 16), (0, 3, 0, 0, 84, 1, 0, 0, 1, 0)] * 24_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_elf_is_refused_by_the_name_of_its_field(kind: str) -> None:
    data, sentence = HOSTILE[kind]
    assert len(data) <= MOST_BYTES
    begun = time.monotonic()
    with pytest.raises(BoardError) as told:
        load_elf(Path("a.elf"), data)
    assert sentence in str(told.value) and "\n" not in str(told.value)
    assert time.monotonic() - begun < MOST_SECONDS


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_elf_is_read_in_time(kind: str) -> None:
    data = LARGE[kind]
    assert 1_000_000 < len(data) <= MOST_BYTES
    begun = time.monotonic()
    load_elf(Path("a.elf"), data)
    sized_symbols(data)
    assert time.monotonic() - begun < MOST_SECONDS


MEASURED = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, *sys.argv[1:]], timeout=30)
print("kilobytes", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def test_the_command_stays_within_its_memory(tmp_path: Path) -> None:
    """The largest of them, and the one that took 64 GB, through `host emulate`; the whole process is measured."""
    for number, data in enumerate((LARGE["functions without a size"], next(iter(HOSTILE.values()))[0])):
        made = tmp_path / f"{number}.elf"
        made.write_bytes(data)
        emulate = ["-m", "host", "emulate", str(made), "--port", "none", "--until", "0.001"]
        command = [sys.executable, "-c", MEASURED, *emulate]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == number, done.stderr
        assert len(done.stderr.strip().splitlines()) == number, done.stderr
        assert int(done.stdout.rpartition("kilobytes ")[2]) < MOST_KILOBYTES


def test_spoilt_tables_never_do_worse_than_a_sentence() -> None:
    """4,000 files with one to eight bytes of their headers and tables replaced, many by extremes."""
    whole = with_symbols([(1, 0x41, 2, 0x12, 0, 1), (3, 0x20000000, 4, 0x11, 0, 1)], b"\0f\0g\0")
    interesting = [*range(84), *range(AT, len(whole))]
    rng = random.Random(5)
    refused = 0
    for _ in range(4000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 9)):
            data[rng.choice(interesting)] = rng.choice([0, 1, 2, 3, 0x10, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        try:
            load_elf(Path("a.elf"), bytes(data))
            sized_symbols(bytes(data))
        except BoardError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 1000 < refused < 4000
