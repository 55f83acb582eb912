"""What every equivalence check is given and what it answers: status, number of comparisons, the first difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.arrays import Int8, Int16
from converter.convert import Source
from converter.graph import Graph

EQUAL, DIFFERENT, ABSENT, WITHIN = "equal", "DIFFERENT", "not available here", "within the rule"


@dataclass(frozen=True)
class Check:
    """One claim: `checked` comparisons of `unit` were made, `differences` of them failed; detail names the first."""

    claim: str
    status: str
    checked: int = 0
    unit: str = ""
    differences: int = 0
    detail: str = ""


@dataclass(frozen=True)
class LayerCrc:
    """One layer's output on the board and in the host's reference; board_crc32 None: not visible there."""

    name: str
    board_crc32: int | None
    host_crc32: int


@dataclass(frozen=True)
class BoardAnswer:
    """One input through a board. features_equal is None for an input that is no recording."""

    features_equal: bool | None
    layers: tuple[LayerCrc, ...]


@dataclass(frozen=True)
class BoardDecisions:
    """Audio played into a listening board: how many inferences it made, how many differ from the host's own."""

    inferences: int
    compared: bool
    different: int


@dataclass(frozen=True)
class BoardAccess:
    """What the checks ask of a virtual board; the host's functions, handed in because converter knows no host.

    Each raises ConvertError with one sentence. `model` is a run folder or a .tflite.
    """

    build: Callable[[Path, Path], Path]  # (folder of generated files, folder to build in) -> image
    infer: Callable[[Path, Path, Sequence[Path]], list[BoardAnswer]]  # (image, model, .npy int8 or .wav files)
    listen: Callable[[Path, Path, Int16], BoardDecisions]  # (image, model, pcm of 16 kHz)
    raw: Callable[[Path, str, Sequence[bytes]], list[bytes]]  # (image, model_id, inputs) -> outputs, as they lie there


@dataclass(frozen=True, eq=False)
class CheckInputs:
    """What every check is given: the model, recorded clips (of vectors.npz first) and their features, noise, a folder
    to work in."""

    source: Source
    vectors: dict[str, NDArray[Any]]
    pcm: Int16
    recorded: Int8
    noise: Int8
    folder: Path
    elf: Path | None = None
    board: BoardAccess | None = None

    @property
    def graph(self) -> Graph:
        """The network under test."""
        return self.source.graph

    @property
    def inputs(self) -> Int8:
        """int8 [n, ...], recorded ones first."""
        return np.concatenate([self.recorded, self.noise])

    @property
    def counts(self) -> str:
        """For messages."""
        return f"inputs ({len(self.recorded)} recorded, {len(self.noise)} noise)"


@dataclass
class Mismatches:
    """Counts comparisons and keeps the first difference."""

    unit: str
    checked: int = 0
    differences: int = 0
    first: str = ""

    def compare(
        self, where: str, names: tuple[str, str], left: NDArray[Any], right: NDArray[Any], steps: int = 0
    ) -> None:
        """One comparison of two arrays of integers of equal size; so many steps are no difference."""
        self.checked += 1
        a, b = np.ravel(left).astype(np.int64), np.ravel(right).astype(np.int64)
        if a.shape == b.shape and not (np.abs(a - b) > steps).any():
            return
        self.differences += 1
        if self.first:
            return
        if a.shape != b.shape:
            self.first = f"{where}: {names[0]} has {a.size} values, {names[1]} {b.size}"
            return
        index = int(np.flatnonzero(np.abs(a - b) > steps)[0])
        self.first = f"{where}, index {index}: {names[0]} {a[index]}, {names[1]} {b[index]}"

    def count(self, equal: bool, message: str) -> None:
        """One comparison made elsewhere; message says what differs when it is the first."""
        self.checked += 1
        if not equal:
            self.differences += 1
            self.first = self.first or message

    def check(self) -> Check:
        """The finished check; run_checks gives it its claim."""
        return Check(
            "", DIFFERENT if self.differences else EQUAL, self.checked, self.unit, self.differences, self.first
        )


@dataclass(frozen=True)
class Checks:
    """All checks of one model, in the order in which they ran."""

    model_id: str
    spec_id: str
    checks: list[Check] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether a check found a difference."""
        return any(check.status == DIFFERENT for check in self.checks)
