"""The studies as files: OUT/<study>.json with every record, OUT/<study>.png with the plots, OUT/approx.html with all
that are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from converter.commands.html import Section, page
from converter.files import write_atomic
from trainer.approx import board, digits, lowrank, precision, speed
from trainer.approx.logmath import Accumulator, log_matmul
from trainer.approx.page import section
from trainer.approx.pictures import Line, Panel, plot
from trainer.board import BoardTools
from trainer.errors import TrainerError

STUDIES = ("precision", "speed", "svd", "digits", "log", "board")
Tools = Callable[[], BoardTools]
Records = list[dict[str, Any]]
BASES = (1, 2, 4, 8, 16, 32, 64, 128)
ACCUMULATOR_BITS = (14, 16, 18, 20, 22, 24, 28, 32, 48)
TERMS, SEEDS = 256, 3
BAR = "bar to the third quartile"


def run(study: str, out: Path, data: Path | None, trained: Path | None, progress: Progress, tools: Tools) -> list[Path]:
    """Make one study or, by the name all, each of them, and the page.

    data is a folder with MNIST's idx files (None: scikit-learn's small digits), trained a run folder for the study of
    the board; without one, `all` leaves that study out.
    """
    if study not in (*STUDIES, "all"):
        raise TrainerError(f"approx: the study is one of {', '.join(STUDIES)} or all, got {study!r}; name one of these")
    made = []
    chosen = [name for name in STUDIES if trained or name != "board"] if study == "all" else [study]
    for name in chosen:
        result, picture = _board(trained, out, progress, tools()) if name == "board" else _make(name, data)
        for file, content in (
            (f"{name}.json", json.dumps(result, indent=1).encode() + b"\n"),
            (f"{name}.png", picture),
        ):
            write_atomic(out / file, content)
            made.append(out / file)
    sections = [_read(out, name) for name in STUDIES if (out / f"{name}.json").is_file()]
    heading = "Approximate kernels: error, speed, and what the board makes of them"
    write_atomic(out / "approx.html", page("Approximate kernels", [], sections, heading=heading).encode())
    return [*made, out / "approx.html"]


def _read(out: Path, name: str) -> Section:
    file = out / f"{name}.json"
    try:
        return section(name, json.loads(file.read_text()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TrainerError(
            f"{file}: records as this version writes them are wanted ({type(error).__name__}: {error}); make it again "
            f"with `python -m trainer approx {name} --out {out}`"
        ) from None


def _make(study: str, data: Path | None) -> tuple[dict[str, Any], bytes]:
    if study == "precision":
        return _precision()
    if study == "speed":
        return _speed()
    if study == "svd":
        return _svd(data)
    return _digits(data) if study == "digits" else _log()


def _lines(records: Records, by: str, x: str, y: str, end: str = "") -> tuple[Line, ...]:
    names = list(dict.fromkeys(r[by] for r in records))
    groups = {name: [r for r in records if r[by] == name] for name in names}

    def ends(rows: Records) -> list[float]:
        return [r[end] for r in rows] if end else []

    return tuple(
        Line(str(name), [r[x] for r in rows], [r[y] for r in rows], ends(rows)) for name, rows in groups.items()
    )


def _precision() -> tuple[dict[str, Any], bytes]:
    records = precision.study()
    products = precision.product_study()
    parts = [
        (f"{count} channel{'s' * (count > 1)}, N(0,1)", [r for r in records if r["channels"] == count])
        for count in precision.CHANNELS
    ]
    panels = []
    for title, rows in (*parts, ("matrices, 256 terms, N(0,1)", products)):
        normal = [r for r in rows if r["input"] == "normal"]
        lines = _lines(normal, "transform", "precision", "relative_rms")
        panels.append(Panel(title, "precision", "relative RMS error", lines, log_y=True))
    return {"convolution": records, "product": products}, plot(
        "Reconstruction error against precision: 3x3 convolution, product", panels
    )


def _speed() -> tuple[dict[str, Any], bytes]:
    records = speed.study()
    panels = [
        Panel(title, "", label, _lines(records, "method", "layer", key, end), log_y=True, names=True)
        for title, label, key, end in (
            (f"shortest time, {BAR}", "times as long as torch's shortest", "times_torch", "times_torch_upper"),
            ("multiplications saved, transforms left out", "times fewer than direct", "fewer_multiplications", ""),
        )
    ]
    return {"records": records}, plot(
        "2-D convolution in fp32, one thread: what the fewer multiplications are worth", panels
    )


def _board(trained: Path | None, out: Path, progress: Progress, tools: BoardTools) -> tuple[dict[str, Any], bytes]:
    if trained is None:
        raise TrainerError(
            "approx board: the study needs a trained network, got none; name an exported run folder with --run"
        )
    records = board.study(trained, out, progress, tools)
    whole, parts = records[0], records[1:]
    word = "smoke test" if whole["smoke_test"] else "accuracy"
    ranks = [str(r["rank"]) for r in parts]
    percent = f"{word} in %, n = {whole['test_n']}"
    panels = [
        Panel(
            title,
            "rank",
            label,
            (Line("two factors", ranks, [times * r[key] for r in parts]),),
            level=(times * whole[key], "as it is"),
        )
        for title, label, key, times in (
            ("dense layer alone", "cycles (modelled)", "dense_cycles", 1),
            ("whole window", "cycles (modelled)", "window_cycles", 1),
            ("test split", percent, "accuracy", 100),
        )
    ]
    return {"records": records}, plot("Low-rank dense layer, int8, on the virtual Nano 33 BLE", panels)


def _svd(data: Path | None) -> tuple[dict[str, Any], bytes]:
    accuracy, speed = lowrank.accuracy_study(lowrank.inputs(data)), lowrank.speed_study()
    crossing = {shape: lowrank.break_even(speed, shape) for shape in lowrank.SHAPES}
    for record in accuracy:
        record["fraction"] = record["rank"] / record["full_rank"]
    lost = _lines(accuracy, "input", "fraction", "relative_error")
    panels = [Panel("what is lost", "rank / full rank", "relative Frobenius error", lost)]
    for shape, at in crossing.items():
        rows = [r for r in speed if r["shape"] == shape]
        ranks = [r["rank"] for r in rows]
        title = f"{shape}, batch {lowrank.BATCH}: " + (f"even at rank {at:.3g}" if at else "no crossing")
        lower = [r["time_ratio_lower"] for r in rows]
        lines = (
            Line("by multiplications", ranks, [r["multiplications_ratio"] for r in rows]),
            Line(f"by shortest time, {BAR}", ranks, [r["time_ratio"] for r in rows], lower),
        )
        many, level = max(ranks) > 4, (1.0, "no gain")
        label = "times as fast as the whole matrix"
        panels.append(Panel(title, "rank", label, lines, log_x=True, log_y=many, level=level))
    return {"accuracy": accuracy, "speed": speed, "break_even_rank": crossing}, plot(
        "Truncated singular value factors, kept apart", panels
    )


def _digits(data: Path | None) -> tuple[dict[str, Any], bytes]:
    records = digits.study(digits.load_digits(data))
    whole = records[0]
    shown = [
        {
            "factored": r["factored"],
            "smaller": whole["parameters"] / r["parameters"],
            "accuracy": 100 * r["accuracy"],
            "spent": r["microseconds"],
            "upper": r["microseconds_upper"],
        }
        for r in records[1:]
    ]
    as_trained, time_level = (100 * whole["accuracy"], "as trained"), (whole["microseconds"], "as trained")
    percent, micro = f"accuracy in %, n = {whole['test_n']}", f"microseconds for {digits.BATCH} pictures"
    panels = [
        Panel(
            title,
            x_label,
            y_label,
            _lines(shown, "factored", x, y, "upper" if y == "spent" else ""),
            log_x=x == "smaller",
            level=level,
        )
        for title, x_label, x, y_label, y, level in (
            ("compression and accuracy", "times fewer parameters", "smaller", percent, "accuracy", as_trained),
            (f"compression and runtime, {BAR}", "times fewer parameters", "smaller", micro, "spent", time_level),
            ("runtime and accuracy", micro, "spent", percent, "accuracy", as_trained),
        )
    ]
    layers = digits.layers_of(whole["inputs"])
    title = f"{whole['inputs']}-512-128-10 perceptron, layers factored"
    return {"records": records, "layers": layers}, plot(title, panels)


def _log() -> tuple[dict[str, Any], bytes]:
    records = [
        {"conversion": name, "base": base, "relative_rms": log_error(base, conversion, bits)}
        for name, conversion, bits in _conversions()
        for base in BASES
        if base >= 1 << bits
    ]
    lines = _lines(records, "conversion", "base", "relative_rms")
    label = "relative RMS error"
    level = (log_error(512, "mitchell", 0), "Mitchell's floor")
    panels = [Panel(f"{TERMS} products, N(0,1)", "base: steps per octave", label, lines, True, True, level)]
    forms = [form for form in _conversions() if form[0] in ("exact", "hybrid, 3 sorted bits", "mitchell")]
    accumulators = [
        {"form": name, "accumulator_bits": bits, "relative_rms": log_error(32, conversion, sorted_bits, bits)}
        for name, conversion, sorted_bits in forms
        for bits in ACCUMULATOR_BITS
    ]
    lines = _lines(accumulators, "form", "accumulator_bits", "relative_rms")
    panels.append(Panel("base 32, whole conversion", "bits of an accumulator", label, lines, log_y=True))
    conversions = [
        {"form": name, "arithmetic": kind, "relative_rms": log_error(32, conversion, sorted_bits, None, dtype)}
        for name, conversion, sorted_bits in forms
        for kind, dtype in precision.FLOATS.items()
    ]
    lines = _lines(conversions, "form", "arithmetic", "relative_rms")
    panels.append(Panel("base 32, whole accumulators", "type of the conversion", label, lines, log_y=True))
    found = {"records": records, "accumulators": accumulators, "conversions": conversions}
    return found, plot("Product of logarithmic numbers", panels)


def _conversions() -> Sequence[tuple[str, str, int]]:
    return [
        ("exact", "exact", 0),
        ("lut", "lut", 0),
        *((f"hybrid, {bits} sorted bits", "hybrid", bits) for bits in (1, 2, 3, 4)),
        ("mitchell", "mitchell", 0),
    ]


def log_error(
    base: int,
    conversion: str,
    sorted_bits: int,
    accumulator: Accumulator = None,
    arithmetic: torch.dtype = torch.float64,
) -> float:
    """RMS of the error over RMS of the exact product of N(0,1) matrices, 48 x 256 times 256 x 48."""
    error = truth = 0.0
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((48, TERMS), (TERMS, 48)))
        error += float(
            (log_matmul(a, b, base, conversion, sorted_bits, accumulator, arithmetic) - a @ b).square().sum()
        )
        truth += float((a @ b).square().sum())
    return float((error / truth) ** 0.5)
