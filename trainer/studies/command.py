"""The command `study`; what it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converter.commands import cli


def study(
    name: Annotated[str, typer.Argument(help="bits, pruning or images")],
    runs: Annotated[
        list[Path], typer.Argument(help="trained float runs that differ in their seed; for images: one image run")
    ],
    out: Annotated[
        Path, typer.Option(help="the folder to make; finished points in it are kept", callback=cli.output_folder)
    ] = Path("build/study"),
) -> None:
    """Measure every way to quantize or prune these runs, on their test split, as tables in OUT/NAME.md."""
    from trainer.studies.compression import study as make
    from trainer.studies.images_tables import images_study

    with cli.progress() as progress:
        typer.echo(f"{images_study(runs, out, progress) if name == 'images' else make(name, runs, out, progress)}")
