"""What a listening detector makes of whole streams: words missed against false accepts per hour.

Functions of arrays; the command is in trainer/run/false_accepts.py, the rules in words in docs/false_accepts.md.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from converter.arrays import Float32, Int8, Int16, Int32
from converter.spec import DetectorSpec, FeatureSpec
from trainer.data.utterances import active_rms
from trainer.run.detector_tuning import decide, evidence_sums

GAP_S = 1.2  # between clips
HEARD_S = 0.5  # after a word's end in which naming it counts
QUIET_S = 1.0  # after a word's end in which nothing is a false accept; and after a false accept in which it is the same
BED_DBFS = -64.0  # of the noise under clean words
LEVEL_DBFS = -26.0  # of active speech under noise or babble
SNRS_DB = (20, 10, 5)
VOICES = 4  # in babble
RATES = (10.0, 5.0, 2.0, 1.0, 0.5, 0.1)  # false accepts per hour that operating points are given for
FINE_RATE = 20.0  # below it the sweep takes every integer shift


@dataclass(frozen=True)
class Spoken:
    """A word in a stream: its label, first and past last sample."""

    label: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Track:
    """A stream as the model heard it: evidence int16 [k, words], one row an inference. `spoken`, in order, is empty for
    negatives."""

    name: str
    kind: str  # "negative", "words", "voices" (the words by synthetic ones) or "other words"
    seconds: float
    evidence: Int16
    spoken: tuple[Spoken, ...] = ()
    speaker: str = ""
    language: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Judged:
    """Of a track: which words were heard, the wrong label named in a word's place (word -> label), and false accepts
    (sample, label)."""

    heard: frozenset[int]
    confused: Mapping[int, int]
    false_accepts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Curve:
    """Per shift of all thresholds: false accepts of each source of negatives, and misses of each condition."""

    shifts: tuple[int, ...]
    false_accepts: dict[str, tuple[int, ...]]
    misses: dict[str, tuple[int, ...]]

    @property
    def total(self) -> tuple[int, ...]:
        """False accepts of all sources."""
        return tuple(map(sum, zip(*self.false_accepts.values(), strict=True)))


def evidence_of(outputs: Int8 | Int16) -> Int16:
    """int16 [k, words]: the evidence of each inference by itself; outputs int8 [k, labels]."""
    return evidence_sums(outputs, 1).astype(np.int16)


def summed(evidence: Int16, average_count: int) -> Int32:
    """int32 [k, words], columns contiguous: after each inference the sum of the last average_count."""
    total = np.cumsum(evidence, axis=0, dtype=np.int32)  # a difference is exact even where this wraps
    total[average_count:] -= total[:-average_count].copy()
    return np.asfortranarray(total)


def inference_end(index: int, features: FeatureSpec, hop_frames: int) -> int:
    """The sample at which the last frame of inference `index` ended: its time.

    >>> inference_end(0, FeatureSpec(), 2)
    800
    """
    return ((index + 1) * hop_frames - 1) * features.step_samples + features.window_samples


def judge_words(decided: Sequence[tuple[int, int]], spoken: Sequence[Spoken], rate_hz: int) -> Judged:
    """The rule of MLPerf Tiny's streaming wake word: decided (sample, label) and spoken in order of time.

    A word is heard when it is named at a sample in start .. end + 0.5 s. Nothing named in start .. end + 1.0 s of a
    word is a false accept, but another label than the word's is a confusion, at most one a word. A false accept less
    than 1.0 s after one that was counted is the same.
    """
    late, quiet = int(HEARD_S * rate_hz), int(QUIET_S * rate_hz)
    starts = [word.start for word in spoken]
    heard, confused, wrong = set[int](), dict[int, int](), list[tuple[int, int]]()
    for at, label in decided:
        inside = []
        place = bisect_right(starts, at) - 1
        while place >= 0 and at < spoken[place].end + quiet:
            inside.append(place)
            place -= 1
        right = [index for index in inside if spoken[index].label == label]
        if right:
            heard.update(index for index in right if at < spoken[index].end + late)
        elif inside:
            confused.setdefault(inside[0], label)
        elif not wrong or at - wrong[-1][0] >= quiet:
            wrong.append((at, label))
    return Judged(frozenset(heard), confused, tuple(wrong))


def judge_track(
    track: Track, sums: Int32, thresholds: Sequence[int], detector: DetectorSpec, features: FeatureSpec
) -> Judged:
    """A track at these thresholds; sums as `summed` gives them."""
    decided = decide(sums, thresholds, detector)
    timed = [(inference_end(index, features, detector.hop_frames), label) for index, label in decided]
    return judge_words(timed, track.spoken, features.sample_rate_hz)


def rate_bound(events: int, hours: float, confidence: float = 0.95) -> float:
    """Exact one-sided upper bound of a Poisson rate per hour: the rate at which so few events or fewer have probability
    1 - confidence.

    >>> round(rate_bound(0, 1.0), 4), round(rate_bound(3, 2.0), 4)
    (2.9957, 3.8768)
    """
    low, high = float(events), events + 10 * math.sqrt(events + 1.0) + 10
    while high - low > 1e-9 * high:
        mean = (low + high) / 2
        terms = (math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(events + 1))
        low, high = (low, mean) if math.fsum(terms) < 1 - confidence else (mean, high)
    return high / hours


def sweep(
    tracks: Sequence[Track],
    detector: DetectorSpec,
    features: FeatureSpec,
    done: Callable[[int, int], None] = lambda *_: None,
) -> Curve:
    """Every shift of all thresholds from nothing ever below to nothing ever above: in steps of average_count, one of
    mean evidence, and by every integer where the false accepts change and are fewer than FINE_RATE an hour.

    Shifts whose counts are those of the shift before are left out. done(so many, of so many) shows progress.
    """
    negative = [t for t in tracks if t.kind == "negative"]
    positive = [t for t in tracks if t.kind == "words"]
    heard = [(track, summed(track.evidence, detector.average_count)) for track in (*negative, *positive)]
    hours = sum(track.seconds for track in negative) / 3600

    def counts(shift: int) -> tuple[int, ...]:
        thresholds = [least + shift for least in detector.thresholds]
        judged = [judge_track(track, sums, thresholds, detector, features) for track, sums in heard]
        false_accepts = [len(j.false_accepts) for j in judged[: len(negative)]]
        misses = [len(t.spoken) - len(j.heard) for t, j in zip(positive, judged[len(negative) :], strict=True)]
        return (*false_accepts, *misses)

    highest, step = detector.highest_sum, detector.average_count
    coarse = sorted({0, *range(-highest - max(detector.thresholds), highest - min(detector.thresholds) + 2, step)})
    coarse.append(highest - min(detector.thresholds) + 1)
    found: dict[int, tuple[int, ...]] = {}
    for number, shift in enumerate(coarse):
        found[shift] = counts(shift)
        done(number, len(coarse))
    totals = {shift: sum(row[: len(negative)]) for shift, row in found.items()}
    busiest = max(totals, key=lambda shift: (totals[shift], shift))
    for low, high in pairwise(sorted(found)):
        few = min(totals[low], totals[high]) < FINE_RATE * hours
        if low >= busiest and few and totals[low] != totals[high]:
            found.update((shift, counts(shift)) for shift in range(low + 1, high))
    kept = list(_changes(sorted(found.items())))
    columns = list(zip(*(row for _, row in kept), strict=True))
    return Curve(
        tuple(shift for shift, _ in kept),
        {track.name: columns[index] for index, track in enumerate(negative)},
        {track.name: columns[len(negative) + index] for index, track in enumerate(positive)},
    )


def _changes(rows: Sequence[tuple[int, tuple[int, ...]]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Of (shift, counts) the shift 0, the last, and those whose counts differ from the row before."""
    before = None
    for shift, row in rows:
        if row != before or shift in (0, rows[-1][0]):
            yield shift, row
        before = row


