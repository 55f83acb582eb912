"""Expected cycles of the virtual board against what others, or a person with a board, measured on real chips
(docs/chip.md): loops built here, and images named in a JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from converter.arrays import Json
from converter.checked import Fields, Items, Real, Text
from converter.commands import cli
from converter.files import scratch_folder
from host.emulator.board import VirtualBoard
from host.emulator.cycles.timing import EXPECTED, Timing
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import build_bare
from host.link.client import Board
from host.measure.profile import profile
from host.result_files import read_json

TURNS = 1000
BOARD_RUNS = 20
SECONDS = 60.0  # of board time, after which an image has no figure
FIX = 'a file of measurements holds {"rows": [{"name", "source", "measured_cycles", "image"}]}'
ROWS = Fields(
    {
        "rows": Items(
            Fields(
                {
                    **dict.fromkeys(("name", "source", "image"), Text()),
                    "measured_cycles": Real(1, 1e12),
                }
            ),
            1,
        )
    }
)
PROGRAM = """\
#include "startup.h"

volatile uint32_t done, cycles;
uint32_t room[2];

__asm__(".section .%(section)s.loop, \\"awx\\", %%progbits\\n"
        ".syntax unified\\n.thumb\\n.balign 16\\n.space %(offset)d\\n"
        ".type loop, %%function\\n.thumb_func\\nloop:\\n%(loop)s\\nbx lr\\n.text\\n");
void loop(uint32_t turns, uint32_t one, void *two, void *three);

static uint32_t timed(uint32_t turns) {
    void (*volatile at)(uint32_t, uint32_t, void *, void *) = (void (*)(uint32_t, uint32_t, void *, void *))%(call)s;
    const uint32_t from = *(volatile uint32_t *)0xE0001004;
    at(turns, 1, &room[0], &room[1]);
    return *(volatile uint32_t *)0xE0001004 - from;
}

