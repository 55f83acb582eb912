"""The figures of `make bench`: expected and ideal cycles per stage on the virtual board beside the published records,
sizes, and speeds of this machine; what has grown since the committed ones."""

from __future__ import annotations

import functools
import json
import os
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from converter.audio.frontend import MicroFrontend
from converter.checked import Named, Real
from converter.commands import cli
from converter.convert import load, render, write_all
from converter.files import write_atomic
from converter.target import SAMPLE_RATE_HZ
from host.emulator.board import VirtualBoard
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import build_bare, build_firmware
from host.link.client import Board
from host.link.protocol import Heard
from host.measure.bench_chart import BEST_ELSEWHERE, plot
from host.measure.image_size import ENGINE, FRONT_END, OTHER, SKETCH, part_sizes
from host.measure.profile import profile, synthetic_tone
from host.result_files import read_json

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench"
RUNS = 100
AUDIO_SECONDS = 60
PARTS = {ENGINE: "engine", FRONT_END: "frontend", SKETCH: "sketch", OTHER: "other"}
MLPERF = {  # MLPerf Tiny's models; the short form runs the first
    "dscnn": "kws_ref_model.tflite",
    "vww": "vww_96_int8.tflite",
    "resnet8": "pretrainedResnet_quant.tflite",
    "autoencoder": "ad01_int8.tflite",
}


HOPS = """\
#include "board.h"
#include "model_aot.h"

volatile uint32_t done;
static volatile int left = %d;
static int8_t rows[MODEL_AOT_STREAM_HOP_BYTES];

int main(void)
{
    board_init();  // turns the instruction cache on
    for (model_aot_stream_start(); left > 0; left--) {
        model_aot_stream_run(rows, 0);
    }
    for (done = 1;;) {
        __asm__ volatile("wfi");
    }
}
"""


@dataclass(frozen=True)
class Figure:
    """A number by the key it has in build/bench.json, or None with the reason why it is not to be had here."""

    key: str
    value: float | None
    note: str = ""


BASELINE = ROOT / "reference" / "bench.json"
GROWTH = 1.02  # of a figure over the committed one that is let pass


def bench(console: Console, json_file: Path, training_speed: Callable[[], float], short: bool = False) -> None:
    """Measure, print the table, write the JSON (flat keys; what is not available here is left out) and its picture.
    short: one MLPerf model, neither listening nor this machine's speeds. Raises HostError when cycles or bytes have
    grown over BASELINE's."""
    figures: list[Figure] = []
    models = dict(list(MLPERF.items())[: 1 if short else None])
    parts = {"tinyconv": _tinyconv(), **{name: _mlperf(name, file) for name, file in models.items()}}
    if not short:
        parts |= {"listening": _listening(), "speeds": _speeds(training_speed)}
    for name, part in parts.items():
        with console.status(name):
            figures += part
    console.print(_table(figures))
    found = {f.key: f.value for f in figures if f.value is not None}
    cli.write_json(json_file, found)
    plot(found, json_file.with_suffix(".png"))
    console.print(f"{json_file}: cycles are modelled (virtual board, docs/chip.md), speeds are of this machine")
    moved, grown = against(read_json(BASELINE, "restore it from the repository", Named(Real())), found)
    console.print("\n".join(moved) or "no cycles and no bytes moved by more than 0.1 %")
    if grown:
        raise HostError(
            f"{', '.join(grown)}: more than {100 * (GROWTH - 1):.0f} % over reference/bench.json; mend it, or copy "
            f"{json_file} there, its picture to docs/speed.png, and say why"
        )