def point_at(curve: Curve, at_most: float, hours: float) -> int:
    """The place in the curve of the lowest shift from which on every shift has at most so many false accepts an hour;
    at the last one nothing is heard.

    >>> curve = Curve((-1, 0, 1, 2), {"a": (0, 9, 4, 0)}, {"clean": (3, 0, 1, 3)})
    >>> point_at(curve, 5.0, 1.0), point_at(curve, 0.0, 1.0)
    (2, 3)
    """
    above = [place for place, total in enumerate(curve.total) if total > at_most * hours]
    return above[-1] + 1 if above else 0


# Streams of words


@dataclass(frozen=True, eq=False)
class Words:
    """Clips of words to be played one after the other: PCM, labels, and (first, past last sample) of the word in
    each."""

    clips: tuple[Int16, ...]
    labels: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def placed(self, head: int, rate_hz: int) -> tuple[list[int], int]:
        """(first sample of each clip, length of the stream): `head` samples, then GAP_S round every clip."""
        gap = int(GAP_S * rate_hz)
        starts, at = [], head + gap
        for clip in self.clips:
            starts.append(at)
            at += len(clip) + gap
        return starts, at

    def spoken(self, head: int, rate_hz: int) -> tuple[Spoken, ...]:
        """Where the words lie in the stream."""
        starts, _ = self.placed(head, rate_hz)
        each = zip(starts, self.labels, self.spans, strict=True)
        return tuple(Spoken(label, start + first, start + past) for start, label, (first, past) in each)


def play(words: Words, bed: Float32, head: int, rate_hz: int, level_dbfs: float | None = None) -> Int16:
    """The stream as int16: the clips as they are, or each word at this active level, over the bed float32 [length]."""
    sound = bed.copy()
    starts, _ = words.placed(head, rate_hz)
    for clip, start, (first, past) in zip(words.clips, starts, words.spans, strict=True):
        active = active_rms(clip[first:past], rate_hz) if level_dbfs is not None else 0.0
        gain = amplitude(level_dbfs) / active if level_dbfs is not None and active else 1.0
        sound[start : start + len(clip)] += clip * np.float32(gain)
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)


def amplitude(dbfs: float) -> float:
    """Root mean square of int16 samples at a level in dB of full scale.

    >>> round(amplitude(-26), 1)
    1642.3
    """
    return float(32768 * 10 ** (dbfs / 20))


def noise_bed(noises: Sequence[Int16], samples: int) -> Float32:
    """All noises in turn, each of root mean square 1, again and again: float32 [samples]."""
    level = [noise / np.sqrt(np.square(noise, dtype=np.float64).mean() + 1e-9) for noise in noises]
    return np.resize(np.concatenate(level).astype(np.float32), samples)


def babble(voices: Int16, samples: int, rate_hz: int) -> Float32:
    """float32 [samples] of active level 1: VOICES at once, equally loud, who say the int16 recording from places a
    VOICES-th of it apart."""
    found = np.zeros(samples, np.float32)
    for number in range(VOICES):
        start = len(voices) * number // VOICES
        turned = np.concatenate((voices[start:], voices[:start]))[:samples]
        voice = np.resize(turned, samples).astype(np.float32)
        found += voice / np.float32(active_rms(voice, rate_hz) or 1.0)
    return found / np.float32(active_rms(found, rate_hz) or 1.0)
