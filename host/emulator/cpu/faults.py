"""Which fault an instruction has met, as the core's fault registers have it and in words."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import UcError

from host.emulator.cpu.nvic import BUS_FAULT, HARD_FAULT, MEM_MANAGE, SVCALL, USAGE_FAULT
from host.emulator.cycles.preconditions import is_float

# Bits of CFSR (ARMv7-M manual B3.2.15) and HFSR
IACCVIOL, IBUSERR, PRECISERR, BFARVALID = 1 << 0, 1 << 8, 1 << 9, 1 << 15
UNDEFINSTR, INVSTATE, INVPC, NOCP, UNALIGNED, DIVBYZERO = 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 24, 1 << 25
FORCED, DEBUGEVT = 1 << 30, 1 << 31
_NO_CODE = ((0x40000000, 0x60000000), (0xA0000000, 1 << 32))  # nothing can be executed here, whatever lies there (B3.1)


@dataclass(frozen=True)
class Trouble:
    """A fault that an instruction has met: in words, the exception, its bits in CFSR (HFSR for a HardFault),
    the address."""

    what: str
    exception: int
    status: int
    address: int | None = None


UNALIGNED_ACCESS = Trouble("unaligned access", USAGE_FAULT, UNALIGNED)
DIVISION_BY_ZERO = Trouble("division by zero, which CCR.DIV_0_TRP traps,", USAGE_FAULT, DIVBYZERO)
FLOAT_OFF = Trouble("floating point instruction while the FPU is off (CPACR)", USAGE_FAULT, NOCP)
ARM_STATE = Trouble("jump to an even address, which means ARM state,", USAGE_FAULT, INVSTATE)
BREAKPOINT = Trouble("BKPT instruction", HARD_FAULT, DEBUGEVT)
SVC_MASKED = Trouble("SVC while its priority is masked, which escalates to a HardFault,", SVCALL, 0)


def trouble_of(error: UcError, address: int) -> Trouble | None:
    """Unicorn's error in the words of the board; None for one that is no fault of the program."""
    kind, where = error.errno, f"{address:#010x}"
    if kind == uc_const.UC_ERR_READ_UNMAPPED:
        return Trouble(f"read of {where}, where there is nothing,", BUS_FAULT, PRECISERR | BFARVALID, address)
    if kind == uc_const.UC_ERR_WRITE_UNMAPPED:
        return Trouble(f"write to {where}, where there is nothing,", BUS_FAULT, PRECISERR | BFARVALID, address)
    if kind == uc_const.UC_ERR_WRITE_PROT:
        return Trouble(f"write to {where}, which is flash,", BUS_FAULT, PRECISERR | BFARVALID, address)
    if kind == uc_const.UC_ERR_FETCH_UNMAPPED:
        return jump_trouble(address)
    if kind == uc_const.UC_ERR_FETCH_PROT:
        return Trouble(f"jump to {where}, which holds no code,", MEM_MANAGE, IACCVIOL)
    if kind == uc_const.UC_ERR_INSN_INVALID:
        return Trouble("undefined instruction", USAGE_FAULT, UNDEFINSTR)
    return None


def jump_trouble(address: int) -> Trouble:
    """A jump to where nothing can be executed."""
    never = any(low <= address < high for low, high in _NO_CODE)
    return Trouble(
        f"jump to {address:#010x}, where there is no code,",
        MEM_MANAGE if never else BUS_FAULT,
        IACCVIOL if never else IBUSERR,
    )


def broken_precondition(code: bytes, fpu_on: bool) -> Trouble:
    """Why the watched instruction with these four bytes must not run."""
    first, second = struct.unpack("<HH", code)
    if not fpu_on and is_float(first, second):
        return FLOAT_OFF
    return DIVISION_BY_ZERO if first & 0xFFD0 == 0xFB90 else UNALIGNED_ACCESS


def invalid_return(what: str, in_handler: bool) -> Trouble:
    """A return by an EXC_RETURN that does not fit; outside a handler it is a jump to where nothing can be executed."""
    return Trouble(what, USAGE_FAULT, INVPC) if in_handler else Trouble(what, MEM_MANAGE, IACCVIOL)