int main(void) {
    *(volatile uint32_t *)0xE000EDFC |= 1u << 24;   // DEMCR.TRCENA
    *(volatile uint32_t *)0xE0001000 |= 1;          // DWT_CTRL.CYCCNTENA
    *(volatile uint32_t *)0x4001E540 = %(cache)d;   // NVMC ICACHECNF
    timed(10);
    const uint32_t few = timed(%(turns)d);
    cycles = timed(2 * %(turns)d) - few;
    for (done = 1;;) __asm__ volatile("wfi");
}
"""


@dataclass(frozen=True)
class Loop:
    """A loop whose cycles a turn were measured on a Cortex-M4; r0 counts the turns. offset: of its first instruction
    from a multiple of 16."""

    name: str
    source: str
    measured: float
    text: str
    place: str  # "flash", "alias", "ram"
    offset: int
    cache: bool


_PAUSE = "nop; subs r0, r0, #1; bne.n loop"
LOOPS = (
    Loop("subs, bne", "RIOT PR 17980, nRF52840-DK", 3.00, "subs r0, r0, #1; bne.n loop", "flash", 0, True),
    Loop(
        "str, str, subs, bne",
        "RIOT PR 17980, nRF52840-DK",
        5.00,
        "str r1, [r2]; str r1, [r3]; subs r0, r0, #1; bne.n loop",
        "flash",
        0,
        True,
    ),
    *(
        Loop(f"nop, subs, bne at 16 n + {offset}", "cortex-m issue 151, nRF52840", turn, _PAUSE, "flash", offset, False)
        for offset, turn in ((0, 4), (8, 5), (14, 6))
    ),
    Loop("subs, bne in RAM, code bus", "modm PR 642, STM32 M4", 3, "subs r0, r0, #1; bne.n loop", "alias", 0, False),
    Loop("subs, bne in RAM, system bus", "modm PR 642, STM32 M4", 4, "subs r0, r0, #1; bne.n loop", "ram", 0, False),
)


@dataclass(frozen=True)
class Compared:
    """Cycles of one measurement and of the model."""

    name: str
    source: str
    measured: float
    expected: float
    ideal: float

    @property
    def error(self) -> float:
        """Percent by which the expected figure lies above the measured one, or above 1 where this is less."""
        return 100 * (self.expected - self.measured) / max(self.measured, 1)


def calibrate(rows: Sequence[Path] = (), timing: Timing = EXPECTED) -> list[Compared]:
    """The loops, then the rows of each JSON file. Raises HostError where a file does not keep ROWS or an image gives no
    figure: it must have 32-bit objects `done` and `cycles`, and end by done = 1; BoardError where it faults."""
    found = []
    for loop in LOOPS:
        with scratch_folder() as folder:
            elf = _build(loop, folder)
            turn = (_cycles(elf, clock) / TURNS for clock in (timing, None))
            found.append(Compared(loop.name, loop.source, loop.measured, *turn))
    for file in rows:
        for row in read_json(file, FIX, ROWS)["rows"]:
            image = file.parent / row["image"]
            both = (float(_cycles(image, clock)) for clock in (timing, None))
            found.append(Compared(row["name"], row["source"], float(row["measured_cycles"]), *both))
    return found


def board_rows(port: str, image: Path) -> list[Compared]:
    """The stages of a board that runs this firmware, cache on and off, beside the same on the virtual board: fewest
    cycles of each; then hits and misses of the cache in an inference and its line of reply. Raises HostError when the
    board holds another model or engine."""
    with Board(port) as board:
        measured, counted = profile(board, BOARD_RUNS), [_cache_counts(board)]
    on_clocks = []
    for clock in ("expected", "ideal"):
        with launch(image, clock=clock) as address, Board(address) as board:
            on_clocks.append(profile(board, BOARD_RUNS))
            counted.append(_cache_counts(board))
    expected, ideal = on_clocks
    mine, its = ((one.identity.model_id, one.identity.engine) for one in (measured, expected))
    if mine != its:
        raise HostError(f"{port}: holds model {mine[0]} ({mine[1]}) and {image} {its[0]} ({its[1]}); flash this image")
    source = f"{measured.identity.board}{', a virtual one' if measured.modelled else ''}"
    found = []
    for suffix, kind in (("", "stages"), (", cache off", "uncached")):
        for stages in zip(*(getattr(one, kind) for one in (measured, expected, ideal)), strict=True):
            cycles = [stage.min_us * measured.identity.clock_hz / 1e6 for stage in stages]
            found.append(Compared(f"{stages[0].name}{suffix}", source, *map(round, cycles)))
    for what, counts in zip(("hits", "misses"), zip(*counted, strict=True), strict=True):
        found.append(Compared(f"cache {what}, inference", source, *counts))
    return found


def _cache_counts(board: Board) -> tuple[float, float]:
    """Hits and misses of one inference more; of what a board does besides both counts have their share."""
    found = []
    for count in (1, 1 + BOARD_RUNS):
        board.count_cache()
        board.infer(count)
        found.append(board.cache_counts())
    board.cache(True)
    one, more = found
    return (more.hits - one.hits) / BOARD_RUNS, (more.misses - one.misses) / BOARD_RUNS


def _build(loop: Loop, folder: Path) -> Path:
    section = "text" if loop.place == "flash" else "ramfunc"
    call = "((uint32_t)loop - 0x20000000u + NN_CODE_RAM)" if loop.place == "alias" else "loop"
    body = "\\n".join(f"{line.strip()}" for line in loop.text.split(";"))
    source = folder / "loop.c"
    filled = {"section": section, "offset": loop.offset, "loop": body, "call": call, "cache": int(loop.cache)}
    source.write_text(PROGRAM % {**filled, "turns": TURNS})
    return build_bare([source], folder / "loop.elf")


def _cycles(elf: Path, timing: Timing | None) -> int:
    board = VirtualBoard(elf, timing=timing)
    objects = board.image.objects
    if missing := [name for name in ("done", "cycles") if name not in objects]:
        raise HostError(f"{elf}: has no 32-bit object {' and no '.join(missing)}; the program leaves its figure there")
    if not board.run(SECONDS, lambda: board.read_word(objects["done"].address) == 1):
        raise HostError(f"{elf}: `done` was not 1 within {SECONDS:.0f} s of board time")
    return board.read_word(objects["cycles"].address)


def table(found: Sequence[Compared]) -> Table:
    """A line for each; fits in 80 columns."""
    made = cli.table("calibration", ("measured", "on", "cycles", "expected", "error", "ideal"), left=("measured", "on"))
    for one in found:
        numbers = [f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in (one.measured, one.expected)]
        ideal = f"{one.ideal:,.2f}" if one.ideal < 100 else f"{one.ideal:,.0f}"
        made.add_row(one.name, one.source, *numbers, f"{one.error:+.1f} %", ideal)
    errors = [abs(one.error) for one in found]
    made.caption = f"error: median {statistics.median(errors):.1f} %, worst {max(errors):.1f} % of {len(found)}"
    return made


def to_json(found: Sequence[Compared]) -> Json:
    """The rows and their errors."""
    fields = ("name", "source", "measured", "expected", "ideal", "error")
    return {"rows": [{field: getattr(one, field) for field in fields} for one in found]}
