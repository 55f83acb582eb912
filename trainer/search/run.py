"""Regularized evolution (Real et al. 2019, arXiv 1802.01548) over chains of time convolutions within the board's
limits, successive halving of the best (Jamieson and Talwalkar 2016, arXiv 1502.07943), and the best run on the
virtual board.

What is drawn depends only on the seed and on earlier results, never on the clock or on which worker is faster, and
every result is a file: a search that was interrupted goes on where it was and ends as if it had not been.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from math import sqrt

from rich.progress import Progress
from rich.table import Table

from converter.arrays import Json
from converter.commands import cli
from converter.files import write_json
from converter.target import NRF52840
from trainer.errors import TrainerError
from trainer.run.steps import CACHE
from trainer.search.candidate import RUNGS, SearchJob, Trial, claim, facts, run_on_board, train_candidate
from trainer.search.cost import SPOTTER, Cost, CostTable, cost_table
from trainer.search.genes import FIRST_KERNELS, KERNELS, SEEDS, STAGES, WIDTHS, Genes, mutate, narrowed, random_genes
from trainer.sweep.run import Submit, Work, workers_of

POPULATION, TOURNAMENT = 12, 4  # of each level
BATCH = 8  # trained side by side: each drawn from the results of all batches before
KEPT = 4  # one of so many goes to the next rung, which takes so many times as long: equal time to each
ON_BOARD = 10
DRAWS = 300  # until one is new
STRATEGIES = ("evolution", "random", "mac")
BUDGETS_MS = (1.0, 2.0, 5.0)
KNOWN = "known"

Result = tuple[Genes, float]  # share of words missed
Estimate = Callable[[Genes], Cost]


@dataclass(frozen=True)
class Limits:
    """What a chain may take: time of a hop, bytes of the engine with its model."""

    hop_ms: float
    flash_kb: float
    ram_kb: float

    def hold(self, cost: Cost) -> bool:
        """True for a cost within all."""
        cycles = self.hop_ms * NRF52840.clock_hz / 1000
        return cost.hop_cycles <= cycles and cost.flash <= 1024 * self.flash_kb and cost.ram <= 1024 * self.ram_kb

    @property
    def levels(self) -> tuple[Limits, ...]:
        """With hops of each of BUDGETS_MS that is shorter, then these: one search finds the best of each."""
        return (*(replace(self, hop_ms=ms) for ms in BUDGETS_MS if ms < self.hop_ms), self)


@dataclass(frozen=True)
class Plan:
    """How a search goes: evolution, chains drawn at random, or evolution that takes a hop's multiply-adds for its
    cost ("mac"); trainings of the first rung."""

    strategy: str = "evolution"
    candidates: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise TrainerError(f"--strategy: must be one of {', '.join(STRATEGIES)}, got {self.strategy}")


def costed(job: SearchJob, table: CostTable, mac: bool) -> Estimate:
    """A function that estimates a chain; with `mac` a hop's cycles are in proportion to its multiply-adds, as many for
    each as the spotter takes."""
    spec, known = job.spec, dict[Genes, Cost]()
    labels, features = len(spec.labels), spec.features
    per_mac = table.estimate(SPOTTER, spec).hop_cycles / SPOTTER.macs(labels, features)

    def estimate(genes: Genes) -> Cost:
        if genes not in known:
            found = table.estimate(genes, spec)
            macs = round(genes.macs(labels, features) * per_mac)
            known[genes] = replace(found, hop_cycles=macs) if mac else found
        return known[genes]

    return estimate


def require_some(limits: Limits, estimate: Estimate, frames: int) -> None:
    """Raises TrainerError where not even the smallest chains keep the limits."""
    stages, width = min(STAGES), WIDTHS[0]
    chains = (
        Genes((FIRST_KERNELS[0], *kernels), (width,) * (stages + 1)) for kernels in product(KERNELS[::3], repeat=stages)
    )
    least = [estimate(genes) for genes in chains if genes.is_valid(frames)]
    if not any(limits.hold(cost) for cost in least):
        least_ms = 1000 * min(cost.hop_cycles for cost in least) / NRF52840.clock_hz
        raise TrainerError(
            f"--hop-ms, --flash-kb, --ram-kb: no chain keeps {limits.hop_ms:g} ms, {limits.flash_kb:g} KB and "
            f"{limits.ram_kb:g} KB; the smallest take {least_ms:.2f} ms, "
            f"{min(c.flash for c in least) / 1024:.1f} KB of flash and {min(c.ram for c in least) / 1024:.1f} KB of RAM"
        )


def draw(
    plan: Plan,
    number: int,
    results: Sequence[Result],
    taken: set[Genes],
    limits: Limits,
    estimate: Estimate,
    frames: int,
) -> Genes | None:
    """Candidate `number`, none of `taken`; None when no other is found. Levels take turns: each begins with SEEDS and
    goes on with random chains up to a POPULATION, then come children of the best of a TOURNAMENT among its last
    POPULATION. What is too large is made narrower until it fits."""
    level = limits.levels[number % len(limits.levels)]
    turn, seeds = number // len(limits.levels), list(SEEDS.values())
    rng = random.Random(f"{plan.seed} {number}")

    def fits(genes: Genes) -> bool:
        return level.hold(estimate(genes))

    living = [one for one in results if fits(one[0])][-POPULATION:]
    for attempt in range(DRAWS):
        if attempt == 0 and turn < len(seeds):
            genes = seeds[turn]
        elif plan.strategy == "random" or turn < POPULATION or not living:
            genes = random_genes(rng, frames)
        else:
            parent = min(rng.sample(living, min(TOURNAMENT, len(living))), key=lambda one: (one[1], one[0]))
            genes = mutate(parent[0], rng, frames)
        found = narrowed(genes, fits)
        if found and found not in taken:
            return found
    return None


def known_networks(limits: Limits, estimate: Estimate) -> dict[Genes, str]:
    """SEEDS as each level has them, with their names."""
    found = {}
    for level in limits.levels:
        for name, genes in SEEDS.items():
            if fitting := narrowed(genes, lambda one: level.hold(estimate(one))):  # noqa: B023
                found[fitting] = name
    return found


def halved(
    results: Sequence[Result], count: int, limits: Limits, estimate: Estimate, known: Sequence[Genes]
) -> list[Genes]:
    """Of each level the `count` with the fewest misses, and the best of the known networks, to compare with."""
    kept: dict[Genes, None] = {}
    for level in limits.levels:
        inside = [genes for genes, _ in ranked(results) if level.hold(estimate(genes))]
        kept |= dict.fromkeys([*inside[:count], *[genes for genes in inside if genes in known][:1]])
    return list(kept)


def ranked(results: Sequence[Result]) -> list[Result]:
    """Fewest misses first; nothing is left to the order in which they came."""
    return sorted(results, key=lambda one: (one[1], one[0]))


def search(
    job: SearchJob, plan: Plan, limits: Limits, address: str | None, progress: Progress, train: Work = train_candidate
) -> Json:
    """SEARCH/search.json: {strategy: found}, with this search beside those of other strategies made there before."""
    assert job.board
    say = partial(progress.console.print, highlight=False, soft_wrap=True)
    table, error = cost_table(job.spec, job.board.hop_layers, job.board.firmware_hop, CACHE)
    say(f"cost table: at most {100 * error:.1f} % off cycles, flash and RAM of networks it was not made from")
    labels, features = len(job.spec.labels), job.spec.features
    estimate, cycles = costed(job, table, plan.strategy == "mac"), costed(job, table, False)
    require_some(limits.levels[0], estimate, features.frames)
    every = claim(job, {"limits": asdict(limits), **facts(job)})
    known = known_networks(limits, estimate)
    with workers_of(address) as (submit, workers):
        rungs = _train(job, plan, limits, estimate, known, submit, workers, progress, train)
        last = {genes: Trial(genes, rung) for rung, rows in enumerate(rungs) for genes, _ in rows}
        misses = {Trial(genes, rung): value for rung, rows in enumerate(rungs) for genes, value in rows}
        place: dict[Genes, int] = {}
        for level in limits.levels:
            inside = [genes for genes in last if level.hold(cycles(genes))]
            inside.sort(key=lambda genes: (-last[genes].rung, misses[last[genes]], genes))
            for number, genes in enumerate(inside):
                place[genes] = min(number, place.get(genes, number))
        order = sorted(last, key=lambda genes: (place.get(genes, len(last)), -last[genes].rung, genes))
        best = order[:ON_BOARD]
        boards = dict(zip(best, _all(submit, run_on_board, job, [last[genes] for genes in best]), strict=True))
    rows = [
        {
            "kernels": genes.kernels,
            "widths": genes.widths,
            "rung": last[genes].rung,
            "misses": misses[last[genes]],
            "macs": genes.macs(labels, features),
            "known": known.get(genes, ""),
            "estimate": asdict(cycles(genes)),
            **asdict(cycles(genes)),
            **boards.get(genes, {}),
            "on_board": genes in boards,
            "train": command(job, genes),
        }
        for genes in order
    ]
    trained = [len(rung) for rung in rungs]
    every["found"][plan.strategy] = {"plan": asdict(plan), "table_error": error, "trained": trained, "candidates": rows}
    write_json(job.folder / "search.json", every)
    return every


def _train(
    job: SearchJob,
    plan: Plan,
    limits: Limits,
    estimate: Estimate,
    known: dict[Genes, str],
    submit: Submit,
    workers: int,
    progress: Progress,
    train: Work,
) -> list[list[Result]]:
    """Per rung every candidate with its misses."""
    frames, levels = job.spec.features.frames, len(limits.levels)
    counts = [max(1, round(plan.candidates / levels / KEPT**rung)) for rung in range(1, len(RUNGS))]
    planned = [plan.candidates, *(levels * (count + 1) for count in counts)]
    task = progress.add_task("search", total=1.0)
    rungs: list[list[Result]] = []
    spent: list[Json] = []

    def run(rung: int, chosen: Sequence[Genes]) -> list[Result]:
        found = _all(submit, train, job, [Trial(genes, rung) for genes in chosen])
        spent.extend(found)
        done = [*(len(rows) for rows in rungs), len(chosen)]
        done[rung] += rung == 0 and len(first)
        share = _share_done(done, planned)
        mean = sum(float(one["seconds"]) for one in spent) / max(share, 1e-9) * (1 - share) / workers / 60
        best = min([*(float(one["misses"]) for one in found), *(m for _, m in first if rung == 0)])
        told = f"rung {rung}: {done[rung]} trained, best {100 * best:.1f} % missed, about {mean:.0f} min left"
        progress.update(task, completed=share, description=f"search, {told}")
        progress.console.print(told, highlight=False)
        return [(genes, float(one["misses"])) for genes, one in zip(chosen, found, strict=True)]

    first: list[Result] = []
    while len(first) < plan.candidates:
        taken, batch = {genes for genes, _ in first}, list[Genes]()
        for number in range(len(first), min(plan.candidates, len(first) + BATCH)):
            if genes := draw(plan, number, first, taken | set(batch), limits, estimate, frames):
                batch.append(genes)
        if not batch:
            break
        first += run(0, batch)
    rungs.append(first)
    for rung, count in enumerate(counts, 1):
        rungs.append(run(rung, halved(rungs[-1], count, limits, estimate, list(known))))
    return rungs


def _share_done(done: Sequence[int], planned: Sequence[int]) -> float:
    """Of all time, every rung's trainings KEPT times as long as those of the rung before.

    >>> round(_share_done([16], [16, 4]), 2)
    0.5
    """
    weights = [float(KEPT**rung) for rung in range(len(planned))]
    total = sum(weight * count for weight, count in zip(weights, planned, strict=True))
    return min(1.0, sum(weight * count for weight, count in zip(weights, done, strict=False)) / total)


def _all(submit: Submit, work: Work, job: SearchJob, points: Sequence[object]) -> list[Json]:
    """The results in the order of the points; the first error ends it."""
    futures: list[Future[Json]] = [submit(work, job, point) for point in points]
    try:
        for future in as_completed(futures):
            future.result()
    except BrokenProcessPool:
        raise TrainerError("a worker was killed (out of memory?); start the same command again to continue") from None
    return [future.result() for future in futures]


def command(job: SearchJob, genes: Genes) -> str:
    """What trains a candidate fully."""
    source = job.source
    return (
        f"python -m trainer train --data {source.data} --words {','.join(job.words)} --model tcn {genes.options} "
        f"--negatives {source.negatives} --out {job.folder / 'winners' / genes.key}"
    )


def front(candidates: Sequence[Json], limits: Limits) -> Json | None:
    """The candidate with the fewest misses of those trained longest within the limits, by the board's figures where it
    ran there; only equal rungs are compared."""
    held = [
        row
        for row in candidates
        if limits.hold(Cost(row["hop_cycles"], row["flash"], row["ram"])) and not row.get("differences")
    ]
    return min(held, key=lambda row: (-row["rung"], row["misses"], row["hop_cycles"]), default=None)


def show(every: Json) -> Table:
    """The front at every level, of each strategy and of the known networks; fits in 80 columns."""
    heads = ("search", "at most\nms", "missed\n%", "cycles\na hop", "flash\nKB", "RAM\nKB", "kernels\nwidths")
    shown = cli.table("fewest words missed at 0.5 false accepts an hour", heads, left=("search", heads[-1]))
    found = {name: one["candidates"] for name, one in sorted(every["found"].items())}
    found[KNOWN] = [row for rows in found.values() for row in rows if row["known"]]
    for level in Limits(**every["limits"]).levels:
        for name, candidates in found.items():
            row = front(candidates, level)
            if row is None:
                shown.add_row(name, f"{level.hop_ms:g}", "none")
                continue
            error = sqrt(row["misses"] * (1 - row["misses"]) / max(1, every["validation_words"]))
            about = "" if row["on_board"] else "~"
            shown.add_row(
                name,
                f"{level.hop_ms:g}",
                f"{100 * row['misses']:.1f} +-{100 * error:.1f}",
                f"{about}{row['hop_cycles']:,}",
                *(f"{about}{row[key] / 1024:.1f}" for key in ("flash", "ram")),
                "\n".join("-".join(map(str, row[key])) for key in ("kernels", "widths")),
            )
        shown.add_section()
    trained = ", ".join(f"{name} {one['trained'][0]}" for name, one in sorted(every["found"].items()))
    shown.caption = f"Of speakers left out. Short trainings: {trained}. +-: of the words alone. ~: estimated."
    return shown
