"""The C compiler of this machine, for everything that is compiled at first use."""

from __future__ import annotations

import os
import shlex
import shutil


def find_compiler() -> list[str] | None:
    """The words of the command that compiles C: $CC (`ccache gcc` too), cc, gcc or clang, the first that is
    installed; None where there is none."""
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        try:
            words = shlex.split(command)
        except ValueError:  # an open quote
            continue
        program = shutil.which(words[0]) if words else None
        if program is not None:
            return [program, *words[1:]]
    return None
