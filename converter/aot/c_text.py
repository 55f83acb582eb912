"""How generated C is written: initialisers, names from elsewhere, lines of limited length."""

from __future__ import annotations

import re

import numpy as np

from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.low_bits.dense_lowbit_asm import DenseCode
from converter.aot.kernels.structs import (
    Channels,
    NnConcatenationLayer,
    NnLayer,
    NnOutput,
    Sums,
    Unpacked,
    Value,
    members,
)

LINE = 140


def initialiser(name: str, value: Value) -> str:
    """The C initialiser of a field; arrays stand in a table of that name."""
    match value:
        case np.ndarray() | Channels() | AsmCode() | DenseCode() | Sums():
            return name
        case Unpacked(offset=offset):
            return name if offset is None else f"(const {value.kind} *)AT({offset})"
        case NnOutput():
            return "{" + ", ".join(f".{key} = {item}" for key, item in members(value)) + "}"
        case tuple():
            return "{" + ", ".join(map(str, value)) + "}"
        case None:
            return "0"
        case _:
            return str(value)


def call_operands(layer: NnLayer, inputs: list[str], output: str, scratch: str) -> str:
    """What a kernel is given behind its struct: scratch goes to those of one input, an array of inputs to those of any
    number."""
    if isinstance(layer, NnConcatenationLayer):
        return f"(const int8_t *const[]){{{', '.join(inputs)}}}, {output}"
    return ", ".join([*inputs, output, *([scratch] if len(inputs) == 1 else [])])


def struct_fields(prefix: str, layer: NnLayer) -> str:
    """The designated initialisers of a layer's struct, whose tables are named `prefix`_FIELD."""
    return wrapped([f".{name} = {initialiser(f'{prefix}_{name}', value)}" for name, value in members(layer)], "    ")


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
    """The name with what may not stand in a C comment or string replaced by `?`."""
    return re.sub(r"[^\x20-\x5b\x5d-\x7e]", "?", name)


def string(name: str) -> str:
    """The name as a C string literal, without trigraphs."""
    return '"' + comment(name).replace('"', "'").replace("??", "?") + '"'
