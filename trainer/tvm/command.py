"""The command `tvm`: says in a sentence when TVM is not installed, before anything imports it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from converter.commands.cli import output_file, output_folder
from trainer.errors import TrainerError

PACKAGES = {"tvm": "apache-tvm", "xgboost": "xgboost-cpu"}


def _output(out: Path) -> Path | None:
    return output_file(out) if out.suffix else output_folder(out)


def tvm(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(help="conv1d, gemm, conv2d or depthwise; firmware: a run's engine tvm; table: everything")
    ],
    run: Annotated[Path, typer.Argument(help="the run that firmware compiles")] = Path("reference"),
    target: Annotated[str, typer.Option(help="cpu, cuda or cortex-m4 (int8 on the virtual board)")] = "cpu",
    method: Annotated[str, typer.Option(help="original, manual or auto")] = "manual",
    size: Annotated[str, typer.Option(help="sizes with commas between, if not the usual ones")] = "",
    trials: Annotated[int, typer.Option(help="candidates that auto measures, at most 128")] = 128,
    replay: Annotated[bool, typer.Option(help="take auto's schedule from the log where it is in there")] = True,
    generator: Annotated[str, typer.Option(help="of firmware: llvm or c")] = "llvm",
    out: Annotated[
        Path, typer.Option(help="for IR, sources and firmware; of table: the file", callback=_output)
    ] = Path("build/tvm"),
) -> None:
    """Schedules compiled by Apache TVM: by hand or searched, for this CPU, a GPU, the Cortex-M4; each beside torch,
    numpy or our engine."""
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise TrainerError(
            f"tvm: needs the optional packages of the extra tvm, got no {' and no '.join(missing)}; pip install "
            f"-e '.[tvm]'"
        )
    from trainer.tvm import studies

    if what == "firmware":
        from trainer.tvm.cortex_firmware import write_firmware

        studies.one_of("method", method, ("original", "manual"))
        write_firmware(run, out, None if method == "manual" else 0, generator)
        typer.echo(f"{out / 'firmware'}: build it with `python -m host build {out}`")
    elif what == "table":
        typer.echo(f"{studies.write_table(out if out.suffix else out / 'table.md', ctx.obj())}")
    else:
        for line in studies.study(what, target, method, size, trials, replay, out, ctx.obj):
            typer.echo(line)
