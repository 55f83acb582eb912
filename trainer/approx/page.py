"""One HTML page of all studies in a folder: their plots, and every record as a table; no script, nothing fetched."""

from __future__ import annotations

import html
from typing import Any

TITLES = {
    "precision": "Error against precision",
    "speed": "Convolutions against torch's own",
    "svd": "Low-rank factors",
    "digits": "Digits read through a low-rank layer",
    "log": "Logarithmic numbers",
    "board": "On the virtual board",
}
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75em;margin:auto;padding:0 1em;color:#222}img{max-width:100%}"
    "table{border-collapse:collapse;font-size:13px;margin:1em}td,th{padding:.1em "
    ".6em;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}summary{cursor:pointer;color:#05c}"
)


def render(studies: dict[str, dict[str, Any]]) -> str:
    """The page; each study's plot is the file STUDY.png beside it, its records are lists of flat dicts."""
    parts = [
        f"<h2>{TITLES[name]}</h2><img src='{name}.png' alt='{TITLES[name]}'>"
        + "".join(
            f"<details><summary>{html.escape(key)}: {len(rows)} records</summary>{_table(rows)}</details>"
            for key, rows in result.items()
            if isinstance(rows, list)
        )
        for name, result in studies.items()
    ]
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Approximate kernels</title><style>{STYLE}</style>"
        f"<h1>Approximate kernels: error, speed, and what the board makes of them</h1>{''.join(parts)}</html>\n"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    heads = list(rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(row[head])}</td>" for head in heads) + "</tr>" for row in rows)
    return (
        "<table><tr>"
        + "".join(f"<th>{html.escape(head.replace('_', ' '))}</th>" for head in heads)
        + f"</tr>{body}</table>"
    )


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
