"""The tables of docs/compression.md: trained runs quantized and pruned in every way named here, each measured on its
test split.

OUT/STUDY.md, OUT/STUDY.json               the tables, and their figures
OUT/RUN/POINT/, OUT/RUN/POINT/test.json    the run folder of a point, and what it measured; a finished one is kept
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from converter.arrays import Json
from converter.files import write_atomic
from converter.graph import Graph
from converter.onnx_qdq.reader import read_onnx
from converter.reference import run_batch
from converter.run_folder import ModelArtifact
from trainer.data.augment import LabelledClips, load_split
from trainer.errors import TrainerError
from trainer.network.onnx_export import to_onnx
from trainer.network.prune import NORMS, nonzero_count, stored_bytes
from trainer.network.quant_options import QuantOptions
from trainer.run.fit import predict
from trainer.run.prune import FINE_TUNE_SHARES, PruneOptions, prune_run
from trainer.run.quantize import quantize_run
from trainer.run.steps import CACHE, Source, load_float, load_quant

WIDTHS = (8, 7, 6, 5, 4, 3, 2)
LEARNED_WIDTHS = (8, 4, 3, 2)
AMOUNTS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
NORM_AMOUNTS = (0.8, 0.95)
CHANNEL_AMOUNTS = (0.125, 0.25, 0.5, 0.75, 0.875)
FINE_TUNE_EPOCHS = 20
TICKET_EPOCHS = (0, 2)
CLIFF_POINTS = 3.0  # a network that lost more than this has gone over the cliff
MSE = QuantOptions(calibration="mse")


@dataclass(frozen=True)
class Point:
    """What is done to a float network before it is measured: pruning first, then quantization; nothing measures the
    float network."""

    prune: PruneOptions | None = None
    method: str | None = None
    options: QuantOptions = MSE

    @property
    def name(self) -> str:
        """The name of its folder."""
        p, o = self.prune, self.options
        cut = f"{p.kind}{p.amount:g}_{p.norm}_{p.finetune}" if p else ""
        cut += f"_rewound{p.rewind}" if p and p.rewind is not None else ""
        kept = f"{self.method}{o.bits}_{o.calibration}_{o.weights}_{o.scheme}" if self.method else ""
        return "-".join(part for part in (cut, kept) if part) or "float"


@dataclass(frozen=True)
class Table:
    """A title, headings, and rows: a name, and the points whose accuracies follow it.

    With `sizes`, also what the last point leaves; with `cliff`, a sentence per column on where accuracy falls from the
    first row's.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Point, ...]], ...]
    sizes: bool = False
    cliff: bool = False


def _quantized(
    method: str, bits: int, calibration: str = "mse", weights: str = "per-channel", scheme: str = "asymmetric"
) -> Point:
    return Point(None, method, QuantOptions(bits, weights, scheme, calibration))


def _bits() -> list[Table]:
    learned = {bits: (_quantized("qat", bits),) for bits in LEARNED_WIDTHS}
    widths = [
        (str(bits), (_quantized("ptq", bits, "minmax"), _quantized("ptq", bits), *learned.get(bits, ())))
        for bits in WIDTHS
    ]
    options = [
        (f"{bits}, {title}", (_quantized("ptq", bits, weights=weights, scheme=scheme),))
        for bits in (8, 4, 3)
        for title, weights, scheme in (
            ("per channel, asymmetric activations", "per-channel", "asymmetric"),
            ("per tensor", "per-tensor", "asymmetric"),
            ("symmetric activations", "per-channel", "symmetric"),
            ("asymmetric weights (measured, not exportable)", "per-channel", "asymmetric-weights"),
        )
    ]
    return [
        Table("Low bits", ("bits", "PTQ, minmax", "PTQ, mse", "QAT"), (("float", (Point(),)), *widths)),
        Table("Granularity and scheme, PTQ, mse", ("bits, options", "PTQ, mse"), tuple(options)),
    ]


def _pruned(kind: str, amount: float, norm: str = "l2") -> tuple[Point, ...]:
    return tuple(Point(PruneOptions(kind, amount, norm, epochs)) for epochs in (0, FINE_TUNE_EPOCHS))


