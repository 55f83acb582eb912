"""The Cortex-M4's exceptions on top of Unicorn, which has the instructions, the banked stacks and the mask registers but no NVIC.

Unicorn 2.1 raises interrupt 2 for SVC and 8 for a branch to EXC_RETURN (with bit 0 cleared), returns from emu_start after WFI and
WFE, and lets IPSR, XPSR and CONTROL be written; everything between is here.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

from unicorn import arm_const as arm
from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import Uc

from host.emulator.elf import FLASH_BYTES, RAM_BYTES, RAM_START
from host.emulator.errors import BoardError
from host.emulator.nvic import HARD_FAULT, NMI, Nvic, exception_name
from host.emulator.registers import RegisterGroup

ENTRY_CYCLES, RETURN_CYCLES, TAIL_CYCLES = 12, 12, 6
_FRAME = [arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3, arm.UC_ARM_REG_R12, arm.UC_ARM_REG_LR]
_FLOATS = [arm.UC_ARM_REG_S0 + index for index in range(16)]
_UNSTACK = [arm.UC_ARM_REG_XPSR_NZCVQG, arm.UC_ARM_REG_CONTROL, *_FRAME, arm.UC_ARM_REG_PC]
_FPCA, _SPSEL, _ALIGNED = 4, 2, 1 << 9
_SFPA = 8  # Unicorn thinks itself a secure ARMv8-M core: without this bit it would reset FPSCR at the next instruction


def make_engine() -> Any:
    """A Unicorn Cortex-M4."""
    uc: Any = Uc(uc_const.UC_ARCH_ARM, uc_const.UC_MODE_THUMB | uc_const.UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
    return uc


class Memory:
    """Flash and RAM shared with Unicorn, for frames, vectors and DMA; `flash` and `ram` are the bytes themselves."""

    def __init__(self, uc: Any) -> None:
        self._flash, self._ram = (ctypes.c_ubyte * FLASH_BYTES)(), (ctypes.c_ubyte * RAM_BYTES)()
        self.flash, self.ram = memoryview(self._flash).cast("B"), memoryview(self._ram).cast("B")
        self.flash[:] = b"\xff" * FLASH_BYTES
        uc.mem_map_ptr(0, FLASH_BYTES, uc_const.UC_PROT_READ | uc_const.UC_PROT_EXEC, ctypes.addressof(self._flash))
        uc.mem_map_ptr(RAM_START, RAM_BYTES, uc_const.UC_PROT_ALL, ctypes.addressof(self._ram))

    def span(self, address: int, size: int) -> memoryview | None:
        """The bytes at an address, None outside flash and RAM."""
        if address >= RAM_START and address + size <= RAM_START + RAM_BYTES:
            return self.ram[address - RAM_START:address - RAM_START + size]
        return self.flash[address:address + size] if address >= 0 and address + size <= FLASH_BYTES else None

    def word(self, address: int) -> int:
        found = self.load(address, 1)
        return found[0] if found else 0

    def load(self, address: int, count: int) -> tuple[int, ...] | None:
        found = self.span(address, 4 * count)
        return None if found is None else struct.unpack(f"<{count}I", found)

    def store(self, address: int, words: Sequence[int]) -> bool:
        """Write words to RAM; False where there is none."""
        found = self.span(address, 4 * len(words)) if address >= RAM_START else None
        if found is not None:
            found[:] = struct.pack(f"<{len(words)}I", *words)
        return found is not None


class Cpu:
    """Exception entry and return. `memory` holds flash and RAM as the program sees them."""

    def __init__(self, uc: Any, nvic: Nvic, memory: Memory) -> None:
        self.uc, self.nvic, self.memory = uc, nvic, memory
        self.vtor = 0
        self._pc = RegisterGroup(uc, [arm.UC_ARM_REG_PC])
        self._masks = RegisterGroup(uc, [arm.UC_ARM_REG_BASEPRI, arm.UC_ARM_REG_FAULTMASK, arm.UC_ARM_REG_PRIMASK])
        self._before_entry = RegisterGroup(uc, [arm.UC_ARM_REG_CONTROL, arm.UC_ARM_REG_SP, arm.UC_ARM_REG_XPSR, *_FRAME])
        self._after_entry = RegisterGroup(
            uc, [arm.UC_ARM_REG_SP, arm.UC_ARM_REG_CONTROL, arm.UC_ARM_REG_XPSR_NZCVQG, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC])
        self._before_return = RegisterGroup(uc, [arm.UC_ARM_REG_IPSR, arm.UC_ARM_REG_CONTROL, arm.UC_ARM_REG_MSP, arm.UC_ARM_REG_PSP])
        self._unstack_msp = RegisterGroup(uc, [arm.UC_ARM_REG_MSP, *_UNSTACK])
        self._unstack_psp = RegisterGroup(uc, [arm.UC_ARM_REG_PSP, *_UNSTACK])
        self._floats = RegisterGroup(uc, [*_FLOATS, arm.UC_ARM_REG_FPSCR])

    def vector(self, number: int) -> int:
        return self.memory.word(self.vtor + 4 * number)

    @property
    def pc(self) -> int:
        return self._pc.read()[0]

    def reset(self) -> None:
        """Thread mode on the main stack, as after power-up."""
        uc = self.uc
        for register in (arm.UC_ARM_REG_IPSR, arm.UC_ARM_REG_CONTROL, arm.UC_ARM_REG_FPSCR):
            uc.reg_write(register, 0)
        self._masks.write([0, 0, 0])
        stack, entry = self.vector(0), self.vector(1)
        if not entry & 1:
            raise BoardError(f"the reset vector is {entry:#010x}, a Thumb address is odd; the image has no vector table at {self.vtor:#x}")
        uc.reg_write(arm.UC_ARM_REG_MSP, stack & ~3)
        uc.reg_write(arm.UC_ARM_REG_LR, 0xFFFFFFFF)
        uc.reg_write(arm.UC_ARM_REG_XPSR, 0x01000000)
        uc.reg_write(arm.UC_ARM_REG_PC, entry)

    def read_masks(self) -> list[int]:
        """BASEPRI, FAULTMASK, PRIMASK as the program left them, copied to the NVIC."""
        found = self._masks.read()
        nvic = self.nvic
        nvic.basepri, nvic.faultmask, nvic.primask = found[0] & 0xE0, found[1] & 1, found[2] & 1
        return found

    def in_it_block(self) -> bool:
        return bool(self.uc.reg_read(arm.UC_ARM_REG_XPSR) & 0x0600FC00)

    def enter(self, number: int, return_address: int) -> None:
        """Stack the frame, switch to handler mode on the main stack, go to the vector."""
        control, sp, xpsr, *frame_registers = self._before_entry.read()
        thread = not self.nvic.active
        floats = control & _FPCA
        frame = (sp - (0x68 if floats else 0x20)) & ~7
        xpsr = xpsr & ~_ALIGNED | (_ALIGNED if sp & 4 else 0)
        words = [*frame_registers, return_address & ~1, xpsr]
        if floats:
            words += [*self._floats.read(), 0]
        if not self.memory.store(frame, words):
            raise BoardError(f"stack overflow: the frame of {exception_name(number)} would lie at {frame:#010x}, outside RAM")
        code = (0xFFFFFFE1 if floats else 0xFFFFFFF1) | (0x8 if thread else 0) | (0x4 if thread and control & _SPSEL else 0)
        self.nvic.enter(number)
        target = self.vector(number)
        if not target & 1 or target == 0xFFFFFFFF:
            raise BoardError(f"{exception_name(number)} has no handler: its vector is {target:#010x}")
        handler_xpsr = xpsr & 0xF80F0000 | 0x01000000 | number
        self._after_entry.write([frame, control & ~(_FPCA | _SPSEL | _SFPA), handler_xpsr, code, target])

    def leave(self, code: int) -> None:
        """Return from the running exception by the EXC_RETURN value `code`."""
        nvic = self.nvic
        number, control, msp, psp = self._before_return.read()
        number &= 0x1FF
        if not nvic.leave(number):
            raise BoardError(f"EXC_RETURN {code:#010x} outside an exception handler")
        to_thread, from_psp, floats = bool(code & 8), bool(code & 4), not code & 0x10
        if to_thread == bool(nvic.active) or code & 0xFFFFFFE0 != 0xFFFFFFE0 or (from_psp and not to_thread):
            raise BoardError(f"EXC_RETURN {code:#010x} does not fit: {len(nvic.active)} exceptions are still active")
        frame = psp if from_psp else msp
        count = 26 if floats else 8
        words = self.memory.load(frame, count)
        if words is None:
            raise BoardError(f"{exception_name(number)} returns to a frame at {frame:#010x}, outside RAM")
        if number not in (NMI, HARD_FAULT):
            self.uc.reg_write(arm.UC_ARM_REG_FAULTMASK, 0)
        after = frame + 4 * count + (4 if words[7] & _ALIGNED else 0)
        xpsr = words[7] & 0xFF0FFC00 | 0x01000000 | (nvic.active[-1] if nvic.active else 0)
        control = control & 1 | (_SPSEL if from_psp else 0) | (_FPCA | _SFPA if floats else 0)
        (self._unstack_psp if from_psp else self._unstack_msp).write([after, xpsr, control, *words[:6], words[6] | 1])
        if floats:
            self._floats.write(words[8:25])
