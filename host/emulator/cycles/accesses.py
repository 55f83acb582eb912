"""Where the loads and stores of a basic block go: their addresses as sums of registers, known where the block begins or
where it ends.

What memory answers decides what an access costs (timing.py), and no hook looks at every access: it would halve the
board's speed. Accesses with the same registers in their sums form a group, whose first address stands for all. A
pointer that the block itself loads, from the stack as a rule, is read from memory where the block begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from host.emulator.cycles.affine import ADDRESS, Affine, Registers, add, constant, register
from host.emulator.cycles.preconditions import MAX_TERMS, conditions
from host.emulator.cycles.thumb import PC, SP, WIDE, decode

Operands = tuple[int, tuple[int, int] | None, int]  # base register, (index register, shift), offset


@dataclass(frozen=True)
class Group:
    """`words` transfers near the address that is the sum of (register, factor) and offset; late: of the registers where
    the block ends; beyond: at that address stands a word, to which this sum of its own is added, None: no."""

    terms: tuple[tuple[int, int], ...]
    offset: int
    words: int
    late: bool
    beyond: tuple[tuple[tuple[int, int], ...], int] | None = None


@dataclass(frozen=True)
class Accesses:
    """Of one execution of a block: transfers by the data buses, in all and by how much is known of where they go."""

    words: int
    literal_words: int  # from the code's own memory, relative to PC
    unknown_words: int
    groups: tuple[Group, ...]


def accesses_of(code: bytes, address: int, it_state: int = 0) -> Accesses:
    """The accesses of the block of Thumb instructions `code` at `address`. Instructions in IT blocks count as
    executed."""
    registers, written = Registers(ADDRESS), [0] * 16
    loaded: dict[int, _Sum] = {}  # register -> where the pointer in it was loaded from
    pending: list[tuple[int, Operands, int, _Where | None]] = []
    halves = list(conditions(code, address, it_state))
    instructions = decode(code, address, it_state)
    for index, (one, (at, first, second, conditional, _)) in enumerate(zip(instructions, halves, strict=True)):
        if one.words:
            made_of = operands(first, second)
            pending.append((index, made_of, one.words, _where(registers, loaded, made_of)))
        source = _early(_address(registers, operands(first, second))) if _loads_word(first, second) else None
        registers.follow(at, first, second, conditional)
        fresh = Registers(ADDRESS)
        fresh.follow(at, first, second, conditional)
        for number in range(15):
            now, same = fresh[number], register(number, ADDRESS)
            if now != same:
                written[number] = index + 1
                if now is None or same is None or now[0] != same[0]:  # not only moved on
                    loaded.pop(number, None)
        if source is not None and not conditional and one.writes:
            loaded[next(iter(one.writes))] = source
    literal = unknown = 0
    sums: dict[_Key, tuple[int, int]] = {}
    for index, made_of, words, where in pending:
        if made_of[0] == PC:
            literal += words
            continue
        found = where or _late(index, made_of, written)
        if found is None:
            unknown += words
            continue
        late, (terms, start), beyond = found
        key = late, terms, start if beyond else 0, beyond
        first_offset, so_far = sums.get(key, (start, 0))
        sums[key] = first_offset, so_far + words
    groups = tuple(
        Group(terms, offset, words, late, beyond) for (late, terms, _, beyond), (offset, words) in sums.items()
    )
    return Accesses(sum(one.words for one in instructions), literal, unknown, groups)


_Sum = tuple[tuple[tuple[int, int], ...], int]
_Where = tuple[bool, _Sum, _Sum | None]  # late, where, beyond: as in Group
_Key = tuple[bool, tuple[tuple[int, int], ...], int, _Sum | None]


def _where(registers: Registers, loaded: dict[int, _Sum], made_of: Operands) -> _Where | None:
    """An address by what is known where the block begins."""
    address = _early(_address(registers, made_of))
    if address is not None:
        return False, address, None
    base, shifted, _ = made_of
    if base in loaded and shifted is None:
        return False, loaded[base], ((), 0)
    if shifted is not None:
        for pointer, other, shift in ((base, shifted[0], shifted[1]), (shifted[0], base, 0)):
            if pointer in loaded and (pointer == base or shifted[1] == 0):
                more = _early(add(constant(0, ADDRESS), registers[other], ADDRESS, 1, shift))
                if more is not None and len(more[0]) <= 1:
                    return False, loaded[pointer], more
    return None


def _early(affine: Affine) -> _Sum | None:
    if affine is None:
        return None
    terms = tuple((number, factor) for number, factor in enumerate(affine[0]) if factor)
    return (terms, affine[1]) if len(terms) <= MAX_TERMS else None


def _late(index: int, made_of: Operands, written: list[int]) -> _Where | None:
    """An address by registers that nothing writes between its instruction and the end of the block."""
    base, shifted, offset = made_of
    registers = (base,) if shifted is None else (base, shifted[0])
    if any(written[number] > index for number in registers):
        return None
    terms = ((base, 1),) if shifted is None else ((base, 1), (shifted[0], 1 << shifted[1]))
    return True, (terms, offset), None


def _address(registers: Registers, made_of: Operands) -> Affine:
    base, shifted, offset = made_of
    total = add(registers[base] if base != PC else None, constant(offset, ADDRESS), ADDRESS)
    return total if shifted is None else add(total, registers[shifted[0]], ADDRESS, 1, shifted[1])


def _loads_word(first: int, second: int) -> bool:
    """LDR of 32 bits, but not from PC."""
    if first < WIDE:
        return first & 0xFE00 == 0x5800 or first & 0xF800 in (0x6800, 0x9800)
    return first & 0xFF70 == 0xF850 and first & 15 != PC


def operands(first: int, second: int) -> Operands:
    """What the lowest address of a load or store is made of (ARMv7-M manual A5.2, A5.3)."""
    return _narrow(first) if first < WIDE else _wide(first, second)


def _narrow(op: int) -> Operands:
    top4, middle = op >> 12, op >> 3 & 7
    if op >> 11 == 0b01001:
        return PC, None, 4 * (op & 0xFF)
    if top4 == 0b0101:
        return middle, (op >> 6 & 7, 0), 0
    if top4 == 0b0110:
        return middle, None, 4 * (op >> 6 & 31)
    if top4 == 0b0111:
        return middle, None, op >> 6 & 31
    if top4 == 0b1000:
        return middle, None, 2 * (op >> 6 & 31)
    if top4 == 0b1001:
        return SP, None, 4 * (op & 0xFF)
    if top4 == 0b1100:
        return op >> 8 & 7, None, 0
    return SP, None, 0 if op & 0x0800 else -4 * (op & 0x1FF).bit_count()  # POP, PUSH


def _wide(one: int, two: int) -> Operands:
    base = one & 15
    if one & 0xFE40 == 0xE800:  # LDM, STM
        return base, None, -4 * two.bit_count() if one & 0x0100 else 0
    if one & 0xFE40 == 0xE840:
        if one & 0xFFE0 == 0xE8C0:  # TBB, TBH: relative to PC or a register
            index = (two & 15, two >> 4 & 1) if two & 0xE0 == 0x00 and one & 0x10 else None
            return base, None if base == PC else index, 0
        offset = 4 * (two & 0xFF) * (1 if one & 0x80 else -1)
        return base, None, offset if one & 0x0100 or not one & 0x0120 else 0  # LDREX and STREX add theirs as well
    if one & 0xFE00 == 0xEC00:
        if one & 0x0120 == 0x0100:  # VLDR, VSTR
            return base, None, 4 * (two & 0xFF) * (1 if one & 0x80 else -1)
        return base, None, -4 * (two & 0xFF) if one & 0x0100 else 0
    if base == PC:
        return PC, None, (two & 0xFFF) * (1 if one & 0x80 else -1)
    if one & 0x80:
        return base, None, two & 0xFFF
    if two & 0x0800:
        return base, None, (two & 0xFF) * (1 if two & 0x0200 else -1) if two & 0x0400 else 0
    return base, (two & 15, two >> 4 & 3), 0
