"""The findings as tables, and as one HTML page with its pictures inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converter.commands import html
from trainer.roofline import measured
from trainer.roofline.board import BoardLayer, BoardModel
from trainer.roofline.chips import BYTES, Chip, of
from trainer.roofline.measured import Measurement
from trainer.roofline.models import Network
from trainer.roofline.nets import NAMES
from trainer.roofline.pictures import units

ACCELERATORS = ("TPU v5e", "H100", "AGX Orin")  # named beside the board

Rows = list[list[str]]


@dataclass(frozen=True)
class Table:
    """A heading, a sentence, column names and rows."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: Rows


Columns = dict[str, Callable[[Any], str]]


def _table(title: str, note: str, columns: Columns, items: Iterable[Any]) -> Table:
    return Table(title, note, tuple(columns), [[cell(item) for cell in columns.values()] for item in items])


def chip_table(chips: Sequence[Chip]) -> Table:
    """A row per figure, with where it comes from."""
    rows: Rows = []
    for chip in chips:
        what_it_is = [chip.name, chip.kind]
        for what, figure, unit in (
            (f"{chip.memory} bandwidth", chip.bandwidth, "B/s"),
            *((dtype, peak, "OP/s") for dtype, peak in chip.peaks.items()),
            *(
                [(f"{chip.second_bandwidth[0]} bandwidth", chip.second_bandwidth[1], "B/s")]
                if chip.second_bandwidth
                else []
            ),
            *([(f"{chip.second_peak[0]}, higher", chip.second_peak[1], "OP/s")] if chip.second_peak else []),
        ):
            ridge = f"{chip.ridge(what):.3g}" if what in chip.peaks else ""
            rows.append([*what_it_is, what, units(figure.value, unit), ridge, figure.derivation, figure.source])
            what_it_is = ["", ""]
    note = "A multiply-accumulate is 2 operations; no figure counts sparsity."
    columns = ("chip", "kind", "figure", "per second", "ridge, op/B", "derivation", "source")
    return Table("Chips by data sheet", note, columns, rows)


def network_table(found: Sequence[Network]) -> Table:
    """A row per network: sizes, and operations per byte."""
    columns: Columns = {
        "network": lambda n: n.name,
        "parameters": lambda n: f"{n.parameters:,}",
        "GMAC": lambda n: f"{n.flops / 2e9:.3f}",
        "memory, MB": lambda n: f"{n.footprint() / 1e6:.1f}",
        "traffic, MB": lambda n: f"{n.traffic() / 1e6:.1f}",
        "op/B": lambda n: f"{n.intensity():.1f}",
        "op/B, batch 64": lambda n: f"{n.intensity(64):.1f}",
        "op/B, int8": lambda n: f"{n.intensity(1, 1):.1f}",
        "layers that compute": lambda n: str(sum(layer.flops > 0 for layer in n.layers)),
    }
    note = (
        "fp32 unless said; memory: weights and the largest layer's input and output; traffic: every layer's weights, "
        "input and output once."
    )
    return _table("Networks", note, columns, found)


def bound_table(chips: Sequence[Chip], found: Sequence[Network]) -> Table:
    """A row per chip and type, a column per network."""
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
    """A row per peak and STREAM kernel of this machine."""
    rows = []
    for key, point in found.points.items():
        device, what, name = (*key.split(), "")[:3]
        if device == found.device and what in ("peak", "stream"):
            rate = f"left out: {point.get('skipped')}"
            for rate_of, unit in (("bytes_per_second", "B/s"), ("operations_per_second", "OP/s")):
                rate = units(point[rate_of], unit) if rate_of in point else rate
            spread = f"{100 * point['spread']:.0f} %" if "spread" in point else ""
            label = f"{name} peak" if what == "peak" else f"STREAM {name}"
            rows.append([label, rate, str(point.get("way", "")), spread, str(point.get("runs", ""))])
    note = "The fastest run; spread: distance of the quartiles over the median."
    return Table(f"{found.device}: what it can do", note, ("what", "per second", "by", "spread", "runs"), rows)


def latency_table(found: Measurement) -> Table:
    """A row per network, a column per batch."""
    points = found.inference()

    def cell(name: str, batch: int) -> str:
        point = points.get((name, batch), {"skipped": "not measured"})
        if "median" not in point:
            return f"left out: {point['skipped']}"
        median, spread = f"{1000 * point['median']:.1f} ms", f"{100 * point['spread']:.0f} %"
        return f"{median} ± {spread}, {point['pictures_per_second']:.3g}/s, n = {point['runs']}"

    batches = sorted({batch for _, batch in points})
    names = [name for name in NAMES if any(key[0] == name for key in points)]
    return Table(
        f"{found.device}: inference in fp32",
        "Median, spread (the quartiles' distance over the median), pictures a second, runs.",
        ("network", *(f"batch {batch}" for batch in batches)),
        [[NAMES[name], *(cell(name, batch) for batch in batches)] for name in names],
    )


