"""Pins, the interconnect between peripherals, and the watchdog."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from converter.checked import Row, Rule
from host.emulator.peripherals.base import RO, RW, WO, WORD, Bus, Peripheral, Registers, set_clear
from host.emulator.peripherals.timers import RTC, TIMER
from host.emulator.schedule import CLOCK_HZ


class GPIO(Registers):
    """A port's registers."""

    OUT = 0x504
    OUTSET = 0x508
    OUTCLR = 0x50C
    IN = 0x510, RO
    DIR = 0x514
    DIRSET = 0x518
    DIRCLR = 0x51C
    LATCH = 0x520
    DETECTMODE = 0x524
    PIN_CNF = 0x700, RW, 2, 32


class Gpio(Peripheral):
    """A port of pins: outputs as written, inputs high. `on_pins` is given the port's name and levels when an output
    changes."""

    layout = GPIO
    SAVED: ClassVar[dict[str, Rule]] = {**Peripheral.SAVED, "out": WORD, "direction": WORD}

    def __init__(self, bus: Bus, base: int, name: str, on_pins: Callable[[str, int], None]) -> None:
        super().__init__(bus, 0, name, base)
        self._on_pins = on_pins
        self.out = self.direction = 0

    def reset(self) -> None:
        """As after a system reset."""
        super().reset()
        self.out = self.direction = 0

    @property
    def levels(self) -> int:
        """One bit a pin."""
        return self.out & self.direction | ~self.direction & 0xFFFFFFFF

    def drive(self, pin: int, level: bool) -> None:
        """An output of GPIOTE."""
        self.write(GPIO.DIRSET, 1 << pin)
        self.write(GPIO.OUTSET if level else GPIO.OUTCLR, 1 << pin)

    def value_of(self, offset: int) -> int:
        """OUT and DIR by each of their three names; IN."""
        if offset in (GPIO.OUT, GPIO.OUTSET, GPIO.OUTCLR):
            return self.out
        if offset in (GPIO.DIR, GPIO.DIRSET, GPIO.DIRCLR):
            return self.direction
        return self.levels if offset == GPIO.IN else self.stored(offset)

    def changed(self, offset: int, value: int) -> None:
        """Outputs and directions."""
        before = self.out, self.direction
        pin = GPIO.PIN_CNF.index(offset)
        if offset in (GPIO.OUT, GPIO.OUTSET, GPIO.OUTCLR):
            self.out = set_clear(self.out, (offset - GPIO.OUT) // 4, value)
        elif offset in (GPIO.DIR, GPIO.DIRSET, GPIO.DIRCLR):
            self.direction = set_clear(self.direction, (offset - GPIO.DIR) // 4, value)
        elif pin is not None:
            self.direction = self.direction & ~(1 << pin) | (value & 1) << pin
        if (self.out, self.direction) != before:
            self._on_pins(self.name, self.levels)


class GPIOTE(Registers):
    """Tasks and events of pins."""

    TASKS_OUT = 0x000, WO, 0, 8
    TASKS_SET = 0x030, WO, 0, 8
    TASKS_CLR = 0x060, WO, 0, 8
    EVENTS_IN = 0x100, RW, 0, 8
    EVENTS_PORT = 0x17C
    CONFIG = 0x510, RW, 0, 8


class Gpiote(Peripheral):
    """GPIO tasks drive their pins, GPIO events follow them; no pin changes on this board but by its own program."""

    layout = GPIOTE
    SAVED: ClassVar[dict[str, Rule]] = {**Peripheral.SAVED, "_levels": Row((WORD, WORD))}
    _EVENT, _TASK = 1, 3  # CONFIG.MODE

    def __init__(self, bus: Bus, number: int) -> None:
        super().__init__(bus, number)
        self.ports: list[Gpio] = []
        self._levels = [0xFFFFFFFF, 0xFFFFFFFF]

    def _config(self, index: int) -> tuple[int, int, int, int]:
        """Mode, port, pin, polarity (1 rising, 2 falling, 3 either)."""
        value = self.stored(GPIOTE.CONFIG[index])
        return value & 3, value >> 13 & 1, value >> 8 & 31, value >> 16 & 3

    def changed(self, offset: int, value: int) -> None:
        """A pin that becomes a task's is driven to its first level."""
        index = GPIOTE.CONFIG.index(offset)
        if index is not None:
            mode, port, pin, _ = self._config(index)
            if mode == self._TASK:
                self.ports[port].drive(pin, bool(value >> 20 & 1))

    def task(self, offset: int) -> None:
        """Drive a pin."""
        for tasks in (GPIOTE.TASKS_OUT, GPIOTE.TASKS_SET, GPIOTE.TASKS_CLR):
            index = tasks.index(offset)
            if index is not None:
                mode, port, pin, polarity = self._config(index)
                if mode == self._TASK:
                    level = bool(self.ports[port].out >> pin & 1)
                    out = {1: True, 2: False, 3: not level}.get(polarity, level)
                    self.ports[port].drive(pin, out if tasks == GPIOTE.TASKS_OUT else tasks == GPIOTE.TASKS_SET)

    def pins(self, port: int, levels: int) -> None:
        """Levels of a port's pins, from now on."""
        before, self._levels[port] = self._levels[port], levels
        for index in range(GPIOTE.CONFIG.count):
            mode, on, pin, polarity = self._config(index)
            was, now = before >> pin & 1, levels >> pin & 1
            if mode == self._EVENT and on == port and was != now and polarity & (1 if now else 2):
                self.event(GPIOTE.EVENTS_IN[index])


class WDT(Registers):
    """The watchdog's registers."""

    TASKS_START = 0x000
    EVENTS_TIMEOUT = 0x100
    RUNSTATUS = 0x400, RO
    REQSTATUS = 0x404, RO
    CRV = 0x504, RW, 0xFFFFFFFF
    RREN = 0x508, RW, 1
    CONFIG = 0x50C, RW, 1
    RR = 0x600, WO, 0, 8


class Watchdog(Peripheral):
    """Runs out to a reset unless every enabled reload register is served."""

    layout = WDT
    _BITE = 0  # the slot of the reset
    slots = (WDT.EVENTS_TIMEOUT, _BITE)
    SAVED: ClassVar[dict[str, Rule]] = {**Peripheral.SAVED, "_waiting": WORD}
    _RELOAD, _BITE_CYCLES = 0x6E524635, 2 * CLOCK_HZ // 32768  # TIMEOUT comes two ticks of 32 kHz before the reset

    def __init__(self, bus: Bus, number: int, bite: Callable[[], None]) -> None:
        super().__init__(bus, number)
        self._bite = bite
        self._waiting = 0  # reload registers that must still be served

    def value_of(self, offset: int) -> int:
        """REQSTATUS says who must still be served."""
        return self._waiting if offset == WDT.REQSTATUS else self.stored(offset)

    def task(self, offset: int) -> None:
        """Start; once it runs nothing stops it."""
        if not self.stored(WDT.RUNSTATUS):
            self.values[WDT.RUNSTATUS] = 1
            self._rearm()

    def write(self, offset: int, value: int) -> None:
        """The settings of a running watchdog are locked."""
        if not (self.stored(WDT.RUNSTATUS) and offset in (WDT.CRV, WDT.RREN, WDT.CONFIG)):
            super().write(offset, value)

    def changed(self, offset: int, value: int) -> None:
        """A reload register is served."""
        index = WDT.RR.index(offset)
        if index is not None and value == self._RELOAD and self.stored(WDT.RUNSTATUS):
            self._waiting &= ~(1 << index)
            if not self._waiting:
                self._rearm()

    def _rearm(self) -> None:
        self.forget(self._BITE)
        self._waiting = self.stored(WDT.RREN) & 0xFF
        ticks = self.stored(WDT.CRV) + 1
        self.delay(WDT.EVENTS_TIMEOUT, ticks * CLOCK_HZ // 32768)

    def due(self, slot: int, when: int) -> None:
        """First the event, then the reset."""
        if slot == self._BITE:
            self._bite()
        else:
            self.delay(self._BITE, self._BITE_CYCLES)
            self.event(slot)


class PPI(Registers):
    """The interconnect's registers; the data sheet writes TASKS_CHG[n].EN, CH[n].EEP, FORK[n].TEP."""

    TASKS_CHG_EN = 0x000, WO, 0, 6, 8
    TASKS_CHG_DIS = 0x004, WO, 0, 6, 8
    CHEN = 0x500
    CHENSET = 0x504
    CHENCLR = 0x508
    CH_EEP = 0x510, RW, 0, 20, 8
    CH_TEP = 0x514, RW, 0, 20, 8
    CHG = 0x800, RW, 0, 6
    FORK_TEP = 0x910, RW, 0, 32


_TIMER_START, _TIMER_CLEAR = 0x40008000 + TIMER.TASKS_START, 0x40008000 + TIMER.TASKS_CLEAR
_TIMER_COMPARE, _TIMER_CAPTURE = 0x40008000 + TIMER.EVENTS_COMPARE, 0x40008000 + TIMER.TASKS_CAPTURE
_RTC_COMPARE = 0x4000B000 + RTC.EVENTS_COMPARE
_RADIO_TXEN, _RADIO_RXEN, _RADIO_DISABLE = 0x40001000, 0x40001004, 0x40001010
_RADIO_READY, _RADIO_ADDRESS, _RADIO_END, _RADIO_BCMATCH = 0x40001100, 0x40001104, 0x4000110C, 0x40001128
_AAR_START, _CCM_KSGEN, _CCM_CRYPT = 0x4000F000, 0x4000F000, 0x4000F004
_FIXED = {  # the channels that cannot be set: event, task
    20: (_TIMER_COMPARE, _RADIO_TXEN),
    21: (_TIMER_COMPARE, _RADIO_RXEN),
    22: (_TIMER_COMPARE + 4, _RADIO_DISABLE),
    23: (_RADIO_BCMATCH, _AAR_START),
    24: (_RADIO_READY, _CCM_KSGEN),
    25: (_RADIO_ADDRESS, _CCM_CRYPT),
    26: (_RADIO_ADDRESS, _TIMER_CAPTURE + 4),
    27: (_RADIO_END, _TIMER_CAPTURE + 8),
    28: (_RTC_COMPARE, _RADIO_TXEN),
    29: (_RTC_COMPARE, _RADIO_RXEN),
    30: (_RTC_COMPARE, _TIMER_CLEAR),
    31: (_RTC_COMPARE, _TIMER_START),
}


class Ppi(Peripheral):
    """Programmable interconnect: an event of one peripheral does a task of another; channels 20-31 are wired, all have
    a fork."""

    layout = PPI
    SAVED: ClassVar[dict[str, Rule]] = {**Peripheral.SAVED, "enabled": WORD}

    def __init__(self, bus: Bus, number: int) -> None:
        super().__init__(bus, number)
        self.enabled = 0
        self._routes: dict[int, list[int]] | None = None  # event -> its tasks; None: to be made
        bus.ppi_event = self.route

    def task(self, offset: int) -> None:
        """Enable or disable a group of channels."""
        on = PPI.TASKS_CHG_EN.index(offset)
        group = PPI.TASKS_CHG_DIS.index(offset) if on is None else on
        if group is not None:
            self.enabled = set_clear(self.enabled, 2 if on is None else 1, self.stored(PPI.CHG[group]))
            self._routes = None

    def value_of(self, offset: int) -> int:
        """The enabled channels by each of their three names."""
        return self.enabled if offset in (PPI.CHEN, PPI.CHENSET, PPI.CHENCLR) else self.stored(offset)

    def changed(self, offset: int, value: int) -> None:
        """Channels are enabled, or lead elsewhere."""
        self._routes = None
        if offset in (PPI.CHEN, PPI.CHENSET, PPI.CHENCLR):
            self.enabled = set_clear(self.enabled, (offset - PPI.CHEN) // 4, value)

    def reset(self) -> None:
        """As after a system reset."""
        super().reset()
        self.enabled = 0
        self._routes = None

    def _ends(self, channel: int) -> tuple[int, int]:
        """Event and task of a channel."""
        return _FIXED.get(channel) or (self.stored(PPI.CH_EEP[channel]), self.stored(PPI.CH_TEP[channel]))

    def route(self, event: int) -> None:
        """An event has happened at this address: the tasks of the channels that are enabled for it now are done."""
        if self._routes is None:
            self._routes = {}
            for channel in range(32):
                source, *tasks = *self._ends(channel), self.stored(PPI.FORK_TEP[channel])
                if self.enabled >> channel & 1:
                    self._routes.setdefault(source, []).extend(task for task in tasks if task)
        for task in self._routes.get(event, ()):
            self.bus.trigger(task)
