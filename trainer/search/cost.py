"""Cycles of a streaming hop, flash and RAM of a chain before it is trained: from a table of layers that were run on the
virtual board, and from the converter's own memory plan and generated code.

A kernel's cycles depend on its shape in steps (groups of taps, of inputs), so the table has a row for each number of
taps and of inputs that the search knows. Over the output channels its loop is the same pass again and again, and bytes
that move cost the same each: only there the table is a straight line. The probe graphs have many stages, so that few
images show every row. The table is kept by a hash of all sources that decide it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from converter.aot.emit import engine_kernels, engine_memory, render_aot
from converter.aot.kernels.asm import AsmCode, Routine
from converter.aot.kernels.structs import Kernel
from converter.aot.lower import lower_layer
from converter.arrays import Int8, Int32, Json
from converter.checked import Fields, Real, build, rule_of
from converter.convert import Source, render, write_all
from converter.files import read_json_object, scratch_folder, write_json
from converter.graph import Graph, Operator
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.reshape import Reshape
from converter.operators.windows import output_size
from converter.spec import DetectorSpec, KwsSpec
from converter.tensor import QuantParams, Tensor
from trainer.errors import TrainerError
from trainer.search.genes import FIRST_KERNELS, KERNELS, SEEDS, WIDTHS, Genes

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("firmware/lib/nn/*.[ch]", "firmware/bare/*", "converter/aot/**/*.py", "host/emulator/cycles/*")
PROBES, PROBE_STAGES = 8, 7
HELD_OUT = Genes((5, 7, 9, 5), (72, 56, 96, 40)), Genes((3, 13, 3), (40, 112, 24))  # not in the table
SPOTTER = SEEDS["spotter"]  # gives what the whole firmware adds
LARGEST_ERROR = 0.03
Terms = dict[str, float]
Measure = Callable[..., Json]  # (generated files, layers) -> cycles of a hop by layer, and bytes


@dataclass(frozen=True)
class Cost:
    """Of a chain on the board: cycles of a hop, bytes of the engine with its model."""

    hop_cycles: int
    flash: int
    ram: int


@dataclass(frozen=True)
class CostTable:
    """Coefficients of the terms of layers (cycles) and of the code (bytes of flash and of RAM); see layer_terms and
    code_terms."""

    cycles: Terms
    flash: Terms
    ram: Terms

    def estimate(self, genes: Genes, spec: KwsSpec) -> Cost:
        """Cycles of a hop; bytes of flash and RAM that it takes at most, see code_terms."""
        graph = chain_graph(genes, spec)
        return self.of(graph, _similar_kernels(graph), shared=False)

    def of(self, graph: Graph, kernels: Sequence[Kernel | None], shared: bool) -> Cost:
        """Of a chain's graph and its kernels."""
        cycles = self.cycles["hop"] + sum(_dot(self.cycles, terms) for terms in layer_terms(graph))
        constants, arena = engine_memory(graph, kernels, DetectorSpec.hop_frames)
        code = code_terms(kernels, shared)
        return Cost(round(cycles), round(constants + _dot(self.flash, code)), round(arena + _dot(self.ram, code)))


_lowered: dict[tuple[object, ...], Kernel | None] = {}


def _similar_kernels(graph: Graph) -> list[Kernel | None]:
    """For each layer a kernel of equal size: one that was made for the same shape of weights before, if there is."""
    found = []
    for layer in graph.layers:
        key = type(layer), layer.weights.values.shape if layer.weights else None
        if key not in _lowered:
            _lowered[key] = lower_layer(graph, layer)
        found.append(_lowered[key])
    return found


