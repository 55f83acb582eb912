"""ARMv7-M exceptions: which are pending, which one may run now, priorities and masks (ARMv7-M manual B1.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from converter.checked import Flag, Items, Rule, Whole

RESET, NMI, HARD_FAULT, MEM_MANAGE, BUS_FAULT, USAGE_FAULT = 1, 2, 3, 4, 5, 6
SVCALL, DEBUG_MONITOR, PENDSV, SYSTICK, FIRST_IRQ = 11, 12, 14, 15, 16
_FIXED_PRIORITY = {RESET, NMI, HARD_FAULT}  # in their order above all others
EXCEPTIONS = 16 + 48  # the nRF52840 has interrupts 0..47
PRIORITY_BITS = 3
THREAD_PRIORITY = 256
NAMES = {
    NMI: "NMI",
    HARD_FAULT: "HardFault",
    MEM_MANAGE: "MemManage",
    BUS_FAULT: "BusFault",
    USAGE_FAULT: "UsageFault",
    SVCALL: "SVCall",
    DEBUG_MONITOR: "DebugMonitor",
    PENDSV: "PendSV",
    SYSTICK: "SysTick",
}


def exception_name(number: int) -> str:
    """Such as SysTick, or interrupt 8."""
    return NAMES.get(number, f"interrupt {number - FIRST_IRQ}")


class Nvic:
    """Exception state. `active` is a stack: the last one runs. `lines` are those that a peripheral
    still asserts."""

    SAVED: ClassVar[dict[str, Rule]] = {
        **{name: Items(Whole(1, EXCEPTIONS - 1), most=EXCEPTIONS) for name in ("enabled", "active", "lines")},
        "pending": Items(Whole(1, FIRST_IRQ + 255)),  # STIR can name more than there are
        "priorities": Items(Whole(0, 255), EXCEPTIONS, EXCEPTIONS),
        "priority_group": Whole(0, 7),
        "event": Flag(),
        "event_on_pend": Flag(),
    }

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.event = self.event_on_pend = False  # WFE's event register; SCR.SEVONPEND
        self.reset()

    def reset(self) -> None:
        """As after a system reset."""
        self.pending: set[int] = set()
        self.enabled: set[int] = {RESET, NMI, HARD_FAULT, SVCALL, PENDSV, SYSTICK}
        self.active: list[int] = []
        self.priorities = [0] * EXCEPTIONS
        self.priority_group = 0
        self.basepri = self.faultmask = self.primask = 0
        self.event_on_pend = False
        self.lines: set[int] = set()  # exceptions whose peripheral asserts its interrupt now

    def priority(self, number: int) -> int:
        """The lower the sooner; three exceptions have a fixed one."""
        if number == RESET:
            return -3
        if number == NMI:
            return -2
        if number == HARD_FAULT:
            return -1
        return self.priorities[number]

    def group(self, priority: int) -> int:
        """The part of a priority that decides preemption."""
        return priority if priority < 0 else priority & ~((2 << self.priority_group) - 1) & 0xFF

    def execution_priority(self) -> int:
        """Priority of what runs now, masks included."""
        level = min([self.group(self.priority(number)) for number in self.active]) if self.active else THREAD_PRIORITY
        if self.basepri:
            level = min(level, self.group(self.basepri))
        if self.primask:
            level = min(level, 0)
        if self.faultmask:
            level = min(level, -1)
        return level

    def best_pending(self) -> int | None:
        """The pending, enabled exception that goes first, whether or not it may run now."""
        ready = self.pending & self.enabled if self.pending else None
        if not ready:
            return None
        if len(ready) == 1:
            return next(iter(ready))
        fixed, priorities = ready & _FIXED_PRIORITY, self.priorities
        return min(fixed) if fixed else min([priorities[number] << 8 | number for number in ready]) & 0xFF

    def next_exception(self) -> int | None:
        """The exception to enter now, or None."""
        best = self.best_pending()
        if best is None or self.group(self.priority(best)) >= self.execution_priority():
            return None
        return best

    def masked_only(self) -> bool:
        """True when a pending exception waits for PRIMASK, FAULTMASK or BASEPRI alone: the masks must be watched."""
        best = self.best_pending()
        if best is None or not (self.basepri or self.primask or self.faultmask):
            return False
        level = min((self.group(self.priority(number)) for number in self.active), default=THREAD_PRIORITY)
        return self.group(self.priority(best)) < level

    def wakes(self) -> bool:
        """WFI ends: an exception is pending that would run if PRIMASK were clear."""
        mask, self.primask = self.primask, 0
        found = self.next_exception() is not None
        self.primask = mask
        return found

    def pend(self, number: int) -> None:
        """An exception waits to be taken."""
        if self.event_on_pend and number not in self.pending:
            self.event = True
        self.pending.add(number)
        self.on_change()

    def escalated(self, fault: int) -> int | None:
        """The exception that a synchronous fault leads to now: itself, HardFault, or None: the core locks up
        (B1.5.14)."""
        level = self.execution_priority()
        if fault in self.enabled and self.group(self.priority(fault)) < level:
            return fault
        return HARD_FAULT if level > -1 else None

    def set_line(self, irq: int, level: bool) -> None:
        """A peripheral's interrupt output changed."""
        number = FIRST_IRQ + irq
        if level and number not in self.lines:
            self.lines.add(number)
            self.pend(number)
        elif not level:
            self.lines.discard(number)

    def enter(self, number: int) -> None:
        """An exception is taken."""
        self.pending.discard(number)
        self.active.append(number)

    def leave(self, number: int) -> bool:
        """End of an exception; False when it was not active. A peripheral that still asserts its line pends again."""
        if number not in self.active:
            return False
        self.active.remove(number)
        if number in self.lines:
            self.pending.add(number)
        return True
