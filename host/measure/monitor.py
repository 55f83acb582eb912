"""A live view of a listening board: bars of the averaged outputs, the words heard, the time each stage takes."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from converter.operators.softmax import Softmax
from host.link.detector import FIRST_WORD, Detector
from host.link.expected import Model
from host.link.protocol import Heard, Identity

BAR = 40
WORDS_SHOWN = 8


class View:
    """Gathers records and renders them; separate from the terminal, so that a test can look at it."""

    def __init__(self, identity: Identity, modelled: bool, model: Model | None = None) -> None:
        self.identity = identity
        self.modelled = modelled
        self.model = model
        self._detector = Detector(identity.detector, len(identity.labels)) if identity.detector else None
        average = identity.detector.average_count if identity.detector else 1
        audio, hop = identity.audio, identity.detector.hop_frames if identity.detector else 0
        self._hop_us = hop * audio.step_samples * 1e6 / audio.sample_rate_hz if audio else 0.0
        self.count = 0
        self.lost = 0
        self.words: list[str] = []
        self._outputs: deque[tuple[int, ...]] = deque(maxlen=average)
        self._last: Heard | None = None

    def add(self, heard: Heard) -> None:
        """Take the next record in."""
        self._last = heard
        self.count += 1
        self.lost = heard.lost
        self._outputs.append(heard.scores)
        if self._detector:
            self._detector.step(heard.scores)
        if heard.word is not None and self.identity.audio:
            seconds = heard.frame * self.identity.audio.step_samples / self.identity.audio.sample_rate_hz
            self.words.append(f"{seconds:8.2f} s  {self.identity.labels[heard.word]}")

    def shares(self) -> list[float]:
        """0..1 per output: probabilities of the averaged outputs, or, without the model, where they lie in int8's
        range."""
        if not self._outputs:
            return [0.0] * self.identity.output_bytes
        means = [sum(column) / len(self._outputs) for column in zip(*self._outputs, strict=True)]
        if self.model is None:
            return [(mean + 128) / 255 for mean in means]
        quant = self.model.graph.tensors[self.model.graph.output].quant
        reals = [(mean - quant.zero_point) * quant.scale for mean in means]
        if len(reals) == 1 or isinstance(self.model.graph.layers[-1], Softmax):
            return [min(1.0, value) for value in reals]
        powers = [math.exp(value - max(reals)) for value in reals]
        return [power / sum(powers) for power in powers]

    def render(self) -> Group:
        """Outputs averaged over as many as the detector sums, the sums beside their thresholds, last words, stage times
        of the last inference."""
        table = Table(show_header=False, box=None)
        first = len(self.identity.labels) - self.identity.output_bytes
        for index, (label, share) in enumerate(zip(self.identity.outputs, self.shares(), strict=True), first):
            sums = ""
            if self._detector and index >= FIRST_WORD:
                word = index - FIRST_WORD
                sums = f"{self._detector.sums[word]} of {self._detector.spec.thresholds[word]}"
            bar = Text("█" * round(share * BAR), style="green" if index >= FIRST_WORD else "dim")
            table.add_row(label, bar, f"{share:4.2f}", sums)
        lines: list[Table | Text] = [table]
        if self._last:
            cycles = (self._last.pre_cycles, self._last.infer_cycles, self._last.post_cycles)
            us = [count * 1e6 / self.identity.clock_hz for count in cycles]
            how = " (modelled)" if self.modelled else ""
            load = f", CPU load {100 * sum(us) / self._hop_us:.1f} %" if self._hop_us else ""
            stages = f"pre {us[0]:.0f}, inference {us[1]:.0f}, post {us[2]:.0f} us{how}{load}"
            lines.append(Text(f"{stages}; inference {self._last.index}"))
            if self.lost:
                lines.append(Text(f"{self.lost} samples of audio lost", style="red"))
        lines += [Text(word, style="bold") for word in self.words[-WORDS_SHOWN:]]
        return Group(*lines)


def monitor(
    identity: Identity, modelled: bool, records: Iterable[Heard], console: Console, model: Model | None = None
) -> View:
    """Shows records as they come until they end or the user stops with Ctrl-C."""
    view = View(identity, modelled, model)
    live = Live(console=console, auto_refresh=False)
    with contextlib.ExitStack() as shown:
        try:
            for heard in records:
                view.add(heard)
                if view.count == 1:  # a board that hears nothing has nothing to show
                    shown.enter_context(live)
                live.update(view.render(), refresh=True)
        except KeyboardInterrupt:
            pass
    if view.count and not console.is_terminal:
        console.print()  # Live shows its last state there without an end of line
    return view
