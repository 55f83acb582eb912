"""What the generators of Cortex-M4 assembly share: routines of a layer's shape, how they stand in the generated C,
common instructions.

A routine is void name(const ARGUMENTS *). Its lines are one instruction or directive each, in unified syntax as GCC 7
takes it. Where NN_CODE_RAM is set it lies in RAM (.data.nn_code.*), where a fetch waits for no flash; wherever it is
called it finds its labels by their distance; its name says its shape, so that layers of one shape share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

CORE = (*(f"r{i}" for i in range(13)), "lr")  # what a routine may use; r0-r3, r12 and s0-s15 need not be saved
IMMEDIATE = 4095  # of an offset and of ADDW


@runtime_checkable
class Code(Protocol):
    """What the field `code` of a layer is made of."""

    def render(self, prefix: str) -> str:
        """C text that ends with the macro `prefix`_code, the field's initialiser."""
        ...


@dataclass(frozen=True)
class Routine:
    """A function for one shape; `arguments` is the C type it is given a pointer to, without const."""

    name: str
    arguments: str
    lines: tuple[str, ...]
    fpu: bool = False  # whether it needs the FPU's registers

    def render(self) -> str:
        """C text that may stand in a file any number of times."""
        unit = (".fpu fpv4-sp-d16",) if self.fpu else ()
        head = (
            ".syntax unified",
            ".thumb",
            *unit,
            ".balign 4",
            f".type {self.name}, %function",
            ".thumb_func",
            f"{self.name}:",
        )
        lines = [
            f"#ifndef {self.name}_once",
            f"#define {self.name}_once",
            f"void {self.name}(const {self.arguments} *args);",
            f'__asm__(NN_CODE_SECTION("{self.name}")',
        ]
        lines += [f'    "{line}\\n"' for line in (*head, *self.lines, f".size {self.name}, .-{self.name}", ".text")]
        return "\n".join([*lines, ");", "#endif"]) + "\n"


@dataclass(frozen=True)
class AsmCode:
    """The field `code` of a layer: a table of C type `table` of these routines, or a null pointer on CPUs that have not
    what they need."""

    table: str
    routines: tuple[Routine, ...]

    def render(self, prefix: str) -> str:
        """C text: the routines, and the table of their addresses named after prefix."""
        needed = "NN_HAS_FPU" if any(routine.fpu for routine in self.routines) else "NN_HAS_DSP"
        entries = ", ".join(f"NN_CODE({routine.name})" for routine in self.routines)
        table = (
            f"static const {self.table} {prefix}_routines = {{{{{entries}}}}};\n#define {prefix}_code "
            f"&{prefix}_routines\n"
        )
        routines = "".join(routine.render() for routine in self.routines)
        return f'#include "nn_simd.h"\n#if {needed}\n{routines}{table}#else\n#define {prefix}_code 0\n#endif\n'


def note(text: str) -> str:
    """A comment for the assembler, on a line of its own; not inside of code whose length is counted."""
    return f"@ {text}"


def add(register: str, value: int, source: str = "") -> list[str]:
    """register = source (or register) + value, any value that two instructions reach."""
    name, size, source = ("sub" if value < 0 else "add"), abs(value), source or register
    if size <= IMMEDIATE:
        return [f"{name}w {register}, {source}, #{size}"]
    low = [f"{name}w {register}, {register}, #{size & 0xFFF}"] if size & 0xFFF else []
    return [f"{name}.w {register}, {source}, #{size & ~0xFFF}", *low]


def enter(frame: int, saved_floats: bool = False) -> list[str]:
    """Save what is the caller's and make room for `frame` bytes."""
    return [
        "push {r4-r11, lr}",
        *(["vpush {s16-s31}"] if saved_floats else []),
        *([f"sub sp, sp, #{frame}"] if frame else []),
    ]


def leave(frame: int, saved_floats: bool = False) -> list[str]:
    """The way out of a routine that enter() began."""
    return [
        *([f"add sp, sp, #{frame}"] if frame else []),
        *(["vpop {s16-s31}"] if saved_floats else []),
        "pop {r4-r11, pc}",
    ]


def loads(items: Iterable[tuple[str, str]]) -> list[str]:
    """(register, address) one after the other: all but the first cost one cycle."""
    return [f"ldr.w {register}, [{address}]" for register, address in items]
