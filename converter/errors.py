"""The one exception of this package."""

from __future__ import annotations


class ConvertError(ValueError):
    """A model that cannot be converted; the message says where, which rule, what came and how to mend it."""

    def __init__(self, message: str) -> None:
        """The message may quote names from a damaged file; it stays one printable line."""
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


def require(holds: bool, where: str, rule: str) -> None:
    """Raises ConvertError with "where: rule" unless the rule holds."""
    if not holds:
        raise ConvertError(f"{where}: {rule}")
