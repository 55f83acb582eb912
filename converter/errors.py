"""The one exception of this package."""

from __future__ import annotations


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
