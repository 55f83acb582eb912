"""The Cortex-M4's exceptions on top of Unicorn, which has the instructions, the banked stacks and the mask registers
but no NVIC.

Unicorn 2.1 raises interrupt 2 for SVC and 8 for a branch to EXC_RETURN (with bit 0 cleared), returns from emu_start
after WFI and WFE, and lets IPSR, XPSR and CONTROL be written; everything between is here.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from unicorn import arm_const as arm
from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import Uc

from host.emulator.cpu.nvic import BUS_FAULT, DEBUG_MONITOR, HARD_FAULT, MEM_MANAGE, NMI, Nvic, exception_name
from host.emulator.cpu.registers import RegisterGroup
from host.emulator.cpu.system_space import ASPEN, FPCAR, FPCCR, LSPACT, LSPEN
from host.emulator.errors import BoardError
from host.emulator.image.elf import CODE_RAM, FLASH_BYTES, RAM_BYTES, RAM_START

ENTRY_CYCLES, RETURN_CYCLES, TAIL_CYCLES = 12, 12, 6
FLOAT_CYCLES = 17  # S0 to S15 and FPSCR, saved or loaded
_FRAME = [*range(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R0 + 4), arm.UC_ARM_REG_R12, arm.UC_ARM_REG_LR]
_FLOATS = [arm.UC_ARM_REG_S0 + index for index in range(16)]
_UNSTACK = [arm.UC_ARM_REG_XPSR_NZCVQG, arm.UC_ARM_REG_CONTROL, *_FRAME, arm.UC_ARM_REG_PC]
_FPCA, _SPSEL, _ALIGNED, _THUMB = 4, 2, 1 << 9, 1 << 24
IT_BITS = 0x0600FC00  # of XPSR
_SFPA = 8  # Unicorn thinks itself a secure ARMv8-M core: without this bit it would reset FPSCR at the next instruction


def make_engine() -> Any:
    """A Unicorn Cortex-M4."""
    uc: Any = Uc(uc_const.UC_ARCH_ARM, uc_const.UC_MODE_THUMB | uc_const.UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
    return uc


class InvalidReturn(Exception):
    """An EXC_RETURN that does not fit; `in_handler` tells whether a handler did it."""

    def __init__(self, what: str, in_handler: bool) -> None:
        super().__init__(what)
        self.in_handler = in_handler


class Memory:
    """Flash and RAM shared with Unicorn, for frames, vectors and DMA; `flash` and `ram` are the bytes themselves."""

    def __init__(self, uc: Any) -> None:
        self._uc = uc
        self._flash, self._ram = (ctypes.c_ubyte * FLASH_BYTES)(), (ctypes.c_ubyte * RAM_BYTES)()
        self.flash, self.ram = memoryview(self._flash).cast("B"), memoryview(self._ram).cast("B")
        self.flash[:] = b"\xff" * FLASH_BYTES
        uc.mem_map_ptr(0, FLASH_BYTES, uc_const.UC_PROT_READ | uc_const.UC_PROT_EXEC, ctypes.addressof(self._flash))
        self.ram_address = ctypes.addressof(self._ram)
        for start in (RAM_START, CODE_RAM):
            uc.mem_map_ptr(start, RAM_BYTES, uc_const.UC_PROT_ALL, self.ram_address)

    def map_constants(self, pages: Iterable[tuple[int, bytes]]) -> None:
        """What a program can only read: address, contents."""
        for address, data in pages:
            self._uc.mem_map(address, len(data), uc_const.UC_PROT_READ)
            self._uc.mem_write(address, data)

    def erase(self, address: int, size: int) -> None:
        """Flash becomes all ones."""
        self._uc.mem_write(address, b"\xff" * size)

    def span(self, address: int, size: int) -> memoryview | None:
        """The bytes at an address, None outside flash and RAM."""
        if address >= RAM_START and address + size <= RAM_START + RAM_BYTES:
            return self.ram[address - RAM_START : address - RAM_START + size]
        return self.flash[address : address + size] if address >= 0 and address + size <= FLASH_BYTES else None

    def word(self, address: int) -> int:
        """32 bits at an address; 0 outside flash and RAM."""
        found = self.load(address, 1)
        return found[0] if found else 0

    def load(self, address: int, count: int) -> tuple[int, ...] | None:
        """So many words from an address on; None outside flash and RAM."""
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

    def __init__(self, uc: Any, nvic: Nvic, memory: Memory, registers: dict[int, int]) -> None:
        self.uc, self.nvic, self.memory = uc, nvic, memory
        self.registers = registers  # those of the system space, FPCCR and FPCAR among them
        self.vtor = 0
        self._status = 0  # XPSR when it was read last
        masks = [arm.UC_ARM_REG_BASEPRI, arm.UC_ARM_REG_FAULTMASK, arm.UC_ARM_REG_PRIMASK]
        self._pc = RegisterGroup(uc, [arm.UC_ARM_REG_PC])
        self._masks = RegisterGroup(uc, masks)
        self._whereabouts = RegisterGroup(uc, [*masks, arm.UC_ARM_REG_PC, arm.UC_ARM_REG_XPSR])
        self._before_entry = RegisterGroup(
            uc, [arm.UC_ARM_REG_CONTROL, arm.UC_ARM_REG_SP, arm.UC_ARM_REG_XPSR, *_FRAME]
        )
        self._after_push = RegisterGroup(uc, [arm.UC_ARM_REG_SP, arm.UC_ARM_REG_CONTROL])
        self._after_entry = RegisterGroup(uc, [arm.UC_ARM_REG_XPSR_NZCVQG, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC])
        self._before_return = RegisterGroup(
            uc, [*masks, arm.UC_ARM_REG_XPSR, arm.UC_ARM_REG_CONTROL, arm.UC_ARM_REG_MSP, arm.UC_ARM_REG_PSP]
        )
        self.returned_to_thumb = True
        self._returning = (0, 0, 0)  # CONTROL, MSP and PSP at the end of a handler
        self._unstack_msp = RegisterGroup(uc, [arm.UC_ARM_REG_MSP, *_UNSTACK])
        self._unstack_psp = RegisterGroup(uc, [arm.UC_ARM_REG_PSP, *_UNSTACK])
        self._floats = RegisterGroup(uc, [*_FLOATS, arm.UC_ARM_REG_FPSCR])

    def vector(self, number: int) -> int:
        """The address of an exception's handler, bit 0 set for Thumb."""
        return self.memory.word(self.vtor + 4 * number)

    @property
    def pc(self) -> int:
        """The address of the next instruction."""
        return self._pc.read()[0]

    def register(self, name: str) -> int:
        """A core register such as "r0", "sp" or "s3"."""
        return int(self.uc.reg_read(getattr(arm, f"UC_ARM_REG_{name.upper()}"))) & 0xFFFFFFFF

    def reset(self) -> None:
        """Thread mode on the main stack, as after power-up."""
        uc = self.uc
        for register in (arm.UC_ARM_REG_IPSR, arm.UC_ARM_REG_CONTROL, arm.UC_ARM_REG_FPSCR):
            uc.reg_write(register, 0)
        self._masks.write([0, 0, 0])
        stack, entry = self.vector(0), self.vector(1)
        if not entry & 1:
            raise BoardError(
                f"the reset vector is {entry:#010x}, a Thumb address is odd; the image has no vector table at "
                f"{self.vtor:#x}"
            )
        uc.reg_write(arm.UC_ARM_REG_MSP, stack & ~3)
        uc.reg_write(arm.UC_ARM_REG_LR, 0xFFFFFFFF)
        uc.reg_write(arm.UC_ARM_REG_XPSR, 0x01000000)
        uc.reg_write(arm.UC_ARM_REG_PC, entry)

    def _mask(self, found: list[int]) -> None:
        nvic = self.nvic
        nvic.basepri, nvic.faultmask, nvic.primask = found[0] & 0xE0, found[1] & 1, found[2] & 1

    def read_masks(self) -> None:
        """BASEPRI, FAULTMASK, PRIMASK as the program left them, copied to the NVIC."""
        self._mask(self._masks.read())

    @property
    def thumb(self) -> bool:
        """Whether the core is in Thumb state, the only one it has."""
        return bool(self.uc.reg_read(arm.UC_ARM_REG_XPSR) & _THUMB)

    @property
    def it_state(self) -> int:
        """ITSTATE: what is left of the IT block here, 0 outside one."""
        status = self.uc.reg_read(arm.UC_ARM_REG_XPSR)
        return int(status >> 25 & 3 | status >> 8 & 0xFC)

    @property
    def passes(self) -> bool:
        """Whether the IT block, if there is one here, lets the next instruction run."""
        status, it_state = self.uc.reg_read(arm.UC_ARM_REG_XPSR), self.it_state
        condition = it_state >> 4 if it_state & 15 else 14
        n, z, c, v = (bool(status >> bit & 1) for bit in (31, 30, 29, 28))
        return condition >= 14 or (z, c, n, v, c and not z, n == v, n == v and not z)[condition >> 1] != bool(
            condition & 1
        )

    def look(self) -> tuple[list[int], int, bool]:
        """The masks (copied to the NVIC too), PC, and whether it stands in an IT block."""
        *masks, pc, status = self._whereabouts.read()
        self._mask(masks)
        return masks, pc, bool(status & IT_BITS)

    def push(self, return_address: int) -> int:
        """Stack the frame of what runs now and go to the main stack; the EXC_RETURN that comes back to it.

        With FPCCR.LSPEN the floating point registers only get their room; on_float() fills it when they are needed
        (B1.5.7).
        """
        control, sp, xpsr, *frame_registers = self._before_entry.read()
        self._status = xpsr
        thread = not self.nvic.active
        registers = self.registers
        floats = control & _FPCA and registers[FPCCR] & ASPEN
        frame = (sp - (0x68 if floats else 0x20)) & ~7
        xpsr = xpsr & ~_ALIGNED | (_ALIGNED if sp & 4 else 0)
        words = [*frame_registers, return_address & ~1, xpsr]
        if floats and not registers[FPCCR] & LSPEN:
            words += [*self._floats.read(), 0]
        if not self.memory.store(frame, words):
            raise BoardError(f"stack overflow: an exception's frame would lie at {frame:#010x}, outside RAM")
        if floats and registers[FPCCR] & LSPEN:
            registers[FPCAR] = frame + 0x20
            registers[FPCCR] = registers[FPCCR] & (ASPEN | LSPEN) | self._readiness(thread, control) | LSPACT
        self._after_push.write([frame, control & ~(_FPCA | _SPSEL | _SFPA)])
        return (
            (0xFFFFFFE1 if floats else 0xFFFFFFF1)
            | (0x8 if thread else 0)
            | (0x4 if thread and control & _SPSEL else 0)
        )

    def _readiness(self, thread: bool, control: int) -> int:
        """FPCCR's record of who was interrupted, and which faults could be taken if the late saving failed."""
        nvic, level = self.nvic, self.nvic.execution_priority()
        ready = {6: BUS_FAULT, 5: MEM_MANAGE, 8: DEBUG_MONITOR}
        bits = sum(
            1 << bit
            for bit, number in ready.items()
            if number in nvic.enabled and nvic.group(nvic.priority(number)) < level
        )
        return bits | (level > -1) << 4 | thread << 3 | (thread and control & 1) << 1

    def take(self, number: int, code: int) -> None:
        """Begin the handler of an exception whose frame lies on the stack; `code` is how it goes back."""
        self.nvic.enter(number)
        target = self.vector(number)
        if not target & 1 or target == 0xFFFFFFFF:
            raise BoardError(f"{exception_name(number)} has no handler: its vector is {target:#010x}")
        self._after_entry.write([self._status & 0xF80F0000 | 0x01000000 | number, code, target])

    @property
    def lazy(self) -> bool:
        """Floating point registers of an interrupted program are still in the core, not in their frame."""
        return bool(self.registers[FPCCR] & LSPACT)

    def save_floats(self) -> None:
        """Fill the room that push() left."""
        where = self.registers[FPCAR]
        if not self.memory.store(where, [*self._floats.read(), 0]):
            raise BoardError(f"the floating point registers cannot be saved at {where:#010x}, outside RAM")
        self.registers[FPCCR] &= ~LSPACT

    def end_handler(self, code: int) -> int:
        """The running exception ends by the EXC_RETURN value `code`; its number. Raises InvalidReturn when the value
        does not fit."""
        nvic = self.nvic
        *masks, self._status, control, msp, psp = self._before_return.read()
        self._returning = control, msp, psp
        self._mask(masks)
        number = self._status & 0x1FF
        if not number:
            raise InvalidReturn(f"EXC_RETURN {code:#010x} outside an exception handler", False)
        if not nvic.leave(number):
            raise InvalidReturn(f"EXC_RETURN {code:#010x} of exception {number}, which is not active", True)
        if number not in (NMI, HARD_FAULT):
            self.uc.reg_write(arm.UC_ARM_REG_FAULTMASK, 0)
            nvic.faultmask = 0
        to_thread, from_psp = bool(code & 8), bool(code & 4)
        if to_thread == bool(nvic.active) or code & 0xFFFFFFE3 != 0xFFFFFFE1 or (from_psp and not to_thread):
            raise InvalidReturn(
                f"EXC_RETURN {code:#010x} does not fit: {len(nvic.active)} exceptions are still active", True
            )
        return number

    def pop(self, code: int) -> bool:
        """Take the frame off the stack and go on where it says; True when floating point registers had to be loaded
        from it."""
        nvic = self.nvic
        control, msp, psp = self._returning
        from_psp, floats = bool(code & 4), not code & 0x10
        lazy = self.lazy
        frame = psp if from_psp else msp
        words = self.memory.load(frame, 26 if floats else 8)
        if words is None:
            raise BoardError(f"return to a frame at {frame:#010x}, outside RAM")
        if bool(words[7] & 0x1FF) != bool(nvic.active):
            raise InvalidReturn(
                f"EXC_RETURN {code:#010x} to a frame of exception {words[7] & 0x1FF}, with {len(nvic.active)} active",
                True,
            )
        self.returned_to_thumb = bool(words[7] & _THUMB)
        after = frame + 4 * len(words) + (4 if words[7] & _ALIGNED else 0)
        xpsr = words[7] & 0xFF0FFC00 | (nvic.active[-1] if nvic.active else 0)
        control = control & 1 | (_SPSEL if from_psp else 0) | (_FPCA | _SFPA if floats else 0)
        (self._unstack_psp if from_psp else self._unstack_msp).write([after, xpsr, control, *words[:6], words[6] | 1])
        if floats and lazy:
            self.registers[FPCCR] &= ~LSPACT
        elif floats:
            self._floats.write(words[8:25])
        return floats and not lazy
