"""What the methods cost and save: trainings on the wire, their costs on one quiet thread, a table and two charts."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from converter.files import write_atomic
from trainer.distributed.exchange import METHODS, PLAIN_STEPS, Exchange, Still, Strength
from trainer.distributed.launch import Job, by_torchrun, work_by_torchrun, work_here
from trainer.distributed.pictures import Speed, accuracy_picture, time_picture
from trainer.distributed.task import MODELS, PARTITIONS, Task, load_task, shard
from trainer.distributed.train import Plan
from trainer.errors import TrainerError

MBIT = (10, 100, 1000)
POINTS_BELOW = 2.0  # the accuracy to reach: so many points below what all-reduce ends with
BATCH = {"tinyconv": 16, "dscnn": 16, "mnist_cnn": 8, "perceptron": 16}  # of a worker
RATE = {"tinyconv": 0.01, "dscnn": 0.1, "mnist_cnn": 0.05, "perceptron": 0.1}
STEPS = {"tinyconv": 480, "dscnn": 320, "mnist_cnn": 160, "perceptron": 320}
MEASURED = 20  # times in a training
ROUNDS = 15


def plan_of(model: str, words: tuple[str, ...], partition: str, steps: int | None) -> Plan:
    """The usual settings of a model; the steps become a multiple of those between two averages."""
    if model not in MODELS:
        raise TrainerError(f"--model: must be one of {', '.join(MODELS)}, got {model}")
    if partition not in PARTITIONS:
        raise TrainerError(f"--partition: must be one of {', '.join(PARTITIONS)}, got {partition}")
    period, wanted = Strength().period, steps or STEPS[model]
    every = period * max(1, round(wanted / MEASURED / period))
    return Plan(model, words, partition, every * -(-wanted // every), every, BATCH[model], RATE[model])


def methods_of(text: str) -> tuple[str, ...]:
    """Names with commas between, `none` in front because the others are measured by it; "" names all."""
    chosen = [name.strip() for name in text.split(",") if name.strip()] or list(METHODS)
    for name in chosen:
        if name not in METHODS:
            raise TrainerError(f"--methods: must be among {', '.join(METHODS)}, got {name}")
    return tuple(dict.fromkeys(["none", *chosen]))


def study(job: Job, workers: int, progress: Progress) -> dict[str, Any] | None:
    """Train what is not yet trained, measure, and write OUT/distributed.json, table.md, accuracy.png and time.png; what
    the json holds. None in a worker of torchrun's that is not the first."""
    task = load_task(job.plan.model, job.data, job.plan.words, progress)
    workers = int(os.environ["WORLD_SIZE"]) if by_torchrun() else workers
    shard(task, job.plan.partition, 0, workers, 0)
    _require_same(job, task, workers)
    if by_torchrun():
        if not work_by_torchrun(job, progress):
            return None
    elif not all(job.record(*training).is_file() for training in job.trainings()):
        work_here(job, workers, progress)
    records = [json.loads(job.record(*training).read_text()) for training in job.trainings()]
    bar = progress.add_task("costs on one thread", total=len(job.methods))
    costs = {}
    for method in job.methods:
        costs[method] = method_costs(task, job.plan, method, workers)
        progress.advance(bar)
    compute = min(cost["compute"] for cost in costs.values())  # the same passes, whatever the method
    costs = {method: {**cost, "compute": compute} for method, cost in costs.items()}
    found = {"task": task.title, "workers": workers, "plan": asdict(job.plan)} | summary(records, costs)
    write_atomic(job.out / "distributed.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomic(job.out / "table.md", table(found).encode())
    write_atomic(job.out / "accuracy.png", accuracy_picture(found))
    write_atomic(job.out / "time.png", time_picture(found))
    return found


def _require_same(job: Job, task: Task, workers: int) -> None:
    """A folder holds trainings of one plan."""
    file = job.out / "plan.json"
    mine = json.dumps({"plan": asdict(job.plan), "workers": workers, "examples": task.digest()}, indent=1) + "\n"
    if not file.is_file():
        write_atomic(file, mine.encode())
    elif file.read_text() != mine:
        raise TrainerError(f"{file}: was made with other settings or data; give another --out, or remove {job.out}")


def method_costs(task: Task, plan: Plan, method: str, workers: int, rounds: int = ROUNDS) -> dict[str, float]:
    """CPU seconds of one thread, the least of many rounds: a step's forward and backward pass, and what the method adds
    before its last message is sent (encode) and after it came (decode: from every worker)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = task.network()
    x, y = task.real(task.train[: plan.batch]), task.train_labels[: plan.batch]
    exchange = Exchange.of(method, Still(workers), plan.strength, 0)
    state, hook = exchange.hook()
    spent: dict[str, list[float]] = {"compute": [], "encode": [], "decode": []}
    for number in range(PLAIN_STEPS + rounds):
        began = time.thread_time()
        network.zero_grad()
        F.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        spent["compute"].append(time.thread_time() - began)
        if method == "local":  # its averages are plain sums of parameters
            continue
        wire = exchange.wire
        began, wire.inside = time.thread_time(), 0.0
        hook(state, bucket_of(network)).wait()
        if number >= PLAIN_STEPS:
            spent["decode"].append(time.thread_time() - wire.returned_at)
            spent["encode"].append(wire.returned_at - began - wire.inside)
        exchange.step += 1
    return {name: min(seconds) if seconds else 0.0 for name, seconds in spent.items()}


def bucket_of(network: nn.Module) -> Any:
    """The gradients of a network as the one bucket a hook is given."""
    parameters = list(network.parameters())
    flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    sizes = [p.numel() for p in parameters]
    views: list[Tensor] = [part.view(p.shape) for part, p in zip(torch.split(flat, sizes), parameters, strict=True)]
    return SimpleNamespace(buffer=lambda: flat, gradients=lambda: views, index=lambda: 0, is_last=lambda: True)


def summary(records: Sequence[dict[str, Any]], costs: dict[str, dict[str, float]]) -> dict[str, Any]:
    """One row per method: means over its seeds; times to the accuracy that is POINTS_BELOW below all-reduce's."""
    of: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        of.setdefault(record["method"], []).append(record)
    plain = of["none"]
    target = statistics.mean(_last(r) for r in plain) - POINTS_BELOW / 100
    reference = _speed(plain, costs["none"], target)
    rows = []
    for method, runs in of.items():
        speed = _speed(runs, costs[method], target)
        accuracies = [_last(run) for run in runs]
        row: dict[str, Any] = {"method": method, **{name: _mean(runs, name) for name in ("payload_bytes", "seconds")}}
        row |= {"sent_bytes": _sent(runs), "ring_bytes": _mean(runs, "ring_bytes"), "accuracy": accuracies}
        row |= {"fewer": _mean(plain, "payload_bytes") / row["payload_bytes"], "costs": costs[method]}
        row["curve"] = [
            [statistics.mean(points[name] for points in at) for name in ("sent_bytes", "accuracy")]
            for at in zip(*(run["history"] for run in runs), strict=True)
        ]
        if speed:
            row |= {"speed": asdict(speed), "seconds_at_mbit": {str(m): speed.seconds(m) for m in MBIT}}
        if speed and reference and method != "none":
            row["break_even_mbit"] = speed.break_even(reference)
        rows.append(row)
    first = records[0]
    facts = {"target": target, "seeds": len(plain), "parameters": first["parameters"], "held_n": first["held_n"]}
    return {**facts, "rows": rows}


def _mean(runs: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.mean(float(run[name]) for run in runs)


def _sent(runs: Sequence[dict[str, Any]]) -> float:
    """As the kernel counted, where it does."""
    return _mean(runs, "sent_bytes" if runs[0]["sent_bytes"] else "ring_bytes")


def _last(run: dict[str, Any]) -> float:
    return float(run["history"][-1]["accuracy"])


def _speed(runs: Sequence[dict[str, Any]], cost: dict[str, float], target: float) -> Speed | None:
    """None when a seed does not get there."""
    steps = [next((p["step"] for p in run["history"] if p["accuracy"] >= target), None) for run in runs]
    reached = [step for step in steps if step is not None]
    return Speed(statistics.median(reached), sum(cost.values()), _sent(runs)) if len(reached) == len(runs) else None


def table(found: dict[str, Any]) -> str:
    """The rows in markdown."""
    head = [
        "method",
        "bytes a step",
        "times fewer",
        "sent, B",
        f"accuracy, % (n = {found['held_n']})",
        f"steps to {100 * found['target']:.1f} %",
        "encode, decode, ms",
        *(f"s at {m} Mbit/s" for m in MBIT),
        "faster below",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in found["rows"]:
        percent = [100 * a for a in row["accuracy"]]
        spread = f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
        cost, speed = row["costs"], row.get("speed")
        cells = [row["method"], f"{row['payload_bytes']:,.0f}", f"{row['fewer']:.1f}", f"{row['sent_bytes']:,.0f}"]
        cells += [f"{statistics.mean(percent):.1f}{spread}", f"{speed['steps']:.0f}" if speed else "not reached"]
        cells += [f"{1e3 * cost['encode']:.2f}, {1e3 * cost['decode']:.2f}"]
        cells += [f"{row['seconds_at_mbit'][str(m)]:.1f}" if speed else "" for m in MBIT]
        lines.append("| " + " | ".join([*cells, said_break_even(row)]) + " |")
    return "\n".join(lines) + "\n"


def said_break_even(row: dict[str, Any]) -> str:
    """Up to which bandwidth the method beats all-reduce."""
    at = row.get("break_even_mbit")
    if at is None:
        return ""
    return "never" if at == 0 else "always" if math.isinf(at) else f"{at:,.0f} Mbit/s"
