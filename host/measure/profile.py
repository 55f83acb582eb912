"""The stage table of a board: minimum, maximum and mean of each stage over single records, by both clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from converter.arrays import Pcm
from converter.commands import cli
from converter.target import SAMPLE_RATE_HZ
from host.link.client import Board
from host.link.protocol import Identity, LayerRun, Memory, Run
from host.measure.roofline import COMPUTE, SRAM, Point, short, whole

WINDOW_RUNS = 10
UNCACHED_RUNS = 100


@dataclass(frozen=True)
class Stage:
    """One row: times in microseconds by the cycle counter and in milliseconds by millis(), over n records."""

    name: str
    work: str
    n: int
    min_us: float
    max_us: float
    mean_us: float
    min_ms: int
    max_ms: int
    mean_ms: float
    mean_cycles: float

    @staticmethod
    def of(name: str, work: str, cycles: Sequence[int], ms: Sequence[int], clock_hz: int) -> Stage:
        """Statistics of single records.

        >>> Stage.of("post", "decision", [64, 128], [0, 1], 64_000_000).mean_us
        1.5
        """
        us = [count * 1e6 / clock_hz for count in cycles]
        mean_cycles = sum(cycles) / len(cycles)
        return Stage(
            name, work, len(us), min(us), max(us), sum(us) / len(us), min(ms), max(ms), sum(ms) / len(ms), mean_cycles
        )


@dataclass(frozen=True)
class Profile:
    """What a board said about its own speed and size. modelled: the cycles come from the virtual board's cycle
    model."""

    port: str
    identity: Identity
    modelled: bool
    stages: tuple[Stage, ...]
    uncached: tuple[Stage, ...]  # the same with the flash's instruction cache off
    layers: tuple[LayerRun, ...]
    memory: Memory

    def stage(self, name: str) -> Stage:
        """The stage of this name, flash cache on."""
        return next(stage for stage in self.stages if stage.name == name)

    def hop_shares(self) -> dict[str, float]:
        """Percent of a hop's time while listening, by means: front end, inference (streamed where the engine can),
        detector, and the rest: sleep, interrupts, serial port. Empty for a board without sound."""
        audio, detector = self.identity.audio, self.identity.detector
        found = {stage.name: stage for stage in self.stages}
        if audio is None or detector is None or "pre" not in found:
            return {}
        hop_us = 1e6 * detector.hop_frames * audio.step_samples / audio.sample_rate_hz
        inference = found.get("inference (stream)", found["inference"])
        busy = {"pre": found["pre"], "inference": inference, "post": found["post"]}
        shares = {name: 100 * stage.mean_us / hop_us for name, stage in busy.items()}
        return {**shares, "rest": 100 - sum(shares.values())}

    def to_json(self) -> dict[str, Any]:
        """What `profile --json` writes."""
        return {**asdict(self), "hop_shares": self.hop_shares()}


def synthetic_tone(samples: int) -> Pcm:
    """A second of made-up sound (a rising tone in noise), always the same; stage times hardly depend on it."""
    rng = np.random.default_rng(0)
    t = np.arange(samples) / SAMPLE_RATE_HZ
    return np.asarray(6000 * np.sin(2 * np.pi * (300 + 900 * t) * t) + rng.normal(0, 600, samples)).astype(np.int16)


def profile(
    board: Board, runs: int = 1000, pcm: Pcm | None = None, progress: Callable[[Run], None] | None = None
) -> Profile:
    """Stage times over `runs` runs (and fewer with the cache off), layers of one traced inference, memory use."""
    audio = board.identity.audio
    if audio is not None:
        board.load_pcm(synthetic_tone(audio.clip_samples) if pcm is None else pcm[: audio.clip_samples])
    else:
        board.load_input(bytes(board.identity.input_bytes))
    stages = _stages(board, runs, progress)
    board.cache(False)
    uncached = _stages(board, min(runs, UNCACHED_RUNS), None)
    board.cache(True)
    layers, _ = board.layers()
    return Profile(board.port, board.identity, board.modelled, stages, uncached, tuple(layers), board.memory())


def _stages(board: Board, runs: int, progress: Callable[[Run], None] | None) -> tuple[Stage, ...]:
    """Statistics of what is loaded, as the cache now is."""
    identity = board.identity
    stages = []

    def add(name: str, work: str, records: Sequence[Any], key: str) -> None:
        cycles, ms = ([getattr(r, f"{key}{unit}") for r in records] for unit in ("cycles", "ms"))
        stages.append(Stage.of(name, work, cycles, ms, identity.clock_hz))

    if identity.audio is not None:
        windows = board.windows(min(runs, WINDOW_RUNS))
        add("pre (window)", f"{windows[0].slices} slices", windows, "")
    found = board.runs(runs, progress)
    hop = found[0].slices
    if hop:
        add("pre (slice)", "1 slice", found, "slice_")
        add("pre", f"{hop} slices, one hop", found, "pre_")
    add("inference", identity.model_name, found, "infer_")
    if hops := [r for r in found if r.stream_cycles is not None and r.stream_ms is not None]:
        add("inference (stream)", "the same, one hop", hops, "stream_")
    if hop:
        add("post", "average, decide, LED", found, "post_")
    return tuple(stages)


def stage_table(result: Profile) -> Table:
    """One row per stage; fits in 80 columns."""
    how = "modelled: virtual board" if result.modelled else "measured"
    identity = result.identity
    title = f"{identity.board}, engine {identity.engine}, {identity.clock_hz / 1e6:g} MHz ({how})"
    heads = ("stage", "n", "min\nus", "max\nus", "mean\nus", "min\nms", "max\nms", "mean\nms", "uncached\nus")
    table = cli.table(title, heads, left=("stage",))
    for s, without in zip(result.stages, result.uncached, strict=True):
        us = [_us(value) for value in (s.min_us, s.max_us, s.mean_us)]
        ms = (str(s.min_ms), str(s.max_ms), f"{s.mean_ms:.2f}")
        table.add_row(s.name, str(s.n), *us, *ms, _us(without.mean_us))
    works = "; ".join(f"{stage.name}: {stage.work}" for stage in result.stages)
    table.caption = (
        f"us by the cycle counter, ms by millis(). Uncached: mean, instruction cache off, n = "
        f"{result.uncached[-1].n}. {works}."
    )
    return table


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 10000 else f"{value:.0f}"


def layer_table(result: Profile, points: dict[int, Point] | None = None) -> Table:
    """Cycles per layer of one traced inference; with points, where each stands under the board's roofline."""
    under_roof = ("oper-\nations", "bytes", "op/B", "MOP/s", "of\nroof") if points else ()
    heads = ("#", "layer", "cycles", "us", "CRC-32", *under_roof)
    table = cli.table(f"layers of {result.identity.model_name}", heads, left=("layer",))
    for layer in result.layers:
        crc = "not visible" if layer.crc32 is None else f"{layer.crc32:08x}"
        under = _under_roof((points or {}).get(layer.index))
        name = short(layer.name)[:13] if points else layer.name
        table.add_row(
            str(layer.index), name, f"{layer.cycles:,}", _us(layer.cycles * 1e6 / result.identity.clock_hz), crc, *under
        )
    if points:
        every = whole(list(points.values()))
        table.add_section()
        table.add_row("", "all", f"{every.cycles:,}", _us(every.cycles * 1e6 / every.clock_hz), "", *_under_roof(every))
        table.caption = (
            f"Roof: the lower of {COMPUTE[0].per_cycle * every.clock_hz / 1e6:.0f} MOP/s ({COMPUTE[0].name}) and "
            f"{SRAM.per_cycle * every.clock_hz / 1e6:.0f} MB/s ({SRAM.name}); all operations at the roof take "
            f"{every.operations / every.roof_mops:,.0f} us: {every.bound} bound."
        )
    return table


def _under_roof(point: Point | None) -> tuple[str, ...]:
    if point is None:
        return ()
    share = f"{100 * point.share_of_roof:.0f} %"
    return f"{point.operations:,}", f"{point.bytes:,}", f"{point.intensity:.1f}", f"{point.mops:.1f}", share


def show(result: Profile, console: Console, layers: bool, points: dict[int, Point] | None = None) -> None:
    """The stage table, with `layers` the layers too, and memory use."""
    console.print(stage_table(result))
    if shares := result.hop_shares():
        told = ", ".join(f"{name} {share:.2f} %" for name, share in shares.items())
        console.print(f"of the time between two inferences while listening: {told} (sleep, interrupts, serial port)")
    if layers:
        console.print(layer_table(result, points))
    console.print(memory_line(result.memory))


def memory_line(memory: Memory) -> str:
    """Bytes of flash and RAM, in one sentence."""
    return (
        f"flash {memory.flash:,} B, static RAM {memory.static_ram:,} B (activations and scratch "
        f"{memory.arena:,} B of it), "
        f"deepest stack {memory.stack_high_water:,} B"
    )
