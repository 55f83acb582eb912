"""Power and clocks, the die's temperature, random numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

from converter.checked import Items, Rule
from host.emulator.errors import BoardError
from host.emulator.peripherals.base import RO, RW, WORD, Bus, Peripheral, Registers

_US = 64  # cycles


class POWER(Registers):
    """POWER and CLOCK, which share a base address."""

    TASKS_HFCLKSTART = 0x000
    TASKS_HFCLKSTOP = 0x004
    TASKS_LFCLKSTART = 0x008
    TASKS_LFCLKSTOP = 0x00C
    TASKS_CAL = 0x010
    TASKS_CTSTART = 0x014
    TASKS_CTSTOP = 0x018
    TASKS_CONSTLAT = 0x078
    TASKS_LOWPWR = 0x07C
    EVENTS_HFCLKSTARTED = 0x100
    EVENTS_LFCLKSTARTED = 0x104
    EVENTS_POFWARN = 0x108
    EVENTS_DONE = 0x10C
    EVENTS_CTTO = 0x110
    EVENTS_USBDETECTED = 0x11C
    EVENTS_USBREMOVED = 0x120
    EVENTS_USBPWRRDY = 0x124
    EVENTS_CTSTARTED = 0x128
    EVENTS_CTSTOPPED = 0x12C
    RESETREAS = 0x400
    HFCLKRUN = 0x408, RO
    HFCLKSTAT = 0x40C, RO
    LFCLKRUN = 0x414, RO
    LFCLKSTAT = 0x418, RO
    LFCLKSRCCOPY = 0x41C, RO
    RAMSTATUS = 0x428, RO
    USBREGSTATUS = 0x438, RO
    SYSTEMOFF = 0x500
    POFCON = 0x510
    LFCLKSRC = 0x518
    GPREGRET = 0x51C
    GPREGRET2 = 0x520
    HFXODEBOUNCE = 0x528, RW, 0x10
    CTIV = 0x538
    TRACECONFIG = 0x55C
    DCDCEN = 0x578
    DCDCEN0 = 0x580
    LFRCMODE = 0x5B4
    MAINREGSTATUS = 0x640, RO


class PowerClock(Peripheral):
    """Oscillators start at once, or after their start-up time."""

    layout = POWER
    slots = (POWER.EVENTS_HFCLKSTARTED, POWER.EVENTS_LFCLKSTARTED, POWER.EVENTS_DONE)
    HFXO_CYCLES = 360 * _US
    LFCLK_CYCLES = 600 * _US  # the RC oscillator's; a crystal would need 250 ms
    KEPT = (POWER.RESETREAS, POWER.GPREGRET, POWER.GPREGRET2)  # outlive a reset

    def reset(self) -> None:
        """As after a system reset."""
        kept: dict[int, int] = {offset: self.stored(offset) for offset in self.KEPT}
        super().reset()
        self.values.update(kept)

    def write(self, offset: int, value: int) -> None:
        """Ones clear RESETREAS."""
        super().write(offset, self.stored(offset) & ~value if offset == POWER.RESETREAS else value)

    def add_reason(self, bit: int) -> None:
        """Why the board was reset: RESETREAS adds up until the program clears it."""
        self.values[POWER.RESETREAS] = self.stored(POWER.RESETREAS) | bit

    def task(self, offset: int) -> None:
        """Start and stop oscillators, calibrate."""
        if offset == POWER.TASKS_HFCLKSTART:
            self.delay(POWER.EVENTS_HFCLKSTARTED, self.HFXO_CYCLES)
        elif offset == POWER.TASKS_HFCLKSTOP:
            self.values[POWER.HFCLKSTAT] = 0
        elif offset == POWER.TASKS_LFCLKSTART:
            self.values[POWER.LFCLKSRCCOPY] = self.stored(POWER.LFCLKSRC) & 3
            self.delay(POWER.EVENTS_LFCLKSTARTED, self.LFCLK_CYCLES)
        elif offset == POWER.TASKS_LFCLKSTOP:
            self.values[POWER.LFCLKSTAT] = 0
        elif offset == POWER.TASKS_CAL:
            self.delay(POWER.EVENTS_DONE, self.LFCLK_CYCLES)

    def due(self, slot: int, when: int) -> None:
        """An oscillator runs, or is calibrated."""
        if slot == POWER.EVENTS_HFCLKSTARTED:
            self.values.update({POWER.HFCLKRUN: 1, POWER.HFCLKSTAT: 1 << 16 | 1})
        elif slot == POWER.EVENTS_LFCLKSTARTED:
            self.values.update({POWER.LFCLKRUN: 1, POWER.LFCLKSTAT: 1 << 16 | self.stored(POWER.LFCLKSRCCOPY)})
        self.event(slot)


class TEMP(Registers):
    """The thermometer's registers."""

    TASKS_START = 0x000
    TASKS_STOP = 0x004
    EVENTS_DATARDY = 0x100
    TEMP = 0x508, RO


class Temp(Peripheral):
    """The die's temperature: 25 degrees, 36 us after START."""

    layout = TEMP
    slots = (TEMP.EVENTS_DATARDY,)

    def task(self, offset: int) -> None:
        """Measure."""
        if offset == TEMP.TASKS_START:
            self.values[TEMP.TEMP] = 100  # in quarters of a degree
            self.delay(TEMP.EVENTS_DATARDY, 36 * _US)


class RNG(Registers):
    """The random number generator's registers."""

    TASKS_START = 0x000
    TASKS_STOP = 0x004
    EVENTS_VALRDY = 0x100
    CONFIG = 0x504
    VALUE = 0x508, RO


class Rng(Peripheral):
    """Random bytes from a fixed seed, one each 30 us."""

    layout = RNG
    slots = (RNG.EVENTS_VALRDY,)
    SAVED: ClassVar[dict[str, Rule]] = {**Peripheral.SAVED, "generator": Items(WORD, 625, 625)}
    shorts: Mapping[int, tuple[int, int]] = {0: (RNG.EVENTS_VALRDY, RNG.TASKS_STOP)}

    def __init__(self, bus: Bus, number: int, seed: int = 1) -> None:
        super().__init__(bus, number)
        self._random = random.Random(seed)

    @property
    def generator(self) -> list[int]:
        """Where the random numbers are, as Python's generator has it."""
        return list(self._random.getstate()[1])

    @generator.setter
    def generator(self, words: list[int]) -> None:
        try:
            self._random.setstate((3, tuple(words), None))
        except ValueError as error:
            raise BoardError(f"RNG: {error}") from None

    def task(self, offset: int) -> None:
        """Start or stop."""
        self.forget(RNG.EVENTS_VALRDY)
        if offset == RNG.TASKS_START:
            self.delay(RNG.EVENTS_VALRDY, 30 * _US)

    def due(self, slot: int, when: int) -> None:
        """A number, and the next one is begun."""
        self.values[RNG.VALUE] = self._random.randrange(256)
        self.delay(slot, 30 * _US)
        self.event(slot)
