"""A live view of a listening board: bars of the averaged scores, the words heard, the time each stage takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from host.link.protocol import Heard, Identity

BAR = 40
WORDS_SHOWN = 8


class View:
    """Gathers records and renders them; separate from the terminal, so that a test can look at it."""

    def __init__(self, identity: Identity, modelled: bool) -> None:
        self.identity = identity
        self.modelled = modelled
        average = identity.detector.average_count if identity.detector else 1
        self.count = 0
        self.lost = 0
        self.words: list[str] = []
        self._scores: deque[tuple[int, ...]] = deque(maxlen=average)
        self._last: Heard | None = None

    def add(self, heard: Heard) -> None:
        """Take the next record in."""
        self._last = heard
        self.count += 1
        self.lost = heard.lost
        self._scores.append(heard.scores)
        if heard.word is not None and self.identity.audio:
            seconds = heard.frame * self.identity.audio.step_samples / self.identity.audio.sample_rate_hz
            self.words.append(f"{seconds:8.2f} s  {self.identity.labels[heard.word]}")

    def render(self) -> Group:
        """Scores averaged as the detector does, last words, stage times of the last inference."""
        table = Table(show_header=False, box=None)
        for index, label in enumerate(self.identity.labels):
            mean = sum(scores[index] + 128 for scores in self._scores) / (255 * (self._scores.maxlen or 1))
            table.add_row(label, Text("█" * round(mean * BAR), style="green" if index > 1 else "dim"), f"{mean:4.2f}")
        lines: list[Table | Text] = [table]
        if self._last:
            cycles = (self._last.pre_cycles, self._last.infer_cycles, self._last.post_cycles)
            us = [count * 1e6 / self.identity.clock_hz for count in cycles]
            how = " (modelled)" if self.modelled else ""
            lines.append(
                Text(
                    f"pre {us[0]:.0f} us, inference {us[1]:.0f} us, post {us[2]:.0f} us{how}; inference "
                    f"{self._last.index}"
                )
            )
            if self.lost:
                lines.append(Text(f"{self.lost} samples of audio lost", style="red"))
        lines += [Text(word, style="bold") for word in self.words[-WORDS_SHOWN:]]
        return Group(*lines)


def monitor(identity: Identity, modelled: bool, records: Iterable[Heard], console: Console) -> View:
    """Shows records as they come until they end or the user stops with Ctrl-C."""
    view = View(identity, modelled)
    with Live(view.render(), console=console, auto_refresh=False) as live:
        try:
            for heard in records:
                view.add(heard)
                live.update(view.render(), refresh=True)
        except KeyboardInterrupt:
            pass
    return view
