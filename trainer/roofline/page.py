"""The findings as tables, and as one HTML page with its pictures inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converter import html
from trainer.roofline import measured
from trainer.roofline.board import BoardModel
from trainer.roofline.chips import BYTES, Chip
from trainer.roofline.measured import Measurement
from trainer.roofline.models import Network
from trainer.roofline.nets import NAMES
from trainer.roofline.pictures import units

Rows = list[list[str]]


@dataclass(frozen=True)
class Table:
    """A heading, a sentence, column names and rows."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: Rows


def chip_table(chips: Sequence[Chip]) -> Table:
    """A row per figure, with where it comes from."""
    rows: Rows = []
    for chip in chips:
        figures = {
            f"{chip.memory} bandwidth": (chip.bandwidth, "B/s"),
            **{dtype: (peak, "OP/s") for dtype, peak in chip.peaks.items()},
        }
        for number, (what, (figure, unit)) in enumerate(figures.items()):
            ridge = f"{chip.ridge(what):.3g}" if what in chip.peaks else ""
            rows.append(
                [
                    chip.name if number == 0 else "",
                    chip.kind if number == 0 else "",
                    what,
                    units(figure.value, unit),
                    ridge,
                    figure.derivation,
                    figure.source,
                ]
            )
    return Table(
        "Chips by data sheet",
        "A multiply-accumulate is 2 operations; no figure counts sparsity.",
        ("chip", "kind", "figure", "per second", "ridge, op/B", "derivation", "source"),
        rows,
    )


def network_table(found: Sequence[Network]) -> Table:
    rows = [
        [
            n.name,
            f"{n.parameters:,}",
            f"{n.flops / 2e9:.3f}",
            f"{n.footprint() / 1e6:.1f}",
            f"{n.traffic() / 1e6:.1f}",
            f"{n.intensity():.1f}",
            f"{n.intensity(64):.1f}",
            f"{n.intensity(1, 1):.1f}",
            str(sum(layer.flops > 0 for layer in n.layers)),
        ]
        for n in found
    ]
    return Table(
        "Networks",
        "fp32 unless said; memory: weights and the largest layer's input and output; traffic: every layer's weights, "
        "input and output once.",
        (
            "network",
            "parameters",
            "GMAC",
            "memory, MB",
            "traffic, MB",
            "op/B",
            "op/B, batch 64",
            "op/B, int8",
            "layers that compute",
        ),
        rows,
    )


def bound_table(chips: Sequence[Chip], found: Sequence[Network]) -> Table:
    rows = [
        [f"{chip.short} {dtype}", *(chip.bound(dtype, n.intensity(1, BYTES[dtype])) for n in found)]
        for chip in chips
        for dtype in chip.peaks
    ]
    return Table(
        "Bound by memory or by arithmetic, batch 1",
        "By intensity and ridge alone; most networks would not fit into a microcontroller's memory.",
        ("chip", *(n.name for n in found)),
        rows,
    )


def machine_table(found: Measurement) -> Table:
    rows = []
    for key, point in found.points.items():
        device, what, name = (*key.split(), "")[:3]
        if device == found.device and what in ("peak", "stream"):
            rate = (
                units(point["operations_per_second"], "OP/s")
                if "operations_per_second" in point
                else units(point["bytes_per_second"], "B/s")
                if "bytes_per_second" in point
                else f"left out: {point['skipped']}"
            )
            rows.append(
                [
                    f"{name} peak" if what == "peak" else f"STREAM {name}",
                    rate,
                    str(point.get("way", "")),
                    f"{100 * point['spread']:.0f} %" if "spread" in point else "",
                    str(point.get("runs", "")),
                ]
            )
    return Table(
        f"{found.device}: what it can do",
        "The fastest run; spread: distance of the quartiles over the median.",
        ("what", "per second", "by", "spread", "runs"),
        rows,
    )


def latency_table(found: Measurement) -> Table:
    points = found.inference()
    batches = sorted({batch for _, batch in points})
    rows = []
    for name in (name for name in NAMES if any(key[0] == name for key in points)):
        row = [NAMES[name]]
        for batch in batches:
            point = points.get((name, batch), {"skipped": "not measured"})
            row.append(
                f"{1000 * point['median']:.1f} ms ± {100 * point['spread']:.0f} %, "
                f"{point['pictures_per_second']:.3g}/s, n = "
                f"{point['runs']}"
                if "median" in point
                else f"left out: {point['skipped']}"
            )
        rows.append(row)
    return Table(
        f"{found.device}: inference in fp32",
        "Median, spread (the quartiles' distance over the median), pictures a second, runs.",
        ("network", *(f"batch {batch}" for batch in batches)),
        rows,
    )


