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

from host.emulator.cycles.affine import ALIGNMENT, Affine, Registers, add, constant
from host.emulator.cycles.thumb import PC, SP, WIDE, Kind, decode, halves_of

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
    registers: Registers | None = None
    here = list(conditions(code, address, it_state))
    for index, (at, first, second, conditional, _) in enumerate(here):
        precondition = _precondition(at, first, second, conditional, traps)
        if precondition is None:
            continue
        if precondition.kind == TRAPPED_DIVISION:
            late.append(precondition)
            continue
        if registers is None:
            registers, followed = Registers(ALIGNMENT), 0
        for before, one, two, when, _ in here[followed:index]:
            registers.follow(before, one, two, when)
        followed = index
        affine: Affine = constant(precondition.offset, ALIGNMENT)
        for number, factor in precondition.terms:
            affine = add(affine, registers[number], ALIGNMENT, 1, factor.bit_length() - 1)
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
