"""What a sweep found, as rows; which of them nothing beats; where pruning falls off its cliff."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.arrays import Json
from converter.checked import is_number
from host.errors import HostError
from host.result_files import SWEEP, SWEEP_FLOAT, SWEEP_POINT, read_json

SWEEP_FILE = "sweep.json"
NONE = "none"
LEAST_CLIFF = 1.0
_FIX = "run the sweep again, finished points are kept"
BOARD = {  # field of Row -> key of "board" in result.json
    "parameters": "nonzero",
    "operations": "operations_nonzero",
    "engine_flash": "engine_flash_bytes",
    "engine_ram": "engine_ram_bytes",
    "flash": "flash_bytes",
    "ram": "ram_bytes",
    "stream_cycles": "cycles_stream_hop",
    **{key: key for key in ("host_us", "board_ms", "cycles", "cycles_uncached", "energy_uj", "inputs")},
}
OPTIONAL = ("host_us", "stream_cycles")
AXES = ("board_ms", "engine_flash")  # of logarithmic charts
FAMILIES = (
    "PTQ",
    "QAT",
    "unstructured pruning, not fine-tuned",
    "unstructured pruning, fine-tuned",
    "structured pruning, not fine-tuned",
    "structured pruning, fine-tuned",
)
SHAPES = {"tinyconv": "circle", "dscnn": "square"}
PARETO_DEPTH = 25.0  # points of accuracy below the best that the Pareto chart shows to scale


@dataclass(frozen=True)
class Row:
    """A finished point: how it was made, accuracy on n test clips, what it costs."""

    model: str
    seed: int
    kind: str
    amount: float
    finetune: int
    method: str
    bits: int
    accuracy: float
    n: int
    parameters: int  # not zero
    operations: int  # whose weight is not zero
    host_us: float | None
    board_ms: float
    cycles: float
    cycles_uncached: float
    stream_cycles: float | None
    energy_uj: float
    engine_flash: int
    engine_ram: int
    flash: int
    ram: int
    inputs: int
    commands: tuple[str, ...]

    @property
    def label(self) -> str:
        """How the point was made, for people."""
        pruned = f", {self.kind} {self.amount:g}" if self.kind != NONE else ""
        tuned = f", {self.finetune} epochs fine-tuned" if self.finetune else ", not fine-tuned" if pruned else ""
        return f"{self.model}{pruned}{tuned}, {self.method.upper()} {self.bits} bits, seed {self.seed}"

    @property
    def family(self) -> str:
        """The method, as the Pareto chart colours it."""
        if self.kind == NONE:
            return self.method.upper()
        return f"{self.kind} pruning, {'fine-tuned' if self.finetune else 'not fine-tuned'}"


@dataclass(frozen=True)
class Sweep:
    """A sweep folder as read. broken: (point, sentence); waiting: points without a result; float_accuracy: model to its
    seeds' figures."""

    folder: Path
    words: tuple[str, ...]
    smoke_test: bool
    rows: tuple[Row, ...]
    broken: tuple[tuple[str, str], ...]
    waiting: int
    float_accuracy: dict[str, list[float]]


def accuracy_word(sweep: Sweep) -> str:
    """The label of the accuracy's axis."""
    return "smoke test on synthetic speech, %" if sweep.smoke_test else "accuracy, %"


@dataclass(frozen=True)
class Mean:
    """Rows that differ in their seed alone, as one."""

    rows: tuple[Row, ...]

    @property
    def accuracy(self) -> float:
        """In percent."""
        return statistics.fmean(row.accuracy for row in self.rows)

    @property
    def spread(self) -> tuple[float, float] | None:
        """Lowest and highest accuracy of several seeds."""
        every = [row.accuracy for row in self.rows]
        return (min(every), max(every)) if len(every) > 1 else None

    def of(self, what: Callable[[Row], float | None]) -> float:
        """The mean of what is known of a figure."""
        return statistics.fmean(value for row in self.rows if (value := what(row)) is not None)


