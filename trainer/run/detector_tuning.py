"""The detector of DetectorSpec over a whole stream at once, and the choice of its average and threshold on validation
data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.arrays import Float32, Int8, Int16, Int64
from converter.spec import DetectorSpec, FeatureSpec
from trainer.data.augment import LabelledClips
from trainer.data.dataset import in_sha256_order
from trainer.data.features import stream_features, stream_windows

GAP_GAIN = 0.05
THRESHOLDS = (*range(100, 240, 10), *range(240, 256, 2), 255)
AVERAGES = (2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Stream:
    """Clips with pauses between them as one recording: scores int8 [k, labels] of each inference, and where the words
    lie."""

    scores: Int8
    words: tuple[tuple[int, int, int], ...]  # (label, first frame, last frame in which hearing it counts)
    seconds: float


@dataclass(frozen=True)
class StreamResult:
    """What a detector did on a stream."""

    words: int
    heard: int
    wrong: int
    hours: float

    @property
    def miss_rate(self) -> float:
        """Share of words not heard, 0..1."""
        return 1 - self.heard / max(1, self.words)

    @property
    def false_accepts_per_hour(self) -> float:
        """Wrong decisions per hour of stream."""
        return self.wrong / self.hours


def decisions(scores: Int8, spec: DetectorSpec) -> list[tuple[int, int]]:
    """(inference number, label) of every word heard; scores int8 [k, labels], one row every hop_frames frames.

    >>> rows = np.full((20, 3), -128, np.int8); rows[4:, 2] = 127
    >>> decisions(rows, DetectorSpec(average_count=4, threshold=250))
    [(7, 2)]
    """
    counts = scores.astype(np.int64) + 128
    total = np.cumsum(np.concatenate([np.zeros((1, counts.shape[1]), np.int64), counts]), axis=0)
    first = np.maximum(np.arange(len(counts)) + 1 - spec.average_count, 0)
    sums = total[1:] - total[first]
    best = sums.argmax(axis=1)
    loud = (best >= 2) & (sums[np.arange(len(best)), best] >= spec.threshold * spec.average_count)
    found: list[tuple[int, int]] = []
    for index in np.flatnonzero(loud):
        if not found or (index - found[-1][0]) * spec.hop_frames > spec.suppress_frames:
            found.append((int(index), int(best[index])))
    return found


def make_stream(
    split: LabelledClips,
    noises: Sequence[Int16],
    score: Callable[[Int8], Int8],
    features: FeatureSpec,
    detector: DetectorSpec,
    limit: int = 300,
) -> Stream:
    """The first `limit` clips (evenly spread over the split) with a second of soft noise after each, through front end
    and model."""
    chosen = np.unique(np.linspace(0, len(split.labels) - 1, min(limit, len(split.labels))).astype(int))
    rng = np.random.default_rng(0)
    chosen = chosen[rng.permutation(len(chosen))]
    parts: list[Int16] = []
    words = []
    frames_per_clip = features.clip_samples // features.step_samples
    for place, index in enumerate(chosen):
        noise = noises[place % len(noises)]
        start = int(rng.integers(0, len(noise) - features.clip_samples))
        gap = np.rint(noise[start : start + features.clip_samples] * GAP_GAIN).astype(np.int16)
        parts += [split.pcm[index], gap]
        if split.labels[index] >= 2:
            begin = 2 * place * frames_per_clip
            words.append((int(split.labels[index]), begin, begin + 2 * frames_per_clip))
    pcm = np.concatenate(parts)
    windows = stream_windows(stream_features(pcm, features), features, detector.hop_frames)
    return Stream(score(windows), tuple(words), len(pcm) / features.sample_rate_hz)


def judge(stream: Stream, features: FeatureSpec, detector: DetectorSpec) -> StreamResult:
    """Words heard in their place, and every other decision as a false accept."""
    left = list(stream.words)
    heard = wrong = 0
    for index, label in decisions(stream.scores, detector):
        frame = features.frames - 1 + index * detector.hop_frames
        match = next((w for w in left if w[0] == label and w[1] <= frame < w[2]), None)
        if match is None:
            wrong += 1
        else:
            left.remove(match)
            heard += 1
    return StreamResult(len(stream.words), heard, wrong, stream.seconds / 3600)


@dataclass(frozen=True)
class Trial:
    """Clips played alone, as a spoken-word trial does: scores int8 [clips, inferences, labels] and what each clip
    is."""

    scores: Int8
    labels: Int64


def make_trial(
    split: LabelledClips, score: Callable[[Int8], Int8], features: FeatureSpec, detector: DetectorSpec, per_class: int
) -> Trial:
    """The first `per_class` clips of each class in SHA-256 order of their names, each from a reset, a second of silence
    after it."""
    order = in_sha256_order(split.names)
    place = {name: index for index, name in enumerate(split.names)}
    chosen: list[int] = []
    for label in range(int(split.labels.max()) + 1):
        chosen += [place[name] for name in order if split.labels[place[name]] == label][:per_class]
    tail = np.zeros(features.clip_samples, np.int16)
    streams = (stream_features(np.concatenate([split.pcm[i], tail]), features) for i in chosen)
    windows = np.stack([stream_windows(s, features, detector.hop_frames) for s in streams])
    scores = score(windows.reshape(-1, *windows.shape[2:]))
    return Trial(scores.reshape(*windows.shape[:2], -1), split.labels[chosen])


def judge_trial(trial: Trial, detector: DetectorSpec) -> int:
    """How many clips come out right: a word heard first as itself, silence and unknown as nothing."""
    right = 0
    for rows, label in zip(trial.scores, trial.labels, strict=True):
        heard = decisions(rows, detector)
        right += int((heard[0][1] if heard else 0) == (label if label >= 2 else 0))
    return right


def tune(stream: Stream, trial: Trial, features: FeatureSpec, detector: DetectorSpec) -> DetectorSpec:
    """The average and threshold that do best on validation data: half by a continuous stream, half by clips played
    alone.

    The stream counts (words heard - false accepts) / words, the trial the share of right clips; the middle of equal
    thresholds.
    """
    worth: dict[DetectorSpec, float] = {}
    for count in AVERAGES:
        for threshold in THRESHOLDS:
            candidate = replace(detector, average_count=count, threshold=threshold)
            result = judge(stream, features, candidate)
            listening = (result.heard - result.wrong) / max(1, result.words)
            worth[candidate] = listening + judge_trial(trial, candidate) / len(trial.labels)
    best = [c for c, w in worth.items() if w == max(worth.values())]
    best = [c for c in best if c.average_count == best[0].average_count]
    return best[len(best) // 2]


def float_scores(probabilities: Float32) -> Int8:
    """Probabilities 0..1 as int8 scores of scale 1/256 and zero point -128."""
    scores: Int8 = np.clip(np.rint(probabilities * 256) - 128, -128, 127).astype(np.int8)
    return scores
