"""The one exception of the trainer's commands."""

from __future__ import annotations

import sys

from converter.errors import printable


class TrainerError(ValueError):
    """Something the user gave cannot be used; the message says where, which rule, what came and how to mend it."""


_warned: set[str] = set()


def warn(sentence: str) -> None:
    """One line on stderr, the first time it is said: a command selects its clips more than once."""
    if sentence in _warned:
        return
    _warned.add(sentence)
    print(f"warning: {printable(sentence)}", file=sys.stderr)
