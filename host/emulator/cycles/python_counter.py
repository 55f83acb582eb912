"""The twin of counter.c, for machines without a C compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from unicorn import unicorn_const as uc_const

from host.emulator.cycles import counting
from host.emulator.cycles.cost import BlockCost
from host.emulator.cycles.counting import BlockRecord, Counter
from host.emulator.cycles.preconditions import FLOATING_POINT, Precondition


class _PythonState:
    def __init__(self) -> None:
        self.active = self.deadline = self.cached = self.uncached = self.instructions = self.last = self.access_pc = 0
        self.cache_on = self.poll_masks = self.stop_reason = self.miss_address = self.miss_size = self.traps = 0
        self.attention, self.stepping = counting.ATTENTION_ALWAYS, 0
        self.masks = [0, 0, 0]


class PythonCounter(Counter):
    """Counts in Unicorn's hooks written in Python."""

    name = "python"

    def __init__(self, uc: Any) -> None:
        self._uc, self.costs, self.index_of, self.state = uc, {}, {}, _PythonState()
        self._records: list[BlockRecord] = []
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
        preconditions, attention = self._watched.get(index, ((), 0))
        if not state.stepping and (
            attention & state.attention or any(self.is_broken(precondition) for precondition in preconditions)
        ):
            state.miss_address = index
            self._stop(counting.STOP_SUSPECT)
            return
        self.recount(index, 1)
        state.last = index + 1

    def settle(self, address: int) -> None:
        state = self.state
        if state.last:
            record = self._records[state.last - 1]
            if record.cost.conditional and address != record.address + record.size:
                record.taken += 1
                state.cached += record.cost.taken_cached
                state.uncached += record.cost.taken_uncached
                state.active += record.cost.taken_cached if state.cache_on else record.cost.taken_uncached
            state.last = 0
        state.access_pc = 0

    def insert(self, address: int, size: int, cost: BlockCost) -> int:
        index = len(self.costs)
        self.costs[index], self.index_of[address, size] = (address, size, cost), index
        self._records.append(BlockRecord(address, size, cost))
        return index

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
