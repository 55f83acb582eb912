"""One training as one of its workers runs it; a killed one continues from its checkpoint with the same result."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from trainer.distributed.exchange import Exchange, Strength, Wire
from trainer.distributed.task import Task, shard
from trainer.errors import TrainerError
from trainer.run.fit import load_torch, save_torch

Report = Callable[[str, int, int], None]  # which training, steps done, steps in all


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training but its method and seed. batch: examples a worker takes for a step;
    every: steps between two measurements, each with a checkpoint."""

    model: str
    words: tuple[str, ...]
    partition: str
    steps: int
    every: int
    batch: int
    learning_rate: float
    momentum: float = 0.9
    seeds: int = 3
    strength: Strength = field(default_factory=Strength)


@dataclass
class Training:
    """What a checkpoint holds: the same on every worker but for what its exchange and its optimizer remember."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    exchange: Exchange
    history: list[dict[str, float]]
    sent_bytes: int = 0
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """As save_torch takes it."""
        wire = self.exchange.wire
        counted = [wire.payload_bytes, wire.ring_bytes, self.sent_bytes, self.seconds]
        parts = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**parts, "exchange": self.exchange.memory(), "history": self.history, "counted": counted}

    def take_up(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.exchange.remember(state["exchange"])
        wire, self.history = self.exchange.wire, state["history"]
        wire.payload_bytes, wire.ring_bytes, self.sent_bytes, self.seconds = state["counted"]


def train(task: Task, plan: Plan, method: str, seed: int, folder: Path, report: Report) -> dict[str, Any]:
    """Train in step with the other workers of torch's process group; the record of what came out.

    Checkpoints lie in `folder`, a worker's own; its two newest are kept, so that after a kill all have one in common.
    """
    group = dist.group.WORLD
    assert group is not None
    rank, workers = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(seed)
    network = task.network()
    exchange = Exchange.of(method, Wire(group), plan.strength, seed)
    optimizer = torch.optim.SGD(network.parameters(), plan.learning_rate, plan.momentum)
    run = Training(network, optimizer, exchange, [])
    identity = json.dumps([asdict(plan), method, seed, workers, rank, task.digest()])
    _resume(run, folder, rank, identity)
    parallel = DistributedDataParallel(network, bucket_cap_mb=4096, forward_sync_buffers=False)
    # DDP regroups the gradients after its first step: let it do that now, so that a continued training too sees them in
    # the order that stays.
    parallel.eval()(task.real(task.train[:1])).sum().backward()
    parallel.register_comm_hook(*exchange.hook())
    mine = shard(task, plan.partition, rank, workers, seed)
    title = f"{method}, seed {seed}"
    while exchange.step < plan.steps:
        _step(run, parallel, task, plan, mine, seed, rank)
        if exchange.replicas_agree() and exchange.step % plan.every == 0:
            require_equal(network, f"{title}, step {exchange.step}")
        if exchange.step % plan.every == 0 or exchange.step == plan.steps:
            _measure(run, task)
            save_torch(folder / f"worker{rank}-{exchange.step}.pt", {**run.state(), "identity": identity})
            for old in _checkpoints(folder, rank)[:-2]:
                (folder / f"worker{rank}-{old}.pt").unlink()
        report(title, exchange.step, plan.steps)
    facts = {"method": method, "seed": seed, "workers": workers, "steps": plan.steps}
    facts |= {"parameters": sum(p.numel() for p in network.parameters()), "held_n": len(task.held_labels)}
    counted = {"payload_bytes": exchange.wire.payload_bytes, "ring_bytes": exchange.wire.ring_bytes}
    counted |= {"sent_bytes": run.sent_bytes, "seconds": run.seconds}
    return {**facts, **{name: count / plan.steps for name, count in counted.items()}, "history": run.history}


def _step(
    run: Training, parallel: nn.Module, task: Task, plan: Plan, mine: np.ndarray[Any, Any], seed: int, rank: int
) -> None:
    step = run.exchange.step
    began, written = time.perf_counter(), bytes_written()
    chosen = torch.from_numpy(batch_of(mine, plan.batch, step, (seed, rank)))
    torch.manual_seed((seed << 40) + (step << 12) + rank)  # dropout
    for group in run.optimizer.param_groups:
        warm, left = min(1.0, (step + 1) / (0.05 * plan.steps)), 0.5 + 0.5 * float(np.cos(np.pi * step / plan.steps))
        group["lr"] = plan.learning_rate * warm * left
    parallel.train()
    run.optimizer.zero_grad()
    loss = F.cross_entropy(parallel(task.real(task.train[chosen])), task.train_labels[chosen])
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.exchange.end_step(run.network)
    run.sent_bytes += bytes_written() - written
    run.seconds += time.perf_counter() - began


def batch_of(mine: np.ndarray[Any, Any], size: int, step: int, key: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The examples of a step: a worker goes through its own again and again, each time in a new order."""
    places = np.arange(step * size, (step + 1) * size)
    orders = {turn: np.random.default_rng([*key, turn]).permutation(mine) for turn in set(places // len(mine))}
    return np.array([orders[place // len(mine)][place % len(mine)] for place in places])


def bytes_written() -> int:
    """What this process has handed to the kernel to write, sockets included: Linux's count, 0 elsewhere."""
    try:
        text = Path("/proc/self/io").read_text()
    except OSError:
        return 0
    return int(text.split("wchar: ")[1].split("\n")[0])


def require_equal(network: nn.Module, where: str) -> None:
    """Raises RuntimeError on every worker when their parameters are not the same to the last bit."""
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in network.parameters())).digest()
    mine, every = torch.frombuffer(bytearray(digest), dtype=torch.uint8), torch.empty(32 * dist.get_world_size())
    every = every.to(torch.uint8)
    dist.all_gather_single(every, mine)
    if any(not torch.equal(mine, other) for other in every.view(-1, 32)):
        raise RuntimeError(f"{where}: the workers' parameters differ")


def _measure(run: Training, task: Task) -> None:
    """Accuracy on the held examples, a share for each worker; statistics of batch norms are averaged before."""
    for buffer in run.network.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer.div_(dist.get_world_size()))
    wire, share = run.exchange.wire, slice(dist.get_rank(), None, dist.get_world_size())
    right = count_right(run.network, task.real(task.held[share]), task.held_labels[share])
    dist.all_reduce(right)
    counted = {"payload_bytes": wire.payload_bytes, "sent_bytes": run.sent_bytes or round(wire.ring_bytes)}
    run.history.append({"step": run.exchange.step, "accuracy": float(right) / len(task.held_labels), **counted})


def count_right(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """How many examples are named rightly."""
    network.eval()
    with torch.no_grad():
        return (torch.cat([network(part).argmax(1) for part in torch.split(x, 250)]) == labels).sum()


def _checkpoints(folder: Path, rank: int) -> list[int]:
    return sorted(int(file.stem.split("-")[1]) for file in folder.glob(f"worker{rank}-*.pt"))


def _resume(run: Training, folder: Path, rank: int, identity: str) -> None:
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, _checkpoints(folder, rank))
    common = set.intersection(*(set(steps) for steps in every))
    if not common:
        return
    file = folder / f"worker{rank}-{max(common)}.pt"
    state = load_torch(file)
    if state.get("identity") != identity:
        raise TrainerError(f"{file}: made with other settings or data; give another --out, or remove {folder}")
    run.take_up(state)
