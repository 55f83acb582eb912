"""Generated engines on the virtual Nano 33 BLE, in its own machine code: every layer equals the reference, in the cycles stated."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import branched, tinyconv_like
from emulator_bare import BARE, build, results_of, run_to_finish
from nn_host import NN, ROOT, SOURCES

from converter import reference
from converter.codegen import render_aot
from converter.codegen_text import wrapped
from converter.graph import Graph, Int8
from converter.tflite_reader import read_tflite

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
    *(volatile uint32_t *)0x4001E540 = 0;  // NVMC ICACHECNF: off again
    trace();
    finish();
}
"""


def trace(graph: Graph, x: Int8, folder: Path) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(cycles, CRC-32) of every layer, with and without the instruction cache."""
    for name, text in render_aot(graph).items():
        (folder / name).write_text(text)
    sizes = {"INPUT_BYTES": x.size, "OUTPUT_BYTES": graph.tensors[graph.output].size, "LAYERS": len(graph.layers)}
    (folder / "kws_model.h").write_text("".join(f"#define KWS_{name} {value}\n" for name, value in sizes.items()))
    (folder / "program.c").write_text(PROGRAM % {"input": wrapped([str(value) for value in x.reshape(-1).tolist()])})
    sources = [folder / "program.c", folder / "model_aot.c", SRC / "engine_aot.c", BARE / "results.c", *SOURCES]
    elf = build(folder, *map(str, sources), board_layer=True, flags=[f"-I{path}" for path in (folder, NN, SRC, BARE)])
    numbers = results_of(run_to_finish(elf))
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert len(pairs) == 2 * len(graph.layers)
    return pairs[:len(graph.layers)], pairs[len(graph.layers):]


def noise(graph: Graph) -> Int8:
    return np.random.default_rng(11).integers(-128, 128, graph.tensors[graph.input].shape).astype(np.int8)


def traced_cycles(graph: Graph, folder: Path) -> tuple[list[int], list[int]]:
    """Cycles per layer, cached and uncached, of an inference whose every layer was found equal to the reference."""
    x = noise(graph)
    want = reference.run(graph, x)
    crcs = [zlib.crc32(want[layer.output].tobytes()) for layer in graph.layers]
    cached, uncached = trace(graph, x, folder)
    for found in (cached, uncached):
        differing = [layer.name for layer, (_, crc), expected in zip(graph.layers, found, crcs, strict=True) if crc != expected]
        assert not differing
    return [cycles for cycles, _ in cached], [cycles for cycles, _ in uncached]


def test_tinyconv_equals_reference_within_its_cycles(tmp_path: Path) -> None:
    cached, uncached = traced_cycles(tinyconv_like(0), tmp_path)
    print(f"TinyConv, modelled cycles: cached {sum(cached)} {cached}, uncached {sum(uncached)} {uncached}")
    assert sum(cached) <= 269_000 and sum(uncached) <= 298_000  # counts of a model, the same on every machine


@pytest.mark.parametrize("seed", range(3))
def test_branched_graphs_equal_reference(tmp_path: Path, seed: int) -> None:
    traced_cycles(branched(seed), tmp_path)


def test_ds_cnn_equals_reference_within_its_cycles(mlperf_tiny: Path, tmp_path: Path) -> None:
    graph = read_tflite((mlperf_tiny / "models" / "kws_ref_model.tflite").read_bytes())
    cached, uncached = traced_cycles(graph, tmp_path)
    print(f"DS-CNN, modelled cycles: cached {sum(cached)} {cached}, uncached {sum(uncached)} {uncached}")
    assert sum(cached) <= 3_195_000
