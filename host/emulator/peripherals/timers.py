"""TIMER0-4 and RTC0-2: counters computed from virtual time, compare events put into the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from converter.checked import Flag, Rule, Whole
from host.emulator.peripherals.base import CYCLES, RO, RW, WO, WORD, Bus, Common, Peripheral, Registers, set_clear
from host.emulator.schedule import CLOCK_HZ, MOST_CYCLES

_WIDTHS = {0: 16, 1: 8, 2: 24, 3: 32}


class TIMER(Registers):
    """A timer's registers."""

    TASKS_START = 0x000
    TASKS_STOP = 0x004
    TASKS_COUNT = 0x008
    TASKS_CLEAR = 0x00C
    TASKS_SHUTDOWN = 0x010
    TASKS_CAPTURE = 0x040, WO, 0, 6
    EVENTS_COMPARE = 0x140, RW, 0, 6
    MODE = 0x504
    BITMODE = 0x508
    PRESCALER = 0x510, RW, 4
    CC = 0x540, RW, 0, 6


class Timer(Peripheral):
    """A TIMER in timer or counter mode; 16 MHz divided by 2 to the PRESCALER."""

    layout = TIMER
    slots = TIMER.EVENTS_COMPARE.offsets
    SAVED: ClassVar[dict[str, Rule]] = {**Peripheral.SAVED, "_running": Flag(), "_zero_at": CYCLES, "_held": WORD}
    shorts: Mapping[int, tuple[int, int]] = {
        **{index: (TIMER.EVENTS_COMPARE[index], TIMER.TASKS_CLEAR) for index in range(6)},
        **{8 + index: (TIMER.EVENTS_COMPARE[index], TIMER.TASKS_STOP) for index in range(6)},
    }

    def __init__(self, bus: Bus, number: int) -> None:
        super().__init__(bus, number)
        self._running = False
        self._zero_at = 0  # when the counter was zero
        self._held = 0  # its value while stopped

    def reset(self) -> None:
        """As after a system reset."""
        super().reset()
        self._running, self._held = False, 0

    @property
    def _cycles_per_tick(self) -> int:
        return 4 << min(self.stored(TIMER.PRESCALER), 9)

    @property
    def _modulus(self) -> int:
        return 1 << _WIDTHS[self.stored(TIMER.BITMODE) & 3]

    def counter(self) -> int:
        """The count now."""
        if not self._running:
            return self._held % self._modulus
        return (self.bus.schedule.now() - self._zero_at) // self._cycles_per_tick % self._modulus

    def move_on(self, ticks: int) -> None:
        """The count of a counter, or of a timer that stands, as if so much had been counted."""
        self._held = (self._held + ticks) % self._modulus

    def task(self, offset: int) -> None:
        """Start, stop, count, clear, capture."""
        if offset == TIMER.TASKS_START and not self._running:
            self._running = self.stored(TIMER.MODE) == 0
            self._zero_at = self.bus.schedule.now() - self._held * self._cycles_per_tick
            self._arm()
        elif offset in (TIMER.TASKS_STOP, TIMER.TASKS_SHUTDOWN):
            self._held = 0 if offset == TIMER.TASKS_SHUTDOWN else self.counter()
            self._running = False
            self.forget(*self.slots)
        elif offset == TIMER.TASKS_COUNT and self.stored(TIMER.MODE):
            self._held = (self._held + 1) % self._modulus
            for offset, event in zip(TIMER.CC.offsets, TIMER.EVENTS_COMPARE.offsets, strict=True):
                if self.stored(offset) == self._held:
                    self.event(event)
        elif offset == TIMER.TASKS_CLEAR:
            self._held, self._zero_at = 0, self.bus.schedule.now()
            self._arm()
        elif offset in TIMER.TASKS_CAPTURE.offsets:
            self.values[offset - TIMER.TASKS_CAPTURE + TIMER.CC] = self.counter()
            self._arm()

    def changed(self, offset: int, value: int) -> None:
        """A compare value, the width or the prescaler."""
        if offset != TIMER.MODE:
            self._arm()

    def _arm(self) -> None:
        self.forget(*self.slots)
        if self._running:
            now = self.bus.schedule.now()
            for index, offset in enumerate(TIMER.CC.offsets):
                if offset in self.values:
                    self._arm_one(index, now)

    def _arm_one(self, index: int, now: int) -> None:
        period = self._modulus * self._cycles_per_tick
        due = self._zero_at + self.stored(TIMER.CC[index]) % self._modulus * self._cycles_per_tick
        if due <= now:
            due += ((now - due) // period + 1) * period
        self.wait(TIMER.EVENTS_COMPARE[index], due)

    def due(self, slot: int, when: int) -> None:
        """A compare value is reached."""
        index = self.slots.index(slot)
        cleared = self.short_bits >> index & 1
        if cleared:  # the clear happens at the compare itself, however late the board looks
            self._zero_at = when
        shorts, self.short_bits = self.short_bits, self.short_bits & ~(1 << index)
        self.event(slot)
        self.short_bits = shorts
        if cleared:
            self._arm()
        elif self._running:
            self._arm_one(index, when)


class RTC(Registers):
    """A real-time counter's registers."""

    TASKS_START = 0x000
    TASKS_STOP = 0x004
    TASKS_CLEAR = 0x008
    TASKS_TRIGOVRFLW = 0x00C
    EVENTS_TICK = 0x100
    EVENTS_OVRFLW = 0x104
    EVENTS_COMPARE = 0x140, RW, 0, 4
    EVTEN = 0x340
    EVTENSET = 0x344
    EVTENCLR = 0x348
    COUNTER = 0x504, RO
    PRESCALER = 0x508
    CC = 0x540, RW, 0, 4


_EVTEN = (RTC.EVTEN, RTC.EVTENSET, RTC.EVTENCLR)


class Rtc(Peripheral):
    """A real-time counter: 24 bits at 32,768 Hz / (PRESCALER + 1)."""

    layout = RTC
    slots = (RTC.EVENTS_TICK, RTC.EVENTS_OVRFLW, *RTC.EVENTS_COMPARE.offsets)
    SAVED: ClassVar[dict[str, Rule]] = {
        **Peripheral.SAVED,
        "_running": Flag(),
        "_zero_at": Whole(-MOST_CYCLES * 32768, MOST_CYCLES * 32768),
        "_held": Whole(0, (1 << 24) - 1),
        "_evten": WORD,
    }
    MODULUS = 1 << 24

    def __init__(self, bus: Bus, number: int) -> None:
        super().__init__(bus, number)
        self._running = False
        self._zero_at = 0  # in 1/32768 of a cycle, so that ticks never drift
        self._held = 0
        self._evten = 0

    def reset(self) -> None:
        """As after a system reset."""
        super().reset()
        self._running, self._held, self._evten = False, 0, 0

    @property
    def _tick(self) -> int:
        """One tick in 1/32768 cycles."""
        return CLOCK_HZ * (self.stored(RTC.PRESCALER) + 1)

    def _total(self) -> int:
        return (self.bus.schedule.now() * 32768 - self._zero_at) // self._tick

    def value_of(self, offset: int) -> int:
        """COUNTER, and the enabled events by each of their three names."""
        if offset == RTC.COUNTER:
            return (self._total() if self._running else self._held) % self.MODULUS
        return self._evten if offset in _EVTEN else self.stored(offset)

    def write(self, offset: int, value: int) -> None:
        """An interrupt that is enabled wants its event."""
        super().write(offset, value)
        if offset in (Common.INTEN, Common.INTENSET, Common.INTENCLR):
            self._arm()

    def changed(self, offset: int, value: int) -> None:
        """Enabled events, compare values, the prescaler."""
        if offset in _EVTEN:
            self._evten = set_clear(self._evten, (offset - RTC.EVTEN) // 4, value)
        self._arm()

    def task(self, offset: int) -> None:
        """Start, stop, clear, or 16 ticks before the overflow."""
        now = self.bus.schedule.now() * 32768
        if offset == RTC.TASKS_START and not self._running:
            self._running, self._zero_at = True, now - self._held * self._tick
        elif offset == RTC.TASKS_STOP and self._running:
            self._held, self._running = self._total() % self.MODULUS, False
        elif offset in (RTC.TASKS_CLEAR, RTC.TASKS_TRIGOVRFLW):
            self._held = 0 if offset == RTC.TASKS_CLEAR else 0xFFFFF0
            self._zero_at = now - self._held * self._tick
        self._arm()

    def _wanted(self, bit: int) -> bool:
        return bool((self.inten | self._evten) >> bit & 1)

    def _arm(self) -> None:
        self.forget(*self.slots)
        if not self._running:
            return
        total = self._total()
        if self._wanted(0):
            self._at(RTC.EVENTS_TICK, total + 1)
        if self._wanted(1):
            self._at(RTC.EVENTS_OVRFLW, total // self.MODULUS * self.MODULUS + self.MODULUS)
        for index, event in enumerate(RTC.EVENTS_COMPARE.offsets):
            if self._wanted(16 + index):
                self._at(event, self._next_match(index, total))

    def _next_match(self, index: int, total: int) -> int:
        compare = self.stored(RTC.CC[index]) % self.MODULUS
        return total + 1 + (compare - total - 1) % self.MODULUS

    def _at(self, event: int, count: int) -> None:
        self.wait(event, -(-(self._zero_at + count * self._tick) // 32768))

    def due(self, slot: int, when: int) -> None:
        """The counter has come to a value with an event."""
        count = (when * 32768 - self._zero_at) // self._tick
        self.event(slot)
        if self._running and slot not in self.waiting:  # else PPI has set the counter
            self._at(slot, count + (1 if slot == RTC.EVENTS_TICK else self.MODULUS))
