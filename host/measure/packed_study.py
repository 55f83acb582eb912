"""What low-bit and sparse weights save on the board: the reference model with its weights cut, built and run
at each width and sparsity.

Costs only: cutting the weights of a finished network says nothing about accuracy, which docs/compression.md measures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from converter.aot.emit import engine_kernels
from converter.aot.kernels.weight_tables import stored
from converter.arrays import Float64, Int8
from converter.checked import Fields, Items, Whole, build, rule_of
from converter.convert import load
from converter.files import read_json_object, write_atomic
from converter.graph import Graph, Operator
from converter.operators.conv2d import Conv2D
from converter.operators.fully_connected import FullyConnected
from converter.tensor import QuantParams
from converter.tflite.writer import write_tflite
from host.errors import HostError
from host.link.expected import REFERENCE
from host.measure.model_figures import figures

BITS = (8, 6, 4, 3, 2)
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SPARSITIES_4_BITS = (0.5, 0.7, 0.9)
RUNS, INPUTS = 3, 3


@dataclass(frozen=True)
class Point:
    """Figures of one network: bytes of the engine with its model, cycles of a window and of a 40 ms hop, per layer
    form, bytes, cycles."""

    model_id: str
    bits: int
    sparsity: float
    forms: tuple[str, ...]
    constants: tuple[int, ...]
    engine_flash: int
    engine_ram: int
    image_flash: int
    window_cycles: int
    window_cycles_uncached: int
    hop_cycles: int
    layer_cycles: tuple[int, ...]
    int4_tflite: int


_MANY = Items(Whole(), 2)
_RULE = rule_of(Point)
assert isinstance(_RULE, Fields)
_POINT = Fields({**_RULE.needed, "constants": _MANY, "layer_cycles": _MANY}, closed=True)


def cut(graph: Graph, bits: int, sparsity: float) -> Graph:
    """The same TinyConv with `bits` bits of weights and hidden activations; of the dense layer the smallest share of
    weights is zero."""
    hidden = 1 << bits

    def stretched(quant: QuantParams, factor: float) -> QuantParams:
        scales = tuple(float(np.float32(scale * factor)) for scale in quant.scales)
        return replace(quant, scales=scales) if factor != 1 else quant

    def layer_of(layer: Operator) -> Operator:
        if isinstance(layer, Conv2D):
            weights, step = _few(layer.weights_ohwi, bits)
            return replace(layer, weights_ohwi=weights, weight_quant=stretched(layer.weight_quant, step))
        if isinstance(layer, FullyConnected):
            weights, step = _few(_strongest(layer.weights_oi, sparsity), bits)
            return replace(layer, weights_oi=weights, weight_quant=stretched(layer.weight_quant, step))
        return layer

    between = {layer.output for layer in graph.layers[:-2]}  # all that dense layer and softmax do not write
    tensors = [
        replace(t, quant=replace(stretched(t.quant, 255 / (hidden - 1)), zero_points=(128 - hidden,)))
        if i in between
        else t
        for i, t in enumerate(graph.tensors)
    ]
    return replace(graph, tensors=tuple(tensors), layers=tuple(map(layer_of, graph.layers)))


def _few(weights: Int8, bits: int) -> tuple[Int8, float]:
    """(weights of so many bits, the step in old ones): of 40 steps the one of least squared error, as `trainer
    quantize` chooses them."""
    if bits == 8:
        return weights, 1.0
    top = (1 << (bits - 1)) - 1

    def cut_to(step: float) -> Float64:
        whole: Float64 = np.clip(np.rint(weights / step), -top, top)
        return whole

    steps = [127 * share / (40 * top) for share in range(1, 41)]
    best = min(steps, key=lambda step: float(np.square(cut_to(step) * step - weights).sum()))
    return cut_to(best).astype(np.int8), best


def _strongest(weights: Int8, sparsity: float) -> Int8:
    order = np.argsort(np.abs(weights.astype(np.int64)).ravel(), kind="stable")[: round(sparsity * weights.size)]
    kept = weights.copy().ravel()
    kept[order] = 0
    return kept.reshape(weights.shape)


def measure(graph: Graph, bits: int, sparsity: float, folder: Path) -> Point:
    """Build the network's image, run it on a virtual board, and compare every layer with the reference; HostError where
    one differs."""
    model = folder / "model.tflite"
    write_atomic(model, write_tflite(graph))
    shape = graph.tensors[graph.input].shape
    values = np.random.default_rng(1).integers(-128, 128, (INPUTS, *shape)).astype(np.int8)
    found = figures(model, folder, values, RUNS)
    if found["differences"]:
        raise HostError(f"{folder.name}: a layer on the board differs from the reference")
    kept = [stored(kernel) for kernel in engine_kernels(graph) if kernel]
    return Point(
        model_id=graph.model_id,
        bits=bits,
        sparsity=sparsity,
        forms=tuple(form for form, _ in kept),
        constants=tuple(size for _, size in kept),
        engine_flash=found["engine_flash_bytes"],
        engine_ram=found["engine_ram_bytes"],
        image_flash=found["flash_bytes"],
        window_cycles=found["cycles"],
        window_cycles_uncached=found["cycles_uncached"],
        hop_cycles=found["cycles_stream_hop"],
        layer_cycles=tuple(found["layer_cycles"]),
        int4_tflite=len(write_tflite(graph, int4=True)),
    )


def plan() -> list[tuple[int, float]]:
    """(bits, sparsity) of the table's rows."""
    return [(bits, 0.0) for bits in BITS] + [(8, s) for s in SPARSITIES] + [(4, s) for s in SPARSITIES_4_BITS]


def points(out: Path, tell: Callable[[str], None] = lambda _: None) -> Iterator[Point]:
    """Every width, then every sparsity; what OUT holds already is not measured again."""
    whole = load(REFERENCE).graph
    for bits, sparsity in plan():
        name, graph = f"bits{bits}_zeros{round(100 * sparsity)}", cut(whole, bits, sparsity)
        tell(name)
        file = out / f"{name}.json"
        old = read_json_object(file, _POINT)
        if old and old["model_id"] == graph.model_id:
            yield build(Point, old)
            continue
        point = measure(graph, bits, sparsity, out / name)
        write_atomic(file, (json.dumps(asdict(point), indent=1) + "\n").encode())
        yield point


def markdown(found: list[Point]) -> str:
    """The table of docs/packed.md."""
    lines = [
        "| bits | zeros in the dense layer | convolution, dense stored as | their constants, B | engine with "
        "model: flash, B | RAM, B "
        "| window, cycles | uncached | 40 ms hop | dense layer alone | int4 .tflite, B |",
        "|" + "---|" * 11,
    ]
    for p in found:
        lines.append(
            f"| {p.bits} | {p.sparsity:.0%} | {', '.join(p.forms[:2])} | {p.constants[0]:,} + {p.constants[1]:,} "
            f"| {p.engine_flash:,} | {p.engine_ram:,} | {p.window_cycles:,} | {p.window_cycles_uncached:,} "
            f"| {p.hop_cycles:,} | {p.layer_cycles[-2]:,} | {p.int4_tflite:,} |"
        )
    return "\n".join(lines) + "\n"
