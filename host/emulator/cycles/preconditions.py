"""What must be looked at before an instruction runs, because Unicorn would not notice: addresses that must be aligned,
division by zero.

ARMv7-M manual A3.2.1: LDM, STM, LDRD, STRD, LDREX, VLDR and their kin fault on an unaligned address, always; LDR, LDRH,
STR, STRH do when CCR.UNALIGN_TRP is set, SDIV and UDIV by zero when CCR.DIV_0_TRP is. Where an address is known at the
start of its block as a sum of registers (modulo 4, which is all that matters), one look there serves the whole block;
else the instruction itself is watched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from host.emulator.cycles.thumb import PC, SP, WIDE, Kind, decode, expand_immediate, halves_of

ALWAYS_ALIGNED, TRAPPED_ALIGNED, TRAPPED_DIVISION, FLOATING_POINT = range(4)
UNALIGN_TRP, DIV_0_TRP = 1 << 3, 1 << 4  # bits of CCR
MAX_TERMS = 3
_STORES = (Kind.STORE, Kind.STORE_MULTIPLE, Kind.STORE_FLOAT)


@dataclass(frozen=True)
class Precondition:
    """The instruction at `address` must not run when its sum of registers, and of `offset`, has a bit of `mask`; a
    division: is 0."""

    address: int
    kind: int
    terms: tuple[tuple[int, int], ...] = ()  # (core register, factor)
    offset: int = 0
    mask: int = 0
    conditional: bool = False  # in an IT block


# Factors of r0..r15 as the block found them and a constant, modulo 4; None: not known
Affine = tuple[tuple[int, ...], int] | None


def _register(number: int) -> Affine:
    """What a register holds when the block begins; SP is a multiple of 4, and nobody asks for PC."""
    return tuple(int(index == number and number != SP) for index in range(16)), 0


def _add(one: Affine, other: Affine, sign: int = 1, shift: int = 0) -> Affine:
    if shift >= 2:
        other = _constant(0)
    if one is None or other is None:
        return None
    factor = sign << shift
    return tuple((a + factor * b) % 4 for a, b in zip(one[0], other[0], strict=True)), (one[1] + factor * other[1]) % 4


def _constant(value: int) -> Affine:
    return (0,) * 16, value % 4


def conditions(code: bytes, address: int, it_state: int = 0) -> Iterator[tuple[int, int, int, bool, int]]:
    """(address, first half, second half or 0, whether it is conditional, IT bits of XPSR) of each instruction of a
    block. it_state: the architecture's ITSTATE where the block begins, 0 outside IT blocks."""
    state = it_state
    for at, first, second in halves_of(code, address):
        packed = (state & 3) << 25 | (state >> 2) << 10
        yield at, first, second, state & 15 != 0, packed if state & 15 else 0
        if first & 0xFF00 == 0xBF00 and first & 15:
            state = first & 0xFF
        elif state & 15:
            state = state & 0xE0 | state << 1 & 0x1F if state & 7 else 0


def it_bits_at(code: bytes, address: int, pc: int, it_state: int = 0) -> int:
    """XPSR's IT bits in front of the instruction at pc."""
    return next((it for at, _, _, _, it in conditions(code, address, it_state) if at == pc), 0)


def is_float(first: int, second: int) -> bool:
    """An instruction of coprocessor 10 or 11, which is the FPU."""
    return first & 0xEC00 == 0xEC00 and second >> 8 & 15 in (10, 11)


def float_preconditions(code: bytes, address: int, it_state: int = 0) -> list[Precondition]:
    """The floating point instructions of a block up to the first that runs whatever the flags are."""
    found = []
    for at, first, second, conditional, _ in conditions(code, address, it_state):
        if is_float(first, second):
            found.append(Precondition(at, FLOATING_POINT, conditional=conditional))
            if not conditional:
                break
    return found


def stores_conditionally(code: bytes, address: int, it_state: int = 0) -> bool:
    """The block has a store in an IT block."""
    inside = {at for at, _, _, conditional, _ in conditions(code, address, it_state) if conditional}
    return bool(inside) and any(one.address in inside and one.kind in _STORES for one in decode(code, address))


def preconditions_of(
    code: bytes, address: int, traps: int, it_state: int = 0
) -> tuple[list[Precondition], list[Precondition]]:
    """(those to look at where the block begins, those to look at in front of their instruction). traps: CCR."""
    early: dict[tuple[object, ...], Precondition] = {}
    late: list[Precondition] = []
    affines: list[Affine] | None = None
    here = list(conditions(code, address, it_state))
    for index, (at, first, second, conditional, _) in enumerate(here):
        precondition = _precondition(at, first, second, conditional, traps)
        if precondition is None:
            continue
        if precondition.kind == TRAPPED_DIVISION:
            late.append(precondition)
            continue
        if affines is None:
            affines, followed = [_register(number) for number in range(16)], 0
        for _, one, two, when, _ in here[followed:index]:
            follow(affines, one, two, when)
        followed = index
        affine = _constant(precondition.offset)
        for number, factor in precondition.terms:
            affine = _add(affine, affines[number], 1, factor.bit_length() - 1)
        if affine is None:
            late.append(precondition)
            continue
        terms = tuple((number, factor) for number, factor in enumerate(affine[0]) if factor & precondition.mask)
        if len(terms) > MAX_TERMS:
            late.append(precondition)
        elif terms or affine[1] & precondition.mask:
            kind, mask = precondition.kind, precondition.mask
            early.setdefault((terms, affine[1], mask, kind), Precondition(at, kind, terms, affine[1], mask))
    return list(early.values()), late