def achieved_table(found: Measurement, networks: Mapping[str, Network]) -> Table:
    roof, rows = found.roof(), []
    for name in networks:
        for batch in found.batches():
            if roof and name in found.seconds(batch):
                intensity, rate = (
                    networks[name].intensity(batch),
                    batch * networks[name].flops / found.seconds(batch)[name],
                )
                limit = min(roof["peak"], intensity * roof["bandwidth"])
                rows.append(
                    [
                        NAMES[name],
                        str(batch),
                        f"{intensity:.1f}",
                        units(rate, "FLOP/s"),
                        units(limit, "FLOP/s"),
                        f"{100 * rate / limit:.0f} %",
                        "memory" if intensity * roof["bandwidth"] < roof["peak"] else "compute",
                    ]
                )
    return Table(
        f"{found.device}: reached under the roof",
        "Over 100 %: the libraries fuse layers or find them in a cache, so fewer bytes moved than the rule counts.",
        ("network", "batch", "op/B", "reached", "roof", "share", "bound"),
        rows,
    )


def spearman_table(found: Measurement, networks: Mapping[str, Network]) -> Table:
    matrix = measured.ranks(found, networks)
    rows = [
        [one, *("" if math.isnan(value) else f"{value:.2f} (n = {count})" for value, count in others.values())]
        for one, others in matrix.items()
    ]
    return Table(f"{found.device}: Spearman's rank correlation", "n: networks measured in both.", ("", *matrix), rows)


def training_table(found: Measurement) -> Table:
    rows = []
    for name, step in found.training().items():
        row = [
            NAMES[name],
            f"{1000 * step['forward']['median']:.0f}",
            f"{1000 * step['backward']['median']:.0f}",
            f"{step['backward_over_forward']:.2f}",
        ]
        for way in ("forward", "backward"):
            shares = sorted(step["kinds"][way].items(), key=lambda item: -item[1])
            row.append(
                ", ".join(
                    f"{kind} {100 * share / sum(step['kinds'][way].values()):.0f} %" for kind, share in shares[:4]
                )
            )
        rows.append(row)
    return Table(
        f"{found.device}: a training step in fp32",
        "Medians of 3 steps at batch 8; kinds by one more step under the profiler, "
        "depthwise convolutions among the convolutions.",
        ("network", "forward, ms", "backward, ms", "backward over forward", "forward goes to", "backward goes to"),
        rows,
    )


def board_table(chip: Chip, model: BoardModel) -> Table:
    rows = [
        [
            str(number),
            layer.name.split(";")[0][-40:],
            f"{layer.operations:,}",
            f"{layer.bytes:,}",
            f"{layer.intensity:.1f}",
            f"{layer.cycles:,}",
            units(layer.operations_per_second, "OP/s"),
            f"{100 * layer.operations_per_second / chip.roof('int8', layer.intensity):.0f} %",
            chip.bound("int8", layer.intensity),
        ]
        for number, layer in [*enumerate(model.layers), ("", model.whole)]
    ]
    how = "cycles of the virtual board's model" if model.modelled else "cycles measured"
    return Table(
        f"{model.name} on the Nano 33 BLE",
        f"int8, {how}; at its roof all of it takes "
        f"{1000 * model.whole.operations / chip.roof('int8', model.whole.intensity):.2f} ms.",
        ("", "layer", "operations", "bytes", "op/B", "cycles", "speed", "of roof", "bound"),
        rows,
    )


def markdown(tables: Sequence[Table], measurement: Mapping[str, Any] | None) -> str:
    lines = ["<!-- written by `python -m trainer roofline plot` -->", "# Rooflines: tables", "", *_about(measurement)]
    for table in tables:
        lines += [
            "",
            f"## {table.title}",
            "",
            table.note,
            "",
            "| " + " | ".join(table.columns) + " |",
            "|" + "---|" * len(table.columns),
        ]
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _about(measurement: Mapping[str, Any] | None) -> list[str]:
    """The machine, and whether it had other things to do."""
    if measurement is None:
        return []
    machine, busy = measurement["machine"], measurement["load"]
    noise = "OTHER PROGRAMS RAN in the minute before: where the spread is large, times are too long"
    quiet = "it was quiet" if busy < 0.5 * machine["cores"] else noise
    gpu = f", {machine['gpu']}" if machine["gpu"] else ", no GPU"
    return [
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['vectors']}{gpu}; "
        f"PyTorch {machine['torch']}. Load average when it began: {busy:g}; {quiet}."
    ]


def page(pictures: Mapping[str, bytes], tables: Sequence[Table], measurement: Mapping[str, Any] | None) -> str:
    """One file: pictures first, tables after."""
    parts: list[html.Part] = [
        *_about(measurement),
        *(html.Picture(name, content) for name, content in pictures.items()),
    ]
    sections = [html.Section(t.title, [t.note, html.Table(t.columns, t.rows, left=True)]) for t in tables]
    return html.page("Rooflines", parts, sections)