def chain_graph(genes: Genes, spec: KwsSpec, frames: int | None = None, seed: int = 0) -> Graph:
    """An untrained network of these genes as the engine gets it: weights are noise, on which no cycle depends."""
    rng, features = np.random.default_rng(seed), spec.features
    spec_json = spec.to_json() if frames is None else ""
    rows = features.frames if frames is None else frames
    tensors = [
        Tensor("features", (1, rows, features.channels, 1), QuantParams((features.scale,), (features.zero_point,)))
    ]
    layers: list[Operator] = []

    def noise(shape: tuple[int, ...], outputs: int, axis: int | None) -> tuple[Int8, QuantParams, Int32]:
        scales = tuple(float(np.float32(s)) for s in rng.uniform(0.004, 0.008, outputs if axis is not None else 1))
        bias = rng.integers(-2000, 2000, outputs).astype(np.int32)
        return rng.integers(-127, 128, shape).astype(np.int8), QuantParams(scales, (0,) * len(scales), axis), bias

    def add(name: str, shape: tuple[int, ...], zero_point: int = -128) -> tuple[str, int, int]:
        tensors.append(Tensor(name, shape, QuantParams((float(np.float32(0.1)),), (zero_point,))))
        return name, len(tensors) - 2, len(tensors) - 1

    rows, width = output_size(rows, genes.kernels[0], 2, "VALID"), genes.widths[0]
    weights = noise((width, genes.kernels[0], features.channels, 1), width, 0)
    layers.append(Conv2D(*add("conv", (1, rows, 1, width)), *weights, (2, 1), "VALID", "RELU"))
    for stage, (taps, outputs) in enumerate(zip(genes.kernels[1:], genes.widths[1:], strict=True)):
        rows = output_size(rows, taps, 1, "VALID")
        name = add(f"depthwise{stage}", (1, rows, 1, width))
        layers.append(DepthwiseConv2D(*name, *noise((1, taps, 1, width), width, 3), 1, (1, 1), "VALID", "RELU"))
        name = add(f"pointwise{stage}", (1, rows, 1, outputs))
        layers.append(Conv2D(*name, *noise((outputs, 1, 1, width), outputs, 0), (1, 1), "VALID", "RELU"))
        width = outputs
    layers.append(Reshape(*add("flat", (1, rows * width))))
    weights, labels = noise((len(spec.labels), rows * width), len(spec.labels), None), len(spec.labels)
    layers.append(FullyConnected(*add("logits", (1, labels), 0), *weights, "NONE"))
    return Graph(tuple(tensors), tuple(layers), 0, len(tensors) - 1, spec_json)


def layer_terms(graph: Graph) -> list[Terms]:
    """What every layer of a chain consists of. One whose output is kept for the next one also moves the rows of the hop
    before: "moved" bytes."""
    found = []
    layers = [layer for layer in graph.layers if not isinstance(layer, Reshape)]
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, FullyConnected):
            outputs, inputs = layer.weights_oi.shape
            found.append(_line(f"dense {outputs}", inputs))
            continue
        _, rows, _, width = graph.tensors[layer.output].shape
        if isinstance(layer, DepthwiseConv2D):
            found.append(_line(f"depthwise {layer.weights_1hwc.shape[1]}", width))
            continue
        assert isinstance(layer, Conv2D)
        _, taps, _, inputs = layer.weights_ohwi.shape
        kernel = f"convolution {taps}" if inputs == 1 else f"pointwise {inputs}"
        read = after.weights_1hwc.shape[1] if isinstance(after, DepthwiseConv2D) else rows
        found.append({**_line(kernel, width), "moved": (read - 1) * width})
    return found


def _line(kernel: str, size: int) -> Terms:
    return {kernel: 1, f"{kernel}, each": size}


def code_terms(kernels: Sequence[Kernel | None], shared: bool) -> Terms:
    """What the engine's code consists of. Layers of one shape share a routine where their trained scales round alike,
    which nobody knows before: if not `shared`, every layer is taken to have its own."""
    layers = [kernel.layer for kernel in kernels if kernel]
    codes = [code for layer in layers if isinstance(code := getattr(layer, "code", None), AsmCode)]
    routines: list[Routine] = [routine for code in codes for routine in code.routines]
    counted = {routine.name: routine for routine in routines}.values() if shared else routines
    instructions = sum(not line.startswith("@") and not line.endswith(":") for one in counted for line in one.lines)
    return {"engine": 1, "layer": len(layers), "instruction": instructions}


def _dot(table: Terms, terms: Terms) -> float:
    return sum(table[name] * count for name, count in terms.items())


def cost_table(
    spec: KwsSpec, measure: Measure, firmware: Callable[[Path], Json], cache: Path
) -> tuple[CostTable, float]:
    """The table, and its largest relative error of a hop's cycles, flash and RAM in the whole firmware of HELD_OUT;
    measured once for these sources. Raises TrainerError above LARGEST_ERROR."""
    file = cache / f"hop-cost-{sources_hash(len(spec.labels))}.json"
    if kept := read_json_object(file, Fields({"table": rule_of(CostTable), "error": Real()})):
        table, error = build(CostTable, kept["table"]), float(kept["error"])
    else:
        table = _make_table(spec, measure, firmware)
        error = max(table_error(table, genes, spec, firmware) for genes in HELD_OUT)
        found = {"table": asdict(table), "error": error}
        write_json(file, found)
    if error > LARGEST_ERROR:
        raise TrainerError(
            f"{file}: the cost table is {100 * error:.1f} % off a network it was not made from, at most "
            f"{100 * LARGEST_ERROR:.0f} % are allowed; its terms in trainer/search/cost.py do not fit these kernels"
        )
    return table, error


