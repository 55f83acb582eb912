"""Count cycles at Unicorn's block hook and stop at deadlines: natively (counter.c, compiled at first use) or in Python,
equally."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3.unicorn import MMIO_READ_CFUNC, MMIO_WRITE_CFUNC, uccallback, uclib

from converter.compiler import find_compiler
from host.emulator.cycles.accesses import Group
from host.emulator.cycles.cost import BlockCost
from host.emulator.cycles.counting import (
    ATTENTION_ALWAYS,
    CORE_REGISTERS,
    MASK_REGISTERS,
    BlockRecord,
    Counter,
    known_accesses,
)
from host.emulator.cycles.preconditions import MAX_TERMS, Precondition
from host.emulator.cycles.python_counter import PythonCounter
from host.emulator.cycles.timing import EXPECTED, Code, Timing
from host.emulator.errors import BoardError

_BLOCKS = 1 << 17
_TABLE_BITS = 19
_CACHE = Path(__file__).resolve().parents[3] / "build" / "emulator"
_ON_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_uint64)


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class _Block(ctypes.Structure):
    _fields_ = (
        *_fields(ctypes.c_uint32, "address size ideal expected uncached taken_ideal taken_expected taken_uncached"),
        *_fields(ctypes.c_uint32, "conditional jumps instructions code bus words flash_words shared_words"),
        *_fields(ctypes.c_uint32, "first_line last_line end_line wide_entry first_precondition preconditions"),
        *_fields(ctypes.c_uint32, "first_group early_groups late_groups attention"),
        ("bytes", ctypes.c_void_p),
        *_fields(ctypes.c_uint64, "executed taken"),
    )


class _Group(ctypes.Structure):
    _fields_ = (
        *_fields(ctypes.c_uint32, "offset words"),
        ("registers", ctypes.c_int32 * MAX_TERMS),
        ("factors", ctypes.c_uint32 * MAX_TERMS),
        *_fields(ctypes.c_uint32, "through beyond_offset beyond_factor"),
        ("beyond_register", ctypes.c_int32),
    )


class _State(ctypes.Structure):
    _fields_ = (
        *_fields(ctypes.c_uint64, "active deadline ideal instructions hits misses flash_words bus_cycles"),
        *_fields(ctypes.c_uint64, "charged last access_pc"),
        *_fields(ctypes.c_uint32, "cache_on ideal_clock poll_masks stop_reason miss_address miss_size"),
        ("masks", ctypes.c_uint32 * 3),
        ("mask_registers", ctypes.c_int32 * 3),
        *_fields(ctypes.c_uint32, "table_bits jumped line flash_read miss line_wait sets ways"),
        ("engine", ctypes.c_uint64),
        *_fields(ctypes.c_void_p, "emu_stop reg_read blocks table ram cache"),
        *_fields(ctypes.c_uint32, "traps attention stepping unused"),
        *_fields(ctypes.c_void_p, "preconditions groups on_float"),
    )


class _Precondition(ctypes.Structure):
    _fields_ = (
        ("state", ctypes.c_void_p),
        *_fields(ctypes.c_uint32, "kind offset mask unused"),
        ("registers", ctypes.c_int32 * MAX_TERMS),
        ("factors", ctypes.c_uint32 * MAX_TERMS),
    )


class _EventReads(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_void_p), ("slow_read", ctypes.c_void_p))


class NativeCounter(Counter):
    """The C hook, called by Unicorn without Python in between."""

    name = "native"

    def __init__(self, uc: Any, library: ctypes.CDLL, timing: Timing) -> None:
        self._uc, self._library, self.costs, self.index_of, self.timing = uc, library, {}, {}, timing
        self._blocks, self._preconditions, self._precondition_count = (
            (_Block * _BLOCKS)(),
            (_Precondition * _BLOCKS)(),
            0,
        )
        self._groups, self._group_count = (_Group * _BLOCKS)(), 0
        self._bytes: dict[int, Any] = {}
        self._table = (ctypes.c_uint32 * (1 << _TABLE_BITS))()
        self._lines = (ctypes.c_uint32 * (timing.cache_sets * timing.cache_ways))()
        self.state = _State(
            cache_on=0,
            attention=ATTENTION_ALWAYS,
            table_bits=_TABLE_BITS,
            engine=uc._uch.value if hasattr(uc._uch, "value") else uc._uch,
            flash_read=timing.flash_read,
            miss=timing.miss,
            line_wait=timing.line_wait,
            sets=timing.cache_sets,
            ways=timing.cache_ways,
        )
        self.state.mask_registers[:] = MASK_REGISTERS
        self.state.emu_stop = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value
        self.state.reg_read = ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p).value
        self.state.blocks = ctypes.addressof(self._blocks)
        self.state.table = ctypes.addressof(self._table)
        self.state.groups, self.state.cache = ctypes.addressof(self._groups), ctypes.addressof(self._lines)
        self.state.preconditions = ctypes.addressof(self._preconditions)
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

    def insert(self, address: int, size: int, cost: BlockCost, code: bytes) -> int:
        index = len(self.costs)
        if index >= _BLOCKS:
            raise BoardError(
                f"the program runs more than {_BLOCKS:,} basic blocks, more than its cycles can be counted of"
            )
        self.index_of[address, size] = index
        self._set(index, address, size, cost, code)
        self._library.counter_insert(ctypes.byref(self.state), ctypes.c_uint32(index))
        return index

    def replace(self, index: int, cost: BlockCost, code: bytes) -> None:
        address, size, _ = self.costs[index]
        self._set(index, address, size, cost, code)

    def _set(self, index: int, address: int, size: int, cost: BlockCost, code: bytes) -> None:
        self.costs[index] = address, size, cost
        known = known_accesses(cost, address)
        first, self._group_count = self._group_count, self._group_count + len(known.early) + len(known.late)
        if self._group_count > _BLOCKS:
            raise BoardError(f"the program has more than {_BLOCKS:,} groups of loads and stores to be told apart")
        for at, group in enumerate((*known.early, *known.late), first):
            self._groups[at] = _native_group(group)
        self._blocks[index] = _Block(
            address=address,
            size=size,
            ideal=cost.ideal,
            expected=cost.expected,
            uncached=cost.uncached,
            taken_ideal=cost.taken.ideal,
            taken_expected=cost.taken.expected,
            taken_uncached=cost.taken.uncached,
            conditional=cost.conditional,
            jumps=cost.jumps,
            instructions=cost.instructions,
            code=cost.code,
            bus=cost.bus,
            words=cost.accesses.words,
            flash_words=known.flash_words,
            shared_words=known.shared_words,
            first_line=cost.first_line,
            last_line=cost.last_line,
            end_line=cost.end_line,
            wide_entry=cost.wide_entry,
            first_group=first,
            early_groups=len(known.early),
            late_groups=len(known.late),
            bytes=self._kept(index, code) if cost.code is not Code.FLASH else None,
            executed=self._blocks[index].executed,
            taken=self._blocks[index].taken,
        )

    def _kept(self, index: int, code: bytes) -> int:
        self._bytes[index] = ctypes.create_string_buffer(code, len(code))
        return ctypes.addressof(self._bytes[index])

    def watch(self, index: int, preconditions: Sequence[Precondition], attention: int) -> None:
        first, self._precondition_count = self._precondition_count, self._precondition_count + len(preconditions)
        if self._precondition_count > _BLOCKS:
            raise BoardError(f"the program has more than {_BLOCKS:,} instructions to be watched for their addresses")
        for at, precondition in enumerate(preconditions, first):
            self._preconditions[at] = self._native(precondition)
        block = self._blocks[index]
        block.first_precondition, block.preconditions, block.attention = first, len(preconditions), attention

    def _native(self, precondition: Precondition) -> _Precondition:
        registers, factors = (
            [CORE_REGISTERS[number] for number, _ in precondition.terms],
            [factor for _, factor in precondition.terms],
        )
        return _Precondition(
            ctypes.addressof(self.state),
            precondition.kind,
            precondition.offset & 0xFFFFFFFF,
            precondition.mask,
            0,
            (ctypes.c_int32 * MAX_TERMS)(*registers),
            (ctypes.c_uint32 * MAX_TERMS)(*factors),
        )

    def place(self, precondition: Precondition) -> None:
        made = self._native(precondition)
        self._hooks.append(made)
        self._hook(
            uc_const.UC_HOOK_CODE, self._library.counter_precondition, precondition.address, precondition.address, made
        )

    def recount(self, index: int, change: int) -> None:
        self._blocks[index].executed += change
        self._add(self.costs[index][2], change)

    def empty_cache(self) -> None:
        ctypes.memset(self._lines, 0, ctypes.sizeof(self._lines))

    @property
    def lines(self) -> list[list[int]]:
        ways, flat = self.timing.cache_ways, list(self._lines)
        return [[line - 1 for line in flat[at : at + ways] if line] for at in range(0, len(flat), ways)]

    @lines.setter
    def lines(self, sets: list[list[int]]) -> None:
        self.empty_cache()
        for number, held in enumerate(sets):
            for way, line in enumerate(held):
                self._lines[number * self.timing.cache_ways + way] = line + 1

    def set_counts(self, index: int, executed: int, taken: int) -> None:
        self._blocks[index].executed, self._blocks[index].taken = executed, taken

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


def _native_group(group: Group) -> _Group:
    registers, factors = (ctypes.c_int32 * MAX_TERMS)(), (ctypes.c_uint32 * MAX_TERMS)()
    for at, (number, factor) in enumerate(group.terms):
        registers[at], factors[at] = CORE_REGISTERS[number], factor
    terms, offset = group.beyond or ((), 0)
    more, by = (CORE_REGISTERS[terms[0][0]], terms[0][1]) if terms else (0, 0)
    through = group.beyond is not None
    return _Group(group.offset & 0xFFFFFFFF, group.words, registers, factors, through, offset & 0xFFFFFFFF, by, more)


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
    ours = [ctypes.sizeof(mirror) for mirror in (_Block, _Precondition, _Group, _State, _EventReads)]
    theirs = list((ctypes.c_uint32 * len(ours)).in_dll(library, "counter_sizes"))
    if ours != theirs:
        raise BoardError(
            f"counter.c: its structs block_record, precondition, access_group, counter_state, event_reads must have "
            f"the {ours} bytes that counter.py gives them, got {theirs}; make the fields of both files the same"
        )


def _compile(compiler: list[str], source: Path, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / "native.so"
        subprocess.run(
            [*compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(source)], capture_output=True, check=True
        )
        made.replace(library)


def make_counter(uc: Any, native: bool | None = None, timing: Timing = EXPECTED) -> Counter:
    """The native counter where it can be had, else Python's, which says once on stderr that it is slow; native=False
    asks for the Python one, True insists on the native one."""
    library = None if native is False else native_library()
    if library is not None:
        return NativeCounter(uc, library, timing)
    if native:
        raise RuntimeError("no C compiler for host/emulator/cycles/counter.c")
    if native is None:
        _say_slow()
    return PythonCounter(uc, timing)


@functools.cache  # once a process
def _say_slow() -> None:
    print(
        "virtual board: cycles are counted in Python, several times slower: no working C compiler for counter.c, or "
        "build/emulator cannot be written; install gcc or set CC",
        file=sys.stderr,
    )
