"""One self-contained HTML file about a sweep: accuracy against bits, size, operations and time, and the Pareto front.
No network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from converter.commands.html import Markup, Part, Section, Table, page, template
from converter.files import write_atomic
from host.measure.energy import CONDITIONS
from host.report.svg_chart import COLOURS, Dot, Series, chart
from host.report.sweep_data import (
    FAMILIES,
    LEAST_CLIFF,
    NONE,
    PARETO_DEPTH,
    SHAPES,
    Curve,
    Mean,
    Row,
    Sweep,
    accuracy_word,
    curves,
    front,
    load_sweep,
    means,
)
from host.report.sweep_picture import picture

Cost = Callable[[Row], float]


def write_sweep_report(folder: Path, out: Path | None = None) -> Path:
    """SWEEP/report.html (or `out`) and, beside it, the table of all points as .md and the charts as .png."""
    sweep = load_sweep(folder)
    target = out or folder / "report.html"
    sections = [*_bits(sweep), *_pruning(sweep), *_pareto(sweep), *_table(sweep)]
    words = ", ".join(sweep.words)
    script = template("host.report", "tips.js")
    whole = page(f"sweep: {words}", _head(sweep), sections, heading=f"Sweep: {words}", script=script)
    write_atomic(target, whole.encode())
    write_atomic(target.with_suffix(".md"), markdown(sweep).encode())
    if sweep.rows:
        write_atomic(target.with_suffix(".png"), picture(sweep))
    return target


def _head(sweep: Sweep) -> list[Part]:
    clips = sorted({row.n for row in sweep.rows})
    about = Markup(
        "<p>{} points finished, {} broken, {} not made yet. Accuracy: int8 integers by the reference, test split, "
        "n = {} clips, front end reset before each. Board figures are <b>modelled</b> by the virtual board (flash "
        "cache on); in all {:,} inferences on it, every layer's CRC and every score equals the reference. Energy is "
        "{}: modelled, never measured.</p>\n"
        "<p class=note>Hover or tab to a dot for its figures and commands; a click keeps it open.</p>"
    ).format(
        len(sweep.rows),
        len(sweep.broken),
        sweep.waiting,
        " or ".join(map(str, clips)) or 0,
        sum(row.inputs for row in sweep.rows),
        CONDITIONS,
    )
    smoke = "<p class=smoke>Synthetic speech: every score here is a <b>smoke test</b>, not an accuracy.</p>"
    return [*([Markup(smoke)] if sweep.smoke_test else []), about]


def tip(row: Row) -> str:
    """What a dot says: name, figures, and the commands that make it."""
    host = f"{row.host_us:.0f} us here" if row.host_us is not None else "not timed here"
    return (
        f"{row.label}\n{row.accuracy:.2f} % (n = {row.n}); {row.board_ms:.2f} ms, {row.cycles:,.0f} cycles "
        f"(modelled); {host}\n"
        f"{row.parameters:,} parameters, {row.operations:,} operations (zero weights not counted); "
        f"{row.energy_uj:.1f} uJ (modelled)\n"
        f"engine {row.engine_flash:,} B flash, {row.engine_ram:,} B RAM; image {row.flash:,} B, {row.ram:,} B\n"
        + "\n".join(row.commands)
    )


def mean_tip(mean: Mean) -> str:
    """What the dot of several seeds says."""
    if len(mean.rows) == 1:
        return tip(mean.rows[0])
    every = " ".join(f"{row.accuracy:.2f}" for row in mean.rows)
    return f"mean of {len(mean.rows)} seeds: {mean.accuracy:.2f} % ({every})\n{tip(mean.rows[0])}"


def _bits(sweep: Sweep) -> list[Section]:
    """Accuracy against bits for PTQ and QAT, one chart a model."""
    parts: list[Part] = []
    for model in dict.fromkeys(row.model for row in sweep.rows):
        plain = [row for row in sweep.rows if row.kind == NONE and row.model == model]
        if len({row.bits for row in plain}) < 2:
            continue
        series = []
        for colour, method in zip(COLOURS, ("ptq", "qat"), strict=False):
            every = sorted(means([row for row in plain if row.method == method]), key=lambda m: m.rows[0].bits)
            if every:
                seeds = max(len(m.rows) for m in every)
                spread = f", mean of up to {seeds} seeds, bar: lowest to highest" if seeds > 1 else ""
                dots = tuple(Dot(m.rows[0].bits, m.accuracy, mean_tip(m), spread=m.spread) for m in every)
                series.append(Series(f"{method.upper()}{spread}", colour, dots))
        own = sweep.float_accuracy.get(model, [])
        level = (f"float, mean of {len(own)}: {sum(own) / len(own):.2f} %", sum(own) / len(own)) if own else None
        label = "bits of weights and hidden activations"
        drawn = chart(series, label, accuracy_word(sweep), level=level, identity=f"bits-{model}")
        parts += [Markup("<h3>{}</h3>").format(model), drawn]
    return [Section("Accuracy against bits", parts)] if parts else []


def _pruning(sweep: Sweep) -> list[Section]:
    """Accuracy against parameters, operations, host and board time, with and without fine-tuning; cliffs shaded and
    named."""
    found = []
    every = curves(sweep.rows)
    axes: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
        ("parameters", "parameters that are not zero", lambda r: r.parameters),
        ("operations", "operations (FLOPs) whose weight is not zero", lambda r: r.operations),
        ("host", "inference on this machine, us (tflite-runtime, int8)", lambda r: r.host_us),
        ("board", "inference on the board, ms (modelled)", lambda r: r.board_ms),
    )
    for model in dict.fromkeys(curve.model for curve in every):
        own = [curve for curve in every if curve.model == model]
        charts = Markup()
        for name, label, what in axes:
            known = [c for c in own if name != "host" or all(r.host_us is not None for m in c.points for r in m.rows)]
            series = [_curve(c, own.index(c), what) for c in known]
            charts += chart(series, label, accuracy_word(sweep), identity=f"{name}-{model}")
        about = "The cliff, shaded, is the largest drop of accuracy between neighbouring points of a curve:"
        cliffs = [f"{chr(65 + i)}: {c.name}: {cliff_text(c)}" for i, c in enumerate(own)]
        grid = Markup("<div class=pairs>{}</div>").format(charts)
        found.append(Section(f"Pruning of {model}", [about, _items(cliffs), grid]))
    return found


def _items(lines: Iterable[str]) -> Markup:
    return Markup("<ul>{}</ul>").format(Markup().join(Markup("<li>{}</li>").format(line) for line in lines))


def _curve(curve: Curve, number: int, what: Callable[[Row], float | None]) -> Series:
    dots = tuple(Dot(m.of(what), m.accuracy, mean_tip(m)) for m in curve.points)
    mark, colour = chr(65 + number), COLOURS[(number + 2) % len(COLOURS)]
    return Series(f"{mark}: {curve.name}", colour, dots, cliff=curve.cliff, mark=mark)


def cliff_text(curve: Curve) -> str:
    """The cliff in words: the largest drop of accuracy between neighbouring points of a curve."""
    if curve.cliff is None:
        return f"none: no drop over {LEAST_CLIFF:g} point"
    before, after = curve.points[curve.cliff : curve.cliff + 2]
    return (
        f"from {before.rows[0].parameters:,} to {after.rows[0].parameters:,} parameters: {before.accuracy:.2f} to "
        f"{after.accuracy:.2f} %, {curve.drops[curve.cliff]:.2f} points"
    )


def _pareto(sweep: Sweep) -> list[Section]:
    if not sweep.rows:
        return []
    best = max(row.accuracy for row in sweep.rows)
    about = (
        "The stairs join the points that nothing beats: best accuracy within a time. Circle: TinyConv, square: "
        "DS-CNN, triangle: TinyConv for streaming. Hollow at the lower edge: more than "
        f"{PARETO_DEPTH:.0f} points under the best."
    )
    found: list[Section] = []
    for name, label, cost in _COSTS:
        series = []
        for colour, family in zip(COLOURS, FAMILIES, strict=False):
            rows = [r for r in sweep.rows if r.family == family]
            dots = tuple(Dot(cost(r), r.accuracy, tip(r), SHAPES.get(r.model, "triangle")) for r in rows)
            series += [Series(family, colour, dots, line=False)] if dots else []
        on_front, floor = front(sweep.rows, cost), best - PARETO_DEPTH
        stairs = [(cost(row), row.accuracy) for row in on_front if row.accuracy >= floor]
        word, identity = accuracy_word(sweep), f"pareto-{name}"
        drawn = chart(series, label, word, log_x=True, floor=floor, front=stairs, identity=identity)
        listed = Markup("<details><summary>on the front</summary>{}</details>").format(
            _items(f"{_cost_text(name, row)}: {row.accuracy:.2f} %, {row.label}" for row in on_front)
        )
        what = "board time" if name == "time" else name
        found.append(Section(f"Accuracy against {what}, every point", [*([] if found else [about]), drawn, listed]))
    return found


_COSTS: tuple[tuple[str, str, Cost], ...] = (
    ("time", "one inference on the board, ms (modelled, logarithmic)", lambda r: r.board_ms),
    ("flash", "flash of the engine with its model, bytes (logarithmic)", lambda r: r.engine_flash),
)


def _cost_text(name: str, row: Row) -> str:
    return f"{row.board_ms:.2f} ms" if name == "time" else f"{row.engine_flash:,} B"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "point": lambda r: r.label,
    "accuracy %": lambda r: f"{r.accuracy:.2f}",
    "n": lambda r: str(r.n),
    "parameters": lambda r: f"{r.parameters:,}",
    "operations": lambda r: f"{r.operations:,}",
    "cycles": lambda r: f"{r.cycles:,.0f}",
    "uncached": lambda r: f"{r.cycles_uncached:,.0f}",
    "ms": lambda r: f"{r.board_ms:.2f}",
    "uJ, modelled": lambda r: f"{r.energy_uj:.1f}",
    "engine flash B": lambda r: f"{r.engine_flash:,}",
    "engine RAM B": lambda r: f"{r.engine_ram:,}",
    "image flash B": lambda r: f"{r.flash:,}",
    "image RAM B": lambda r: f"{r.ram:,}",
    "host us": lambda r: "-" if r.host_us is None else f"{r.host_us:.0f}",
}


def _cells(row: Row) -> list[str]:
    return [cell(row) for cell in COLUMNS.values()]


def _table(sweep: Sweep) -> list[Section]:
    found = [Section("All points", [Table(tuple(COLUMNS), [_cells(row) for row in sweep.rows])])]
    if sweep.broken:
        items = _items(Markup("<b>{}</b>: {}").format(key, why) for key, why in sweep.broken)
        found.append(Section("Broken points", [Markup("<div class=bad>{}</div>").format(items)]))
    return found


def markdown(sweep: Sweep) -> str:
    """The table of all points, then the cliffs and both fronts, for a document."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in sweep.rows]
    lines += ["", f"Energy: {CONDITIONS}.", ""]
    lines += [f"* cliff of {curve.model}, {curve.name}: {cliff_text(curve)}" for curve in curves(sweep.rows)]
    for name, _, cost in _COSTS:
        lines += ["", f"Front, accuracy against {name}:", ""]
        lines += [f"* {_cost_text(name, row)}: {row.accuracy:.2f} %, {row.label}" for row in front(sweep.rows, cost)]
    return "\n".join(lines) + "\n"
