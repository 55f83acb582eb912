"""The tables of converter/aot/cycles.py, measured: each layer of the probes by its expected cycles on a virtual board
that runs nothing else, the code of each kernel by the symbols of its image, and what the whole firmware adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import MARKDOWN
from rich.table import Table

from converter.aot.cycles import KernelCosts, Terms, work
from converter.aot.emit import PlannedEngine, plan_engine, render_aot
from converter.aot.estimate import engine_bytes, engine_figures, engine_terms, estimate, firmware_terms
from converter.convert import Source, load, render, write_all
from converter.files import scratch_folder
from converter.graph import Graph
from host.costs.kernel_probes import probes
from host.emulator.board import VirtualBoard
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import ROOT, build_bare, build_firmware, compile_objects
from host.link.client import Board
from host.measure.image_size import ENGINE, part_sizes
from host.measure.profile import profile

RUNS = 2
SMALL = 200  # cycles: errors of calls that take fewer hardly count
LIB = ROOT / "firmware" / "lib" / "nn"
PROGRAM = """\
#include "board.h"
#include "model_aot.h"

volatile uint32_t done, layer_cycles[MODEL_AOT_LAYERS];
static uint32_t started;

static void after_layer(int layer, const char *name, const int8_t *output, uint32_t bytes)
{
    (void)name, (void)output, (void)bytes;
    layer_cycles[layer] = board_cycles() - started;
    started = board_cycles();
}

int main(void)
{
    board_init();
    for (int run = 0; run < 2; run++) {  // the second finds what stays in the flash's cache
        started = board_cycles();
        model_aot_run(after_layer);
    }
    for (done = 1;;) {
        __asm__ volatile("wfi");
    }
}
"""


@dataclass(frozen=True)
class Sample:
    """What an image counted: the turns of loops or the parts of code, and their cycles or bytes."""

    name: str
    terms: Terms
    found: float


def measure(progress: Callable[[int], None] = lambda done: None) -> KernelCosts:
    """All tables. Raises BoardError, HostError, ConvertError."""
    cycles: list[Sample] = []
    code: list[Sample] = []
    with scratch_folder() as name:
        objects = compile_objects(sorted(LIB.glob("*.c")), name / "nn", [f"-I{LIB}"])
        for number, graph in enumerate(probes()):
            for budget in (None, 0) if number % 3 == 0 else (None,):
                found, size = probe_samples(graph, budget, objects, name / f"{number}-{budget}")
                cycles += found
                code.append(size)
            progress(number + 1)
    return KernelCosts(cycle_table(cycles), fitted(code, SMALL), _firmware())


def probe_samples(
    graph: Graph, budget: int | None, objects: Sequence[Path], folder: Path
) -> tuple[list[Sample], Sample]:
    """Cycles of the layers of a probe, and the bytes of its engine's code."""
    engine = plan_engine(graph, ram_budget=budget)
    found, elf = _run_alone(graph, render_aot(graph, ram_budget=budget), objects, folder)
    return layer_samples(engine, found), code_sample(engine, elf)


def _run_alone(graph: Graph, texts: dict[str, str], objects: Sequence[Path], folder: Path) -> tuple[list[int], Path]:
    """Cycles by layer of an engine on a virtual board that runs nothing else, and its image."""
    write_all({name: text.encode() for name, text in texts.items()}, folder)
    program = folder / "layers.c"
    program.write_text(PROGRAM)
    flags = [f"-I{folder}", f"-I{LIB}"]
    elf = build_bare([program, folder / "model_aot.c", *objects], folder / "layers.elf", True, flags)
    board = VirtualBoard(elf)
    place = board.image.objects
    if not board.run(60.0, lambda: board.read_word(place["done"].address) != 0):
        raise HostError(f"{folder.name}: an engine was not done after 60 s of the board's time; report this")
    first = place["layer_cycles"].address
    return [board.read_word(first + 4 * number) for number in range(len(graph.layers))], elf


def layer_samples(engine: PlannedEngine, found: Sequence[int]) -> list[Sample]:
    """Of each layer that computes something."""
    return [
        Sample(*work(kernel, number in engine.in_ram), cycles)
        for number, (kernel, cycles) in enumerate(zip(engine.kernels, found, strict=True))
        if kernel
    ]


def code_sample(engine: PlannedEngine, elf: Path) -> Sample:
    """What of the engine's flash is no constant."""
    part = next(part for part in part_sizes(elf) if part.part == ENGINE)
    return Sample("code", engine_terms(engine), part.flash - engine_bytes(engine).constants)


def cycle_table(samples: Iterable[Sample]) -> dict[str, Terms]:
    """Cycles of a turn, by kernel."""
    by_kernel: dict[str, list[Sample]] = {}
    for sample in samples:
        by_kernel.setdefault(sample.name, []).append(sample)
    return {name: fitted(found, SMALL) for name, found in sorted(by_kernel.items())}


