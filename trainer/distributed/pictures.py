"""What decides the time to an accuracy, and the study's two charts as PNG bytes."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

MARKS = "osD^vPX*<>"
RING = {"marker": "o", "markersize": 9, "markerfacecolor": "none"}  # where a method and all-reduce are as fast
MBIT = [10 ** (x / 8) for x in range(0, 33)]  # 1 Mbit/s to 10 Gbit/s


@dataclass(frozen=True)
class Speed:
    """What the time to an accuracy is made of: steps, seconds of a step that are no waiting, bytes a worker sends."""

    steps: float
    step_seconds: float
    sent_bytes: float

    def seconds(self, mbit: float) -> float:
        """With a link of so many Mbit/s at each worker; the latency of messages is left out."""
        return self.steps * (self.step_seconds + 8e-6 * self.sent_bytes / mbit)

    def break_even(self, other: Speed) -> float:
        """Mbit/s up to which this is faster than the other: 0 never, inf always.

        >>> Speed(100, 0.02, 1e3).break_even(Speed(100, 0.01, 26e3)), Speed(100, 0.02, 26e3).break_even(Speed(90, 0, 1))
        (20.0, 0.0)
        """
        saved_bits = 8e-6 * (other.steps * other.sent_bytes - self.steps * self.sent_bytes)
        more_seconds = self.steps * self.step_seconds - other.steps * other.step_seconds
        if saved_bits <= 0:
            return 0.0
        return saved_bits / more_seconds if more_seconds > 0 else math.inf


def accuracy_picture(found: dict[str, Any]) -> bytes:
    """Accuracy against bytes that a worker has sent, a line per method."""
    figure, axes = _chart(found, "MB sent by a worker", "accuracy, %")
    for number, row in enumerate(found["rows"]):
        x, y = zip(*row["curve"], strict=True)
        _line(axes, number, [b / 1e6 for b in x], [100 * a for a in y], row["method"])
    axes.axhline(100 * found["target"], color="black", linestyle="--", linewidth=1, label="accuracy to reach")
    best = max(a for row in found["rows"] for _, a in row["curve"])
    axes.set_ylim(100 * min(0.9 * best, best - 0.3), 100 * best + 1)
    return _png(figure, axes)


def time_picture(found: dict[str, Any]) -> bytes:
    """Seconds to the accuracy against bandwidth, and for each method the bandwidth up to which it beats all-reduce."""
    percent = f"{100 * found['target']:.1f} %"
    figure, axes = _chart(found, "Mbit/s of each worker's link", f"seconds to {percent}, latency left out")
    ring = False
    for number, row in enumerate(found["rows"]):
        if "speed" not in row:
            continue
        speed, at = Speed(**row["speed"]), row.get("break_even_mbit", 0.0)
        crosses = 0 < at < math.inf
        name = row["method"] + (f": faster below {at:,.0f} Mbit/s" if crosses else "")
        name += ": always faster" if math.isinf(at) else ": never faster" if row["method"] != "none" and not at else ""
        _line(axes, number, MBIT, [speed.seconds(m) for m in MBIT], name, every=4)
        if crosses and MBIT[0] <= at <= MBIT[-1]:
            axes.plot([at], [speed.seconds(at)], color=f"C{number}", **RING)
            ring = True
    if ring:
        axes.plot([], [], color="grey", linestyle="", label="ring: as fast as none", **RING)
    axes.set_yscale("log")
    return _png(figure, axes)


def _chart(found: dict[str, Any], x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    model, workers = found["plan"]["model"], found["workers"]
    title = f"{model}, {found['parameters']:,} parameters, {workers} workers, {found['seeds']} seeds\n{found['task']}"
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    return figure, axes


def _line(axes: Any, number: int, x: list[float], y: list[float], name: str, every: int = 1) -> None:
    axes.plot(x, y, color=f"C{number}", marker=MARKS[number], markersize=4, markevery=every, linewidth=1.2, label=name)


def _png(figure: Any, axes: Any) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=90, metadata={"Software": None})
    return made.getvalue()
