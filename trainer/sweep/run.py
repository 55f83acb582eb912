"""A sweep: every point of a grid trained, converted, built and run on the virtual board; on the cores here or on a Ray
cluster.

Finished points are never made again: each has its folder, named by its parameters, and its result.json is written whole
or not at all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from converter.arrays import Json
from converter.checked import Anything, Fields, Items, Named, build, check, json_in, shown
from converter.commands import cli
from converter.files import write_atomic
from trainer.board import BoardTools
from trainer.data.augment import load_split
from trainer.errors import TrainerError
from trainer.run.fit import TrainSettings
from trainer.run.prune import FINE_TUNE_SHARES
from trainer.run.steps import CACHE, Source, default_settings, pool_of
from trainer.sweep.grid import NONE, Point
from trainer.sweep.point import Job, float_is_done, make_point, read_result, train_float, write_result
from trainer.workers import worker_pool

ROOT = Path(__file__).resolve().parents[2]

Work = Callable[[Any, Any], Json]  # of a job and one of its points
Submit = Callable[[Work, Any, Any], "Future[Json]"]
EPOCH_SECONDS = {
    "tinyconv": 0.5,
    "tinyconv_stream": 0.5,
    "dscnn": 3.0,
}  # of float training, 5,337 clips: CPU time measured on one core
QAT_FACTOR = 1.3  # fake quantization costs so much more
TRAIN_SECONDS, BOARD_SECONDS = (
    12.0,
    10.0,
)  # of a point beside its epochs: loading, detector, export, test; conversion, build, 50 clips
PRIOR_SECONDS = 120.0  # for so much work the first estimate outweighs what was seen
CLIPS_OF_AN_EPOCH = 5337
BOARD_CLIPS = 50


def sweep(job: Job, points: Sequence[Point], again: str | None, address: str | None, progress: Progress) -> list[Json]:
    """The result of every point, in their order; SWEEP/sweep.json names them. Broken points carry an "error", the rest
    goes on."""
    if again not in (None, "board", "all"):
        raise TrainerError(f"--again: must be board or all, got {again}")
    say = partial(progress.console.print, highlight=False, soft_wrap=True)
    claim(job, points)
    for point in points if again else ():
        forget(job, point, again)
    wanted = [p for p in points if not _is_finished(job, p)]
    trained = {p for p in wanted if "train" in read_result(job.point_folder(p))}
    floats = list({p.float_key: p for p in wanted if p not in trained and not float_is_done(job, p)}.values())
    clips = _prepare(job, wanted, progress) if len(trained) < len(wanted) else 0
    seconds = {p: BOARD_SECONDS if p in trained else estimate(job, p, clips) for p in wanted}
    needed = {f: float_seconds(job, f, clips) for f in floats}
    waiting = [p for p in wanted if p not in trained and any(p.float_key == f.float_key for f in floats)]
    with workers_of(address) as (submit, workers):
        minutes = (sum(seconds.values()) + sum(needed.values())) / 60 / workers
        say(
            f"{len(points)} points, {len(points) - len(wanted)} of them finished; {len(floats)} float networks "
            f"to train; "
            f"about {minutes:.0f} minutes on {workers} workers (estimate, refined while it runs)"
        )
        try:
            _run(job, wanted, waiting, needed, seconds, submit, workers, progress)
        except KeyboardInterrupt:
            say("interrupted; start the same command again to continue")
            raise
    results = [read_result(job.point_folder(p)) for p in points]
    broken = [r for r in results if "error" in r or not {"train", "board"} <= r.keys()]
    say(
        f"{job.folder}: {len(results) - len(broken)} points finished, {len(broken)} broken; "
        f"`python -m host report {job.folder}` draws them"
    )
    return results


def claim(job: Job, points: Sequence[Point]) -> None:
    """SWEEP/sweep.json; a folder of another task is refused, points made before stay listed."""
    file = job.folder / "sweep.json"
    facts = {
        "words": list(job.words),
        "source": asdict(job.source),
        "epochs": job.epochs,
        "clips": job.clips,
        "smoke_test": job.source.synthetic,
    }
    before: list[Json] = []
    if file.is_file():
        try:
            old = json_in(file)
            check("", old, Fields({"points": Items(Named(Anything()))}))
            before = old.pop("points")
            for point in before:
                built = build(Point, {name: value for name, value in point.items() if name != "key"}, "points")
                if built.key != point.get("key"):
                    raise ValueError(f"points: the key of {built.label} is {built.key}, got {shown(point.get('key'))}")
        except (OSError, ValueError) as error:
            raise TrainerError(f"{file}: damaged ({error}); remove it, the finished points stay") from None
        if differs := [key for key in facts if old.get(key) != facts[key]]:
            raise TrainerError(f"{job.folder}: holds a sweep with other {', '.join(differs)}; give another --out")
    every = list(
        {json.dumps(p, sort_keys=True): p for p in [*before, *({**asdict(p), "key": p.key} for p in points)]}.values()
    )
    write_atomic(file, (json.dumps({**facts, "points": every}, indent=1, sort_keys=True) + "\n").encode())


def forget(job: Job, point: Point, again: str | None) -> None:
    """Take out of result.json what is to be made again: board or all."""
    result = read_result(job.point_folder(point))
    kept = {
        k: v
        for k, v in result.items()
        if k != "error" and k in (("point", "commands", "train") if again == "board" else ())
    }
    if result:
        write_result(job.point_folder(point), kept)


def _is_finished(job: Job, point: Point) -> bool:
    result = read_result(job.point_folder(point))
    return "train" in result and "board" in result and "error" not in result


def _prepare(job: Job, points: Sequence[Point], progress: Progress) -> int:
    """Make all features once, before the workers read them; the clips of an epoch. No clips: TrainerError, before
    anything starts."""
    selection = job.source.selection(job.spec, progress)
    for split in ("validation", "test"):
        if not len(load_split(selection, split, CACHE, progress).labels):
            raise TrainerError(
                f"{job.source.data}: holds no {split} clips of {', '.join(job.words)}; give more recordings"
            )
    return pool_of(job.source, selection, _settings(job, points[0]), progress).epoch_size


def _settings(job: Job, point: Point) -> TrainSettings:
    return default_settings(job.source, point.model, job.epochs, point.seed)


def float_seconds(job: Job, point: Point, clips: int) -> float:
    """Seconds of one quiet core for a float network."""
    return _settings(job, point).epochs * EPOCH_SECONDS[point.model] * clips / CLIPS_OF_AN_EPOCH


def estimate(job: Job, point: Point, clips: int) -> float:
    """Seconds of one quiet core for what a point needs beyond its float network, from the epochs it trains."""
    epochs = float(point.finetune * len(FINE_TUNE_SHARES) if point.kind != NONE else 0)
    if point.method == "qat":
        epochs += QAT_FACTOR * max(4, _settings(job, point).epochs // 4)
    width = 1 - point.amount if point.kind == "structured" else 1.0
    return (
        TRAIN_SECONDS
        + BOARD_SECONDS
        + epochs * EPOCH_SECONDS[point.model] * max(0.3, width) * clips / CLIPS_OF_AN_EPOCH
    )


@contextmanager
def workers_of(address: str | None) -> Iterator[tuple[Submit, int]]:
    """A function that hands work to a process of this machine, or to a Ray cluster's, and gives its future; how many
    there are."""
    if address is not None:
        with ray_workers(address) as found:
            yield found
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the workers
    workers = os.cpu_count() or 1
    with worker_pool(workers) as pool:
        try:
            yield lambda work, job, point: pool.submit(work, job, point), workers
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def ray_workers(address: str) -> Iterator[tuple[Submit, int]]:
    """The same on Ray: one task a core. Every node needs this project, and the sweep's and the data's folders under the
    same names."""
    try:
        import ray
    except ImportError:
        raise TrainerError("--ray: the package ray is not installed; run `pip install '.[ray]'`") from None
    started = not ray.is_initialized()
    if started:
        try:
            project = {"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
            ray.init(address=None if address == "local" else address, log_to_driver=False, runtime_env=project)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = (str(error).splitlines() or ["no answer"])[0]
            raise TrainerError(
                f"--ray {address}: no cluster there ({why}); start one with `ray start --head`"
            ) from None
    remote: dict[str, Any] = {}

    def submit(work: Work, job: Any, point: Any) -> Future[Json]:
        task = remote.setdefault(work.__name__, ray.remote(num_cpus=1)(work))
        future: Future[Json] = task.remote(job, point).future()
        return future

    try:
        yield submit, max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    finally:
        if started:
            ray.shutdown()


def _run(
    job: Job,
    wanted: Sequence[Point],
    waiting: Sequence[Point],
    floats: dict[Point, float],
    seconds: dict[Point, float],
    submit: Submit,
    workers: int,
    progress: Progress,
) -> None:
    """Float networks first, the longest before the others; a point as soon as its float network is there."""
    total, done, began = sum(floats.values()) + sum(seconds.values()), 0.0, time.monotonic()
    task = progress.add_task("sweep", total=len(floats) + len(wanted))
    running: dict[Future[Json], tuple[Point, bool]] = {
        submit(train_float, job, f): (f, True) for f in sorted(floats, key=lambda f: -floats[f])
    }
    running |= {submit(make_point, job, p): (p, False) for p in wanted if p not in waiting}
    while running:
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            point, is_float = running.pop(future)
            followers = [p for p in waiting if p.float_key == point.float_key] if is_float else []
            holds, told = _outcome(job, point, future, followers)
            done += floats[point] if is_float else seconds[point]
            for follower in followers if holds else []:
                running[submit(make_point, job, follower)] = (follower, False)
            spent = (time.monotonic() - began) * workers
            left = (total - done) * (spent + PRIOR_SECONDS) / (done + PRIOR_SECONDS) / workers / 60
            progress.update(task, advance=1, description=f"sweep, about {left:.0f} min left")
            name = point.float_key if is_float else point.label
            progress.console.print(f"{name}: {told}; about {left:.0f} min left", highlight=False, soft_wrap=True)


def _outcome(job: Job, point: Point, future: Future[Json], followers: Sequence[Point]) -> tuple[bool, str]:
    """Whether it came, and a few words on it; a float network that failed breaks all the points that start from it."""
    try:
        found = future.result()
    except BrokenProcessPool:
        raise TrainerError("a worker was killed (out of memory?); start the same command again to continue") from None
    except Exception as error:
        sentence = (str(error).splitlines() or [type(error).__name__])[-1]
        for broken in followers or [point]:
            write_result(job.point_folder(broken), {"point": asdict(broken), "commands": [], "error": sentence[:400]})
        return False, f"broken: {sentence}"
    if followers:
        return True, f"float network trained in {found['seconds']} s"
    if "error" in found:
        return False, f"broken: {found['error']}"
    train, board = found["train"], found["board"]
    same = f"{board['differences']} of {board['inputs']} differ"
    return True, f"{train['accuracy']:.2f} % (n = {train['n']}), {board['board_ms']:.2f} ms, {same}"


def table(results: Sequence[Json]) -> Table:
    """One row per point."""
    heads = ("point", "accuracy %", "n", "cycles", "ms", "engine flash B", "uJ, modelled", "differ")
    shown = cli.table("sweep", heads, left=("point",))
    for result in results:
        name = Point(**result["point"]).label if "point" in result else ""
        if "error" in result or not {"train", "board"} <= result.keys():
            shown.add_row(name, f"broken: {result.get('error', 'another sweep in this folder makes it again')}")
            continue
        t, b = result["train"], result["board"]
        figures = (
            f"{b['cycles']:,.0f}",
            f"{b['board_ms']:.2f}",
            f"{b['engine_flash_bytes']:,}",
            f"{b['energy_uj']:.1f}",
        )
        differ = f"{b['differences']} of {b['inputs']}"
        shown.add_row(name, f"{t['accuracy']:.2f}", str(t["n"]), *figures, differ)
    return shown


def make_job(out: Path, source: Source, words: Sequence[str], epochs: int | None, board: BoardTools) -> Job:
    """The job of a sweep in `out`, started from the working folder."""
    return Job(out.resolve(), Path.cwd(), source, tuple(words), epochs, BOARD_CLIPS, board)
