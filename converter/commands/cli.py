"""What the three command lines share: one sentence for an error, output paths tried before the work, JSON, progress."""

from __future__ import annotations

import errno
import io
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperGroup

from converter.errors import ConvertError, printable
from converter.files import BusyError, WriteError, write_atomic
from converter.run_folder import ArtifactError
from converter.spec import SpecError

# What a full, slow or forbidden place answers; other OSErrors are bugs and keep their traceback.
_OF_THE_PLACE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", -1)),
    *(errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE),
}


class OutputError(ValueError):
    """A path that cannot be written."""


def app(
    about: str | None, *errors: type[Exception], interrupted: str = "interrupted", obj: object = None
) -> typer.Typer:
    """A command line whose commands end with `error: SENTENCE` and exit code 1 for these errors and the converter's,
    with `interrupted` and 130 when stopped; bugs keep their traceback. obj is what ctx.obj of every command is."""

    caught: tuple[type[Exception], ...] = (ConvertError, ArtifactError, SpecError, OutputError, BusyError, *errors)

    class Commands(TyperGroup):
        def invoke(self, ctx: Any) -> Any:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="replace")  # a word that the terminal has no letters for is no error
            try:
                found = super().invoke(ctx)
                sys.stdout.flush()  # here a full disk is one sentence
                return found
            except caught as error:
                typer.echo(f"error: {printable(str(error))}", err=True)
                raise typer.Exit(1) from None
            except OSError as error:
                if not isinstance(error, WriteError) and error.errno not in _OF_THE_PLACE:
                    raise
                typer.echo(f"error: {printable(_told(error))}", err=True)
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                typer.echo(interrupted, err=True)
                raise typer.Exit(130) from None

    return typer.Typer(
        cls=Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"obj": obj},
        help=about,
    )


def _told(error: OSError) -> str:
    if isinstance(error, WriteError):
        return str(error)
    return f"{error.filename or 'output'}: {error.strerror}; free some space or mend its rights, then run again"


def finite(value: float | None) -> float | None:
    """The number again; a usage error for one that is infinite or none, which Python reads from inf and nan."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"must be a finite number, got {value}")
    return value


def output_folder(path: Path | None) -> Path | None:
    """The path again; OutputError when no folder can be made there."""
    if path is not None:
        _try(path, path.absolute())
    return path


def output_file(path: Path | None) -> Path | None:
    """The path again; OutputError when no file can be written there."""
    if path is not None:
        if path.is_dir():
            raise OutputError(f"{path}: cannot be written (it is a folder); name a file")
        _try(path, path.absolute().parent)
    return path


def _try(path: Path, folder: Path) -> None:
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another place") from None


JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="write the result here too", callback=output_file)
]


def write_json(file: Path | None, result: dict[str, Any]) -> None:
    """The result as a file, keys in order; nothing without one."""
    if file is not None:
        try:
            write_atomic(file, (json.dumps(result, indent=1, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise OutputError(f"{file}: cannot be written ({error.strerror}); name another place") from None


def table(title: str, columns: Sequence[str], left: Sequence[str] = (), padding: int = 1) -> Table:
    """An empty table for a terminal of 80 columns; columns named in `left` are text, the others stand right."""
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False)
    made.padding = (0, padding, 0, 0)
    for column in columns:
        made.add_column(
            column, justify="left" if column in left else "right", no_wrap=column not in left, overflow="fold"
        )
    return made


def progress() -> Progress:
    """Bars on stderr, for a `with`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
