"""The benchmark's figures as one picture: expected cycles of each work with their bounds, beside the best elsewhere."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.files import write_atomic

BEST_ELSEWHERE = {  # cycles on a Cortex-M4 with whoever reached them, and how they are known: docs/results.md
    "tinyconv_window_cycles": (2_046_000, "TFLM + CMSIS-NN -O2, modelled"),
    "frontend_slice_cycles": (106_000, "TFLM micro front end -O2, modelled"),
    "dscnn_window_cycles": (5_180_000, "X-CUBE-AI 9.0, measured"),
    "vww_window_cycles": (10_670_000, "ST, MLPerf Tiny v1.2, measured"),
    "resnet8_window_cycles": (19_820_000, "ST, MLPerf Tiny v1.2, measured"),
    "autoencoder_window_cycles": (486_000, "Plumerai, MLPerf Tiny v1.1, measured"),
}
NAMES = {
    "tinyconv_window_cycles": "TinyConv, a window",
    "frontend_slice_cycles": "front end, a 20 ms slice",
    "dscnn_window_cycles": "MLPerf keyword spotting",
    "autoencoder_window_cycles": "MLPerf anomaly detection",
    "resnet8_window_cycles": "MLPerf image classification",
    "vww_window_cycles": "MLPerf visual wake words\n(dead channels left out)",
}
OURS, BEHIND = "#0b6e4f", "#b5651d"  # fewer cycles than the best elsewhere, or more


def plotted(figures: Mapping[str, float]) -> dict[str, list[float]]:
    """Key -> [expected, low, high, elsewhere] cycles of what the picture shows."""
    return {
        key: [figures[key], figures[f"{key}_low"], figures[f"{key}_high"], BEST_ELSEWHERE[key][0]]
        for key in NAMES
        if key in figures
    }


def plot(figures: Mapping[str, float], file: Path) -> None:
    """A PNG, cycles as a share of the best elsewhere; it holds the numbers it shows as JSON in its comment. Raises
    WriteError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = plotted(figures)
    figure = Figure(figsize=(9, 1.1 + 0.5 * len(shown)), dpi=110, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for place, (key, row) in enumerate(shown.items()):
        expected, low, high = (100 * cycles / row[3] for cycles in row[:3])
        spread = [[expected - low], [high - expected]]
        axes.barh(place, expected, 0.6, color=OURS if expected < 100 else BEHIND, xerr=spread, ecolor="#444444")
        said = f"{_short(row[0])} against {_short(row[3])}: {BEST_ELSEWHERE[key][1]}"
        axes.text(max(high, 100) + 3, place, said, va="center", fontsize=9)
    axes.axvline(100, color="#888888", linewidth=1, linestyle="--")
    widest = max(100 * row[2] / row[3] for row in shown.values())
    axes.set(xlim=(0, max(widest, 100) + 265), ylim=(len(shown) - 0.5, -0.5))
    axes.set_yticks(range(len(shown)), [NAMES[key] for key in shown])
    axes.set_xticks(range(0, int(max(widest, 100)) + 1, 25))
    axes.set_xlabel(
        "expected cycles on the Cortex-M4, % of the best elsewhere; lines: every unknown at its best and worst"
    )
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    canvas.print_png(picture, metadata={"Software": None, "Comment": json.dumps(shown)})
    write_atomic(file, picture.getvalue())


def _short(cycles: float) -> str:
    return f"{cycles / 1e6:.3g} M" if cycles >= 1e6 else f"{cycles / 1e3:.3g} k"
