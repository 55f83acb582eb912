"""Chips by their data sheets: peak operations a second per data type, bytes a second, and who says so (chips.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError

FILE = Path(__file__).with_name("chips.json")
KINDS = ("CPU", "GPU", "ASIC", "SoC", "MCU")
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}  # of an element


@dataclass(frozen=True)
class Figure:
    """A number per second, how it follows from the source, and the source."""

    value: float
    derivation: str
    source: str


@dataclass(frozen=True)
class Chip:
    """peaks: operations a second by data type (a multiply-accumulate is 2); bandwidth: bytes a second of `memory`.

    second_bandwidth and second_peak: another memory by its name, a higher peak by its data type, where it depends on
    the kernel which of the two it meets.
    """

    name: str
    short: str
    kind: str
    memory: str
    bandwidth: Figure
    peaks: dict[str, Figure]
    second_bandwidth: tuple[str, Figure] | None = None
    second_peak: tuple[str, Figure] | None = None

    def ridge(self, dtype: str) -> float:
        """Operations a byte from which on the chip is bound by its arithmetic."""
        return self.peaks[dtype].value / self.bandwidth.value

    def roof(self, dtype: str, intensity: float) -> float:
        """Operations a second that can be had at most.

        >>> [chip.roof("int8", 0.5) for chip in load() if chip.short == "nRF52840"]
        [128000000.0]
        """
        return min(self.peaks[dtype].value, intensity * self.bandwidth.value)

    def bound(self, dtype: str, intensity: float) -> str:
        """memory or compute, for operations per byte."""
        return "compute" if intensity >= self.ridge(dtype) else "memory"


@cache
def load(file: Path = FILE) -> tuple[Chip, ...]:
    """Every chip of the file, checked."""
    try:
        entries = json.loads(file.read_text())
        chips = tuple(_chip(file, entry) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, TrainerError):
            raise
        raise TrainerError(
            f"{file}: chips are a JSON list of name, short, kind, memory, bandwidth, peaks, got {error!r}; "
            "compare with the chips of the package"
        ) from None
    shorts = [chip.short for chip in chips]
    if len(set(shorts)) != len(shorts):
        raise TrainerError(f"{file}: every chip has its own short name, got {sorted(shorts)}; rename one")
    return chips


def _chip(file: Path, entry: dict[str, Any]) -> Chip:
    name = entry["name"]
    chip = Chip(
        name,
        entry["short"],
        entry["kind"],
        entry["memory"],
        _figure(file, name, entry["bandwidth"]),
        {dtype: _figure(file, name, figure) for dtype, figure in entry["peaks"].items()},
        *(
            (entry[what][key], _figure(file, name, entry[what])) if what in entry else None
            for what, key in (("second_bandwidth", "memory"), ("second_peak", "dtype"))
        ),
    )
    if chip.kind not in KINDS:
        raise TrainerError(f"{file}: {name}: the kind is one of {', '.join(KINDS)}, got {chip.kind!r}; choose one")
    if not chip.peaks or not set(chip.peaks) <= set(BYTES):
        raise TrainerError(
            f"{file}: {name}: peaks are of {', '.join(BYTES)}, got {', '.join(chip.peaks) or 'none'}; name one of these"
        )
    return chip


def _figure(file: Path, name: str, entry: dict[str, Any]) -> Figure:
    figure = Figure(float(entry["value"]), entry["derivation"].strip(), entry["source"].strip())
    if figure.value <= 0 or not figure.derivation or not figure.source:
        raise TrainerError(
            f"{file}: {name}: a figure is positive and has derivation and source, got {entry}; fill in what is missing"
        )
    return figure


def of(short: str) -> Chip:
    """The chip of this short name."""
    return next(chip for chip in load() if chip.short == short)
