"""What each action of `python -m trainer roofline` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converter.files import write_atomic
from trainer.errors import TrainerError
from trainer.roofline import board, chips, measure, measured, models, page, pictures
from trainer.roofline.measured import Measurement

ACTIONS = ("chips", "models", "measure", "plot")


def run(action: str, out: Path, minutes: float, say: Callable[[str], None]) -> list[Path]:
    """The files written; say is told how far it is. plot needs OUT/measure.json and takes OUT/board_*.json along."""
    if action not in ACTIONS:
        raise TrainerError(f"roofline: the action is one of {', '.join(ACTIONS)}, got {action!r}; name one of these")
    if action == "measure":
        return [measure.run(out, minutes, say)]
    if action == "chips":
        listed = chips.load()
        content = [{**asdict(chip), "ridges": {dtype: chip.ridge(dtype) for dtype in chip.peaks}} for chip in listed]
        return _write(
            out,
            {
                "chips.json": _json(content),
                "chips.png": pictures.chip_rooflines(listed),
                "chips.md": page.markdown([page.chip_table(listed)], None).encode(),
            },
        )
    if action == "models":
        return _write(out, _of_models(models.count_all(say)))
    stored, loaded = measure.load(out / "measure.json"), [board.load(file) for file in sorted(out.glob("board_*.json"))]
    return _write(out, _of_everything(models.count_all(say), stored, loaded))


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _write(out: Path, files: dict[str, bytes]) -> list[Path]:
    for name, content in files.items():
        write_atomic(out / name, content)
    return [out / name for name in files]


def _of_models(networks: dict[str, models.Network]) -> dict[str, bytes]:
    listed, found = chips.load(), list(networks.values())
    tables = [page.network_table(found), page.bound_table(listed, found)]
    return {
        "models.json": _json([network.to_json() for network in found]),
        "models.png": pictures.network_bars(found),
        "bound.png": pictures.bound_map(listed, found),
        "layers.png": pictures.layer_intensities(found, None),
        "models.md": page.markdown(tables, None).encode(),
    }


def _of_everything(
    networks: dict[str, models.Network], measurement: dict[str, Any], boards: list[board.BoardModel]
) -> dict[str, bytes]:
    """Every picture, the tables and the page, from a stored measurement."""
    listed, found, nano = chips.load(), list(networks.values()), chips.of("nRF52840")
    devices = sorted({key.split()[0] for key in measurement["points"]})
    here = [Measurement(device, measurement["points"]) for device in devices]
    roof = here[0].roof() if here else {}
    drawn = {
        "chips.png": pictures.chip_rooflines(listed),
        "models.png": pictures.network_bars(found),
        "networks_on_chips.png": pictures.networks_on_chips(listed, found, roof, boards),
        "bound.png": pictures.bound_map(listed, found),
        "layers.png": pictures.layer_intensities(found, roof["peak"] / roof["bandwidth"] if roof else None),
    }
    tables = [page.network_table(found)]
    for one in here:
        drawn |= _of_device(one, networks)
        tables += [
            page.machine_table(one),
            page.latency_table(one),
            page.achieved_table(one, networks),
            page.spearman_table(one, networks),
            page.training_table(one),
        ]
    if boards:
        drawn["board.png"] = measured.board_plot(nano, boards)
        tables += [page.board_table(nano, model) for model in boards]
    tables += [page.bound_table(listed, found), page.chip_table(listed)]
    whole = page.page(drawn, tables, measurement)
    return {**drawn, "tables.md": page.markdown(tables, measurement).encode(), "roofline.html": whole.encode()}


def _of_device(one: Measurement, networks: dict[str, models.Network]) -> dict[str, bytes]:
    """What has been measured so far; an unfinished measurement has fewer pictures."""
    drawn = {}
    if one.roof():
        drawn[f"{one.device}_roofline.png"] = measured.machine_roofline(one, networks)
    if one.batches():
        drawn[f"{one.device}_latency.png"] = measured.latency_plot(one, networks)
        drawn[f"{one.device}_throughput.png"] = measured.throughput_plot(one)
        drawn[f"{one.device}_spearman.png"] = measured.spearman_plot(one, networks)
    if one.training():
        drawn[f"{one.device}_training.png"] = measured.training_plot(one)
    return drawn