def against(baseline: Mapping[str, float], found: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """(lines about cycles and bytes that moved by more than 0.1 %, keys of those that grew by more than GROWTH)."""
    moved, grown = [], []
    for key in sorted(baseline.keys() & found.keys()):
        before, now = baseline[key], found[key]
        if not key.endswith(("_cycles", "_bytes")) or abs(now - before) <= before / 1000:
            continue
        moved.append(f"{key}: {before:,.0f} -> {now:,.0f} ({100 * (now / before - 1) if before else 0:+.1f} %)")
        if now > GROWTH * before:
            grown.append(key)
    return moved, grown


def _tinyconv() -> Iterator[Figure]:
    elf = build_firmware(None, OUT / "reference")
    run_report = OUT / "emulator.json"
    started = time.perf_counter()
    with launch(elf, json_file=run_report) as port, Board(port) as board:
        result = profile(board, RUNS)
    seconds = time.perf_counter() - started
    with launch(elf, clock="ideal") as port, Board(port) as board:
        ideal = profile(board, RUNS)
    uncached = {stage.name: stage for stage in result.uncached}
    for key, stage in (
        ("tinyconv_window", "inference"),
        ("tinyconv_stream_hop", "inference (stream)"),
        ("frontend_slice", "pre (slice)"),
        ("frontend_window", "pre (window)"),
        ("post", "post"),
    ):
        yield Figure(f"{key}_cycles", round(result.stage(stage).mean_cycles), f"mean of {result.stage(stage).n}")
        yield Figure(f"{key}_ideal_cycles", round(ideal.stage(stage).mean_cycles), f"mean of {ideal.stage(stage).n}")
        yield Figure(f"{key}_cycles_uncached", round(uncached[stage].mean_cycles), f"mean of {uncached[stage].n}")
    yield from _bounds("tinyconv_window", elf, _infer)
    yield from _bounds("frontend_slice", elf, _features, unit=49)
    yield from _hop_bounds()
    yield Figure("flash_bytes", result.memory.flash, "whole image: start-up, protocol, front end, engine, model")
    yield Figure("ram_bytes", result.memory.static_ram + result.memory.stack_high_water, "static RAM and deepest stack")
    yield Figure("arena_bytes", result.memory.arena, "activations and scratch")
    yield from _engine_size(elf)
    instructions = json.loads(run_report.read_text())["instructions"]
    yield Figure(
        "emulator_instructions_per_second",
        round(instructions / seconds),
        "start of the process and serial line included",
    )


def _engine_size(elf: Path) -> Iterator[Figure]:
    for size in part_sizes(elf):
        key, note = PARTS[size.part], f"{size.part}; stack not counted"
        yield Figure(f"{key}_flash_bytes", size.flash, note)
        yield Figure(f"{key}_ram_bytes", size.ram, note)


def _bounds(key: str, elf: Path, work: Callable[[Board, int], object], unit: int = 1) -> Iterator[Figure]:
    """The cycle model's bounds (docs/chip.md) and the instructions of `work`."""
    totals = []
    for count in (1, 11):
        report = OUT / "bounds.json"
        with launch(elf, json_file=report) as port, Board(port) as board:
            work(board, count)
        totals.append(json.loads(report.read_text()))
    yield from _bound_figures(key, totals[0], totals[1], 10 * unit, "by what ten more of it add to a run")


def _bound_figures(
    key: str, few: Mapping[str, int], many: Mapping[str, int], units: int, note: str
) -> Iterator[Figure]:
    """What two reports of the virtual board differ by, for each of `units` pieces of work."""
    for end in ("cycles_low", "cycles_high", "instructions"):
        yield Figure(f"{key}_{end}", round((many[end] - few[end]) / units), note)


def _hop_bounds() -> Iterator[Figure]:
    """The same of a streaming hop, by a program that does nothing else: no command of the board runs hops alone."""
    firmware = ROOT / "firmware"
    reports = []
    for count in (1, 11):
        program = OUT / "hops.c"
        write_atomic(program, (HOPS % count).encode())
        sources = [program, firmware / "generated" / "model_aot.c", *sorted((firmware / "lib" / "nn").glob("*.c"))]
        folders = [firmware / "generated", firmware / "lib" / "nn"]
        board = VirtualBoard(
            build_bare(sources, OUT / "hops.elf", board_layer=True, flags=[f"-I{folder}" for folder in folders])
        )
        if not board.run(1.0, functools.partial(_done, board)):
            raise HostError(
                "bench: the streaming hops did not end within 1 s of board time; remake firmware/generated by `make "
                "reference`"
            )
        reports.append(board.report().as_json())
    yield from _bound_figures("tinyconv_stream_hop", reports[0], reports[1], 10, "by what ten more hops add to a run")


def _done(board: VirtualBoard) -> bool:
    return board.read_word(board.image.objects["done"].address) != 0


def _infer(board: Board, count: int) -> None:
    board.load_input(bytes(board.identity.input_bytes))
    board.infer(count)


def _features(board: Board, count: int) -> None:
    board.load_pcm(synthetic_tone(SAMPLE_RATE_HZ))
    board.windows(count)


def _listening() -> Iterator[Figure]:
    """What 60 s at the microphone cost: all cycles the core is awake, so interrupts, serial poll and a record per
    inference count too."""
    elf = build_firmware(None, OUT / "reference")
    recording = OUT / "listening.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.tile(synthetic_tone(SAMPLE_RATE_HZ), AUDIO_SECONDS + 1).astype("<i2").tobytes())
    for suffix, cache in (("", True), ("_uncached", False)):
        begun, _ = _listen(elf, recording, 1, cache)
        ended, heard = _listen(elf, recording, AUDIO_SECONDS * 25, cache)
        slices, awake = 2 * (len(heard) - 1), ended["cycles_awake"] - begun["cycles_awake"]
        note = (
            f"mean of {slices} slices: all awake cycles, {awake:,} in all; inferences alone "
            f"{_mean_inference(heard):,.0f} a hop"
        )
        yield Figure(f"listen_20ms_cycles{suffix}", round(awake / slices), note)
        if cache:
            yield from _bound_figures("listen_20ms", begun, ended, slices, "the same")
        worst = max(item.pre_cycles // 2 + item.infer_cycles + item.post_cycles for item in heard[1:])
        first = heard[0].pre_cycles // 2 + heard[0].infer_cycles + heard[0].post_cycles
        yield Figure(
            f"listen_worst_slice_cycles{suffix}",
            worst,
            f"features, inference, decision; the first, on a whole window: {first:,}",
        )


def _listen(elf: Path, recording: Path, inferences: int, cache: bool) -> tuple[dict[str, int], list[Heard]]:
    """(the virtual board's report from power-up, records)"""
    report = OUT / "listening.json"
    with launch(elf, [recording], json_file=report) as port, Board(port) as board:
        board.cache(cache)
        heard = list(board.listen(inferences))
    return json.loads(report.read_text()), heard


def _mean_inference(heard: list[Heard]) -> float:
    return float(np.mean([item.infer_cycles for item in heard[1:]]))


def _mlperf(name: str, file: str) -> Iterator[Figure]:
    folder = Path(os.environ.get("KWS_MLPERF", ROOT.parent / "shared" / "data" / "mlperf_tiny"))
    model, key = folder / "models" / file, f"{name}_window"
    if not model.is_file():
        yield Figure(f"{key}_cycles", None, "not available here: set KWS_MLPERF to the folder of MLPerf Tiny's models")
        return
    _convert(model, OUT / name)
    elf = build_firmware(OUT / name, OUT / f"{name}_build")
    note = f"MLPerf Tiny's {file}, mean of 5"
    for suffix, clock in (("_ideal", "ideal"), ("", "expected")):
        with launch(elf, clock=clock) as port, Board(port) as board:
            result = profile(board, 5)
        yield Figure(f"{key}{suffix}_cycles", round(result.stage("inference").mean_cycles), note)
    uncached = next(stage for stage in result.uncached if stage.name == "inference")
    yield Figure(f"{key}_cycles_uncached", round(uncached.mean_cycles), note)
    yield from _bounds(key, elf, _infer)


def _speeds(training_speed: Callable[[], float]) -> Iterator[Figure]:
    pcm = np.tile(synthetic_tone(SAMPLE_RATE_HZ), AUDIO_SECONDS)
    front_end = MicroFrontend()
    with _timed() as spent:
        front_end.features(pcm)
    yield Figure("features_times_real_time", round(AUDIO_SECONDS / spent[0]), "one core")
    with _timed() as spent:
        _convert(ROOT / "reference", OUT / "converted")
    yield Figure("conversion_seconds", round(spent[0], 3), "reference/ to all generated files")
    try:
        yield Figure("training_samples_per_second", round(training_speed()), "TinyConv, float")
    except ImportError as error:
        yield Figure("training_samples_per_second", None, f"not available here: {error}")


def _convert(model: Path, out: Path) -> None:
    write_all(render(load(model)), out)


@contextmanager
def _timed() -> Iterator[list[float]]:
    spent: list[float] = []
    started = time.perf_counter()
    yield spent
    spent.append(time.perf_counter() - started)


def _table(figures: list[Figure]) -> Table:
    """One row per figure; fits in 80 columns."""
    table = cli.table("bench", ("figure", "value", "ideal", "bounds", "uncached"), left=("figure",))
    values = {figure.key: figure.value for figure in figures}
    for figure in figures:
        if figure.key.endswith(("_uncached", "_low", "_high", "_ideal_cycles", "_instructions")):
            continue
        ideal = values.get(f"{figure.key.removesuffix('_cycles')}_ideal_cycles")
        low, high = (values.get(f"{figure.key}_{end}") for end in ("low", "high"))
        bounds = f"{_number(low)}..{_number(high)}" if low and high else ""
        without = _number(values.get(f"{figure.key}_uncached"))
        table.add_row(figure.key, _number(figure.value), _number(ideal), bounds, without)
    missing = [f"{figure.key}: {figure.note}." for figure in figures if figure.value is None]
    best = [f"Best elsewhere, {key}: {cycles:,} ({who})." for key, (cycles, who) in BEST_ELSEWHERE.items()]
    table.caption = " ".join(missing + best)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}"
