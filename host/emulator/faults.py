"""A fault as one sentence: what, where by symbol, who called, the last instructions."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import UcError

from host.emulator.elf import RAM_BYTES, RAM_START
from host.emulator.errors import BoardFault
from host.emulator.nvic import exception_name

if TYPE_CHECKING:
    from host.emulator.board import VirtualBoard

_MAX_CALLERS = 8


_WORDS = {uc_const.UC_ERR_READ_UNMAPPED: "read of {}, where there is nothing,",
          uc_const.UC_ERR_WRITE_UNMAPPED: "write to {}, where there is nothing,",
          uc_const.UC_ERR_FETCH_UNMAPPED: "jump to {}, where there is no code,", uc_const.UC_ERR_WRITE_PROT: "write to {}, which is flash,",
          uc_const.UC_ERR_FETCH_PROT: "jump to {}, which holds no code,",
          uc_const.UC_ERR_INSN_INVALID: "undefined instruction or ARM state"}


def what_failed(error: UcError, address: int) -> str:
    """Unicorn's error in the words of the board."""
    return _WORDS.get(error.errno, str(error)).format(f"{address:#010x}")


def describe_fault(board: VirtualBoard, what: str) -> BoardFault:
    """The error to raise when the program cannot go on."""
    pc, sp = board.cpu.pc, board.register("sp")
    where = board.image.name_at(pc)
    inside = f" in the handler of {exception_name(board.nvic.active[-1])}" if board.nvic.active else ""
    if not RAM_START <= sp <= RAM_START + RAM_BYTES:
        what = f"stack overflow (the stack pointer is {sp:#010x}, outside RAM)"
    callers = call_stack(board)
    called = f", called by {' < '.join(callers)}" if callers else ""
    return BoardFault(f"{what} at {where} (pc {pc:#010x}){inside} after {board.seconds:.6f} s of board time{called}; "
                      f"last instructions: {last_instructions(board)}")


def call_stack(board: VirtualBoard) -> list[str]:
    """Callers, innermost first: LR, then words of the stack that follow a BL or BLX (a guess where frames keep old values)."""
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
    """The block in execution, as hexadecimal halfwords up to the faulting one."""
    pc = board.cpu.pc
    current = board.counter.current()
    start = current[0] if current else max(0, pc - 8)
    if not start <= pc <= start + 256:
        start = pc
    try:
        data = board.uc.mem_read(start, pc - start + 4)
    except UcError:
        return "none, the program counter is outside memory"
    return " ".join(f"{half:04x}" for half in struct.unpack(f"<{len(data) // 2}H", data)[-8:])
