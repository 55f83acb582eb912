"""The detector of DetectorSpec over a whole stream at once, and the choice of its average and thresholds on validation
data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.arrays import Int8, Int16, Int32, Int64
from converter.spec import DetectorSpec, FeatureSpec
from trainer.data.augment import LabelledClips
from trainer.data.dataset import in_sha256_order
from trainer.data.features import stream_features, stream_windows

GAP_GAIN = 0.05
LEADS = (*range(-20, 100, 4), *range(100, 240, 10), *range(240, 256, 3))  # mean evidence that a threshold asks for
AVERAGES = (2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Stream:
    """Clips with pauses between them as one recording: outputs int8 [k, labels] of each inference, and where the words
    lie."""

    outputs: Int8
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


def decisions(outputs: Int8, spec: DetectorSpec) -> list[tuple[int, int]]:
    """(inference number, label) of every word heard; outputs int8 [k, labels], from a reset, one row every hop_frames
    frames.

    >>> rows = np.full((20, 3), -128, np.int8); rows[4:, 2] = 127
    >>> decisions(rows, DetectorSpec((1000,), average_count=4, settle_frames=0))
    [(7, 2)]
    """
    return decide(evidence_sums(outputs, spec.average_count), spec.thresholds, spec)


def decide(sums: Int32 | Int64, thresholds: Sequence[int], spec: DetectorSpec) -> list[tuple[int, int]]:
    """The same from the sums [k, words], with these thresholds in place of the spec's, whatever their size.

    As long as a word's sum stays at its threshold or above it can be heard once: the earliest inference of that
    stretch at which the detector listens.
    """
    stretches = []
    for column, least in zip(sums.T, thresholds, strict=True):
        above = np.concatenate(([False], column >= least, [False]))
        stretches.append(np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2).tolist())
    places = [0] * len(stretches)
    found: list[tuple[int, int]] = []
    ready = spec.settle_frames // spec.hop_frames
    while True:
        first = None
        for word, one in enumerate(stretches):
            while places[word] < len(one) and one[places[word]][1] <= ready:
                places[word] += 1
            if places[word] < len(one):
                at = max(one[places[word]][0], ready)
                if first is None or (at, -sums[at, word]) < first[:2]:
                    first = at, -int(sums[at, word]), word
        if first is None:
            return found
        index, _, word = first
        found.append((index, word + 2))
        places[word] += 1
        ready = index + 1 + spec.suppress_frames // spec.hop_frames


def evidence_sums(outputs: Int8 | Int16, average_count: int) -> Int64:
    """int64 [k, words]: after each inference the summed evidence of the last average_count; outputs int8 [k,
    labels]."""
    values = outputs.astype(np.int64)
    if not len(values):
        return values[:, 2:]
    ordered = np.sort(values, axis=1)
    leads = np.arange(values.shape[1]) == values.argmax(axis=1)[:, None]
    evidence = (values - np.where(leads, ordered[:, -2:-1], ordered[:, -1:]))[:, 2:]
    total = np.cumsum(np.concatenate([np.zeros((1, evidence.shape[1]), np.int64), evidence]), axis=0)
    sums: Int64 = total[1:] - total[np.maximum(np.arange(len(values)) + 1 - average_count, 0)]
    return sums


def board_windows(pcm: Int16, features: FeatureSpec, hop_frames: int) -> Int8:
    """int8 [k, frames, channels]: the network's inputs while a board hears pcm from its reset, digital silence before
    it; window k ends with frame (k + 1) * hop_frames - 1."""
    silence = np.full((features.frames, features.channels), features.zero_point, np.int8)
    heard = np.concatenate([silence, stream_features(pcm, features)])
    return stream_windows(heard, features, hop_frames)[1:]


def make_stream(
    split: LabelledClips,
    noises: Sequence[Int16],
    score: Callable[[Int8], Int8],
    features: FeatureSpec,
    detector: DetectorSpec,
    limit: int = 300,
) -> Stream:
    """The first `limit` clips (evenly spread over the split) with a second of soft noise after each, through front end
    and model; before them soft noise until the detector listens."""
    chosen = np.unique(np.linspace(0, len(split.labels) - 1, min(limit, len(split.labels))).astype(int))
    rng = np.random.default_rng(0)
    chosen = chosen[rng.permutation(len(chosen))]
    lead_in = detector.settle_frames
    parts = [_soft(noises[0], lead_in * features.step_samples)]
    words = []
    frames_per_clip = features.clip_samples // features.step_samples
    for place, index in enumerate(chosen):
        noise = noises[place % len(noises)]
        start = int(rng.integers(0, len(noise) - features.clip_samples))
        parts += [split.pcm[index], _soft(noise[start:], features.clip_samples)]
        if split.labels[index] >= 2:
            begin = lead_in + 2 * place * frames_per_clip
            words.append((int(split.labels[index]), begin, begin + 2 * frames_per_clip))
    pcm = np.concatenate(parts)
    windows = board_windows(pcm, features, detector.hop_frames)
    return Stream(score(windows), tuple(words), len(pcm) / features.sample_rate_hz)


def _soft(noise: Int16, samples: int) -> Int16:
    soft: Int16 = np.rint(np.resize(noise, samples) * GAP_GAIN).astype(np.int16)
    return soft


def judge(stream: Stream, detector: DetectorSpec) -> StreamResult:
    """Words heard in their place, and every other decision as a false accept."""
    left = list(stream.words)
    heard = wrong = 0
    for index, label in decisions(stream.outputs, detector):
        frame = (index + 1) * detector.hop_frames - 1
        match = next((w for w in left if w[0] == label and w[1] <= frame < w[2]), None)
        if match is None:
            wrong += 1
        else:
            left.remove(match)
            heard += 1
    return StreamResult(len(stream.words), heard, wrong, stream.seconds / 3600)


@dataclass(frozen=True)
class Trial:
    """Clips played alone, as a spoken-word trial does: outputs int8 [clips, inferences, labels] and what each clip
    is."""

    outputs: Int8
    labels: Int64


def make_trial(
    split: LabelledClips, score: Callable[[Int8], Int8], features: FeatureSpec, detector: DetectorSpec, per_class: int
) -> Trial:
    """The first `per_class` clips of each class in SHA-256 order of their names, each from a reset, silence until the
    detector listens before it and a second of silence after it."""
    order = in_sha256_order(split.names)
    place = {name: index for index, name in enumerate(split.names)}
    chosen: list[int] = []
    for label in range(int(split.labels.max()) + 1):
        chosen += [place[name] for name in order if split.labels[place[name]] == label][:per_class]
    head = np.zeros(detector.settle_frames * features.step_samples, np.int16)
    tail = np.zeros(features.clip_samples, np.int16)
    sounds = (np.concatenate([head, split.pcm[i], tail]) for i in chosen)
    windows = np.stack([board_windows(pcm, features, detector.hop_frames) for pcm in sounds])
    outputs = score(windows.reshape(-1, *windows.shape[2:]))
    return Trial(outputs.reshape(*windows.shape[:2], -1), split.labels[chosen])


def judge_trial(trial: Trial, detector: DetectorSpec) -> int:
    """How many clips come out right: a word heard first as itself, silence and unknown as nothing."""
    right = 0
    for rows, label in zip(trial.outputs, trial.labels, strict=True):
        heard = decisions(rows, detector)
        right += int((heard[0][1] if heard else 0) == (label if label >= 2 else 0))
    return right


def tune(stream: Stream, trial: Trial, detector: DetectorSpec) -> DetectorSpec:
    """The average and thresholds that do best on validation data: half by a continuous stream, half by clips played
    alone.

    The stream counts (words heard - false accepts) / words, the trial the share of right clips. One threshold for all
    words first, then each word's in turn; the middle of equal ones.
    """

    def best(candidates: list[DetectorSpec]) -> DetectorSpec:
        worth = [_worth(stream, trial, candidate) for candidate in candidates]
        equal = [one for one, value in zip(candidates, worth, strict=True) if value == max(worth)]
        equal = [one for one in equal if one.average_count == equal[0].average_count]
        return equal[len(equal) // 2]

    words = len(detector.thresholds)
    chosen = best(
        [
            replace(detector, average_count=count, thresholds=(lead * count,) * words, rates=())
            for count in AVERAGES
            for lead in LEADS
        ]
    )
    for word in range(words if words > 1 else 0):
        kept = chosen.thresholds
        grid = [(*kept[:word], lead * chosen.average_count, *kept[word + 1 :]) for lead in LEADS]
        chosen = best([replace(chosen, thresholds=row) for row in grid])
    return chosen


def _worth(stream: Stream, trial: Trial, detector: DetectorSpec) -> float:
    result = judge(stream, detector)
    listening = (result.heard - result.wrong) / max(1, result.words)
    return listening + judge_trial(trial, detector) / len(trial.labels)
