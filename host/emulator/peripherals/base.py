"""What the nRF52840's peripherals share (tasks, events, shortcuts, interrupts, PPI), and its small ones.

Register offsets and meanings: nRF52840 Product Specification.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from host.emulator.cpu.exceptions import Memory
from host.emulator.errors import BoardError
from host.emulator.image.elf import RAM_START
from host.emulator.schedule import Event, Schedule

_SHORTS, _INTEN, _INTENSET, _INTENCLR = 0x200, 0x300, 0x304, 0x308


_EVERYWHERE = {
    _SHORTS: " SHORTS",
    _INTEN: " INTEN",
    _INTENSET: " INTENSET",
    _INTENCLR: " INTENCLR",
    0x400: " STATUS",
    0x500: " ENABLE",
}
FLAG_WORDS = 0x10000  # register words from 0x40000000 on


class EventFlags:
    """Raised events of one peripheral by offset, mirrored into the bytes that counter.c answers polling programs
    from."""

    def __init__(self, flags: Any, base: int, events: Iterable[int]) -> None:
        self._raised: set[int] = set()
        self._flags, self._base, self._events = flags, (base & 0x3FFFF) >> 2, tuple(events)
        self.clear()

    def add(self, offset: int) -> None:
        self._raised.add(offset)
        self._flags[self._base + (offset >> 2)] = 2

    def discard(self, offset: int) -> None:
        self._raised.discard(offset)
        self._flags[self._base + (offset >> 2)] = 1

    def __contains__(self, offset: int) -> bool:
        return offset in self._raised

    def __iter__(self) -> Iterator[int]:
        return iter(self._raised)

    def clear(self) -> None:
        self._raised.clear()
        for offset in self._events:
            self._flags[self._base + (offset >> 2)] = 1


class Chip:
    """What a peripheral may use: time, memory, interrupts, the report of what nobody models."""

    def __init__(
        self,
        schedule: Schedule,
        memory: Memory,
        set_line: Callable[[int, bool], None],
        unmodelled: Callable[[str], None],
    ) -> None:
        self.schedule, self.memory, self.set_line, self.unmodelled = schedule, memory, set_line, unmodelled
        self.flags = (ctypes.c_uint8 * FLAG_WORDS)()
        self.by_base: dict[int, Peripheral] = {}
        self.ppi_event: Callable[[int], None] | None = None  # told each event's address

    def add(self, peripheral: Peripheral) -> None:
        self.by_base.setdefault(peripheral.base, peripheral)

    def dma_read(self, address: int, size: int, name: str) -> bytes:
        """RAM as EasyDMA reads it; it cannot read flash."""
        found = self.memory.span(address, size) if address >= RAM_START else None
        if found is None:
            raise BoardError(f"{name}: EasyDMA from {address:#010x}, {size} bytes: only RAM can be transferred")
        return bytes(found)

    def dma_write(self, address: int, data: bytes, name: str) -> None:
        found = self.memory.span(address, len(data)) if address >= RAM_START else None
        if found is None:
            raise BoardError(f"{name}: EasyDMA to {address:#010x}, {len(data)} bytes: outside RAM")
        found[:] = data

    def trigger(self, address: int) -> None:
        """Write 1 to a task register, as PPI does."""
        peripheral = self.by_base.get(address & ~0xFFF)
        if peripheral:
            peripheral.task(address & 0xFFF)

    def reset(self) -> None:
        for peripheral in self.by_base.values():
            peripheral.reset()


class Peripheral:
    """One peripheral at `base` with interrupt `irq`. Subclasses name registers and act on tasks.

    names: offset -> register name, the registers that are modelled beside tasks and events
    shorts: bit -> (offset of the event, offset of the task)
    """

    name = "?"
    names: Mapping[int, str] = {}
    tasks: Mapping[int, str] = {}
    events: Mapping[int, str] = {}
    shorts: Mapping[int, tuple[int, int]] = {}

    def __init__(self, chip: Chip, base: int, irq: int | None, name: str) -> None:
        self.chip, self.base, self.irq, self.name = chip, base, irq, name
        self.registers: dict[int, int] = {}
        self.raised = EventFlags(chip.flags, base, self.events)
        self.inten = 0
        self.short_bits = 0
        chip.add(self)

    def reset(self) -> None:
        self.registers.clear()
        self.raised.clear()
        self.inten = self.short_bits = 0
        self._update()

    def task(self, offset: int) -> None:
        """Do a task; overridden."""

    def changed(self, offset: int, value: int) -> None:
        """A register was written; overridden where that has an effect."""

    def value_of(self, offset: int) -> int:
        """A named register read; overridden where it is computed."""
        return self.registers.get(offset, 0)

    def event(self, offset: int) -> None:
        """Raise an event: flag, shortcuts, PPI, interrupt."""
        self.raised.add(offset)
        self._update()
        for bit, (event, task) in self.shorts.items():
            if event == offset and self.short_bits >> bit & 1:
                self.task(task)
        if self.chip.ppi_event is not None:
            self.chip.ppi_event(self.base + offset)

    def _update(self) -> None:
        if self.irq is not None:
            level = any(self.inten >> (offset - 0x100) // 4 & 1 for offset in self.raised)
            self.chip.set_line(self.irq, level)

    def read(self, offset: int) -> int:
        if offset in self.events:
            return int(offset in self.raised)
        if offset in (_INTEN, _INTENSET, _INTENCLR) and self.events:
            return self.inten
        if offset == _SHORTS and self.shorts:
            return self.short_bits
        if offset in self.names:
            return self.value_of(offset)
        if offset not in self.tasks:
            self._unknown(offset, "read")
        return self.registers.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset in self.tasks:
            if value & 1:
                self.task(offset)
        elif offset in self.events:
            (self.raised.add if value else self.raised.discard)(offset)
            self._update()
        elif offset in (_INTEN, _INTENSET, _INTENCLR) and self.events:
            if offset == _INTEN:
                self.inten = value
            else:
                self.inten = self.inten | value if offset == _INTENSET else self.inten & ~value
            self._update()
        elif offset == _SHORTS and self.shorts:
            self.short_bits = value
        else:
            if offset not in self.names:
                self._unknown(offset, "write")
            self.registers[offset] = value
            self.changed(offset, value)

    def _unknown(self, offset: int, how: str) -> None:
        kind = " task" if offset < 0x100 else " event" if offset < _SHORTS else _EVERYWHERE.get(offset, "")
        self.chip.unmodelled(f"{self.name}+{offset:#05x}{kind} ({how})")


class Unknown(Peripheral):
    """Keeps what is written and reports each register once."""


class Idle(Peripheral):
    """A peripheral that a program may set up and leave off, or whose cable is not in (USBD): told by name once it is
    switched on."""

    def read(self, offset: int) -> int:
        return self.registers.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x500 and value & 1:
            self.chip.unmodelled(f"{self.name} switched on")
        if offset >= 0x500:
            self.registers[offset] = value


class Temp(Peripheral):
    """The die's temperature: 25 degrees, 36 us after START."""

    tasks: Mapping[int, str] = {0x000: "START", 0x004: "STOP"}
    events: Mapping[int, str] = {0x100: "DATARDY"}
    names: Mapping[int, str] = {0x508: "TEMP"}

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip, 0x4000C000, 12, "TEMP")

    def task(self, offset: int) -> None:
        if offset == 0x000:
            self.registers[0x508] = 100  # in quarters of a degree
            self.chip.schedule.after(36 * 64, lambda: self.event(0x100))


