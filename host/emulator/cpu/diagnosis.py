"""Why a program cannot go on, in one sentence: what, where by symbol, who called, the last instructions."""

from __future__ import annotations

import struct

from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, Cs
from unicorn.unicorn_py3 import UcError

from host.emulator.cpu.exceptions import Cpu
from host.emulator.cpu.nvic import exception_name
from host.emulator.cycles.counting import Counter
from host.emulator.errors import BoardFault
from host.emulator.image.elf import RAM_BYTES, RAM_START, Image

_MAX_CALLERS, _MAX_SHOWN = 8, 5
_DISASSEMBLER = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)


def describe_fault(what: str, image: Image, cpu: Cpu, counter: Counter, seconds: float) -> BoardFault:
    """The error to raise when the program cannot go on; seconds: board time so far."""
    pc, sp = cpu.pc, cpu.register("sp")
    active = cpu.nvic.active
    inside = f" in the handler of {exception_name(active[-1])}" if active else ""
    if not RAM_START <= sp <= RAM_START + RAM_BYTES:
        what = f"stack overflow (the stack pointer is {sp:#010x}, outside RAM)"
    callers = call_stack(image, cpu)
    called = f", called by {' < '.join(callers)}" if callers else ""
    return BoardFault(
        f"{what} at {image.name_at(pc)} (pc {pc:#010x}){inside} after {seconds:.6f} s of board time{called}; "
        f"last instructions: {last_instructions(cpu, counter)}"
    )


def call_stack(image: Image, cpu: Cpu) -> list[str]:
    """Callers, innermost first: LR, then words of the stack that follow a BL or BLX (a guess where frames keep old
    values)."""
    sp = cpu.register("sp")
    end = min(sp + 2048, RAM_START + RAM_BYTES)
    words = [cpu.register("lr")]
    if RAM_START <= sp < end:
        count = (end - (sp & ~3)) // 4
        words += struct.unpack(f"<{count}I", cpu.uc.mem_read(sp & ~3, 4 * count))
    names: list[str] = []
    for word in words:
        if word & 1 and _follows_call(image, cpu, word & ~1):
            name = image.name_at(word)
            if not names or names[-1] != name:
                names.append(name)
        if len(names) == _MAX_CALLERS:
            break
    return names


def _follows_call(image: Image, cpu: Cpu, address: int) -> bool:
    if image.symbol_at(address) is None:
        return False
    try:
        first, second = struct.unpack("<HH", cpu.uc.mem_read(address - 4, 4))
    except UcError:
        return False
    return bool((first & 0xF800 == 0xF000 and second & 0xD000 == 0xD000) or second & 0xFF87 == 0x4780)


def last_instructions(cpu: Cpu, counter: Counter) -> str:
    """The end of the block in execution up to the instruction at PC, disassembled."""
    pc = cpu.pc
    current = counter.current()
    start = current[0] if current is not None and current[0] <= pc <= current[0] + current[1] else pc
    try:
        data = bytes(cpu.uc.mem_read(start, pc - start + 4))
    except UcError:
        return "none, the program counter is outside memory"
    found = [one for one in _DISASSEMBLER.disasm(data, start) if one.address <= pc]
    if not found or found[-1].address != pc:
        return (
            f"{' '.join(f'{half:04x}' for half in struct.unpack(f'<{len(data) // 2}H', data[: len(data) & ~1])[-8:])} "
            f"(no instruction)"
        )
    return "; ".join(f"{one.mnemonic} {one.op_str}".strip() for one in found[-_MAX_SHOWN:])
