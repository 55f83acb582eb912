"""Points of the Nano 33 BLE: the layers of a model as `python -m host profile ELF --layers --json FILE` traced them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.checked import Fields, Flag, Items, Text, Whole, check, json_in
from trainer.errors import TrainerError

_PROFILE = Fields(
    {
        "identity": Fields({"clock_hz": Whole(1, 10**10)}),
        "modelled": Flag(),
        "roofline": Items(Fields({"name": Text(), **dict.fromkeys(("operations", "bytes", "cycles"), Whole(1))})),
    }
)


@dataclass(frozen=True)
class BoardLayer:
    """Operations a byte and operations a second of one layer."""

    name: str
    intensity: float
    operations_per_second: float
    operations: int
    bytes: int
    cycles: int


@dataclass(frozen=True)
class BoardModel:
    """A model on the board; modelled: the cycles are the virtual board's."""

    name: str
    modelled: bool
    clock_hz: int
    layers: tuple[BoardLayer, ...]

    @property
    def whole(self) -> BoardLayer:
        """All layers, one after the other."""
        operations, moved, cycles = (
            sum(getattr(layer, what) for layer in self.layers) for what in ("operations", "bytes", "cycles")
        )
        return BoardLayer("all", operations / moved, operations / cycles * self.clock_hz, operations, moved, cycles)


def load(file: Path) -> BoardModel:
    """The layers with arithmetic of the profile's model, which is called NAME where the file is board_NAME.json."""
    try:
        found = json_in(file)
        check("", found, _PROFILE)
        clock_hz = found["identity"]["clock_hz"]
        counts = [(row["name"], *(row[key] for key in ("operations", "bytes", "cycles"))) for row in found["roofline"]]
        layers = tuple(BoardLayer(name, o / b, o / c * clock_hz, o, b, c) for name, o, b, c in counts)
        model = BoardModel(file.stem.removeprefix("board_"), bool(found["modelled"]), clock_hz, layers)
    except (OSError, ValueError) as error:
        raise TrainerError(
            f"{file}: the board's layers are what `python -m host profile ELF --layers --json FILE` writes, got "
            f"{error!r}; "
            "make that file (with --run for a model of your own)"
        ) from None
    if not model.layers:
        raise TrainerError(f"{file}: the profile has no layer with arithmetic; profile another model")
    return model