def table_error(table: CostTable, genes: Genes, spec: KwsSpec, firmware: Callable[[Path], Json]) -> float:
    """The largest relative error of a chain's hop, flash and RAM, against the whole firmware."""
    graph = chain_graph(genes, spec)
    cost = table.of(graph, engine_kernels(graph), shared=True)
    found = _on_board(render(Source(graph, "chain"), ram_budget=0), firmware)
    pairs = (cost.hop_cycles, found["hop"]), (cost.flash, found["flash"]), (cost.ram, found["ram"])
    return max(abs(guess / float(value) - 1) for guess, value in pairs)


def sources_hash(labels: int) -> str:
    """16 hex digits of the kernels, their generators, the cycle model, this file, and the labels of the last layer."""
    digest = hashlib.sha256(str(labels).encode())
    for pattern in (*SOURCES, "trainer/search/cost.py", "trainer/search/genes.py"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _make_table(spec: KwsSpec, measure: Measure, firmware: Callable[[Path], Json]) -> CostTable:
    cycles: list[tuple[Terms, float]] = []
    flash: list[tuple[Terms, float]] = []
    ram: list[tuple[Terms, float]] = []
    for genes in probes():
        frames = 2 * sum(kernel - 1 for kernel in genes.kernels[1:]) + genes.kernels[0] + 6
        graph = chain_graph(genes, spec, frames)
        text = render_aot(graph, hop_frames=DetectorSpec.hop_frames)
        files = {name: part.encode() for name, part in text.items()}
        found = _on_board(files, partial(measure, layers=len(graph.layers)))
        taken = [c for layer, c in zip(graph.layers, found["layers"], strict=True) if not isinstance(layer, Reshape)]
        cycles += zip(layer_terms(graph), taken, strict=True)
        kernels = engine_kernels(graph)
        (constants, arena), code = engine_memory(graph, kernels, DetectorSpec.hop_frames), code_terms(kernels, True)
        flash.append((code, found["flash"] - constants))
        ram.append((code, found["ram"] - arena))
    table = CostTable({**_fitted(cycles), "hop": 0.0}, _fitted(flash), _fitted(ram))
    graph = chain_graph(SPOTTER, spec)
    cost = table.of(graph, engine_kernels(graph), shared=True)
    whole = _on_board(render(Source(graph, "chain"), ram_budget=0), firmware)
    table.cycles["hop"] = float(whole["hop"] - cost.hop_cycles)
    table.flash["engine"] += whole["flash"] - cost.flash
    table.ram["engine"] += whole["ram"] - cost.ram
    return table


def probes() -> list[Genes]:
    """Chains that show every kernel of the search, and every number of inputs of a pointwise convolution, at two widths
    and more, far from each other."""
    count = len(WIDTHS)
    # round all widths in steps of 11, 7, 2 and 8: in each round another one follows
    wheel = [WIDTHS[place * step % count] for step in (11, 7, 2, 8) for place in range(count)]
    found = []
    for number in range(PROBES):
        start, stop = number * PROBE_STAGES, (number + 1) * PROBE_STAGES
        stages = range(
            start - number % 2, stop - (number + 1) % 2
        )  # one less and one more in turn, for the code's terms
        first = FIRST_KERNELS[number % len(FIRST_KERNELS)], (WIDTHS[0], WIDTHS[-1])[number // len(FIRST_KERNELS)]
        kernels = first[0], *(KERNELS[(stage + number) % len(KERNELS)] for stage in stages)
        found.append(Genes(kernels, (first[1], *(wheel[stage] for stage in stages))))
    return found


def _on_board(files: dict[str, bytes], measure: Callable[[Path], Json]) -> Json:
    with scratch_folder() as name:
        write_all(files, name / "firmware")
        return measure(name / "firmware")


def _fitted(samples: Sequence[tuple[Terms, float]]) -> Terms:
    """Least squares of relative errors."""
    names = sorted({name for terms, _ in samples for name in terms})
    counts = np.array([[terms.get(name, 0) / value for name in names] for terms, value in samples])
    found = np.linalg.lstsq(counts, np.ones(len(samples)), rcond=None)[0]
    return {name: float(value) for name, value in zip(names, found, strict=True)}
