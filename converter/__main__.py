"""python -m converter convert | library | verify | size | inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from converter import convert as conversion
from converter import size as sizes
from converter.aot.model_header import has_per_channel_dense
from converter.commands import cli
from converter.errors import ConvertError
from converter.target import NRF52840
from converter.tflite.legacy_rounding import agrees_with_legacy_rounding
from converter.tflite.tflm_only import TflmOnly

app = cli.app("From a trained model to the files that the firmware is built from.")
console = Console()

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", help="a run folder, a .onnx with Q/DQ nodes, an int8 .tflite or microWakeWord's .json"
    ),
]


@app.command()
def convert(
    source: SourceArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the files; a run folder's own is RUN/firmware", callback=cli.output_folder),
    ] = None,
    tflite_int4: Annotated[
        bool, typer.Option("--tflite-int4", help="weights that fit 4 bits take half a byte in model.tflite")
    ] = False,
    ram_budget: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=NRF52840.ram_bytes,
            help="bytes of RAM for the compiled engine: code, arena, and constants, which load faster there than from "
            "flash; default: 65536, for constants that are used often",
        ),
    ] = None,
    words: Annotated[
        str | None, typer.Option(help="of another's model, so that it listens: its outputs behind silence and unknown")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="with --words, what it was trained on: micro20 (default), micro10 or a .json")
    ] = None,
    hop: Annotated[
        int | None, typer.Option(min=1, max=50, help="with --words: frames from one inference to the next (2)")
    ] = None,
) -> None:
    """Write model.tflite, model_data.c/.h, model_aot.c/.h, kws_model.h and frontend_tables.h; of a .tflite that the
    compiled engine refuses but TensorFlow Lite Micro runs, what that needs."""
    if words is None and (features is not None or hop is not None):
        raise ConvertError(f"{source}: --features and --hop are of a model that --words makes listen; name its words")
    loaded = conversion.load_any(source)
    if out is None and (isinstance(loaded, TflmOnly) or loaded.artifact is None):
        raise ConvertError(f"{source}: a single model needs --out DIR")
    folder = out or source / "firmware"
    if isinstance(loaded, TflmOnly):
        _convert_tflm_only(loaded, source, folder, tflite_int4 or ram_budget is not None or words is not None)
        return
    if words is not None:
        named = tuple(word.strip() for word in words.split(","))
        loaded = conversion.with_words(loaded, named, features or "micro20", hop)
    files = conversion.render(loaded, tflite_int4, ram_budget)
    compared = _compared(loaded)
    conversion.write_all(files, folder)
    typer.echo(compared)
    if has_per_channel_dense(loaded.graph):
        typer.echo(
            "note: a dense layer has several weight scales; use engine aot, Arduino's TFLM reads only the first",
            err=True,
        )
    elif not agrees_with_legacy_rounding(loaded.graph):
        typer.echo(
            "note: a sum of a dense layer exists that Arduino's older TFLM rounds otherwise than engine aot, by "
            "one step",
            err=True,
        )
    if loaded.original and loaded.original.note:
        typer.echo(f"note: {loaded.original.note}", err=True)
    typer.echo(f"{folder}: {len(files)} files, model_id {loaded.graph.model_id}, spec_id {loaded.spec_id}")


def _convert_tflm_only(model: TflmOnly, source: Path, out: Path, for_compiled: bool) -> None:
    from converter.verify import tflm_only

    if for_compiled:
        raise ConvertError(
            f"{source}: is for engine tflm only, because: {model.why}; leave out the compiled engine's options"
        )
    files, arena_bytes = tflm_only.files(model)
    conversion.write_all(files, out)
    typer.echo(f"tflm only, because: {model.why}")
    typer.echo(f"{out}: {len(files)} files, model_id {model.model_id}, arena {arena_bytes:,} bytes")


def _compared(loaded: conversion.Source) -> str:
    """What the short check of the file itself says; raises ConvertError where a value differs."""
    from converter.tflite.interpreters import Unavailable
    from converter.verify.original import short_check

    if loaded.original is None:
        return ""
    try:
        return short_check(loaded.graph, loaded.original)
    except Unavailable as missing:
        return f"{loaded.original.name} itself, in its own runtime: not available here ({missing})"


@app.command()
def library(
    source: SourceArgument,
    out: Annotated[
        Path,
        typer.Option(help="the .zip; the Arduino IDE adds it by Sketch > Include Library", callback=cli.output_file),
    ],
) -> None:
    """Write the model as an Arduino library, which is a plain C library (kws.h, CMake) and a Zephyr module too."""
    from converter.library import write_library

    files = write_library(conversion.load_any(source), out)
    name = next(iter(files)).partition("/")[0]
    typer.echo(f"{out}: library {name}, {len(files)} files; a sketch includes <{name}.h>")


@app.command()
def size(source: SourceArgument, json_file: cli.JsonOption = None) -> None:
    """Flash, RAM, parameters and operations per layer, and the share of the board's memory, for int8 and fp32."""
    loaded = conversion.load_any(source)
    if isinstance(loaded, TflmOnly):
        from converter.verify import tflm_only

        arena_bytes = tflm_only.files(loaded)[1]
        for line in tflm_only.size_lines(loaded, arena_bytes):
            typer.echo(line)
        cli.write_json(json_file, tflm_only.size_json(loaded, arena_bytes))
        return
    found = sizes.model_size(loaded.graph)
    for table in sizes.tables(found):
        console.print(table)
    cli.write_json(json_file, sizes.to_json(found))


@app.command()
def inspect(source: SourceArgument, json_file: cli.JsonOption = None) -> None:
    """Expected cycles, flash and RAM on the board, by layer and in all, before anything is built or run."""
    from converter.aot import estimate as estimates

    loaded = conversion.load_any(source)
    if isinstance(loaded, TflmOnly):
        from converter.verify import tflm_only

        arena_bytes = tflm_only.files(loaded)[1]
        for line in (f"tflm only, because: {loaded.why}", *tflm_only.size_lines(loaded, arena_bytes)):
            typer.echo(line)
        cli.write_json(json_file, {**tflm_only.size_json(loaded, arena_bytes), "engine": "tflm", "why": loaded.why})
        return
    found = estimates.estimate(loaded.graph, loaded.hop_frames)
    console.print(estimates.table(found, loaded.name))
    typer.echo(str(found))
    cli.write_json(json_file, estimates.to_json(found))


@app.command()
def verify(
    source: SourceArgument,
    inputs: Annotated[int, typer.Option(min=1, help="at most so many recorded inputs")] = 1000,
    audio: Annotated[Path | None, typer.Option(help="folder of recordings, besides those of RUN/vectors.npz")] = None,
    elf: Annotated[
        Path | None, typer.Option(help="image for the virtual board (default: built from the model)")
    ] = None,
    json_file: cli.JsonOption = None,
) -> None:
    """Run the equivalence checks; exit code 1 when any two engines differ."""
    from converter.verify import run as verification
    from converter.verify.checks import DIFFERENT
    from host.measure.board_checks import BOARD_ACCESS  # the one place where converter and host meet

    with console.status("") as status:
        checks = verification.run_checks(source, inputs, elf, audio, BOARD_ACCESS, status.update)
    for line in verification.lines(checks):
        console.print(line, highlight=False, soft_wrap=True)
    cli.write_json(json_file, verification.to_json(checks))
    if checks.differs:
        first = next(check for check in checks.checks if check.status == DIFFERENT)
        raise ConvertError(f"{first.claim}: {first.differences} of {first.checked} differ, first {first.detail}")


if __name__ == "__main__":
    app()
