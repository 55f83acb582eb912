"""Which layers' constants are copied to RAM at start: the chip waits for every word that is loaded from flash, and a
convolution loads each of its weights many times (docs/chip.md)."""

from __future__ import annotations

from collections.abc import Sequence

from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.structs import Kernel, members
from converter.aot.kernels.weight_tables import bytes_apart, movable_bytes
from converter.graph import Graph

BUDGET, LEAST_USES = 64 << 10, 4  # without a wish: bytes; products of each byte of a layer's constants in a window


def layers_in_ram(graph: Graph, kernels: Sequence[Kernel | None], arena_bytes: int, budget: int | None) -> set[int]:
    """Numbers of the layers whose constants fit in `budget` bytes of RAM beside the engine's code and arena; the layer
    that uses each of its bytes for the most products goes first. budget None: BUDGET, for layers of LEAST_USES only."""
    left = (BUDGET if budget is None else budget) - arena_bytes - bytes_apart(kernels) - _code_bytes(kernels)
    least = LEAST_USES if budget is None else 0
    costs = [layer.cost(graph).macs for layer in graph.layers]
    sizes = [movable_bytes(kernel) for kernel in kernels]
    chosen: set[int] = set()
    for number in sorted((n for n, size in enumerate(sizes) if size), key=lambda n: (-costs[n] / sizes[n], n)):
        if costs[number] > least * sizes[number] and sizes[number] <= left:
            chosen.add(number)
            left -= sizes[number]
    return chosen


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
