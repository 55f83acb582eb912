"""Selected clips to arrays of int8 features: augmented copies for training, plain ones for validation and test; cached
on disk.

Augmentation (row A1): shift by up to 100 ms, background noise with probability 0.8 at a volume of 0 to 0.1. Besides,
the front end is warmed up by what was heard before the clip, because a board never resets it while it listens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from converter.arrays import Float32, Float64, Int8, Int16, Int64
from converter.spec import FeatureSpec
from trainer.data.cache import cached, contents, digest, keep
from trainer.data.dataset import Clip, Selection, extra_count, load, noise_backgrounds, silence_cuts
from trainer.data.features import clip_features, random_warm_ups


@dataclass(frozen=True)
class AugmentSettings:
    """How training copies differ from their recordings; every copy of every clip is made once and kept.

    Other words may be shifted further than the chosen ones, and partial_share * (number of other words) clips of chosen
    words, shifted by 500 to 800 ms so that the most is cut off, join the unknown ones: a listening board meets cut
    words.
    """

    copies: int = 12
    noise_probability: float = 0.8
    noise_volume: float = 0.1
    shift_ms: int = 100
    unknown_shift_ms: int = 100
    partial_share: float = 0.0
    gain_db: tuple[float, float] = (-10.0, 6.0)
    reset_share: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class LabelledClips:
    """The clips of one split: features int8 [n, frames, channels] from a reset, labels, names, PCM int16 [n,
    clip_samples]."""

    features: Int8
    labels: Int64
    names: tuple[str, ...]
    pcm: Int16


@dataclass(frozen=True)
class TrainingPool:
    """int8 features of augmented copies: known and unknown [copies, n, frames, channels], silence [n, frames,
    channels].

    `extra` unknown and `extra` silence clips are drawn from them in each epoch. `teacher_logits` holds a teacher's for
    all three.
    """

    known: Int8
    labels: Int64
    unknown: Int8
    silence: Int8
    extra: int
    teacher_logits: tuple[Float32, Float32, Float32] | None = None

    @property
    def epoch_size(self) -> int:
        """Clips of an epoch."""
        return len(self.labels) + min(self.extra, self.unknown.shape[1]) + self.extra

    @property
    def identity(self) -> list[object]:
        """Tells this pool from others."""
        return [list(self.known.shape), list(self.unknown.shape), int(self.known[:, ::97].astype(np.int64).sum())]

    def ranges(self) -> Int8:
        """Clips that QAT takes its first ranges of activations from."""
        return np.concatenate([self.known[0, :512], self.silence[:128]])

    def calibration(self) -> Int8:
        """Clips that fixed step sizes are calibrated with."""
        return np.concatenate([self.known[0, :512], self.unknown[0, :256], self.silence[:128]])

    def epoch(self, rng: np.random.Generator) -> tuple[Int8, Int64, Float32 | None]:
        """One epoch in random order: every known clip once in a random copy, `extra` unknown ones, `extra` of
        silence."""
        copies, known = self.known.shape[:2]
        drawn = rng.permutation(self.unknown.shape[1])[: self.extra]
        places: tuple[Any, ...] = (
            (rng.integers(copies, size=known), np.arange(known)),
            (rng.integers(copies, size=len(drawn)), drawn),
            rng.integers(len(self.silence), size=self.extra),
        )
        labels = np.concatenate([self.labels, np.ones(len(drawn), np.int64), np.zeros(self.extra, np.int64)])
        order = rng.permutation(len(labels))

        def gather(sources: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
            parts: npt.NDArray[Any] = np.concatenate(
                [source[place] for source, place in zip(sources, places, strict=True)]
            )
            shuffled: npt.NDArray[Any] = parts[order]
            return shuffled

        features = gather((self.known, self.unknown, self.silence))
        return features, labels[order], gather(self.teacher_logits) if self.teacher_logits is not None else None


def load_split(selection: Selection, split: str, cache: Path, progress: Progress) -> LabelledClips:
    """A split as it is, without augmentation, the front end reset before each clip."""
    assert split in ("train", "validation", "test")
    clips = selection.clips[split]  # type: ignore[index]
    spec = selection.spec.features
    key = {"clips": contents(clips), "spec": asdict(spec), "split": split}
    arrays = cached(cache, split, key)
    if arrays is None:
        task = progress.add_task(f"{split}: recordings", total=len(clips))
        pcm = load(clips, split, spec, lambda n: progress.advance(task, n))  # type: ignore[arg-type]
        arrays = {"pcm": pcm, "features": clip_features(pcm, spec)}
        progress.update(task, completed=len(clips))
        keep(cache, split, key, arrays)
    labels = np.array([c.label for c in clips], np.int64)
    return LabelledClips(arrays["features"], labels, tuple(c.name for c in clips), arrays["pcm"])


def training_pool(selection: Selection, settings: AugmentSettings, cache: Path, progress: Progress) -> TrainingPool:
    """Augmented, warmed-up copies of the training clips."""
    known = [c for c in selection.clips["train"] if c.label >= 2]
    extra = extra_count(len(known), len(selection.spec.words))
    key = {
        "clips": contents((*known, *selection.pool)),
        "noise": [digest(p) for p in selection.noises],
        "spec": asdict(selection.spec.features),
        "augment": asdict(settings),
        "known": len(known),
    }
    arrays = cached(cache, "train", key)
    if arrays is None:
        arrays = _augmented(selection, known, extra, settings, progress)
        keep(cache, "train", key, arrays)
    return TrainingPool(
        arrays["known"], np.array([c.label for c in known], np.int64), arrays["unknown"], arrays["silence"], extra
    )


def add_teacher_logits(
    teacher: Callable[[Int8], Float32], pool: TrainingPool, checkpoint: Path, cache: Path, progress: Progress
) -> TrainingPool:
    """The pool with a teacher's logits beside every clip; cached by the teacher's checkpoint and the pool's
    features."""
    parts = (pool.known, pool.unknown, pool.silence)
    key = [digest(checkpoint), *(hashlib.sha256(part.tobytes()).hexdigest() for part in parts)]
    arrays = cached(cache, "taught", key)
    if arrays is None:
        arrays = {}
        task = progress.add_task("teacher", total=len(parts))
        for number, part in enumerate(parts):
            flat = part.reshape(-1, *part.shape[-2:])
            arrays[str(number)] = teacher(flat).reshape(*part.shape[:-2], -1)
            progress.advance(task)
        keep(cache, "taught", key, arrays)
    return replace(pool, teacher_logits=(arrays["0"], arrays["1"], arrays["2"]))


def _augmented(
    selection: Selection, known: Sequence[Clip], extra: int, settings: AugmentSettings, progress: Progress
) -> dict[str, npt.NDArray[Any]]:
    spec = selection.spec.features
    silent = silence_cuts(selection.noises, "train", extra * settings.copies)
    total = (settings.copies + 1) * (len(known) + len(selection.pool)) + 2 * len(silent)
    task = progress.add_task("training: features", total=total)
    spoken = load((*known, *selection.pool), "train", spec, lambda n: progress.advance(task, n))
    noises = noise_backgrounds(selection, "train")
    copies = []
    for number in range(settings.copies):
        rng = np.random.default_rng([settings.seed, number])
        cut = rng.permutation(len(known))[: int(settings.partial_share * len(selection.pool))]
        shifts_ms = np.concatenate(
            [
                rng.uniform(-settings.shift_ms, settings.shift_ms, len(known)),
                rng.uniform(-settings.unknown_shift_ms, settings.unknown_shift_ms, len(selection.pool)),
                rng.uniform(500, 800, len(cut)) * rng.choice([-1, 1], len(cut)),
            ]
        )
        heard = augment(np.concatenate([spoken, spoken[cut]]), shifts_ms, noises, settings, spec, rng)
        copies.append(_warm(heard, spoken, noises, settings, spec, rng))
        progress.advance(task, len(spoken))
    quiet = load(silent, "train", spec, lambda n: progress.advance(task, n))
    rng = np.random.default_rng([settings.seed, settings.copies])
    silence = _warm(quiet, spoken, noises, settings, spec, rng)
    progress.update(task, completed=total)
    every = np.stack(copies)
    return {"known": every[:, : len(known)], "unknown": every[:, len(known) :], "silence": silence}


def _warm(
    pcm: Int16,
    speech: Int16,
    noises: list[Int16],
    settings: AugmentSettings,
    spec: FeatureSpec,
    rng: np.random.Generator,
) -> Int8:
    before = random_warm_ups(len(pcm), rng, noises, speech, spec, settings.reset_share)
    return clip_features(pcm, spec, before)


def augment(
    pcm: Int16,
    shifts_ms: Float64,
    noises: Sequence[Int16],
    settings: AugmentSettings,
    spec: FeatureSpec,
    rng: np.random.Generator,
) -> Int16:
    """Copies of clips int16 [n, clip_samples], each shifted by its own time, scaled and made noisy."""
    found = np.empty_like(pcm)
    for index, clip in enumerate(pcm):
        shift = int(shifts_ms[index] * spec.sample_rate_hz / 1000)
        heard = np.zeros(len(clip), np.float32)
        heard[max(0, shift) : len(clip) + min(0, shift)] = clip[max(0, -shift) : len(clip) - max(0, shift)]
        heard *= np.float32(10.0 ** (rng.uniform(*settings.gain_db) / 20))
        if rng.random() < settings.noise_probability:
            noise = noises[int(rng.integers(len(noises)))]
            start = int(rng.integers(0, len(noise) - len(clip) + 1))
            heard += np.float32(rng.uniform(0, settings.noise_volume)) * noise[start : start + len(clip)]
        found[index] = np.clip(np.rint(heard), -32768, 32767).astype(np.int16)
    return found
