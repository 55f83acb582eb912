"""docs/course.md: pictures are there, and every number given as ours stands on the page that its row names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
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
