"""Quantization-aware fine-tuning of a network whose batch norms are folded."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.progress import Progress

from trainer.data.augment import LabelledClips, TrainingPool
from trainer.data.scenes import Scenes
from trainer.network.fake_quant import QuantNetwork
from trainer.run.fit import THREADS, Epoch, TrainSettings, fit, to_batch

LEARNING_SHARE = {
    2: 0.5,
    3: 0.1,
    8: 0.1,
}  # of the float learning rate; other widths the least. Chosen by validation, three seeds
LEAST_SHARE = 0.05


def qat_settings(settings: TrainSettings, epochs: int | None, bits: int) -> TrainSettings:
    """Fine-tuning with fake quantization: a quarter of the epochs, at least four; the fewer bits, the larger the steps
    it takes to help."""
    return replace(
        settings,
        learning_rate=settings.learning_rate * learning_share(bits),
        epochs=epochs or (2 if settings.scenes else max(4, settings.epochs // 4)),
    )


def learning_share(bits: int) -> float:
    """What share of the float learning rate QAT begins with."""
    return LEARNING_SHARE.get(bits, LEAST_SHARE)


def calibrate(quant: QuantNetwork, pool: TrainingPool | Scenes, seed: int) -> None:
    """First ranges from training clips, before the first step. seed: of the dropout under which moving averages are
    taken; a training that was resumed has left torch's random state where an unbroken one does not."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    if quant.options.fixed_steps:
        quant.eval()
        quant.calibrate_steps(to_batch(pool.calibration(), quant.features))
        return
    quant.train()
    clips = pool.ranges()
    with torch.no_grad():
        for start in range(0, len(clips), 128):
            quant(to_batch(clips[start : start + 128], quant.features))


def fine_tune(
    quant: QuantNetwork,
    pool: TrainingPool | Scenes,
    validation: LabelledClips,
    settings: TrainSettings,
    checkpoint: Path,
    progress: Progress,
) -> list[Epoch]:
    """Train in place with fake quantization, as `fit`; ranges of activations stand still in the second half."""

    def freeze(epoch: int) -> None:
        quant.freeze_ranges(epoch >= (settings.epochs + 1) // 2)

    return fit(
        quant,
        pool,
        validation,
        settings,
        quant.features,
        checkpoint,
        progress,
        f"{quant.bits}-bit training",
        before_epoch=freeze,
        purpose=json.dumps(asdict(quant.options)),
    )
