"""TIMER0-4 and RTC0-2: counters computed from virtual time, compare events put into the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from host.emulator.peripherals.base import Chip, Peripheral
from host.emulator.schedule import CLOCK_HZ, Event

_WIDTHS = {0: 16, 1: 8, 2: 24, 3: 32}


class Timer(Peripheral):
    """A TIMER in timer or counter mode; 16 MHz divided by 2 to the PRESCALER."""

    tasks: Mapping[int, str] = {
        0x000: "START",
        0x004: "STOP",
        0x008: "COUNT",
        0x00C: "CLEAR",
        0x010: "SHUTDOWN",
        **{0x040 + 4 * index: "CAPTURE" for index in range(6)},
    }
    events: Mapping[int, str] = {0x140 + 4 * index: "COMPARE" for index in range(6)}
    names: Mapping[int, str] = {
        0x504: "MODE",
        0x508: "BITMODE",
        0x510: "PRESCALER",
        **{0x540 + 4 * index: "CC" for index in range(6)},
    }
    shorts: Mapping[int, tuple[int, int]] = {
        **{index: (0x140 + 4 * index, 0x00C) for index in range(6)},
        **{8 + index: (0x140 + 4 * index, 0x004) for index in range(6)},
    }

    def __init__(self, chip: Chip, base: int, irq: int, name: str) -> None:
        super().__init__(chip, base, irq, name)
        self._running = False
        self._zero_at = 0  # when the counter was zero
        self._held = 0  # its value while stopped
        self._alarms: dict[int, Event] = {}

    def reset(self) -> None:
        super().reset()
        self._cancel()
        self._running, self._held = False, 0

    @property
    def _cycles_per_tick(self) -> int:
        return 4 << min(self.registers.get(0x510, 4), 9)

    @property
    def _modulus(self) -> int:
        return 1 << _WIDTHS[self.registers.get(0x508, 0) & 3]

    def counter(self) -> int:
        if not self._running:
            return self._held % self._modulus
        return (self.chip.schedule.now() - self._zero_at) // self._cycles_per_tick % self._modulus

    def task(self, offset: int) -> None:
        if offset == 0x000 and not self._running:
            self._running = self.registers.get(0x504, 0) == 0
            self._zero_at = self.chip.schedule.now() - self._held * self._cycles_per_tick
            self._arm()
        elif offset in (0x004, 0x010):
            self._held = 0 if offset == 0x010 else self.counter()
            self._running = False
            self._cancel()
        elif offset == 0x008 and self.registers.get(0x504, 0):
            self._held = (self._held + 1) % self._modulus
            for index in range(6):
                if self.registers.get(0x540 + 4 * index, 0) == self._held:
                    self.event(0x140 + 4 * index)
        elif offset == 0x00C:
            self._held, self._zero_at = 0, self.chip.schedule.now()
            self._arm()
        elif offset >= 0x040:
            self.registers[0x540 + offset - 0x040] = self.counter()
            self._arm()

    def changed(self, offset: int, value: int) -> None:
        if offset >= 0x508:
            self._arm()

    def _cancel(self) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()

    def _arm(self) -> None:
        self._cancel()
        if self._running:
            now = self.chip.schedule.now()
            for index in range(6):
                if 0x540 + 4 * index in self.registers:
                    self._arm_one(index, now)

    def _arm_one(self, index: int, now: int) -> None:
        period = self._modulus * self._cycles_per_tick
        due = self._zero_at + self.registers[0x540 + 4 * index] % self._modulus * self._cycles_per_tick
        if due <= now:
            due += ((now - due) // period + 1) * period
        if index in self._alarms:
            self._alarms[index].cancel()
        self._alarms[index] = self.chip.schedule.at(due, self._fire(index, due))

    def _fire(self, index: int, due: int) -> Callable[[], None]:
        def fire() -> None:
            cleared = self.short_bits >> index & 1
            if cleared:  # the clear happens at the compare itself, however late the board looks
                self._zero_at = due
            shorts, self.short_bits = self.short_bits, self.short_bits & ~(1 << index)
            self.event(0x140 + 4 * index)
            self.short_bits = shorts
            if cleared:
                self._arm()
            elif self._running:
                self._arm_one(index, due)

        return fire


class Rtc(Peripheral):
    """A real-time counter: 24 bits at 32,768 Hz / (PRESCALER + 1)."""

    tasks: Mapping[int, str] = {0x000: "START", 0x004: "STOP", 0x008: "CLEAR", 0x00C: "TRIGOVRFLW"}
    events: Mapping[int, str] = {0x100: "TICK", 0x104: "OVRFLW", **{0x140 + 4 * index: "COMPARE" for index in range(4)}}
    names: Mapping[int, str] = {
        0x340: "EVTEN",
        0x344: "EVTENSET",
        0x348: "EVTENCLR",
        0x504: "COUNTER",
        0x508: "PRESCALER",
        **{0x540 + 4 * index: "CC" for index in range(4)},
    }
    MODULUS = 1 << 24

    def __init__(self, chip: Chip, base: int, irq: int, name: str) -> None:
        super().__init__(chip, base, irq, name)
        self._running = False
        self._zero_at = 0  # in 1/32768 of a cycle, so that ticks never drift
        self._held = 0
        self._evten = 0
        self._alarms: dict[int, Event] = {}

    def reset(self) -> None:
        super().reset()
        self._cancel()
        self._running, self._held, self._evten = False, 0, 0

    @property
    def _tick(self) -> int:
        """One tick in 1/32768 cycles."""
        return CLOCK_HZ * (self.registers.get(0x508, 0) + 1)

    def _total(self) -> int:
        return (self.chip.schedule.now() * 32768 - self._zero_at) // self._tick

    def value_of(self, offset: int) -> int:
        if offset == 0x504:
            return (self._total() if self._running else self._held) % self.MODULUS
        return self._evten if 0x340 <= offset <= 0x348 else super().value_of(offset)

    def write(self, offset: int, value: int) -> None:
        super().write(offset, value)
        if offset in (0x300, 0x304, 0x308):
            self._arm()

    def changed(self, offset: int, value: int) -> None:
        if 0x340 <= offset <= 0x348:
            self._evten = (value, self._evten | value, self._evten & ~value)[(offset - 0x340) // 4]
        self._arm()

    def task(self, offset: int) -> None:
        now = self.chip.schedule.now() * 32768
        if offset == 0x000 and not self._running:
            self._running, self._zero_at = True, now - self._held * self._tick
        elif offset == 0x004 and self._running:
            self._held, self._running = self._total() % self.MODULUS, False
        elif offset in (0x008, 0x00C):
            self._held = 0 if offset == 0x008 else 0xFFFFF0
            self._zero_at = now - self._held * self._tick
        self._arm()

    def _cancel(self) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()

    def _wanted(self, bit: int) -> bool:
        return bool((self.inten | self._evten) >> bit & 1)

    def _arm(self) -> None:
        self._cancel()
        if not self._running:
            return
        total = self._total()
        if self._wanted(0):
            self._at(0x100, total + 1)
        if self._wanted(1):
            self._at(0x104, total // self.MODULUS * self.MODULUS + self.MODULUS)
        for index in range(4):
            if self._wanted(16 + index):
                self._at(0x140 + 4 * index, self._next_match(index, total))

    def _next_match(self, index: int, total: int) -> int:
        compare = self.registers.get(0x540 + 4 * index, 0) % self.MODULUS
        return total + 1 + (compare - total - 1) % self.MODULUS

    def _at(self, event: int, count: int) -> None:
        due = -(-(self._zero_at + count * self._tick) // 32768)

        def fire() -> None:
            self.event(event)
            following = {0x100: count + 1, 0x104: count + self.MODULUS}.get(event)
            if self._running and event in self._alarms:
                self._at(event, following if following is not None else count + self.MODULUS)

        if event in self._alarms:
            self._alarms[event].cancel()
        self._alarms[event] = self.chip.schedule.at(due, fire)