def fitted(samples: Sequence[Sample], small: float) -> Terms:
    """Least squares of relative errors, of whose terms none is negative: the most negative one goes until there is
    none. With few samples only the terms that turn most often stay."""
    turns: Terms = {}
    for sample in samples:
        for name, count in sample.terms.items():
            turns[name] = turns.get(name, 0.0) + count
    names = sorted((name for name, count in turns.items() if count), key=lambda name: -turns[name])
    names = names[: max(1, 2 * len(samples) // 3)]
    weights = np.array([1 / (sample.found + small) for sample in samples])
    wanted = np.array([sample.found for sample in samples]) * weights
    while True:
        counts = np.array([[sample.terms.get(name, 0.0) for name in names] for sample in samples]) * weights[:, None]
        sizes = np.abs(counts).max(axis=0)
        scaled = np.linalg.lstsq(counts / sizes, wanted, rcond=1e-9)[0]
        if (scaled >= 0).all():
            return {name: round(float(value), 3) for name, value in sorted(zip(names, scaled / sizes, strict=True))}
        names.pop(int(scaled.argmin()))


def _firmware() -> Terms:
    """Bytes of the sketch and what it stands on: without and with a front end."""
    reference = load(ROOT / "reference")
    others = [Source(graph, "probe") for graph in probes()[:2]]
    with scratch_folder() as name:
        samples = [
            firmware_sample(source, _image(source, name / str(number)))
            for number, source in enumerate([reference, *others])
        ]
    return firmware_table(samples)


def _image(source: Source, folder: Path) -> Path:
    write_all(render(source), folder / "firmware")
    return build_firmware(folder / "firmware", folder / "build")


def firmware_sample(source: Source, elf: Path) -> tuple[bool, float, float]:
    """(whether it listens, bytes of flash and of RAM that neither the engine nor the model's own sizes explain)."""
    parts = [part for part in part_sizes(elf) if part.part != ENGINE]
    flash, ram = firmware_terms(source.graph)
    return bool(source.graph.spec_json), sum(p.flash for p in parts) - flash, sum(p.ram for p in parts) - ram


def firmware_table(samples: Sequence[tuple[bool, float, float]]) -> Terms:
    """The means of both kinds."""
    found: Terms = {}
    for listens, suffix in ((False, ""), (True, " that listens")):
        rows = [row[1:] for row in samples if row[0] == listens]
        found[f"flash{suffix}"], found[f"ram{suffix}"] = (round(sum(of) / len(rows)) for of in zip(*rows, strict=True))
    return found


@dataclass(frozen=True)
class Compared:
    """A model's figures as estimated and as its firmware gave them on the virtual board, and the model's own name."""

    name: str
    estimated: tuple[int, int, int]  # cycles of an inference, bytes of flash, bytes of static RAM
    found: tuple[int, int, int]

    @property
    def errors(self) -> tuple[float, ...]:
        """Relative, of each figure."""
        return tuple(guess / value - 1 for guess, value in zip(self.estimated, self.found, strict=True))


def compare(path: Path) -> Compared:
    """Of a run folder or model: estimated, then converted, built and profiled. Raises ConvertError, BoardError."""
    source = load(path)
    guess = estimate(source.graph, source.hop_frames)
    with scratch_folder() as name:
        elf = _image(source, name)
        with launch(elf) as port, Board(port) as board:
            result = profile(board, RUNS)
            cycles = round(result.stage("inference").min_us * board.identity.clock_hz / 1e6)
    found = (cycles, result.memory.flash, result.memory.static_ram)
    return Compared(path.stem, (guess.cycles, guess.flash_bytes, guess.ram_bytes), found)


def compare_alone(paths: Sequence[Path], progress: Callable[[int], None] = lambda done: None) -> list[Compared]:
    """The same of engines without a firmware, which takes seconds and shows the engines' own bytes."""
    rows = []
    with scratch_folder() as name:
        objects = compile_objects(sorted(LIB.glob("*.c")), name / "nn", [f"-I{LIB}"])
        for number, path in enumerate(paths):
            source = load(path)
            graph, hop_frames = source.graph, source.hop_frames
            texts = render_aot(graph, hop_frames=hop_frames, ram_budget=None)
            cycles, elf = _run_alone(graph, texts, objects, name / str(number))
            part = next(part for part in part_sizes(elf) if part.part == ENGINE)
            flash, ram = engine_figures(plan_engine(graph, hop_frames=hop_frames))
            guess = estimate(graph, hop_frames).cycles, round(flash), round(ram)
            rows.append(Compared(path.stem, guess, (sum(cycles), part.flash, part.ram)))
            progress(number + 1)
    return rows


def compared_table(rows: Sequence[Compared]) -> Table:
    """One row per model, in Markdown's columns: docs/estimates.md holds it."""
    heads = ("model", "cycles", "found", "error", "flash B", "found", "error", "RAM B", "found", "error")
    shown = Table(*heads, box=MARKDOWN)
    for row in rows:
        figures = zip(row.estimated, row.found, row.errors, strict=True)
        shown.add_row(row.name, *(text for g, f, e in figures for text in (f"{g:,}", f"{f:,}", f"{100 * e:+.1f} %")))
    return shown
