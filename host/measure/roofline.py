"""The board's roofline and where each layer of a model stands under it (Williams, Waterman and Patterson, 2009)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.files import write_atomic
from converter.graph import Graph
from converter.size import model_size
from host.errors import HostError
from host.link.protocol import LayerRun


@dataclass(frozen=True)
class Ceiling:
    """What the core can do at most in a cycle, and who says so."""

    name: str
    per_cycle: int
    source: str


# operations: a multiply-accumulate counts 2, as in converter.size
COMPUTE = (
    Ceiling("SMLAD: 2 MAC a cycle", 4, "Cortex-M4 Technical Reference Manual (DDI 0439), 3.3.1: SMLAD, 1 cycle"),
    Ceiling("MLA: 1 MAC a cycle", 2, "Cortex-M4 Technical Reference Manual (DDI 0439), 3.3.1: MLA, 1 cycle"),
)
SRAM = Ceiling(
    "SRAM: 4 bytes a cycle", 4, "nRF52840 Product Specification, memory: 32-bit AHB to the RAM, at the core's 64 MHz"
)


@dataclass(frozen=True)
class Point:
    """A layer: operations and bytes (weights, biases, inputs and output once) from the model, cycles from the board.

    >>> Point("conv", 644_000, 6_632, 300_000, 64_000_000).share_of_roof
    0.5366...
    """

    name: str
    operations: int
    bytes: int
    cycles: int
    clock_hz: int

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.bytes

    @property
    def mops(self) -> float:
        """Million operations a second."""
        return self.operations / self.cycles * self.clock_hz / 1e6

    @property
    def roof_mops(self) -> float:
        """Million operations a second that the chip allows at this intensity."""
        return roof_mops(self.intensity, self.clock_hz)

    @property
    def share_of_roof(self) -> float:
        """0 to 1, over 1 where the rule counts too many bytes."""
        return self.mops / self.roof_mops

    @property
    def bound(self) -> str:
        """What the roof consists of here: memory or compute."""
        return "memory" if self.intensity * SRAM.per_cycle < COMPUTE[0].per_cycle else "compute"

    def to_json(self) -> dict[str, Any]:
        """What `profile --json` writes of it."""
        counted = ("name", "operations", "bytes", "cycles")
        return {
            key: getattr(self, key) for key in (*counted, "intensity", "mops", "roof_mops", "share_of_roof", "bound")
        }


def roof_mops(intensity: float, clock_hz: int) -> float:
    """MOP/s that can be had at most at so many operations a byte.

    >>> roof_mops(0.5, 64_000_000), roof_mops(100, 64_000_000)
    (128.0, 256.0)
    """
    return min(COMPUTE[0].per_cycle, intensity * SRAM.per_cycle) * clock_hz / 1e6


def points(graph: Graph, runs: Sequence[LayerRun], clock_hz: int) -> dict[int, Point]:
    """Index of a layer on the board -> its point; layers without operations (RESHAPE, PAD, SOFTMAX) have none."""
    if len(runs) != len(graph.layers):
        raise HostError(
            f"the board traced {len(runs)} layers, the model has {len(graph.layers)}; flash that model again"
        )
    found = {}
    for run, layer, size in zip(runs, graph.layers, model_size(graph).layers, strict=True):
        if size.operations and run.cycles:
            moved = size.int8_bytes + sum(graph.tensors[index].size for index in (*layer.inputs, layer.output))
            found[run.index] = Point(run.name, size.operations, moved, run.cycles, clock_hz)
    return found


def whole(found: Sequence[Point]) -> Point:
    """All layers, one after the other, as one point."""
    operations, moved, cycles = (sum(getattr(p, key) for p in found) for key in ("operations", "bytes", "cycles"))
    return Point("all", operations, moved, cycles, found[0].clock_hz)


def plot(found: dict[int, Point], title: str, file: Path) -> None:
    """A PNG on log axes: roof, lower ceiling, a numbered mark per layer (those that coincide share mark and label) and
    their names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not found:
        raise HostError("--plot: no layer of this model does arithmetic, so there is nothing to draw")
    figure = Figure(figsize=(9, 4.8), dpi=110, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    left = min(0.25, *(p.intensity / 2 for p in found.values()))
    right = max(8.0, *(p.intensity * 3 for p in found.values()))
    clock = next(iter(found.values())).clock_hz
    bottom = min(roof_mops(left, clock), *(p.mops for p in found.values())) / 2
    axes.set(xscale="log", yscale="log", title=title, ylabel="MOP/s")
    axes.set(xlim=(left, right), ylim=(bottom, 2 * COMPUTE[0].per_cycle * clock / 1e6))
    axes.set_xlabel("operations per byte (weights, input and output once)")
    _plain_ticks(axes)
    for color, group in enumerate(groups(found)):
        for index in group:
            point = found[index]
            label = f"{index}  {short(point.name)}: {point.mops:.0f} MOP/s, {100 * point.share_of_roof:.0f} %"
            axes.plot(point.intensity, point.mops, "o", color=f"C{color % 10}", label=label)
        first = found[group[0]]
        close_above = any(1.01 < other.mops / first.mops < 1.2 for other in found.values())
        text, at = ", ".join(map(str, group)), (first.intensity, first.mops)
        _note(axes, text, at, (7, -10 if close_above else -3), fontsize=9)
    handles = axes.get_legend_handles_labels()
    in_order = zip(*sorted(zip(*handles, strict=True), key=lambda item: int(item[1].split()[0])), strict=True)
    look = {"fontsize": 8, "title": "layer, speed, share of its roof", "title_fontsize": 8, "frameon": False}
    figure.legend(*in_order, loc="outside right upper", **look)
    _draw_roof(axes, (left, right), clock, list(found.values()), canvas)
    picture = io.BytesIO()
    canvas.print_png(picture, metadata={"Software": None})
    write_atomic(file, picture.getvalue())


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=30))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(True, alpha=0.25)


