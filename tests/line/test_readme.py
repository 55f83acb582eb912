"""The manual is held to the program: every command, option and make target that README and docs name exists."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import typer

import converter.__main__ as converter_cli
import host.__main__ as host_cli
import trainer.__main__ as trainer_cli
from converter.commands import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "reference" / "README.md", *(ROOT / "docs").glob("*.md")])
PROGRAMS = {"trainer": trainer_cli.app, "converter": converter_cli.app, "host": host_cli.app}
COMMAND = re.compile(r"python -m (trainer|converter|host) ([a-z]+)([^`#;|\n]*)")


def options_of(program: str, command: str) -> set[str]:
    group = typer.main.get_command(PROGRAMS[program])
    commands = getattr(group, "commands", {})
    assert command in commands, f"python -m {program} has no command {command}"
    return {name for parameter in commands[command].params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_manual_exist(page: Path) -> None:
    for program, command, rest in COMMAND.findall(page.read_text()):
        known = options_of(program, command)
        for option in re.findall(r"--[a-z][a-z0-9-]*", rest):
            assert option in known, f"{page.name}: python -m {program} {command} has no {option}"


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 6 * 1024


def test_pages_that_pages_link_to_exist() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_make_targets_of_the_manual_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^ +|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.M))
    assert named and named <= targets, named - targets


def test_no_option_takes_an_infinite_number_or_none() -> None:
    """Python reads inf and nan as numbers: every float option of the three programs refuses them as it is parsed."""
    seen = 0
    for program, app in PROGRAMS.items():
        for registered in app.registered_commands:
            assert registered.callback is not None
            for name, hint in get_type_hints(registered.callback, include_extras=True).items():
                kind, *rest = get_args(hint) if get_origin(hint) is Annotated else (hint,)
                if kind is float or float in get_args(kind):
                    assert any(getattr(one, "callback", None) is cli.finite for one in rest), (program, name)
                    seen += 1
    assert seen >= 9
    for value in (math.inf, -math.inf, math.nan):
        with pytest.raises(typer.BadParameter, match="must be a finite number, got"):
            cli.finite(value)
