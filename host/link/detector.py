"""How outputs become a decision while listening: the exact twin of firmware/lib/detector (definition: DetectorSpec)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from converter.spec import DetectorSpec

FIRST_WORD = 2  # labels 0 and 1 are silence and unknown


def evidence(output: Sequence[int]) -> list[int]:
    """Per word, its int8 output minus the largest of all other labels, -255..255; one output is a probability.

    >>> evidence([-10, 5, 30, 20]), evidence([-128])
    ([10, -10], [0])
    """
    if len(output) == 1:
        return [int(output[0]) + 128]
    return [
        int(output[label]) - max(int(value) for index, value in enumerate(output) if index != label)
        for label in range(FIRST_WORD, len(output))
    ]


class Detector:
    """Sums the last evidence per word and names a word when its sum suffices, once per utterance.

    >>> spec = DetectorSpec((100,), average_count=2, suppress_frames=2, settle_frames=4)
    >>> detector = Detector(spec, labels=3)
    >>> [detector.step([-128, -128, value]) for value in (0, 0, 0, -128, -128, 0)]
    [None, None, 2, None, None, 2]
    """

    def __init__(self, spec: DetectorSpec, labels: int) -> None:
        if len(spec.thresholds) != labels - FIRST_WORD:
            raise ValueError(f"Detector: {labels} labels want {labels - FIRST_WORD} thresholds, got {spec.thresholds}")
        self.spec = spec
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        """Forget all evidence and decisions, as the board does at listen."""
        self.sums = [0] * (self.labels - FIRST_WORD)
        self._rows: deque[list[int]] = deque(maxlen=self.spec.average_count)
        self._armed = [True] * len(self.sums)
        self._frames = 0
        self._heard_at: int | None = None

    def step(self, output: Sequence[int]) -> int | None:
        """Take one inference's int8 outputs; the label of a word heard now, else None. `sums` holds the new sums."""
        if len(output) != self.labels and (len(output), self.labels) != (1, FIRST_WORD + 1):
            raise ValueError(f"Detector.step: {self.labels} outputs wanted, got {len(output)}")
        self._rows.append(evidence(output))
        self._frames += self.spec.hop_frames
        self.sums = [sum(column) for column in zip(*self._rows, strict=True)]
        above = [value >= least for value, least in zip(self.sums, self.spec.thresholds, strict=True)]
        self._armed = [armed or not high for armed, high in zip(self._armed, above, strict=True)]
        rests = self._heard_at is not None and self._frames - self._heard_at <= self.spec.suppress_frames
        words = [word for word, high in enumerate(above) if high and self._armed[word]]
        if rests or self._frames <= self.spec.settle_frames or not words:
            return None
        word = max(words, key=lambda index: (self.sums[index], -index))
        self._armed[word] = False
        self._heard_at = self._frames
        return word + FIRST_WORD
