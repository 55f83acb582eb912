"""The plots as PNG bytes: log axes, units, and labels that keep out of each other's way."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.roofline.board import BoardModel
from trainer.roofline.chips import BYTES, KINDS, Chip
from trainer.roofline.models import KINDS as LAYER_KINDS
from trainer.roofline.models import Network

LINES = {"fp32": "-", "fp16": "--", "bf16": "--", "int8": ":"}
MARKS = "osD^vPX*<>hpd8"


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 5), **options: Any) -> tuple[Any, Any]:
    """A figure and its axes [rows, columns]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False, **options)


def png(made: Any) -> bytes:
    """The figure in 256 colours: a third of the bytes, and the same bytes for the same figure."""
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    made.savefig(drawn, format="png")
    with Image.open(drawn) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, 3, dither=Image.Dither.NONE)
        few.save(packed, format="png", optimize=True)
    return packed.getvalue()


def spread_out(values: Sequence[float], gap: float) -> list[float]:
    """The values moved as little as it takes to lie at least `gap` apart, in their order.

    >>> spread_out([1.0, 1.1, 5.0], 0.5)
    [0.8, 1.3, 5.0]
    """
    order = sorted(range(len(values)), key=lambda at: values[at])
    groups: list[list[float]] = []  # middle of the group, number of values
    for at in order:
        groups.append([values[at], 1])
        while len(groups) > 1 and _reach(groups[-1], gap, -1) < _reach(groups[-2], gap, 1) + gap - 1e-12:
            (middle, count), (below, fewer) = groups.pop(), groups.pop()
            groups.append([(middle * count + below * fewer) / (count + fewer), count + fewer])
    placed = [middle + gap * (i - (count - 1) / 2) for middle, count in groups for i in range(int(count))]
    found = [0.0] * len(values)
    for at, place in zip(order, placed, strict=True):
        found[at] = round(place, 9)
    return found


def _reach(group: list[float], gap: float, side: int) -> float:
    return group[0] + side * gap * (group[1] - 1) / 2


def end_labels(axes: Any, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.045, size: float = 7.5) -> None:
    """Names (x, y, text, colour) right of the axes, level with y on its log axis, `gap` of its height apart."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    heights = spread_out([(math.log10(y) - low) / (high - low) for _, y, _, _ in ends], gap)
    for (_, y, text, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            text,
            (1, (math.log10(y) - low) / (high - low)),
            (1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=size,
            color=color,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.5,
                "alpha": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def log_axes(panel: Any, x: str, y: str, **more: Any) -> None:
    """Both axes logarithmic, load_split, with a grid; more goes to panel.set."""
    panel.set(xscale="log", yscale="log", xlabel=x, ylabel=y, **more)
    panel.grid(alpha=0.25)


def note(panel: Any, text: str, at: tuple[float, float], shift: tuple[float, float], **more: Any) -> None:
    """Small text beside a point, `shift` in points of print."""
    panel.annotate(text, at, shift, textcoords="offset points", **{"fontsize": 8, **more})


def plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10, ... in figures as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def units(value: float, unit: str) -> str:
    """Three digits with a prefix.

    >>> units(6.4e7, "FLOP/s"), units(1.6e12, "B/s")
    ('64 MFLOP/s', '1.6 TB/s')
    """
    step = max(0, min(5, math.floor(math.log10(value) / 3))) if value > 0 else 0
    scaled = value / 1000**step
    digits = f"{scaled:.3g}" if scaled < 999.5 else f"{scaled:.0f}"
    return f"{digits} {('', 'k', 'M', 'G', 'T', 'P')[step]}{unit}"


def chip_rooflines(chips: Sequence[Chip]) -> bytes:
    """A panel per kind of chip; the line's style is the data type."""
    made, axes = figure(3, 2, (12, 13))
    panels = axes.flatten()
    for panel, kind in zip(panels, KINDS, strict=False):
        members = [chip for chip in chips if chip.kind == kind]
        ridges = [chip.ridge(dtype) for chip in members for dtype in chip.peaks]
        left, right = min(ridges) / 12, max(ridges) * 8
        ends = []
        for number, chip in enumerate(members):
            for dtype, peak in chip.peaks.items():
                ridge = chip.ridge(dtype)
                panel.plot(
                    [left, ridge, right],
                    [chip.roof(dtype, x) for x in (left, ridge, right)],
                    LINES[dtype],
                    color=f"C{number % 10}",
                )
                panel.plot(ridge, peak.value, "o", markersize=3.5, color=f"C{number % 10}")
                ends.append(
                    (right, peak.value, f"{chip.short} {dtype}, {units(peak.value, 'OP/s')}", f"C{number % 10}")
                )
        log_axes(panel, "operations per byte", "operations per second", xlim=(left, right), title=kind)
        end_labels(panel, ends)
    panels[-1].axis("off")
    styles = (
        "solid: fp32      dashed: fp16 or bf16      dotted: int8\n\ndot: the ridge, where memory and "
        "arithmetic balance\n\n"
    )
    slopes = "\n".join(f"{chip.short}: {units(chip.bandwidth.value, 'B/s')}, {chip.memory}" for chip in chips)
    panels[-1].text(0.02, 1.0, f"{styles}Slopes:\n{slopes}", va="top", fontsize=8.5, transform=panels[-1].transAxes)
    made.suptitle("Rooflines by data sheet")
    return png(made)


