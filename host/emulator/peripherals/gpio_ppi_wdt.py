"""Pins, the interconnect between peripherals, and the watchdog."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from host.emulator.peripherals.base import Chip, Peripheral
from host.emulator.schedule import CLOCK_HZ, Event

_RADIO, _TIMER0, _RTC0, _AAR, _CCM = 0x40001000, 0x40008000, 0x4000B000, 0x4000F000, 0x4000F000
_FIXED = {  # the channels that cannot be set: event, task
    20: (_TIMER0 + 0x140, _RADIO),
    21: (_TIMER0 + 0x140, _RADIO + 0x004),
    22: (_TIMER0 + 0x144, _RADIO + 0x010),
    23: (_RADIO + 0x128, _AAR),
    24: (_RADIO + 0x100, _CCM),
    25: (_RADIO + 0x104, _CCM + 0x004),
    26: (_RADIO + 0x104, _TIMER0 + 0x044),
    27: (_RADIO + 0x10C, _TIMER0 + 0x048),
    28: (_RTC0 + 0x140, _RADIO),
    29: (_RTC0 + 0x140, _RADIO + 0x004),
    30: (_RTC0 + 0x140, _TIMER0 + 0x00C),
    31: (_RTC0 + 0x140, _TIMER0),
}


class Gpio(Peripheral):
    """A port of pins: outputs as written, inputs high. `on_pins` hears each change of the outputs."""

    def __init__(self, chip: Chip, base: int, name: str, on_pins: Callable[[str, int], None]) -> None:
        super().__init__(chip, base, None, name)
        self._on_pins = on_pins
        self.out = self.direction = 0

    def reset(self) -> None:
        super().reset()
        self.out = self.direction = 0

    def drive(self, pin: int, level: bool) -> None:
        """An output of GPIOTE."""
        self.write(0x518, 1 << pin)
        self.write(0x508 if level else 0x50C, 1 << pin)

    def read(self, offset: int) -> int:
        if 0x504 <= offset <= 0x50C:
            return self.out
        if offset == 0x510:
            return self.out & self.direction | ~self.direction & 0xFFFFFFFF
        if 0x514 <= offset <= 0x51C:
            return self.direction
        if offset in (0x520, 0x524) or 0x700 <= offset < 0x780:
            return self.registers.get(offset, 0)
        self._unknown(offset, "read")
        return 0

    def write(self, offset: int, value: int) -> None:
        before = self.out, self.direction
        if offset in (0x504, 0x508, 0x50C):
            self.out = _set_clear(self.out, offset - 0x504, value)
        elif offset in (0x514, 0x518, 0x51C):
            self.direction = _set_clear(self.direction, offset - 0x514, value)
        elif offset in (0x520, 0x524) or 0x700 <= offset < 0x780:
            self.registers[offset] = value
            if offset >= 0x700:
                bit = 1 << (offset - 0x700) // 4
                self.direction = self.direction & ~bit | (bit if value & 1 else 0)
        else:
            self._unknown(offset, "write")
        if (self.out, self.direction) != before:
            self._on_pins(self.name, self.out & self.direction | ~self.direction & 0xFFFFFFFF)


def _set_clear(old: int, which: int, value: int) -> int:
    return (value, old | value, old & ~value)[which // 4] & 0xFFFFFFFF


class Gpiote(Peripheral):
    """GPIO tasks drive their pins, GPIO events hear them change; no pin changes on this board but by its own
    program."""

    tasks: Mapping[int, str] = {
        offset: "OUT/SET/CLR" for first in (0x000, 0x030, 0x060) for offset in range(first, first + 0x20, 4)
    }
    events: Mapping[int, str] = {**{0x100 + 4 * index: "IN" for index in range(8)}, 0x17C: "PORT"}
    names: Mapping[int, str] = {0x510 + 4 * index: "CONFIG" for index in range(8)}
    _EVENT, _TASK = 1, 3

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip, 0x40006000, 6, "GPIOTE")
        self.ports: list[Gpio] = []
        self._levels = [0xFFFFFFFF, 0xFFFFFFFF]

    def _config(self, index: int) -> tuple[int, int, int, int]:
        """Mode, port, pin, polarity (1 rising, 2 falling, 3 either)."""
        value = self.registers.get(0x510 + 4 * index, 0)
        return value & 3, value >> 13 & 1, value >> 8 & 31, value >> 16 & 3

    def changed(self, offset: int, value: int) -> None:
        mode, port, pin, _ = self._config((offset - 0x510) // 4)
        if mode == self._TASK:
            self.ports[port].drive(pin, bool(value >> 20 & 1))

    def task(self, offset: int) -> None:
        mode, port, pin, polarity = self._config(offset % 0x30 // 4)
        if mode == self._TASK:
            level = bool(self.ports[port].out >> pin & 1)
            out = {1: True, 2: False, 3: not level}.get(polarity, level)
            self.ports[port].drive(pin, (out, True, False)[offset // 0x30])

    def pins(self, port: int, levels: int) -> None:
        """Levels of a port's pins, from now on."""
        before, self._levels[port] = self._levels[port], levels
        for index in range(8):
            mode, on, pin, polarity = self._config(index)
            was, now = before >> pin & 1, levels >> pin & 1
            if mode == self._EVENT and on == port and was != now and polarity & (1 if now else 2):
                self.event(0x100 + 4 * index)


