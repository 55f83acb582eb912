"""Inference time on this machine beside the board's: warmed up, synchronised, batch 1, with slowdown factors."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from converter.commands import cli
from converter.commands.timing import microseconds
from converter.graph import Graph
from converter.tflite.writer import write_tflite
from host.errors import HostError
from host.link.expected import load_model, require_same
from host.result_files import PROFILE, read_json

BOARD_RUNS = 100


@dataclass(frozen=True)
class Timing:
    """One engine. Empty us means it is not available here; note says why or how it was measured."""

    engine: str
    device: str
    us: tuple[float, ...]
    note: str = ""

    @property
    def median_us(self) -> float | None:
        """Microseconds; None where the engine is not available."""
        return statistics.median(self.us) if self.us else None


TorchTimes = Callable[[Path, int], Sequence[tuple[str, str, tuple[float, ...]]]]


def compare(run: Path, port: str | None, profile_json: Path | None, runs: int, torch_times: TorchTimes) -> list[Timing]:
    """PyTorch (CPU, GPU) and tflite-runtime on this machine, then the board if a port or its profile is given."""
    model = load_model(run)
    timings = [*_torch(run, runs, torch_times), tflite_timing(model.graph, runs)]
    if port is not None:
        timings.append(_board(port, run))
    elif profile_json is not None:
        timings.append(_from_profile(profile_json, model.graph.model_id))
    else:
        timings.append(Timing("board", "board", (), "not asked: name --port or --profile"))
    return timings


def _torch(run: Path, runs: int, torch_times: TorchTimes) -> list[Timing]:
    if not run.is_dir():
        return [Timing("PyTorch", "cpu", (), "not available: needs a run folder with its checkpoint")]
    try:
        found = [Timing(engine, device, us, "warmed up, synchronised") for engine, device, us in torch_times(run, runs)]
    except (ImportError, ValueError) as error:
        return [Timing("PyTorch", "cpu", (), f"not available: {' '.join(str(error).split())}")]
    if all(timing.device != "gpu" for timing in found):
        found.append(Timing("PyTorch", "gpu", (), "not available: no GPU here"))
    return found


def tflite_timing(graph: Graph, runs: int) -> Timing:
    """int8 by tflite-runtime's default (fastest) kernels, one thread."""
    try:
        from tflite_runtime.interpreter import Interpreter
    except ImportError:
        return Timing("tflite-runtime", "cpu", (), "not available: the package tflite-runtime is not installed")
    try:
        interpreter = Interpreter(model_content=write_tflite(graph), num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        return Timing("tflite-runtime", "cpu", (), f"not available: {' '.join(str(error).split())[:100]}")
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"], np.zeros(graph.tensors[graph.input].shape, np.int8)
    )
    return Timing("tflite-runtime, CPU, int8, 1 thread", "cpu", microseconds(interpreter.invoke, runs), "warmed up")


def _board(port: str, run: Path) -> Timing:
    from host.link.client import connect
    from host.measure import profile as profiler

    with connect(port) as board:
        require_same(board.identity, load_model(run))
        found = profiler.profile(board, BOARD_RUNS)
    return _board_timing(found.to_json())


def _from_profile(path: Path, model_id: str) -> Timing:
    raw = read_json(path, "make it with `python -m host profile --json`", PROFILE)
    measured = raw["identity"]["model_id"]
    if measured != model_id:
        raise HostError(f"{path}: of model {measured}, this run is {model_id}; profile the board with this model on it")
    return _board_timing(raw)


def _board_timing(raw: dict[str, Any]) -> Timing:
    stage = next(item for item in raw["stages"] if item["name"] == "inference")
    identity = raw["identity"]
    note = f"{'modelled, ' if raw['modelled'] else ''}mean of {stage['n']} runs by the cycle counter"
    return Timing(f"{identity['board']}, engine {identity['engine']}, int8", "board", (float(stage["mean_us"]),), note)


def table(timings: Sequence[Timing]) -> Table:
    """Median times and how many times slower the board is than each."""
    board = next((timing.median_us for timing in timings if timing.device == "board"), None)
    title = f"one inference ({platform.machine()}, {platform.system()})"
    shown = cli.table(title, ("engine", "median\nus", "min\nus", "n", "board is\nslower by"), left=("engine",))
    for t in timings:
        median = t.median_us
        factor = f"{board / median:.1f}x" if board and median and t.device != "board" else ""
        cells = (f"{median:.1f}", f"{min(t.us):.1f}", str(len(t.us))) if median is not None else ("-", "-", "0")
        shown.add_row(f"{t.engine}: {t.note}", *cells, factor)
    return shown


def to_json(timings: Sequence[Timing]) -> dict[str, Any]:
    """What the report reads, single times left out."""
    board = next((timing.median_us for timing in timings if timing.device == "board"), None)
    rows = []
    for t in timings:
        median = t.median_us
        row = {**asdict(t), "us": None, "n": len(t.us), "median_us": median}
        row |= {"min_us": min(t.us), "max_us": max(t.us)} if t.us else {}
        row["slowdown_of_board"] = board / median if board and median and t.device != "board" else None
        rows.append(row)
    return {"timings": rows}
