"""Virtual time in cycles of the 64 MHz clock, awake and asleep, and the events that peripherals put into it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import ClassVar

from converter.checked import Rule, Whole
from converter.target import NRF52840
from host.emulator.errors import BoardError

CLOCK_HZ = NRF52840.clock_hz
MOST_CYCLES = 1 << 60  # 571 years
_MOST_AT_ONCE, _TIDY_AT = 10_000, 1000
_LATE_CYCLES = CLOCK_HZ // 4  # an event is called so late at most: behind the longest block, or an erasure of flash


class Event:
    """A callback at a time, behind those of smaller order at the same time; cancel() makes it nothing."""

    __slots__ = ("callback", "order", "when")

    def __init__(self, when: int, order: int, callback: Callable[[], None]) -> None:
        self.when, self.order, self.callback = when, order, callback

    def cancel(self) -> None:
        """It will not be called."""
        self.callback = _nothing


def _nothing() -> None:
    return None


def _ignore(deadline: int) -> None:
    return None


class Schedule:
    """`now()` runs awake and asleep, `awake()` only while the core executes. SAVED, here and elsewhere: the attributes
    that a snapshot holds (snapshot.py)."""

    SAVED: ClassVar[dict[str, Rule]] = {"asleep": Whole(0, MOST_CYCLES), "_count": Whole(0, MOST_CYCLES)}

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
        self._count += 1
        return self._put(queue, Event(when, self._count, callback))

    def clear(self) -> None:
        """Nothing is due any more."""
        self._queue.clear()
        self._awake_queue.clear()

    def put_back(self, when: int, order: int, callback: Callable[[], None], awake: bool = False) -> Event:
        """An event of a snapshot; awake: one of at_awake(). Raises BoardError where it should be over by now."""
        now = self.awake() if awake else self.now()
        if when < now - _LATE_CYCLES or order > self._count:
            raise BoardError(f"an event at cycle {when:,} is over at cycle {now:,}, or was never put there")
        return self._put(self._awake_queue if awake else self._queue, Event(when, order, callback))

    def _put(self, queue: list[tuple[int, int, Event]], event: Event) -> Event:
        if len(queue) >= self._tidy_at:  # events that were cancelled would stay until their time
            queue[:] = [entry for entry in queue if entry[2].callback is not _nothing]
            heapq.heapify(queue)
            self._tidy_at = max(_TIDY_AT, 2 * len(queue))
        heapq.heappush(queue, (event.when, event.order, event))
        self.on_change(event.when if queue is self._awake_queue else event.when - self.asleep)
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
