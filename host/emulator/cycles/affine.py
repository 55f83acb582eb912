"""What registers hold inside a basic block, as sums of what they held where it began: modulo 4 for alignment
(preconditions.py), modulo 2**32 for addresses (accesses.py). What is not followed becomes unknown."""

from __future__ import annotations

import functools

from host.emulator.cycles.thumb import PC, SP, WIDE, expand_immediate

ALIGNMENT, ADDRESS = 4, 1 << 32  # the modulus; by ALIGNMENT, SP and PC are multiples of 4 and so constants

# Factors of r0..r15 as the block found them and a constant; None: not known
Affine = tuple[tuple[int, ...], int] | None


@functools.cache
def register(number: int, modulus: int) -> Affine:
    """What a register holds when the block begins; nobody asks for PC."""
    known = modulus == ALIGNMENT and number == SP
    return tuple(int(index == number and not known) for index in range(16)), 0


_NO_FACTORS = (0,) * 16


def constant(value: int, modulus: int) -> Affine:
    """A known value."""
    return _NO_FACTORS, value % modulus


def add(one: Affine, other: Affine, modulus: int, sign: int = 1, shift: int = 0) -> Affine:
    """one + sign * (other << shift)."""
    if (1 << shift) % modulus == 0:
        other = constant(0, modulus)
    if one is None or other is None:
        return None
    factor = sign << shift
    offset = (one[1] + factor * other[1]) % modulus
    if other[0] is _NO_FACTORS:
        return one[0], offset
    return tuple((a + factor * b) % modulus for a, b in zip(one[0], other[0], strict=True)), offset


