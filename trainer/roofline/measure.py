"""Everything that is measured on this machine, one point after another into OUT/measure.json; what is there already is
not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from converter.files import write_atomic
from trainer.errors import TrainerError
from trainer.roofline import latency, machine, models, nets, system

LONG_POINTS = 14  # a point may take this part of the whole time
Point = dict[str, Any]


@dataclass
class Store:
    """The file of a measurement: machine, minutes allowed on each device, its load when begun, seconds spent by device,
    points by key, whether it is finished."""

    file: Path
    machine: dict[str, Any]
    minutes: float
    load: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    points: dict[str, Point] = field(default_factory=dict)

    @staticmethod
    def open(file: Path, minutes: float) -> Store:
        """An unfinished measurement of this machine to continue, or a new one."""
        here, busy = system.machine(), system.load()
        if not file.exists():
            return Store(file, here, minutes, busy)
        found = load(file)
        if found["finished"]:
            return Store(file, here, minutes, busy)
        if found["machine"] != here:
            raise TrainerError(
                f"{file}: an unfinished measurement is continued on the machine it was begun on, got {here['cpu']}, "
                f"{here['threads']} threads, torch {here['torch']} after {found['machine']['cpu']}, "
                f"{found['machine']['threads']} threads, torch {found['machine']['torch']}; remove the file to begin "
                f"anew"
            )
        return Store(file, here, minutes, max(busy, found["load"]), found["spent"], False, found["points"])

    def save(self) -> None:
        """Write what is measured so far."""
        keys = ("machine", "minutes", "load", "spent", "finished", "points")
        content = {key: getattr(self, key) for key in keys}
        write_atomic(self.file, (json.dumps(content, indent=1) + "\n").encode())


def load(file: Path) -> dict[str, Any]:
    """A measurement as it was stored."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        if not isinstance(found["points"], dict) or not isinstance(found["machine"], dict):
            raise TypeError("points and machine are objects")
        spent = {str(device): float(seconds) for device, seconds in found["spent"].items()}
        found |= {"finished": bool(found["finished"]), "spent": spent, "load": float(found["load"])}
    except FileNotFoundError:
        raise TrainerError(
            f"{file}: there is no measurement; make one with `trainer roofline measure --out {file.parent}`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainerError(
            f"{file}: this is not what `roofline measure` writes, got {error!r}; remove it and measure again"
        ) from None
    return found


def run(
    out: Path,
    minutes: float,
    say: Callable[[str], None],
    networks: Sequence[str] = tuple(nets.NAMES),
    batches: Sequence[int] = latency.BATCHES,
    largest: int = 0,
    elements: int = 0,
) -> Path:
    """Measure what is missing, saving after every point; the minutes are each device's own, so that a slow CPU leaves
    the GPU its share. Smaller `largest` matrices and `elements` are for tests."""
    store = Store.open(out / "measure.json", minutes)
    if unused := system.unused_gpu():
        say(unused)
    for device in system.devices():
        if device == "cuda":  # fp32 means fp32, and the fastest algorithm of cuDNN
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.benchmark = True
        todo = list(_points(device, store, networks, batches, largest, elements))
        for number, (key, work) in enumerate(todo, 1):
            if key not in store.points:
                began = time.perf_counter()
                store.points[key] = _guarded(work)
                store.spent[device] = round(store.spent.get(device, 0.0) + time.perf_counter() - began, 3)
                store.save()
                say(f"{number}/{len(todo)}  {store.spent[device]:5.0f} s  {key}: {describe(store.points[key])}")
    store.finished = True
    store.save()
    return store.file


def _guarded(work: Callable[[], Point]) -> Point:
    """A point that ran out of memory says so."""
    try:
        return work()
    except (torch.OutOfMemoryError, MemoryError) as error:
        return {"skipped": f"out of memory: {str(error).splitlines()[0]}"}
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        return {"skipped": f"out of memory: {str(error).splitlines()[0]}"}


