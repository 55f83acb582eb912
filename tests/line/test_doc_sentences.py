"""Sentences of the documents say what the tables beside them say."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_sweep_s_scatter_is_that_of_its_points() -> None:
    points, text = (DOCS / "sweep_points.md").read_text(), (DOCS / "sweep.md").read_text()
    spreads = []
    for bits in (3, 2):
        found = [float(x) for x in re.findall(rf"tinyconv, PTQ {bits} bits, seed \d \| ([\d.]+)", points)]
        assert len(found) == 2
        spreads.append(f"{max(found) - min(found):.1f}")
    assert f"PTQ's seeds scatter by {spreads[0]} and {spreads[1]} points" in text
    low, high = re.search(r"2 bits, three seeds: ([\d.]+) to ([\d.]+)", text).groups()  # type: ignore[union-attr]
    row = next(line for line in (DOCS / "compression.md").read_text().splitlines() if line.startswith("| 2 |"))
    qat = [float(x) for x in re.findall(r"(?<!\*)\b\d\d\.\d\d\b(?!\*)", row.split("|")[4])]
    assert (min(qat), max(qat)) == (float(low), float(high))


def test_the_machine_was_as_busy_as_the_roofline_s_tables_say() -> None:
    tables, text = (DOCS / "roofline" / "tables.md").read_text(), (DOCS / "roofline.md").read_text()
    load = re.search(r"Load average when it began: ([\d.]+); OTHER PROGRAMS RAN", tables)
    assert (f"as its tables print (load average {load[1]})" if load else "had the machine to itself") in text