class Registers:
    """r0 to r15 as affine sums, brought behind one instruction after the other."""

    def __init__(self, modulus: int) -> None:
        self.modulus = modulus
        self.values: list[Affine] = [register(number, modulus) for number in range(16)]

    def __getitem__(self, number: int) -> Affine:
        return self.values[number]

    def _constant(self, value: int) -> Affine:
        return constant(value, self.modulus)

    def _sum(self, one: Affine, other: Affine, sign: int = 1, shift: int = 0) -> Affine:
        return add(one, other, self.modulus, sign, shift)

    def _move(self, number: int, by: int) -> None:
        """A register goes up or down by so many bytes."""
        self.values[number] = self._sum(self.values[number], self._constant(by))

    def follow(self, at: int, first: int, second: int, conditional: bool = False) -> None:
        """Bring the registers behind the instruction at `at`."""
        before = list(self.values)
        if first >= WIDE:
            self._wide(at, first, second)
        else:
            self._narrow(at, first)
        if conditional:
            self.values = [old if old == new else None for old, new in zip(before, self.values, strict=True)]
        if self.modulus == ALIGNMENT:
            self.values[SP] = self.values[PC] = self._constant(0)
        else:
            self.values[PC] = None

    def _narrow(self, at: int, op: int) -> None:
        values, low, middle, top5 = self.values, op & 7, op >> 3 & 7, op >> 11
        if top5 == 0b00000:  # LSL, and MOV by no bits
            values[low] = self._sum(self._constant(0), values[middle], 1, op >> 6 & 31)
        elif top5 == 0b00011:
            other = self._constant(op >> 6 & 7) if op & 0x0400 else values[op >> 6 & 7]
            values[low] = self._sum(values[middle], other, -1 if op & 0x0200 else 1)
        elif op >> 13 == 0b001:
            number, value = op >> 8 & 7, self._constant(op & 0xFF)
            if top5 != 0b00101:  # CMP
                values[number] = value if top5 == 0b00100 else self._sum(values[number], value, -1 if top5 & 1 else 1)
        elif op >> 10 == 0b010001:
            number = op & 7 | op >> 4 & 8
            if op & 0x0300 == 0x0200:
                values[number] = values[op >> 3 & 15]
            elif op & 0x0300 == 0x0000:
                values[number] = self._sum(values[number], values[op >> 3 & 15])
        elif op >> 12 == 0b1010:  # ADR, ADD from SP
            base = values[SP] if op & 0x0800 else self._constant((at + 4) & ~3)
            values[op >> 8 & 7] = self._sum(base, self._constant(4 * (op & 0xFF)))
        elif op & 0xFF00 == 0xB000:  # ADD and SUB to SP
            self._move(SP, 4 * (op & 0x7F) * (-1 if op & 0x80 else 1))
        elif op & 0xF600 == 0xB400:  # PUSH, POP
            self._narrow_stack(op)
        elif op >> 12 == 0b1100:
            self._multiple(op >> 8 & 7, op & 0xFF, bool(op & 0x0800), down=False)
        elif op >> 12 == 0b1011 and op & 0xF500 != 0xB100 and op & 0xFF00 not in (0xBF00, 0xBE00):
            values[low] = None  # extensions and REV write a low register
        elif top5 in (0b01001, 0b10011):  # LDR from PC or SP
            values[op >> 8 & 7] = None
        elif top5 not in (0b10010, 0b11000) and op >> 12 not in (0b1011, 0b1101, 0b1110):
            values[low] = None  # shifts, logic, loads; what only compares or stores writes nothing

    def _narrow_stack(self, op: int) -> None:
        pops = bool(op & 0x0800)
        self._multiple(SP, op & 0xFF, pops, down=not pops, more=op >> 8 & 1)

    def _multiple(self, base: int, mask: int, loads: bool, down: bool, more: int = 0) -> None:
        """LDM, STM with their base written back, unless it is loaded; more: LR or PC beside the mask."""
        self._move(base, 4 * (mask.bit_count() + more) * (-1 if down else 1))
        if loads:
            for number in range(16):
                if mask >> number & 1:
                    self.values[number] = None

    def _wide(self, at: int, one: int, two: int) -> None:
        values, destination, second, base = self.values, two >> 8 & 15, two >> 12, one & 15
        if one & 0xFE40 == 0xE800:  # LDM, STM
            if one & 0x20:
                self._multiple(base, two, bool(one & 0x10), down=bool(one & 0x0100))
            elif one & 0x10:
                for number in range(16):
                    if two >> number & 1:
                        values[number] = None
        elif one & 0xFE40 == 0xE840:
            self._dual_or_exclusive(one, two)
        elif one & 0xFE00 == 0xEA00:  # shifted register
            other = values[two & 15] if not two & 0x30 else None
            self._arithmetic(one, two, other, (two >> 10 & 0x1C) | (two >> 6 & 3))
        elif one & 0xFA00 == 0xF000 and not two & 0x8000:
            immediate = (one & 0x400) << 1 | two >> 4 & 0x700 | two & 0xFF
            self._arithmetic(one, two, self._constant(expand_immediate(immediate)), 0)
        elif one & 0xFA00 == 0xF200 and not two & 0x8000:
            self._plain(at, one, two)
        elif one & 0xFE00 == 0xF800:
            self._single(one, two)
        elif one & 0xFFE0 == 0xF3E0 and two & 0xFE == 8:  # MRS of a stack pointer
            values[destination] = self._constant(0) if self.modulus == ALIGNMENT else None
        elif one & 0xFE00 == 0xEC00 and two >> 8 & 15 in (10, 11) and one & 0xFFE0 != 0xEC40:
            if one & 0x20:  # VLDM, VSTM written back
                self._move(base, 4 * (two & 0xFF) * (1 if one & 0x80 else -1))
        elif one & 0xFFE0 == 0xF380:  # MSR: a stack pointer, or which of them is SP
            values[SP] = None
        else:
            values[destination] = values[second] = None
            if one & 0xFFF0 == 0xEC50:  # VMOV to two registers
                values[base] = None

    def _dual_or_exclusive(self, one: int, two: int) -> None:
        values, base, destination, second = self.values, one & 15, two >> 8 & 15, two >> 12
        if one & 0x0120:  # LDRD, STRD
            if one & 0x20:
                self._move(base, 4 * (two & 0xFF) * (1 if one & 0x80 else -1))
            if one & 0x10:
                values[destination] = values[second] = None
            return
        values[destination] = values[second] = None
        if one & 0xFFF0 == 0xE8C0:  # STREXB, STREXH
            values[two & 15] = None

    def _arithmetic(self, one: int, two: int, other: Affine, shift: int) -> None:
        destination, base, operation = two >> 8 & 15, one & 15, one >> 5 & 15
        if operation == 0b1000:
            self.values[destination] = self._sum(self.values[base], other, 1, shift)
        elif operation == 0b1101:
            self.values[destination] = self._sum(self.values[base], other, -1, shift)
        elif operation == 0b0010 and base == PC:  # MOV
            self.values[destination] = self._sum(self._constant(0), other, 1, shift)
        else:
            self.values[destination] = None

    def _plain(self, at: int, one: int, two: int) -> None:
        """ADDW, SUBW, ADR, MOVW, MOVT; bit fields are not followed."""
        destination, base, operation = two >> 8 & 15, one & 15, one >> 4 & 31
        value = (one & 0x400) << 1 | two >> 4 & 0x700 | two & 0xFF
        if operation in (0b00000, 0b01010):
            start = self._constant((at + 4) & ~3) if base == PC else self.values[base]
            self.values[destination] = self._sum(start, self._constant(value), -1 if operation else 1)
        elif operation == 0b00100:
            self.values[destination] = self._constant((one & 15) << 12 | value)
        elif operation == 0b01100 and self.values[destination] is not None:
            self._move_top(destination, (one & 15) << 12 | value)
        elif operation != 0b01100:
            self.values[destination] = None

    def _move_top(self, destination: int, value: int) -> None:
        """MOVT leaves the low half alone."""
        held = self.values[destination]
        if self.modulus != ALIGNMENT and held is not None:
            known = not any(held[0])
            self.values[destination] = self._constant(value << 16 | held[1] & 0xFFFF) if known else None

    def _single(self, one: int, two: int) -> None:
        base = one & 15
        if not one & 0x80 and base != PC and two & 0x0900 == 0x0900:  # written back by 8 bits
            self._move(base, (two & 0xFF) * (1 if two & 0x0200 else -1))
        if one & 0x10:
            self.values[two >> 12] = None
