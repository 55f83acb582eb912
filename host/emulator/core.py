"""The Cortex-M4 with its memories and its time: runs blocks of instructions between events, takes exceptions and
faults."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, ClassVar

from unicorn import arm_const as arm
from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import UcError

from converter.checked import Flag, Items, Row, Rule, Text, Whole
from host.emulator.cpu import exceptions, faults
from host.emulator.cpu.diagnosis import describe_fault
from host.emulator.cpu.exceptions import IT_BITS, Cpu, InvalidReturn, Memory
from host.emulator.cpu.nvic import HARD_FAULT, SVCALL, Nvic
from host.emulator.cpu.system_space import BFAR, CCR, CFSR, CPACR, HFSR, SCR, SLEEPONEXIT, SYSTEM_SPACE, SystemSpace
from host.emulator.cycles import counting
from host.emulator.cycles.clock import Clock
from host.emulator.cycles.preconditions import DIV_0_TRP, FLOATING_POINT, UNALIGN_TRP, Precondition
from host.emulator.cycles.thumb import Kind, decode
from host.emulator.cycles.timing import EXPECTED, Timing
from host.emulator.errors import BoardError, BoardFault
from host.emulator.image.elf import FLASH_BYTES, Image
from host.emulator.peripherals.nvmc import PAGE, UICR
from host.emulator.schedule import CLOCK_HZ, MOST_CYCLES, Event
from host.emulator.unmodelled import Unmodelled

FOREVER = 1 << 62
_NEVER = 0xF0F0F0F0  # where there is no code: emu_start wants an address to stop at
_WFI, _WFE, _SEV = 0xBF30, 0xBF20, 0xBF40
_MAX_SURVIVED, MOST_TEXT = 20, 100_000
_HANDLER_SECONDS = 2.0  # a fault handler that has not come back by then has given up
_MOST_BYTES = 17 * 4  # what one instruction may store, and a word more
_SVC_INTERRUPT, _PREFETCH_ABORT_INTERRUPT, _BKPT_INTERRUPT, _EXC_RETURN_INTERRUPT = 2, 3, 7, 8


class Core:
    """Flash, RAM, the processor and the cycle counter, with this image in the flash. Time is in cycles of 64 MHz.

    The flash controller is asked through `flash_writable`, and learns through `flash_written` how many words a store
    has changed; both are set by the board.
    """

    SAVED: ClassVar[dict[str, Rule]] = {
        "exceptions": Whole(),
        "survived": Items(Text(MOST_TEXT), most=_MAX_SURVIVED),
        **{name: Flag() for name in ("sleeping", "until_event", "_once_more", "_in_it_block")},
        "_fault_number": Whole(0, 255),
        "last_fault": Items(Row((Text(MOST_TEXT), Whole(0, MOST_CYCLES), Whole(0, MOST_CYCLES))), most=1),
    }

    def __init__(
        self,
        image: Image,
        native: bool | None,
        unmodelled: Unmodelled,
        request_reset: Callable[[], None],
        timing: Timing | None = EXPECTED,
    ) -> None:
        self.image = image
        self.uc = uc = exceptions.make_engine()
        self.clock = Clock(uc, native, timing)
        self.counter, self.blocks, self.schedule = self.clock.counter, self.clock.blocks, self.clock.schedule
        self.nvic = Nvic()
        self.memory = Memory(uc)
        self.counter.state.ram = self.memory.ram_address
        self.system = SystemSpace(self.nvic, self.schedule, unmodelled, request_reset)
        self.cpu = Cpu(uc, self.nvic, self.memory, self.system.registers)
        self.flash_writable: Callable[[], bool] = lambda: False
        self.flash_written: Callable[[int], None] = lambda words: None
        self.exceptions = 0
        self.trouble: BoardFault | None = None  # the fault whose handler runs
        self._patience: Event | None = None  # when it has run too long
        self.survived: list[str] = []  # faults that the program's own handlers came back from
        self.sleeping = self.until_event = False  # asleep by WFI or WFE; by WFE
        self._once_more = False
        self._fault_number = 0
        self._stepped: tuple[int, int] | None = None  # the instruction that is stepped: its address, XPSR's IT bits
        self._in_it_block = False
        self._bad_address = self._bad_size = 0
        self._interrupt: int | None = None
        self.system.on_control = self.follow_control
        self.nvic.on_change = self.clock.look_soon
        self.counter.call_on_float(self._on_float)
        for address, data in image.segments:
            uc.mem_write(address, data)
        self.clock.map_registers(SYSTEM_SPACE, 0x100000, self.system.read, self.system.write)
        uc.hook_add(uc_const.UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(uc_const.UC_HOOK_MEM_UNMAPPED | uc_const.UC_HOOK_MEM_PROT, self._on_bad_address)

    def stall(self, cycles: int) -> None:
        """The flash is not to be had for so long: a core that runs from it stands still."""
        if self.cpu.pc < FLASH_BYTES:
            self.clock.charge(cycles)
            self.clock.look_soon()

    def watch_stores(self, on: bool) -> None:
        """The program may write to flash."""
        self.clock.watch(counting.ATTENTION_FLASH, on)

    def reset(self) -> None:
        """Begin at the reset vector; interrupts and peripherals have been reset before."""
        self.sleeping = False
        self.trouble = None
        self.system.reset()
        self.clock.set_cache(False)
        self.cpu.vtor = self.image.vector_address if self.image.vector_address < FLASH_BYTES else 0
        self.system.vtor = self.cpu.vtor
        self.counter.settle(0)
        self.cpu.reset()

    # --- floating point and traps

    def follow_control(self) -> None:
        """CCR, CPACR or FPCCR was written: other preconditions may count now."""
        traps = self.system.registers[CCR] & (UNALIGN_TRP | DIV_0_TRP)
        self.counter.state.traps = traps
        self._watch_floats()
        if traps & ~self.blocks.traps:
            self.blocks.traps |= traps
            self.blocks.look_again = True
            self.clock.look_soon()

    @property
    def _fpu_on(self) -> bool:
        return self.system.registers[CPACR] >> 20 & 15 == 15

    def _watch_floats(self) -> None:
        self.clock.watch(counting.ATTENTION_FLOATS, self.cpu.lazy or not self._fpu_on)

    def _on_float(self, address: int) -> None:
        """A floating point instruction is about to run: it is not allowed, or the interrupted program's registers are
        saved first."""
        if not self._fpu_on:
            self.counter.state.miss_address, self.counter.state.stop_reason = address, counting.STOP_PRECONDITION
            self.uc.emu_stop()
        elif self.cpu.lazy:
            self.cpu.save_floats()
            self.clock.charge(exceptions.FLOAT_CYCLES)
            self._watch_floats()

    # --- exceptions

    def take_exception(self) -> None:
        """Enter the exception that goes first, if one may run now."""
        self.cpu.vtor = self.system.vtor
        masks, pc, self._in_it_block = self.cpu.look()
        number = self.nvic.next_exception()
        if number is not None and not self._in_it_block:
            self._enter(number, pc)
            number = None
        self.counter.set_masks(masks)
        self.counter.state.poll_masks = int(self.nvic.masked_only())
        self._once_more = number is not None  # in an IT block: look again at the next block

    def _enter(self, number: int, return_address: int) -> None:
        """Stack, and take the exception; a better one that comes while the frame is written is taken first (late
        arrival, B1.5.11)."""
        self.counter.settle(return_address)
        code = self.cpu.push(return_address)
        cycles = exceptions.ENTRY_CYCLES
        if not code & 0x10:
            cycles += 0 if self.cpu.lazy else exceptions.FLOAT_CYCLES
            self._watch_floats()
        self.clock.charge(cycles)
        self.schedule.run_due(int(self.counter.state.active))
        nvic = self.nvic
        late = nvic.next_exception() if nvic.pending - {number} else None
        if late is not None and (nvic.priority(late), late) < (nvic.priority(number), number):
            nvic.pending.add(number)
            number = late
        self._begin(number, code)

    def _begin(self, number: int, code: int) -> None:
        """Run the handler of an exception whose frame is on the stack."""
        self.exceptions += 1
        self.nvic.event = True
        self.cpu.take(number, code)

    def _leave(self, code: int) -> None:
        """Exception return; when another exception waits it follows without a frame in between (tail-chaining,
        B1.5.12)."""
        self.nvic.event = True
        try:
            self.cpu.end_handler(code)
            if self.trouble is not None and self._fault_number not in self.nvic.active:
                self.survived += [str(self.trouble)] if len(self.survived) < _MAX_SURVIVED else []
                self.trouble = None
            self.schedule.run_due(int(self.counter.state.active))
            following = self.nvic.next_exception() if self.nvic.pending else None
            if following is not None:
                self.clock.charge(exceptions.TAIL_CYCLES)
                self._begin(following, code)
                return
            loaded = self.cpu.pop(code)
        except InvalidReturn as wrong:
            trouble = faults.invalid_return(str(wrong), wrong.in_handler)
            self._take_fault(trouble, code if wrong.in_handler else None)
            return
        self.clock.charge(exceptions.RETURN_CYCLES + (exceptions.FLOAT_CYCLES if loaded else 0))
        if not code & 0x10:
            self._watch_floats()
        if not self.cpu.returned_to_thumb:
            self._take_fault(faults.ARM_STATE)
        elif code & 8 and self.system.registers[SCR] & SLEEPONEXIT:
            self.sleeping, self.until_event = True, False

    def try_wake(self) -> bool:
        """End the sleep if an interrupt or, for WFE, an event has come."""
        self.cpu.read_masks()
        nvic = self.nvic
        if not ((nvic.event or nvic.next_exception() is not None) if self.until_event else nvic.wakes()):
            return False
        self.sleeping = False
        nvic.event &= not self.until_event
        return True

    # --- instructions

    def execute(self, end: int) -> None:
        """Run blocks until board time `end`, a deadline, a new block, sleep, an exception or a fault."""
        if self._in_it_block:  # a handler has come back into it: no block that is known begins so
            self._step_through(None)
            return
        state, due = self.counter.state, self.schedule.next_deadline()
        limit = min(end - self.schedule.asleep, FOREVER if due is None else due)
        state.deadline = int(state.active) + 1 if self._once_more else limit
        self._blocks_until(_NEVER)

    def _step(self, end: int) -> None:
        """Run the instruction at PC, which ends at `end`, wherever it leads, and no other; its preconditions have been
        looked at."""
        state, pc = self.counter.state, self.cpu.pc
        state.deadline, state.stepping = int(state.active) + 1, 1  # each instruction takes a cycle at least
        self.uc.ctl_remove_cache(pc, end)  # Unicorn heeds an end only when it translates
        try:
            self._blocks_until(end)
        finally:
            state.stepping = 0
            self.uc.ctl_remove_cache(pc, end)  # which is cut short: blocks must not depend on what was stepped before
        self.clock.look_soon()

    def _blocks_until(self, end: int) -> None:
        state = self.counter.state
        while True:
            state.stop_reason = counting.STOP_NONE
            self._interrupt = None
            error = None
            try:
                self.uc.emu_start(self.cpu.pc | 1, end)
            except UcError as failure:
                error = failure
            if state.stop_reason == counting.STOP_CHANGED:
                self.blocks.changed(state.miss_address)
                continue
            if state.stop_reason in (counting.STOP_MISS, counting.STOP_SUSPECT):
                if not self.cpu.thumb:
                    state.stop_reason = counting.STOP_NONE
                    self._take_fault(faults.ARM_STATE)
                    return
                if state.stop_reason == counting.STOP_MISS:
                    self.blocks.learn(state.miss_address, state.miss_size, self.cpu.it_state)
                elif not self.blocks.resolve(state.miss_address):
                    state.stop_reason = counting.STOP_NONE
                    self._step_through(state.miss_address)
                    return
                if not self.blocks.to_mark:
                    continue
            break
        reason, state.stop_reason = state.stop_reason, counting.STOP_NONE
        if self.blocks.to_mark:
            self.blocks.mark()
        if reason == counting.STOP_NONE and self.cpu.pc == _NEVER:
            self._take_fault(faults.jump_trouble(_NEVER))
        elif reason == counting.STOP_PRECONDITION:
            self._take_fault(faults.broken_precondition(self.blocks.code(state.miss_address, 4), self._fpu_on))
        elif reason == counting.STOP_NONE and (error is not None or self.cpu.pc != end):
            self._stopped_by_program(error)

    def _step_through(self, index: int | None) -> None:
        """Run a block (None: what is left of an IT block) instruction by instruction until control goes elsewhere:
        Unicorn does not stop in an IT block, and goes on behind a store that fails there."""
        cpu = self.cpu
        block_end = self.blocks.end_of(index) if index is not None else None
        while block_end is None or cpu.pc < block_end:
            at, it_state = cpu.pc, cpu.it_state
            if block_end is None and not it_state:
                return
            end, preconditions = self.blocks.instruction(at, it_state)
            if preconditions and cpu.passes and any(self._is_broken(one) for one in preconditions):
                self._take_fault(faults.broken_precondition(self.blocks.code(at, 4), self._fpu_on))
                return
            self._stepped = at, cpu.register("xpsr") & IT_BITS
            self._step(end)
            self._stepped = None
            if cpu.pc != end:
                return

    def _is_broken(self, precondition: Precondition) -> bool:
        """Whether the instruction that is about to be stepped must not run; a floating point one that may is made
        ready."""
        if precondition.kind != FLOATING_POINT:
            return self.counter.is_broken(precondition)
        if self._fpu_on:
            self._on_float(precondition.address)
        return not self._fpu_on

    def _back_to_step(self) -> None:
        """A store in an IT block that failed leaves PC behind it: back to it."""
        if self._stepped is not None and self.cpu.pc != self._stepped[0]:
            at, it_bits = self._stepped
            self.uc.reg_write(arm.UC_ARM_REG_PC, at | 1)
            self.uc.reg_write(arm.UC_ARM_REG_XPSR, self.cpu.register("xpsr") & ~IT_BITS | it_bits)
        self._stepped = None

    def _on_interrupt(self, uc: Any, number: int, user: Any) -> None:
        self._interrupt = number
        uc.emu_stop()

    def _on_bad_address(self, uc: Any, access: int, address: int, size: int, value: int, user: Any) -> bool:
        self._bad_address, self._bad_size = address, size
        return False

    def _stopped_by_program(self, error: UcError | None) -> None:
        pc = self.cpu.pc
        if self._interrupt == _SVC_INTERRUPT:
            self.counter.settle(pc)
            self.cpu.read_masks()
            if self.nvic.group(self.nvic.priority(SVCALL)) >= self.nvic.execution_priority():
                self._take_fault(faults.SVC_MASKED)
            else:
                self._enter(SVCALL, pc)
        elif self._interrupt == _EXC_RETURN_INTERRUPT:
            self.counter.settle(pc)
            self._leave(pc | 1)
        elif self._interrupt == _BKPT_INTERRUPT:
            self._take_fault(faults.BREAKPOINT)
        elif self._interrupt == _PREFETCH_ABORT_INTERRUPT:
            self._take_fault(faults.jump_trouble(pc))
        elif self._interrupt is not None:
            raise self.fault(f"exception {self._interrupt} of the core")
        else:
            self._wait_or_fault(pc, error)

    def _wait_or_fault(self, pc: int, error: UcError | None) -> None:
        try:
            before = struct.unpack("<HH", self.uc.mem_read(pc - 4, 4))
        except UcError:
            before = (0, 0)
        if before[1] == _WFI and error is None:
            self.counter.settle(pc)
            self.sleeping, self.until_event = True, False
        elif before[1] == _WFE and (error is None or error.errno == uc_const.UC_ERR_INSN_INVALID):
            self.counter.settle(pc)
            self.sleeping = not (self.nvic.event or before[0] == _SEV)
            self.until_event, self.nvic.event = True, False
        elif error is not None:
            self._back_to_step()
            if error.errno == uc_const.UC_ERR_WRITE_PROT and self._store_to_flash(self._bad_address, self._bad_size):
                return
            trouble = faults.trouble_of(error, self._bad_address)
            if trouble is None:
                raise self.fault(str(error))
            self._take_fault(trouble)

    def _store_to_flash(self, address: int, size: int) -> bool:
        """Do the store at PC, which Unicorn refused, as NVMC does it; False when NVMC refuses it too (that is a bus
        fault).

        Only whole aligned words can be written, ones to zeros, and only while CONFIG says so. The core stands still
        for each word.
        """
        regions = ((0, FLASH_BYTES), (UICR, PAGE))
        region = next((one for one in regions if one[0] <= address < one[0] + one[1]), None)
        if region is None or not self.flash_writable() or size != 4 or address & 3:
            return False
        uc, pc = self.uc, self.cpu.pc
        self.blocks.cut(pc)
        one = decode(bytes(uc.mem_read(pc, 4)), pc)[0]
        length = min(_MOST_BYTES, region[0] + region[1] - address) & ~3
        before = bytes(uc.mem_read(address, length))
        uc.mem_protect(*region, uc_const.UC_PROT_ALL)
        self._step(pc + one.size)
        uc.mem_protect(*region, uc_const.UC_PROT_READ | uc_const.UC_PROT_EXEC)
        uc.ctl(uc_const.UC_CTL_TLB_FLUSH, uc_const.UC_CTL_IO_WRITE)  # which still knows the page as one to write to
        kept = bytes(old & new for old, new in zip(before, uc.mem_read(address, length), strict=True))
        uc.mem_write(address, kept)
        self.flash_written(one.count if one.kind is Kind.STORE_MULTIPLE else 1)
        return True

    # --- faults

    def fault(self, what: str) -> BoardFault:
        """The error to raise when the program cannot go on."""
        return describe_fault(what, self.image, self.cpu, self.counter, self.schedule.seconds)

    def _take_fault(self, trouble: faults.Trouble, chained: int | None = None) -> None:
        """Enter the handler that a fault leads to; raises what went wrong first when there is none, or the core locks
        up.

        chained: EXC_RETURN of the return that failed; then no frame is stacked.
        """
        pc, registers = self.cpu.pc, self.system.registers
        fault = self.fault(trouble.what)
        if self.trouble is None:
            self.trouble = fault
            when = self.schedule.now() + round(_HANDLER_SECONDS * CLOCK_HZ)
            self._patience = self.schedule.at(when, functools.partial(self._give_up, fault))
        if trouble is not faults.SVC_MASKED:  # an SVC has been executed, other faults are met before their instruction
            it_state = self.blocks.cut(pc)
            if it_state:
                self.uc.reg_write(arm.UC_ARM_REG_XPSR, self.cpu.register("xpsr") | it_state)
        self.cpu.read_masks()
        number = self.nvic.escalated(trouble.exception)
        if number is None:
            raise self.trouble
        registers[HFSR if trouble.exception == HARD_FAULT else CFSR] |= trouble.status
        registers[HFSR] |= faults.FORCED if number != trouble.exception else 0
        if trouble.address is not None:
            registers[BFAR] = trouble.address
        self._fault_number = number
        try:
            if chained is None:
                self._enter(number, pc)
            else:
                self._begin(number, chained)
        except BoardError:
            raise self.trouble from None

    @property
    def last_fault(self) -> list[tuple[str, int, int]]:
        """The fault whose handler runs, where one does, and the event that ends it."""
        event = self._patience
        return [(str(self.trouble), event.when, event.order)] if self.trouble is not None and event else []

    @last_fault.setter
    def last_fault(self, found: list[tuple[str, int, int]]) -> None:
        for text, when, order in found:
            self.trouble = fault = BoardFault(text)
            self._patience = self.schedule.put_back(when, order, functools.partial(self._give_up, fault))

    def _give_up(self, fault: BoardFault) -> None:
        """The time of a fault handler is over."""
        if self.trouble is fault:
            raise fault
