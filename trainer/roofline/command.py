"""The command `roofline`; what it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converter.commands.cli import finite, output_folder


def roofline(
    action: Annotated[str, typer.Argument(help="chips, models, measure or plot")],
    out: Annotated[Path, typer.Option(help="the folder of the figures and pictures", callback=output_folder)] = Path(
        "build/roofline"
    ),
    minutes: Annotated[
        float,
        typer.Option(
            min=0.01, help="of measure, on each device; what would take too long is left out", callback=finite
        ),
    ] = 14,
) -> None:
    """Rooflines: chips by data sheet, networks counted, this machine measured (resumable), and the plots of all of it.

    The plots show the Nano 33 BLE's layers too where OUT has board_NAME.json, written by `python -m host profile ELF
    --layers --json`.
    """
    from trainer.roofline.actions import run

    for file in run(action, out, minutes, lambda line: typer.echo(line, err=True)):
        typer.echo(f"{file}")
