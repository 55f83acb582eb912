"""The workers of a study: processes of this machine that live no longer than the command, or one each by torchrun."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist
from rich.progress import Progress

from converter.files import write_atomic
from trainer.distributed.task import load_task
from trainer.distributed.train import Plan, Report, train
from trainer.errors import TrainerError
from trainer.workers import follow_parent

LOST = 75  # exit code of a worker that ended because another one was gone
GRACE_SECONDS = 2.0  # for the others to end, before it is said which one was first
TIMEOUT = timedelta(minutes=10)
AGAIN = "start the same command again, it continues from the last checkpoint"


@dataclass(frozen=True)
class Job:
    """What every worker of a study does: each method with each seed, in one order; OUT/METHOD-SEED.json are results."""

    plan: Plan
    data: str
    methods: tuple[str, ...]
    out: Path

    def trainings(self) -> list[tuple[str, int]]:
        """Method and seed of each training."""
        return [(method, seed) for seed in range(self.plan.seeds) for method in self.methods]

    def record(self, method: str, seed: int) -> Path:
        """The file with a training's result."""
        return self.out / f"{method}-{seed}.json"


def by_torchrun() -> bool:
    """Whether torchrun started this process, as one of its workers."""
    return dist.is_torchelastic_launched()


def work(job: Job, report: Report) -> None:
    """A worker's part in every training that has no result yet, in the process group that torch has been given."""
    torch.set_num_threads(1)
    with Progress(disable=True) as silent:
        task = load_task(job.plan.model, job.data, job.plan.words, silent)
    wanted = [[t for t in job.trainings() if not job.record(*t).is_file()]]
    dist.broadcast_object_list(wanted)  # the first worker's folder decides
    for method, seed in wanted[0]:
        folder = job.out / "checkpoints" / f"{method}-{seed}"
        record = train(task, job.plan, method, seed, folder, report)
        if dist.get_rank() == 0:
            write_atomic(job.record(method, seed), (json.dumps(record) + "\n").encode())
        dist.barrier()
        for file in folder.glob(f"worker{dist.get_rank()}-*.pt"):
            file.unlink()


def work_by_torchrun(job: Job, progress: Progress) -> bool:
    """This process's part; True in the first worker, which goes on to say what came out."""
    dist.init_process_group("gloo", timeout=TIMEOUT)
    try:
        first = dist.get_rank() == 0
        work(job, Shown(job, progress) if first else lambda *_: None)
    except Exception as error:
        if not _lost(error):
            raise
        raise TrainerError(f"distributed: another worker is gone; {AGAIN}") from None
    finally:
        dist.destroy_process_group()
    return first


def work_here(job: Job, workers: int, progress: Progress) -> None:
    """The same by so many processes of this machine. Raises TrainerError when one of them dies."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as meeting:
        pipes = [context.Pipe(duplex=False) for _ in range(workers)]
        every: list[BaseProcess] = [
            context.Process(target=_worker, args=(rank, workers, f"{meeting}/store", pipes[rank][1], job))
            for rank in range(workers)
        ]
        try:
            for process, (_, theirs) in zip(every, pipes, strict=True):
                process.start()
                theirs.close()
            _watch(every, [ours for ours, _ in pipes], Shown(job, progress))
        finally:
            for process in every:
                if process.pid is not None:
                    process.kill()
                    process.join()


class Shown:
    """A bar for the study and one for the training it is at."""

    def __init__(self, job: Job, progress: Progress) -> None:
        every = job.trainings()
        done = sum(job.record(*training).is_file() for training in every)
        self.progress, self.last = progress, ""
        self.all = progress.add_task("trainings", total=len(every), completed=done)
        self.one = progress.add_task("waiting for the workers", total=job.plan.steps)

    def __call__(self, title: str, step: int, steps: int) -> None:
        """A step of the training of this title is done."""
        self.last = f"{title}, step {step}"
        self.progress.update(self.one, description=title, completed=step, total=steps)
        if step == steps:
            self.progress.advance(self.all)


def _watch(every: Sequence[BaseProcess], pipes: Sequence[connection.Connection], shown: Shown) -> None:
    listened, running = list(pipes), {process.sentinel: process for process in every}
    while running:
        for ready in connection.wait([*listened, *running]):
            if isinstance(ready, connection.Connection):
                try:
                    found = ready.recv()
                except EOFError:
                    listened.remove(ready)
                    continue
                if isinstance(found, str):
                    raise TrainerError(found)
                shown(*found)
            else:
                assert isinstance(ready, int)
                ended = running.pop(ready)
                ended.join()
                if ended.exitcode:
                    _say_who(every, listened, shown)


def _say_who(every: Sequence[BaseProcess], pipes: Sequence[connection.Connection], shown: Shown) -> None:
    end = time.monotonic() + GRACE_SECONDS
    for process in every:
        process.join(max(0.0, end - time.monotonic()))
    for pipe in pipes:
        try:
            while pipe.poll():
                if isinstance(found := pipe.recv(), str):
                    raise TrainerError(found)
        except EOFError:
            pass
    codes = [process.exitcode for process in every]
    rank = min(range(len(codes)), key=lambda r: (codes[r] in (None, 0), codes[r] == LOST))
    code = codes[rank] or 0
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    raise TrainerError(
        f"distributed: worker {rank + 1} of {len(every)} ended with {how} after {shown.last or 'no step'}; {AGAIN}"
    )


def _worker(rank: int, workers: int, meeting: str, pipe: connection.Connection, job: Job) -> None:
    follow_parent()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    report: Callable[[str, int, int], None] = (lambda *step: pipe.send(step)) if rank == 0 else (lambda *_: None)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers, timeout=TIMEOUT)
    try:
        work(job, report)
    except TrainerError as error:
        pipe.send(str(error))
    except Exception as error:
        if not _lost(error):
            raise
        pipe.close()
        os._exit(LOST)  # without waiting for those who are gone
    dist.destroy_process_group()


def _lost(error: BaseException | None) -> bool:
    """Whether gloo said that another worker has closed its connection, also where torch failed at telling so."""
    while error is not None:
        if isinstance(error, RuntimeError) and "connection" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False
