"""The command `study`; what it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converter.commands import cli


def study(
    name: Annotated[str, typer.Argument(help="bits, pruning, images, wakewords or course")],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="trained float runs that differ in their seed; for images: one image run; for wakewords none, or runs "
            "that were evaluated on the same negatives"
        ),
    ] = None,
    negative: Annotated[
        list[Path] | None,
        typer.Option(help="for wakewords: speech without the words, made by `negatives`, or recordings"),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="for course: a folder shaped like Speech Commands")] = None,
    images: Annotated[Path | None, typer.Option(help="for course: a folder with MNIST's idx files")] = None,
    out: Annotated[
        Path, typer.Option(help="the folder to make; finished points in it are kept", callback=cli.output_folder)
    ] = Path("build/study"),
) -> None:
    """Measure every way to quantize or prune these runs, or public wake words beside them, as tables in OUT/NAME.md;
    course: all figures of docs/course.md."""
    from trainer.errors import TrainerError

    if name == "course":
        _course(data, images, runs or [], negative or [], out)
        return
    if data or images:
        raise TrainerError(f"study {name}: takes no recordings; leave --data and --images out")
    from trainer.studies.compression import STUDIES
    from trainer.studies.compression import study as make
    from trainer.studies.images_tables import images_study
    from trainer.studies.wake_words import study as wake_words_study

    names = (*STUDIES, "images", "wakewords", "course")
    if name not in names:
        raise TrainerError(f"study: must be one of {', '.join(names)}, got {name}")
    if name == "wakewords" and not negative:
        raise TrainerError("study wakewords: needs --negative DIR, more than once if you like; see `trainer negatives`")
    if name != "wakewords" and negative:
        raise TrainerError(f"study {name}: plays no negatives; leave --negative out")
    if name != "wakewords" and not runs:
        raise TrainerError(f"study {name}: needs at least one run folder, got none; name runs behind `study {name}`")
    with cli.progress() as progress:
        if name == "wakewords":
            made = wake_words_study(runs or [], negative or [], out, progress)
        elif name == "images":
            made = images_study(runs or [], out, progress)
        else:
            made = make(name, runs or [], out, progress)
        typer.echo(f"{made}")


def _course(data: Path | None, images: Path | None, runs: list[Path], negative: list[Path], out: Path) -> None:
    from converter.files import alone
    from trainer.errors import TrainerError
    from trainer.studies.course import make_course

    if data is None or runs or len(negative) > 1:
        raise TrainerError(
            "study course: trains its runs on --data DIR, a folder shaped like Speech Commands, with at most one "
            "--negative DIR; name no runs"
        )
    given = {"out": out, "data": data, "images": images, "negatives": next(iter(negative), None)}
    with alone(out):
        make_course({name: path for name, path in given.items() if path is not None}, typer.echo)
