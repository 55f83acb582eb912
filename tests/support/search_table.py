"""A board whose figures need no measuring."""

from __future__ import annotations

from trainer.search.cost import CostTable
from trainer.search.genes import FIRST_KERNELS, KERNELS, WIDTHS

# A made-up board: cycles and bytes of each term, see layer_terms and code_terms.
CYCLES = {"hop": 100.0, "moved": 0.6, "dense 4": 600.0, "dense 4, each": 5.5}
CYCLES |= {f"convolution {taps}": 3000.0 for taps in FIRST_KERNELS}
CYCLES |= {f"convolution {taps}, each": 60.0 + 166 * taps for taps in FIRST_KERNELS}
CYCLES |= {f"depthwise {taps}": 300.0 for taps in KERNELS} | {f"depthwise {t}, each": 2.0 * t for t in KERNELS}
CYCLES |= {f"pointwise {width}": 300.0 + width for width in WIDTHS}
CYCLES |= {f"pointwise {width}, each": 10 + 1.4 * width for width in WIDTHS}
TABLE = CostTable(
    CYCLES,
    {"engine": 3000.0, "layer": 300.0, "instruction": 4.0},
    {"engine": 1000.0, "layer": 20.0, "instruction": 4.0},
)
