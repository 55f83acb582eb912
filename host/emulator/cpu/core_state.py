"""All of the core's own state: registers, and what Unicorn's LDREX has marked for its STREX."""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import Any

from unicorn import arm_const as arm

from converter.checked import Items, Row, Rule, Whole
from host.emulator.cpu.exceptions import make_engine
from host.emulator.errors import BoardError

_NAMES = (
    *("XPSR", "CONTROL", "MSP", "PSP", "BASEPRI", "FAULTMASK", "PRIMASK", "FPSCR", "LR", "PC"),
    *(f"R{number}" for number in range(13)),
    *(f"S{number}" for number in range(32)),
)
_IDS = [getattr(arm, f"UC_ARM_REG_{name}") for name in _NAMES]
_XPSR, _CONTROL, _PC = (_NAMES.index(name) for name in ("XPSR", "CONTROL", "PC"))
_EXCEPTION, _UNPRIVILEGED = 0x1FF, 1  # in XPSR, in CONTROL
_LDREX = bytes.fromhex("51e8000f")  # LDREX R0, [R1]
REGISTERS: Rule = Items(Whole(0, 0xFFFFFFFF), len(_NAMES), len(_NAMES))
MONITOR: Rule = Row((Whole(0, (1 << 64) - 1), Whole(0, (1 << 64) - 1)))


def read_registers(uc: Any) -> list[int]:
    """Every register of the core."""
    xpsr = uc.reg_read(arm.UC_ARM_REG_XPSR)
    hidden = not xpsr & _EXCEPTION and uc.reg_read(arm.UC_ARM_REG_CONTROL) & _UNPRIVILEGED
    if hidden:  # an unprivileged thread cannot read the stacks and masks, a handler can
        uc.reg_write(arm.UC_ARM_REG_IPSR, 1)
    values = [int(uc.reg_read(one)) & 0xFFFFFFFF for one in _IDS]
    if hidden:
        uc.reg_write(arm.UC_ARM_REG_IPSR, 0)
        values[_XPSR] &= ~_EXCEPTION
    return values


def write_registers(uc: Any, values: list[int]) -> None:
    """Set them all, in an engine that has not run; raises BoardError for values that a core cannot hold."""
    xpsr, control = values[_XPSR], values[_CONTROL]
    uc.reg_write(arm.UC_ARM_REG_CONTROL, control & ~_UNPRIVILEGED)
    for index, (one, value) in enumerate(zip(_IDS, values, strict=True)):
        if index not in (_XPSR, _CONTROL):
            uc.reg_write(one, value | 1 if index == _PC else value)
    uc.reg_write(arm.UC_ARM_REG_XPSR, xpsr)
    uc.reg_write(arm.UC_ARM_REG_XPSR_NZCVQG, xpsr)  # the other name leaves GE as it was
    uc.reg_write(arm.UC_ARM_REG_CONTROL, control)
    wrong = [name for name, want, got in zip(_NAMES, values, read_registers(uc), strict=True) if want != got]
    if wrong:
        raise BoardError(f"the core cannot hold its {', '.join(wrong[:3])}")


@functools.cache
def _monitor_offset() -> int:
    """Where Unicorn keeps the address and the value of the last LDREX: nothing else of its state has a name for it."""
    uc, address, value = make_engine(), 0x20001234, 0x9E3779B9
    uc.mem_map(0x20001000, 0x1000)
    uc.mem_write(0x20001000, _LDREX)
    uc.mem_write(address, value.to_bytes(4, "little"))
    uc.reg_write(arm.UC_ARM_REG_R1, address)
    uc.emu_start(0x20001001, 0x20001004)
    return bytes(uc.context_save()).index(struct.pack("<QQ", address, value))


def read_monitor(uc: Any) -> tuple[int, ...]:
    """Address and value of the exclusive monitor."""
    return struct.unpack_from("<QQ", bytes(uc.context_save()), _monitor_offset())


def write_monitor(uc: Any, marked: list[int]) -> None:
    """Set it."""
    context = uc.context_save()
    where = ctypes.cast(context.context, ctypes.c_void_p).value or 0
    ctypes.memmove(where + _monitor_offset(), struct.pack("<QQ", *marked), 16)
    uc.context_restore(context)
