"""What the nRF52840 adds to the core's own cycles: fetches, buses, flash and its instruction cache (docs/chip.md).

The core fetches words ahead into a small buffer. From flash through the cache, and from RAM at its alias in the code
region, a fetch has a bus of its own; from RAM at 0x20000000 it shares the system bus with loads and stores, which go
first. A fetch that comes late, a taken branch, a cache miss and a load from flash make the core wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from converter.target import NRF52840
from host.emulator.cycles.thumb import Instruction

CODE_RAM, CODE_RAM_END = NRF52840.code_ram_start, 0x01000000
SYSTEM = NRF52840.ram_start


class Code(IntEnum):
    """Where code lies, by the bus that fetches it."""

    FLASH = 0
    ALIAS = 1
    SYSTEM = 2


@dataclass(frozen=True)
class Timing:
    """Cycles, unless said otherwise. Sources of each value: docs/chip.md, "Constants"."""

    direct: int = 1  # refill behind a taken branch whose target stands in the instruction
    indirect: int = 2  # and behind one whose target is in a register or in memory
    system_bus: int = 1  # a branch's target comes later by the system bus
    wide_target: int = 1  # a branch to a 32-bit instruction across two words
    buffer_words: int = 3  # fetched ahead
    flash_read: int = 2  # a load from flash waits
    miss: int = 3  # a line that is not in the cache
    line_wait: int = 1  # a line from flash without the cache
    line_bytes: int = 16
    cache_bytes: int = 2048
    cache_ways: int = 2

    @property
    def cache_sets(self) -> int:
        """Sets of the instruction cache."""
        return self.cache_bytes // (self.line_bytes * self.cache_ways)


EXPECTED = Timing()
WORST = Timing(direct=3, indirect=3, flash_read=4, miss=6, line_wait=3)


def code_at(address: int) -> Code:
    """The bus that fetches code at this address."""
    if address >= SYSTEM:
        return Code.SYSTEM
    return Code.ALIAS if CODE_RAM <= address < CODE_RAM_END else Code.FLASH


def slave_of(address: int) -> int:
    """Which of RAM's parts answers, each of which can serve two buses only one after the other: eight of 8 KB, and a
    ninth that holds the rest (Product Specification, "Memory")."""
    offset = address & NRF52840.ram_bytes - 1
    return offset >> 13 if offset < 0x10000 else 8


@dataclass(frozen=True)
class Fetched:
    """One execution of a block: its cycles without what its last branch adds; the line that was fetched last; cycles
    for which the flash is busy beyond the last instruction's first."""

    cycles: int
    end_line: int
    busy: int


def run(
    instructions: Sequence[Instruction], durations: Sequence[int], timing: Timing, shared: bool, lines: bool
) -> Fetched:
    """A block that begins with its first word fetched. durations: of each instruction by itself; shared: loads and
    stores take the fetches' bus; lines: each line of flash is waited for, without a cache."""
    fetch = _Fetch(instructions[0].address, timing, lines)
    taken: set[int] = set()  # cycles in which data have the bus
    now = start = 0
    for one, duration in zip(instructions, durations, strict=True):
        ready = fetch.arrival((one.address + one.size - 1) // 4, taken) + 1
        start = max(now, ready)
        now = start + duration
        if shared:
            taken.update(range(start, start + one.words))
        fetch.consumed((one.address + one.size) // 4, start)
    fetch.run_on(start, taken)
    return Fetched(now, fetch.line, max(0, fetch.free - start))


class _Fetch:
    """Fetches one word after the other: address phase in a cycle in which the bus is free, the word a cycle later."""

    def __init__(self, address: int, timing: Timing, lines: bool) -> None:
        self.timing, self.lines = timing, lines
        self.first = address // 4
        self.arrivals = [-1]
        self.line = address // timing.line_bytes
        self.free = -1  # the next address phase
        self._used: list[int] = []  # when each word of the buffer was done with

    def arrival(self, word: int, taken: set[int]) -> int:
        while self.first + len(self.arrivals) <= word:
            self._next(taken)
        return self.arrivals[word - self.first]

    def consumed(self, word: int, at: int) -> None:
        """All words in front of `word` are done with."""
        while self.first + len(self._used) < word:
            self._used.append(at)

    def _earliest(self) -> int | None:
        """When there is room for the next word; None: not before the core goes on."""
        behind = len(self.arrivals) - self.timing.buffer_words
        if behind < 0:
            return self.free
        return max(self.free, self._used[behind]) if behind < len(self._used) else None

    def _next(self, taken: set[int]) -> None:
        at = self._earliest()
        assert at is not None  # an instruction needs at most two words of the buffer
        while at in taken:
            at += 1
        self._fetch(at)

    def _fetch(self, at: int) -> None:
        line = (self.first + len(self.arrivals)) * 4 // self.timing.line_bytes
        wait = self.timing.line_wait if self.lines and line != self.line else 0
        self.line = line
        self.arrivals.append(at + 1 + wait)
        self.free = at + 1 + wait

    def run_on(self, until: int, taken: set[int]) -> None:
        """What is fetched ahead in vain up to the cycle of the last instruction, which may branch."""
        while (at := self._earliest()) is not None:
            while at in taken:
                at += 1
            if at >= until:
                return
            self._fetch(at)
