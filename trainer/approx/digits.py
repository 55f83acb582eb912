"""Handwritten digits, a perceptron that reads them, and what a low-rank factored layer does to its size, accuracy and
speed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.approx.matmul import factor
from trainer.approx.speed import one_thread_times
from trainer.errors import TrainerError
from trainer.studies.images import read_idx

HIDDEN, CLASSES, BATCH = (512, 128), 10, 64
FACTORED = {"first layer": (0,), "last two layers": (2, 4), "all layers": (0, 2, 4)}  # places in the network
RANKS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
Digits = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # train pictures [n, pixels] in 0..1, train labels, test pictures, test labels


def load_digits(data: Path | None) -> Digits:
    """MNIST from its idx files, gzipped or not; where the 60,000 training pictures are missing, 8,000 of the 10,000
    test ones train.

    Without a folder: the 1,797 real 8 x 8 digits that scikit-learn brings along, 1,438 of them train.
    """
    if data is None:
        return _small_digits()
    test = read_idx(data, "t10k-images-idx3-ubyte", 3), read_idx(data, "t10k-labels-idx1-ubyte", 1)
    if any(data.glob("train-images-idx3-ubyte*")):
        train = read_idx(data, "train-images-idx3-ubyte", 3), read_idx(data, "train-labels-idx1-ubyte", 1)
    else:
        train, test = _split(*test)
    return *_tensors(*train), *_tensors(*test)


def _small_digits() -> Digits:
    try:
        from sklearn import datasets
    except ImportError:
        raise TrainerError(
            "digits: without --data they come from scikit-learn, which is not installed; pip install scikit-learn, "
            "or name a folder with MNIST's idx files with --data"
        ) from None
    found = datasets.load_digits()
    train, test = _split((found.images * 255 / 16).round().astype(np.uint8), found.target.astype(np.uint8))
    return *_tensors(*train), *_tensors(*test)


Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def _split(pictures: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> tuple[Pair, Pair]:
    """Four fifths that train and one that tests, chosen by a fixed seed."""
    order = np.random.default_rng(0).permutation(len(pictures))
    cut = len(order) * 4 // 5
    return (pictures[order[:cut]], labels[order[:cut]]), (pictures[order[cut:]], labels[order[cut:]])


def _tensors(pictures: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    if len(pictures) != len(labels):
        raise TrainerError(
            f"digits: pictures and labels come in pairs, got {len(pictures)} and {len(labels)}; download the "
            f"files again"
        )
    return torch.tensor(pictures.reshape(len(pictures), -1)).float() / 255, torch.tensor(labels).long()


def train_perceptron(pictures: Tensor, labels: Tensor, epochs: int = 8, seed: int = 0) -> nn.Sequential:
    """pixels-512-128-10 with ReLU, trained by Adam."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (pictures.shape[1], *HIDDEN, CLASSES)
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        net = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(epochs):
            for chosen in torch.split(torch.randperm(len(pictures)), 100):
                optimizer.zero_grad()
                functional.cross_entropy(net(pictures[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return net.requires_grad_(False)


def factored(net: nn.Sequential, rank: int, places: tuple[int, ...] = FACTORED["first layer"]) -> nn.Sequential:
    """The same network, each dense layer at these places replaced by two of `rank` between them, or of its full rank
    where that is less; the others stay."""
    made: list[nn.Module] = []
    for place, layer in enumerate(net):
        if place not in places:
            made.append(layer)
            continue
        assert isinstance(layer, nn.Linear)
        between = min(rank, *layer.weight.shape)
        left, right = factor(layer.weight, between)
        narrow, wide = nn.Linear(right.shape[1], between, bias=False), nn.Linear(between, left.shape[0])
        with torch.no_grad():
            narrow.weight.copy_(right)
            wide.weight.copy_(left)
            wide.bias.copy_(layer.bias)
        made += [narrow, wide]
    return nn.Sequential(*made).requires_grad_(False)


def layers_of(pixels: int, batch: int = BATCH) -> list[dict[str, Any]]:
    """One record per dense layer of the network as trained: operations, bytes of fp32 weights, inputs and outputs,
    operations per byte, and whether this machine's arithmetic or its memory bounds it: on which side of the ridge it
    lies."""
    ridge = _ridge()
    found = []
    for inputs, outputs in pairwise((pixels, *HIDDEN, CLASSES)):
        operations = 2 * batch * inputs * outputs
        moved = 4 * (outputs * inputs + batch * (inputs + outputs))
        record = {"layer": f"{inputs} to {outputs}", "operations": operations, "bytes": moved}
        intensity = operations / moved
        bound = "compute" if intensity >= ridge else "memory"
        found.append({**record, "operations_per_byte": intensity, "ridge": ridge, "bound": bound})
    return found


def _ridge() -> float:
    """Operations per byte at which one thread's fastest matrix product and copy meet."""
    a, b = torch.rand(2, 512, 512)
    source, target = torch.rand(2, 16 << 20)
    product, copied = (times.best for times in one_thread_times([lambda: a @ b, lambda: target.copy_(source)], 5))
    return (2 * 512**3 / product) / (2 * 4 * len(source) / copied)


def study(digits: Digits, epochs: int = 8, rounds: int = 200) -> list[dict[str, Any]]:
    """One record per set of factored layers and rank, the first (rank 0) for the network as trained: parameters, test
    accuracy, microseconds for 64 pictures (the shortest, the third quartile, and the quartiles' distance over the
    median as spread). A rank that no layer of the set has is left out."""
    train_x, train_y, test_x, test_y = digits
    net = train_perceptron(train_x, train_y, epochs)
    made = [("none", 0, net)]
    for title, places in FACTORED.items():
        weights = [layer.weight for place, layer in enumerate(net) if place in places and isinstance(layer, nn.Linear)]
        full = max(min(weight.shape) for weight in weights)
        made += [(title, rank, factored(net, rank, places)) for rank in RANKS if rank <= full]
    batch = test_x[:BATCH].contiguous()
    times = one_thread_times([lambda each=each: each(batch) for _, _, each in made], rounds)  # type: ignore[misc]
    records = []
    for (title, rank, each), spent in zip(made, times, strict=True):
        right = int((each(test_x).argmax(1) == test_y).sum())
        records.append(
            {
                "factored": title,
                "rank": rank,
                "inputs": train_x.shape[1],
                "parameters": sum(p.numel() for p in each.parameters()),
                "accuracy": right / len(test_y),
                "test_n": len(test_y),
                "microseconds": 1e6 * spent.best,
                "microseconds_upper": 1e6 * spent.upper,
                "spread": spent.spread,
            }
        )
    return records
