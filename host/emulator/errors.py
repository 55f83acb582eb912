"""The one exception of the virtual board."""

from host.errors import HostError


class BoardError(HostError):
    """What stopped the board, or kept it from starting, in one sentence."""


class BoardFault(BoardError):
    """The program cannot go on; the sentence says where it was."""
