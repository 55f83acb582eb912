"""Audio over the serial line into a listening board, every score and decision beside the host's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from converter.arrays import Pcm
from host.link.client import Board
from host.link.expected import Decision, Model, listen
from host.link.protocol import Heard, Identity


@dataclass(frozen=True)
class Streamed:
    """What the board made of a stream; host is empty when there was no model to compare with."""

    labels: tuple[str, ...]
    heard: tuple[Heard, ...]
    host: tuple[Decision, ...]

    @property
    def words(self) -> list[tuple[int, str]]:
        """(frame, word) of each word heard."""
        return [(item.frame, self.labels[item.word]) for item in self.heard if item.word is not None]

    @property
    def different(self) -> int:
        """How many inferences differ from the host's in score, decision or place; one lost or extra counts as one."""
        pairs = sum(Decision.of(ours) != theirs for ours, theirs in zip(self.heard, self.host, strict=False))
        return pairs + abs(len(self.heard) - len(self.host)) if self.host else 0


def stream(
    board: Board, pcm: Pcm, model: Model | None = None, progress: Callable[[Heard], None] | None = None
) -> Streamed:
    """Plays audio into the board from a fresh state."""
    found = []
    for heard in board.stream(pcm):
        found.append(heard)
        if progress:
            progress(heard)
    own = listen(model, board.identity, pcm) if model is not None else []
    labels = model.spec.labels if model is not None and model.spec else board.identity.labels
    return Streamed(labels, tuple(found), tuple(own))


def seconds(heard: Heard, board: Identity) -> float:
    """How much audio the board had heard at this inference."""
    return heard.frame * board.audio.step_samples / board.audio.sample_rate_hz if board.audio else 0.0


def summary(result: Streamed) -> str:
    """Words heard and differences, in one line."""
    words = ", ".join(word for _, word in result.words) or "no word"
    compared = f"; {result.different} differ from the host's in score or decision" if result.host else ""
    return f"{len(result.heard)} inferences, heard: {words}{compared}"


def to_json(result: Streamed) -> dict[str, Any]:
    """What `stream --json` writes."""
    return {
        "labels": result.labels,
        "words": result.words,
        "heard": [asdict(item) for item in result.heard],
        "compared": bool(result.host),
        "different": result.different,
    }
