"""Decode Thumb-2 far enough for the cycle model: size, kind, registers of a load, and how a block ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

PC, LR, SP = 15, 14, 13
WIDE = 0xE800  # first halves of 32-bit instructions begin here


class Kind(Enum):
    """What the cycle model tells apart."""

    ALU = "alu"
    DIVIDE = "divide"
    LOAD = "load"
    STORE = "store"
    LOAD_MULTIPLE = "load multiple"
    STORE_MULTIPLE = "store multiple"
    LOAD_FLOAT = "load float"
    STORE_FLOAT = "store float"
    FMA = "fused multiply"
    FDIV = "float divide"
    BRANCH = "branch"
    TABLE_BRANCH = "table branch"
    SPECIAL = "special register"
    BARRIER = "barrier"


@dataclass(frozen=True)
class Instruction:
    """`writes` is the loaded register of a LOAD; `address_registers` what a load or store computes its address from."""

    address: int
    size: int
    kind: Kind
    writes: frozenset[int] = frozenset()
    address_registers: frozenset[int] = frozenset()
    register_offset: bool = False
    count: int = 0  # registers of a multiple transfer
    branches: bool = False
    conditional: bool = False  # may fall through though it branches
    direct: bool = False  # branches to an address that stands in the instruction

    @property
    def touches_memory(self) -> bool:
        """Whether it loads or stores."""
        return self.kind in _MEMORY

    @property
    def words(self) -> int:
        """Transfers on the data buses."""
        return (self.count or 1) if self.kind in _MEMORY else 0


_MEMORY = {
    Kind.LOAD,
    Kind.STORE,
    Kind.LOAD_MULTIPLE,
    Kind.STORE_MULTIPLE,
    Kind.LOAD_FLOAT,
    Kind.STORE_FLOAT,
    Kind.TABLE_BRANCH,
}


def halves_of(code: bytes, address: int) -> Iterator[tuple[int, int, int]]:
    """(address, first half, second half or 0) of each instruction; a last half of a 32-bit instruction cut off is left
    out."""
    at = 0
    while at + 2 <= len(code):
        first = int.from_bytes(code[at : at + 2], "little")
        wide = first >= WIDE
        if wide and at + 4 > len(code):
            break
        yield address + at, first, int.from_bytes(code[at + 2 : at + 4], "little") if wide else 0
        at += 4 if wide else 2


def expand_immediate(value: int) -> int:
    """The 32-bit constant that 12 bits of an instruction stand for (ARMv7-M manual A5.3.2).

    >>> [hex(expand_immediate(value)) for value in (0x0AB, 0x1AB, 0x2AB, 0x3AB, 0x4AB)]
    ['0xab', '0xab00ab', '0xab00ab00', '0xabababab', '0x55800000']
    """
    low = value & 0xFF
    if value < 0x400:
        return low * (1, 0x00010001, 0x01000100, 0x01010101)[value >> 8]
    low, turn = low | 0x80, value >> 7
    return (low >> turn | low << 32 - turn) & 0xFFFFFFFF


def decode(code: bytes, address: int, it_state: int = 0) -> list[Instruction]:
    """The instructions of a block; a last half of a 32-bit instruction cut off is left out. it_state: ITSTATE where
    the block begins."""
    found: list[Instruction] = []
    it_left = _it_length(it_state)
    for at, first, second in halves_of(code, address):
        wide = first >= WIDE
        one = decode_wide(first, second, at) if wide else decode_narrow(first, at)
        if it_left:
            it_left -= 1
            if one.branches and not one.conditional:
                one = _with_condition(one)
        if not wide and first & 0xFF00 == 0xBF00 and first & 0xF:
            it_left = _it_length(first)
        found.append(one)
    return found


def _it_length(it_state: int) -> int:
    """How many instructions an IT instruction, or what is left of its block, makes conditional.

    >>> [_it_length(mask) for mask in (0, 0b1000, 0b0100, 0b1110, 0b0001)]
    [0, 1, 2, 3, 4]
    """
    mask = it_state & 0xF
    return 5 - (mask & -mask).bit_length() if mask else 0


def _with_condition(one: Instruction) -> Instruction:
    return replace(one, branches=True, conditional=True)


def _transfer(
    address: int, size: int, load: bool, register: int, base: frozenset[int], register_offset: bool
) -> Instruction:
    if load:
        return Instruction(
            address, size, Kind.LOAD, frozenset({register}), base, register_offset, branches=register == PC
        )
    return Instruction(address, size, Kind.STORE, frozenset(), base, register_offset)


def decode_narrow(op: int, address: int) -> Instruction:
    """A 16-bit instruction (ARMv7-M manual A5.2)."""
    top5 = op >> 11
    if op & 0xFF00 == 0x4700:  # BX, BLX
        return Instruction(address, 2, Kind.BRANCH, branches=True)
    if op & 0xFC00 == 0x4400:  # high registers: ADD, CMP, MOV
        destination = (op & 7) | (op >> 4 & 8)
        writes_pc = destination == PC and op & 0x0300 != 0x0100
        return Instruction(address, 2, Kind.BRANCH if writes_pc else Kind.ALU, branches=writes_pc)
    if top5 == 0b01001:  # LDR literal
        return _transfer(address, 2, True, op >> 8 & 7, frozenset({PC}), False)
    if op >> 12 == 0b0101:  # register offset; opB >= 3 loads
        return _transfer(address, 2, op >> 9 & 7 >= 3, op & 7, frozenset({op >> 3 & 7, op >> 6 & 7}), True)
    if op >> 13 == 0b011 or op >> 12 == 0b1000:
        return _transfer(address, 2, bool(op & 0x0800), op & 7, frozenset({op >> 3 & 7}), False)
    if op >> 12 == 0b1001:
        return _transfer(address, 2, bool(op & 0x0800), op >> 8 & 7, frozenset({SP}), False)
    if op >> 12 == 0b1100:  # LDM, STM
        kind = Kind.LOAD_MULTIPLE if op & 0x0800 else Kind.STORE_MULTIPLE
        return Instruction(address, 2, kind, count=(op & 0xFF).bit_count())
    if op & 0xFE00 == 0xB400:
        return Instruction(address, 2, Kind.STORE_MULTIPLE, count=(op & 0x1FF).bit_count())
    if op & 0xFE00 == 0xBC00:
        return Instruction(address, 2, Kind.LOAD_MULTIPLE, count=(op & 0x1FF).bit_count(), branches=bool(op & 0x100))
    if op & 0xF500 == 0xB100:  # CBZ, CBNZ
        return Instruction(address, 2, Kind.BRANCH, branches=True, conditional=True, direct=True)
    if op >> 12 == 0b1101 and op >> 8 & 0xF < 0xE:
        return Instruction(address, 2, Kind.BRANCH, branches=True, conditional=True, direct=True)
    if top5 == 0b11100:
        return Instruction(address, 2, Kind.BRANCH, branches=True, direct=True)
    return Instruction(address, 2, Kind.ALU)


def decode_wide(one: int, two: int, address: int) -> Instruction:
    """A 32-bit instruction (ARMv7-M manual A5.3)."""
    if one & 0xFE40 == 0xE800:
        return _multiple(one, two, address)
    if one & 0xFE40 == 0xE840:
        return _dual_or_exclusive(one, two, address)
    if one & 0xFE00 == 0xF800:
        return _single(one, two, address)
    if one & 0xF800 == 0xF000 and two & 0x8000:
        return _branch_or_control(one, two, address)
    if one & 0xFFD0 == 0xFB90 and two & 0xF0 == 0xF0:
        return Instruction(address, 4, Kind.DIVIDE)
    if one & 0xEC00 == 0xEC00:
        return _float(one, two, address)
    return Instruction(address, 4, Kind.ALU)


def _multiple(one: int, two: int, address: int) -> Instruction:
    if one & 0x10:
        return Instruction(address, 4, Kind.LOAD_MULTIPLE, count=two.bit_count(), branches=bool(two & 0x8000))
    return Instruction(address, 4, Kind.STORE_MULTIPLE, count=two.bit_count())


def _dual_or_exclusive(one: int, two: int, address: int) -> Instruction:
    base = frozenset({one & 0xF})
    if one & 0xFFF0 == 0xE8D0 and two & 0xE0 == 0x00:
        return Instruction(address, 4, Kind.TABLE_BRANCH, branches=True)
    exclusive = one & 0x0120 == 0  # P = W = 0: LDREX, STREX and their byte and halfword forms
    if exclusive:  # 2 cycles, and never paired
        return Instruction(address, 4, Kind.LOAD_FLOAT if one & 0x10 else Kind.STORE_FLOAT, address_registers=base)
    kind = Kind.LOAD_MULTIPLE if one & 0x10 else Kind.STORE_MULTIPLE
    return Instruction(address, 4, kind, address_registers=base, count=2)


def _single(one: int, two: int, address: int) -> Instruction:
    load, register, base = bool(one & 0x10), two >> 12, one & 0xF
    if load and register == PC and one & 0x60 != 0x40:  # PLD, PLI
        return Instruction(address, 4, Kind.ALU)
    by_register = not one & 0x80 and base != PC and two & 0x0FC0 == 0
    registers = frozenset({base, two & 0xF}) if by_register else frozenset({base})
    return _transfer(address, 4, load, register, registers, by_register)


def _branch_or_control(one: int, two: int, address: int) -> Instruction:
    if two & 0x5000:  # B.W (T4), BL
        return Instruction(address, 4, Kind.BRANCH, branches=True, direct=True)
    if one >> 7 & 7 != 7:
        return Instruction(address, 4, Kind.BRANCH, branches=True, conditional=True, direct=True)
    if one & 0xFFE0 in (0xF380, 0xF3E0):  # MSR, MRS
        return Instruction(address, 4, Kind.SPECIAL)
    if one == 0xF3BF and two & 0xF0 == 0x60:  # ISB refills the pipeline
        return Instruction(address, 4, Kind.BARRIER, branches=True)
    return Instruction(address, 4, Kind.ALU)


def _float(one: int, two: int, address: int) -> Instruction:
    """The FPU's instructions, coprocessors 10 and 11."""
    if two & 0x0E00 != 0x0A00:
        return Instruction(address, 4, Kind.ALU)
    if one & 0xFF00 == 0xEE00:  # data processing (bit 4 of the second half clear) or a 32-bit move
        if two & 0x10:
            return Instruction(address, 4, Kind.ALU)
        group = one & 0xB0
        if group == 0x80 or (group == 0xB0 and one & 0xF == 1 and two & 0xC0 == 0xC0):
            return Instruction(address, 4, Kind.FDIV)
        if group in (0x00, 0x10, 0x90, 0xA0):
            return Instruction(address, 4, Kind.FMA)
        return Instruction(address, 4, Kind.ALU)
    if one & 0xFFE0 == 0xEC40:  # two core registers
        return Instruction(address, 4, Kind.SPECIAL)
    load = bool(one & 0x10)
    words = two & 0xFF
    if one & 0x0120 == 0x0100:  # VLDR, VSTR
        if two & 0x100:
            return Instruction(address, 4, Kind.LOAD_MULTIPLE if load else Kind.STORE_MULTIPLE, count=2)
        return Instruction(
            address, 4, Kind.LOAD_FLOAT if load else Kind.STORE_FLOAT, address_registers=frozenset({one & 0xF})
        )
    return Instruction(address, 4, Kind.LOAD_MULTIPLE if load else Kind.STORE_MULTIPLE, count=words)
