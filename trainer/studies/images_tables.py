"""Pruning and quantization of image CNNs as tables: OUT/images.md and .json, a run folder per point under OUT/RUN."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.progress import Progress

from converter.arrays import Json
from converter.files import write_atomic
from trainer.errors import TrainerError
from trainer.network.model import DEFAULT_WIDTH
from trainer.network.prune import KINDS, NORMS
from trainer.network.quant_options import QuantOptions
from trainer.run.prune import PruneOptions
from trainer.run.quantize import METHODS
from trainer.studies.images import ImageRun, prune_images, quantize_images

AMOUNTS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
WIDTHS = (8, 4, 3, 2)
FINE_TUNE_EPOCHS = 2
MIB = 1 << 20
REPORTED = {  # mnist_cnn of a course report, 60,000 training digits: by amount before, then after fine-tuning
    "unstructured": (
        (98.58, 97.50, 95.52, 74.44, 18.01, 14.56, 10.32),
        (98.75, 98.92, 98.83, 98.77, 98.13, 94.72, 37.47),
    ),
    "structured": (
        (98.06, 96.17, 91.12, 48.92, 24.61, 18.80, 10.28),
        (98.84, 98.94, 98.84, 98.73, 98.22, 96.28, 46.22),
    ),
}


def images_study(runs: Sequence[Path], out: Path, progress: Progress) -> Path:
    """OUT/images.md: every run pruned by every amount, kind and norm, l1 fine-tuned too, and quantized."""
    found: Json = {}
    text: list[str] = []
    for run in (ImageRun.load(path) for path in runs):
        if run.path.name in found:
            raise TrainerError(f"study: the runs' folders must have names of their own, got {run.path.name} twice")
        task = progress.add_task(run.path.name, total=len(KINDS) * len(NORMS) * len(AMOUNTS) + 2 * len(WIDTHS))
        points: Json = {}
        for kind in KINDS:
            for norm in NORMS:
                for amount in AMOUNTS:
                    options = PruneOptions(
                        kind, _possible(run, kind, amount), norm, FINE_TUNE_EPOCHS if norm == "l1" else 0
                    )
                    points[f"{kind} {norm} {amount:g}"] = _pruned(run, options, out, progress)
                    progress.advance(task)
        for method in METHODS:
            for bits in WIDTHS:
                points[f"{method} {bits}"] = _quantized(run, method, bits, out, progress)
                progress.advance(task)
        found[run.path.name] = {"model": run.model, "pictures": run.title, "float": run.results, "points": points}
        text.append(_rendered(run, points))
    write_atomic(out / "images.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomic(out / "images.md", "\n".join(text).encode())
    return out / "images.md"


def _possible(run: ImageRun, kind: str, amount: float) -> float:
    """The amount, or less where it would leave the narrowest convolution without a channel."""
    width = DEFAULT_WIDTH[run.model]
    return min(amount, (width - 1) / width) if kind == "structured" else amount


def _pruned(run: ImageRun, options: PruneOptions, out: Path, progress: Progress) -> Json:
    name = f"{options.kind}{options.amount:g}_{options.norm}_{options.finetune}"
    return _point(
        run,
        out / run.path.name / name,
        asdict(options),
        lambda folder, p: prune_images(run.path, folder, options, None, p),
        progress,
    )


def _quantized(run: ImageRun, method: str, bits: int, out: Path, progress: Progress) -> Json:
    options = QuantOptions(bits, calibration="mse")
    return _point(
        run,
        out / run.path.name / f"{method}{bits}",
        {"method": method, **asdict(options)},
        lambda folder, p: quantize_images(run.path, folder, method, options, FINE_TUNE_EPOCHS, None, p),
        progress,
    )


def _point(
    run: ImageRun, folder: Path, asked: Json, make: Callable[[Path, Progress], ImageRun], progress: Progress
) -> Json:
    """The results of a point: kept ones if they are of just this, else made."""
    found: Json
    try:
        kept = json.loads((folder / "point.json").read_text())
        if (kept["asked"], kept["of"]) == (asked, run.results):
            found = kept["results"]
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with Progress(disable=True) as quiet:
        found = make(folder, quiet).results
    write_atomic(
        folder / "point.json",
        (json.dumps({"asked": asked, "of": run.results, "results": found}, indent=1) + "\n").encode(),
    )
    progress.console.print(
        f"{folder}: {found['qat' if 'qat' in found else 'prune']['accuracy']:.2f} %", highlight=False
    )
    return found


def _rendered(run: ImageRun, points: Json) -> str:
    """The tables of one run in Markdown."""
    base, train = run.results, run.results["train"]
    lines = [
        f"## {run.model}: {base['parameters']:,} parameters, {base['bytes']['dense'] / MIB:.2f} MiB as fp32, "
        f"{base['macs']:,} MAC",
        "",
        f"{run.title}; accuracy in % on the test pictures, n = {train['n']}, seed {run.settings.seed}; "
        f"not pruned {train['accuracy']:.2f}; fine-tuned for {FINE_TUNE_EPOCHS} epochs.",
        "",
    ]
    for kind in KINDS:
        what = (
            "Single weights set to zero"
            if kind == "unstructured"
            else "Channels removed, and the next layer's inputs with them"
        )
        reported = [" reported, before | after |", "---|---|"] if run.model == "mnist_cnn" else ["", ""]
        lines += [
            f"### {what}",
            "",
            "| amount | not zero | MAC | MiB, non-zeros alone | with gaps | with a bit map | l1 | l2 | linf | "
            f"l1, fine-tuned |{reported[0]}",
            "|---" * 10 + f"|{reported[1]}",
        ]
        for amount, check in zip(AMOUNTS, zip(*REPORTED[kind], strict=True), strict=True):
            every = [points[f"{kind} {norm} {amount:g}"] for norm in NORMS]
            first = every[NORMS.index("l1")]
            cells = [_amount(first["prune"]["amount"], amount), f"{first['nonzero']:,}", f"{first['macs']:,}"]
            cells += [f"{first['bytes'][key] / MIB:.3f}" for key in ("nonzero", "gaps", "bitmap")]
            cells += [f"{p['prune']['before_finetune']['accuracy']:.2f}" for p in every] + [
                f"{first['prune']['accuracy']:.2f}"
            ]
            cells += [f"{v:.2f}" for v in check] if run.model == "mnist_cnn" else []
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["### Low bits", "", "| bits | PTQ, mse | QAT |", "|---|---|---|"]
    for bits in WIDTHS:
        lines.append(
            f"| {bits} | "
            + " | ".join(f"{points[f'{method} {bits}']['qat']['accuracy']:.2f}" for method in METHODS)
            + " |"
        )
    return "\n".join(lines) + "\n"


def _amount(made: float, asked: float) -> str:
    """What was taken out, and what was asked for where that was not possible: reported figures are of the latter.

    >>> _amount(0.95, 0.95), _amount(31 / 32, 0.99)
    ('95 %', '96.9 % (99 % asked for)')
    """
    return f"{100 * made:.3g} %" + (f" ({100 * asked:g} % asked for)" if made != asked else "")
