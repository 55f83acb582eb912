"""The spoken-word trial: recordings played into the board, the word expected beside the word heard."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from converter.arrays import Pcm
from converter.audio.wav import SUFFIXES, read_wav
from converter.commands import cli
from converter.run_folder import ModelArtifact
from converter.spec import SILENCE, UNKNOWN, DetectorSpec, composed
from converter.target import SAMPLE_RATE_HZ
from host.errors import HostError
from host.link.client import Board
from host.link.detector import FIRST_WORD, Detector
from host.link.expected import Model, listen, require_same
from host.link.protocol import Heard
from host.measure.stream import Streamed, stream

TAIL_SAMPLES = SAMPLE_RATE_HZ  # silence after each recording, so that the word passes through the whole window
NOTHING = "-"
_QUIET_FOLDERS = ("_silence_", "_background_noise_", SILENCE)


@dataclass(frozen=True)
class Attempt:
    """One recording heard once. margin is how far the summed evidence of the heard word, or of any word, rose over its
    threshold at best; negative where it stayed below."""

    file: Path
    expected: str
    heard: str
    margin: int
    inferences: int
    different: int

    @property
    def right(self) -> bool:
        """Silence and unknown words want nothing heard."""
        return self.heard == (NOTHING if self.expected in (SILENCE, UNKNOWN) else self.expected)


def expected_label(path: Path, labels: Sequence[str]) -> str:
    """The label a recording should give: by its folder's name, else by a word in its file name, else unknown.

    >>> labels = ("silence", "unknown", "yes", "stop")
    >>> [expected_label(Path(p), labels) for p in ("yes/0a.wav", "no/0a.wav", "_silence_/1.wav", "take/yes_2.wav")]
    ['yes', 'unknown', 'silence', 'yes']
    """
    folder = composed(path.resolve().parent.name)
    if folder in _QUIET_FOLDERS:
        return SILENCE
    if folder in labels:
        return folder
    for word in re.split(r"[\W\d_]+", composed(path.stem).lower()):
        if word in labels:
            return word
    return UNKNOWN


def recordings(paths: Sequence[Path]) -> list[tuple[Path, Pcm]]:
    """Files as they are, folders by the recordings in them, all read and checked; HostError where there are none."""
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            raise HostError(f"{path}: no WAV or FLAC recordings in this folder")
        found += inside
    if not found:
        raise HostError("trial: name at least one recording or folder of recordings")
    return [(file, read_wav(file)) for file in found]


def settle_samples(model: Model, detector: DetectorSpec | None = None) -> int:
    """Samples from a reset during which the detector hears no word; the model's own one, or the default, if none is
    given."""
    frames = (detector or model.detector or DetectorSpec).settle_frames
    return frames * model.spec.features.step_samples if model.spec else 0


def trial(
    board: Board,
    files: Sequence[tuple[Path, Pcm]],
    model: Model,
    times: int = 1,
    progress: Callable[[Attempt], None] | None = None,
) -> list[Attempt]:
    """Every recording `times` times, each from a fresh state, silence before it until the detector listens and after
    it; scores and decisions compared with the host's."""
    require_same(board.identity, model)
    head = np.zeros(settle_samples(model, board.identity.detector), np.int16)
    tail = np.zeros(TAIL_SAMPLES, np.int16)
    attempts = []
    for file, pcm in (item for item in files for _ in range(times)):
        streamed = stream(board, np.concatenate([head, pcm, tail]), model)
        attempts.append(_judge(file, streamed, board))
        if progress:
            progress(attempts[-1])
    return attempts


