"""Line plots of the studies as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MARKS = "osD^vPX*<>"


@dataclass(frozen=True)
class Line:
    """A named series, x against y; a bar reaches from each y to its `end`, where there are ends."""

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    ends: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes; level is a dashed line across, with its name; names: x are long words, written at a slant."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False
    log_y: bool = False
    level: tuple[float, str] | None = None
    names: bool = False


def plot(title: str, panels: Sequence[Panel]) -> bytes:
    """The panels as a PNG."""
    made = io.BytesIO()
    draw(title, panels).savefig(made, format="png", dpi=100, metadata={"Software": None})
    return made.getvalue()


def draw(title: str, panels: Sequence[Panel]) -> Any:
    """A matplotlib figure of the panels, up to three side by side, under one title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(panels) if len(panels) <= 3 else 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.6 * columns, 4.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
        for number, line in enumerate(panel.lines):
            joined = "" if isinstance(line.x[0], str) else "-"  # categories have nothing between them
            style = {"marker": MARKS[number % len(MARKS)], "markersize": 5, "linestyle": joined}
            (drawn,) = axes.plot(line.x, line.y, label=line.name, **style)
            if line.ends:
                axes.vlines(line.x, line.y, line.ends, color=drawn.get_color(), linewidth=3, alpha=0.35)
        if panel.level:
            axes.axhline(panel.level[0], color="black", linestyle="--", linewidth=1, label=panel.level[1])
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        if panel.log_x:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        if panel.log_y:
            axes.set_yscale("log")
        if panel.names:
            axes.set_xticks(
                range(len(panel.lines[0].x)), [str(x) for x in panel.lines[0].x], rotation=35, ha="right", fontsize=8
            )
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure
