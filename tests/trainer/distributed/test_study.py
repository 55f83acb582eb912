"""Workers in processes of their own: equal to the last bit, counted, killed and continued; and what a study says."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from rich.progress import Progress
from torch import nn

from trainer.distributed import launch, study
from trainer.distributed.exchange import METHODS, Strength
from trainer.distributed.launch import Job, work_here
from trainer.distributed.train import Plan, require_equal
from trainer.errors import TrainerError

pytest.importorskip("sklearn")
PLAN = Plan("perceptron", (), "iid", 16, 4, 8, 0.1, seeds=1, strength=Strength(0.05, 4, 4))
QUIET = Progress(disable=True)
Records = dict[str, dict[str, Any]]


def records(job: Job) -> Records:
    """Results but for their seconds."""
    read = {method: json.loads(job.record(method, 0).read_text()) for method in job.methods}
    return {method: {k: v for k, v in record.items() if k != "seconds"} for method, record in read.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Every method, measured after every step: a worker compares itself with the others each time."""
    job = Job(replace(PLAN, every=1), "digits", METHODS, tmp_path_factory.mktemp("every"))
    work_here(job, 2, QUIET)
    assert not list(job.out.glob("checkpoints/*/*"))
    return records(job)


def test_replicas_are_equal_after_every_step(made: Records) -> None:
    for method, record in made.items():
        assert [point["step"] for point in record["history"]] == list(range(1, 17)), method


def test_unequal_replicas_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(every: torch.Tensor, mine: torch.Tensor) -> None:
        every.view(2, -1)[:] = mine
        every[-1] ^= 1

    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_single", gather)
    with pytest.raises(RuntimeError, match="here: the workers' parameters differ"):
        require_equal(nn.Linear(2, 2), "here")


def test_bytes_that_travel(made: Records) -> None:
    dense = 4 * 9610
    expected = {"none": dense, "fp16": dense / 2, "topk": 8 * 480, "randomk": 4 * 480, "sign": 4 + 1202}
    expected |= {"qsgd": 4 * 19 + 4805, "powersgd1": (2 * dense + 14 * 1872) / 16, "local": dense / 4}
    for method, payload in expected.items():
        assert made[method]["payload_bytes"] == payload, method


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="the kernel's own count is Linux's")
def test_sockets_send_what_the_wire_counts(made: Records) -> None:
    for method, record in made.items():
        headers = record["sent_bytes"] - record["ring_bytes"]
        assert 0 <= headers <= 0.02 * record["ring_bytes"] + 6000, method  # of few messages, and of those between steps


def test_few_steps_teach_as_much_as_all_reduce(made: Records) -> None:
    ends = {method: record["history"][-1]["accuracy"] for method, record in made.items()}
    assert ends["none"] > 0.3  # of ten classes
    for method in ("fp16", "qsgd", "powersgd4", "local"):  # the others' errors come back after more steps than these
        assert ends[method] > ends["none"] - 0.1, method


def interrupting(title: str, how: Callable[[], None]) -> type[launch.Shown]:
    class Interrupting(launch.Shown):
        def __call__(self, named: str, step: int, steps: int) -> None:
            super().__call__(named, step, steps)
            if (named, step) == (title, 10):
                how()

    return Interrupting


def kill() -> None:
    last = max(child.pid or 0 for child in multiprocessing.active_children())
    os.kill(last, signal.SIGKILL)


def stop() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_study_ends_the_same(made: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(PLAN, "digits", ("topk", "powersgd1"), tmp_path)
    again = "start the same command again, it continues from the last checkpoint"
    for title, how, error, says in (
        ("topk, seed 0", stop, KeyboardInterrupt, None),
        ("powersgd1, seed 0", kill, TrainerError, f"worker 2 of 2 ended with signal 9 after powersgd1.*; {again}"),
    ):
        with monkeypatch.context() as patch, pytest.raises(error, match=says):
            patch.setattr(launch, "Shown", interrupting(title, how))
            work_here(job, 2, QUIET)
        assert not multiprocessing.active_children()
        assert list(tmp_path.glob("checkpoints/*/worker0-*.pt"))
    work_here(job, 2, QUIET)
    for method, record in records(job).items():
        whole = made[method]
        assert record["payload_bytes"] == whole["payload_bytes"]
        every_fourth = [(p["step"], p["accuracy"], p["payload_bytes"]) for p in whole["history"][3::4]]
        assert [(p["step"], p["accuracy"], p["payload_bytes"]) for p in record["history"]] == every_fourth


def test_a_lost_connection_is_known_behind_the_fault_that_it_caused() -> None:
    # c10d's log of a failed all_reduce looks the group up, and does not know a group that wraps another
    reset = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1427: Connection reset by peer")
    behind = ValueError("Process group is not initialized in the world group map")
    behind.__context__ = reset
    assert launch._lost(reset) and launch._lost(behind)
    assert not launch._lost(ValueError("Connection")) and not launch._lost(RuntimeError("a shape"))


def test_a_fault_of_the_user_ends_all_workers_with_its_sentence(tmp_path: Path) -> None:
    job = Job(replace(PLAN, partition="speaker"), "digits", ("none",), tmp_path)
    with pytest.raises(TrainerError, match="--partition speaker: needs a speaker"):
        study.study(job, 2, QUIET)


def test_what_a_study_writes(tmp_path: Path) -> None:
    job = Job(PLAN, "digits", ("none", "sign"), tmp_path)
    history = [[(4, 0.5), (8, 0.9), (12, 0.91), (16, 0.92)], [(4, 0.4), (8, 0.7), (12, 0.915), (16, 0.93)]]
    for method, points, size in (("none", history[0], 1000.0), ("sign", history[1], 100.0)):
        curve = [{"step": s, "accuracy": a, "sent_bytes": s * size, "payload_bytes": s * size} for s, a in points]
        record = {"method": method, "workers": 2, "parameters": 9610, "held_n": 360, "history": curve, "seconds": 0.1}
        record |= {"payload_bytes": size, "ring_bytes": size, "sent_bytes": size}
        job.record(method, 0).write_text(json.dumps(record))
    found = study.study(job, 2, QUIET)
    assert found is not None and found["target"] == pytest.approx(0.90)
    none, sign = found["rows"]
    assert (none["speed"]["steps"], sign["speed"]["steps"], sign["fewer"]) == (8, 12, 10)
    assert sign["costs"]["encode"] > 0 and sign["costs"]["decode"] > 0
    longer = 12 * sign["speed"]["step_seconds"] - 8 * none["speed"]["step_seconds"]
    assert longer > 0 and sign["break_even_mbit"] == pytest.approx(8e-6 * (8 * 1000 - 12 * 100) / longer)
    for name in ("accuracy.png", "time.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.md").read_text() == study.table(found)
    assert "| sign | 100 | 10.0 | 100 | 93.0 | 12 |" in study.table(found)
    with pytest.raises(TrainerError, match=r"plan.json: was made with other settings or data"):
        study.study(replace(job, plan=replace(PLAN, steps=32)), 2, QUIET)


def test_settings_that_do_not_exist() -> None:
    with pytest.raises(TrainerError, match=r"--methods: must be among none, .*, got zip"):
        study.methods_of("sign,zip")
    with pytest.raises(TrainerError, match="--model: must be one of"):
        study.plan_of("resnet", (), "iid", None)
    plan = study.plan_of("tinyconv", ("yes",), "iid", 100)
    assert plan.steps >= 100 and plan.steps % plan.every == plan.every % plan.strength.period == 0
    assert study.methods_of("sign") == ("none", "sign")
