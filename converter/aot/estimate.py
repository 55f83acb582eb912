"""What a model will take on the board, before anything is built or run: expected cycles, flash and RAM, by layer and of
the whole firmware with engine aot.

Cycles and code come from the tables of converter/aot/cycles.py; constants, arena and placement are the converter's own
plan, so exact. How far the figures are off the board's: docs/estimates.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from converter.aot.cycles import Terms, kernel_costs, layer_cycles
from converter.aot.emit import PlannedEngine, plan_engine
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.structs import Sums, members
from converter.aot.kernels.weight_tables import bytes_apart, movable_bytes, stored
from converter.aot.memory_plan import bytes_alive
from converter.commands import cli
from converter.graph import Graph
from converter.target import NRF52840

STACK_BYTES = 16 << 10  # of firmware/bare/nrf52840.ld
RECORD_BYTES = 16  # engine_layer_record


@dataclass(frozen=True)
class LayerEstimate:
    """One layer: expected cycles of a whole window, bytes of its constants in flash, bytes of RAM that activations and
    scratch take while it runs, and the C function ("" where nothing is computed)."""

    name: str
    operator: str
    output_shape: tuple[int, ...]
    macs: int
    cycles: int
    flash_bytes: int
    ram_bytes: int
    kernel: str


@dataclass(frozen=True)
class Estimate:
    """Of a model on the board. flash_bytes and ram_bytes are the whole firmware's, RAM without stack, as `host profile`
    gives them; arena_bytes is the part of RAM for activations and scratch."""

    layers: tuple[LayerEstimate, ...]
    flash_bytes: int
    ram_bytes: int
    arena_bytes: int

    @property
    def cycles(self) -> int:
        """Of an inference on a whole window."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        """Of an inference on a whole window."""
        return sum(layer.macs for layer in self.layers)

    @property
    def ms(self) -> float:
        """Milliseconds of an inference."""
        return 1000 * self.cycles / NRF52840.clock_hz

    @property
    def fits(self) -> bool:
        """Whether flash, and RAM with the stack, hold it."""
        return self.flash_bytes <= NRF52840.flash_bytes and self.ram_bytes + STACK_BYTES <= NRF52840.ram_bytes

    def __str__(self) -> str:
        """One line.

        >>> print(Estimate((), 60_000, 50_000, 7_000))
        0 cycles an inference (0.0 ms), 60,000 B of flash, 50,000 B of RAM (7,000 B of it arena): fits the board
        """
        found = "fits the board" if self.fits else "does not fit the board"
        return (
            f"{self.cycles:,} cycles an inference ({self.ms:.1f} ms), {self.flash_bytes:,} B of flash, "
            f"{self.ram_bytes:,} B of RAM ({self.arena_bytes:,} B of it arena): {found}"
        )


def estimate(graph: Graph, hop_frames: int | None = None) -> Estimate:
    """Of a checked graph; hop_frames: of a model that listens, as Source.hop_frames has it."""
    engine = plan_engine(graph, hop_frames=hop_frames)
    alive = bytes_alive(graph, engine.scratches)
    layers = tuple(
        LayerEstimate(
            layer.name,
            layer.TFLITE.name,
            graph.tensors[layer.output].shape,
            layer.cost(graph).macs,
            round(layer_cycles(kernel, number in engine.in_ram)),
            stored(kernel)[1] if kernel else 0,
            alive[number],
            kernel.function if kernel else "",
        )
        for number, (layer, kernel) in enumerate(zip(graph.layers, engine.kernels, strict=True))
    )
    firmware, suffix = kernel_costs().firmware, " that listens" if graph.spec_json else ""
    parts = engine_figures(engine), firmware_terms(graph), (firmware[f"flash{suffix}"], firmware[f"ram{suffix}"])
    flash, ram = (sum(of) for of in zip(*parts, strict=True))
    return Estimate(layers, round(flash), round(ram), engine.plan.arena_bytes)


@dataclass(frozen=True)
class EngineBytes:
    """What is known of an engine's bytes: constants in flash, all RAM but that of routines, instructions of these."""

    constants: int
    ram: int
    instructions: int


def engine_bytes(engine: PlannedEngine) -> EngineBytes:
    """Of a planned engine."""
    kernels = [kernel for kernel in engine.final_kernels if kernel]
    kept = sum(4 * value.words for kernel in kernels for _, value in members(kernel.layer) if isinstance(value, Sums))
    moved = sum(movable_bytes(engine.kernels[number]) for number in engine.in_ram)
    codes = [value for kernel in kernels for _, value in members(kernel.layer) if isinstance(value, AsmCode)]
    routines = {routine.name: routine for code in codes for routine in code.routines}.values()
    return EngineBytes(
        sum(stored(kernel)[1] for kernel in kernels),
        engine.plan.arena_bytes + bytes_apart(engine.kernels) + moved + kept,
        sum(not line.startswith("@") and not line.endswith(":") for one in routines for line in one.lines),
    )


def engine_figures(engine: PlannedEngine) -> tuple[float, float]:
    """Bytes of flash and of RAM that the engine alone takes."""
    code, known = kernel_costs().code, engine_bytes(engine)
    flash = known.constants + sum(code.get(term, 0.0) * count for term, count in engine_terms(engine).items())
    return flash, known.ram + code["instruction"] * known.instructions


def engine_terms(engine: PlannedEngine) -> Terms:
    """What the engine's code consists of: kernels of C, once each, instructions of routines, and calls of layers,
    which a stream makes a second time."""
    kernels = [kernel for kernel in engine.kernels if kernel]
    calls = len(kernels) * (2 if engine.stream else 1)
    once = dict.fromkeys(sorted({kernel.function for kernel in kernels}), 1.0)
    return {"": 1.0, "layer": calls, "instruction": engine_bytes(engine).instructions, **once}


def firmware_terms(graph: Graph) -> tuple[float, float]:
    """Bytes of flash and RAM outside of the engine that depend on the model: names and records of its layers, the
    buffers of its inputs, of which a listening firmware has two more for its windows."""
    inputs = graph.tensors[graph.input].size * (3 if graph.spec_json else 1)
    names = sum(len(layer.name) + 1 for layer in graph.layers)
    return float(names), float(inputs + RECORD_BYTES * len(graph.layers))


def to_json(found: Estimate) -> dict[str, Any]:
    """All figures, and the rows of the layers."""
    totals = {name: getattr(found, name) for name in ("cycles", "ms", "macs", "fits")}
    return {**asdict(found), **totals, "engine": "aot"}


def table(found: Estimate, name: str) -> Table:
    """For the terminal: one row per layer, then all; fits in 80 columns."""
    heads = ("layer", "operator", "output", "MAC", "cycles", "flash\nB", "RAM\nB")
    shown = cli.table(f"{name}: compiled, expected on the board", heads, left=("layer", "operator", "output"))
    for row in found.layers:
        shape = "x".join(map(str, row.output_shape[1:]))
        figures = (row.macs, row.cycles, row.flash_bytes, row.ram_bytes)
        shown.add_row(row.name[-14:], row.operator[:17], shape, *(f"{figure:,}" for figure in figures))
    shown.add_section()
    flash = sum(row.flash_bytes for row in found.layers)
    shown.add_row("all", "", "", f"{found.macs:,}", f"{found.cycles:,}", f"{flash:,}", f"{found.arena_bytes:,}")
    shown.caption = "Flash: constants. RAM: activations and scratch while the layer runs; all: the arena."
    return shown