def achieved_table(found: Measurement, networks: Mapping[str, Network]) -> Table:
    """A row per network and batch that was measured."""
    roof, rows = found.roof(), []
    for name, network in networks.items():
        for batch in found.batches():
            if roof and name in found.seconds(batch):
                intensity, rate = network.intensity(batch), batch * network.flops / found.seconds(batch)[name]
                limit = min(roof["peak"], intensity * roof["bandwidth"])
                bound = "memory" if intensity * roof["bandwidth"] < roof["peak"] else "compute"
                speeds = (units(rate, "FLOP/s"), units(limit, "FLOP/s"), f"{100 * rate / limit:.0f} %")
                rows.append([NAMES[name], str(batch), f"{intensity:.1f}", *speeds, bound])
    return Table(
        f"{found.device}: reached under the roof",
        "Over 100 %: the libraries fuse layers or find them in a cache, so fewer bytes moved than the rule counts.",
        ("network", "batch", "op/B", "reached", "roof", "share", "bound"),
        rows,
    )


def spearman_table(found: Measurement, networks: Mapping[str, Network]) -> Table:
    """The matrix of rank correlations."""
    matrix = measured.ranks(found, networks)
    rows = [
        [one, *("" if math.isnan(value) else f"{value:.2f} (n = {count})" for value, count in others.values())]
        for one, others in matrix.items()
    ]
    return Table(f"{found.device}: Spearman's rank correlation", "n: networks measured in both.", ("", *matrix), rows)


def training_table(found: Measurement) -> Table:
    """A row per network: both directions of a step, and the kinds of layers that take the most time in each."""

    def goes_to(step: Mapping[str, Any], way: str) -> str:
        kinds = step["kinds"][way]
        most = sorted(kinds.items(), key=lambda item: -item[1])[:4]
        return ", ".join(f"{kind} {100 * share / sum(kinds.values()):.0f} %" for kind, share in most)

    columns: Columns = {
        "network": lambda item: NAMES[item[0]],
        "forward, ms": lambda item: f"{1000 * item[1]['forward']['median']:.0f}",
        "backward, ms": lambda item: f"{1000 * item[1]['backward']['median']:.0f}",
        "backward over forward": lambda item: f"{item[1]['backward_over_forward']:.2f}",
        "forward goes to": lambda item: goes_to(item[1], "forward"),
        "backward goes to": lambda item: goes_to(item[1], "backward"),
    }
    note = (
        "Medians of 3 steps at batch 8; kinds by one more step under the profiler, "
        "depthwise convolutions among the convolutions."
    )
    return _table(f"{found.device}: a training step in fp32", note, columns, found.training().items())


def board_table(chip: Chip, model: BoardModel) -> Table:
    """A row per layer of a model on the board, and one of all."""
    columns: Columns = {
        "": lambda item: str(item[0]),
        "layer": lambda item: item[1].name.split(";")[0][-40:],
        "operations": lambda item: f"{item[1].operations:,}",
        "bytes": lambda item: f"{item[1].bytes:,}",
        "op/B": lambda item: f"{item[1].intensity:.1f}",
        "cycles": lambda item: f"{item[1].cycles:,}",
        "speed": lambda item: units(item[1].operations_per_second, "OP/s"),
        "of roof": lambda item: f"{100 * item[1].operations_per_second / chip.roof('int8', item[1].intensity):.0f} %",
        "bound": lambda item: chip.bound("int8", item[1].intensity),
        "of roof, from flash": lambda item: f"{100 * item[1].operations_per_second / _from_flash(chip, item[1]):.0f} %",
    }
    how = "cycles of the virtual board's model" if model.modelled else "cycles measured"
    ms = 1000 * model.whole.operations / chip.roof("int8", model.whole.intensity)
    note = (
        f"int8, {how}; at its roof all of it takes {ms:.2f} ms. The roof is two products an instruction and all bytes "
        f"from RAM; the last column: all bytes from flash. {passes_elsewhere(model)}"
    )
    return _table(f"{model.name} on the Nano 33 BLE", note, columns, [*enumerate(model.layers), ("", model.whole)])


def passes_elsewhere(model: BoardModel) -> str:
    """A sentence on how many passes of batch 1 a second the int8 roofs of ACCELERATORS allow; weights are read in every
    pass, and no time to start one counts."""
    told, whole = [], model.whole
    for chip in map(of, ACCELERATORS):
        each = chip.roof("int8", whole.intensity) / whole.operations
        told.append(f"{units(each, '/s')} ({chip.short}, {chip.bound('int8', whole.intensity)}-bound)")
    return f"Passes at the int8 roofs of others, batch 1, without a pass's start: {', '.join(told)}."


def _from_flash(chip: Chip, layer: BoardLayer) -> float:
    """Operations a second that can be had where every byte is loaded from the board's flash."""
    assert chip.second_bandwidth is not None
    return min(chip.peaks["int8"].value, layer.intensity * chip.second_bandwidth[1].value)


def markdown(tables: Sequence[Table], measurement: Mapping[str, Any] | None) -> str:
    """The tables for a document."""
    lines = ["<!-- written by `python -m trainer roofline plot` -->", "# Rooflines: tables", "", *_about(measurement)]
    for table in tables:
        heads = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
        lines += ["", f"## {table.title}", "", table.note, "", *heads]
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
