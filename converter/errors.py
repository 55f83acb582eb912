"""The one exception of this package."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """The text in one line that a terminal shows as it is: file names and damaged files may hold anything.

    >>> printable("a" + chr(10) + "b" + chr(27))
    'a?b?'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


class ConvertError(ValueError):
    """A model that cannot be converted; the message says where, which rule, what came and how to mend it."""

    def __init__(self, message: str) -> None:
        """The message may quote names from a damaged file; it stays one printable line."""
        super().__init__(printable(message))


def require(holds: bool, where: str, rule: str) -> None:
    """Raises ConvertError with "where: rule" unless the rule holds."""
    if not holds:
        raise ConvertError(f"{where}: {rule}")


MOST_SAID = 12  # of what stands in the way of one file


def require_none(blockers: Sequence[str]) -> None:
    """Raises one ConvertError for all that stands in the way; what is said of several layers in the same words is said
    once, of the first."""
    rules: dict[str, list[str]] = {}
    for blocker in blockers:
        where, _, rule = blocker.rpartition(": ")
        rules.setdefault(rule, []).append(where)
    said = []
    for rule, places in rules.items():
        others = f" and {len(places) - 1} more" if len(places) > 1 else ""
        said.append(f"{places[0]}{others}: {rule}" if places[0] else rule)
    if len(said) == 1:
        raise ConvertError(said[0])
    if said:
        left = [f"and {len(said) - MOST_SAID} more"] if len(said) > MOST_SAID else []
        listed = [f"({number}) {text}" for number, text in enumerate(said[:MOST_SAID], 1)]
        raise ConvertError(f"{len(said)} things stand in the way: {'; '.join([*listed, *left])}")


class Budget:
    """How many bytes a reader may take out of a file in all: where parts of it are shared, a small file can stand for
    any amount of memory."""

    def __init__(self, file_bytes: int) -> None:
        self.left = 4 * file_bytes + (2 << 20)

    def take(self, count: int) -> None:
        """Counts bytes that were asked for; raises ConvertError when they are more than the file can stand for."""
        self.left -= count
        if self.left < 0:
            raise ConvertError(
                "its parts are shared so often that they take more than four times the file; give each layer constants "
                "of its own"
            )
