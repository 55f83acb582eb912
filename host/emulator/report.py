"""What a run has cost: expected and ideal cycles, what makes the difference, bounds, sleep, and what the model does not
know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from host.emulator.chip import Nrf52840
from host.emulator.cycles.counting import Counter
from host.emulator.cycles.timing import WORST
from host.emulator.image.elf import Image
from host.emulator.schedule import CLOCK_HZ


@dataclass(frozen=True)
class Report:
    """Figures of the cycle model; all "modelled", none measured.

    cycles_awake are expected ones, by the cache setting in force, unless the board's clock is ideal; cycles_ideal those
    of memory that answers at once; low and high bound the real ones. What the expected ones hold: cycles_flash_data of
    loads from flash, cycles_misses of lines that the instruction cache did not have, cycles_bus of fetches that loads
    and stores were in the way of.
    """

    instructions: int
    cycles_awake: int
    cycles_ideal: int
    cycles_low: int
    cycles_high: int
    cycles_flash_data: int
    cycles_misses: int
    cycles_bus: int
    cycles_asleep: int
    exceptions: int
    resets: int
    cache_on: bool
    clock: str  # "expected" or "ideal"
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
    state, timing = counter.state, counter.timing
    low = high = counted = 0
    for record in counter.records():
        cost = record.cost
        low += record.executed * cost.low + record.taken
        high += record.executed * cost.high + record.taken * cost.taken.high
        counted += record.executed * cost.ideal + record.taken * cost.taken.ideal
    outside = int(state.ideal) - counted  # exception entry and return
    return Report(
        instructions=int(state.instructions),
        cycles_awake=int(state.active),
        cycles_ideal=int(state.ideal),
        cycles_low=low + outside,
        cycles_high=high + outside + int(state.flash_words) * WORST.flash_read,
        cycles_flash_data=int(state.flash_words) * timing.flash_read,
        cycles_misses=int(state.misses) * timing.miss,
        cycles_bus=int(state.bus_cycles),
        cycles_asleep=asleep,
        exceptions=exceptions,
        resets=resets,
        cache_on=bool(state.cache_on),
        clock="ideal" if state.ideal_clock else "expected",
        serial_overruns=sum(uart.overruns for uart in chip.uarts),
        microphone_samples=chip.microphone.delivered,
        unmodelled=list(unmodelled),
        survived_faults=list(survived),
    )


def function_profile(counter: Counter, image: Image) -> dict[str, int]:
    """Ideal cycles per function, most expensive first."""
    found: dict[str, int] = {}
    for record in counter.records():
        symbol = image.symbol_at(record.address)
        name = symbol.name if symbol else "?"
        found[name] = found.get(name, 0) + record.executed * record.cost.ideal + record.taken * record.cost.taken.ideal
    return dict(sorted(found.items(), key=lambda item: -item[1]))
