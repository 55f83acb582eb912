"""What a keyword spotter is: its features, its labels, its detector. Standard library only.

Every other constant about audio, features or labels, in Python or in C, is derived from here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from operator import index
from typing import Any

from converter.target import SAMPLE_RATE_HZ

SILENCE, UNKNOWN = "silence", "unknown"
MAX_WORDS = 30  # that a detector hears: DETECTOR_MAX_WORDS of the firmware
MAX_FRAMES = 65_535  # of a detector's rests: uint16 on the board


class SpecError(ValueError):
    """A spec that breaks a rule; the message says where, which rule, what came and how to mend it."""


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
        for name in ("sample_rate_hz", "clip_ms", "window_ms", "step_ms", "channels", "raw_divisor"):
            if getattr(self, name) <= 0:
                raise SpecError(f"FeatureSpec.{name}: must be positive, got {getattr(self, name)}")
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


@dataclass(frozen=True)
class KwsSpec:
    """Features and labels: what the network is fed and what its outputs mean. Labels 0 and 1 are silence and
    unknown."""

    labels: tuple[str, ...]
    features: FeatureSpec = field(default_factory=FeatureSpec)

    def __post_init__(self) -> None:
        if self.labels[:2] != (SILENCE, UNKNOWN) or len(self.labels) < 3:
            raise SpecError(f"KwsSpec.labels: must be silence, unknown and at least one word, got {self.labels}")
        if len(set(self.labels)) != len(self.labels):
            raise SpecError(f"KwsSpec.labels: must differ from each other, got {self.labels}")

    @staticmethod
    def of_words(words: list[str] | tuple[str, ...]) -> KwsSpec:
        """The spec with default features; labels are silence, unknown, then the words."""
        return KwsSpec(labels=(SILENCE, UNKNOWN, *words))

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
            raw = json.loads(text) if isinstance(text, str) else dict(text)
            return KwsSpec(labels=tuple(raw["labels"]), features=FeatureSpec(**raw["features"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"KwsSpec: not a spec written by this project ({error})") from None


@dataclass(frozen=True)
class DetectorSpec:
    """How outputs become a decision while listening; all integer, so that host and board agree exactly.

    After every hop_frames feature frames one inference runs, with int8 outputs o[label], logits or scores. The evidence
    of word w is o[w] - max over all other labels of o[l], -255..255; sums[w] is the sum of its evidence in the last
    average_count inferences, missing ones counting 0.

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
        if not (1 <= self.hop_frames <= 50 and 1 <= self.average_count <= 64):
            raise SpecError(f"DetectorSpec: hop_frames in 1..50 and average_count in 1..64, got {self}")
        if not (0 <= self.suppress_frames <= MAX_FRAMES and 0 <= self.settle_frames <= MAX_FRAMES):
            raise SpecError(f"DetectorSpec: suppress_frames and settle_frames in 0..{MAX_FRAMES}, got {self}")
        if not 1 <= len(self.thresholds) <= MAX_WORDS:
            raise SpecError(f"DetectorSpec.thresholds: one for each of 1..{MAX_WORDS} words, got {self.thresholds}")
        for row in (self.thresholds, *(row for _, row in self.rates)):
            if len(row) != len(self.thresholds) or not all(abs(value) <= self.highest_sum for value in row):
                raise SpecError(
                    f"DetectorSpec: {len(self.thresholds)} thresholds in +-{self.highest_sum}, got {row}; a sum of "
                    f"{self.average_count} cannot be larger"
                )
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
        try:
            rates = tuple((float(rate), tuple(map(index, row))) for rate, row in raw.get("rates", ()))
            thresholds = tuple(map(index, raw["thresholds"]))
            return DetectorSpec(**{**raw, "thresholds": thresholds, "rates": rates})
        except SpecError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SpecError(f"DetectorSpec: not a detector written by this project ({error})") from None
