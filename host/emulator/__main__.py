"""`python -m host.emulator ELF ...`: what `python -m host emulate` runs."""

from __future__ import annotations

import sys

import typer

from host.emulator.session.cli import emulate
from host.errors import HostError

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(emulate)
    try:
        app()
    except HostError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
