"""Count cycles at Unicorn's block hook and stop at deadlines: natively (counter.c, compiled at first use) or in Python,
equally."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unicorn import unicorn_const as uc_const
from unicorn.arm_const import (
    UC_ARM_REG_BASEPRI,
    UC_ARM_REG_FAULTMASK,
    UC_ARM_REG_LR,
    UC_ARM_REG_PRIMASK,
    UC_ARM_REG_R0,
    UC_ARM_REG_SP,
)
from unicorn.unicorn_py3.unicorn import MMIO_READ_CFUNC, MMIO_WRITE_CFUNC, uccallback, uclib

from converter.compiler import find_compiler
from host.emulator.cycles.cost import BlockCost
from host.emulator.cycles.guards import (
    DIV_0_TRP,
    FLOATING_POINT,
    MAX_TERMS,
    TRAPPED_ALIGNED,
    TRAPPED_DIVISION,
    UNALIGN_TRP,
    Guard,
)
from host.emulator.errors import BoardError

STOP_NONE, STOP_DEADLINE, STOP_MISS, STOP_MASK, STOP_SUSPECT, STOP_GUARD = range(6)
CORE_REGISTERS = (*range(UC_ARM_REG_R0, UC_ARM_REG_R0 + 13), UC_ARM_REG_SP, UC_ARM_REG_LR)
MASK_REGISTERS = (UC_ARM_REG_BASEPRI, UC_ARM_REG_FAULTMASK, UC_ARM_REG_PRIMASK)
ATTENTION_FLOATS, ATTENTION_FLASH, ATTENTION_ALWAYS = (
    1,
    2,
    4,
)  # floating point instructions; stores in IT blocks; whatever it is
_BLOCKS = 1 << 17
_TABLE_BITS = 19
_CACHE = Path(__file__).resolve().parents[3] / "build" / "emulator"
_ON_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_uint64)


class _Block(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_uint32)
            for name in (
                "address",
                "size",
                "cached",
                "uncached",
                "taken_cached",
                "taken_uncached",
                "conditional",
                "instructions",
                "first_guard",
                "guards",
                "attention",
                "unused",
            )
        ),
        *((name, ctypes.c_uint64) for name in ("executed", "taken")),
    )


class _State(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in ("active", "deadline", "cached", "uncached", "instructions", "last", "access_pc")
        ),
        *((name, ctypes.c_uint32) for name in ("cache_on", "poll_masks", "stop_reason", "miss_address", "miss_size")),
        ("masks", ctypes.c_uint32 * 3),
        ("mask_registers", ctypes.c_int32 * 3),
        ("table_bits", ctypes.c_uint32),
        ("engine", ctypes.c_uint64),
        ("emu_stop", ctypes.c_void_p),
        ("reg_read", ctypes.c_void_p),
        ("blocks", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("traps", ctypes.c_uint32),
        ("attention", ctypes.c_uint32),
        ("guards", ctypes.c_void_p),
        ("on_float", ctypes.c_void_p),
    )


class _Guard(ctypes.Structure):
    _fields_ = (
        ("state", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("kind", "offset", "mask", "unused")),
        ("registers", ctypes.c_int32 * MAX_TERMS),
        ("factors", ctypes.c_uint32 * MAX_TERMS),
    )


class _EventReads(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_void_p), ("slow_read", ctypes.c_void_p))


@dataclass
class BlockRecord:
    """How often a block ran; `taken` counts its conditional branch taken."""

    address: int
    size: int
    cost: BlockCost
    executed: int = 0
    taken: int = 0


class Counter(ABC):
    """What both counters offer; `state` has the fields of counter.c's counter_state."""

    state: Any
    _uc: Any
    costs: dict[int, tuple[int, int, BlockCost]]  # index -> address, size, cost
    index_of: dict[tuple[int, int], int]  # and back
    name: str

    @abstractmethod
    def insert(self, address: int, size: int, cost: BlockCost) -> int:
        """Make a block known, before it first runs; its index."""

    @abstractmethod
    def watch(self, index: int, guards: Sequence[Guard], attention: int) -> None:
        """Stop with STOP_SUSPECT (`miss_address` is the index) where this block begins while a guard is hit, or
        `state.attention` shares a bit with this one."""

    @abstractmethod
    def place(self, guard: Guard) -> None:
        """Stop with STOP_GUARD in front of the instruction, at `miss_address`, when it is hit; call on_float for a
        floating point one.

        Not in IT blocks: there Unicorn does not stop.
        """

    @abstractmethod
    def recount(self, index: int, change: int) -> None:
        """Add to how often a block has run, and to every sum."""

    @abstractmethod
    def call_on_float(self, call: Callable[[int], None]) -> None:
        """Whom to tell of the address of a placed floating point instruction that is about to run under
        ATTENTION_FLOATS."""

    @abstractmethod
    def settle(self, address: int) -> None:
        """End the block in execution; `address`, where control went, tells whether its conditional branch was taken."""

    @abstractmethod
    def hook_access(self, address: int) -> None:
        """Tell `state` when the instruction at `address`, which touches a peripheral, is reached."""

    @abstractmethod
    def records(self) -> Iterator[BlockRecord]:
        """Every block seen so far."""

    @abstractmethod
    def map_events(
        self, address: int, size: int, flags: Any, read: Callable[..., int], write: Callable[..., None]
    ) -> None:
        """Map registers of which `flags` (see peripherals.EventFlags) says which are events and whether they are
        raised."""

    def current(self) -> tuple[int, int, BlockCost] | None:
        """Address, size and cost of the block in execution."""
        return self.costs.get(int(self.state.last) - 1)

    def is_hit(self, guard: Guard) -> bool:
        """Whether the instruction must not run now."""
        trap = {TRAPPED_ALIGNED: UNALIGN_TRP, TRAPPED_DIVISION: DIV_0_TRP}.get(guard.kind)
        if trap is not None and not self.state.traps & trap:
            return False
        total: int = guard.offset + sum(
            factor * self._uc.reg_read(CORE_REGISTERS[number]) for number, factor in guard.terms
        )
        return total & 0xFFFFFFFF == 0 if guard.kind == TRAPPED_DIVISION else total & guard.mask != 0

    def _add(self, cost: BlockCost, change: int) -> None:
        state = self.state
        state.cached += change * cost.cached
        state.uncached += change * cost.uncached
        state.active += change * (cost.cached if state.cache_on else cost.uncached)
        state.instructions += change * cost.instructions

    def set_masks(self, values: list[int]) -> None:
        for index, value in enumerate(values):
            self.state.masks[index] = value


