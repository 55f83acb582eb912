"""The search of chains: genes, costs, drawing, halving, a search that goes on, and one from sounds to the board."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.progress import Progress
from search_table import TABLE
from trainer_corpus import make

from converter.aot.emit import engine_kernels, engine_memory
from converter.arrays import Json
from converter.checked import Anything, Named
from converter.files import read_json_object, write_atomic
from converter.spec import FeatureSpec, KwsSpec
from trainer.__main__ import board_tools
from trainer.data.negatives import make_negatives
from trainer.data.recordings import write_wav
from trainer.errors import TrainerError
from trainer.network.model import Architecture, build
from trainer.run.steps import Source
from trainer.search import cost, run
from trainer.search.candidate import SearchJob, Trial, claim
from trainer.search.cost import Cost, chain_graph, code_terms, layer_terms, probes
from trainer.search.genes import FIRST_KERNELS, KERNELS, SEEDS, WIDTHS, Genes, mutate, random_genes

FRAMES = FeatureSpec().frames
SPEC = KwsSpec.of_words(["yes", "stop"])
QUIET = Progress(disable=True)
LIMITS = run.Limits(2, 64, 24)


def test_random_genes_and_mutations_stay_in_their_ranges_and_change_one_gene() -> None:
    rng = random.Random(0)
    stages = set()
    for _ in range(300):
        parent = random_genes(rng, FRAMES)
        child = mutate(parent, rng, FRAMES)
        assert parent.is_valid(FRAMES) and child.is_valid(FRAMES)
        stages.add(len(parent.kernels) - 1)
        pairs = list(zip(parent.kernels, parent.widths, strict=True))
        changed = list(zip(child.kernels, child.widths, strict=True))
        if len(pairs) == len(changed):
            found = [
                a != b for a, b in zip((*parent.kernels, *parent.widths), (*child.kernels, *child.widths), strict=True)
            ]
            assert sum(found) == 1
        else:
            longer, shorter = sorted((pairs, changed), key=len, reverse=True)
            assert shorter in [longer[:i] + longer[i + 1 :] for i in range(1, len(longer))]
    assert stages == {2, 3, 4}
    with pytest.raises(TrainerError, match="too short"):
        random_genes(rng, 8)


def test_a_chain_is_the_network_that_the_engine_is_planned_for() -> None:
    genes = Genes((5, 7, 3), (24, 40, 16))
    network = build(genes.architecture(4, SPEC.features, 0.1)).eval()
    logits = network(torch.zeros(1, 1, FRAMES, 40))
    assert logits.shape == (1, 4) and network.streams
    graph = chain_graph(genes, SPEC)
    inputs = graph.layers[-1].weights
    assert inputs is not None and inputs.values.shape[1] == genes.rows(FRAMES) * 16
    sizes = sum(layer.weights.values.size + layer.weights.bias.size for layer in graph.layers if layer.weights)
    assert sizes == network.parameter_count
    by_hand = 5 * 40 * 24 + 24 * (7 + 40) + 40 * (3 + 16) + genes.rows(FRAMES) * 16 * 4
    assert genes.macs(4, SPEC.features) == by_hand
    assert layer_terms(graph)[:3] == [
        {"convolution 5": 1, "convolution 5, each": 24, "moved": 6 * 24},
        {"depthwise 7": 1, "depthwise 7, each": 24},
        {"pointwise 24": 1, "pointwise 24, each": 40, "moved": 2 * 40},
    ]
    assert engine_memory(graph, engine_kernels(graph), 2)[0] > sizes, "pointwise weights take two bytes each"


@pytest.mark.parametrize(
    ("model", "kernels", "widths", "told"),
    [
        ("dscnn", (3, 5), (), "only --model tcn"),
        ("tcn", (3, 5), (8,), "for each of the kernels 3,5, got 8"),
        ("tcn", (3, 5), (8, 0), "from 1 to"),
        ("tcn", (3,), (), "two or more"),
        ("tcn", (3, 49), (), "leave a row"),
    ],
)
def test_wrong_kernels_and_widths_are_one_sentence(
    model: str, kernels: tuple[int, ...], widths: tuple[int, ...], told: str
) -> None:
    with pytest.raises(TrainerError, match=told):
        Architecture.of(model, 4, SPEC.features).chain(kernels, widths)


def test_estimates_rise_with_every_width_and_kernel() -> None:
    base = Genes((3, 5, 7), (32, 32, 32))
    least = TABLE.estimate(base, SPEC)
    for place in range(3):
        wider = list(base.widths)
        wider[place] = 64
        more = TABLE.estimate(Genes(base.kernels, tuple(wider)), SPEC)
        assert more.hop_cycles > least.hop_cycles and more.flash > least.flash and more.ram > least.ram
    assert TABLE.estimate(Genes((5, 5, 7), base.widths), SPEC).hop_cycles > least.hop_cycles
    assert TABLE.estimate(Genes((3, 5, 9), base.widths), SPEC).flash != least.flash


def test_code_that_layers_may_share_is_counted_for_each_of_them() -> None:
    same, other = (
        engine_kernels(chain_graph(Genes((3, 5, 7), widths), SPEC)) for widths in ((32, 32, 32), (32, 40, 32))
    )
    shared, alone = (code_terms(same, shared) for shared in (True, False))
    assert alone["layer"] == shared["layer"] and alone["instruction"] > shared["instruction"]
    assert code_terms(other, True) == code_terms(other, False)


def test_probes_show_every_row_of_the_table_at_two_widths_far_apart() -> None:
    sizes: dict[str, set[float]] = {}
    for genes in probes():
        for terms in layer_terms(chain_graph(genes, SPEC, frames=200)):
            each = next(name for name in terms if name.endswith(", each"))
            sizes.setdefault(each.removesuffix(", each"), set()).add(terms[each])
    assert all(max(found) - min(found) >= 64 for found in sizes.values())
    assert {f"convolution {k}" for k in FIRST_KERNELS} | {f"depthwise {k}" for k in KERNELS} < set(sizes)
    assert {f"pointwise {width}" for width in WIDTHS} | {"dense 4"} < set(sizes)


def test_known_networks_are_made_narrower_until_they_fit(tmp_path: Path) -> None:
    estimate = run.costed(a_job(tmp_path), TABLE, False)
    assert all(genes.is_valid(FRAMES) for genes in SEEDS.values())
    wide, narrow = (run.known_networks(run.Limits(5, kb, kb), estimate) for kb in (1000, 40))
    assert set(SEEDS.values()) <= set(wide) and set(narrow.values()) == set(SEEDS)
    assert not set(SEEDS.values()) <= set(narrow)
    for genes, name in narrow.items():
        assert run.Limits(5, 40, 40).hold(estimate(genes)) and genes.kernels == SEEDS[name].kernels


def test_halving_keeps_the_best_of_each_level_and_of_the_known_networks(tmp_path: Path) -> None:
    estimate, rng = run.costed(a_job(tmp_path), TABLE, False), random.Random(1)
    limits = run.Limits(2, 1000, 1000)
    rows = [(random_genes(rng, FRAMES), value / 100) for value in rng.sample(range(100), 30)]
    short = [row for row in rows if limits.levels[0].hold(estimate(row[0]))]
    within = [row for row in rows if limits.hold(estimate(row[0]))]
    assert 2 < len(short) < len(within)
    worst = run.ranked(within)[-1][0]
    kept = run.halved(rows, 2, limits, estimate, [worst])
    assert set(kept) == {genes for part in (short, within) for genes, _ in run.ranked(part)[:2]} | {worst}


def test_a_limit_that_nothing_keeps_is_one_sentence_before_any_training(tmp_path: Path) -> None:
    estimate = run.costed(a_job(tmp_path), TABLE, False)
    with pytest.raises(TrainerError, match=r"no chain keeps 0\.05 ms, 64 KB and 24 KB; the smallest take"):
        run.require_some(run.Limits(0.05, 64, 24), estimate, FRAMES)
    run.require_some(LIMITS, estimate, FRAMES)
    with pytest.raises(TrainerError, match="must be one of evolution, random, mac"):
        run.Plan("hill climbing")


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    job, wanted = a_job(tmp_path), {"words": ["yes"], "limits": asdict(LIMITS), "validation_words": 3}
    assert claim(job, wanted) == claim(job, wanted) == {**wanted, "found": {}}
    with pytest.raises(TrainerError, match="holds a search with other words; give another --out"):
        claim(job, {**wanted, "words": ["no"]})
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(TrainerError, match="damaged"):
        claim(job, wanted)


def a_job(folder: Path) -> SearchJob:
    return SearchJob(folder, folder, Source("data", negatives="negatives"), ("yes", "stop"), None, board_tools())


class Killed(Exception):
    pass


def by_macs(genes: Genes) -> Cost:
    macs = genes.macs(4, SPEC.features)
    return Cost(2 * macs, 20_000 + macs, 6_000 + 40 * sum(genes.widths))


def searched(folder: Path, monkeypatch: pytest.MonkeyPatch, plan: run.Plan, die_after: int = 10**9) -> tuple[Json, int]:
    """A search whose trainings are a formula, kept in files as real ones are; and how many were made."""
    made = 0

    def train(job: SearchJob, trial: Trial) -> Json:
        nonlocal made
        file = job.file(trial.genes, f"rung{trial.rung}.json")
        if found := read_json_object(file, Named(Anything())):
            return found
        made += 1
        if made > die_after:
            raise Killed
        kernels, widths = trial.genes.kernels, trial.genes.widths
        misses = abs(widths[0] - 24) / 200 + abs(widths[-1] - 72) / 200 + abs(kernels[1] - 11) / 50
        found = {"misses": round(misses, 3), "seconds": 10.0}
        write_atomic(file, json.dumps(found).encode())
        return found

    def on_board(job: SearchJob, trial: Trial) -> Json:
        return {"hop_cycles": 50_000, "flash": 30_000, "ram": 9_000, "differences": 0, "inputs": 1}

    @contextmanager
    def here(address: str | None) -> Iterator[tuple[Any, int]]:
        def submit(work: Any, job: Any, point: Any) -> Future[Json]:
            future: Future[Json] = Future()
            try:
                future.set_result(work(job, point))
            except Killed as error:
                future.set_exception(error)
            return future

        yield submit, 1

    monkeypatch.setattr(run, "workers_of", here)
    monkeypatch.setattr(run, "run_on_board", on_board)
    monkeypatch.setattr(run, "cost_table", lambda *_: (TABLE, 0.01))
    monkeypatch.setattr(run, "facts", lambda _: {"validation_words": 100})
    monkeypatch.setattr(run, "costed", lambda *_: by_macs)
    return run.search(a_job(folder), plan, LIMITS, None, QUIET, train)["found"][plan.strategy], made


def without_folder(found: Json) -> list[Json]:
    return [{key: value for key, value in row.items() if key != "train"} for row in found["candidates"]]


def test_a_resumed_search_gives_the_same_result_and_evolution_beats_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = run.Plan(candidates=64)
    whole, made = searched(tmp_path / "whole", monkeypatch, plan)
    assert made == sum(whole["trained"]) and whole["trained"][0] == 64 and 8 <= whole["trained"][1] <= 18
    with pytest.raises(Killed):
        searched(tmp_path / "parts", monkeypatch, plan, die_after=37)
    again, rest = searched(tmp_path / "parts", monkeypatch, plan)
    assert rest == made - 37
    assert without_folder(again) == without_folder(whole)
    chance, more = searched(tmp_path / "whole", monkeypatch, run.Plan("random", 64))
    assert chance["trained"][0] == 64 and more < sum(chance["trained"]), "the first population is the same"
    best, other = (run.front(one["candidates"], LIMITS) for one in (whole, chance))
    assert best and other and best["rung"] == other["rung"] == 2 and best["misses"] < other["misses"]
    for row in whole["candidates"]:
        assert LIMITS.hold(by_macs(Genes(tuple(row["kernels"]), tuple(row["widths"]))))
    assert "--kernels" in best["train"] and {row["known"] for row in whole["candidates"]} == {"", *SEEDS}
    every = read_json_object(tmp_path / "whole" / "search.json", Named(Anything()))
    assert set(every["found"]) == {"evolution", "random"}
    assert len(run.show(every).rows) == 6, "two searches and the known networks at 1 and 2 ms"


def test_mac_as_the_cost_is_another_limit(tmp_path: Path) -> None:
    genes, job = Genes((3, 9, 9), (128, 16, 16)), a_job(tmp_path)
    cycles, mac = (run.costed(job, TABLE, by_mac) for by_mac in (False, True))
    assert cycles(SEEDS["spotter"]) == mac(SEEDS["spotter"])
    assert cycles(genes).hop_cycles != mac(genes).hop_cycles and cycles(genes).flash == mac(genes).flash


@pytest.mark.slow
def test_the_table_is_near_the_board_on_networks_it_was_not_made_from(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc on this machine")
    tools, rng = board_tools(), random.Random(11)
    table, error = cost.cost_table(SPEC, tools.hop_layers, tools.firmware_hop, tmp_path)
    assert error <= cost.LARGEST_ERROR
    kept, _ = cost.cost_table(SPEC, fail, fail, tmp_path)  # not measured again
    assert kept == table
    for genes in (random_genes(rng, FRAMES), random_genes(rng, FRAMES), Genes((9, 15, 3, 3), (128, 16, 128, 16))):
        assert cost.table_error(table, genes, SPEC, tools.firmware_hop) <= cost.LARGEST_ERROR


def fail(*_: Any, **__: Any) -> Json:
    raise AssertionError("measured again")


@pytest.mark.slow
def test_search_from_sounds_to_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("ffmpeg") is None:
        pytest.skip("needs arm-none-eabi-gcc and ffmpeg")
    monkeypatch.chdir(tmp_path)
    data = make(tmp_path / "data")
    rng = np.random.default_rng(3)
    for speaker in ("anna", "berta", "carl"):
        time = np.arange(16000 * 36) / 16000
        sound = 4000 * np.sin(2 * np.pi * time * np.repeat(rng.uniform(200, 3000, 120), 4800))
        write_wav(tmp_path / speaker / "talk.wav", np.rint(sound).astype(np.int16))
    make_negatives(tmp_path / "negatives", (), [tmp_path / name for name in ("anna", "berta", "carl")], QUIET)
    monkeypatch.setattr(run, "cost_table", lambda *_: (TABLE, 0.01))
    monkeypatch.setattr(run, "ON_BOARD", 1)
    source = Source(str(data), negatives=str(tmp_path / "negatives"))
    job = SearchJob(tmp_path / "search", tmp_path, source, ("yes", "stop"), 300, board_tools())
    found = run.search(job, run.Plan(candidates=2), run.Limits(1, 64, 24), None, QUIET)["found"]["evolution"]
    best = found["candidates"][0]
    assert best["rung"] == 2 and best["on_board"] and best["differences"] == 0 and best["inputs"] > 0
    assert 0 <= best["misses"] <= 1 and best["hop_cycles"] > 1000
    assert (tmp_path / "search" / "search.json").is_file()
    with pytest.raises(TrainerError, match="no chain keeps"):
        run.search(job, run.Plan(), run.Limits(1, 1, 24), None, QUIET)