def network_bars(found: Sequence[Network]) -> bytes:
    """Parameters, operations, memory and intensity side by side."""
    made, axes = figure(2, 2, (12, 8))
    names = [network.name for network in found]
    bars = (
        ("parameters, millions", [n.parameters / 1e6 for n in found], "{:.1f}"),
        ("operations per picture, GFLOP", [n.flops / 1e9 for n in found], "{:.2f}"),
        (
            "memory, MB: weights and the largest layer's input and output",
            [n.footprint() / 1e6 for n in found],
            "{:.0f}",
        ),
        ("operations per byte read or written", [n.intensity() for n in found], "{:.1f}"),
    )
    for panel, (title, values, form) in zip(axes.flatten(), bars, strict=True):
        panel.barh(names, values, color="C0", height=0.7)
        panel.set(xscale="log", xlim=(min(values) / 2, max(values) * 3))
        panel.set_title(title, fontsize=9.5)
        panel.invert_yaxis()
        panel.grid(axis="x", alpha=0.25)
        for row, value in enumerate(values):
            note(panel, form.format(value), (value, row), (4, 0), va="center")
    made.suptitle("The networks at batch 1 in fp32; a multiply-accumulate is 2 operations", fontsize=11)
    return png(made)


def bound_map(chips: Sequence[Chip], found: Sequence[Network]) -> bytes:
    """Intensity over ridge of every network on every chip and type at batch 1: under 1 memory-bound."""
    from matplotlib.colors import TwoSlopeNorm

    rows = [(chip, dtype) for chip in chips for dtype in chip.peaks]
    ratios = [[n.intensity(1, BYTES[dtype]) / chip.ridge(dtype) for n in found] for chip, dtype in rows]
    made, axes = figure(1, 1, (11, 0.235 * len(rows) + 2))
    panel = axes[0, 0]
    logs = [[math.log10(ratio) for ratio in row] for row in ratios]
    panel.imshow(logs, cmap="RdBu", norm=TwoSlopeNorm(0, -2.5, 2.5), aspect="auto")
    for y, row in enumerate(ratios):
        for x, ratio in enumerate(row):
            digits = ".0f" if ratio >= 10 else ".3g" if 0.95 < ratio < 1.05 else ".2g"
            text, color = (
                f"{'C' if ratio >= 1 else 'M'} {ratio:{digits}}",
                "white" if abs(logs[y][x]) > 1.6 else "black",
            )
            panel.text(x, y, text, ha="center", va="center", fontsize=7, color=color)
    panel.set_xticks(range(len(found)), [n.name for n in found], rotation=35, ha="left", fontsize=8)
    panel.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    panel.set_yticks(range(len(rows)), [f"{chip.short} {dtype}" for chip, dtype in rows], fontsize=7.5)
    panel.set_xlabel(
        "M: memory-bound, C: compute-bound, batch 1; the number is the network's operations per byte over "
        "the chip's ridge"
    )
    return png(made)


