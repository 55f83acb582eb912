"""What happened when on the board: recordings in front of the microphone, LED colours, lines and words on the serial
port."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host.emulator.board import VirtualBoard

_MAX_MOMENTS = 20_000
_TOGETHER_SECONDS = 0.001  # three LEDs written one after another are one colour
_COLOURS = ("off", "red", "green", "yellow", "blue", "magenta", "cyan", "white")  # red is 1, green 2, blue 4


@dataclass(frozen=True)
class Moment:
    """kind: sound (a recording begins), led (the colour from now on), word (one that the firmware heard), serial (a
    line it sent)."""

    seconds: float
    kind: str
    text: str


def colour_of(leds: dict[str, bool]) -> str:
    """
    >>> colour_of({"red": True, "green": True, "blue": False})
    'yellow'
    """
    return _COLOURS[leds["red"] + 2 * leds["green"] + 4 * leds["blue"]]


class Timeline:
    """Watches a board. `sounds` are (first sample, name) of the recordings; look() must be called now and then."""

    def __init__(self, board: VirtualBoard, sounds: list[tuple[int, str]]) -> None:
        self.moments: list[Moment] = []
        self.dropped = 0
        self.lines: list[str] = []  # the last ones
        self.labels: list[str] = []
        self._board, self._sounds = board, list(sounds)
        self._all_sounds, self._beginnings = list(sounds), 0
        self._rest = b""
        board.chip.on_leds = self._led

    def _add(self, kind: str, text: str, seconds: float | None = None) -> None:
        if len(self.moments) >= _MAX_MOMENTS:
            self.dropped += 1
        else:
            moment = Moment(self._board.seconds if seconds is None else seconds, kind, text)
            bisect.insort(self.moments, moment, key=lambda one: one.seconds)

    def _led(self, leds: dict[str, bool]) -> None:
        colour = colour_of(leds)
        last = self.moments[-1] if self.moments else None
        if last and last.kind == "led" and self._board.seconds - last.seconds < _TOGETHER_SECONDS:
            self.moments.pop()
        before = next((one.text for one in reversed(self.moments) if one.kind == "led"), "off")
        if colour != before:
            self._add("led", colour)

    def look(self) -> None:
        """Notice the recordings that the microphone has begun to deliver."""
        microphone = self._board.chip.microphone
        if microphone.beginnings != self._beginnings:
            self._sounds, self._beginnings = list(self._all_sounds), microphone.beginnings
        while self._sounds and microphone.position > self._sounds[0][0]:
            first, name = self._sounds.pop(0)
            self._add("sound", name, microphone.seconds_at(first))

    def serial(self, data: bytes) -> None:
        """What the board has just sent."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-1024:]
        for raw in lines:
            line = raw.rstrip(b"\r").decode(errors="replace")
            self.lines = [*self.lines[-19:], line]
            self._line(line)

    def _line(self, line: str) -> None:
        """Our firmware's records of words become words; all else is a line."""
        fields = line[line.find("[") + 1 : -1].split(",") if line.endswith("]") else []
        if line.startswith("m-labels-["):
            self.labels = fields
        if line.startswith("m-heard-[") and len(fields) == 11:
            if fields[9].isdigit():
                index = int(fields[9])
                self._add("word", self.labels[index] if index < len(self.labels) else f"label {index}")
        else:
            self._add("serial", line)
