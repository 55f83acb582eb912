"""A sweep's charts as one PNG, for documents: the Pareto fronts, accuracy by bits, and pruning."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from host.report.svg_chart import COLOURS
from host.report.sweep_data import FAMILIES, NONE, PARETO_DEPTH, SHAPES, Row, Sweep, accuracy_word, curves, front, means

MARKS = {"circle": "o", "square": "s", "triangle": "^"}
MODELS = {"circle": "TinyConv", "square": "DS-CNN", "triangle": "another network, TinyConv for streaming, say"}
TIME, FLASH = "one inference on the board, ms (modelled)", "flash of the engine with its model, bytes"
Draw = Callable[[Any], None]


def picture(sweep: Sweep) -> bytes:
    """The figure as a PNG."""
    made = io.BytesIO()
    draw(sweep).savefig(made, format="png", dpi=80, metadata={"Software": None})
    return made.getvalue()


def draw(sweep: Sweep) -> Any:
    """A matplotlib figure, two charts a row: every point against time and flash, each model's bits, its pruning against
    parameters and time; each with its title and what its marks mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(row.model for row in sweep.rows))
    pruned = {curve.model for curve in curves(sweep.rows)}
    drawn: list[Draw] = [
        partial(_pareto, sweep, "every point: accuracy and time", TIME, lambda r: r.board_ms),
        partial(_pareto, sweep, "every point: accuracy and flash", FLASH, lambda r: float(r.engine_flash)),
    ]
    drawn += [partial(_bits, sweep, m) for m in models if len({r.bits for r in _plain(sweep, m)}) > 2]
    for model in (model for model in models if model in pruned):
        drawn.append(partial(_pruning, sweep, model, "parameters that are not zero", lambda r: float(r.parameters)))
        drawn.append(partial(_pruning, sweep, model, TIME, lambda r: r.board_ms))
    figure = Figure(figsize=(14, 5 * -(-len(drawn) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    places = list(figure.subplots(-(-len(drawn) // 2), 2, squeeze=False).flat)
    for axes, chart in zip(places, drawn, strict=False):
        chart(axes)
        axes.set_ylabel(accuracy_word(sweep))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    for axes in places[len(drawn) :]:
        axes.remove()
    return figure


def _pareto(sweep: Sweep, title: str, label: str, cost: Callable[[Row], float], axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    floor = max(row.accuracy for row in sweep.rows) - PARETO_DEPTH
    axes.set(title=title, xlabel=label, xscale="log")
    for colour, family in zip(COLOURS, FAMILIES, strict=False):
        rows = [row for row in sweep.rows if row.family == family]
        for row in rows:
            mark = MARKS[SHAPES.get(row.model, "triangle")]
            inside = colour if row.accuracy >= floor else "none"
            at = max(row.accuracy, floor)
            axes.plot(cost(row), at, mark, color=colour, markerfacecolor=inside, markersize=6, alpha=0.85)
        if rows:
            axes.plot([], [], "o", color=colour, label=family)
    best = [row for row in front(sweep.rows, cost) if row.accuracy >= floor]
    axes.step([*map(cost, best)], [row.accuracy for row in best], where="post", color="black", linewidth=1, zorder=1)
    axes.plot([], [], color="black", linewidth=1, label="front: nothing is better and cheaper")
    for shape in dict.fromkeys(SHAPES.get(row.model, "triangle") for row in sweep.rows):
        axes.plot([], [], MARKS[shape], color="grey", label=MODELS[shape])
    if any(row.accuracy < floor for row in sweep.rows):
        told = f"hollow: below {floor:.1f} %, drawn at the edge"
        axes.plot([], [], "o", color="grey", markerfacecolor="none", label=told)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain(sweep: Sweep, model: str) -> list[Row]:
    return [row for row in sweep.rows if row.kind == NONE and row.model == model]


def _bits(sweep: Sweep, model: str, axes: Any) -> None:
    axes.set(title=f"{model}: bits", xlabel="bits of weights and hidden activations")
    for colour, method in zip(COLOURS, ("ptq", "qat"), strict=False):
        every = sorted(means([r for r in _plain(sweep, model) if r.method == method]), key=lambda m: m.rows[0].bits)
        for mean in every:
            bits = mean.rows[0].bits
            axes.plot([bits] * len(mean.rows), [row.accuracy for row in mean.rows], "_", color=colour, markersize=9)
        if every:
            x = [mean.rows[0].bits for mean in every]
            seeds = max(len(mean.rows) for mean in every)
            told = method.upper() + (f", mean; bars: each of {seeds} seeds" if seeds > 1 else "")
            axes.plot(x, [mean.accuracy for mean in every], "o-", color=colour, markersize=5, label=told)
    if own := sweep.float_accuracy.get(model, []):
        told = f"float, mean of {len(own)}: {sum(own) / len(own):.2f} %"
        axes.axhline(sum(own) / len(own), color="black", linestyle="--", linewidth=1, label=told)


def _pruning(sweep: Sweep, model: str, label: str, what: Callable[[Row], float], axes: Any) -> None:
    axes.set(title=f"{model}: pruning (thick: its largest drop)", xlabel=label)
    for number, curve in enumerate(c for c in curves(sweep.rows) if c.model == model):
        colour = COLOURS[(number + 2) % len(COLOURS)]
        x, y = [mean.of(what) for mean in curve.points], [mean.accuracy for mean in curve.points]
        axes.plot(x, y, "o-", color=colour, markersize=5, linewidth=1.2, label=curve.name)
        if curve.cliff is not None:
            at = slice(curve.cliff, curve.cliff + 2)
            axes.plot(x[at], y[at], color=colour, linewidth=7, alpha=0.25)
