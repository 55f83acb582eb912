"""The generated streaming engine on this machine: every layer's kept and new rows equal the whole window's, hop after
hop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import tinyconv_like
from emulator_bare import BARE, build, results_of, run_to_finish
from kernels_on_host import NN, SOURCES, compile_objects
from stream_graphs import GRAPHS, StreamEngine, first_difference, models, noise_frames, recording

from converter import reference
from converter.aot.emit import render_aot
from converter.aot.memory_plan import plan_arena
from converter.aot.stream_plan import plan_stream


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return compile_objects(tmp_path_factory.mktemp("kernels"), SOURCES)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_layer_equals_the_whole_window_on_noise(kernels: list[Path], tmp_path: Path, name: str) -> None:
    graph, hop = GRAPHS[name]
    engine = StreamEngine(graph, hop, tmp_path, kernels, simd=name != "ds_cnn")
    assert (
        first_difference(engine, noise_frames(graph, 60 * hop), noise_frames(graph, graph.tensors[0].shape[1], 9)) == ""
    )


@pytest.mark.parametrize("name", ["tinyconv", "ds_cnn valid", "residual"])
def test_starts_again_after_another_window(kernels: list[Path], tmp_path: Path, name: str) -> None:
    graph, hop = GRAPHS[name]
    engine = StreamEngine(graph, hop, tmp_path, kernels)
    for seed in range(3):
        start = noise_frames(graph, graph.tensors[0].shape[1], 40 + seed)
        assert first_difference(engine, noise_frames(graph, 10 * hop, seed), start) == ""
        engine.library.model_aot_run(None)


@pytest.mark.parametrize("name", ["reference", "ds_cnn valid"])
def test_recordings(speech_commands: Path, kernels: list[Path], tmp_path: Path, name: str) -> None:
    graph = models()[name]
    frames = recording(speech_commands, 20)
    assert first_difference(StreamEngine(graph, 2, tmp_path, kernels), frames[49:], frames[:49]) == ""


PROGRAM = """
#include "board.h"
#include "model_aot.h"
#include "results.h"
static const int8_t start[] = {%(start)s};
static const int8_t frames[] = {%(frames)s};
static uint32_t hash;
static void observe(int layer, const char *name, const int8_t *output, uint32_t bytes)
{
    (void)layer, (void)name;
    for (uint32_t i = 0; i < bytes; i++) {
        hash = hash * 33u + (uint8_t)output[i];
    }
}
int main(void)
{
    board_init();
    for (uint32_t i = 0; i < sizeof start; i++) {
        model_aot_input()[i] = start[i];
    }
    model_aot_stream_start();
    for (uint32_t at = 0; at < sizeof frames; at += MODEL_AOT_STREAM_HOP_BYTES) {
        model_aot_stream_run(frames + at, observe);
        result(hash);
    }
    finish();
}
"""


@pytest.mark.parametrize("name", ["tinyconv", "tinyconv, hop 4", "ds_cnn", "valid"])
def test_hops_on_the_board(kernels: list[Path], tmp_path: Path, name: str) -> None:
    """The board's machine code gives every layer of every hop as the engine on this machine does, which the tests above
    compare."""
    graph, hop = GRAPHS[name]
    engine = StreamEngine(graph, hop, tmp_path, kernels)
    start, frames = noise_frames(graph, graph.tensors[0].shape[1], 9), noise_frames(graph, 6 * hop)
    engine.start(start)
    want, value = list[int](), 0
    for index in range(6):
        for _, output in engine.step(frames[index * hop : (index + 1) * hop]):
            for byte in output.view(np.uint8).tolist():
                value = (value * 33 + byte) & 0xFFFFFFFF
        want.append(value)
    numbers = {"start": start, "frames": frames}
    (tmp_path / "program.c").write_text(
        PROGRAM % {key: ",".join(map(str, x.reshape(-1).tolist())) for key, x in numbers.items()}
    )
    sources = [tmp_path / "program.c", tmp_path / "model_aot.c", BARE / "results.c", *SOURCES]
    elf = build(tmp_path, *map(str, sources), board_layer=True, flags=[f"-I{path}" for path in (tmp_path, NN, BARE)])
    assert results_of(run_to_finish(elf)) == want


@pytest.mark.slow
def test_ten_minutes_of_recordings(speech_commands: Path, kernels: list[Path], tmp_path: Path) -> None:
    frames = recording(speech_commands, 620)
    assert len(frames) - 49 >= 30000
    assert first_difference(StreamEngine(models()["reference"], 2, tmp_path, kernels), frames[49:], frames[:49]) == ""


def test_the_arena_holds_what_is_kept_and_never_overlaps() -> None:
    for name, (graph, hop) in GRAPHS.items():
        plan = plan_stream(graph, hop)
        arena = plan_arena(graph, (), {index: kept.bytes for index, kept in plan.kept.items()})
        spans = [
            (arena.kept_offsets[index], arena.kept_offsets[index] + kept.bytes) for index, kept in plan.kept.items()
        ]
        steps = zip(graph.layers, plan.layers, strict=True)
        written = [layer.output for layer, step in steps if step.parts is None or layer.output not in plan.kept]
        for index in written:
            start = arena.tensor_offsets[index]
            owners = {i for i in plan.kept if arena.tensor_offsets[i] == start}
            for kept, (low, high) in zip(plan.kept, spans, strict=True):
                assert kept in owners or start + graph.tensors[index].size <= low or high <= start, (name, index, kept)


def test_text_without_streaming_says_so_and_changes_nothing_else() -> None:
    graph = tinyconv_like(0)
    plain, short = render_aot(graph), render_aot(graph, hop_frames=1)
    assert "#define MODEL_AOT_STREAMS 0" in plain["model_aot.h"] and "model_aot_stream" not in plain["model_aot.c"]
    assert (
        "// No streaming: conv1: its input moves by 1 rows a hop, not a multiple of its time stride 2"
        in short["model_aot.h"]
    )
    assert plain["model_aot.c"] == short["model_aot.c"]
    streamed = render_aot(graph, hop_frames=2)
    assert "#define MODEL_AOT_STREAMS 1" in streamed["model_aot.h"] and streamed == render_aot(graph, hop_frames=2)
    assert max(len(line) for text in streamed.values() for line in text.splitlines()) <= 140


def test_the_whole_window_still_runs(kernels: list[Path], tmp_path: Path) -> None:
    graph, hop = GRAPHS["ds_cnn valid"]
    engine = StreamEngine(graph, hop, tmp_path, kernels)
    x = noise_frames(graph, 49, 3)
    assert np.array_equal(engine.start(x), reference.run(graph, x)[graph.output].reshape(-1))