class NativeCounter(Counter):
    """The C hook, called by Unicorn without Python in between."""

    name = "native"

    def __init__(self, uc: Any, library: ctypes.CDLL) -> None:
        self._uc, self._library, self.costs, self.index_of = uc, library, {}, {}
        self._blocks, self._guards, self._guard_count = (_Block * _BLOCKS)(), (_Guard * _BLOCKS)(), 0
        self._table = (ctypes.c_uint32 * (1 << _TABLE_BITS))()
        self.state = _State(
            cache_on=0,
            attention=ATTENTION_ALWAYS,
            table_bits=_TABLE_BITS,
            engine=uc._uch.value if hasattr(uc._uch, "value") else uc._uch,
        )
        self.state.mask_registers[:] = MASK_REGISTERS
        self.state.emu_stop = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value
        self.state.reg_read = ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p).value
        self.state.blocks = ctypes.addressof(self._blocks)
        self.state.table = ctypes.addressof(self._table)
        self.state.guards = ctypes.addressof(self._guards)
        self._hooks: list[Any] = []
        self._hook(uc_const.UC_HOOK_BLOCK, library.counter_block, 1, 0)

    def _hook(self, kind: int, function: Any, begin: int, end: int, user: Any = None) -> None:
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self._uc._uch,
            ctypes.byref(handle),
            kind,
            ctypes.cast(function, ctypes.c_void_p),
            ctypes.byref(user or self.state),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
        )
        if status != 0:
            raise RuntimeError(f"uc_hook_add: {status}")
        self._hooks.append(handle)

    def insert(self, address: int, size: int, cost: BlockCost) -> int:
        index = len(self.costs)
        if index >= _BLOCKS:
            raise RuntimeError(f"more than {_BLOCKS} basic blocks")
        self.costs[index], self.index_of[address, size] = (address, size, cost), index
        self._blocks[index] = _Block(
            address,
            size,
            cost.cached,
            cost.uncached,
            cost.taken_cached,
            cost.taken_uncached,
            cost.conditional,
            cost.instructions,
        )
        self._library.counter_insert(ctypes.byref(self.state), ctypes.c_uint32(index))
        return index

    def watch(self, index: int, guards: Sequence[Guard], attention: int) -> None:
        first, self._guard_count = self._guard_count, self._guard_count + len(guards)
        if self._guard_count > _BLOCKS:
            raise RuntimeError(f"more than {_BLOCKS} watched addresses")
        for at, guard in enumerate(guards, first):
            self._guards[at] = self._native(guard)
        block = self._blocks[index]
        block.first_guard, block.guards, block.attention = first, len(guards), attention

    def _native(self, guard: Guard) -> _Guard:
        registers, factors = (
            [CORE_REGISTERS[number] for number, _ in guard.terms],
            [factor for _, factor in guard.terms],
        )
        return _Guard(
            ctypes.addressof(self.state),
            guard.kind,
            guard.offset & 0xFFFFFFFF,
            guard.mask,
            0,
            (ctypes.c_int32 * MAX_TERMS)(*registers),
            (ctypes.c_uint32 * MAX_TERMS)(*factors),
        )

    def place(self, guard: Guard) -> None:
        made = self._native(guard)
        self._hooks.append(made)
        self._hook(uc_const.UC_HOOK_CODE, self._library.counter_guard, guard.address, guard.address, made)

    def recount(self, index: int, change: int) -> None:
        self._blocks[index].executed += change
        self._add(self.costs[index][2], change)

    def call_on_float(self, call: Callable[[int], None]) -> None:
        made = _ON_FLOAT(call)
        self._hooks.append(made)
        self.state.on_float = ctypes.cast(made, ctypes.c_void_p).value

    def settle(self, address: int) -> None:
        self._library.counter_settle(ctypes.byref(self.state), ctypes.c_uint32(address))

    def hook_access(self, address: int) -> None:
        self._hook(uc_const.UC_HOOK_CODE, self._library.counter_access, address, address)

    def map_events(
        self, address: int, size: int, flags: Any, read: Callable[..., int], write: Callable[..., None]
    ) -> None:
        slow = uccallback(self._uc, MMIO_READ_CFUNC)(lambda uc, offset, width, _: read(uc, offset, width, None))
        writer = uccallback(self._uc, MMIO_WRITE_CFUNC)(
            lambda uc, offset, width, value, _: write(uc, offset, width, value, None)
        )
        reads = _EventReads(ctypes.addressof(flags), ctypes.cast(slow, ctypes.c_void_p).value)
        status = uclib.uc_mmio_map(
            self._uc._uch,
            address,
            size,
            ctypes.cast(self._library.events_read, ctypes.c_void_p),
            ctypes.addressof(reads),
            ctypes.cast(writer, ctypes.c_void_p),
            None,
        )
        if status != 0:
            raise RuntimeError(f"uc_mmio_map: {status}")
        self._hooks += [flags, slow, writer, reads]

    def records(self) -> Iterator[BlockRecord]:
        for index, (address, size, cost) in self.costs.items():
            block = self._blocks[index]
            yield BlockRecord(address, size, cost, block.executed, block.taken)


