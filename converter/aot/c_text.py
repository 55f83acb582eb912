"""How generated C is written: initialisers, names from elsewhere, lines of limited length."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from converter.aot.kernels.asm import Code
from converter.aot.kernels.conv_packed import Sums
from converter.aot.lower import Channels, Unpacked, Value

LINE = 140


def initialiser(name: str, value: Value) -> str:
    """The C initialiser of a field; arrays stand in a table of that name."""
    if isinstance(value, (np.ndarray, Channels, Code, Sums)):
        return name
    if isinstance(value, Unpacked):
        return name if value.offset is None else f"(const {value.kind} *)AT({value.offset})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f".{key} = {item}" for key, item in value.items()) + "}"
    return "{" + ", ".join(map(str, value)) + "}" if isinstance(value, tuple) else str(value)


def wrapped(items: list[str], indent: str = "") -> str:
    """Items with commas between them, as many a line as LINE columns hold."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 1 > LINE and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += item + "," + (" " if indent else "")
    return "\n".join([*lines, line.rstrip()])


def comment(name: str) -> str:
    return re.sub(r"[^\x20-\x5b\x5d-\x7e]", "?", name)


def string(name: str) -> str:
    return '"' + comment(name).replace('"', "'").replace("??", "?") + '"'
