"""Documents with one place made hostile: what a reader of JSON must refuse in a sentence, or take as text."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

SCRIPT = "</td><script>alert(1)</script>"
HOSTILE: tuple[Any, ...] = (
    SCRIPT,
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    [],
    {},
    [[SCRIPT]],
    {SCRIPT: SCRIPT},
    "\ud800",
    "../../x",
)


def changed(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(where, document) for every place of a document: each hostile value put there, or the place left out."""
    parts = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, part in parts:
        for hostile in HOSTILE:
            other = copy.copy(value)
            other[key] = hostile
            yield f"{(*path, key)} {hostile!r}", other
        for renamed in (SCRIPT, None) if isinstance(value, dict) else ():
            other = {k: v for k, v in value.items() if k != key}
            yield f"{(*path, key)} as {renamed}", {**other, renamed: part} if renamed else other
        for where, inner in changed(part, (*path, key)):
            other = copy.copy(value)
            other[key] = inner
            yield where, other
