"""One self-contained HTML file about a sweep: accuracy against bits, size, operations and time, and the Pareto front.
No network."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path

from converter.files import write_atomic
from host.measure.energy import CONDITIONS
from host.report.run_page import STYLE
from host.report.svg_chart import COLOURS, Dot, Series, chart
from host.report.sweep_data import LEAST_CLIFF, NONE, Curve, Mean, Row, Sweep, curves, front, load_sweep, means

Cost = Callable[[Row], float]
FAMILIES = (
    "PTQ",
    "QAT",
    "unstructured pruning, not fine-tuned",
    "unstructured pruning, fine-tuned",
    "structured pruning, not fine-tuned",
    "structured pruning, fine-tuned",
)
SHAPES = {"tinyconv": "circle", "dscnn": "square"}
PARETO_DEPTH = 25.0  # points of accuracy below the best that the Pareto chart shows to scale

OWN_STYLE = """
.axis { stroke: currentColor; fill: none; } .grid { stroke: var(--line); fill: none; stroke-width: .5; }
.level { stroke: currentColor; stroke-dasharray: 5 4; fill: none; opacity: .6; }
.front { stroke: currentColor; stroke-width: 2; fill: none; opacity: .75; }
.cliff { stroke-width: 9; opacity: .25; stroke-linecap: round; fill: none; } svg text.mark { font-weight: 700; font-size: 14px; }
.dot { cursor: pointer; stroke-width: 1.5; } .dot:hover, .dot:focus { stroke: currentColor; stroke-width: 3; outline: none; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 0 1.5rem; }
figure { margin: .5rem 0 1.2rem; } svg { max-width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .35em; }
#tip { position: absolute; display: none; max-width: min(46rem, 90vw); padding: .5rem .7rem; white-space: pre-wrap; overflow-wrap: anywhere;
  background: Canvas; color: CanvasText; border: 1px solid #888; border-radius: 6px; font: 12px/1.45 ui-monospace, monospace;
  box-shadow: 0 3px 12px #0004; z-index: 9; }