def exact_preconditions(code: bytes, address: int, traps: int, it_state: int = 0) -> list[Precondition]:
    """Every precondition of the block in front of its own instruction."""
    return [
        precondition
        for at, first, second, conditional, _ in conditions(code, address, it_state)
        if (precondition := _precondition(at, first, second, conditional, traps)) is not None
    ]


# --- which instructions


def _precondition(at: int, first: int, second: int, conditional: bool, traps: int) -> Precondition | None:
    if first < WIDE:
        found = _narrow(first, traps)
    elif traps & DIV_0_TRP and first & 0xFFD0 == 0xFB90:
        return Precondition(at, TRAPPED_DIVISION, ((second & 15, 1),), conditional=conditional)
    else:
        found = _wide(first, second, traps)
    if found is None:
        return None
    base, index, offset, mask, kind = found
    terms = tuple(term for term in ((base, 1), index) if term is not None and term[0] not in (SP, PC))
    return Precondition(at, kind, terms, offset, mask, conditional) if terms or offset & mask else None


_Found = tuple[int, tuple[int, int] | None, int, int, int] | None  # base, (index register, factor), offset, mask, kind


def _narrow(op: int, traps: int) -> _Found:
    if op >> 12 == 0b1100:  # LDM, STM
        return op >> 8 & 7, None, 0, 3, ALWAYS_ALIGNED
    if not traps & UNALIGN_TRP:
        return None
    base = op >> 3 & 7
    if op >> 12 == 0b0101:
        mask = (3, 1, 0, 0, 3, 1, 0, 1)[op >> 9 & 7]
        return (base, (op >> 6 & 7, 1), 0, mask, TRAPPED_ALIGNED) if mask else None
    if op >> 12 == 0b0110:
        return base, None, (op >> 6 & 31) * 4, 3, TRAPPED_ALIGNED
    if op >> 12 == 0b1000:
        return base, None, (op >> 6 & 31) * 2, 1, TRAPPED_ALIGNED
    return None


def _wide(one: int, two: int, traps: int) -> _Found:
    base = one & 15
    if one & 0xFE40 == 0xE800:  # LDM, STM
        return base, None, 0, 3, ALWAYS_ALIGNED
    if one & 0xFE40 == 0xE840:
        if one & 0xFFE0 == 0xE8C0:  # TBB, TBH, and the byte and halfword forms of LDREX and STREX
            half = two & 0xF0 == 0x50
            return (base, None, 0, 1, ALWAYS_ALIGNED) if half else None
        return base, None, 0, 3, ALWAYS_ALIGNED  # LDRD, STRD, LDREX, STREX: the offset is a multiple of 4
    if one & 0xFE00 == 0xEC00 and two >> 8 & 15 in (10, 11) and one & 0xFFE0 != 0xEC40:  # VLDR, VLDM, VSTR, VSTM
        return base, None, 0, 3, ALWAYS_ALIGNED
    if one & 0xFE00 == 0xF800 and traps & UNALIGN_TRP:
        return _wide_single(one, two)
    return None


def _wide_single(one: int, two: int) -> _Found:
    base, mask = one & 15, (0, 1, 3, 0)[one >> 5 & 3]
    if not mask or (one & 0x10 and two >> 12 == PC and mask == 1):  # bytes; hints
        return None
    if base == PC:
        return PC, None, (two & 0xFFF) * (1 if one & 0x80 else -1), mask, TRAPPED_ALIGNED
    if one & 0x80:
        return base, None, two & 0xFFF, mask, TRAPPED_ALIGNED
    if two & 0x0800:
        before = two & 0x0400  # P: the offset counts before the access
        return base, None, (two & 0xFF) * (1 if two & 0x0200 else -1) if before else 0, mask, TRAPPED_ALIGNED
    return base, (two & 15, 1 << (two >> 4 & 3)), 0, mask, TRAPPED_ALIGNED


# --- what registers hold, modulo 4


def follow(affines: list[Affine], first: int, second: int, conditional: bool = False) -> None:
    """Bring `affines` behind one instruction. What is not followed becomes unknown; SP stays a multiple of 4."""
    before = list(affines)
    if first >= WIDE:
        _follow_wide(affines, first, second)
    else:
        _follow_narrow(affines, first)
    if conditional:
        affines[:] = [old if old == new else None for old, new in zip(before, affines, strict=True)]
    affines[SP] = affines[PC] = _constant(0)


