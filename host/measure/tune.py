"""How readily a board hears a word: its thresholds shown and set, with the false accepts per hour that go with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from converter.spec import DetectorSpec
from host.errors import HostError
from host.link.client import Board
from host.link.detector import FIRST_WORD


def parse(text: str) -> tuple[int, ...]:
    """Thresholds as written on the command line; HostError on anything else.

    >>> parse("120,-140")
    (120, -140)
    """
    if not re.fullmatch(r"-?[0-9]{1,5}(,-?[0-9]{1,5})*", text):
        raise HostError(f"--thresholds: whole numbers with commas between, such as 120,140; got {text[:40]!r}")
    return tuple(map(int, text.split(",")))


def tune(board: Board, false_accepts_per_hour: float | None, thresholds: Sequence[int] | None) -> DetectorSpec:
    """Sets what is not None, and returns the detector then in force with the board's table; raises HostError."""
    before = board.detector()
    if thresholds is not None:
        if len(thresholds) != len(before.thresholds) or max(map(abs, thresholds)) > before.highest_sum:
            raise HostError(
                f"--thresholds: this board wants {len(before.thresholds)} within +-{before.highest_sum}, got "
                f"{','.join(map(str, thresholds))}"
            )
        return replace(board.set_thresholds(thresholds), rates=before.rates)
    if false_accepts_per_hour is not None:
        return replace(board.set_rate(false_accepts_per_hour), rates=before.rates)
    return before


def rate_of(spec: DetectorSpec) -> str:
    """False accepts per hour at the thresholds in force, from the table: the rate, or those above and below.

    Lower thresholds, word by word, let more through; a row that is lower for one word and higher for another says
    nothing.

    >>> spec = DetectorSpec((200, 200), rates=((0.5, (300, 310)), (2.0, (100, 90))))
    >>> [rate_of(replace(spec, thresholds=row)) for row in ((100, 90), (200, 200), (400, 400), (0, 0), (0, 999))]
    ['2 an hour', 'from 0.5 to 2 an hour', 'at most 0.5 an hour', 'at least 2 an hour', 'not measured']
    """
    for rate, row in spec.rates:
        if row == spec.thresholds:
            return f"{rate:g} an hour"
    pairs = [(rate, list(zip(row, spec.thresholds, strict=True))) for rate, row in spec.rates]
    least = max((rate for rate, pair in pairs if all(listed >= own for listed, own in pair)), default=None)
    most = min((rate for rate, pair in pairs if all(listed <= own for listed, own in pair)), default=None)
    if least is None or most is None:
        bound, name = (most, "at most") if least is None else (least, "at least")
        return "not measured" if bound is None else f"{name} {bound:g} an hour"
    return f"from {least:g} to {most:g} an hour"


def show(spec: DetectorSpec, labels: Sequence[str]) -> str:
    """The detector in force in three lines, labels being the board's."""
    words = [f"{label} {value}" for label, value in zip(labels[FIRST_WORD:], spec.thresholds, strict=True)]
    table = ", ".join(f"{rate:g}" for rate, _ in spec.rates) or "none measured"
    return (
        f"thresholds: {', '.join(words)} (of {spec.highest_sum}: evidence of {spec.average_count} inferences, one "
        f"every {spec.hop_frames} frames)\nfrom the start {spec.settle_frames} frames, after a word "
        f"{spec.suppress_frames} frames of rest\nfalse accepts: {rate_of(spec)}; the board's table, per hour: {table}"
    )