class Watchdog(Peripheral):
    """Runs out to a reset unless every enabled reload register is served."""

    tasks: Mapping[int, str] = {0x000: "START"}
    events: Mapping[int, str] = {0x100: "TIMEOUT"}
    names: Mapping[int, str] = {
        0x400: "RUNSTATUS",
        0x404: "REQSTATUS",
        0x504: "CRV",
        0x508: "RREN",
        0x50C: "CONFIG",
        **{0x600 + 4 * index: "RR" for index in range(8)},
    }
    _RELOAD, _BITE_CYCLES = 0x6E524635, 2 * CLOCK_HZ // 32768  # TIMEOUT comes two ticks of 32 kHz before the reset

    def __init__(self, chip: Chip, bite: Callable[[], None]) -> None:
        super().__init__(chip, 0x40010000, 16, "WDT")
        self._bite = bite
        self._event: Event | None = None
        self._waiting = 0  # reload registers that must still be served

    def value_of(self, offset: int) -> int:
        return (
            self._waiting
            if offset == 0x404
            else self.registers.get(offset, {0x504: 0xFFFFFFFF, 0x508: 1, 0x50C: 1}.get(offset, 0))
        )

    def task(self, offset: int) -> None:
        if not self.registers.get(0x400):  # once it runs nothing stops it
            self.registers[0x400] = 1
            self._rearm()

    def write(self, offset: int, value: int) -> None:
        if not (
            self.registers.get(0x400) and 0x504 <= offset <= 0x50C
        ):  # the settings of a running watchdog are locked
            super().write(offset, value)

    def changed(self, offset: int, value: int) -> None:
        if offset >= 0x600 and value == self._RELOAD and self.registers.get(0x400):
            self._waiting &= ~(1 << (offset - 0x600) // 4)
            if not self._waiting:
                self._rearm()

    def reset(self) -> None:
        super().reset()
        if self._event:
            self._event.cancel()

    def _rearm(self) -> None:
        if self._event:
            self._event.cancel()
        self._waiting = self.value_of(0x508) & 0xFF
        ticks = self.value_of(0x504) + 1
        self._event = self.chip.schedule.after(ticks * CLOCK_HZ // 32768, self._time_out)

    def _time_out(self) -> None:
        self._event = self.chip.schedule.after(self._BITE_CYCLES, self._bite)
        self.event(0x100)


class Ppi(Peripheral):
    """Programmable interconnect: an event of one peripheral does a task of another; channels 20-31 are wired, all have
    a fork."""

    tasks: Mapping[int, str] = {4 * index: "CHG" for index in range(12)}
    names: Mapping[int, str] = {
        0x500: "CHEN",
        0x504: "CHENSET",
        0x508: "CHENCLR",
        **{0x510 + 4 * index: "CH.EEP/TEP" for index in range(40)},
        **{0x800 + 4 * index: "CHG" for index in range(6)},
        **{0x910 + 4 * index: "FORK" for index in range(32)},
    }

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip, 0x4001F000, None, "PPI")
        self.enabled = 0
        chip.ppi_event = self.route

    def task(self, offset: int) -> None:
        group = self.registers.get(0x800 + offset // 8 * 4, 0)
        self.enabled = self.enabled & ~group if offset & 4 else self.enabled | group

    def value_of(self, offset: int) -> int:
        return self.enabled if 0x500 <= offset <= 0x508 else super().value_of(offset)

    def changed(self, offset: int, value: int) -> None:
        if offset in (0x500, 0x504, 0x508):
            self.enabled = _set_clear(self.enabled, offset - 0x500, value)

    def reset(self) -> None:
        super().reset()
        self.enabled = 0

    def _ends(self, channel: int) -> tuple[int, int]:
        """Event and task of a channel."""
        return _FIXED.get(channel) or (
            self.registers.get(0x510 + 8 * channel, 0),
            self.registers.get(0x514 + 8 * channel, 0),
        )

    def route(self, event: int) -> None:
        """An event has happened at this address."""
        left = self.enabled
        while left:
            channel = (left & -left).bit_length() - 1
            left &= left - 1
            source, task = self._ends(channel)
            if source == event:
                for target in (task, self.registers.get(0x910 + 4 * channel, 0)):
                    if target:
                        self.chip.trigger(target)
