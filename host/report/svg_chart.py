"""Charts as inline SVG, drawn here: points with a tip each, lines, shaded cliffs. No library, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from converter.commands.html import Markup, template

WIDTH, HEIGHT = 620, 340
LEFT, RIGHT, TOP, BOTTOM = 56, WIDTH - 14, 14, HEIGHT - 46  # pixels
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7a5195", "#666666")


@dataclass(frozen=True)
class Dot:
    """A point of a chart; `tip` is what hovering shows, shape is circle, square, triangle or none; spread: a bar from
    least to most."""

    x: float
    y: float
    tip: str
    shape: str = "circle"
    spread: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Dots of one colour; joined by a line in their order if `line`; cliff: the index of the dot before the largest
    drop."""

    name: str
    colour: str
    dots: tuple[Dot, ...]
    line: bool = True
    cliff: int | None = None
    mark: str = ""


@dataclass(frozen=True)
class Scale:
    """From data to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Pixels."""
        low, high, v = (
            (math.log10(x) for x in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (self.end - self.start) * (v - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values: 1, 2, 5 in each decade of a logarithmic axis; about six equal steps of a linear one.

        >>> Scale(0, 10, 0, 1).ticks(), Scale(3, 60, 0, 1, True).ticks()
        ([0, 2, 4, 6, 8, 10], [5, 10, 20, 50])
        """
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [_round(m * 10.0**d) for d in decades for m in (1, 2, 5) if self.low <= m * 10.0**d <= self.high]
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [_round(i * step) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round(value: float) -> float:
    """Without the dust of binary fractions; whole numbers as int."""
    found = round(value, 9)
    return int(found) if found == int(found) else found


def chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    log_x: bool = False,
    floor: float | None = None,
    level: tuple[str, float] | None = None,
    front: Sequence[tuple[float, float]] = (),
    identity: str = "",
) -> Markup:
    """An <svg> with its legend. Dots under `floor` lie on it, hollow; `level` is a dashed line; `front` a staircase."""
    xs = [d.x for s in series for d in s.dots]
    ys = [v for s in series for d in s.dots for v in (d.y, *(d.spread or ()))] + ([level[1]] if level else [])
    if not xs:
        return Markup("<p class=note>No points.</p>")
    bottom = max(min(ys), min(floor, max(ys)) if floor is not None else -math.inf)
    margin = max(0.5, 0.05 * (max(ys) - bottom))
    return template(
        "host.report",
        "chart.svg.j2",
        **{"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        x=Scale(*_range(xs, log_x), LEFT, RIGHT, log_x),
        y=Scale(bottom - margin, max(ys) + margin, BOTTOM, TOP),
        **{"series": series, "level": level, "front": front, "least": bottom, "short": short},
        **{"x_label": x_label, "y_label": y_label, "identity": identity},
    )


def bars(rows: Sequence[tuple[str, float]], unit: str) -> Markup:
    """Horizontal bars, one a row of (name, value)."""
    most = max((value for _, value in rows), default=0.0) or 1.0
    return template("host.report", "bars.svg.j2", rows=rows, most=most, unit=unit)


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return low / 1.12, high * 1.12
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def short(value: float) -> str:
    """A tick's text: 20,000 as 20k.

    >>> [short(v) for v in (0.5, 92, 2000, 1500000)]
    ['0.5', '92', '2k', '1.5M']
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