class _PythonState:
    def __init__(self) -> None:
        self.active = self.deadline = self.cached = self.uncached = self.instructions = self.last = self.access_pc = 0
        self.cache_on = self.poll_masks = self.stop_reason = self.miss_address = self.miss_size = self.traps = 0
        self.attention = ATTENTION_ALWAYS
        self.masks = [0, 0, 0]


class PythonCounter(Counter):
    """The twin of counter.c, for machines without a C compiler."""

    name = "python"

    def __init__(self, uc: Any) -> None:
        self._uc, self.costs, self.index_of, self.state = uc, {}, {}, _PythonState()
        self._records: list[BlockRecord] = []
        self._watched: dict[int, tuple[Sequence[Guard], int]] = {}
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
            self._stop(STOP_DEADLINE)
            return
        if state.poll_masks and any(
            uc.reg_read(register) != mask for register, mask in zip(MASK_REGISTERS, state.masks, strict=True)
        ):
            self._stop(STOP_MASK)
            return
        index = self.index_of.get((address, size))
        if index is None:
            state.miss_address, state.miss_size = address, size
            self._stop(STOP_MISS)
            return
        guards, attention = self._watched.get(index, ((), 0))
        if attention & state.attention or any(self.is_hit(guard) for guard in guards):
            state.miss_address = index
            self._stop(STOP_SUSPECT)
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

    def watch(self, index: int, guards: Sequence[Guard], attention: int) -> None:
        self._watched[index] = guards, attention

    def recount(self, index: int, change: int) -> None:
        self._records[index].executed += change
        self._add(self._records[index].cost, change)

    def call_on_float(self, call: Callable[[int], None]) -> None:
        self._on_float = call

    def place(self, guard: Guard) -> None:
        def look(uc: Any, address: int, size: int, user: Any) -> None:
            if self.state.stop_reason:
                return
            if guard.kind == FLOATING_POINT:
                if self.state.attention & ATTENTION_FLOATS:
                    self._on_float(address)
            elif self.is_hit(guard):
                self.state.miss_address = address
                self._stop(STOP_GUARD)

        self._uc.hook_add(uc_const.UC_HOOK_CODE, look, begin=guard.address, end=guard.address)

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


