"""What a run has cost: cycles with and without the cache, bounds, sleep, and what the model does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from host.emulator.chip import Nrf52840
from host.emulator.cycles.counting import Counter
from host.emulator.image.elf import Image
from host.emulator.schedule import CLOCK_HZ


@dataclass(frozen=True)
class Report:
    """Figures of the cycle model; all "modelled", none measured."""

    instructions: int
    cycles_cached: int
    cycles_uncached: int
    cycles_low: int
    cycles_high: int
    cycles_awake: int
    cycles_asleep: int
    exceptions: int
    resets: int
    cache_on: bool
    serial_overruns: int
    microphone_samples: int
    unmodelled: list[str] = field(default_factory=list)
    survived_faults: list[str] = field(default_factory=list)  # which the program's own handlers came back from

    @property
    def cpu_load(self) -> float:
        """Share of board time the core was awake."""
        total = self.cycles_awake + self.cycles_asleep
        return self.cycles_awake / total if total else 0.0

    @property
    def seconds(self) -> float:
        """Board time."""
        return (self.cycles_awake + self.cycles_asleep) / CLOCK_HZ

    def as_json(self) -> dict[str, Any]:
        """All figures, with what they are."""
        return {
            **asdict(self),
            "seconds": self.seconds,
            "cpu_load": self.cpu_load,
            "clock_hz": CLOCK_HZ,
            "kind": "modelled",
        }


def make_report(
    counter: Counter,
    asleep: int,
    chip: Nrf52840,
    exceptions: int,
    resets: int,
    unmodelled: Sequence[str],
    survived: Sequence[str],
) -> Report:
    """The figures so far; asleep: cycles."""
    state = counter.state
    low = high = 0
    counted = 0
    for record in counter.records():
        cost = record.cost
        low += record.executed * cost.low + record.taken
        high += record.executed * cost.high + 3 * record.taken
        counted += record.executed * cost.cached + record.taken * cost.taken_cached
    outside = int(state.cached) - counted  # exception entry and return
    return Report(
        instructions=int(state.instructions),
        cycles_cached=int(state.cached),
        cycles_uncached=int(state.uncached),
        cycles_low=low + outside,
        cycles_high=high + outside,
        cycles_awake=int(state.active),
        cycles_asleep=asleep,
        exceptions=exceptions,
        resets=resets,
        cache_on=bool(state.cache_on),
        serial_overruns=sum(uart.overruns for uart in chip.uarts),
        microphone_samples=chip.microphone.delivered,
        unmodelled=list(unmodelled),
        survived_faults=list(survived),
    )


def function_profile(counter: Counter, image: Image) -> dict[str, int]:
    """Cached cycles per function, most expensive first."""
    found: dict[str, int] = {}
    for record in counter.records():
        symbol = image.symbol_at(record.address)
        name = symbol.name if symbol else "?"
        found[name] = (
            found.get(name, 0) + record.executed * record.cost.cached + record.taken * record.cost.taken_cached
        )
    return dict(sorted(found.items(), key=lambda item: -item[1]))