def trial_by_microphone(
    board: Board,
    files: Sequence[tuple[Path, Pcm]],
    model: Model,
    gap_samples: int,
    progress: Callable[[Heard], None] | None = None,
) -> list[Attempt]:
    """The recordings as the microphone of a virtual board plays them: one continuous sound, `gap_samples` of silence
    round each, no less than settle_samples."""
    require_same(board.identity, model)
    if gap_samples < (least := settle_samples(model, board.identity.detector)):
        raise HostError(
            f"trial: {gap_samples} samples of silence before the first recording, but the board's detector listens "
            f"after {least}; name its run folder with --run"
        )
    step = model.spec.features.step_samples if model.spec else 1
    gap = np.zeros(gap_samples, np.int16)
    pcm = np.concatenate([gap, *(part for _, clip in files for part in (clip, gap))])
    expected = listen(model, board.identity, pcm)
    heard = []
    for item in board.listen(len(expected)):
        heard.append(item)
        if progress:
            progress(item)
    lost = heard[-1].lost if heard else 0
    if lost or len(heard) != len(expected):
        raise HostError(
            f"{board.port}: {lost} samples of audio were lost, {len(heard)} of {len(expected)} inferences came; "
            f"run again"
        )
    attempts, start = [], gap_samples
    for file, clip in files:
        end = start + len(clip) + gap_samples
        inside = [i for i, item in enumerate(heard) if start <= item.frame * step < end]
        part = Streamed(
            model.spec.labels if model.spec else (), tuple(heard[i] for i in inside), tuple(expected[i] for i in inside)
        )
        attempts.append(_judge(file, part, board))
        start = end
    return attempts


def _judge(file: Path, streamed: Streamed, board: Board) -> Attempt:
    words = [item.word for item in streamed.heard if item.word is not None]
    heard = streamed.labels[words[0]] if words else NOTHING
    return Attempt(
        file,
        expected_label(file, streamed.labels),
        heard,
        _margin(streamed, board.identity.detector, words[0] if words else None),
        len(streamed.heard),
        streamed.different,
    )


def _margin(streamed: Streamed, spec: DetectorSpec | None, word: int | None) -> int:
    """Of the inferences after settling; 0 where there is none."""
    if spec is None:
        return 0
    detector, best = Detector(spec, len(streamed.labels)), []
    for item in streamed.heard:
        detector.step(item.scores)
        margins = [total - least for total, least in zip(detector.sums, spec.thresholds, strict=True)]
        if item.frame > spec.settle_frames:
            best.append(max(margins) if word is None else margins[word - FIRST_WORD])
    return max(best, default=0)


def trial_table(attempts: Sequence[Attempt]) -> Table:
    """Expected / heard, one row per attempt."""
    heads = ("recording", "expected", "heard", "margin", "right", "same as host")
    table = cli.table("spoken-word trial", heads, left=[head for head in heads if head != "margin"])
    for a in attempts:
        table.add_row(
            "/".join(a.file.parts[-2:]),
            a.expected,
            a.heard,
            f"{a.margin:+d}",
            "yes" if a.right else "NO",
            "yes" if a.different == 0 else f"NO ({a.different} of {a.inferences})",
        )
    return table


def is_smoke_test(run: Path) -> bool:
    """True for a run folder whose network was trained on synthetic speech."""
    return (run / "artifact.json").is_file() and ModelArtifact.load(run).is_smoke_test


def summary(attempts: Sequence[Attempt], smoke_test: bool = False) -> str:
    """Right per class and in all, and how many inferences differ from the host's."""
    per_class = []
    for label in dict.fromkeys(attempt.expected for attempt in attempts):
        group = [attempt for attempt in attempts if attempt.expected == label]
        per_class.append(f"{label} {sum(attempt.right for attempt in group)}/{len(group)}")
    right, different = sum(a.right for a in attempts), sum(a.different for a in attempts)
    total = sum(a.inferences for a in attempts)
    what = "smoke test on synthetic speech: " if smoke_test else ""
    return (
        f"{what}{right} of {len(attempts)} right ({', '.join(per_class)}); "
        f"{different} of {total} inferences differ from the host's in score or decision"
    )


def to_json(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """What the report reads: every attempt, and the sums."""
    rows = [{**asdict(a), "file": "/".join(a.file.parts[-2:]), "right": a.right} for a in attempts]
    right, different = sum(a.right for a in attempts), sum(a.different for a in attempts)
    return {"attempts": rows, "right": right, "n": len(attempts), "different": different}