"""  # noqa: E501

SCRIPT = """
const tip = document.createElement('div');
tip.id = 'tip';
document.body.append(tip);
let pinned = null;
const show = dot => {
  tip.textContent = dot.dataset.tip + (pinned === dot ? '' : '\\n(click: keep this open)');
  tip.style.display = 'block';
  const at = dot.getBoundingClientRect();
  const left = Math.max(4, Math.min(at.left + 14, document.documentElement.clientWidth - tip.offsetWidth - 8));
  const below = at.bottom + 8;
  const top = below + tip.offsetHeight > innerHeight && at.top > tip.offsetHeight + 8 ? at.top - tip.offsetHeight - 8 : below;
  tip.style.left = left + scrollX + 'px';
  tip.style.top = top + scrollY + 'px';
};
const hide = () => { pinned = null; tip.style.display = 'none'; };
for (const dot of document.querySelectorAll('.dot')) {
  dot.addEventListener('mouseenter', () => pinned || show(dot));
  dot.addEventListener('mouseleave', () => pinned || hide());
  dot.addEventListener('focus', () => pinned || show(dot));
  dot.addEventListener('blur', () => pinned || hide());
  dot.addEventListener('click', event => { event.stopPropagation(); pinned = pinned === dot ? null : dot; show(dot); });
}
document.addEventListener('click', event => { if (!tip.contains(event.target)) hide(); });
document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
"""  # noqa: E501


def write_sweep_report(folder: Path, out: Path | None = None) -> Path:
    """SWEEP/report.html (or `out`) and, beside it, the table of all points as .md."""
    sweep = load_sweep(folder)
    target = out or folder / "report.html"
    body = [_head(sweep), _bits(sweep), *_pruning(sweep), _pareto(sweep), _table(sweep)]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>sweep: {html.escape(', '.join(sweep.words))}</title><style>{STYLE}{OWN_STYLE}</style>\n"
        f"{''.join(body)}<script>{SCRIPT}</script></html>\n"
    )
    write_atomic(target, page.encode())
    write_atomic(target.with_suffix(".md"), markdown(sweep).encode())
    return target


def accuracy_word(sweep: Sweep) -> str:
    return "smoke test on synthetic speech, %" if sweep.smoke_test else "accuracy, %"


def _head(sweep: Sweep) -> str:
    smoke = (
        "<p class=smoke>Synthetic speech: every score here is a <b>smoke test</b>, not an accuracy.</p>"
        if sweep.smoke_test
        else ""
    )
    clips = sorted({row.n for row in sweep.rows})
    inputs = sum(row.inputs for row in sweep.rows)
    return (
        f"<h1>Sweep: {html.escape(', '.join(sweep.words))}</h1>{smoke}<p>{len(sweep.rows)} points finished, "
        f"{len(sweep.broken)} "
        f"broken, {sweep.waiting} not made yet. Accuracy: int8 integers by the reference, test split, n = "
        f"{' or '.join(map(str, clips)) or 0} clips, front end reset before each. Board figures are "
        f"<b>modelled</b> by the virtual "
        f"board (flash cache on); in all {inputs:,} inferences on it, every layer's CRC and every score "
        f"equals the reference. "
        f"Energy is {CONDITIONS}: modelled, never measured.</p>"
        "<p class=note>Hover or tab to a dot for its figures and commands; a click keeps it open.</p>\n"
    )


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
    if len(mean.rows) == 1:
        return tip(mean.rows[0])
    every = " ".join(f"{row.accuracy:.2f}" for row in mean.rows)
    return f"mean of {len(mean.rows)} seeds: {mean.accuracy:.2f} % ({every})\n{tip(mean.rows[0])}"


def _bits(sweep: Sweep) -> str:
    """Accuracy against bits for PTQ and QAT, one chart a model."""
    parts = ["<h2>Accuracy against bits</h2>"]
    for model in dict.fromkeys(row.model for row in sweep.rows):
        plain = [row for row in sweep.rows if row.kind == NONE and row.model == model]
        if len({row.bits for row in plain}) < 2:
            continue
        series = []
        for colour, method in zip(COLOURS, ("ptq", "qat"), strict=False):
            every = sorted(means([row for row in plain if row.method == method]), key=lambda m: m.rows[0].bits)
            if every:
                seeds = max(len(m.rows) for m in every)
                name = (
                    f"{method.upper()}, mean of up to {seeds} seeds, bar: lowest to highest"
                    if seeds > 1
                    else method.upper()
                )
                series.append(
                    Series(
                        name,
                        colour,
                        tuple(Dot(m.rows[0].bits, m.accuracy, mean_tip(m), spread=m.spread) for m in every),
                    )
                )
        own = sweep.float_accuracy.get(model, [])
        level = (f"float, mean of {len(own)}: {sum(own) / len(own):.2f} %", sum(own) / len(own)) if own else None
        drawn = chart(
            series,
            "bits of weights and hidden activations",
            accuracy_word(sweep),
            level=level,
            identity=f"bits-{model}",
        )
        parts += [f"<h3>{html.escape(model)}</h3>", drawn]
    return "".join(parts) if len(parts) > 1 else ""


def _pruning(sweep: Sweep) -> list[str]:
    """Accuracy against parameters, operations, host and board time, with and without fine-tuning; cliffs shaded and
    named."""
    parts: list[str] = []
    every = curves(sweep.rows)
    axes: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
        ("parameters", "parameters that are not zero", lambda r: r.parameters),
        ("operations", "operations (FLOPs) whose weight is not zero", lambda r: r.operations),
        ("host", "inference on this machine, us (tflite-runtime, int8)", lambda r: r.host_us),
        ("board", "inference on the board, ms (modelled)", lambda r: r.board_ms),
    )
    for model in dict.fromkeys(curve.model for curve in every):
        own = [curve for curve in every if curve.model == model]
        parts.append(f"<h2>Pruning of {html.escape(model)}</h2>{_cliffs(own)}")
        parts.append("<div class=pairs>")
        for name, label, what in axes:
            known = (
                [c for c in own if all(r.host_us is not None for m in c.points for r in m.rows)]
                if name == "host"
                else own
            )
            series = [_curve(c, own.index(c), what) for c in known]
            parts.append(chart(series, label, accuracy_word(sweep), identity=f"{name}-{model}"))
        parts.append("</div>")
    return parts


def _curve(curve: Curve, number: int, what: Callable[[Row], float | None]) -> Series:
    dots = tuple(Dot(m.of(what), m.accuracy, mean_tip(m)) for m in curve.points)
    return Series(
        f"{chr(65 + number)}: {curve.name}",
        COLOURS[(number + 2) % len(COLOURS)],
        dots,
        cliff=curve.cliff,
        mark=chr(65 + number),
    )


def cliff_text(curve: Curve) -> str:
    """The cliff in words: the largest drop of accuracy between neighbouring points of a curve."""
    if curve.cliff is None:
        return f"none: no drop over {LEAST_CLIFF:g} point"
    before, after = curve.points[curve.cliff : curve.cliff + 2]
    return (
        f"from {before.rows[0].parameters:,} to {after.rows[0].parameters:,} parameters: {before.accuracy:.2f} to "
        f"{after.accuracy:.2f} %, {curve.drops[curve.cliff]:.2f} points"
    )


def _cliffs(own: Sequence[Curve]) -> str:
    rows = "".join(f"<li>{chr(65 + i)}: {html.escape(c.name)}: {cliff_text(c)}</li>" for i, c in enumerate(own))
    return (
        f"<p>The cliff, shaded, is the largest drop of accuracy between neighbouring points of a "
        f"curve:</p><ul>{rows}</ul>"
    )


def _pareto(sweep: Sweep) -> str:
    if not sweep.rows:
        return ""
    best = max(row.accuracy for row in sweep.rows)
    parts = [
        "<h2>Accuracy against board time, every point</h2>"
        f"<p>The stairs join the points that nothing beats: best accuracy within a time. Circle: TinyConv, "
        f"square: DS-CNN, "
        f"triangle: TinyConv for streaming. Hollow at the lower edge: more than {PARETO_DEPTH:.0f} points "
        f"under the best.</p>"
    ]
    for name, label, cost in _COSTS:
        if name == "flash":
            parts.append("<h2>Accuracy against flash, every point</h2>")
        series = []
        for colour, family in zip(COLOURS, FAMILIES, strict=False):
            dots = tuple(
                Dot(cost(r), r.accuracy, tip(r), SHAPES.get(r.model, "triangle"))
                for r in sweep.rows
                if r.family == family
            )
            series += [Series(family, colour, dots, line=False)] if dots else []
        stairs = [(cost(row), row.accuracy) for row in front(sweep.rows, cost)]
        stairs = [(x, y) for x, y in stairs if y >= best - PARETO_DEPTH]
        parts.append(
            chart(
                series,
                label,
                accuracy_word(sweep),
                log_x=True,
                floor=best - PARETO_DEPTH,
                front=stairs,
                identity=f"pareto-{name}",
            )
        )
        items = "".join(
            f"<li>{_cost_text(name, row)}: {row.accuracy:.2f} %, {html.escape(row.label)}</li>"
            for row in front(sweep.rows, cost)
        )
        parts.append(f"<details><summary>on the front</summary><ul>{items}</ul></details>")
    return "".join(parts)


_COSTS: tuple[tuple[str, str, Cost], ...] = (
    ("time", "one inference on the board, ms (modelled, logarithmic)", lambda r: r.board_ms),
    ("flash", "flash of the engine with its model, bytes (logarithmic)", lambda r: r.engine_flash),
)


def _cost_text(name: str, row: Row) -> str:
    return f"{row.board_ms:.2f} ms" if name == "time" else f"{row.engine_flash:,} B"


HEADINGS = (
    "point",
    "accuracy %",
    "n",
    "parameters",
    "operations",
    "cycles",
    "uncached",
    "ms",
    "uJ, modelled",
    "engine flash B",
    "engine RAM B",
    "image flash B",
    "image RAM B",
    "host us",
)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.label,
        f"{row.accuracy:.2f}",
        str(row.n),
        f"{row.parameters:,}",
        f"{row.operations:,}",
        f"{row.cycles:,.0f}",
        f"{row.cycles_uncached:,.0f}",
        f"{row.board_ms:.2f}",
        f"{row.energy_uj:.1f}",
        f"{row.engine_flash:,}",
        f"{row.engine_ram:,}",
        f"{row.flash:,}",
        f"{row.ram:,}",
        "-" if row.host_us is None else f"{row.host_us:.0f}",
    )


def _table(sweep: Sweep) -> str:
    heads = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)) + "</tr>\n" for row in sweep.rows
    )
    found = f"<h2>All points</h2><table><tr>{heads}</tr>\n{rows}</table>"
    if sweep.broken:
        items = "".join(f"<li><b>{html.escape(key)}</b>: {html.escape(why)}</li>" for key, why in sweep.broken)
        found += f"<h2>Broken points</h2><ul class=bad>{items}</ul>"
    return found


def markdown(sweep: Sweep) -> str:
    """The table of all points, then the cliffs and both fronts, for a document."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in sweep.rows]
    lines += ["", f"Energy: {CONDITIONS}.", ""]
    lines += [f"* cliff of {curve.model}, {curve.name}: {cliff_text(curve)}" for curve in curves(sweep.rows)]
    for name, _, cost in _COSTS:
        lines += ["", f"Front, accuracy against {name}:", ""]
        lines += [f"* {_cost_text(name, row)}: {row.accuracy:.2f} %, {row.label}" for row in front(sweep.rows, cost)]
    return "\n".join(lines) + "\n"
