"""The microphone of a board, as that of a computer is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from converter.arrays import Pcm
from converter.commands.microphone import BLOCKS_PER_S, Microphone
from host.errors import HostError
from host.link.client import Board


@contextlib.contextmanager
def board_microphone(port: str) -> Iterator[Microphone]:
    """What the board at a port hears, bit for bit, until the block ends. Raises HostError, also while the blocks are
    read: no take is made of a line that lost or damaged something."""
    if port.endswith(".elf"):
        raise HostError(
            f"{port}: a virtual board hears recordings only; start it with one (python -m host emulate {port} --wav "
            f"FILE --baud 1000000 --port tcp:0) and name the address that it prints"
        )
    with Board(port) as board, contextlib.closing(board.record()) as steps:
        audio = board.identity.audio
        blocks = _blocks(steps, audio.sample_rate_hz // BLOCKS_PER_S // audio.step_samples if audio else 1)
        first = next(blocks)  # a board without a microphone, or with an older firmware, says so now
        assert audio is not None  # else it has refused
        yield Microphone(f"{board.identity.board} at {port}", audio.sample_rate_hz, chain([first], blocks))


def _blocks(steps: Iterator[tuple[Pcm, bool]], count: int) -> Iterator[tuple[Pcm, bool]]:
    """So many steps in one."""
    while part := list(islice(steps, count)):
        yield np.concatenate([pcm for pcm, _ in part]), any(lost for _, lost in part)
