"""The board in a terminal: LEDs, microphone, serial port, load and what happened when."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from host.emulator.session.timeline import Moment, Timeline, colour_of

if TYPE_CHECKING:
    from host.emulator.board import VirtualBoard

_BAR, _LINES, _MOMENTS, _REFRESH_SECONDS = 40, 8, 10, 0.2
_STYLES = {"sound": "cyan", "led": "magenta", "word": "bold green", "serial": "dim"}
_LED_STYLES = {"off": "dim"}


def show_moment(moment: Moment) -> Text:
    """One line of the timeline."""
    style = _STYLES[moment.kind]
    return Text(
        f"{moment.seconds:9.3f} s  {moment.kind:<6} {moment.text}", style=style, no_wrap=True, overflow="ellipsis"
    )


def render(board: VirtualBoard, timeline: Timeline) -> Group:
    """The board as it is now."""
    colour = colour_of(board.chip.leds())
    table = Table(show_header=False, box=None)
    other = ", ".join(name for name, lit in board.chip.other_leds().items() if lit)
    table.add_row(
        "LED", Text(f"● {colour}", style=_LED_STYLES.get(colour, colour)), Text(other and f"also lit: {other}")
    )
    microphone = board.chip.microphone
    level = microphone.level()
    state = "off" if not microphone.running else "silence" if microphone.exhausted else f"{level:6.1f} dBFS"
    bar = round(max(0.0, 1 + level / 60) * _BAR) if microphone.running else 0
    table.add_row("microphone", Text("█" * bar, style="green"), state)
    awake, asleep = int(board.core.counter.state.active), board.schedule.asleep
    table.add_row(
        "board time", f"{board.seconds:.2f} s", f"CPU load {100 * awake / max(1, awake + asleep):.1f} % (modelled)"
    )
    recent = [show_moment(one) for one in timeline.moments if one.kind != "serial"][-_MOMENTS:]
    serial = [Text.from_markup("  " + escape(line), overflow="ellipsis") for line in timeline.lines[-_LINES:]]
    return Group(table, Text("serial port", style="bold"), *serial, Text("heard and shown", style="bold"), *recent)


class LiveView:
    """Shows a board while the block runs; on anything but a terminal it shows nothing."""

    def __init__(self, board: VirtualBoard, timeline: Timeline, console: Console) -> None:
        self._board, self._timeline = board, timeline
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._next = 0.0

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(render(self._board, self._timeline), refresh=True)
            self._live.stop()

    def look(self) -> None:
        """Called often; draws now and then."""
        if self._live and time.monotonic() >= self._next:
            self._next = time.monotonic() + _REFRESH_SECONDS
            self._live.update(render(self._board, self._timeline), refresh=True)