def _pruning() -> list[Table]:
    heads = ("not fine-tuned", f"{FINE_TUNE_EPOCHS} epochs")
    kept = Point(PruneOptions("unstructured", 0.8, "l2", FINE_TUNE_EPOCHS), "qat", QuantOptions(4, calibration="mse"))
    norms = [
        (f"{norm}, {100 * amount:g} %", _pruned("unstructured", amount, norm))
        for amount in NORM_AMOUNTS
        for norm in NORMS
    ]

    def by_amount(title: str, kind: str, amounts: tuple[float, ...]) -> Table:
        rows = (("0 %", (Point(),)), *((f"{100 * a:g} %", _pruned(kind, a)) for a in amounts))
        return Table(title, ("amount", *heads), rows, sizes=True, cliff=True)

    tickets = [
        (
            f"{100 * amount:g} %",
            (
                _pruned("unstructured", amount)[1],
                *(Point(PruneOptions("unstructured", amount, "l2", rewind=epoch)) for epoch in TICKET_EPOCHS),
            ),
        )
        for amount in NORM_AMOUNTS
    ]
    learned = "80 % set to zero, fine-tuned, then 4-bit QAT"
    return [
        by_amount("Single weights set to zero, l2", "unstructured", AMOUNTS),
        Table("Three norms", ("norm, amount", *heads), tuple(norms)),
        Table(
            "Fine-tuned, or a lottery ticket: back to an epoch's weights and through the rest of the training, l2",
            ("amount", heads[1], *(f"back to epoch {epoch}" for epoch in TICKET_EPOCHS)),
            tuple(tickets),
        ),
        Table(learned, ("network", "4-bit QAT"), (("80 %, l2", (kept,)),), sizes=True),
        by_amount("Channels removed from the graph, l2", "structured", CHANNEL_AMOUNTS),
    ]


STUDIES = {"bits": _bits, "pruning": _pruning}


def study(name: str, runs: Sequence[Path], out: Path, progress: Progress) -> Path:
    """OUT/NAME.md and OUT/NAME.json; the path of the first. The runs differ in their seed only; a cell has a figure of
    each."""
    if name not in STUDIES:
        raise TrainerError(f"study: must be one of {', '.join(STUDIES)}, got {name}")
    artifacts = [ModelArtifact.load(run) for run in runs]
    if any((a.spec, a.model) != (artifacts[0].spec, artifacts[0].model) for a in artifacts):
        raise TrainerError("study: the runs must be of one model and one spec, differing in their seed; name such runs")
    if len({a.path.name for a in artifacts}) < len(artifacts):
        raise TrainerError(
            f"study: the runs' folders must have names of their own, got {', '.join(a.path.name for a in artifacts)}"
        )
    tables = STUDIES[name]()
    points = list(dict.fromkeys(p for table in tables for _, row in table.rows for p in row))
    task = progress.add_task(f"study {name}", total=len(points) * len(runs))
    found: dict[Point, list[Json]] = {}
    for point in points:
        for artifact in artifacts:
            found.setdefault(point, []).append(
                _measure(artifact, point, out / artifact.path.name / point.name, progress)
            )
            progress.advance(task)
    said = "smoke test on synthetic speech" if artifacts[0].is_smoke_test else "accuracy on the test split"
    seeds = ", ".join(str(a.seed) for a in artifacts)
    many = f"seeds {seeds}, **mean** (standard deviation)" if len(runs) > 1 else f"seed {seeds}"
    text = (
        f"{artifacts[0].model}, {', '.join(artifacts[0].spec.words)}: {said} in %, n = "
        f"{found[points[0]][0]['n']}, {many}.\n\n"
    )
    text += "\n".join(_rendered(table, found) for table in tables)
    records = [{"point": asdict(p), "runs": facts} for p, facts in found.items()]
    write_atomic(out / f"{name}.json", (json.dumps(records, indent=1) + "\n").encode())
    write_atomic(out / f"{name}.md", text.encode())
    return out / f"{name}.md"