def networks_on_chips(
    chips: Sequence[Chip], found: Sequence[Network], here: Mapping[str, float], boards: Sequence[BoardModel]
) -> bytes:
    """Rooflines with every network at its intensity, this machine (peak, bandwidth) and the board's models with
    them."""
    made, axes = figure(1, 1, (12, 7.5))
    panel = axes[0, 0]
    left, right = 0.5, 600.0
    lines = [(f"{chip.short} {dtype}", chip.peaks[dtype].value, chip.bandwidth.value) for chip, dtype in _chosen(chips)]
    if here:
        lines.append(("this machine fp32, measured", here["peak"], here["bandwidth"]))
    ends = []
    for number, (name, peak, bandwidth) in enumerate(lines):
        color = f"C{number % 10}"
        ridge = peak / bandwidth
        panel.plot([left, ridge, right], [left * bandwidth, peak, peak], color=color, linewidth=1.6)
        if "fp32" in name:
            heights = [min(peak, n.intensity() * bandwidth) for n in found]
            panel.plot([n.intensity() for n in found], heights, ".", color=color, markersize=7)
        ends.append((right, peak, f"{name}, {units(peak, 'OP/s')}", color))
    about = "operations per byte; networks: fp32 at batch 1, dots on the fp32 roofs"
    log_axes(panel, about, "operations per second", xlim=(left, right), ylim=(2e6, 2e15))
    panel.grid(alpha=0.2)
    end_labels(panel, ends, 0.035, 8)
    _names_on_top(panel, found, left, right)
    for mark, model in zip("*PXD", boards, strict=False):
        panel.plot(
            [layer.intensity for layer in model.layers],
            [layer.operations_per_second for layer in model.layers],
            mark,
            markersize=5,
            color="black",
            markerfacecolor="none",
            linestyle="none",
            label=f"layers of {model.name} on the Nano 33 BLE, int8{', modelled' if model.modelled else ''}",
        )
    if boards:
        panel.legend(loc="lower right", fontsize=8)
    return png(made)


def _chosen(chips: Sequence[Chip]) -> list[tuple[Chip, str]]:
    every = {f"{chip.short} {dtype}": (chip, dtype) for chip in chips for dtype in chip.peaks}
    fp32 = (f"{name} fp32" for name in ("H100", "T4", "EPYC 9654", "Jetson Nano", "Apple M1", "STM32H743", "nRF52840"))
    return [every[name] for name in ("TPU v4 bf16", *fp32, "nRF52840 int8") if name in every]


def _names_on_top(panel: Any, found: Sequence[Network], left: float, right: float) -> None:
    width = math.log10(right / left)
    places = spread_out([math.log10(n.intensity() / left) / width for n in found], 0.022)
    for network, place in zip(found, places, strict=True):
        exact = math.log10(network.intensity() / left) / width
        panel.axvline(network.intensity(), color="grey", linewidth=0.6, alpha=0.5, zorder=0)
        panel.annotate(
            network.name,
            (exact, 1),
            (place, 1.04),
            xycoords="axes fraction",
            textcoords="axes fraction",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )


def layer_intensities(found: Sequence[Network], ridge: float | None) -> bytes:
    """Operations per byte of every layer that computes, a column per network."""
    made, axes = figure(1, 1, (12, 5.5))
    panel = axes[0, 0]
    for number, kind in enumerate(
        kind for kind in LAYER_KINDS if any(x.flops and x.kind == kind for n in found for x in n.layers)
    ):
        points = [
            (column + 0.22 * (number - 1), layer.intensity())
            for column, n in enumerate(found)
            for layer in n.layers
            if layer.flops and layer.kind == kind
        ]
        panel.plot([x for x, _ in points], [y for _, y in points], MARKS[number], markersize=4, alpha=0.45, label=kind)
    for column, network in enumerate(found):
        panel.plot(
            [column - 0.4, column + 0.4],
            [network.intensity()] * 2,
            color="black",
            linewidth=2,
            label="whole network, layers without operations too" if column == 0 else None,
        )
    if ridge:
        panel.axhline(ridge, color="C3", linestyle="--", label=f"ridge of this machine, fp32: {ridge:.3g}")
    panel.set_xticks(range(len(found)), [n.name for n in found], rotation=20, ha="right")
    panel.set(yscale="log", ylabel="operations per byte, fp32, batch 1", title="Layer by layer")
    panel.grid(axis="y", alpha=0.25)
    made.legend(fontsize=8, loc="outside lower center", ncols=5)
    return png(made)