def native_library() -> ctypes.CDLL | None:
    """counter.c as a loaded library, compiled into build/emulator when its text is new; None where there is no C
    compiler. Raises BoardError when its structs are not those of this file."""
    source = Path(__file__).with_name("counter.c")
    text = source.read_bytes()
    file = _CACHE / f"native-{hashlib.sha256(text).hexdigest()[:16]}.so"
    try:
        if not file.is_file():
            compiler = find_compiler()
            if compiler is None:
                return None
            _compile(compiler, source, file)
        library = ctypes.CDLL(str(file))
    except (OSError, subprocess.CalledProcessError):  # no place to write, or no working compiler
        return None
    check_structs(library)
    return library


def check_structs(library: ctypes.CDLL) -> None:
    """Raises BoardError unless the C structs of `library` take as many bytes as their ctypes mirrors."""
    ours = [ctypes.sizeof(mirror) for mirror in (_Block, _Guard, _State, _EventReads)]
    theirs = list((ctypes.c_uint32 * len(ours)).in_dll(library, "counter_sizes"))
    if ours != theirs:
        raise BoardError(
            f"counter.c: its structs block_record, guard, counter_state, event_reads must have the {ours} bytes that "
            f"counter.py gives them, got {theirs}; make the fields of both files the same"
        )


def _compile(compiler: list[str], source: Path, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / "native.so"
        subprocess.run(
            [*compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(source)], capture_output=True, check=True
        )
        made.replace(library)


def make_counter(uc: Any, native: bool | None = None) -> Counter:
    """The native counter where it can be had, else Python's, which says once on stderr that it is slow; native=False
    asks for the Python one, True insists on the native one."""
    library = None if native is False else native_library()
    if library is not None:
        return NativeCounter(uc, library)
    if native:
        raise RuntimeError("no C compiler for host/emulator/cycles/counter.c")
    if native is None:
        _say_slow()
    return PythonCounter(uc)


@functools.cache  # once a process
def _say_slow() -> None:
    print(
        "virtual board: cycles are counted in Python, several times slower: no working C compiler for counter.c, or "
        "build/emulator cannot be written; install gcc or set CC",
        file=sys.stderr,
    )