def _follow_narrow(affines: list[Affine], op: int) -> None:
    low, middle, top5 = op & 7, op >> 3 & 7, op >> 11
    if top5 == 0b00000:  # LSL, and MOV by no bits
        affines[low] = _add(_constant(0), affines[middle], 1, op >> 6 & 31)
    elif top5 == 0b00011:
        other = _constant(op >> 6 & 7) if op & 0x0400 else affines[op >> 6 & 7]
        affines[low] = _add(affines[middle], other, -1 if op & 0x0200 else 1)
    elif op >> 13 == 0b001:
        number, value = op >> 8 & 7, _constant(op & 0xFF)
        if top5 != 0b00101:  # CMP
            affines[number] = value if top5 == 0b00100 else _add(affines[number], value, -1 if top5 & 1 else 1)
    elif op >> 10 == 0b010001:
        number = op & 7 | op >> 4 & 8
        if op & 0x0300 == 0x0200:
            affines[number] = affines[op >> 3 & 15]
        elif op & 0x0300 == 0x0000:
            affines[number] = _add(affines[number], affines[op >> 3 & 15])
    elif op >> 12 == 0b1010:  # ADR, ADD from SP
        affines[op >> 8 & 7] = _constant(0)
    elif op >> 12 in (0b1100, 0b1011) and (op & 0x0800 or op >> 12 == 0b1011):
        for number in range(8):  # LDM, POP; extensions and REV write a low register
            if (op >> number & 1 and (op >> 12 == 0b1100 or op & 0xFE00 == 0xBC00)) or (
                number == low and op & 0xFE00 != 0xBC00
            ):
                affines[number] = None
    elif top5 in (0b01001, 0b10011):  # LDR from PC or SP
        affines[op >> 8 & 7] = None
    elif top5 not in (0b10010, 0b11000):
        affines[low] = None  # shifts, logic, loads; what only compares or stores writes nothing


def _follow_wide(affines: list[Affine], one: int, two: int) -> None:
    destination, second = two >> 8 & 15, two >> 12
    if one & 0xFE40 == 0xE800:  # LDM, STM: written back in steps of 4
        if one & 0x10:
            for number in range(16):
                if two >> number & 1:
                    affines[number] = None
    elif one & 0xFE00 == 0xEA00:  # shifted register
        _follow_arithmetic(
            affines, one, two, affines[two & 15] if not two & 0x30 else None, (two >> 10 & 0x1C) | (two >> 6 & 3)
        )
    elif one & 0xFA00 == 0xF000 and not two & 0x8000:
        _follow_arithmetic(
            affines, one, two, _constant(expand_immediate((one & 0x400) << 1 | two >> 4 & 0x700 | two & 0xFF)), 0
        )
    elif one & 0xFA00 == 0xF200 and not two & 0x8000:
        _follow_plain(affines, one, two)
    elif one & 0xFE00 == 0xF800:
        _follow_single(affines, one, two)
    elif one & 0xFFE0 == 0xF3E0 and two & 0xFE == 8:  # MRS of a stack pointer
        affines[destination] = _constant(0)
    else:
        affines[destination] = affines[second] = None
        if one & 0xFFF0 == 0xEC50:  # VMOV to two registers
            affines[one & 15] = None
        elif one & 0xFFF0 == 0xE8C0:  # STREXB, STREXH
            affines[two & 15] = None


def _follow_arithmetic(affines: list[Affine], one: int, two: int, other: Affine, shift: int) -> None:
    destination, base, operation = two >> 8 & 15, one & 15, one >> 5 & 15
    if operation == 0b1000:
        affines[destination] = _add(affines[base], other, 1, shift)
    elif operation == 0b1101:
        affines[destination] = _add(affines[base], other, -1, shift)
    elif operation == 0b0010 and base == PC:  # MOV
        affines[destination] = _add(_constant(0), other, 1, shift)
    else:
        affines[destination] = None


def _follow_plain(affines: list[Affine], one: int, two: int) -> None:
    """ADDW, SUBW, ADR, MOVW, MOVT; bit fields are not followed."""
    destination, base, operation = two >> 8 & 15, one & 15, one >> 4 & 31
    value = (one & 0x400) << 1 | two >> 4 & 0x700 | two & 0xFF
    if operation in (0b00000, 0b01010):
        affines[destination] = _add(affines[base], _constant(value), -1 if operation else 1)
    elif operation == 0b00100:
        affines[destination] = _constant(value)
    elif operation != 0b01100:  # MOVT leaves the low half alone
        affines[destination] = None


def _follow_single(affines: list[Affine], one: int, two: int) -> None:
    base = one & 15
    if not one & 0x80 and base != PC and two & 0x0900 == 0x0900:  # written back by 8 bits
        affines[base] = _add(affines[base], _constant(two & 0xFF), 1 if two & 0x0200 else -1)
    if one & 0x10:
        affines[two >> 12] = None
