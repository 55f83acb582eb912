"""The basic blocks a program has run: their cycles, what must be looked at before they run, and how far one got."""

from __future__ import annotations

from typing import Any, ClassVar

from converter.checked import Flag, Items, Row, Rule, Whole
from converter.target import NRF52840
from host.emulator.cycles.cost import block_cost, prefix_cost
from host.emulator.cycles.counting import ATTENTION_ALWAYS, ATTENTION_FLASH, ATTENTION_FLOATS, Counter
from host.emulator.cycles.preconditions import (
    DIV_0_TRP,
    UNALIGN_TRP,
    Precondition,
    exact_preconditions,
    float_preconditions,
    it_bits_at,
    preconditions_of,
    stores_conditionally,
)
from host.emulator.cycles.thumb import WIDE, decode
from host.emulator.cycles.timing import Code, code_at
from host.emulator.errors import BoardError

_NOT, _AS_A_WHOLE, _ONE_BY_ONE = range(3)  # how a block is looked at: a single instruction that is stepped, not at all
MOST_CODE = 1 << 22  # bytes of all blocks
_COUNT = Whole(0, 1 << 60)


def _leaves_ram(address: int, size: int) -> bool:
    """Whether a block would end beyond RAM, whose bytes counter.c looks at."""
    return code_at(address) is not Code.FLASH and (address & NRF52840.ram_bytes - 1) + size > NRF52840.ram_bytes


