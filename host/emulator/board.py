"""The virtual board: the nRF52840's core and peripherals, the serial line and the microphone around them, and time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from converter.checked import Flag, Rule, Whole
from host.emulator.chip import RESET_BY_PROGRAM, Nrf52840, Wires
from host.emulator.core import FOREVER, Core
from host.emulator.cycles.timing import EXPECTED, Timing
from host.emulator.errors import BoardError, BoardFault
from host.emulator.image.elf import Image
from host.emulator.image.load import load_image
from host.emulator.report import Report, make_report
from host.emulator.schedule import CLOCK_HZ
from host.emulator.unmodelled import Unmodelled

_MAX_RESETS, _RESET_SECONDS = 100, 0.1
_POLL_CYCLES, _PACE_CYCLES = CLOCK_HZ // 1000, CLOCK_HZ // 10  # from one look at the host to the next: awake, asleep
_MOST_LOOKS = 10_000  # at one cycle: a few are usual, each for something that was due


class VirtualBoard:
    """A Nano 33 BLE Sense with this image in its flash. pcm: int16 samples for the microphone, None for a board without
    one; timing: what the chip adds to the core's cycles, None for memory that answers at once.

    Time is in cycles of 64 MHz. The board does nothing until run() is called.
    """

    SAVED: ClassVar[dict[str, Rule]] = {"resets": Whole(), "_reset_wanted": Flag()}

    def __init__(
        self,
        elf: Path | str | Image,
        pcm: Any = None,
        native: bool | None = None,
        timing: Timing | None = EXPECTED,
    ) -> None:
        self.image = elf if isinstance(elf, Image) else load_image(elf)
        self.resets = 0
        self.pace: Callable[[int], int] | None = None  # waits for the host: cycles of a sleep -> how many have passed
        self.poll: Callable[[], None] | None = None  # called now and then while the core runs
        self.unmodelled = Unmodelled()
        self._reset_wanted = False
        self.core = core = Core(self.image, native, self.unmodelled, self._request_reset, timing)
        self.schedule = core.schedule
        clock = core.clock
        wires = Wires(
            core.schedule,
            core.memory,
            core.nvic.set_line,
            self.unmodelled,
            self._request_reset,
            clock.set_cache,
            clock.cache_counts,
            core.stall,
            core.watch_stores,
        )
        self.chip = Nrf52840(wires, pcm)
        core.flash_writable, core.flash_written = lambda: self.chip.nvmc.writes, self.chip.nvmc.written
        for address, size, read, write, flags in self.chip.regions():
            clock.map_registers(address, size, read, write, flags)
        core.memory.map_constants(self.chip.constants())
        self._reset()

    def _request_reset(self, reason: int = RESET_BY_PROGRAM) -> None:
        self.chip.power.add_reason(reason)
        self._reset_wanted = True
        self.core.clock.look_soon()

    def _reset(self) -> None:
        self._reset_wanted = False
        self.core.nvic.reset()
        self.chip.bus.reset()
        self.core.reset()

    @property
    def seconds(self) -> float:
        """Board time since power-up."""
        return self.schedule.seconds

    def run(self, seconds: float | None = None, until: Callable[[], bool] | None = None) -> bool:
        """Run for so much board time, or until `until()` (asked at every event); True when `until` was met.

        Raises BoardError when the program faults, or sleeps with nothing left that could wake it.
        """
        end = FOREVER if seconds is None else self.schedule.now() + round(seconds * CLOCK_HZ)
        try:
            return self._run(end, until)
        except BoardFault:
            raise
        except BoardError as trouble:
            raise self.core.trouble or self.core.fault(str(trouble)) from None

    def _run(self, end: int, until: Callable[[], bool] | None) -> bool:
        core, schedule = self.core, self.schedule
        state = core.counter.state
        before, looks = -1, 0
        while True:
            if until is not None and until():
                return True
            if self.poll is not None:
                self.poll()
            done = schedule.run_due(int(state.active))
            if core.blocks.look_again:
                core.blocks.learn_again()
            if self._reset_wanted:
                self._reset()
                self.resets += 1
                if self.resets >= _MAX_RESETS and self.seconds < 2 * _MAX_RESETS * _RESET_SECONDS:
                    raise BoardError(f"the program keeps resetting the board ({self.resets} resets)")
            now = int(state.active) + schedule.asleep
            if now >= end:
                return False
            if not done:
                continue
            if now != before:
                before, looks = now, 0
            elif (looks := looks + 1) > _MOST_LOOKS:
                raise BoardError(f"the board's time stands still ({_MOST_LOOKS:,} looks at one cycle)")
            if core.sleeping:
                self._sleep(end)
                continue
            core.take_exception()
            limit = end if self.poll is None else min(end, int(state.active) + schedule.asleep + _POLL_CYCLES)
            core.execute(limit)

    def _sleep(self, end: int) -> None:
        """Jump to the next event, or wait for the host."""
        if self.core.try_wake():
            return
        due = self.schedule.next_time()
        if due is None and end == FOREVER and (self.pace is None or not self.chip.console.ever_received):
            raise BoardError(
                f"the program sleeps for ever at {self.image.name_at(self.core.cpu.pc)}: "
                "no interrupt is left that could wake it"
            )
        now = self.schedule.now()
        step = min(due if due is not None else now + CLOCK_HZ // 100, end) - now
        if self.pace is not None:
            step = min(step, _PACE_CYCLES)
        if step > 0:
            self.schedule.asleep += step if self.pace is None else self.pace(step)

    # --- the outside

    def send(self, data: bytes) -> None:
        """Bytes from the host to the board's serial port."""
        self.chip.microphone.host_has_spoken |= bool(data)
        self.chip.console.host_to_board.extend(data)
        self.chip.console.wake()

    def take_output(self) -> bytes:
        """What the board has sent since the last call."""
        found = bytes(self.chip.console.board_to_host)
        self.chip.console.board_to_host.clear()
        return found

    def read_word(self, address: int) -> int:
        """32 bits of flash or RAM."""
        return self.core.memory.word(address)

    def report(self) -> Report:
        """The figures so far."""
        core = self.core
        counts, asleep = (core.exceptions, self.resets), self.schedule.asleep
        return make_report(core.counter, asleep, self.chip, *counts, self.unmodelled.lines(), core.survived)
