"""What the nRF52840's peripherals share: named registers, tasks, events, shortcuts, interrupts, PPI.

Names, offsets and values after reset: nRF52840 Product Specification v1.7.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum
from typing import ClassVar

from converter.checked import Items, Row, Rule, Whole
from host.emulator.cpu.exceptions import Memory
from host.emulator.errors import BoardError
from host.emulator.image.elf import RAM_START
from host.emulator.schedule import MOST_CYCLES, Event, Schedule
from host.emulator.unmodelled import Unmodelled

FLAG_WORDS = 0x10000  # register words from 0x40000000 on
WORD, CYCLES = Whole(0, 0xFFFFFFFF), Whole(-MOST_CYCLES, MOST_CYCLES)  # rules of a snapshot's values
MOST_CHAINED = 64  # events; the chip would go round at 16 MHz
_NAMES = (  # by peripheral ID, which is the interrupt's number too; section 4.2.4 of the data sheet
    "POWER/CLOCK RADIO UARTE0 SPI0/TWI0 SPI1/TWI1 NFCT GPIOTE SAADC TIMER0 TIMER1 TIMER2 RTC0 TEMP RNG ECB CCM/AAR "
    "WDT RTC1 QDEC COMP EGU0 EGU1 EGU2 EGU3 EGU4 EGU5 TIMER3 TIMER4 PWM0 PDM NVMC PPI MWU PWM1 PWM2 SPI2 RTC2 I2S "
    "FPU USBD UARTE1 QSPI - - - PWM3 - SPIM3"
)
NAMES = tuple(_NAMES.split())


class Access(Enum):
    """What a register is to the program: a task is done by writing 1, an event is raised until 0 is written."""

    TASK, EVENT, RO, WO, RW = "task", "event", "read only", "write only", "read and write"


RO, WO, RW = Access.RO, Access.WO, Access.RW


class Registers(IntEnum):
    """A peripheral's registers as the data sheet names them: NAME = offset, access, value after reset, how many there
    are, bytes from one to the next; what is left out is RW, 0, 1, 4. TASKS_ and EVENTS_ say their access by their name.

    A member is its offset; NAME[n] is the offset of the n-th of several.
    """

    access: Access
    reset: int
    count: int
    stride: int

    def __new__(cls, offset: int, access: Access = RW, reset: int = 0, count: int = 1, stride: int = 4) -> Registers:
        """From what a declaration lists, offset first."""
        one = int.__new__(cls, offset)
        one._value_, one.access, one.reset, one.count, one.stride = offset, access, reset, count, stride
        return one

    def __getitem__(self, index: int) -> int:
        """Offset of register number `index` of several."""
        return int(self) + index * self.stride

    @property
    def offsets(self) -> range:
        """Those of all `count` registers."""
        return range(self, self + self.count * self.stride, self.stride)

    def index(self, offset: int) -> int | None:
        """Which of the `count` registers lies at an offset; None: none of them."""
        return self.offsets.index(offset) if offset in self.offsets else None


class Common(Registers):
    """What every peripheral with events, or with shortcuts, has in the same place."""

    SHORTS = 0x200
    INTEN = 0x300
    INTENSET = 0x304
    INTENCLR = 0x308
    STATUS = 0x400
    ENABLE = 0x500


_INTERRUPTS = (Common.INTEN, Common.INTENSET, Common.INTENCLR)


@functools.cache
def access_by_offset(registers: type[Registers]) -> dict[int, Access]:
    """What the program may do at each offset where there is a register."""
    kinds = {"TASKS": Access.TASK, "EVENTS": Access.EVENT}
    return {offset: kinds.get(one.name.partition("_")[0], one.access) for one in registers for offset in one.offsets}


def set_clear(old: int, which: int, value: int) -> int:
    """A word after a write to the register itself (which 0), its SET (1) or its CLR register (2)."""
    return (value, old | value, old & ~value)[which] & 0xFFFFFFFF


class Bus:
    """What a peripheral may use: time, memory, interrupts, the report of what nobody models."""

    def __init__(
        self,
        schedule: Schedule,
        memory: Memory,
        set_line: Callable[[int, bool], None],
        unmodelled: Unmodelled,
    ) -> None:
        self.schedule, self.memory, self.set_line, self.unmodelled = schedule, memory, set_line, unmodelled
        self.flags = (ctypes.c_uint8 * FLAG_WORDS)()
        self.by_base: dict[int, Peripheral] = {}
        self.ppi_event: Callable[[int], None] | None = None  # given each event's address
        self.chain = 0  # events so far of the chain that shortcuts and PPI make of one

    def add(self, peripheral: Peripheral) -> None:
        """Make a peripheral known at its base address."""
        self.by_base.setdefault(peripheral.base, peripheral)

    def dma_read(self, address: int, size: int, name: str) -> bytes:
        """RAM as EasyDMA reads it; it cannot read flash."""
        found = self.memory.span(address, size) if address >= RAM_START else None
        if found is None:
            raise BoardError(f"{name}: EasyDMA from {address:#010x}, {size} bytes: only RAM can be transferred")
        return bytes(found)

    def dma_write(self, address: int, data: bytes, name: str) -> None:
        """EasyDMA into RAM; raises BoardError elsewhere."""
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
        """Every peripheral as after a system reset."""
        self.chain = 0
        for peripheral in self.by_base.values():
            peripheral.reset()


class Peripheral:
    """The peripheral with this ID, which gives its interrupt and, if nothing else is said, its name and base address.
    Subclasses declare their registers and act on tasks and writes.

    layout: the registers beside those of Common
    shorts: bit of SHORTS -> (offset of the event, offset of the task)
    values: what was written, or the peripheral has put there, by offset; a register not yet in it has its value after
    reset
    raised: offsets of the events that are raised
    waiting: what is still to come, each in a slot of its own: an event's offset where it leads to one
    """

    layout: type[Registers] = Registers
    shorts: Mapping[int, tuple[int, int]] = {}
    slots: Sequence[int] = ()
    SAVED: ClassVar[dict[str, Rule]] = {
        "values": Items(Row((Whole(0, 0xFFC), WORD)), most=1024),
        "raised": Items(Whole(0x100, 0x1FC), most=64),
        "inten": WORD,
        "short_bits": WORD,
    }

    def __init__(self, bus: Bus, number: int, name: str = "", base: int = 0) -> None:
        self.bus, self.number, self.name = bus, number, name or NAMES[number]
        self.base = base or 0x40000000 + (number << 12)
        self._access = access_by_offset(self.layout)
        self._resets = {offset: one.reset for one in self.layout if one.reset for offset in one.offsets}
        self._events = [offset for offset, access in self._access.items() if access is Access.EVENT]
        self.values: dict[int, int] = {}
        self.waiting: dict[int, Event] = {}
        self.raised: set[int] = set()
        self.inten = self.short_bits = 0
        for offset in self._events:
            self._raise(offset, False)
        bus.add(self)

    def reset(self) -> None:
        """As after a system reset."""
        self.values.clear()
        self.forget(*self.waiting)
        for offset in self._events:
            self._raise(offset, False)
        self.inten = self.short_bits = 0
        self._update()

    def _raise(self, offset: int, up: bool) -> None:
        """An event is raised or not, for the peripheral and for counter.c, which answers polling programs."""
        (self.raised.add if up else self.raised.discard)(offset)
        self.bus.flags[(self.base & 0x3FFFF | offset) >> 2] = 2 if up else 1

    def task(self, offset: int) -> None:
        """Do a task; overridden."""

    def changed(self, offset: int, value: int) -> None:
        """A register was written; overridden where that has an effect."""

    def stored(self, offset: int) -> int:
        """What a register holds."""
        return self.values.get(offset, self._resets.get(offset, 0))

    def value_of(self, offset: int) -> int:
        """What a program reads; overridden where it is computed."""
        return self.stored(offset)

    def event(self, offset: int) -> None:
        """Raise an event: flag, shortcuts, PPI, interrupt. Raises BoardError for a chain of events without an end."""
        bus = self.bus
        before = bus.chain
        if before >= MOST_CHAINED:
            raise BoardError(
                f"{self.name}+{offset:#05x}: a chain of events that shortcuts or PPI start at one moment must have at "
                f"most {MOST_CHAINED}; it starts itself again"
            )
        bus.chain = before + 1
        self._raise(offset, True)
        self._update()
        for bit, (event, task) in self.shorts.items():
            if event == offset and self.short_bits >> bit & 1:
                self.task(task)
        if bus.ppi_event is not None:
            bus.ppi_event(self.base + offset)
        if not before:
            bus.chain = 0

    def wait(self, slot: int, when: int) -> None:
        """due() will be called at this time; what still waits in the slot is forgotten."""
        self.forget(slot)
        self.waiting[slot] = self.bus.schedule.at(when, functools.partial(self._come, slot, when))

    def wait_again(self, slot: int, when: int, order: int) -> None:
        """As a snapshot has it; raises BoardError for what this peripheral never waits for."""
        if slot not in self.slots or slot in self.waiting:
            raise BoardError(f"{self.name} does not wait in slot {slot:#x}, or waits in it already")
        self.waiting[slot] = self.bus.schedule.put_back(when, order, functools.partial(self._come, slot, when))

    def delay(self, slot: int, cycles: int) -> None:
        """due() will be called so many cycles from now."""
        self.wait(slot, self.bus.schedule.now() + cycles)

    def forget(self, *slots: int) -> None:
        """Nothing waits in these slots any more."""
        for slot in slots:
            if slot in self.waiting:
                self.waiting.pop(slot).cancel()

    def _come(self, slot: int, when: int) -> None:
        del self.waiting[slot]
        self.due(slot, when)

    def due(self, slot: int, when: int) -> None:
        """What waited in a slot until `when` happens: the event, unless overridden."""
        self.event(slot)

    def show_flags(self) -> None:
        """Polling programs are answered by what is raised."""
        for offset in self._events:
            self._raise(offset, offset in self.raised)

    def _update(self) -> None:
        if self._events:
            level = any(self.inten >> (offset - 0x100) // 4 & 1 for offset in self.raised)
            self.bus.set_line(self.number, level)

    def read(self, offset: int) -> int:
        """A program reads a register."""
        access = self._access.get(offset)
        if access is Access.EVENT:
            return int(offset in self.raised)
        if access is RO or access is RW:
            return self.value_of(offset)
        if access is None:
            if offset in _INTERRUPTS and self._events:
                return self.inten
            if offset == Common.SHORTS and self.shorts:
                return self.short_bits
            self._unknown(offset, "read")
        return self.values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """A program writes a register."""
        access = self._access.get(offset)
        if access is Access.TASK:
            if value & 1:
                self.task(offset)
        elif access is Access.EVENT:
            self._raise(offset, bool(value))
            self._update()
        elif access is None and offset in _INTERRUPTS and self._events:
            self.inten = set_clear(self.inten, (offset - Common.INTEN) // 4, value)
            self._update()
        elif access is None and offset == Common.SHORTS and self.shorts:
            self.short_bits = value
        elif access is not RO:
            if access is None:
                self._unknown(offset, "write")
            self.values[offset] = value
            self.changed(offset, value)

    def _unknown(self, offset: int, how: str) -> None:
        common = next((f" {one.name}" for one in Common if one == offset), "")
        kind = " task" if offset < 0x100 else " event" if offset < Common.SHORTS else common
        self.bus.unmodelled.register(f"{self.name}+", offset, kind, how)


class Unknown(Peripheral):
    """Keeps what is written and reports each register once."""


class Idle(Peripheral):
    """A peripheral that a program may set up and leave off, or whose cable is not in (USBD): reported by name once it
    is switched on."""

    def read(self, offset: int) -> int:
        """What was written."""
        return self.values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Kept, beside tasks and events."""
        if offset == Common.ENABLE and value & 1:
            self.bus.unmodelled(f"{self.name} switched on")
        if offset >= Common.ENABLE:
            self.values[offset] = value
