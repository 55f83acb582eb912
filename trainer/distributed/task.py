"""What is learned: examples, which worker holds which, and the network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import Tensor, nn

from converter.spec import KwsSpec
from trainer.data.augment import AugmentSettings, load_split, training_pool
from trainer.errors import TrainerError
from trainer.network.model import Architecture, build
from trainer.run.steps import CACHE, Source
from trainer.studies.images import load_pictures

MODELS = ("tinyconv", "dscnn", "mnist_cnn", "perceptron")
PARTITIONS = ("iid", "speaker")
COPIES = 2  # augmented ones of each recording
HIDDEN, HELD = 128, 1000  # of the perceptron; of MNIST's test pictures


@dataclass(frozen=True)
class Task:
    """Examples as bytes [n, planes, rows, columns], labels, and how bytes become numbers; `held` ones measure accuracy.

    speakers: of each training example, "" where there is none (silence); none at all for pictures.
    """

    title: str
    train: Tensor
    train_labels: Tensor
    held: Tensor
    held_labels: Tensor
    zero: float
    scale: float
    speakers: tuple[str, ...]
    network: Callable[[], nn.Module]

    def real(self, examples: Tensor) -> Tensor:
        """Examples as a network takes them."""
        return (examples.float() - self.zero) * self.scale

    def digest(self) -> str:
        """Tells these examples from others."""
        parts = (self.train, self.train_labels, self.held, self.held_labels)
        return hashlib.sha256(b"".join(p.numpy().tobytes() for p in parts)).hexdigest()[:16]


def load_task(model: str, data: str, words: tuple[str, ...], progress: Progress) -> Task:
    """The task of a model: words from a folder shaped like Speech Commands, pictures from one with MNIST's idx files,
    or `digits`, scikit-learn's 1,797 small ones. Raises TrainerError."""
    if model not in MODELS:
        raise TrainerError(f"--model: must be one of {', '.join(MODELS)}, got {model}")
    return _words(model, data, words, progress) if model in ("tinyconv", "dscnn") else _pictures(model, data)


def _words(model: str, data: str, words: tuple[str, ...], progress: Progress) -> Task:
    spec = KwsSpec.of_words(words)
    selection = Source(data).selection(spec, progress)
    pool = training_pool(selection, AugmentSettings(copies=COPIES), CACHE, progress)
    held = load_split(selection, "validation", CACHE, progress)
    unknown = pool.unknown[0, : COPIES * pool.extra]
    known = pool.known.reshape(-1, *pool.known.shape[2:])
    names = [clip.name for clip in selection.clips["train"] if clip.label >= 2] * COPIES
    names += [clip.name for clip in selection.pool[: len(unknown)]]
    labels = np.concatenate(
        [np.tile(pool.labels, COPIES), np.ones(len(unknown), np.int64), np.zeros(len(pool.silence), np.int64)]
    )
    features = spec.features
    return Task(
        f"{' and '.join(words)}, validation clips",
        torch.from_numpy(np.concatenate([known, unknown, pool.silence])[:, None]),
        torch.from_numpy(labels),
        torch.from_numpy(held.features[:, None]),
        torch.from_numpy(held.labels),
        features.zero_point,
        float(np.float32(features.scale)),
        (*(speaker_of(name) for name in names), *[""] * len(pool.silence)),
        lambda: build(Architecture.of(model, len(spec.labels), features, dropout=0.1)),
    )


def speaker_of(name: str) -> str:
    """Who says a clip.

    >>> speaker_of("yes/004ae714_nohash_0.wav")
    '004ae714'
    """
    return name.rsplit("/", 1)[-1].split("_nohash_")[0].split(".")[0]


def _pictures(model: str, data: str) -> Task:
    title, train, train_labels, held, held_labels = _small_digits() if data == "digits" else _mnist(Path(data))
    classes, shape = int(train_labels.max()) + 1, train.shape[1:]
    if model == "mnist_cnn" and data == "digits":
        raise TrainerError("--model mnist_cnn: needs 28 x 28 digits, got --data digits (8 x 8); give MNIST's folder")

    def network() -> nn.Module:
        if model == "mnist_cnn":
            return build(Architecture.of_pictures(model, classes, shape))
        pixels = int(np.prod(shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))

    x, y, held_x, held_y = (torch.from_numpy(np.array(part)) for part in (train, train_labels, held, held_labels))
    return Task(title, x, y.long(), held_x, held_y.long(), 0.0, 1 / 255, (), network)


Arrays = tuple[str, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


def _mnist(folder: Path) -> Arrays:
    found = load_pictures(folder)
    held, labels = found.test[:HELD], found.test_labels[:HELD]
    return f"{found.title}, {len(held)} held", found.train, found.train_labels, held, labels


def _small_digits() -> Arrays:
    """Four fifths that train and one that tests, chosen by a fixed seed."""
    try:
        from sklearn import datasets
    except ImportError:
        raise TrainerError(
            "--data digits: they come from scikit-learn, which is not installed; pip install -e '.[digits]', or give "
            "a folder with MNIST's idx files"
        ) from None
    found = datasets.load_digits()
    x = (found.images * 255 / 16).round().astype(np.uint8)[:, None]
    y, order = found.target.astype(np.uint8), np.random.default_rng(0).permutation(len(found.target))
    cut = len(order) * 4 // 5
    return "scikit-learn's digits, test", x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]


def shard(task: Task, partition: str, rank: int, workers: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of the examples that a worker holds; together the workers hold each exactly once.

    `iid` deals them out by chance; `speaker` gives each speaker, the one with the most clips first, to the worker that
    holds least, and deals out what nobody says. Raises TrainerError.
    """
    if partition not in PARTITIONS:
        raise TrainerError(f"--partition: must be one of {', '.join(PARTITIONS)}, got {partition}")
    everything = np.random.default_rng(seed).permutation(len(task.train_labels))
    if partition == "iid":
        return everything[rank::workers]
    voices, counts = np.unique([s for s in task.speakers if s], return_counts=True)
    if len(voices) < workers:
        raise TrainerError(
            f"--partition speaker: needs a speaker or more for each of {workers} workers, got {len(voices)}; "
            "give recordings of more people, fewer workers or --partition iid"
        )
    held, owner = [0] * workers, dict[str, int]()
    for voice in np.argsort(-counts, kind="stable"):
        lightest = held.index(min(held))
        owner[str(voices[voice])] = lightest
        held[lightest] += int(counts[voice])
    silent = [i for i in everything if not task.speakers[i]]
    return np.array([*(i for i in everything if owner.get(task.speakers[i]) == rank), *silent[rank::workers]], np.int64)
