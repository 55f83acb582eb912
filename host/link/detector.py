"""How scores become a decision while listening: the exact twin of firmware/lib/detector (definition: DetectorSpec)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from converter.spec import DetectorSpec

FIRST_WORD = 2  # labels 0 and 1 are silence and unknown


class Detector:
    """Sums the last scores per label and names a word when its sum leads, suffices and none was heard just before.

    >>> detector = Detector(DetectorSpec(hop_frames=2, average_count=2, threshold=100, suppress_frames=4), labels=3)
    >>> [detector.step([-128, -128, 0]) for _ in range(5)]
    [None, 2, None, None, 2]
    """

    def __init__(self, spec: DetectorSpec, labels: int) -> None:
        self.spec = spec
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        """Forget all scores and decisions, as the board does at listen."""
        self._rows: deque[list[int]] = deque(maxlen=self.spec.average_count)
        self._frames_since: int | None = None

    def step(self, output: Sequence[int]) -> int | None:
        """Take one inference's int8 scores; the label of a word heard now, else None.

        Of equal sums the first label wins, so silence and unknown win a tie. Before average_count inferences have
        run the missing ones count as 0. A word is suppressed while suppress_frames or fewer frames lie behind the last.
        """
        if len(output) != self.labels:
            raise ValueError(f"Detector.step: {self.labels} scores wanted, got {len(output)}")
        self._rows.append([int(value) + 128 for value in output])
        if self._frames_since is not None:
            self._frames_since += self.spec.hop_frames
        sums = [sum(column) for column in zip(*self._rows, strict=True)]
        label = max(range(self.labels), key=lambda index: (sums[index], -index))
        if label < FIRST_WORD or sums[label] < self.spec.threshold * self.spec.average_count:
            return None
        if self._frames_since is not None and self._frames_since <= self.spec.suppress_frames:
            return None
        self._frames_since = 0
        return label
