"""`python -m host.emulator ELF ...`: what `python -m host emulate` runs; with --json-lines an error is a JSON line on
stderr."""

from __future__ import annotations

import json
import sys

import typer

from converter.commands.cli import OutputError
from host.emulator.session.cli import emulate
from host.errors import HostError

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(emulate)
    try:
        app()
    except (HostError, OutputError) as error:
        print(json.dumps({"error": str(error)}) if "--json-lines" in sys.argv else f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
