"""The virtual board: memory, peripherals, interrupts and time around Unicorn's instructions."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unicorn import arm_const as arm
from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import UcError

from host.emulator.chip import PERIPHERALS, RESET_BY_PROGRAM, Nrf52840
from host.emulator.cpu import exceptions as core
from host.emulator.cpu import faults
from host.emulator.cpu.nvic import SVCALL, Nvic
from host.emulator.cpu.stepping import back_to_step, step_through
from host.emulator.cpu.system_space import CCR, CPACR, SCR, SLEEPONEXIT
from host.emulator.cycles.blocks import Blocks
from host.emulator.cycles.counter import (
    ATTENTION_FLASH,
    ATTENTION_FLOATS,
    STOP_GUARD,
    STOP_MISS,
    STOP_NONE,
    STOP_SUSPECT,
    make_counter,
)
from host.emulator.cycles.guards import DIV_0_TRP, UNALIGN_TRP
from host.emulator.errors import BoardError, BoardFault
from host.emulator.image.elf import FLASH_BYTES, Image
from host.emulator.image.load import load_image
from host.emulator.peripherals.nvmc import store_to_flash
from host.emulator.report import Report, make_report
from host.emulator.schedule import CLOCK_HZ, Schedule

_NEVER = 0xF0F0F0F0  # an address no program reaches: emu_start wants one to stop at
_WFI, _WFE, _SEV = 0xBF30, 0xBF20, 0xBF40
_FOREVER = 1 << 62
_MAX_RESETS, _RESET_SECONDS, _MAX_TOLD = 100, 0.1, 20
_SVC_INTERRUPT, _PREFETCH_ABORT_INTERRUPT, _BKPT_INTERRUPT, _EXC_RETURN_INTERRUPT = 2, 3, 7, 8


class VirtualBoard:
    """A Nano 33 BLE Sense with this image in its flash. pcm: int16 samples for the microphone, None for a board without
    one.

    Time is in cycles of 64 MHz. The board does nothing until run() is called.
    """

    def __init__(self, elf: Path | str | Image, pcm: Any = None, native: bool | None = None) -> None:
        self.image = elf if isinstance(elf, Image) else load_image(elf)
        self.uc = core.make_engine()
        self.counter = make_counter(self.uc, native)
        self.blocks = Blocks(self.uc, self.counter)
        self.schedule = Schedule(self._awake)
        self.nvic = Nvic()
        self.memory = core.Memory(self.uc)
        self.cpu = core.Cpu(self.uc, self.nvic, self.memory)
        self.unmodelled: list[str] = []
        self.exceptions = 0
        self.resets = 0
        self.trouble: BoardFault | None = None  # the fault whose handler runs
        self.survived: list[str] = []  # faults that the program's own handlers came back from
        self.pins: dict[str, int] = {}
        self.pace: Callable[[int], int] | None = (
            None  # given the cycles of a sleep, waits for the host and says how many have passed
        )
        self.poll: Callable[[], None] | None = None  # called now and then while the core runs
        self._in_mmio = self._reset_wanted = self._sleeping = self._once_more = False
        self._until_event = False  # asleep by WFE
        self.fault_number = 0
        self.stepped: tuple[int, int] | None = None  # the block that is stepped through, the address of its instruction
        self._bad_address = self._bad_size = 0
        self._interrupt: int | None = None
        self.chip = Nrf52840(self, pcm)
        self.cpu.registers = self.chip.system.registers
        self.chip.system.on_control = self._control_changed
        self.counter.call_on_float(self.on_float)
        self._map()
        self.nvic.on_change = self._soon
        self.schedule.on_change = self._not_later_than
        self._reset()

    def _map(self) -> None:
        uc = self.uc
        for address, data in self.image.segments:
            uc.mem_write(address, data)
        for address, size, read, write in self.chip.regions():
            if address == PERIPHERALS:
                self.counter.map_events(
                    address,
                    size,
                    self.chip.bus.flags,
                    lambda uc, offset, width, _, read=read: self._mmio_read(uc, offset, width, read),
                    lambda uc, offset, width, value, _, write=write: self._mmio_write(uc, offset, width, value, write),
                )
            else:
                uc.mmio_map(address, size, self._mmio_read, read, self._mmio_write, write)
        for address, data in self.chip.constants():
            uc.mem_map(address, len(data), uc_const.UC_PROT_READ)
            uc.mem_write(address, data)
        uc.hook_add(uc_const.UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(uc_const.UC_HOOK_MEM_UNMAPPED | uc_const.UC_HOOK_MEM_PROT, self._on_bad_address)

    def _mmio_read(self, uc: Any, offset: int, size: int, read: Callable[[int, int], int]) -> int:
        self._in_mmio = True
        try:
            return read(offset, size)
        finally:
            self._in_mmio = False

    def _mmio_write(self, uc: Any, offset: int, size: int, value: int, write: Callable[[int, int, int], None]) -> None:
        self._in_mmio = True
        try:
            write(offset, size, value)
        finally:
            self._in_mmio = False

    def _on_interrupt(self, uc: Any, number: int, user: Any) -> None:
        self._interrupt = number
        uc.emu_stop()

    def _on_bad_address(self, uc: Any, access: int, address: int, size: int, value: int, user: Any) -> bool:
        self._bad_address, self._bad_size = address, size
        return False

    def _soon(self) -> None:
        """Something changed: look again at the next block."""
        self.counter.state.deadline = 0

    def _not_later_than(self, deadline: int) -> None:
        state = self.counter.state
        state.deadline = min(int(state.deadline), max(0, deadline))

    def report_unmodelled(self, what: str) -> None:
        if what not in self.unmodelled:
            self.unmodelled.append(what)

    def request_reset(self, reason: int = RESET_BY_PROGRAM) -> None:
        self.chip.power.add_reason(reason)
        self._reset_wanted = True
        self._soon()

    def stall(self, cycles: int) -> None:
        """The flash is not to be had for so long: a core that runs from it stands still."""
        if self.cpu.pc < FLASH_BYTES:
            self._charge(cycles)
            self._soon()

    def set_cache(self, on: bool) -> None:
        self.counter.state.cache_on = int(on)

    def _awake(self) -> int:
        """Cycles the core has executed; exact to the instruction inside blocks known to touch peripherals."""
        state = self.counter.state
        active = int(state.active)
        if not self._in_mmio:
            return active
        current = self.counter.current()
        if current is None:
            return active
        cost = current[2]
        before, whole = self.blocks.prefix(int(state.last) - 1, int(state.access_pc)), cost.cached
        if self.blocks.to_mark:
            self._soon()
        if not state.cache_on:
            before, whole = before * cost.uncached // max(1, cost.cached), cost.uncached
        return active - whole + before

    def _reset(self) -> None:
        self._reset_wanted = self._sleeping = False
        self.trouble = None
        self.nvic.reset()
        self.chip.reset()
        self.set_cache(False)
        self.cpu.vtor = self.image.vector_address if self.image.vector_address < FLASH_BYTES else 0
        self.chip.system.vtor = self.cpu.vtor
        self.counter.settle(0)
        self.cpu.reset()

    def _control_changed(self) -> None:
        """CCR, CPACR or FPCCR was written: other guards may count now."""
        traps = self.chip.system.registers[CCR] & (UNALIGN_TRP | DIV_0_TRP)
        self.counter.state.traps = traps
        self._watch_floats()
        if traps & ~self.blocks.traps:
            self.blocks.traps |= traps
            self.blocks.look_again = True
            self._soon()

    @property
    def fpu_on(self) -> bool:
        return self.chip.system.registers[CPACR] >> 20 & 15 == 15

    def _watch_floats(self) -> None:
        state, watched = self.counter.state, self.cpu.lazy or not self.fpu_on
        state.attention = state.attention & ~ATTENTION_FLOATS | (ATTENTION_FLOATS if watched else 0)

    def watch_stores(self, on: bool) -> None:
        """The program may write to flash."""
        state = self.counter.state
        state.attention = state.attention & ~ATTENTION_FLASH | (ATTENTION_FLASH if on else 0)

    def on_float(self, address: int) -> None:
        """A floating point instruction is about to run: it is not allowed, or the interrupted program's registers are
        saved first."""
        if not self.fpu_on:
            self.counter.state.miss_address, self.counter.state.stop_reason = address, STOP_GUARD
            self.uc.emu_stop()
        elif self.cpu.lazy:
            self.cpu.save_floats()
            self._charge(core.FLOAT_CYCLES)
            self._watch_floats()

    # --- running
    # ---------------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Board time since power-up."""
        return self.schedule.now() / CLOCK_HZ

    @property
    def asleep(self) -> bool:
        return self._sleeping

    def run(self, seconds: float | None = None, until: Callable[[], bool] | None = None) -> bool:
        """Run for so much board time, or until `until()` (asked at every event); True when `until` was met.

        Raises BoardError when the program faults, or sleeps with nothing left that could wake it.
        """
        end = _FOREVER if seconds is None else self.schedule.now() + round(seconds * CLOCK_HZ)
        try:
            return self._run(end, until)
        except BoardFault:
            raise
        except BoardError as trouble:
            raise self.trouble or self.fault(str(trouble)) from None

    def _run(self, end: int, until: Callable[[], bool] | None) -> bool:
        state, schedule = self.counter.state, self.schedule
        while True:
            if until is not None and until():
                return True
            if self.poll is not None:
                self.poll()
            schedule.run_due(int(state.active))
            if self.blocks.look_again:
                self.blocks.learn_again()
            if self._reset_wanted:
                self._reset()
                self.resets += 1
                if self.resets >= _MAX_RESETS and self.seconds < 2 * _MAX_RESETS * _RESET_SECONDS:
                    raise BoardError(f"the program keeps resetting the board ({self.resets} resets)")
            if int(state.active) + schedule.asleep >= end:
                return False
            if self._sleeping:
                self._sleep(end)
                continue
            self._take_exception()
            self._execute(end)

    def _sleep(self, end: int) -> None:
        """Jump to the next event, or wait for the host."""
        self.cpu.read_masks()
        nvic = self.nvic
        if (nvic.event or nvic.next_exception() is not None) if self._until_event else nvic.wakes():
            self._sleeping = False
            nvic.event &= not self._until_event
            return
        due = self.schedule.next_time()
        if due is None and end == _FOREVER and (self.pace is None or not self.chip.console.ever_received):
            raise BoardError(
                f"the program sleeps for ever at {self.image.name_at(self.cpu.pc)}: no interrupt is left that could "
                f"wake it"
            )
        now = self.schedule.now()
        step = min(due if due is not None else now + CLOCK_HZ // 100, end) - now
        if step > 0:
            self.schedule.asleep += step if self.pace is None else self.pace(step)

    def _take_exception(self) -> None:
        self.cpu.vtor = self.chip.system.vtor
        masks, pc, in_it_block = self.cpu.look()
        number = self.nvic.next_exception()
        if number is not None and not in_it_block:
            self.enter(number, pc)
            number = None
        self.counter.set_masks(masks)
        self.counter.state.poll_masks = int(self.nvic.masked_only())
        self._once_more = number is not None  # in an IT block: look again at the next block

    def _charge(self, cycles: int) -> None:
        state = self.counter.state
        state.active += cycles
        state.cached += cycles
        state.uncached += cycles

    def enter(self, number: int, return_address: int) -> None:
        """Stack, and take the exception; a better one that comes while the frame is written is taken first (late
        arrival, B1.5.11)."""
        self.counter.settle(return_address)
        code = self.cpu.push(return_address)
        cycles = core.ENTRY_CYCLES
        if not code & 0x10:
            cycles += 0 if self.cpu.lazy else core.FLOAT_CYCLES
            self._watch_floats()
        self._charge(cycles)
        self.schedule.run_due(int(self.counter.state.active))
        nvic = self.nvic
        late = nvic.next_exception() if nvic.pending - {number} else None
        if late is not None and (nvic.priority(late), late) < (nvic.priority(number), number):
            nvic.pending.add(number)
            number = late
        self.begin(number, code)

    def begin(self, number: int, code: int) -> None:
        """Run the handler of an exception whose frame is on the stack."""
        self.exceptions += 1
        self.nvic.event = True
        self.cpu.take(number, code)

    def _deadline(self, end: int) -> int:
        if self._once_more:
            return int(self.counter.state.active) + 1
        due = self.schedule.next_deadline()
        limit = end - self.schedule.asleep
        if self.poll is not None:
            limit = min(limit, int(self.counter.state.active) + CLOCK_HZ // 1000)
        return min(limit, due if due is not None else limit, _FOREVER)

    def _execute(self, end: int) -> None:
        """Run blocks until a deadline, a new block, sleep, an exception or a fault."""
        self.counter.state.deadline = self._deadline(end)
        self._blocks_until(_NEVER)

    def step(self, end: int) -> None:
        """Run the instruction at PC, which ends at `end`."""
        self.counter.state.deadline = _FOREVER
        self.uc.ctl_remove_cache(self.cpu.pc, end)  # Unicorn heeds an end only when it translates
        self._blocks_until(end)
        self._soon()

    def _blocks_until(self, end: int) -> None:
        state = self.counter.state
        while True:
            state.stop_reason = STOP_NONE
            self._interrupt = None
            error = None
            try:
                self.uc.emu_start(self.cpu.pc | 1, end)
            except UcError as failure:
                error = failure
            if state.stop_reason in (STOP_MISS, STOP_SUSPECT):
                if not self.cpu.thumb:
                    state.stop_reason = STOP_NONE
                    faults.take_fault(self, faults.ARM_STATE)
                    return
                if state.stop_reason == STOP_MISS:
                    self.blocks.learn(state.miss_address, state.miss_size)
                elif not self.blocks.resolve(state.miss_address):
                    state.stop_reason = STOP_NONE
                    step_through(self, state.miss_address)
                    return
                if not self.blocks.to_mark:
                    continue
            break
        reason, state.stop_reason = state.stop_reason, STOP_NONE
        if self.blocks.to_mark:
            self.blocks.mark()
        if reason == STOP_GUARD:
            faults.take_fault(self, faults.guarded_trouble(self.blocks.code(state.miss_address, 4), self.fpu_on))
        elif reason == STOP_NONE and (error is not None or self.cpu.pc != end):
            self._stopped_by_program(error)

    def _stopped_by_program(self, error: UcError | None) -> None:
        pc = self.cpu.pc
        if self._interrupt == _SVC_INTERRUPT:
            self.counter.settle(pc)
            self.cpu.read_masks()
            if self.nvic.group(self.nvic.priority(SVCALL)) >= self.nvic.execution_priority():
                faults.take_fault(self, faults.SVC_MASKED)
            else:
                self.enter(SVCALL, pc)
        elif self._interrupt == _EXC_RETURN_INTERRUPT:
            self.counter.settle(pc)
            self._leave(pc | 1)
        elif self._interrupt == _BKPT_INTERRUPT:
            faults.take_fault(self, faults.BREAKPOINT)
        elif self._interrupt == _PREFETCH_ABORT_INTERRUPT:
            faults.take_fault(self, faults.jump_trouble(pc))
        elif self._interrupt is not None:
            raise self.fault(f"exception {self._interrupt} of the core")
        else:
            self._wait_or_fault(pc, error)

    def _leave(self, code: int) -> None:
        """Exception return; when another exception waits it follows without a frame in between (tail-chaining,
        B1.5.12)."""
        self.nvic.event = True
        try:
            self.cpu.end_handler(code)
            if self.trouble is not None and self.fault_number not in self.nvic.active:
                self.survived += [str(self.trouble)] if len(self.survived) < _MAX_TOLD else []
                self.trouble = None
            self.schedule.run_due(int(self.counter.state.active))
            following = self.nvic.next_exception() if self.nvic.pending else None
            if following is not None:
                self._charge(core.TAIL_CYCLES)
                self.begin(following, code)
                return
            loaded = self.cpu.pop(code)
        except core.InvalidReturn as wrong:
            faults.take_fault(
                self, faults.invalid_return(str(wrong), wrong.in_handler), code if wrong.in_handler else None
            )
            return
        self._charge(core.RETURN_CYCLES + (core.FLOAT_CYCLES if loaded else 0))
        if not code & 0x10:
            self._watch_floats()
        if not self.cpu.returned_to_thumb:
            faults.take_fault(self, faults.ARM_STATE)
        elif code & 8 and self.chip.system.registers[SCR] & SLEEPONEXIT:
            self._sleeping, self._until_event = True, False

    def _wait_or_fault(self, pc: int, error: UcError | None) -> None:
        try:
            before = struct.unpack("<HH", self.uc.mem_read(pc - 4, 4))
        except UcError:
            before = (0, 0)
        if before[1] == _WFI and error is None:
            self.counter.settle(pc)
            self._sleeping, self._until_event = True, False
        elif before[1] == _WFE and (error is None or error.errno == uc_const.UC_ERR_INSN_INVALID):
            self.counter.settle(pc)
            self._sleeping = not (self.nvic.event or before[0] == _SEV)
            self._until_event, self.nvic.event = True, False
        elif error is not None:
            back_to_step(self)
            if error.errno == uc_const.UC_ERR_WRITE_PROT and store_to_flash(self, self._bad_address, self._bad_size):
                return
            trouble = faults.trouble_of(self, error, self._bad_address)
            if trouble is None:
                raise self.fault(str(error))
            faults.take_fault(self, trouble)

    def fault(self, what: str) -> BoardFault:
        return faults.describe_fault(self, what)

    # --- the outside
    # -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Bytes from the host to the board's serial port."""
        self.chip.microphone.host_has_spoken |= bool(data)
        self.chip.console.host_to_board.extend(data)
        self.chip.console.wake()

    def take_output(self) -> bytes:
        """What the board has sent since the last call."""
        found = bytes(self.chip.console.board_to_host)
        self.chip.console.board_to_host.clear()
        return found

    def read_word(self, address: int) -> int:
        return self.memory.word(address)

    def register(self, name: str) -> int:
        """A core register such as "r0", "sp" or "s3"."""
        return int(self.uc.reg_read(getattr(arm, f"UC_ARM_REG_{name.upper()}"))) & 0xFFFFFFFF

    def report(self) -> Report:
        return make_report(self)
