"""A study on the HTML page: its plot, and every record as a table."""

from __future__ import annotations

from typing import Any

from converter.commands.html import Part, Picture, Section, Table

TITLES = {
    "precision": "Error against precision",
    "speed": "Convolutions against torch's own",
    "svd": "Low-rank factors",
    "digits": "Digits read through a low-rank layer",
    "log": "Logarithmic numbers",
    "board": "On the virtual board",
}


def section(study: str, result: dict[str, Any]) -> Section:
    """What the page shows of a study: its plot, the file STUDY.png beside the page, and its lists of flat dicts."""
    parts: list[Part] = [Picture(TITLES[study], f"{study}.png")]
    return Section(TITLES[study], [*parts, *(_table(k, v) for k, v in result.items() if isinstance(v, list))])


def _table(key: str, rows: list[dict[str, Any]]) -> Table:
    heads = [head.replace("_", " ") for head in rows[0]]
    cells = [[f"{v:.4g}" if isinstance(v := row[head], float) else str(v) for head in rows[0]] for row in rows]
    return Table(heads, cells, summary=f"{key}: {len(rows)} records")
