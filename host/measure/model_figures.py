"""A run folder onto a virtual board: converted, built, its test clips run with every layer compared; sizes, cycles,
modelled energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from converter.arrays import Int8, Json
from converter.convert import load, render, write_all
from converter.graph import Graph
from converter.size import model_size
from host.errors import HostError
from host.firmware_build import build_firmware
from host.link.client import Board, connect
from host.link.expected import Model, load_model, require_same
from host.measure.compare import tflite_timing
from host.measure.energy import modelled_energy_uj
from host.measure.image_size import ENGINE, part_sizes
from host.measure.infer import compare_layers
from host.measure.profile import Stage, profile

PROFILE_RUNS = 10
HOST_RUNS = 300


def evaluate(run: Path, inputs: int, progress: Callable[[int], None] | None = None) -> Json:
    """All figures of a run's model on the board, on its first `inputs` test clips; see figures."""
    return figures(run, run, clip_features(run, inputs), PROFILE_RUNS, progress)


def figures(
    source: Path, folder: Path, features: Int8, runs: int, progress: Callable[[int], None] | None = None
) -> Json:
    """FOLDER/firmware, FOLDER/build/emulator/firmware.elf, and all figures of the model on the board for int8 features
    [count, frames, channels]; `differences` counts unequal inferences.

    An inference is different when a layer's CRC or a score is not the integer reference's. Raises HostError,
    BoardError, ConvertError.
    """
    write_all(render(load(source)), folder / "firmware")
    elf = build_firmware(folder / "firmware", folder / "build")
    model = load_model(source)
    with connect(str(elf)) as board:
        require_same(board.identity, model)
        found = profile(board, runs)
        different = 0
        for number, values in enumerate(features):
            different += not same_on_board(board, model, values)
            if progress:
                progress(number + 1)
    cycles, uncached = (_fewest(stages, board.identity.clock_hz) for stages in (found.stages, found.uncached))
    engine = next(part for part in part_sizes(elf) if part.part == ENGINE)
    host = tflite_timing(model.graph, HOST_RUNS)
    return {
        "model_id": model.graph.model_id,
        "inputs": len(features),
        "layers": len(model.graph.layers),
        "layer_cycles": [layer.cycles for layer in found.layers],
        "differences": different,
        "cycles": cycles["inference"],
        "cycles_uncached": uncached["inference"],
        "cycles_stream_hop": cycles.get("inference (stream)"),
        "board_ms": 1000 * cycles["inference"] / board.identity.clock_hz,
        "energy_uj": modelled_energy_uj(cycles["inference"]),
        "engine_flash_bytes": engine.flash,
        "engine_ram_bytes": engine.ram,
        "flash_bytes": found.memory.flash,
        "ram_bytes": found.memory.static_ram + found.memory.stack_high_water,
        "arena_bytes": found.memory.arena,
        "host_us": host.median_us,
        "host_engine": f"{host.engine}: {host.note}",
        **counts(model.graph),
    }


def _fewest(stages: Sequence[Stage], clock_hz: int) -> dict[str, int]:
    """Cycles of each stage: the fewest of its runs; a tick of the timer more or less makes up the rest."""
    return {stage.name: round(stage.min_us * clock_hz / 1e6) for stage in stages}


def clip_features(run: Path, count: int) -> Int8:
    """The first `count` feature windows of RUN/vectors.npz, int8 [count, frames, channels]."""
    file = run / "vectors.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            features: Int8 = arrays["features"]
    except (OSError, KeyError, ValueError) as error:
        raise HostError(
            f"{file}: holds no test features ({type(error).__name__}); run `python -m trainer export {run}` again"
        ) from None
    return features[:count]


def same_on_board(board: Board, model: Model, values: Int8) -> bool:
    """True when every layer's CRC (and with the last one the scores) equals the integer reference."""
    board.load_input(values.tobytes())
    layers, _ = board.layers()
    return all(pair.equal is not False for pair in compare_layers(model, values, layers))


def counts(graph: Graph) -> Json:
    """Parameters, multiply-adds and operations of the graph, and those that are left when products with a zero weight
    are not counted."""
    size = model_size(graph)
    nonzero = macs = 0
    for layer in graph.layers:
        if layer.weights is None:
            continue
        used, bias = int(np.count_nonzero(layer.weights.values)), layer.weights.bias
        nonzero += used + int(np.count_nonzero(bias))
        macs += used * graph.tensors[layer.output].size // len(bias)
    return {
        "parameters": size.parameters,
        "macs": size.macs,
        "operations": size.operations,
        "nonzero": nonzero,
        "operations_nonzero": size.operations - 2 * (size.macs - macs),
    }


def summary(found: Json) -> str:
    """One line of the figures."""
    return (
        f"{found['inputs']} test clips, {found['differences']} differ from the host; {found['cycles']:,.0f} "
        f"cycles an inference "
        f"({found['board_ms']:.2f} ms, modelled), {found['energy_uj']:.1f} uJ (modelled energy); "
        f"engine {found['engine_flash_bytes']:,} B of flash and {found['engine_ram_bytes']:,} B of RAM, "
        f"whole image {found['flash_bytes']:,} B and {found['ram_bytes']:,} B"
    )
