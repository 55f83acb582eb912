"""How long the networks take: inference by batch, forward and backward of a training step, and where that time goes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from converter.commands.timing import Times
from trainer.roofline import nets
from trainer.roofline.models import Network, kind_of
from trainer.roofline.system import free_bytes, synchronise, take

BATCHES = (1, 8, 64, 256)
TRAIN_BATCH = 8
HELD = 2  # a run holds up to about twice its largest layer: skip connections, the library's own buffers


def inference(name: str, batch: int, device: str, seconds: float) -> dict[str, Any]:
    """Seconds of one batch, fp32, random weights, pictures already on the device."""
    network, x = nets.build(name).to(device), nets.pictures(name, batch, device)
    with torch.inference_mode():
        times = take(lambda: network(x), device, seconds)
    return {**times.to_json(), "batch": batch, "pictures_per_second": batch / times.median}


def too_large(counted: Network, batch: int, device: str) -> str:
    """Why a batch does not fit into memory, or nothing."""
    needed = 4 * (counted.weights + batch * HELD * counted.largest)
    free = free_bytes(device)
    return (
        f"estimated {needed / 1e9:.1f} GB, more than 80 % of the free {free / 1e9:.1f} GB"
        if needed > 0.8 * free
        else ""
    )


def too_slow(batch: int, known_batch: int, known_seconds: float, limit: float) -> str:
    """Why a batch would take too long, by the time of a smaller one and one warm-up and three runs; or nothing.

    >>> too_slow(256, 64, 5.0, 30.0)
    'estimated 80 s for 4 runs (batch 64 took 5 s), the limit is 30 s'
    """
    estimate = 4 * known_seconds * batch / known_batch
    return (
        f"estimated {estimate:.0f} s for 4 runs (batch {known_batch} took {known_seconds:.2g} s), the limit "
        f"is {limit:g} s"
        if estimate > limit
        else ""
    )


def training(name: str, device: str, runs: int = 3) -> dict[str, Any]:
    """Forward and backward of a training step, and the share of each kind of layer in both (one more step,
    profiled)."""
    network, x = nets.build(name).to(device).train(), nets.pictures(name, TRAIN_BATCH, device)
    _step(network, x, device)
    taken = [_step(network, x, device) for _ in range(runs)]
    forward, backward = Times(tuple(f for f, _ in taken)), Times(tuple(b for _, b in taken))
    network.zero_grad(set_to_none=True)
    losses: list[Tensor] = []
    shares = {
        "forward": _profiled(lambda: losses.append(_loss(network, x)), device),
        "backward": _profiled(lambda: torch.autograd.backward(losses), device),
    }
    return {
        "batch": TRAIN_BATCH,
        "forward": forward.to_json(),
        "backward": backward.to_json(),
        "backward_over_forward": backward.median / forward.median,
        "kinds": shares,
    }


def _step(network: nn.Module, x: Tensor, device: str) -> tuple[float, float]:
    network.zero_grad(set_to_none=True)
    losses: list[Tensor] = []
    forward = _once(lambda: losses.append(_loss(network, x)), device)
    return forward, _once(lambda: losses[0].backward(), device)  # type: ignore[no-untyped-call]


def _once(call: Callable[[], object], device: str) -> float:
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def _loss(network: nn.Module, x: Tensor) -> Tensor:
    out = network(x)
    heads = [out] if isinstance(out, Tensor) else [head for head in out if head is not None]
    return torch.stack([head.square().mean() for head in heads]).sum()


@contextmanager
def _silent() -> Iterator[None]:
    """torch 2.13's profiler reports its own start and end on stderr, whatever its log level."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _profiled(call: Callable[[], object], device: str) -> dict[str, float]:
    """Seconds by kind of layer: each operator's own time."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with _silent(), profile(activities=activities) as profiler:
        call()
        synchronise(device)
    found: dict[str, float] = {}
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        if event.key.startswith(("aten::", "autograd::")) and microseconds > 0:
            kind = kind_of(event.key.removeprefix("aten::")) if event.key.startswith("aten::") else "other"
            found[kind] = found.get(kind, 0.0) + microseconds / 1e6
    return found
