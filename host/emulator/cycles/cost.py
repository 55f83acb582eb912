"""Cycles of a basic block on the nRF52840's Cortex-M4: ideal ones by the Cortex-M4 TRM, table 3-1, with memory that
answers at once; expected ones by what the chip adds (timing.py); bounds.

The decoder (thumb.py) says what kind each instruction is; here kinds become cycles. The model is static per block:
a load pairs only with a load of the same block, and instructions skipped by IT count as executed. What depends on the
run, the counters add: cache misses and where loads and stores go.
"""

from __future__ import annotations

from dataclasses import dataclass

from host.emulator.cycles.accesses import Accesses, accesses_of
from host.emulator.cycles.thumb import WIDE, Instruction, Kind, decode
from host.emulator.cycles.timing import EXPECTED, WORST, Code, Timing, code_at, run

REFILL = 2  # ideal cycles to refill the pipeline after a taken branch

_FIXED = {
    Kind.ALU: 1,
    Kind.DIVIDE: 6,
    Kind.FMA: 3,
    Kind.FDIV: 14,
    Kind.SPECIAL: 2,
    Kind.TABLE_BRANCH: 2,
    Kind.BRANCH: 1,
    Kind.BARRIER: 1,
    Kind.LOAD_FLOAT: 2,
    Kind.STORE_FLOAT: 2,
}


@dataclass(frozen=True)
class Taken:
    """What a taken conditional branch at the end of a block adds; 0 for other blocks."""

    ideal: int
    expected: int
    uncached: int
    high: int


@dataclass(frozen=True)
class BlockCost:
    """Cycles of one execution that falls through; a branch that is always taken is within.

    expected: code fetched without waiting, loads answered at once; uncached: the instruction cache off. bus: what is
    added when all loads and stores meet the fetches; lines are of flash, by number: the first and last of the code, and
    the last that is fetched without the cache.
    """

    instructions: int
    ideal: int
    expected: int
    uncached: int
    low: int
    high: int
    conditional: bool  # the last branch may fall through
    jumps: bool  # it never does
    taken: Taken
    code: Code
    bus: int
    accesses: Accesses
    first_line: int
    last_line: int
    end_line: int
    wide_entry: int  # what is added where a branch leads here


def instruction_cost(instruction: Instruction, before: Instruction | None) -> tuple[int, int, int]:
    """(ideal, low, high) cycles without the refill; `before` is the instruction in front in the same block."""
    kind = instruction.kind
    after_load = before is not None and before.kind is Kind.LOAD
    if kind is Kind.LOAD:
        free = after_load and before is not None and not (before.writes & instruction.address_registers)
        return (1 if free else 2), 1, 2
    if kind is Kind.STORE:
        if not instruction.register_offset:
            return 1, 1, 1
        return (1 if after_load else 2), 1, 2
    if kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE):
        cycles = 1 + instruction.count
        return cycles, cycles, cycles
    cycles = _FIXED[kind]
    return cycles, (1 if kind is Kind.LOAD_FLOAT else cycles), cycles


def block_cost(code: bytes, address: int, it_state: int = 0, timing: Timing = EXPECTED) -> BlockCost:
    """Cost of the block of Thumb instructions `code` at `address`. it_state: ITSTATE where it begins."""
    instructions = decode(code, address, it_state)
    if not instructions:  # the first half of an instruction that a page cuts in two
        return _NOTHING
    before = [None, *instructions[:-1]]
    ideal, low, high = zip(*map(instruction_cost, instructions, before), strict=True)
    place, last = code_at(address), instructions[-1]
    accesses = accesses_of(code, address, it_state)
    alone = run(instructions, ideal, timing, shared=False, lines=False)
    shared = run(instructions, ideal, timing, shared=True, lines=False) if place is not Code.FLASH else alone
    lines = run(instructions, ideal, timing, shared=False, lines=True) if place is Code.FLASH else alone
    worst = run(instructions, high, WORST, shared=place is not Code.FLASH, lines=place is Code.FLASH)
    taken = _taken(last, place, timing, lines.busy) if last.branches else _NO_BRANCH
    jumps = last.branches and not last.conditional
    always = taken if jumps else _NO_BRANCH
    halfword = int.from_bytes(code[:2], "little")
    return BlockCost(
        len(instructions),
        sum(ideal) + always.ideal,
        alone.cycles + always.expected,
        lines.cycles + always.uncached,
        sum(low) + (1 if jumps else 0),
        worst.cycles + always.high,
        last.branches and last.conditional,
        jumps,
        _NO_BRANCH if jumps else taken,
        place,
        shared.cycles - alone.cycles,
        accesses,
        address // timing.line_bytes,
        (address + len(code) - 1) // timing.line_bytes,
        lines.end_line,
        timing.wide_target if halfword >= WIDE and address & 2 else 0,
    )


_NO_BRANCH = Taken(0, 0, 0, 0)
_NOTHING = BlockCost(
    *(0, 0, 0, 0, 0, 0, False, False), _NO_BRANCH, Code.SYSTEM, 0, Accesses(0, 0, 0, ()), *(0, 0, 0, 0)
)


def _taken(last: Instruction, place: Code, timing: Timing, busy: int) -> Taken:
    bus = timing.system_bus if place is Code.SYSTEM else 0
    expected = (timing.direct if last.direct else timing.indirect) + bus
    late = WORST.system_bus if place is Code.SYSTEM else WORST.miss if place is Code.FLASH else 0
    return Taken(REFILL, expected, expected + busy, WORST.direct + WORST.wide_target + late)


def prefix_cost(code: bytes, address: int, pc: int) -> int:
    """Ideal cycles from the start of the block up to the instruction at pc, which itself is not counted."""
    total = 0
    before: Instruction | None = None
    for instruction in decode(code, address):
        if instruction.address >= pc:
            break
        total += instruction_cost(instruction, before)[0]
        before = instruction
    return total
