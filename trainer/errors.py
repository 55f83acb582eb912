"""The one exception of the trainer's commands."""

from __future__ import annotations


class TrainerError(ValueError):
    """Something the user gave cannot be used; the message says where, which rule, what came and how to mend it."""
