"""How fast training goes on this machine; one figure of `make bench`."""

from __future__ import annotations

import time

import numpy as np
import torch
from rich.progress import Progress

from converter.files import scratch_folder
from converter.spec import KwsSpec
from trainer.data.augment import LabelledClips, TrainingPool
from trainer.network.model import Architecture, build
from trainer.run.fit import TrainSettings, fit


def training_samples_per_second(model: str = "tinyconv", samples: int = 4000, epochs: int = 3) -> float:
    """Samples a second through forward, backward and optimizer as `train` runs them (random features); the first epoch
    is not counted."""
    spec = KwsSpec.of_words(["yes", "no"])
    shape = (spec.features.frames, spec.features.channels)
    rng = np.random.default_rng(0)

    def features(*leading: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
        return rng.integers(-128, 128, (*leading, *shape), dtype=np.int8)

    pool = TrainingPool(features(1, samples), rng.integers(2, 4, samples), features(1, 100), features(100), 100)
    few = LabelledClips(
        features(8), np.zeros(8, np.int64), ("",) * 8, np.zeros((8, spec.features.clip_samples), np.int16)
    )
    torch.manual_seed(0)
    network = build(Architecture.of(model, len(spec.labels), spec.features, 0.1))
    starts: list[float] = []
    with scratch_folder() as folder, Progress(disable=True) as progress:
        fit(
            network,
            pool,
            few,
            TrainSettings(epochs=epochs + 1),
            spec.features,
            folder / "bench.pt",
            progress,
            before_epoch=lambda _: starts.append(time.perf_counter()),
        )
        end = time.perf_counter()
    return epochs * pool.epoch_size / (end - starts[1])
