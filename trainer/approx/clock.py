"""Times of several ways to do one thing, taken in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch


def fastest_seconds(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The shortest time of each call over all rounds; in each round every call has one turn, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = [float("inf")] * len(calls)
    try:
        for call in calls:
            call()
        for _ in range(rounds):
            for i, call in enumerate(calls):
                start = time.perf_counter()
                call()
                best[i] = min(best[i], time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return best
