"""What a keyword spotter is: its features, its labels, its detector. Standard library only.

Every other constant about audio, features or labels, in Python or in C, is derived from here.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import asdict, dataclass, field
from typing import Any

from converter.checked import Anything, Fields, Items, Real, Rule, Text, Whole, check, json_of, shown
from converter.target import SAMPLE_RATE_HZ

SILENCE, UNKNOWN = "silence", "unknown"
MAX_WORDS = 30  # that a detector hears: DETECTOR_MAX_WORDS of the firmware
MAX_LABEL_BYTES = 63  # of UTF-8
MAX_RATES = 100
MAX_FRAMES = 65_535  # of a detector's rests: uint16 on the board


class SpecError(ValueError):
    """A spec that breaks a rule; the message says where, which rule, what came and how to mend it."""


FEATURE_RULES: dict[str, Rule] = {  # what each may be; how they must fit together converter/audio/tables.py says
    "sample_rate_hz": Whole(100, 192_000),
    "clip_ms": Whole(1, 60_000),
    "window_ms": Whole(1, 10_000),
    "step_ms": Whole(1, 10_000),
    "channels": Whole(1, 512),
    "lower_hz": Real(0, 96_000),
    "upper_hz": Real(0, 96_000),
    "smoothing_bits": Whole(0, 31),
    "even_smoothing": Real(0, 1),
    "odd_smoothing": Real(0, 1),
    "min_signal_remaining": Real(0, 1),
    "pcan_strength": Real(0, 4),
    "pcan_offset": Real(1e-3, 1e9),
    "pcan_gain_bits": Whole(0, 30),
    "log_scale_shift": Whole(0, 10),  # ln(2^32) * 2^10 is the last that a uint16 and 32 bits on the way hold
    "raw_divisor": Whole(1, 65_535),
    "scale": Real(1e-30, 1e30),
    "zero_point": Whole(-128, 127),
}


@dataclass(frozen=True)
class FeatureSpec:
    """The TFLM micro front end at the settings of the deployed features (int8, 49 frames x 40 channels).

    int8 = clamp((raw * 256 + raw_divisor // 2) // raw_divisor + zero_point, -128, 127), raw being the front end's
    uint16 output; the real value of an int8 feature is (int8 - zero_point) * scale. Neither is ever learned.
    """

    sample_rate_hz: int = SAMPLE_RATE_HZ
    clip_ms: int = 1000
    window_ms: int = 30
    step_ms: int = 20
    channels: int = 40
    lower_hz: float = 125.0
    upper_hz: float = 7500.0
    smoothing_bits: int = 10
    even_smoothing: float = 0.025
    odd_smoothing: float = 0.06
    min_signal_remaining: float = 0.05
    pcan_strength: float = 0.95
    pcan_offset: float = 80.0
    pcan_gain_bits: int = 21
    log_scale_shift: int = 6
    raw_divisor: int = 666
    scale: float = 26 / 256
    zero_point: int = -128

    def __post_init__(self) -> None:
        for name, rule in FEATURE_RULES.items():
            check(f"FeatureSpec.{name}", getattr(self, name), rule, SpecError)
            if isinstance(rule, Real):  # 125 and 125.0 are one spec, with one id
                object.__setattr__(self, name, float(getattr(self, name)))
        if not self.window_samples or not self.step_samples:
            raise SpecError(
                f"FeatureSpec: window_ms and step_ms must hold a sample of {self.sample_rate_hz} Hz, got "
                f"{self.window_ms} and {self.step_ms}"
            )
        if self.clip_ms < self.window_ms:
            raise SpecError(f"FeatureSpec: a clip of {self.clip_ms} ms holds no window of {self.window_ms} ms")

    @property
    def window_samples(self) -> int:
        """Of a frame's window."""
        return self.sample_rate_hz * self.window_ms // 1000

    @property
    def step_samples(self) -> int:
        """From one frame to the next."""
        return self.sample_rate_hz * self.step_ms // 1000

    @property
    def clip_samples(self) -> int:
        """Of what the network looks at."""
        return self.sample_rate_hz * self.clip_ms // 1000

    @property
    def frames(self) -> int:
        """Whole windows in a clip."""
        return 1 + (self.clip_samples - self.window_samples) // self.step_samples


def composed(word: str) -> str:
    """The word as labels spell it: some keyboards and file systems put an accent behind its letter.

    >>> composed("gro\\u0308\\u00dfe") == "gr\\u00f6\\u00dfe"
    True
    """
    return unicodedata.normalize("NFC", word)


@dataclass(frozen=True)
class KwsSpec:
    """Features and labels: what the network is fed and what its outputs mean. Labels 0 and 1 are silence and
    unknown."""

    labels: tuple[str, ...]
    features: FeatureSpec = field(default_factory=FeatureSpec)

    def __post_init__(self) -> None:
        check("KwsSpec.labels", self.labels, Items(Text(MAX_LABEL_BYTES)), SpecError)
        if self.labels[:2] != (SILENCE, UNKNOWN) or len(self.labels) < 3:
            raise SpecError(f"KwsSpec.labels: must be silence, unknown and at least one word, got {self.labels}")
        if len(self.words) > MAX_WORDS:
            raise SpecError(
                f"KwsSpec.labels: a board hears at most {MAX_WORDS} words, got {len(self.words)}; leave some out"
            )
        if len(set(self.labels)) != len(self.labels):
            raise SpecError(
                f"KwsSpec.labels: must differ from each other, got {self.labels}; name each word once, and no word "
                f"{SILENCE} or {UNKNOWN}, which every model has"
            )
        for word in self.words:  # a word is the name of a folder of its recordings
            plain = word and word.isprintable() and word == word.strip() and word[0] != "."
            if not plain or set(word) & set("/\\") or word != composed(word):
                raise SpecError(
                    f"KwsSpec.labels: a word is printable, not empty, without slashes, a dot in front or spaces at its "
                    f"ends, letters composed (Unicode's NFC), got {shown(word)}; choose another"
                )

    @staticmethod
    def of_words(words: list[str] | tuple[str, ...]) -> KwsSpec:
        """The spec with default features; labels are silence, unknown, then the words."""
        return KwsSpec(labels=(SILENCE, UNKNOWN, *map(composed, words)))

    @property
    def words(self) -> tuple[str, ...]:
        """The labels to be spotted."""
        return self.labels[2:]

    @property
    def spec_id(self) -> str:
        """12 hex digits of the SHA-256 of the canonical JSON; equal specs, and only they, have equal ids."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Canonical text, whose hash is the spec id."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str | dict[str, Any]) -> KwsSpec:
        """Raises SpecError."""
        try:
            raw = json_of(text) if isinstance(text, str) else text
        except ValueError as error:
            raise SpecError(f"KwsSpec: not a spec written by this project ({error})") from None
        rule = Fields({"labels": Items(Text()), "features": Fields(FEATURE_RULES, closed=True)}, closed=True)
        check("KwsSpec", raw, rule, SpecError)
        return KwsSpec(labels=tuple(raw["labels"]), features=FeatureSpec(**raw["features"]))


_THRESHOLDS = Items(Whole(-(1 << 31), (1 << 31) - 1), 1, MAX_WORDS)
_DETECTOR: dict[str, Rule] = {
    "thresholds": _THRESHOLDS,
    "hop_frames": Whole(1, 50),
    "average_count": Whole(1, 64),
    "suppress_frames": Whole(0, MAX_FRAMES),
    "settle_frames": Whole(0, MAX_FRAMES),
    "rates": Items(Items(Anything(), 2, 2), 0, MAX_RATES),
}


@dataclass(frozen=True)
class DetectorSpec:
    """How outputs become a decision while listening; all integer, so that host and board agree exactly.

    After every hop_frames feature frames one inference runs, with int8 outputs o[label], logits or scores. The evidence
    of word w is o[w] - max over all other labels of o[l], -255..255; that of a model with one output, the probability
    of its one word, is the output + 128. sums[w] is the sum of its evidence in the last average_count inferences,
    missing ones counting 0.

    A word whose sum is below its threshold becomes armed; all are armed at reset. A word is heard when it is armed, its
    sum is at least its threshold, more than settle_frames frames have come since the reset and no word was heard in the
    last suppress_frames frames. If several qualify it is the largest sum, of equal ones the first label. Hearing a word
    disarms it, so that one utterance is one hit, and starts suppress_frames for all words. settle_frames keeps the
    start-up transient of microphone and front end, and a half-filled window, from saying a word.

    thresholds holds one number per word, compared with the sum: -255 * average_count..255 * average_count. rates, most
    permissive last, holds false accepts per hour (thousandths count) with the thresholds that had them on negatives.
    """

    thresholds: tuple[int, ...]
    hop_frames: int = 2
    average_count: int = 8
    suppress_frames: int = 25
    settle_frames: int = 75
    rates: tuple[tuple[float, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        for name, rule in _DETECTOR.items():
            check(f"DetectorSpec.{name}", getattr(self, name), rule, SpecError)
        for _, row in self.rates:
            check("DetectorSpec.rates", row, _THRESHOLDS, SpecError)
        for row in (self.thresholds, *(row for _, row in self.rates)):
            if len(row) != len(self.thresholds) or not all(abs(value) <= self.highest_sum for value in row):
                raise SpecError(
                    f"DetectorSpec: {len(self.thresholds)} thresholds in +-{self.highest_sum}, got {row}; a sum of "
                    f"{self.average_count} cannot be larger"
                )
        for rate, _ in self.rates:
            check("DetectorSpec.rates", rate, Real(0, 4e6), SpecError)
        milli = self.milli_rates
        if not all(0 <= rate < 1 << 32 for rate in milli) or sorted(set(milli)) != list(milli):
            raise SpecError(
                f"DetectorSpec.rates: from 0 up, rising by at least 0.001, got {[r for r, _ in self.rates]}"
            )

    @property
    def highest_sum(self) -> int:
        """The largest sum of evidence, and the largest threshold."""
        return 255 * self.average_count

    @property
    def milli_rates(self) -> tuple[int, ...]:
        """The rates in thousandths of a false accept per hour, as the board names them."""
        return tuple(round(1000 * rate) for rate, _ in self.rates)

    @staticmethod
    def untuned(words: int) -> DetectorSpec:
        """Defaults, and thresholds for a lead of 64 of 255 steps on average: a start, until clips have been heard."""
        return DetectorSpec((64 * DetectorSpec.average_count,) * words)

    @staticmethod
    def from_json(raw: dict[str, Any]) -> DetectorSpec:
        """The spec from what json makes of its asdict(); raises SpecError."""
        needed = {name: rule for name, rule in _DETECTOR.items() if name == "thresholds"}
        check("DetectorSpec", raw, Fields(needed, _DETECTOR, closed=True), SpecError)
        for pair in raw.get("rates", ()):
            check("DetectorSpec.rates", pair[1], _THRESHOLDS, SpecError)
        rates = tuple((rate, tuple(row)) for rate, row in raw.get("rates", ()))
        return DetectorSpec(**{**raw, "thresholds": tuple(raw["thresholds"]), "rates": rates})