def _points(
    device: str, store: Store, networks: Sequence[str], batches: Sequence[int], largest: int, elements: int
) -> Iterator[tuple[str, Callable[[], Point]]]:
    """Keys and work, cheap ones first."""
    seconds = min(2.0, store.minutes * 4)
    for dtype in machine.DTYPES:
        yield f"{device} peak {dtype}", lambda dtype=dtype: machine.peak(dtype, device, seconds / 4, largest)  # type: ignore[misc]
    for kernel in machine.STREAM:
        yield f"{device} stream {kernel}", lambda kernel=kernel: machine.stream(kernel, device, seconds, elements)  # type: ignore[misc]
    small = [batch for batch in batches if batch <= latency.TRAIN_BATCH]
    for batch in (*small, None, *batches[len(small) :]):  # training steps come before the large batches
        for name in networks:
            if batch is None:
                yield f"{device} training {name}", partial(_training, store, name, device)
            else:
                yield inference_key(device, name, batch), partial(_inference, store, name, batch, device, seconds)


def inference_key(device: str, name: str, batch: int) -> str:
    """The point's name in measure.json."""
    return f"{device} inference {name} {batch}"


def _inference(store: Store, name: str, batch: int, device: str, seconds: float) -> Point:
    counted = models.count(nets.build(name, "meta"), nets.pictures(name, 1, "meta"), name)
    reason = latency.too_large(counted, batch, device)
    known = _known(store, name, batch, device)
    if not reason and known:
        reason = latency.too_slow(batch, *known, _limit(store, device))
    return {"skipped": reason} if reason else latency.inference(name, batch, device, seconds)


def _training(store: Store, name: str, device: str) -> Point:
    """A step costs about three inferences; there are five of them."""
    known = _known(store, name, 1 << 30, device)
    if known:
        batch, took = known
        estimate = 15 * took * latency.TRAIN_BATCH / batch
        limit = 2 * _limit(store, device)
        if estimate > limit:
            return {"skipped": f"estimated {estimate:.0f} s for 5 steps, the limit is {limit:.3g} s"}
    return latency.training(name, device)


def _known(store: Store, name: str, below: int, device: str) -> tuple[int, float] | None:
    """The largest batch under `below` that was measured, and its seconds."""
    prefix = f"{device} inference {name} "
    found = {int(key.removeprefix(prefix)): point for key, point in store.points.items() if key.startswith(prefix)}
    measured = [batch for batch, point in found.items() if batch < below and "median" in point]
    return (max(measured), found[max(measured)]["median"]) if measured else None


def _limit(store: Store, device: str) -> float:
    """Seconds the device's next point may take: a share of its whole time, and no more than what is left of it."""
    whole = 60 * store.minutes
    return max(0.0, min(whole / LONG_POINTS, whole - store.spent.get(device, 0.0)))


def describe(point: Point) -> str:
    """A point in a few words.

    >>> describe({"bytes_per_second": 2.5e10, "median": 0.03})
    '25.0 GB/s'
    """
    if "skipped" in point:
        return f"left out: {point['skipped']}"
    if "operations_per_second" in point:
        return f"{point['operations_per_second'] / 1e9:.1f} GOP/s ({point['way']})"
    if "bytes_per_second" in point:
        return f"{point['bytes_per_second'] / 1e9:.1f} GB/s"
    if "backward" in point:
        return (
            f"forward {1000 * point['forward']['median']:.0f} ms, backward {1000 * point['backward']['median']:.0f} ms"
        )
    return (
        f"{1000 * point['median']:.1f} ms, spread {100 * point['spread']:.0f} %, "
        f"{point['pictures_per_second']:.1f} pictures/s"
    )


def spearman(columns: dict[str, dict[str, float]]) -> dict[str, dict[str, tuple[float, int]]]:
    """Rank correlation of every pair of columns over the networks both have, and how many those are; under four: nan.

    >>> spearman({"a": {"w": 0, "x": 1, "y": 2, "z": 9}, "b": {"w": 9, "x": 5, "y": 4, "z": 3}})["a"]["b"]
    (-1.0, 4)
    """
    found: dict[str, dict[str, tuple[float, int]]] = {}
    for one, left in columns.items():
        found[one] = {}
        for other, right in columns.items():
            shared = [name for name in left if name in right]
            ranks = [_ranks([column[name] for name in shared]) for column in (left, right)]
            found[one][other] = (_pearson(*ranks) if len(shared) > 3 else float("nan"), len(shared))
    return found


def _ranks(values: list[float]) -> list[float]:
    """Equal values share the mean of their ranks."""
    return [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values]


def _pearson(x: list[float], y: list[float]) -> float:
    """nan where all values are equal."""
    n = len(x)
    mean_x, mean_y = (sum(values) / max(n, 1) for values in (x, y))
    product = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    norm = sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)
    return round(product / norm**0.5, 12) if norm else float("nan")