class Blocks:
    """Makes blocks known to the counter, when Unicorn first meets them."""

    SAVED: ClassVar[dict[str, Rule]] = {
        "traps": Whole(0, UNALIGN_TRP | DIV_0_TRP),
        "look_again": Flag(),
        "hooked": Items(Whole(0, 0xFFFFFFFF), most=1 << 17),
        "table": Items(
            Row((Whole(0, 0xFFFFFFFF), Whole(1, 1 << 13), Whole(0, 255), Whole(0, 2), Whole(0, 1), _COUNT, _COUNT)),
            most=1 << 17,
        ),
    }

    def __init__(self, uc: Any, counter: Counter) -> None:
        self._uc, self._counter = uc, counter
        self.traps = 0  # bits of CCR that were ever set: their preconditions are placed
        self.look_again = False  # learn_again() is wanted
        self.to_mark: set[int] = set()
        self.placed: set[tuple[int, int]] = set()
        self._marked: set[int] = set()
        self._hooked: set[int] = set()
        self._prefixes: dict[tuple[int, int], int] = {}
        self._it_states: dict[int, int] = {}  # of blocks that begin inside an IT block: ITSTATE there
        self._codes: list[bytes] = []  # by index: the instructions that its cycles are of
        self._looks: list[int] = []  # by index: how it is looked at before it runs

    def code(self, address: int, size: int) -> bytes:
        """Bytes of the program."""
        return bytes(self._uc.mem_read(address, size))

    def learn(self, address: int, size: int, it_state: int) -> int:
        """A new block; its index. it_state: ITSTATE where it begins (an IT block may cross a page, where Unicorn ends
        its blocks)."""
        code = self.code(address, size)
        index = self._insert(address, code, it_state)
        if it_state:
            self._it_states[index] = it_state
        self._precondition(index, code, address)
        return index

    def _insert(self, address: int, code: bytes, it_state: int) -> int:
        self._codes.append(code)
        self._looks.append(_NOT)
        cost = block_cost(code, address, it_state, self._counter.timing)
        return self._counter.insert(address, len(code), cost, code)

    def changed(self, index: int) -> None:
        """The program has written other instructions where a block lies in RAM."""
        address, size, _ = self._counter.costs[index]
        self._uc.ctl_remove_cache(address, address + size)
        code, it_state = self.code(address, size), self._it_states.get(index, 0)
        self._codes[index] = code
        self._counter.replace(index, block_cost(code, address, it_state, self._counter.timing), code)
        self._prefixes = {key: cycles for key, cycles in self._prefixes.items() if key[0] != index}
        self._precondition(index, code, address)

    def _precondition(self, index: int, code: bytes, address: int) -> None:
        it_state = self._it_states.get(index, 0)
        self._looks[index] = _AS_A_WHOLE
        early, late = preconditions_of(code, address, self.traps, it_state)
        attention = ATTENTION_FLOATS if float_preconditions(code, address, it_state) else 0
        attention |= ATTENTION_FLASH if stores_conditionally(code, address, it_state) else 0
        attention |= ATTENTION_ALWAYS if any(precondition.conditional for precondition in late) else 0
        if early or attention:
            self._counter.watch(index, early, attention)
        self._place(late, address, len(code))

    def _place(self, preconditions: list[Precondition], address: int, size: int) -> None:
        for precondition in preconditions:
            if not precondition.conditional and (precondition.address, precondition.kind) not in self.placed:
                self.placed.add((precondition.address, precondition.kind))
                self._counter.place(precondition)
        if preconditions:
            self._uc.ctl_remove_cache(address, address + size)

    def resolve(self, index: int) -> bool:
        """A block that may not simply run: from now on its instructions are looked at one by one. False: it must be
        stepped through."""
        address, size, _ = self._counter.costs[index]
        return self._resolve(index, address, self.code(address, size))

    def _resolve(self, index: int, address: int, code: bytes) -> bool:
        it_state = self._it_states.get(index, 0)
        stores = stores_conditionally(code, address, it_state)
        if self._counter.state.attention & ATTENTION_FLASH and stores:
            return False
        self._looks[index] = _ONE_BY_ONE
        preconditions = self._preconditions(code, address, it_state)
        by_step = any(precondition.conditional for precondition in preconditions)
        self._counter.watch(index, (), ATTENTION_ALWAYS if by_step else ATTENTION_FLASH if stores else 0)
        self._place(preconditions, address, len(code))
        return not by_step

    def _preconditions(self, code: bytes, address: int, it_state: int) -> list[Precondition]:
        return [
            *float_preconditions(code, address, it_state),
            *exact_preconditions(code, address, self.traps, it_state),
        ]

    def end_of(self, index: int) -> int:
        """The address behind a block."""
        address, size, _ = self._counter.costs[index]
        return address + size

    def instruction(self, pc: int, it_state: int) -> tuple[int, list[Precondition]]:
        """The end of the instruction at pc, which is known as a block of its own from now on, and what must hold for
        it to run."""
        code = self.code(pc, 2)
        if int.from_bytes(code, "little") >= WIDE:
            code = self.code(pc, 4)
        if (pc, len(code)) not in self._counter.index_of:
            self._insert(pc, code, it_state)
        return pc + len(code), self._preconditions(code, pc, it_state)

    def learn_again(self) -> None:
        """A trap was switched on for the first time: the blocks known by now have more to be looked at."""
        self.look_again = False
        for index, (address, size, _) in self._counter.costs.items():
            self._precondition(index, self.code(address, size), address)

    def cut(self, pc: int) -> int:
        """The block in execution ends in front of the instruction at pc, what lies behind was not executed; the IT bits
        of XPSR there."""
        state, current, it_bits = self._counter.state, self._counter.current(), 0
        if current is not None and current[0] <= pc < current[0] + current[1]:
            address, size = current[0], pc - current[0]
            index = int(state.last) - 1
            entered = self._it_states.get(index, 0)
            it_bits = it_bits_at(self.code(*current[:2]), address, pc, entered)
            self._counter.recount(index, -1)
            if size:
                part = self._counter.index_of.get((address, size))
                self._counter.recount(self.learn(address, size, entered) if part is None else part, 1)
            state.last = 0
        self._counter.settle(pc)
        return it_bits

    # --- for a snapshot

    @property
    def codes(self) -> bytes:
        """The instructions of all blocks, one after the other."""
        return b"".join(self._codes)

    @codes.setter
    def codes(self, found: bytes) -> None:
        self._codes = [found]

    @property
    def hooked(self) -> list[int]:
        """Addresses of the instructions at which the time is read."""
        return sorted(self._hooked)

    @hooked.setter
    def hooked(self, addresses: list[int]) -> None:
        for address in addresses:
            self._hooked.add(address)
            self._counter.hook_access(address)

    @property
    def table(self) -> list[tuple[int, ...]]:
        """Of each block: address, size, ITSTATE where it begins, how it is looked at, whether the time is read in it,
        how often it ran and its branch was taken."""
        return [
            (
                *(record.address, record.size, self._it_states.get(index, 0), self._looks[index]),
                *(int(index in self._marked), int(record.executed), int(record.taken)),
            )
            for index, record in enumerate(self._counter.records())
        ]

    @table.setter
    def table(self, table: list[tuple[int, ...]]) -> None:
        """After `traps` and `codes`; raises BoardError where they do not fit together."""
        codes = self.codes
        if sum(row[1] for row in table) != len(codes) or any(_leaves_ram(row[0], row[1]) for row in table):
            raise BoardError("its blocks of instructions do not fit their table")
        at = 0
        self._codes.clear()
        for index, (address, size, it_state, look, marked, executed, taken) in enumerate(table):
            code, at = codes[at : at + size], at + size
            self._insert(address, code, it_state)
            self._counter.set_counts(index, executed, taken)
            if it_state:
                self._it_states[index] = it_state
            if look != _NOT:
                self._precondition(index, code, address)
            if look == _ONE_BY_ONE:
                self._resolve(index, address, code)
            if marked:
                self._marked.add(index)

    def prefix(self, index: int, pc: int) -> int:
        """Ideal cycles of a block in front of the memory instruction at pc; pc 0: not known yet, its first one is
        meant."""
        found = self._prefixes.get((index, pc))
        if found is None:
            address, size, _ = self._counter.costs[index]
            code = self.code(address, size)
            at = pc or next((one.address for one in decode(code, address) if one.touches_memory), address)
            found = self._prefixes[index, pc] = prefix_cost(code, address, at)
        if not pc and index not in self._marked:
            self.to_mark.add(index)
        return found

    def mark(self) -> None:
        """Put the time stamp hook on the memory instructions of blocks that were seen to read the time."""
        for index in self.to_mark:
            address, size, _ = self._counter.costs[index]
            self._marked.add(index)
            for one in decode(self.code(address, size), address):
                if one.touches_memory and one.address not in self._hooked:
                    self._hooked.add(one.address)
                    self._counter.hook_access(one.address)
            self._uc.ctl_remove_cache(address, address + size)
        self.to_mark.clear()
