"""The Cortex-M4's exceptions on top of Unicorn, which has the instructions, the banked stacks and the mask registers but no NVIC.

Unicorn 2.1 raises interrupt 2 for SVC and 8 for a branch to EXC_RETURN (with bit 0 cleared), returns from emu_start after WFI and
WFE, and lets IPSR, XPSR and CONTROL be written; everything between is here.
"""

from __future__ import annotations

import struct
from typing import Any

from unicorn import Uc, UcError
from unicorn import arm_const as arm
from unicorn import unicorn_const as uc_const

from host.emulator.errors import BoardError
from host.emulator.nvic import HARD_FAULT, Nvic, exception_name

EXC_RETURN_MASK = 0xFFFFFF00
ENTRY_CYCLES, RETURN_CYCLES, TAIL_CYCLES = 12, 12, 6
_FRAME = [arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3, arm.UC_ARM_REG_R12, arm.UC_ARM_REG_LR]
_FLOATS = [arm.UC_ARM_REG_S0 + index for index in range(16)]
_FPCA, _SPSEL, _ALIGNED = 4, 2, 1 << 9
_SFPA = 8  # Unicorn's core thinks itself secure; the Cortex-M4 has no such bit


def make_engine() -> Any:
    """A Unicorn Cortex-M4."""
    uc = Uc(uc_const.UC_ARCH_ARM, uc_const.UC_MODE_THUMB | uc_const.UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
    return uc


class Cpu:
    """Exception entry and return. `vector(number)` reads the vector table in force."""

    def __init__(self, uc: Any, nvic: Nvic) -> None:
        self.uc, self.nvic = uc, nvic
        self.vtor = 0

    def vector(self, number: int) -> int:
        return int(struct.unpack("<I", self.uc.mem_read(self.vtor + 4 * number, 4))[0])

    @property
    def pc(self) -> int:
        return int(self.uc.reg_read(arm.UC_ARM_REG_PC))

    def reset(self) -> None:
        """Thread mode on the main stack, as after power-up."""
        uc = self.uc
        uc.reg_write(arm.UC_ARM_REG_IPSR, 0)
        uc.reg_write(arm.UC_ARM_REG_CONTROL, 0)
        for register in (arm.UC_ARM_REG_PRIMASK, arm.UC_ARM_REG_BASEPRI, arm.UC_ARM_REG_FAULTMASK, arm.UC_ARM_REG_FPSCR):
            uc.reg_write(register, 0)
        stack, entry = self.vector(0), self.vector(1)
        if not entry & 1:
            raise BoardError(f"the reset vector is {entry:#010x}, a Thumb address is odd; the image has no vector table at {self.vtor:#x}")
        uc.reg_write(arm.UC_ARM_REG_MSP, stack & ~3)
        uc.reg_write(arm.UC_ARM_REG_LR, 0xFFFFFFFF)
        uc.reg_write(arm.UC_ARM_REG_XPSR, 0x01000000)
        uc.reg_write(arm.UC_ARM_REG_PC, entry)

    def read_masks(self) -> tuple[int, int, int]:
        """BASEPRI, FAULTMASK, PRIMASK as the program left them, copied to the NVIC."""
        read = self.uc.reg_read
        nvic = self.nvic
        nvic.basepri = read(arm.UC_ARM_REG_BASEPRI) & 0xE0
        nvic.faultmask = read(arm.UC_ARM_REG_FAULTMASK) & 1
        nvic.primask = read(arm.UC_ARM_REG_PRIMASK) & 1
        return read(arm.UC_ARM_REG_BASEPRI), nvic.faultmask, nvic.primask

    def in_it_block(self) -> bool:
        return bool(self.uc.reg_read(arm.UC_ARM_REG_XPSR) & 0x0600FC00)

    def enter(self, number: int, return_address: int) -> None:
        """Stack the frame, switch to handler mode on the main stack, go to the vector."""
        uc = self.uc
        control = uc.reg_read(arm.UC_ARM_REG_CONTROL)
        thread = not self.nvic.active
        floats = bool(control & _FPCA)
        sp = uc.reg_read(arm.UC_ARM_REG_SP)
        size = 0x68 if floats else 0x20
        padding = sp & 4
        frame = (sp - size) & ~7
        xpsr = uc.reg_read(arm.UC_ARM_REG_XPSR) & ~_ALIGNED | (_ALIGNED if padding else 0)
        words = [uc.reg_read(register) & 0xFFFFFFFF for register in _FRAME] + [return_address & ~1, xpsr]
        if floats:
            words += [uc.reg_read(register) for register in _FLOATS] + [uc.reg_read(arm.UC_ARM_REG_FPSCR), 0]
        self._push(frame, words, number)
        on_psp = thread and bool(control & _SPSEL)
        code = (0xFFFFFFE1 if floats else 0xFFFFFFF1) | (0x8 if thread else 0) | (0x4 if on_psp else 0)
        uc.reg_write(arm.UC_ARM_REG_SP, frame)
        uc.reg_write(arm.UC_ARM_REG_CONTROL, control & ~(_FPCA | _SPSEL | _SFPA))
        uc.reg_write(arm.UC_ARM_REG_XPSR_NZCVQG, xpsr & 0xF8000000 | xpsr & 0x000F0000 | 0x01000000 | number)
        uc.reg_write(arm.UC_ARM_REG_LR, code)
        self.nvic.enter(number)
        target = self.vector(number)
        if not target & 1 or target == 0xFFFFFFFF:
            raise BoardError(f"{exception_name(number)} has no handler: its vector is {target:#010x}")
        uc.reg_write(arm.UC_ARM_REG_PC, target)

    def _push(self, frame: int, words: list[int], number: int) -> None:
        try:
            self.uc.mem_write(frame, struct.pack(f"<{len(words)}I", *words))
        except UcError:
            raise BoardError(f"stack overflow: the frame of {exception_name(number)} would lie at {frame:#010x}, outside RAM") from None

    def leave(self, code: int) -> None:
        """Return from the running exception by the EXC_RETURN value `code`."""
        uc, nvic = self.uc, self.nvic
        number = uc.reg_read(arm.UC_ARM_REG_IPSR) & 0x1FF
        if not nvic.leave(number):
            raise BoardError(f"EXC_RETURN {code:#010x} outside an exception handler")
        if number != HARD_FAULT and number != 2:
            uc.reg_write(arm.UC_ARM_REG_FAULTMASK, 0)
        to_thread, from_psp, floats = bool(code & 8), bool(code & 4), not code & 0x10
        if to_thread == bool(nvic.active) or code & 0xFFFFFFE0 != 0xFFFFFFE0 or (from_psp and not to_thread):
            raise BoardError(f"EXC_RETURN {code:#010x} does not fit: {len(nvic.active)} exceptions are still active")
        frame = uc.reg_read(arm.UC_ARM_REG_PSP if from_psp else arm.UC_ARM_REG_MSP)
        count = 26 if floats else 8
        words = struct.unpack(f"<{count}I", uc.mem_read(frame, 4 * count))
        xpsr = words[7]
        after = frame + 4 * count + (4 if xpsr & _ALIGNED else 0)
        uc.reg_write(arm.UC_ARM_REG_MSP if not from_psp else arm.UC_ARM_REG_PSP, after)
        number_after = nvic.active[-1] if nvic.active else 0
        uc.reg_write(arm.UC_ARM_REG_XPSR_NZCVQG, xpsr & 0xFF0FFC00 | 0x01000000 | number_after)
        privilege = uc.reg_read(arm.UC_ARM_REG_CONTROL) & 1
        uc.reg_write(arm.UC_ARM_REG_CONTROL, privilege | (_SPSEL if from_psp else 0) | (_FPCA if floats else 0))
        for register, value in zip(_FRAME, words):
            uc.reg_write(register, value)
        if floats:
            for register, value in zip(_FLOATS, words[8:24]):
                uc.reg_write(register, value)
            uc.reg_write(arm.UC_ARM_REG_FPSCR, words[24])
        uc.reg_write(arm.UC_ARM_REG_PC, words[6] | 1)
