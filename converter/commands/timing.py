"""How long calls take: warmed up, waited for, repeated. Times are seconds unless a name says otherwise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Call = Callable[[], object]
WARMUP = 50
MOST_RUNS, LEAST_RUNS = 50, 3
MAX_CALLS, MIN_CALLS, SLOW_SECONDS = 200, 10, 0.1  # of a turn; its first calls wake threads, so more than one follow


@dataclass(frozen=True)
class Times:
    """Seconds of each run after the warm-up."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median.

        >>> Times((1.0, 2.0, 3.0)).spread
        1.0
        """
        low, _, high = self._quartiles
        return (high - low) / self.median

    @property
    def _quartiles(self) -> list[float]:
        return statistics.quantiles(self.seconds, n=4) if len(self.seconds) > 1 else [*self.seconds] * 3

    @property
    def best(self) -> float:
        """The shortest."""
        return min(self.seconds)

    @property
    def upper(self) -> float:
        """The third quartile: a quarter of the runs took longer."""
        return self._quartiles[2]

    def to_json(self) -> dict[str, Any]:
        """What results keep."""
        return {"median": self.median, "spread": self.spread, "best": self.best, "runs": len(self.seconds)}


def _nothing() -> None:
    pass


def once(call: Call, wait: Call = _nothing) -> float:
    """Seconds of one call until `wait` returns, which waits for what the call began on another device."""
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def microseconds(call: Call, runs: int, wait: Call = _nothing) -> tuple[float, ...]:
    """Of each run, after 50 runs as a warm-up."""
    for _ in range(WARMUP):
        once(call, wait)
    return tuple(1e6 * once(call, wait) for _ in range(runs))


def take(call: Call, seconds: float, wait: Call = _nothing) -> Times:
    """At least 3 and at most 50 runs, about `seconds` long in all, after one as a warm-up (more when they are
    short)."""
    warming = time.perf_counter()
    while True:
        once(call, wait)
        if time.perf_counter() - warming > seconds / 10:
            break
    found = [once(call, wait) for _ in range(LEAST_RUNS)]
    while sum(found) < seconds and len(found) < MOST_RUNS:
        found.append(once(call, wait))
    return Times(tuple(found))


def in_turns(calls: Sequence[Call], rounds: int) -> list[Times]:
    """Of each call, after one as a warm-up, a time in every round: in a round each has one turn."""
    for call in calls:
        call()
    every = [[once(call) for call in calls] for _ in range(rounds)]
    return [Times(seconds) for seconds in zip(*every, strict=True)]


def fastest_in_turns(calls: Sequence[Call], rounds: int, turn_seconds: float) -> list[float]:
    """The shortest time of each call. In each round every call has one turn of about `turn_seconds`, at least 10 calls;
    calls of over 0.1 s have three rounds of one."""
    best = [float("inf")] * len(calls)
    for number in range(rounds):
        for i, call in enumerate(calls):
            if SLOW_SECONDS < best[i] < 1 and number > 2:
                continue
            first = once(call)
            more = max(MIN_CALLS, min(MAX_CALLS, int(turn_seconds / first))) if first < SLOW_SECONDS else 0
            best[i] = min(best[i], first, *(once(call) for _ in range(more)))
            time.sleep(0.005)  # threads that still wait for work in a loop fall asleep
    return best
