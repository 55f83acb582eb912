"""Charts as inline SVG, drawn here: points with a tip each, lines, shaded cliffs. No library, no network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 620, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 46
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7a5195", "#666666")


@dataclass(frozen=True)
class Dot:
    """A point of a chart; `tip` is what hovering shows, shape is circle, square or triangle; spread: a bar from least
    to most."""

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
) -> str:
    """An <svg> with its legend. Dots under `floor` lie on it, hollow; `level` is a dashed line; `front` a staircase."""
    xs = [d.x for s in series for d in s.dots]
    ys = [v for s in series for d in s.dots for v in (d.y, *(d.spread or ()))] + ([level[1]] if level else [])
    if not xs:
        return "<p class=note>No points.</p>"
    x = Scale(*_range(xs, log_x), LEFT, WIDTH - RIGHT, log_x)
    bottom = max(min(ys), min(floor, max(ys)) if floor is not None else -math.inf)
    margin = max(0.5, 0.05 * (max(ys) - bottom))
    y = Scale(bottom - margin, max(ys) + margin, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, x_label, y_label)]
    if level:
        parts.append(f"<path d='M{LEFT} {y.at(level[1]):.1f}H{WIDTH - RIGHT}' class=level />")
    if front:
        parts.append(_front(front, x, y))
    parts += [_line(s, x, y, bottom) for s in series if s.line]
    parts += [_dot(d, s.colour, x, y, bottom) for s in series for d in s.dots]
    drawn = (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} role=img "
        f"id='{html.escape(identity)}'>{''.join(parts)}</svg>"
    )
    return f"<figure>{drawn}{_legend(series, level[0] if level else '')}</figure>\n"


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return low / 1.12, high * 1.12
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    parts = [f"<path d='M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}' class=axis />"]
    for value in x.ticks():
        parts.append(
            f"<path d='M{x.at(value):.1f} {HEIGHT - BOTTOM}v4' class=axis /><text x={x.at(value):.1f} "
            f"y={HEIGHT - BOTTOM + 17} "
            f"text-anchor=middle>{_short(value)}</text>"
        )
    for value in y.ticks():
        parts.append(
            f"<path d='M{LEFT} {y.at(value):.1f}H{WIDTH - RIGHT}' class=grid /><text x={LEFT - 6} "
            f"y={y.at(value) + 4:.1f} "
            f"text-anchor=end>{_short(value)}</text>"
        )
    parts.append(
        f"<text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 8} text-anchor=middle>{html.escape(x_label)}</text>"
        f"<text transform='translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)' text-anchor=middle>"
        f"{html.escape(y_label)}</text>"
    )
    return "".join(parts)


def _short(value: float) -> str:
    """A tick's text: 20,000 as 20k.

    >>> [_short(v) for v in (0.5, 92, 2000, 1500000)]
    ['0.5', '92', '2k', '1.5M']
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _front(front: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    """The staircase of the best accuracy for at most so much of x."""
    path, last = [], None
    for px, py in front:
        path.append(f"M{x.at(px):.1f} {y.at(py):.1f}" if last is None else f"H{x.at(px):.1f}V{y.at(py):.1f}")
        last = py
    return f"<path class=front d='{''.join(path)}H{WIDTH - RIGHT}'/>"


def _line(series: Series, x: Scale, y: Scale, bottom: float) -> str:
    places = [(x.at(d.x), y.at(max(d.y, bottom))) for d in series.dots]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
    found = f"<path d='{path}' fill=none stroke='{series.colour}' stroke-width=1.5 />" if len(places) > 1 else ""
    if series.cliff is not None:
        (ax, ay), (bx, by) = places[series.cliff : series.cliff + 2]
        found += (
            f"<path d='M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}' class=cliff stroke='{series.colour}'/>"
            f"<text class=mark x={(ax + bx) / 2 + 9:.1f} y={(ay + by) / 2 + 4:.1f} "
            f"fill='{series.colour}'>{series.mark}</text>"
        )
    return found


def _dot(dot: Dot, colour: str, x: Scale, y: Scale, bottom: float) -> str:
    px, py, below = x.at(dot.x), y.at(max(dot.y, bottom)), dot.y < bottom
    bar = ""
    if dot.spread:
        low, high = (y.at(max(v, bottom)) for v in dot.spread)
        bar = f"<path d='M{px - 4:.1f} {low:.1f}h8m-4 0V{high:.1f}m-4 0h8' stroke='{colour}' fill=none />"
    look = (
        f"fill='{'none' if below else colour}' stroke='{colour}' class=dot tabindex=0 "
        f"data-tip='{html.escape(dot.tip, quote=True)}'"
    )
    if dot.shape == "square":
        return f"{bar}<rect x={px - 4.5:.1f} y={py - 4.5:.1f} width=9 height=9 {look} />"
    if dot.shape == "triangle":
        return f"{bar}<path d='M{px:.1f} {py - 5.5:.1f}l5.5 10h-11z' {look} />"
    return f"{bar}<circle cx={px:.1f} cy={py:.1f} r=4.5 {look} />"


def _legend(series: Sequence[Series], dashed: str) -> str:
    items = "".join(
        f"<span><i style='background:{s.colour}'></i>{html.escape(s.name)}</span>" for s in series if s.name
    )
    items += f"<span>- - {html.escape(dashed)}</span>" if dashed else ""
    return f"<figcaption class=legend>{items}</figcaption>"
