"""What a program has used that nobody models: each register named once, neighbours together."""

from __future__ import annotations

_MOST_LINES = 200


class Unmodelled:
    """Collects sentences, in the order of their first use, and registers."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}
        self._registers: dict[tuple[str, int, str], set[str]] = {}  # owner, offset, remark -> read, write

    def __call__(self, what: str) -> None:
        """A sentence about what is left out."""
        self._sentences[what] = None

    def register(self, owner: str, offset: int, remark: str, how: str) -> None:
        """A register of `owner` (such as "SAADC+") was used; how: read or write, remark: what kind it is."""
        self._registers.setdefault((owner, offset, remark), set()).add(how)

    def lines(self) -> list[str]:
        """One a sentence, then one a register or run of neighbours used alike, at most 200: the last says how many
        there are beyond.

        >>> found = Unmodelled()
        >>> for offset in (8, 0, 4):
        ...     found.register("SAADC+", offset, " task", "write")
        >>> found.register("SAADC+", 0, " task", "read")
        >>> found.lines()
        ['SAADC+0x000 task (read, write)', 'SAADC+0x004..0x008 (write)']
        """
        runs: list[tuple[str, int, int, str, str]] = []  # owner, first and last offset, remark, uses
        for (owner, offset, remark), uses in sorted(self._registers.items()):
            how = ", ".join(sorted(uses))
            if runs and runs[-1][0] == owner and runs[-1][2] == offset - 4 and runs[-1][4] == how:
                runs[-1] = (owner, runs[-1][1], offset, "", how)
            else:
                runs.append((owner, offset, offset, remark, how))
        found = [*self._sentences]
        for owner, first, last, remark, how in runs:
            found.append(f"{owner}{first:#05x}{f'..{last:#05x}' if last > first else ''}{remark} ({how})")
        beyond = len(found) - _MOST_LINES
        return [*found[:_MOST_LINES], f"and {beyond:,} more"] if beyond > 0 else found
