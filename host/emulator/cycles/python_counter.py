"""The twin of counter.c, for machines without a C compiler."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from unicorn import unicorn_const as uc_const

from converter.target import NRF52840
from host.emulator.cycles import counting
from host.emulator.cycles.accesses import Group
from host.emulator.cycles.cost import BlockCost
from host.emulator.cycles.counting import BlockRecord, Counter, Known, known_accesses
from host.emulator.cycles.preconditions import FLOATING_POINT, Precondition
from host.emulator.cycles.timing import CODE_RAM, Code, Timing, slave_of

RAM_START, RAM_BYTES = NRF52840.ram_start, NRF52840.ram_bytes


class _PythonState:
    def __init__(self) -> None:
        self.active = self.deadline = self.ideal = self.instructions = self.last = self.access_pc = self.charged = 0
        self.hits = self.misses = self.flash_words = self.bus_cycles = self.jumped = self.line = 0
        self.ideal_clock = self.ram = 0
        self.cache_on = self.poll_masks = self.stop_reason = self.miss_address = self.miss_size = self.traps = 0
        self.attention, self.stepping = counting.ATTENTION_ALWAYS, 0
        self.masks = [0, 0, 0]


class PythonCounter(Counter):
    """Counts in Unicorn's hooks written in Python."""

    name = "python"

    def __init__(self, uc: Any, timing: Timing) -> None:
        self._uc, self.costs, self.index_of, self.state, self.timing = uc, {}, {}, _PythonState(), timing
        self._records: list[BlockRecord] = []
        self._known: list[Known] = []
        self._bytes: list[bytes] = []
        self._sets: list[list[int]] = []
        self.empty_cache()
        self._watched: dict[int, tuple[Sequence[Precondition], int]] = {}
        self._on_float: Callable[[int], None] = lambda address: None
        uc.hook_add(uc_const.UC_HOOK_BLOCK, self._block)

    def _stop(self, reason: int) -> None:
        self.state.stop_reason = reason
        self._uc.emu_stop()

    def _block(self, uc: Any, address: int, size: int, user: Any) -> None:
        state = self.state
        if state.stop_reason:
            uc.emu_stop()
            return
        self.settle(address)
        if state.active >= state.deadline:
            self._stop(counting.STOP_DEADLINE)
            return
        if state.poll_masks and any(
            uc.reg_read(register) != mask for register, mask in zip(counting.MASK_REGISTERS, state.masks, strict=True)
        ):
            self._stop(counting.STOP_MASK)
            return
        index = self.index_of.get((address, size))
        if index is None:
            state.miss_address, state.miss_size = address, size
            self._stop(counting.STOP_MISS)
            return
        if self._bytes[index] and self._bytes[index] != uc.mem_read(address, size):
            state.miss_address = index
            self._stop(counting.STOP_CHANGED)
            return
        preconditions, attention = self._watched.get(index, ((), 0))
        if not state.stepping and (
            attention & state.attention or any(self.is_broken(precondition) for precondition in preconditions)
        ):
            state.miss_address = index
            self._stop(counting.STOP_SUSPECT)
            return
        record, known = self._records[index], self._known[index]
        cost = record.cost
        record.executed += 1
        state.instructions += cost.instructions
        state.charged = 0
        expected = cost.expected if state.cache_on else cost.uncached
        expected += cost.wide_entry if state.jumped else 0
        if cost.code is Code.FLASH:
            expected += self._fetch_lines(cost)
        expected += self._wait_for(record, known.early, known.flash_words, known.shared_words)
        self._charge(cost.ideal, expected)
        state.last = index + 1

    def _charge(self, ideal: int, expected: int) -> None:
        state = self.state
        cycles = ideal if state.ideal_clock else expected
        state.ideal += ideal
        state.active += cycles
        state.charged += cycles

    def _wait_for(self, record: BlockRecord, groups: Sequence[Group], flash: int, shared: int) -> int:
        code, state = record.cost.code, self.state
        for group in groups:
            address = self._address_of(group)
            if address < CODE_RAM:
                flash += group.words
            elif code is Code.SYSTEM or (code is Code.ALIAS and slave_of(address) == slave_of(record.address)):
                shared += group.words
        bus = record.cost.bus * shared // record.cost.accesses.words if shared else 0
        state.flash_words += flash
        state.bus_cycles += bus
        return flash * self.timing.flash_read + bus

    def _sum(self, terms: Sequence[tuple[int, int]], offset: int) -> int:
        reads = (factor * self._uc.reg_read(counting.CORE_REGISTERS[number]) for number, factor in terms)
        return int(offset + sum(reads)) & 0xFFFFFFFF

    def _address_of(self, group: Group) -> int:
        address = self._sum(group.terms, group.offset)
        if group.beyond is None:
            return address
        if not RAM_START <= address <= RAM_START + RAM_BYTES - 4:
            return RAM_START  # not from RAM: nothing is known
        word = int.from_bytes(ctypes.string_at(self.state.ram + address - RAM_START, 4), "little")
        return self._sum(group.beyond[0], word + group.beyond[1])

    def _fetch_lines(self, cost: BlockCost) -> int:
        state = self.state
        if not state.cache_on:
            wait = self.timing.line_wait if cost.first_line != state.line else 0
            state.line = cost.end_line
            return wait
        missed = 0
        for line in range(cost.first_line, cost.last_line + 1):
            held = self._sets[line % len(self._sets)]
            if line in held:
                held.remove(line)
            else:
                missed += 1
            held.insert(0, line)
            del held[self.timing.cache_ways :]
        state.misses += missed
        state.hits += cost.last_line - cost.first_line + 1 - missed
        return missed * self.timing.miss

    def empty_cache(self) -> None:
        self._sets = [[] for _ in range(self.timing.cache_sets)]

    @property
    def lines(self) -> list[list[int]]:
        return [list(held) for held in self._sets]

    @lines.setter
    def lines(self, sets: list[list[int]]) -> None:
        self._sets = [list(held) for held in sets]

    def set_counts(self, index: int, executed: int, taken: int) -> None:
        self._records[index].executed, self._records[index].taken = executed, taken

    def settle(self, address: int) -> None:
        state = self.state
        if state.last:
            record = self._records[state.last - 1]
            cost, late = record.cost, self._known[state.last - 1].late
            if late:
                self._charge(0, self._wait_for(record, late, 0, 0))
            state.jumped = int(cost.jumps)
            if cost.conditional and address != record.address + record.size:
                record.taken += 1
                state.jumped = 1
                self._charge(cost.taken.ideal, cost.taken.expected if state.cache_on else cost.taken.uncached)
            state.last = 0
        state.access_pc = 0

    def insert(self, address: int, size: int, cost: BlockCost, code: bytes) -> int:
        index = len(self.costs)
        self.costs[index], self.index_of[address, size] = (address, size, cost), index
        self._records.append(BlockRecord(address, size, cost))
        self._known.append(known_accesses(cost, address))
        self._bytes.append(code if cost.code is not Code.FLASH else b"")
        return index

    def replace(self, index: int, cost: BlockCost, code: bytes) -> None:
        address, size, _ = self.costs[index]
        self.costs[index], self._records[index].cost = (address, size, cost), cost
        self._known[index], self._bytes[index] = known_accesses(cost, address), code

    def watch(self, index: int, preconditions: Sequence[Precondition], attention: int) -> None:
        self._watched[index] = preconditions, attention

    def recount(self, index: int, change: int) -> None:
        self._records[index].executed += change
        self._add(self._records[index].cost, change)

    def call_on_float(self, call: Callable[[int], None]) -> None:
        self._on_float = call

    def place(self, precondition: Precondition) -> None:
        def look(uc: Any, address: int, size: int, user: Any) -> None:
            if self.state.stop_reason or self.state.stepping:
                return
            if precondition.kind == FLOATING_POINT:
                if self.state.attention & counting.ATTENTION_FLOATS:
                    self._on_float(address)
            elif self.is_broken(precondition):
                self.state.miss_address = address
                self._stop(counting.STOP_PRECONDITION)

        self._uc.hook_add(uc_const.UC_HOOK_CODE, look, begin=precondition.address, end=precondition.address)

    def hook_access(self, address: int) -> None:
        self._uc.hook_add(uc_const.UC_HOOK_CODE, self._access, begin=address, end=address)

    def map_events(
        self, address: int, size: int, flags: Any, read: Callable[..., int], write: Callable[..., None]
    ) -> None:
        self._uc.mmio_map(address, size, read, None, write, None)

    def _access(self, uc: Any, address: int, size: int, user: Any) -> None:
        self.state.access_pc = address

    def records(self) -> Iterator[BlockRecord]:
        yield from self._records
