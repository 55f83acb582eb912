"""Which layers' constants are copied to RAM at start: the chip waits for every word that is loaded from flash, and a
convolution loads each of its weights many times (docs/chip.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.structs import Channels, Kernel, members
from converter.aot.kernels.weight_tables import table_of
from converter.arrays import Int8, Int32
from converter.graph import Graph

BUDGET, LEAST_USES = 64 << 10, 4  # without a wish: bytes; products of each byte of a layer's constants in a window


def layers_in_ram(graph: Graph, kernels: Sequence[Kernel | None], arena_bytes: int, budget: int | None) -> set[int]:
    """Numbers of the layers whose constants fit in `budget` bytes of RAM beside the engine's code and arena; the layer
    that uses each of its bytes for the most products goes first. budget None: BUDGET, for layers of LEAST_USES only."""
    needed = arena_bytes + _code_bytes(kernels)
    needed += sum(4 * table.words for kernel in kernels if (table := table_of(kernel)) and table.offset is None)
    left = (BUDGET if budget is None else budget) - needed
    least = LEAST_USES if budget is None else 0
    costs = [layer.cost(graph).macs for layer in graph.layers]
    sizes = [constant_bytes(kernel) if kernel else 0 for kernel in kernels]
    chosen: set[int] = set()
    for number in sorted((n for n, size in enumerate(sizes) if size), key=lambda n: (-costs[n] / sizes[n], n)):
        if costs[number] > least * sizes[number] and sizes[number] <= left:
            chosen.add(number)
            left -= sizes[number]
    return chosen


def constant_bytes(kernel: Kernel) -> int:
    """Bytes of the tables that may lie in either memory."""
    return sum(value.nbytes if isinstance(value, np.ndarray) else 3 * value.bias.nbytes for value in _tables(kernel))


def _tables(kernel: Kernel) -> Iterator[Int8 | Int32 | Channels]:
    for _, value in members(kernel.layer):
        if isinstance(value, (np.ndarray, Channels)):
            yield value


def _code_bytes(kernels: Sequence[Kernel | None]) -> int:
    """Of the routines in RAM at most: four for each of their lines."""
    routines = {
        routine.name: 4 * len(routine.lines)
        for kernel in kernels
        if kernel
        for _, value in members(kernel.layer)
        if isinstance(value, AsmCode)
        for routine in value.routines
    }
    return sum(routines.values())
