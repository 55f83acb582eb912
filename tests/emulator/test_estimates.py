"""The estimates of `converter inspect` against the virtual board: within 15 % in cycles, flash and RAM."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from emulator_bare import needs_compiler
from typer.testing import CliRunner

from converter.__main__ import app
from converter.aot.cycles import kernel_costs, layer_cycles, work
from converter.aot.emit import plan_engine
from converter.aot.estimate import Estimate, estimate
from converter.aot.memory_plan import bytes_alive, plan_arena
from converter.convert import load
from host.costs import kernel_costs as measuring
from host.costs.kernel_probes import mixed_probe, probes
from host.firmware_build import ROOT, compile_objects

MOST = 0.15
# What no graph is lowered to on the board: forms without SIMD, and of operands that another form takes.
PORTABLE = {"nn_add_s8", "nn_dense_s8", "nn_mean_s8"}


def test_the_firmware_takes_what_was_estimated() -> None:
    needs_compiler()
    row = measuring.compare(ROOT / "reference")
    assert max(map(abs, row.errors)) <= MOST, row


def test_layers_that_the_table_was_not_made_from(tmp_path: Path) -> None:
    """Each within half, all together within 15 %: what a shape costs is one line for all shapes of its kernel."""
    needs_compiler()
    objects = compile_objects(sorted(measuring.LIB.glob("*.c")), tmp_path / "nn", [f"-I{measuring.LIB}"])
    for number in (1000, 1005):
        graph = mixed_probe(number)
        samples, code = measuring.probe_samples(graph, None, objects, tmp_path / str(number))
        costs = kernel_costs().cycles
        guesses = [sum(costs[s.name].get(term, 0.0) * count for term, count in s.terms.items()) for s in samples]
        found = [sample.found for sample in samples]
        assert abs(sum(guesses) / sum(found) - 1) <= MOST
        assert all(abs(guess - taken) <= 0.5 * taken + 200 for guess, taken in zip(guesses, found, strict=True))
        parts = kernel_costs().code
        assert abs(sum(parts.get(term, 0.0) * count for term, count in code.terms.items()) / code.found - 1) <= MOST


def test_every_kernel_is_in_the_table() -> None:
    header = "".join((ROOT / "firmware" / "lib" / "nn" / name).read_text() for name in ("nn.h", "nn_lowbit.h"))
    declared = set(re.findall(r"^void (nn_\w+_s8\w*)\(const nn_\w+_layer", header, re.M))
    known = {name.removesuffix(" in C") for name in kernel_costs().cycles}
    assert declared - PORTABLE == known, declared ^ known
    shown = {work(kernel, True)[0] for graph in probes() for kernel in plan_engine(graph).kernels if kernel}
    assert shown == set(kernel_costs().cycles)


def test_constants_in_flash_take_longer() -> None:
    engine = plan_engine(load(ROOT / "reference").graph)
    for kernel in engine.kernels[:2]:
        assert layer_cycles(kernel, in_ram=False) > layer_cycles(kernel, in_ram=True)


def test_ram_by_layer_is_the_plan_of_the_arena() -> None:
    graph = load(ROOT / "reference" / "spotter").graph
    engine = plan_engine(graph)
    assert max(bytes_alive(graph, engine.scratches)) == plan_arena(graph, engine.scratches).lower_bound


def test_the_command_shows_every_layer(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    done = CliRunner().invoke(app, ["inspect", str(ROOT / "reference"), "--json", str(file)])
    assert done.exit_code == 0 and "fits the board" in done.output, done.output
    found, source = json.loads(file.read_text()), load(ROOT / "reference")
    guess = estimate(source.graph, source.hop_frames)
    assert [row["name"] for row in found["layers"]] == [layer.name for layer in source.graph.layers]
    assert found["cycles"] == guess.cycles == sum(row["cycles"] for row in found["layers"])
    assert found["engine"] == "aot" and found["arena_bytes"] == guess.arena_bytes


@pytest.mark.parametrize(
    ("flash", "ram", "fits"), [(1 << 20, 239 << 10, True), (1 << 21, 0, False), (0, 250000, False)]
)
def test_what_fits(flash: int, ram: int, fits: bool) -> None:
    assert Estimate((), flash, ram, 0).fits == fits
