"""Keys pressed at a terminal, as a plain function."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator

Keys = Callable[[], str | None]


@contextlib.contextmanager
def keyboard() -> Iterator[Keys]:
    """A function that returns the next key that was pressed, None when none was, `q` where the input has ended."""
    if sys.platform == "win32":
        import msvcrt

        def typed() -> str | None:
            key = msvcrt.getwch() if msvcrt.kbhit() else None
            if key in ("\x00", "\xe0"):  # an arrow or a function key: its letter is none
                msvcrt.getwch()
                return None
            return key.replace("\r", "\n") if key else None

        yield typed
        return
    import termios
    import tty

    stdin = sys.stdin.fileno()

    def pressed() -> str | None:
        if not select.select([stdin], [], [], 0)[0]:
            return None
        key = os.read(stdin, 1).decode(errors="replace") or "q"
        if key != "\x1b":
            return key
        while select.select([stdin], [], [], 0.01)[0]:  # an arrow or a function key: its letters are none
            if not os.read(stdin, 32):
                return "q"
        return None

    if not os.isatty(stdin):
        yield pressed
        return
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        yield pressed
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