@dataclass(frozen=True)
class Curve:
    """Pruning of one kind by growing amount, the unpruned network first. cliff: the index before the largest drop of
    accuracy.

    A largest drop of no more than LEAST_CLIFF points is none.
    """

    name: str
    model: str
    points: tuple[Mean, ...]

    @property
    def drops(self) -> list[float]:
        """Points of accuracy lost from each point to the next."""
        return [a.accuracy - b.accuracy for a, b in zip(self.points, self.points[1:], strict=False)]

    @property
    def cliff(self) -> int | None:
        """Where in `drops` the largest one is; None where it is too small."""
        return self.drops.index(max(self.drops)) if max(self.drops, default=0.0) > LEAST_CLIFF else None


def is_sweep(folder: Path) -> bool:
    """True for a folder that `trainer sweep` made."""
    return (folder / SWEEP_FILE).is_file()


def load_sweep(folder: Path) -> Sweep:
    """Every point that SWEEP/sweep.json names; raises HostError when it is damaged."""
    facts = read_json(folder / SWEEP_FILE, _FIX, SWEEP)
    rows: list[Row] = []
    broken: list[tuple[str, str]] = []
    waiting = 0
    try:
        for point in facts["points"]:
            file = folder / "points" / point["key"] / "result.json"
            found = read_json(file, _FIX, SWEEP_POINT) if file.is_file() else {}
            if "error" in found:
                broken.append((point["key"], found["error"]))
            elif "train" in found and "board" in found:
                rows.append(_row(point, found))
            else:
                waiting += 1
        floats: dict[str, list[float]] = {}
        for file in sorted((folder / "float").glob("*/float.json")):
            own = read_json(file, _FIX, SWEEP_FLOAT)
            floats.setdefault(own["model"], []).append(own["accuracy"])
        return Sweep(folder, tuple(facts["words"]), facts["smoke_test"], tuple(rows), tuple(broken), waiting, floats)
    except (KeyError, TypeError, AttributeError) as error:
        raise HostError(
            f"{folder}: no sweep of this version ({error}); run `python -m trainer sweep --again board` on it"
        ) from None


def _row(point: Json, found: Json) -> Row:
    train, board = found["train"], found["board"]
    made = {key: point[key] for key in ("model", "seed", "kind", "amount", "finetune", "method", "bits")}
    figures = {field: board[key] for field, key in BOARD.items()}
    known = {field: value for field, value in figures.items() if field not in OPTIONAL or value is not None}
    for name, value in {**known, "accuracy": train["accuracy"], "n": train["n"]}.items():
        if not is_number(value) or value < 0 or (name in AXES and value == 0):
            raise TypeError(f"{name} of {point['key']} must be a number of at least 0, got {value!r}")
    return Row(**made, **figures, accuracy=train["accuracy"], n=train["n"], commands=tuple(found["commands"]))


def means(rows: Sequence[Row]) -> list[Mean]:
    """Rows that differ in their seed alone, together."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for r in rows:
        groups.setdefault((r.model, r.kind, r.amount, r.finetune, r.method, r.bits), []).append(r)
    return [Mean(tuple(group)) for group in groups.values()]


def curves(rows: Sequence[Row]) -> list[Curve]:
    """Pruning curves: equal model, kind, fine-tuning, method and bits, at least two amounts; seeds that all its amounts
    have."""
    groups: dict[tuple[str, str, int, str, int], list[Row]] = {}
    for r in rows:
        if r.kind != NONE:
            groups.setdefault((r.model, r.kind, r.finetune, r.method, r.bits), []).append(r)
    found = []
    for (model, kind, finetune, method, bits), group in groups.items():
        seeds = set.intersection(*({r.seed for r in m.rows} for m in means(group)))
        whole = [
            r for r in rows if (r.model, r.kind, r.method, r.bits) == (model, NONE, method, bits) and r.seed in seeds
        ]
        parts = sorted(means([r for r in [*whole, *group] if r.seed in seeds]), key=lambda m: m.rows[0].amount)
        if len({r.amount for r in group}) >= 2 and parts:
            tuned = f"{finetune} epochs fine-tuned" if finetune else "not fine-tuned"
            found.append(Curve(f"{kind}, {tuned}, {method.upper()} {bits} bits", model, tuple(parts)))
    return found


def front(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    """Rows that no other row beats in accuracy at the same or a lower cost, cheapest first."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda r: (cost(r), -r.accuracy)):
        if not best or row.accuracy > best[-1].accuracy:
            best.append(row)
    return best
