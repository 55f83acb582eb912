"""A generated engine on the virtual board: cycles, ideal and expected ones, and CRC-32 of every layer."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from emulator_bare import BARE, build, results_of, run_to_finish
from kernels_on_host import NN, ROOT, SOURCES

from converter import reference
from converter.aot.c_text import wrapped
from converter.aot.emit import render_aot
from converter.arrays import Int8
from converter.graph import Graph
from host.emulator.cycles.timing import EXPECTED

SRC = ROOT / "firmware" / "src"


PROGRAM = """
#include "board.h"
#include "engine.h"
#include "kws_model.h"
#include "results.h"

static const int8_t input[KWS_INPUT_BYTES] = {
%(input)s
};

static void trace(void)
{
    static engine_layer_record records[KWS_LAYERS];
    int count;
    for (int i = 0; i < KWS_INPUT_BYTES; i++) {
        engine_input()[i] = input[i];
    }
    if (engine_invoke_traced(records, KWS_LAYERS, &count) != 0) {
        count = 0;
    }
    for (int i = 0; i < count; i++) {
        result(records[i].cycles), result(records[i].crc32);
    }
}

int main(void)
{
    board_init();  // turns the instruction cache on
    trace();
    finish();
}
"""


def trace(graph: Graph, x: Int8, folder: Path) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(cycles, CRC-32) of every layer: ideal and expected cycles, constants where the converter puts them."""
    for name, text in render_aot(graph, ram_budget=None).items():
        (folder / name).write_text(text)
    sizes = {"INPUT_BYTES": x.size, "OUTPUT_BYTES": graph.tensors[graph.output].size, "LAYERS": len(graph.layers)}
    (folder / "kws_model.h").write_text("".join(f"#define KWS_{name} {value}\n" for name, value in sizes.items()))
    (folder / "program.c").write_text(PROGRAM % {"input": wrapped([str(value) for value in x.reshape(-1).tolist()])})
    sources = [folder / "program.c", folder / "model_aot.c", SRC / "engine_aot.c", BARE / "results.c", *SOURCES]
    elf = build(folder, *map(str, sources), board_layer=True, flags=[f"-I{path}" for path in (folder, NN, SRC, BARE)])
    ideal, expected = (results_of(run_to_finish(elf, timing=timing)) for timing in (None, EXPECTED))
    assert len(ideal) == len(expected) == 2 * len(graph.layers)
    return list(zip(ideal[::2], ideal[1::2], strict=True)), list(zip(expected[::2], expected[1::2], strict=True))


def noise(graph: Graph) -> Int8:
    return np.random.default_rng(11).integers(-128, 128, graph.tensors[graph.input].shape).astype(np.int8)


def traced_cycles(graph: Graph, folder: Path) -> tuple[list[int], list[int]]:
    """Cycles per layer, ideal and expected, of an inference whose every layer was found equal to the reference."""
    x = noise(graph)
    want = reference.run(graph, x)
    crcs = [zlib.crc32(want[layer.output].tobytes()) for layer in graph.layers]
    ideal, expected = trace(graph, x, folder)
    for found in (ideal, expected):
        differing = [
            layer.name for layer, (_, crc), wanted in zip(graph.layers, found, crcs, strict=True) if crc != wanted
        ]
        assert not differing
    return [cycles for cycles, _ in ideal], [cycles for cycles, _ in expected]
