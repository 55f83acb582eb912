"""The core's time: cycles counted so far, exact to the instruction where a peripheral asks, and when to look again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from host.emulator.cycles.blocks import Blocks
from host.emulator.cycles.counter import make_counter
from host.emulator.cycles.timing import EXPECTED, Timing
from host.emulator.schedule import Schedule

Read = Callable[[int, int], int]  # offset, bytes -> value
Write = Callable[[int, int, int], None]  # offset, bytes, value


class Clock:
    """Counter, blocks and schedule of one core; native: as make_counter takes it; timing: None for an ideal chip."""

    def __init__(self, uc: Any, native: bool | None, timing: Timing | None = EXPECTED) -> None:
        self._uc = uc
        self.counter = make_counter(uc, native, timing or EXPECTED)
        self.counter.state.ideal_clock = int(timing is None)
        self.blocks = Blocks(uc, self.counter)
        self.schedule = Schedule(self.awake)
        self.schedule.on_change = self._not_later_than
        self._in_mmio = False

    def awake(self) -> int:
        """Cycles the core has executed; exact to the instruction inside blocks known to touch peripherals."""
        state = self.counter.state
        active = int(state.active)
        if not self._in_mmio:
            return active
        current = self.counter.current()
        if current is None:
            return active
        before, whole = self.blocks.prefix(int(state.last) - 1, int(state.access_pc)), int(state.charged)
        if self.blocks.to_mark:
            self.look_soon()
        return active - whole + before * whole // max(1, current[2].ideal)

    def charge(self, cycles: int) -> None:
        """Cycles that no instruction accounts for."""
        state = self.counter.state
        state.active += cycles
        state.ideal += cycles

    def look_soon(self) -> None:
        """Something changed: look again at the next block."""
        self.counter.state.deadline = 0

    def _not_later_than(self, deadline: int) -> None:
        state = self.counter.state
        state.deadline = min(int(state.deadline), max(0, deadline))

    def watch(self, bit: int, on: bool) -> None:
        """Whether blocks with this bit of attention stop before they run."""
        state = self.counter.state
        state.attention = state.attention & ~bit | (bit if on else 0)

    def set_cache(self, on: bool) -> None:
        """Whether the instruction cache serves; it is empty when it begins to."""
        if on and not self.counter.state.cache_on:
            self.counter.empty_cache()
        self.counter.state.cache_on = int(on)

    def cache_counts(self) -> tuple[int, int]:
        """Lines of flash that the instruction cache had, and had not, since power-up."""
        return int(self.counter.state.hits), int(self.counter.state.misses)

    def map_registers(self, address: int, size: int, read: Read, write: Write, flags: Any = None) -> None:
        """Let `read` and `write` answer a region, at the time of the instruction; flags: as Counter.map_events takes
        them."""

        def timed_read(uc: Any, offset: int, width: int, user: Any) -> int:
            self._in_mmio = True
            try:
                return read(offset, width)
            finally:
                self._in_mmio = False

        def timed_write(uc: Any, offset: int, width: int, value: int, user: Any) -> None:
            self._in_mmio = True
            try:
                write(offset, width, value)
            finally:
                self._in_mmio = False

        if flags is None:
            self._uc.mmio_map(address, size, timed_read, None, timed_write, None)
        else:
            self.counter.map_events(address, size, flags, timed_read, timed_write)
