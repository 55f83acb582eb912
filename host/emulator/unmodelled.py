"""What a program has used that nobody models: each register named once, neighbours together."""

from __future__ import annotations

from typing import ClassVar

from converter.checked import Choice, Items, Row, Rule, Text, Whole

_MOST_LINES = 200


class Unmodelled:
    """Collects sentences, in the order of their first use, and registers."""

    SAVED: ClassVar[dict[str, Rule]] = {
        "sentences": Items(Text()),
        "uses": Items(Row((Text(), Whole(), Text(), Choice(("read", "write"))))),
    }

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}
        self._registers: dict[tuple[str, int, str], set[str]] = {}  # owner, offset, remark -> read, write

    def __call__(self, what: str) -> None:
        """A sentence about what is left out."""
        self._sentences[what] = None

    def register(self, owner: str, offset: int, remark: str, how: str) -> None:
        """A register of `owner` (such as "SAADC+") was used; how: read or write, remark: what kind it is."""
        self._registers.setdefault((owner, offset, remark), set()).add(how)

    @property
    def sentences(self) -> list[str]:
        """In the order of their first use."""
        return list(self._sentences)

    @sentences.setter
    def sentences(self, found: list[str]) -> None:
        self._sentences = dict.fromkeys(found)

    @property
    def uses(self) -> list[tuple[str, int, str, str]]:
        """Owner, offset, remark and how, of every register."""
        return [(*key, how) for key, uses in self._registers.items() for how in sorted(uses)]

    @uses.setter
    def uses(self, found: list[tuple[str, int, str, str]]) -> None:
        for use in found:
            self.register(*use)

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