def _measure(artifact: ModelArtifact, point: Point, folder: Path, progress: Progress) -> Json:
    """The facts in the point's test.json, which is made if it is not there or of something else."""
    rates = FINE_TUNE_SHARES if point.prune and point.prune.finetune else ()
    asked = json.loads(json.dumps({"point": asdict(point), "rates": rates, "float": artifact.results["train"]}))
    found: Json
    try:
        kept = json.loads((folder / "test.json").read_text())
        if {key: kept[key] for key in asked} == asked:
            found = kept["found"]
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = artifact
    with Progress(disable=True) as quiet:
        if point.prune:
            made = prune_run(artifact.path, folder / "pruned" if point.method else folder, point.prune, None, quiet)
        if point.method:
            made = quantize_run(made.path, folder, point.method, point.options, None, None, quiet)
        test = load_split(Source.load(artifact.path).selection(artifact.spec, quiet), "test", CACHE, quiet)
    found = {"seed": artifact.seed, **_facts(made, point, test)}
    write_atomic(folder / "test.json", (json.dumps({**asked, "found": found}, indent=1) + "\n").encode())
    progress.console.print(f"{folder}: {found['accuracy']:.2f} %", highlight=False)
    return found


def _facts(made: ModelArtifact, point: Point, test: LabelledClips) -> Json:
    """Accuracy of the exported integers by the reference; of the fake-quantized or float network where nothing is
    exported."""
    network = load_float(made)
    facts: Json = {
        "n": len(test.labels),
        "parameters": network.parameter_count,
        "nonzero": nonzero_count(network),
        "bytes": asdict(stored_bytes(network, 1)),
    }
    if point.method and point.options.scheme != "asymmetric-weights":
        graph = read_onnx(to_onnx(load_quant(made), made.spec))
        scores = run_batch(graph, np.ascontiguousarray(test.features)[..., None])
        facts["nonzero"] = _nonzero_integers(graph)
    else:
        scores = predict(load_quant(made) if point.method else network, test.features, made.spec.features).numpy()
    return {**facts, "accuracy": round(100 * float((scores.argmax(axis=1) == test.labels).mean()), 2)}


def _nonzero_integers(graph: Graph) -> int:
    """Weights and biases of a quantized graph that are not zero."""
    kept = [layer.weights for layer in graph.layers if layer.weights is not None]
    return sum(int(np.count_nonzero(w.values)) + int(np.count_nonzero(w.bias)) for w in kept)


def _rendered(table: Table, found: dict[Point, list[Json]]) -> str:
    """The table in Markdown."""
    sizes = ("parameters", "not zero", "bytes as int8", "with gaps", "with a bit map") if table.sizes else ()
    columns = (table.columns[0], *sizes, *table.columns[1:])
    lines = [f"### {table.title}", "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, points in table.rows:
        last = found[points[-1]][0]
        cells = [
            f"{v:,}"
            for v in (last["parameters"], last["nonzero"], *(last["bytes"][k] for k in ("dense", "gaps", "bitmap")))
        ]
        cells = [name, *(cells if table.sizes else []), *(_cell([r["accuracy"] for r in found[p]]) for p in points)]
        lines.append("| " + " | ".join(cells + [""] * (len(columns) - len(cells))) + " |")
    if table.cliff:
        lines += ["", *(_cliff(table, column, found) for column in range(len(table.columns) - 1))]
    return "\n".join(lines) + "\n"


def _cliff(table: Table, column: int, found: dict[Point, list[Json]]) -> str:
    """Between which rows a column's mean accuracy falls by more than CLIFF_POINTS below the first row's."""

    def mean(points: tuple[Point, ...]) -> float:
        return float(np.mean([facts["accuracy"] for facts in found[points[min(column, len(points) - 1)]]]))

    start, last = mean(table.rows[0][1]), table.rows[0]
    for row in table.rows[1:]:
        if mean(row[1]) < start - CLIFF_POINTS:
            left = [found[r[1][-1]][0]["nonzero"] for r in (last, row)]
            return (
                f"* {table.columns[1 + column]}: the cliff, {CLIFF_POINTS:g} points, lies between {last[0]} and "
                f"{row[0]} "
                f"({left[0]:,} and {left[1]:,} parameters that are not zero)."
            )
        last = row
    return f"* {table.columns[1 + column]}: no cliff of {CLIFF_POINTS:g} points."


def _cell(values: Sequence[float]) -> str:
    """
    >>> _cell([92.5, 92.0, 93.0]), _cell([92.5])
    ('92.50 92.00 93.00, **92.50** (0.50)', '92.50')
    """
    every = " ".join(f"{v:.2f}" for v in values)
    return every if len(values) == 1 else f"{every}, **{np.mean(values):.2f}** ({np.std(values, ddof=1):.2f})"
