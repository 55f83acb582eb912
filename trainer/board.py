"""What the trainer asks of the host around a board; the command line hands it in, for the trainer imports no host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from converter.arrays import Json
from converter.verify.checks import BoardAccess


@dataclass(frozen=True)
class BoardTools:
    """Functions of the host; each raises a ValueError of one sentence."""

    build: Callable[[Path, Path], Path]  # (folder of generated files, folder to build in) -> image
    profile: Callable[[Path, int], Json]  # (image, runs) -> what `host profile --json` writes
    evaluate: Callable[[Path, int], Json]  # (run folder, inputs) -> what `host evaluate --json` writes
    checks: BoardAccess
    hop_layers: Callable[[Path, int], Json]  # (generated files, layers) -> cycles of a streaming hop by layer
    firmware_hop: Callable[[Path], Json]  # generated files -> cycles of a hop and the engine's bytes in the firmware
    report: Callable[..., Path]  # (run folder, profile=what `profile` wrote, checks=what `verify` did) -> the page