class PowerClock(Peripheral):
    """POWER and CLOCK share 0x40000000: oscillators start at once, or after their start-up time."""

    tasks: Mapping[int, str] = {
        0x000: "HFCLKSTART",
        0x004: "HFCLKSTOP",
        0x008: "LFCLKSTART",
        0x00C: "LFCLKSTOP",
        0x010: "CAL",
        0x014: "CTSTART",
        0x018: "CTSTOP",
        0x078: "CONSTLAT",
        0x07C: "LOWPWR",
    }
    events: Mapping[int, str] = {
        0x100: "HFCLKSTARTED",
        0x104: "LFCLKSTARTED",
        0x108: "POFWARN",
        0x10C: "DONE",
        0x110: "CTTO",
        0x11C: "USBDETECTED",
        0x120: "USBREMOVED",
        0x124: "USBPWRRDY",
        0x128: "CTSTARTED",
        0x12C: "CTSTOPPED",
    }
    names: Mapping[int, str] = {
        0x400: "RESETREAS",
        0x408: "HFCLKRUN",
        0x40C: "HFCLKSTAT",
        0x414: "LFCLKRUN",
        0x418: "LFCLKSTAT",
        0x41C: "LFCLKSRCCOPY",
        0x428: "RAMSTATUS",
        0x438: "USBREGSTATUS",
        0x500: "SYSTEMOFF",
        0x510: "POFCON",
        0x518: "LFCLKSRC",
        0x51C: "GPREGRET",
        0x520: "GPREGRET2",
        0x528: "HFXODEBOUNCE",
        0x538: "CTIV",
        0x55C: "TRACECONFIG",
        0x578: "DCDCEN",
        0x580: "DCDCEN0",
        0x640: "MAINREGSTATUS",
        0x5B4: "LFRCMODE",
    }
    HFXO_CYCLES = 360 * 64  # 360 us
    LFCLK_CYCLES = 600 * 64  # the RC oscillator's 600 us; a crystal would need 250 ms

    KEPT = (0x400, 0x51C, 0x520)  # RESETREAS and the two general registers outlive a reset

    def reset(self) -> None:
        kept = {offset: self.registers[offset] for offset in self.KEPT if offset in self.registers}
        super().reset()
        self.registers.update(kept)

    def write(self, offset: int, value: int) -> None:
        super().write(
            offset, self.registers.get(0x400, 0) & ~value if offset == 0x400 else value
        )  # ones clear RESETREAS

    def add_reason(self, bit: int) -> None:
        """Why the board was reset: RESETREAS adds up until the program clears it."""
        self.registers[0x400] = self.registers.get(0x400, 0) | bit

    def task(self, offset: int) -> None:
        after = self.chip.schedule.after
        if offset == 0x000:
            after(self.HFXO_CYCLES, lambda: self._started(0x408, 0x40C, 1 << 16 | 1, 0x100))
        elif offset == 0x004:
            self.registers[0x40C] = 0
        elif offset == 0x008:
            source = self.registers.get(0x518, 0) & 3
            self.registers[0x41C] = source
            after(self.LFCLK_CYCLES, lambda: self._started(0x414, 0x418, 1 << 16 | source, 0x104))
        elif offset == 0x00C:
            self.registers[0x418] = 0
        elif offset == 0x010:
            after(self.LFCLK_CYCLES, lambda: self.event(0x10C))

    def _started(self, run: int, status: int, value: int, event: int) -> None:
        self.registers[run] = 1
        self.registers[status] = value
        self.event(event)


class Rng(Peripheral):
    """Random bytes from a fixed seed, one each 30 us."""

    tasks: Mapping[int, str] = {0x000: "START", 0x004: "STOP"}
    events: Mapping[int, str] = {0x100: "VALRDY"}
    shorts: Mapping[int, tuple[int, int]] = {0: (0x100, 0x004)}
    names: Mapping[int, str] = {0x504: "CONFIG", 0x508: "VALUE"}

    def __init__(self, chip: Chip, seed: int = 1) -> None:
        super().__init__(chip, 0x4000D000, 13, "RNG")
        self._random, self._event = random.Random(seed), None

    _event: Event | None

    def task(self, offset: int) -> None:
        if self._event:
            self._event.cancel()
            self._event = None
        if offset == 0x000:
            self._event = self.chip.schedule.after(30 * 64, self._ready)

    def _ready(self) -> None:
        self.registers[0x508] = self._random.randrange(256)
        self._event = self.chip.schedule.after(30 * 64, self._ready)
        self.event(0x100)
