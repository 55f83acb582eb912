"""Plots of what was measured: this machine's roofline, latencies, throughput, rank correlations, training; and the
board's roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.roofline import measure
from trainer.roofline.board import BoardModel
from trainer.roofline.chips import Chip
from trainer.roofline.models import KINDS, Network
from trainer.roofline.nets import NAMES
from trainer.roofline.pictures import MARKS, end_labels, figure, log_axes, note, plain_ticks, png, units


@dataclass(frozen=True)
class Measurement:
    """The points of one device."""

    device: str
    points: Mapping[str, Mapping[str, Any]]

    def peaks(self) -> dict[str, float]:
        """Operations a second by data type."""
        found = {key.rpartition(" ")[2]: point for key, point in self._of("peak").items()}
        return {
            dtype: point["operations_per_second"] for dtype, point in found.items() if "operations_per_second" in point
        }

    def bandwidths(self) -> dict[str, float]:
        """Bytes a second by STREAM kernel."""
        found = {key.rpartition(" ")[2]: point for key, point in self._of("stream").items()}
        return {kernel: point["bytes_per_second"] for kernel, point in found.items() if "bytes_per_second" in point}

    def roof(self) -> dict[str, float]:
        """fp32 peak and the fastest kernel's bandwidth; empty before they are measured."""
        peaks, bandwidths = self.peaks(), self.bandwidths()
        return {"peak": peaks["fp32"], "bandwidth": max(bandwidths.values())} if "fp32" in peaks and bandwidths else {}

    def inference(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        """Points by network and batch, the left-out ones too."""
        split = ((key.split(), point) for key, point in self._of("inference").items())
        return {(words[2], int(words[3])): point for words, point in split}

    def seconds(self, batch: int) -> dict[str, float]:
        """Latency by network where it was measured."""
        return {
            name: point["median"]
            for (name, size), point in self.inference().items()
            if size == batch and "median" in point
        }

    def batches(self) -> list[int]:
        """Batches that some network was measured at."""
        return sorted({batch for (_, batch), point in self.inference().items() if "median" in point})

    def training(self) -> dict[str, Mapping[str, Any]]:
        """Measured training steps by network."""
        return {key.split()[2]: point for key, point in self._of("training").items() if "backward" in point}

    def _of(self, what: str) -> dict[str, Mapping[str, Any]]:
        return {key: point for key, point in self.points.items() if key.startswith(f"{self.device} {what} ")}


def ranks(found: Measurement, networks: Mapping[str, Network]) -> dict[str, dict[str, tuple[float, int]]]:
    """Spearman's coefficients of parameters, operations and the latencies of each batch."""
    columns: dict[str, dict[str, float]] = {
        "parameters": {name: n.parameters for name, n in networks.items()},
        "FLOPs": {name: n.flops for name, n in networks.items()},
    }
    columns |= {f"latency, batch {batch}": found.seconds(batch) for batch in found.batches()}
    return measure.spearman(columns)


def _color(number: int) -> str:
    return f"C{number}" if number < 10 else "black"


def machine_roofline(found: Measurement, networks: Mapping[str, Network]) -> bytes:
    """Measured roofs, and every network where it got to, by batch."""
    made, axes = figure(1, 1, (12, 6.5))
    panel, roof, peaks = axes[0, 0], found.roof(), found.peaks()
    points = [
        (name, batch, networks[name].intensity(batch), batch * networks[name].flops / found.seconds(batch)[name])
        for batch in found.batches()
        for name in NAMES
        if name in found.seconds(batch)
    ]
    left = min([*(x / 2 for _, _, x, _ in points), *(peak / roof["bandwidth"] / 4 for peak in peaks.values())])
    right = 2 * max([*(x for _, _, x, _ in points), *(peak / roof["bandwidth"] for peak in peaks.values())])
    for style, peak in zip(("-", "--", ":"), peaks.values(), strict=False):
        ridge = peak / roof["bandwidth"]
        panel.plot([left, ridge, right], [left * roof["bandwidth"], peak, peak], style, color="black")
    for number, name in enumerate(NAMES):
        mine = [(x, y, batch) for other, batch, x, y in points if other == name]
        panel.plot([x for x, _, _ in mine], [y for _, y, _ in mine], "-", color=_color(number), linewidth=0.6)
        for x, y, batch in mine:
            size = 3 + 2 * found.batches().index(batch)
            panel.plot(x, y, MARKS[number], color=_color(number), markersize=size, linestyle="none")
    low = min([y for _, _, _, y in points] + [left * roof["bandwidth"]]) / 2
    batches = ", ".join(map(str, found.batches()))
    log_axes(
        panel,
        "operations per byte: weights, input and output of every layer once, fp32",
        "operations per second",
        xlim=(left, right),
        ylim=(low, 2 * max(peaks.values())),
        title=f"{found.device}: networks in fp32, larger marks for larger batches ({batches})",
    )
    ends = [(right, peak, f"{dtype}, {units(peak, 'OP/s')}", "black") for dtype, peak in peaks.items()]
    end_labels(panel, ends, size=8.5)
    note(panel, units(roof["bandwidth"], "B/s"), (left, left * roof["bandwidth"]), (18, -6), fontsize=8.5)
    _legend(made, [name for name in NAMES if any(name == other for other, _, _, _ in points)])
    return png(made)


def latency_plot(found: Measurement, networks: Mapping[str, Network]) -> bytes:
    """Latency against operations and against parameters, a row of panels per batch; marks and colours as in the other
    plots."""
    batches = found.batches()
    made, axes = figure(len(batches), 2, (12, 3.4 * len(batches) + 0.8))
    for row, batch in zip(axes, batches, strict=True):
        seconds = found.seconds(batch)
        sides = (
            ("operations per picture, GFLOP", {name: network.flops / 1e9 for name, network in networks.items()}),
            ("parameters, millions", {name: network.parameters / 1e6 for name, network in networks.items()}),
        )
        for panel, (label, values) in zip(row, sides, strict=True):
            for number, name in enumerate(NAMES):
                if name in seconds:
                    style = {"color": _color(number), "markersize": 7, "linestyle": "none"}
                    panel.plot(values[name], 1000 * seconds[name], MARKS[number], **style)
            times = [1000 * taken for taken in seconds.values()]
            ylim = (min(times) / 2, max(times) * 2)
            xlim = (min(values.values()) / 1.4, max(values.values()) * 1.4)
            log_axes(panel, label, f"ms for a batch of {batch}", ylim=ylim, xlim=xlim)
            plain_ticks(panel.xaxis)
            plain_ticks(panel.yaxis)
    _legend(made, [name for name in NAMES if any(name in found.seconds(batch) for batch in batches)])
    made.suptitle(f"{found.device}: latency in fp32, medians")
    return png(made)


def _legend(made: Any, names: Sequence[str]) -> None:
    """Mark and colour of every network, under the figure."""
    from matplotlib.lines import Line2D

    numbers = [list(NAMES).index(name) for name in names]
    marks = [Line2D([], [], color=_color(number), marker=MARKS[number], linestyle="none") for number in numbers]
    if names:
        made.legend(marks, [NAMES[name] for name in names], loc="outside lower center", ncols=6, fontsize=8.5)


def throughput_plot(found: Measurement) -> bytes:
    """Pictures a second by batch."""
    made, axes = figure(1, 1, (9.5, 5.5))
    panel, ends = axes[0, 0], []
    right = 1.15 * max(found.batches())
    for number, name in enumerate(NAMES):
        points = [
            (batch, batch / found.seconds(batch)[name]) for batch in found.batches() if name in found.seconds(batch)
        ]
        if points:
            last, rate = points[-1]
            panel.plot(*zip(*points, strict=True), marker=MARKS[number], color=_color(number), markersize=5)
            panel.plot([last, right], [rate, rate], ":", color=_color(number), linewidth=0.7)
            ends.append((right, rate, f"{NAMES[name]}, {rate:.3g}/s at {last}", _color(number)))
    panel.set_xlim(0.87, right)
    log_axes(panel, "batch", "pictures per second", title=f"{found.device}: throughput in fp32")
    panel.set_xticks(found.batches(), [str(batch) for batch in found.batches()])
    panel.minorticks_off()
    plain_ticks(panel.yaxis)
    end_labels(panel, ends, 0.05, 8)
    return png(made)


def spearman_plot(found: Measurement, networks: Mapping[str, Network]) -> bytes:
    """The matrix of rank correlations, with the number of networks behind each."""
    matrix = ranks(found, networks)
    names = list(matrix)
    made, axes = figure(1, 1, (7.5, 6))
    panel = axes[0, 0]
    panel.imshow([[matrix[a][b][0] for b in names] for a in names], cmap="RdBu_r", vmin=-1, vmax=1)
    for y, a in enumerate(names):
        for x, b in enumerate(names):
            value, count = matrix[a][b]
            text = f"n = {count}" if math.isnan(value) else f"{value:.2f}\nn = {count}"
            color = "white" if abs(value) > 0.7 else "black"
            panel.text(x, y, text, ha="center", va="center", fontsize=8, color=color)
    panel.set_xticks(range(len(names)), names, rotation=30, ha="right")
    panel.set_yticks(range(len(names)), names)
    panel.set_title(f"{found.device}: Spearman's rank correlation")
    return png(made)


def training_plot(found: Measurement) -> bytes:
    """Forward and backward of a step over the forward's time, by kind of layer as the profiler shared it out."""
    steps = found.training()
    made, axes = figure(1, 1, (12, 1.6 + 0.5 * len(steps)))
    panel = axes[0, 0]
    rows = [(name, way) for name in NAMES if name in steps for way in ("forward", "backward")]
    lengths = [steps[name][way]["median"] / steps[name]["forward"]["median"] for name, way in rows]
    for number, kind in enumerate(KINDS):
        widths, starts = [], []
        for (name, way), length in zip(rows, lengths, strict=True):
            shares = steps[name]["kinds"][way]
            scale = length / sum(shares.values())
            starts.append(scale * sum(shares.get(other, 0.0) for other in KINDS[:number]))
            widths.append(scale * shares.get(kind, 0.0))
        if any(widths):
            panel.barh(range(len(rows)), widths, left=starts, label=kind, color=f"C{number}", height=0.75)
    for y, ((name, way), length) in enumerate(zip(rows, lengths, strict=True)):
        ratio = f", {length:.2f} x forward" if way == "backward" else ""
        note(panel, f"{1000 * steps[name][way]['median']:.0f} ms{ratio}", (length, y), (4, 0), va="center")
    panel.set_yticks(range(len(rows)), [f"{NAMES[name]}  {way}" for name, way in rows], fontsize=8)
    panel.invert_yaxis()
    panel.set(
        xlabel="times the forward pass",
        xlim=(0, 1.25 * max(lengths)),
        title=f"{found.device}: a training step in fp32, batch {next(iter(steps.values()))['batch']}, by kind of layer",
    )
    panel.grid(axis="x", alpha=0.25)
    made.legend(fontsize=8, loc="outside lower center", ncols=9)
    return png(made)


def _second_roofs(panel: Any, chip: Chip, x_range: tuple[float, float]) -> None:
    """The slope of the memory that weights lie in, and the ceiling of kernels with several products an instruction."""
    left, right = x_range
    peak = chip.peaks["int8"].value
    if chip.second_bandwidth:
        name, bandwidth = chip.second_bandwidth[0], chip.second_bandwidth[1].value
        panel.plot([left, peak / bandwidth], [left * bandwidth, peak], "-.", color="tab:brown", linewidth=1.3)
        at = (0.35, 0.35 * bandwidth)
        note(panel, f"{name}, {units(bandwidth, 'B/s')}", at, (6, -12), color="tab:brown")
        note(panel, f"{chip.memory}, {units(chip.bandwidth.value, 'B/s')}", (left, 0.82 * peak), (4, 0))
    if chip.second_peak:
        dtype, higher = chip.second_peak[0], chip.second_peak[1].value
        panel.plot(
            [peak / chip.bandwidth.value, higher / chip.bandwidth.value, right],
            [peak, higher, higher],
            ":",
            color="tab:purple",
            linewidth=1.3,
        )
        label = f"{dtype}, four products an instruction, {units(higher, 'OP/s')}"
        note(panel, label, (right, higher), (-4, 4), ha="right", color="tab:purple")


def board_plot(chip: Chip, boards: Sequence[BoardModel]) -> bytes:
    """The Nano 33 BLE's roofline with the layers of every model, numbered; equal ones share a mark."""
    made, axes = figure(1, len(boards), (6.2 * len(boards), 5.2))
    for panel, model in zip(axes[0], boards, strict=True):
        left, right = 0.2, 300.0
        for dtype, style in (("int8", "-"), ("fp32", "--")):
            peak, ridge = chip.peaks[dtype].value, chip.ridge(dtype)
            roof = [chip.roof(dtype, x) for x in (left, ridge, right)]
            panel.plot([left, ridge, right], roof, style, color="black", linewidth=1.3)
            note(panel, f"{dtype}, {units(peak, 'OP/s')}", (right, peak), (-4, 4), ha="right")
        _second_roofs(panel, chip, (left, right))
        merged: dict[tuple[int, int], list[int]] = {}
        for number, layer in enumerate(model.layers):
            place = (round(8 * math.log(layer.intensity)), round(8 * math.log(layer.operations_per_second)))
            merged.setdefault(place, []).append(number)
        for color, numbers in enumerate(merged.values()):
            first = model.layers[numbers[0]]
            share = f"{100 * first.operations_per_second / chip.roof('int8', first.intensity):.0f} % of its roof"
            label = f"{', '.join(map(str, numbers))}: {units(first.operations_per_second, 'OP/s')}, {share}"
            panel.plot(first.intensity, first.operations_per_second, "o", color=f"C{color % 10}", label=label)
        whole = model.whole
        speed, ms = units(whole.operations_per_second, "OP/s"), 1000 * whole.cycles / model.clock_hz
        least = 1000 * whole.operations / chip.roof("int8", whole.intensity)
        label = f"all: {speed}, {ms:.1f} ms, {least:.1f} ms at the roof"
        panel.plot(whole.intensity, whole.operations_per_second, "*", color="black", markersize=11, label=label)
        title = f"{model.name} on the Nano 33 BLE, int8{', modelled' if model.modelled else ''}"
        limits = {"xlim": (left, right), "ylim": (5e6, 1e9)}
        log_axes(panel, "operations per byte", "operations per second", **limits, title=title)
        panel.legend(fontsize=8, loc="lower right", title="layers by number", title_fontsize=8)
    return png(made)
