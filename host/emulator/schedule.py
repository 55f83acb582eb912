"""Virtual time in cycles of the 64 MHz clock, awake and asleep, and the events that peripherals put into it."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from converter.target import NRF52840
from host.emulator.errors import BoardError

CLOCK_HZ = NRF52840.clock_hz
_MOST_AT_ONCE, _TIDY_AT = 10_000, 1000


class Event:
    """A callback at a time; cancel() makes it nothing."""

    __slots__ = ("callback", "when")

    def __init__(self, when: int, callback: Callable[[], None]) -> None:
        self.when, self.callback = when, callback

    def cancel(self) -> None:
        """It will not be called."""
        self.callback = _nothing


def _nothing() -> None:
    return None


def _ignore(deadline: int) -> None:
    return None


class Schedule:
    """`now()` runs awake and asleep, `awake()` only while the core executes."""

    def __init__(self, awake: Callable[[], int]) -> None:
        self.awake = awake
        self.asleep = 0
        self._queue: list[tuple[int, int, Event]] = []
        self._awake_queue: list[tuple[int, int, Event]] = []
        self._count = 0
        self._tidy_at = _TIDY_AT
        self.on_change: Callable[[int], None] = _ignore  # given the awake() value at which a new event is due

    def now(self) -> int:
        """Cycles since power-up."""
        return self.awake() + self.asleep

    @property
    def seconds(self) -> float:
        """Board time since power-up."""
        return self.now() / CLOCK_HZ

    def at(self, when: int, callback: Callable[[], None]) -> Event:
        """Call back at a value of now()."""
        return self._push(self._queue, when, callback)

    def after(self, cycles: int, callback: Callable[[], None]) -> Event:
        """Call back so many cycles from now."""
        return self.at(self.now() + cycles, callback)

    def at_awake(self, when: int, callback: Callable[[], None]) -> Event:
        """As at(), on the time that stands still in sleep (SysTick)."""
        return self._push(self._awake_queue, when, callback)

    def _push(self, queue: list[tuple[int, int, Event]], when: int, callback: Callable[[], None]) -> Event:
        event = Event(when, callback)
        if len(queue) >= self._tidy_at:  # events that were cancelled would stay until their time
            queue[:] = [entry for entry in queue if entry[2].callback is not _nothing]
            heapq.heapify(queue)
            self._tidy_at = max(_TIDY_AT, 2 * len(queue))
        self._count += 1
        heapq.heappush(queue, (when, self._count, event))
        self.on_change(when if queue is self._awake_queue else when - self.asleep)
        return event

    @staticmethod
    def _first(queue: list[tuple[int, int, Event]]) -> int | None:
        while queue and queue[0][2].callback is _nothing:
            heapq.heappop(queue)
        return queue[0][0] if queue else None

    def next_time(self) -> int | None:
        """When the next event of wall time is due; sleep ends there."""
        return self._first(self._queue)

    def next_deadline(self) -> int | None:
        """The awake() value at which the next event of either kind is due, if the core stays awake."""
        wall, core = self._first(self._queue), self._first(self._awake_queue)
        if wall is None:
            return core
        return wall - self.asleep if core is None or wall - self.asleep < core else core

    def run_due(self, awake: int) -> bool:
        """Call what is due, in order of time, 10,000 at most; whether that was all. awake: what awake() says now.
        Raises BoardError when as many are due at one moment."""
        wall_queue, awake_queue = self._queue, self._awake_queue
        if not (
            (wall_queue and wall_queue[0][0] <= awake + self.asleep) or (awake_queue and awake_queue[0][0] <= awake)
        ):
            return True
        first, when = None, 0
        for _ in range(_MOST_AT_ONCE):
            wall, core = self._first(self._queue), self._first(self._awake_queue)
            awake = self.awake()
            if wall is not None and wall <= awake + self.asleep and (core is None or core + self.asleep >= wall):
                queue, when = self._queue, wall
            elif core is not None and core <= awake:
                queue, when = self._awake_queue, core + self.asleep
            else:
                return True
            if first is None:
                first = when
            heapq.heappop(queue)[2].callback()
        if when == first:
            raise BoardError(
                f"at most {_MOST_AT_ONCE:,} events may be due at one moment (cycle {when:,}): they start themselves"
            )
        return False
