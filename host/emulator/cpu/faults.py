"""What went wrong, as the core's fault registers have it and as one sentence: what, where by symbol, who called, the
last instructions."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, Cs
from unicorn import unicorn_const as uc_const
from unicorn.arm_const import UC_ARM_REG_XPSR
from unicorn.unicorn_py3 import UcError

from host.emulator.cpu.nvic import BUS_FAULT, HARD_FAULT, MEM_MANAGE, SVCALL, USAGE_FAULT, exception_name
from host.emulator.cpu.system_space import BFAR, CFSR, HFSR
from host.emulator.cycles.guards import is_float
from host.emulator.errors import BoardError, BoardFault
from host.emulator.image.elf import RAM_BYTES, RAM_START
from host.emulator.schedule import CLOCK_HZ

if TYPE_CHECKING:
    from host.emulator.board import VirtualBoard

_MAX_CALLERS, _MAX_SHOWN = 8, 5
_DISASSEMBLER = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)
_HANDLER_SECONDS = 2.0  # a fault handler that has not come back by then has given up


# Bits of CFSR (ARMv7-M manual B3.2.15) and HFSR
IACCVIOL, IBUSERR, PRECISERR, BFARVALID = 1 << 0, 1 << 8, 1 << 9, 1 << 15
UNDEFINSTR, INVSTATE, INVPC, NOCP, UNALIGNED, DIVBYZERO = 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 24, 1 << 25
FORCED, DEBUGEVT = 1 << 30, 1 << 31
_NO_CODE = ((0x40000000, 0x60000000), (0xA0000000, 1 << 32))  # nothing can be executed here, whatever lies there (B3.1)


@dataclass(frozen=True)
class Trouble:
    """A fault that an instruction has met: what to tell people, the exception, its bits in CFSR (HFSR for a HardFault),
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


def trouble_of(board: VirtualBoard, error: UcError, address: int) -> Trouble | None:
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


def guarded_trouble(code: bytes, fpu_on: bool) -> Trouble:
    """Why the guarded instruction with these four bytes must not run."""
    first, second = struct.unpack("<HH", code)
    if not fpu_on and is_float(first, second):
        return FLOAT_OFF
    return DIVISION_BY_ZERO if first & 0xFFD0 == 0xFB90 else UNALIGNED_ACCESS


def invalid_return(what: str, in_handler: bool) -> Trouble:
    """A return by an EXC_RETURN that does not fit; outside a handler it is a jump to where nothing can be executed."""
    return Trouble(what, USAGE_FAULT, INVPC) if in_handler else Trouble(what, MEM_MANAGE, IACCVIOL)


def take_fault(board: VirtualBoard, trouble: Trouble, chained: int | None = None) -> None:
    """Enter the handler that a fault leads to; raises what went wrong first when there is none, or the core locks up.

    chained: EXC_RETURN of the return that failed; then no frame is stacked.
    """
    pc, nvic, registers = board.cpu.pc, board.nvic, board.chip.system.registers
    told = describe_fault(board, trouble.what)
    if board.trouble is None:
        board.trouble = told
        board.schedule.after(round(_HANDLER_SECONDS * CLOCK_HZ), lambda: _give_up(board, told))
    if trouble is not SVC_MASKED:  # an SVC has been executed, other faults are met before their instruction
        it_state = board.blocks.cut(pc)
        if it_state:
            board.uc.reg_write(UC_ARM_REG_XPSR, board.register("xpsr") | it_state)
    board.cpu.read_masks()
    number = nvic.escalated(trouble.exception)
    if number is None:
        raise board.trouble
    registers[HFSR if trouble.exception == HARD_FAULT else CFSR] |= trouble.status
    registers[HFSR] |= FORCED if number != trouble.exception else 0
    if trouble.address is not None:
        registers[BFAR] = trouble.address
    board.fault_number = number
    try:
        if chained is None:
            board.enter(number, pc)
        else:
            board.begin(number, chained)
    except BoardError:
        raise board.trouble from None


def _give_up(board: VirtualBoard, told: BoardFault) -> None:
    """The time of a fault handler is over."""
    if board.trouble is told:
        raise told


def describe_fault(board: VirtualBoard, what: str) -> BoardFault:
    """The error to raise when the program cannot go on."""
    pc, sp = board.cpu.pc, board.register("sp")
    where = board.image.name_at(pc)
    inside = f" in the handler of {exception_name(board.nvic.active[-1])}" if board.nvic.active else ""
    if not RAM_START <= sp <= RAM_START + RAM_BYTES:
        what = f"stack overflow (the stack pointer is {sp:#010x}, outside RAM)"
    callers = call_stack(board)
    called = f", called by {' < '.join(callers)}" if callers else ""
    return BoardFault(
        f"{what} at {where} (pc {pc:#010x}){inside} after {board.seconds:.6f} s of board time{called}; "
        f"last instructions: {last_instructions(board)}"
    )


def call_stack(board: VirtualBoard) -> list[str]:
    """Callers, innermost first: LR, then words of the stack that follow a BL or BLX (a guess where frames keep old
    values)."""
    sp = board.register("sp")
    end = min(sp + 2048, RAM_START + RAM_BYTES)
    words = [board.register("lr")]
    if RAM_START <= sp < end:
        count = (end - (sp & ~3)) // 4
        words += struct.unpack(f"<{count}I", board.uc.mem_read(sp & ~3, 4 * count))
    names: list[str] = []
    for word in words:
        if word & 1 and _follows_call(board, word & ~1):
            name = board.image.name_at(word)
            if not names or names[-1] != name:
                names.append(name)
        if len(names) == _MAX_CALLERS:
            break
    return names


def _follows_call(board: VirtualBoard, address: int) -> bool:
    if board.image.symbol_at(address) is None:
        return False
    try:
        first, second = struct.unpack("<HH", board.uc.mem_read(address - 4, 4))
    except UcError:
        return False
    return bool((first & 0xF800 == 0xF000 and second & 0xD000 == 0xD000) or second & 0xFF87 == 0x4780)


def last_instructions(board: VirtualBoard) -> str:
    """The end of the block in execution up to the instruction at PC, disassembled."""
    pc = board.cpu.pc
    current = board.counter.current()
    start = current[0] if current is not None and current[0] <= pc <= current[0] + current[1] else pc
    try:
        data = bytes(board.uc.mem_read(start, pc - start + 4))
    except UcError:
        return "none, the program counter is outside memory"
    found = [one for one in _DISASSEMBLER.disasm(data, start) if one.address <= pc]
    if not found or found[-1].address != pc:
        return (
            f"{' '.join(f'{half:04x}' for half in struct.unpack(f'<{len(data) // 2}H', data[: len(data) & ~1])[-8:])} "
            f"(no instruction)"
        )
    return "; ".join(f"{one.mnemonic} {one.op_str}".strip() for one in found[-_MAX_SHOWN:])