def _note(axes: Any, text: str, at: tuple[float, float], shift: tuple[float, float], **more: Any) -> None:
    axes.annotate(text, at, shift, textcoords="offset points", **{"fontsize": 8, **more})


def _draw_roof(axes: Any, x_range: tuple[float, float], clock_hz: int, found: list[Point], canvas: Any) -> None:
    left, right = x_range
    ridge = COMPUTE[0].per_cycle / SRAM.per_cycle
    axes.plot([left, ridge, right], [roof_mops(x, clock_hz) for x in (left, ridge, right)], color="black", linewidth=2)
    lower = COMPUTE[1].per_cycle
    axes.plot([lower / SRAM.per_cycle, right], [lower * clock_hz / 1e6] * 2, color="grey", linestyle="--")
    for ceiling in COMPUTE:
        mops = ceiling.per_cycle * clock_hz / 1e6
        near = [p.intensity for p in found if 0.8 < p.mops / mops < 1.4]
        at_left = not near or min(near) > (ridge * right) ** 0.5  # the text keeps out of the marks' way
        x, shift, side = (ridge, 8, "left") if at_left else (right, -6, "right")
        _note(axes, f"{ceiling.name}, {mops:.0f} MOP/s", (x, mops), (shift, 4), ha=side)
    canvas.draw()  # settles the layout, and with it the slope on paper
    middle = (left * ridge) ** 0.5
    (x0, y0), (x1, y1) = axes.transData.transform([(x, roof_mops(x, clock_hz)) for x in (left, ridge)])
    angle = math.atan2(y1 - y0, x1 - x0)
    text, at = f"SRAM, {SRAM.per_cycle * clock_hz / 1e6:.0f} MB/s", (middle, roof_mops(middle, clock_hz))
    turned = {"ha": "center", "va": "center", "rotation": math.degrees(angle), "rotation_mode": "anchor"}
    _note(axes, text, at, (-12 * math.sin(angle), 12 * math.cos(angle)), **turned)


def short(name: str) -> str:
    """The telling end of a long layer name.

    >>> short("functional_1/activation/Relu;functional_1/batch/add"), short("conv")
    ('activation/Relu', 'conv')
    """
    return "/".join(name.split(";")[0].split("/")[-2:])[-26:]


def groups(found: dict[int, Point]) -> list[list[int]]:
    """Indices of points that lie within 12 % of the first of their group on both axes, by index."""
    made: list[list[int]] = []
    for index, point in found.items():
        for group in made:
            other = found[group[0]]
            if max(abs(math.log(point.intensity / other.intensity)), abs(math.log(point.mops / other.mops))) < 0.12:
                group.append(index)
                break
        else:
            made.append([index])
    return made
