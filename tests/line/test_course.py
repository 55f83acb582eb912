"""docs/course.md: pictures are there, and every number given as ours stands on the page that its row names; its
commands can be typed, and `study course` runs them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import converter.__main__ as converter_cli
import host.__main__ as host_cli
import trainer.__main__ as trainer_cli
from trainer.errors import TrainerError
from trainer.studies import course

PROGRAMS = {"trainer": trainer_cli.app, "converter": converter_cli.app, "host": host_cli.app}
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COURSE = DOCS / "course.md"
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)]+)\)")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
ROWS = [line for line in COURSE.read_text().splitlines() if re.match(r"\|(?! what |---)", line)]


def test_every_assignment_has_rows() -> None:
    titles = re.findall(r"^## ([A-E])\.", COURSE.read_text(), re.M)
    assert titles == list("ABCDE") and len(ROWS) > 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "_", row[2:50]))
def test_a_rows_pictures_exist_and_its_numbers_stand_on_its_pages(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 5 and (cells[1].startswith("`python -m ") or cells[1] == "the same"), row
    links = LINK.findall(cells[2] + cells[4])
    for _, target in links:
        assert (DOCS / target).is_file(), target
    pages = " ".join((DOCS / target).read_text() for picture, target in links if not picture)
    said = re.sub(r"F\(\dx\d\)|int\d|e\dm\d|ResNet18", "", LINK.sub("", cells[4]))
    there = set(NUMBER.findall(pages))
    for number in NUMBER.findall(said):
        assert number.rstrip(",") in there, f"{number} is not on the pages of: {row}"


@cache
def commands(program: str) -> dict[str, Any]:
    return getattr(typer.main.get_command(PROGRAMS[program]), "commands", {})


def parsed(words: Sequence[str]) -> tuple[str, ...]:
    """(program, command, its first word where it is a study's or an action's), after its own parser took all of it."""
    program, name, *rest = words
    command = commands(program)[name]
    found = command.make_context(name, list(rest)).params
    return program, name, *(rest[:1] if {"name", "action", "study", "what"} & found.keys() else ())


def test_every_command_of_the_page_parses_and_has_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {name: tmp_path / name for name in ("out", "data", "images", "negatives")}
    made = {parsed(row.arguments(folders)) for row in course.ROWS}
    said = re.findall(r"`python -m ([^`]+)`", "\n".join(row.split("|")[2] for row in ROWS))
    assert len(said) > 30
    lacking = {parsed(shlex.split(command)) for command in said} - made
    assert not lacking
    with pytest.raises(Exception, match="No such option"):
        parsed(["trainer", "prune", "RUN", "--out", "OUT", "--kind", "structured", "--amount", "0.5", "--rewound", "2"])


def test_every_picture_of_the_page_comes_from_a_row() -> None:
    shown = {target for row in ROWS for picture, target in LINK.findall(row.split("|")[3]) if picture}
    made = [file for row in course.ROWS for file in row.makes]
    assert len(shown) > 15 and shown <= set(made), shown - set(made)
    assert len({row.name for row in course.ROWS}) == len(course.ROWS) and all(row.minutes > 0 for row in course.ROWS)


def test_a_row_that_fails_does_not_stop_the_others_and_is_made_again(tmp_path: Path) -> None:
    """Real processes: two that work, one whose file is not there yet, one that does not make what it says, one whose
    folder is not given."""
    out, said = tmp_path / "out", list[str]()
    (tmp_path / "data").write_text("[1]")
    rows = (
        course.Row("copy", "json.tool {data} {out}/copy.json", ("copy.json",), 0.1),
        course.Row("broken", "json.tool {out}/late.json", (), 0.1),
        course.Row("nothing", "json.tool {data}", ("nothing.json",), 0.1),
        course.Row("digits", "json.tool {images}", (), 0.1),
        course.Row("last one", "json.tool --json-lines {data}", ("logs/last_one.txt",), 0.2),
    )
    folders = {"out": out, "data": tmp_path / "data"}
    out.mkdir()
    with pytest.raises(TrainerError, match=r"2 of 5 rows failed \(broken, nothing\)"):
        course.make_course(folders, said.append, rows)
    assert [line for line in said if line.startswith("[") and line != "["][:6] == [
        f"[1 of 5] copy: 0.1 minutes stated: python -m json.tool {tmp_path / 'data'} {out / 'copy.json'}",
        f"[2 of 5] broken: 0.1 minutes stated: python -m json.tool {out / 'late.json'}",
        "[2 of 5] broken: FAILED, exit code 2",
        f"[3 of 5] nothing: 0.1 minutes stated: python -m json.tool {tmp_path / 'data'}",
        "[3 of 5] nothing: FAILED, it did not make nothing.json",
        "[4 of 5] digits: left out, it needs --images DIR",
    ]
    assert json.loads((out / "logs" / "last_one.txt").read_text()) == [1]
    first = (out / "copy.json").stat().st_mtime_ns

    (out / "late.json").write_text("2")
    said.clear()
    with pytest.raises(TrainerError, match=r"1 of 5 rows failed \(nothing\)"):
        course.make_course(folders, said.append, rows)
    assert [line[9:18] for line in said if "finished before" in line] == ["copy: fin", "last one:"]
    assert (out / "copy.json").stat().st_mtime_ns == first
    (out / "copy.json").unlink()
    said.clear()
    course.make_course(folders, said.append, rows[:2])
    assert "minutes when last measured here" in said[0] and (out / "copy.json").is_file()


def test_the_study_says_what_it_needs() -> None:
    for arguments, told in (
        (["study", "course"], "study course: trains its runs on --data DIR"),
        (["study", "bits", "RUN", "--data", "DIR"], "study bits: takes no recordings; leave --data and --images out"),
    ):
        done = CliRunner().invoke(trainer_cli.app, arguments)
        assert done.exit_code == 1 and told in done.output


def test_make_course_names_the_study() -> None:
    """make prints what it would run; without recordings it says so."""
    done = subprocess.run(
        ["make", "-n", "course", "DATA=some/words", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'trainer study course --data "some/words" --out "build/course"' in done.stdout
    refused = subprocess.run(["make", "-n", "course"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "say where recordings are: make course DATA=DIR" in refused.stderr
