"""The command `approx`; what it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converter.commands import cli


def approx(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(help="precision, speed, svd, digits, log, board or all")],
    out: Annotated[
        Path,
        typer.Option(help="the folder to write STUDY.json, STUDY.png and approx.html to", callback=cli.output_folder),
    ] = Path("build/approx"),
    data: Annotated[
        Path | None, typer.Option(help="svd, digits: a folder with MNIST's idx files (default: scikit-learn's)")
    ] = None,
    trained: Annotated[Path | None, typer.Option("--run", help="board: an exported run folder")] = None,
) -> None:
    """Study approximate kernels: error, speed against torch, low-rank factors, logarithmic numbers, and what the board
    makes of them."""
    from trainer.approx.studies import run

    with cli.progress() as progress:
        for file in run(study, out, data, trained, progress, ctx.obj):
            typer.echo(f"{file}")
