"""The command `distributed`; what it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converter.commands import cli


def distributed(
    data: Annotated[
        str,
        typer.Option(help="a folder shaped like Speech Commands, one with MNIST's idx files, `synthetic` or `digits`"),
    ],
    out: Annotated[
        Path, typer.Option(help="the study's folder; started again, it goes on there", callback=cli.output_folder)
    ],
    model: Annotated[str, typer.Option(help="tinyconv, dscnn, mnist_cnn or perceptron")] = "tinyconv",
    workers: Annotated[
        int, typer.Option(min=2, max=64, help="processes of this machine; under torchrun its own number counts")
    ] = 4,
    methods: Annotated[str, typer.Option(help="with commas between, if not all; see docs/distributed.md")] = "",
    partition: Annotated[
        str, typer.Option(help="iid, or speaker: a worker holds its own speakers; with local federated averaging")
    ] = "iid",
    words: Annotated[str, typer.Option(help="words to hear, with commas between")] = "yes,stop",
    steps: Annotated[int | None, typer.Option(min=1, help="steps of a training, if not the usual number")] = None,
) -> None:
    """Train data-parallel with compressed gradients: bytes, accuracy, and time by bandwidth, over three seeds."""
    from trainer.distributed.launch import Job
    from trainer.distributed.study import methods_of, plan_of, study, table

    chosen = tuple(word.strip() for word in words.split(",") if word.strip())
    place = data if data in ("synthetic", "speech_commands", "digits") else str(Path(data).resolve())
    job = Job(plan_of(model, chosen, partition, steps), place, methods_of(methods), out.resolve())
    with cli.progress() as progress:
        found = study(job, workers, progress)
    if found:
        typer.echo(table(found), nl=False)
        typer.echo("\n".join(str(out / name) for name in ("distributed.json", "accuracy.png", "time.png")))
