"""Cycles of a basic block on the Cortex-M4: the cost rules of DESIGN.md's "Cycle model", taken from the Cortex-M4 TRM,
table 3-1.

The decoder (thumb.py) says what kind each instruction is; here kinds become cycles. The model is static per block:
a load pairs only with a load of the same block, and instructions skipped by IT count as executed.
"""

from __future__ import annotations

from dataclasses import dataclass

from host.emulator.cycles.thumb import Instruction, Kind, decode

REFILL = 2  # cycles to refill the pipeline after a taken branch
FLASH_END = 0x10000000
FETCH_CYCLES = 3  # one flash word without the cache: two wait states

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
class BlockCost:
    """Cycles of one execution. `conditional`: the block's last branch may fall through and its refill is not in the
    sums."""

    instructions: int
    cached: int
    uncached: int
    low: int
    high: int
    conditional: bool
    taken_uncached: int  # what a taken conditional branch adds without the cache; REFILL with it

    @property
    def taken_cached(self) -> int:
        """What a taken conditional branch adds with the cache."""
        return REFILL if self.conditional else 0


def instruction_cost(instruction: Instruction, before: Instruction | None) -> tuple[int, int, int]:
    """(reported, low, high) cycles without the refill; `before` is the instruction in front in the same block."""
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


def block_cost(code: bytes, address: int, it_state: int = 0) -> BlockCost:
    """Cost of the block of Thumb instructions `code` at `address`. it_state: ITSTATE where it begins."""
    instructions = decode(code, address, it_state)
    cached = low = high = 0
    before: Instruction | None = None
    for instruction in instructions:
        cost = instruction_cost(instruction, before)
        cached, low, high = cached + cost[0], low + cost[1], high + cost[2]
        before = instruction
    conditional = False
    if before is not None and before.branches:
        conditional = before.conditional
        if not conditional:
            cached, low, high = cached + REFILL, low + 1, high + 3
    words = (address + len(code) + 3) // 4 - address // 4
    fetch = FETCH_CYCLES * words if address < FLASH_END else 0
    uncached = max(cached, fetch)
    taken = max(cached + REFILL, fetch) - uncached if conditional else 0
    return BlockCost(len(instructions), cached, uncached, low, high, conditional, taken)


def prefix_cost(code: bytes, address: int, pc: int) -> int:
    """Cached cycles from the start of the block up to the instruction at pc, which itself is not counted."""
    total = 0
    before: Instruction | None = None
    for instruction in decode(code, address):
        if instruction.address >= pc:
            break
        total += instruction_cost(instruction, before)[0]
        before = instruction
    return total
