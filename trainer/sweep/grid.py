"""The points of a sweep: a grid written as `bits=2,4,8 method=ptq,qat seed=0`, several of them one after the other."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from trainer.errors import TrainerError
from trainer.network.model import MODELS
from trainer.network.prune import KINDS, NORMS
from trainer.run.quantize import METHODS

NONE = "none"
DEFAULT_GRID = (
    "bits=2,3,4,5,6,7,8 method=ptq,qat seed=0,1",
    "kind=unstructured amount=0.5,0.7,0.8,0.9,0.95 finetune=0,20 method=ptq",
    "kind=structured amount=0.125,0.25,0.5,0.75,0.875 finetune=0,20 method=ptq",
    "kind=structured amount=0.25,0.5 finetune=20 bits=4",
    "kind=unstructured amount=0.8 finetune=20 bits=4",
    "model=tinyconv_stream",
    "model=dscnn bits=4,8",
    "model=dscnn kind=structured amount=0.25,0.5,0.75 finetune=20 method=ptq",
)


@dataclass(frozen=True)
class Point:
    """One network: trained with `model` and `seed`, pruned by `kind`, `amount`, `norm` and `finetune`, quantized by
    `method` to `bits`."""

    model: str = "tinyconv"
    seed: int = 0
    kind: str = NONE
    amount: float = 0.0
    norm: str = "l2"
    finetune: int = 0
    method: str = "qat"
    bits: int = 8

    def __post_init__(self) -> None:
        for name, value, known in (
            ("model", self.model, MODELS),
            ("kind", self.kind, (NONE, *KINDS)),
            ("norm", self.norm, NORMS),
            ("method", self.method, METHODS),
        ):
            if value not in known:
                raise TrainerError(f"--grid: {name} must be one of {', '.join(known)}, got {value}")
        if not 2 <= self.bits <= 8 or self.seed < 0 or self.finetune < 0:
            raise TrainerError(f"--grid: bits lie in 2..8, seed and finetune are not negative, got {self.label}")
        if (self.kind == NONE) != (self.amount == 0) or not 0 <= self.amount < 1:
            raise TrainerError(
                f"--grid: amount lies between 0 and 1 where kind is {' or '.join(KINDS)}, and only there, got "
                f"{self.label}"
            )
        if self.kind == NONE and self.finetune:
            raise TrainerError(f"--grid: finetune needs a kind of pruning, got {self.label}")

    @property
    def label(self) -> str:
        """All that is not left at its default, as it is written in a grid."""
        return grid_of(self, always=("model", "bits", "method"))

    @property
    def key(self) -> str:
        """The name of its folder: what it is in short, and a hash of all its parameters."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]
        pruned = f"-{self.kind}{self.amount:g}" if self.kind != NONE else ""
        return f"{self.model}{pruned}-{self.method}{self.bits}-s{self.seed}-{digest}"

    @property
    def float_key(self) -> str:
        """The name of the float network it starts from."""
        return f"{self.model}-s{self.seed}"


def grid_of(point: Point, always: Sequence[str] = ()) -> str:
    """The grid of just this point.

    >>> grid_of(Point(bits=4, seed=1))
    'seed=1 bits=4'
    """
    return " ".join(
        f"{f.name}={_text(getattr(point, f.name))}"
        for f in fields(point)
        if f.name in always or getattr(point, f.name) != f.default
    )


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse(grids: Sequence[str]) -> list[Point]:
    """Every combination of every grid's values, each point once, in the order written.

    >>> [p.bits for p in parse(["bits=4,8 method=ptq", "bits=8 method=ptq"])]
    [4, 8]
    """
    points = [point for grid in grids for point in _parse(grid)]
    if not points:
        raise TrainerError("--grid: names no point; write for example --grid 'bits=4,8 method=ptq,qat'")
    return list(dict.fromkeys(points))


def _parse(grid: str) -> list[Point]:
    axes: dict[str, list[Any]] = {}
    kinds: dict[str, Callable[[str], Any]] = {f.name: type(f.default) for f in fields(Point)}
    for word in grid.split():
        name, equals, values = word.partition("=")
        if not equals or name not in kinds or name in axes:
            why = "comes twice" if name in axes else f"is no axis=values; axes are {', '.join(kinds)}"
            raise TrainerError(f"--grid: '{word}' {why}, in '{grid}'")
        try:
            axes[name] = [kinds[name](value) for value in values.split(",")]
        except ValueError:
            raise TrainerError(f"--grid: '{word}' must hold numbers, in '{grid}'") from None
    if not axes:
        return []
    return [Point(**dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
