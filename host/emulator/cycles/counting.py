"""What the two counters of cycles offer, the native one (counter.py, counter.c) and its twin in Python."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unicorn import arm_const as arm

from converter.checked import Rule, Whole
from host.emulator.cycles.accesses import Group
from host.emulator.cycles.cost import BlockCost
from host.emulator.cycles.preconditions import DIV_0_TRP, TRAPPED_ALIGNED, TRAPPED_DIVISION, UNALIGN_TRP, Precondition
from host.emulator.cycles.thumb import SP
from host.emulator.cycles.timing import CODE_RAM, Code, Timing, slave_of

_COUNT = Whole(0, 1 << 60)
STATE_RULES: dict[str, Rule] = {  # of the fields of counter_state that a snapshot holds
    **{name: _COUNT for name in ("active", "ideal", "instructions", "hits", "misses", "flash_words", "bus_cycles")},
    **{name: Whole(0, 0xFFFFFFFF) for name in ("charged", "access_pc", "line")},
    "last": Whole(0, 0xFFFFFFFF),  # and within the table, which the snapshot compares
    **{name: Whole(0, 1) for name in ("cache_on", "ideal_clock", "jumped")},
}
STOP_NONE, STOP_DEADLINE, STOP_MISS, STOP_MASK, STOP_SUSPECT, STOP_PRECONDITION, STOP_CHANGED = range(7)
CORE_REGISTERS = (*range(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R0 + 13), arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR)
MASK_REGISTERS = (arm.UC_ARM_REG_BASEPRI, arm.UC_ARM_REG_FAULTMASK, arm.UC_ARM_REG_PRIMASK)
# What a block may have to be looked at for: floating point; stores in IT blocks; whatever it is
ATTENTION_FLOATS, ATTENTION_FLASH, ATTENTION_ALWAYS = 1, 2, 4


@dataclass
class BlockRecord:
    """How often a block ran; `taken` counts its conditional branch taken."""

    address: int
    size: int
    cost: BlockCost
    executed: int = 0
    taken: int = 0


@dataclass(frozen=True)
class Known:
    """Of a block's loads and stores: words that are surely of flash; words that surely meet the fetches; the rest."""

    flash_words: int
    shared_words: int
    early: tuple[Group, ...]
    late: tuple[Group, ...]


def known_accesses(cost: BlockCost, address: int) -> Known:
    """What is known of the loads and stores of a block at `address` without a look at registers: those relative to PC
    are of the code's own memory, constant addresses say it themselves, and the stack is RAM. Where nothing tells, it is
    RAM, and for code at an alias another part of it."""
    accesses, code = cost.accesses, cost.code
    flash = accesses.literal_words if code is Code.FLASH else 0
    shared = 0 if code is Code.FLASH else accesses.literal_words
    if code is Code.SYSTEM:
        shared += accesses.unknown_words
    left: list[Group] = []
    for group in accesses.groups:
        on_stack = group.terms == ((SP, 1),) and code is not Code.ALIAS and group.beyond is None
        if group.beyond is not None or (group.terms and not on_stack):
            left.append(group)
        elif not on_stack and group.offset < CODE_RAM:
            flash += group.words
        elif code is Code.SYSTEM or (code is Code.ALIAS and slave_of(group.offset) == slave_of(address)):
            shared += group.words
    early, late = (tuple(group for group in left if group.late is when) for when in (False, True))
    return Known(flash, shared, early, late)


class Counter(ABC):
    """What both counters offer; `state` has the fields of counter.c's counter_state."""

    state: Any
    timing: Timing
    _uc: Any
    costs: dict[int, tuple[int, int, BlockCost]]  # index -> address, size, cost
    index_of: dict[tuple[int, int], int]  # and back
    name: str

    @abstractmethod
    def insert(self, address: int, size: int, cost: BlockCost, code: bytes) -> int:
        """Make a block known, before it first runs; its index. STOP_CHANGED (`miss_address` is the index) where it
        lies in RAM and its bytes are no longer `code`: Unicorn sees no store at RAM's other address, and no DMA."""

    @abstractmethod
    def replace(self, index: int, cost: BlockCost, code: bytes) -> None:
        """Other instructions now stand where this block did."""

    @abstractmethod
    def watch(self, index: int, preconditions: Sequence[Precondition], attention: int) -> None:
        """Stop with STOP_SUSPECT (`miss_address` is the index) where this block begins while a precondition is broken,
        or `state.attention` shares a bit with this one."""

    @abstractmethod
    def place(self, precondition: Precondition) -> None:
        """Stop with STOP_PRECONDITION in front of the instruction, at `miss_address`, when it is broken; call on_float
        for a floating point one.

        Not in IT blocks: there Unicorn does not stop.
        """

    @abstractmethod
    def recount(self, index: int, change: int) -> None:
        """Add to how often a block has run, and to every sum."""

    @abstractmethod
    def empty_cache(self) -> None:
        """No line is in the instruction cache."""

    @property
    @abstractmethod
    def lines(self) -> list[list[int]]:
        """The lines of flash in each set of the instruction cache, the one used last first."""

    @lines.setter
    @abstractmethod
    def lines(self, sets: list[list[int]]) -> None: ...

    @abstractmethod
    def set_counts(self, index: int, executed: int, taken: int) -> None:
        """How often a block has run, and its conditional branch was taken."""

    @abstractmethod
    def call_on_float(self, call: Callable[[int], None]) -> None:
        """Whom to call with the address of a placed floating point instruction that is about to run under
        ATTENTION_FLOATS."""

    @abstractmethod
    def settle(self, address: int) -> None:
        """End the block in execution; `address`, where control went, tells whether its conditional branch was taken."""

    @abstractmethod
    def hook_access(self, address: int) -> None:
        """Mark in `state` when the instruction at `address`, which touches a peripheral, is reached."""

    @abstractmethod
    def records(self) -> Iterator[BlockRecord]:
        """Every block seen so far."""

    @abstractmethod
    def map_events(
        self, address: int, size: int, flags: Any, read: Callable[..., int], write: Callable[..., None]
    ) -> None:
        """Map registers of which `flags` (see peripherals.Peripheral) says which are events and whether they are
        raised."""

    def current(self) -> tuple[int, int, BlockCost] | None:
        """Address, size and cost of the block in execution."""
        return self.costs.get(int(self.state.last) - 1)

    def is_broken(self, precondition: Precondition) -> bool:
        """Whether the instruction must not run now."""
        trap = {TRAPPED_ALIGNED: UNALIGN_TRP, TRAPPED_DIVISION: DIV_0_TRP}.get(precondition.kind)
        if trap is not None and not self.state.traps & trap:
            return False
        total: int = precondition.offset + sum(
            factor * self._uc.reg_read(CORE_REGISTERS[number]) for number, factor in precondition.terms
        )
        return total & 0xFFFFFFFF == 0 if precondition.kind == TRAPPED_DIVISION else total & precondition.mask != 0

    def _add(self, cost: BlockCost, change: int) -> None:
        state = self.state
        expected = cost.expected if state.cache_on else cost.uncached
        state.ideal += change * cost.ideal
        state.active += change * (cost.ideal if state.ideal_clock else expected)
        state.instructions += change * cost.instructions

    def set_masks(self, values: list[int]) -> None:
        """BASEPRI, FAULTMASK, PRIMASK as they are now: STOP_MASK when they differ."""
        for index, value in enumerate(values):
            self.state.masks[index] = value
