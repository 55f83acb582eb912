"""The virtual board: memory, peripherals, interrupts and time around Unicorn's instructions."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unicorn import arm_const as arm
from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import UcError

from host.emulator import cpu as core
from host.emulator.chip import PERIPHERALS, RESET_BY_PROGRAM, Nrf52840
from host.emulator.counter import STOP_MISS, STOP_NONE, make_counter
from host.emulator.cycles import block_cost, prefix_cost
from host.emulator.elf import FLASH_BYTES, Image
from host.emulator.errors import BoardError, BoardFault
from host.emulator.faults import describe_fault, what_failed
from host.emulator.image import load_image
from host.emulator.nvic import SVCALL, Nvic
from host.emulator.report import Report, make_report
from host.emulator.schedule import CLOCK_HZ, Schedule
from host.emulator.system import CPACR
from host.emulator.thumb import decode, first_float

_NEVER = 0xF0F0F0F0  # an address no program reaches: emu_start wants one to stop at
_WFI, _WFE, _SEV = 0xBF30, 0xBF20, 0xBF40
_FOREVER = 1 << 62
_MAX_RESETS, _RESET_SECONDS = 100, 0.1
_SVC_INTERRUPT, _EXC_RETURN_INTERRUPT, _BKPT_INTERRUPT = 2, 8, 7


class VirtualBoard:
    """A Nano 33 BLE Sense with this image in its flash. pcm: int16 samples for the microphone, None for a board without one.

    Time is in cycles of 64 MHz. The board does nothing until run() is called.
    """

    def __init__(self, elf: Path | str | Image, pcm: Any = None, native: bool | None = None) -> None:
        self.image = elf if isinstance(elf, Image) else load_image(elf)
        self.uc = core.make_engine()
        self.counter = make_counter(self.uc, native)
        self.schedule = Schedule(self._awake)
        self.nvic = Nvic()
        self.memory = core.Memory(self.uc)
        self.cpu = core.Cpu(self.uc, self.nvic, self.memory)
        self.unmodelled: list[str] = []
        self.exceptions = 0
        self.resets = 0
        self.pins: dict[str, int] = {}
        self.pace: Callable[[int], int] | None = None  # given the cycles of a sleep, waits for the host and says how many have passed
        self.poll: Callable[[], None] | None = None  # called now and then while the core runs
        self._in_mmio = self._reset_wanted = self._sleeping = self._event = self._returned = False
        self._once_more = False
        self._bad_address = 0
        self._interrupt: int | None = None
        self._to_mark: set[int] = set()
        self._marked: set[int] = set()
        self._prefixes: dict[tuple[int, int], int] = {}
        self._hooked: set[int] = set()
        self.chip = Nrf52840(self, pcm)
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
                self.counter.map_events(address, size, self.chip.bus.flags,
                                        lambda uc, offset, width, _, read=read: self._mmio_read(uc, offset, width, read),
                                        lambda uc, offset, width, value, _, write=write: self._mmio_write(uc, offset, width, value, write))
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
        self._bad_address = address
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
        before, whole = self._prefix(int(state.last) - 1, int(state.access_pc)), cost.cached
        if not state.cache_on:
            before, whole = before * cost.uncached // max(1, cost.cached), cost.uncached
        return active - whole + before

    def _prefix(self, index: int, pc: int) -> int:
        """Cached cycles of a block in front of the memory instruction at pc; pc 0: not known yet, its first one is meant."""
        found = self._prefixes.get((index, pc))
        if found is None:
            address, size, _ = self.counter.costs[index]
            code = bytes(self.uc.mem_read(address, size))
            at = pc or next((one.address for one in decode(code, address) if one.touches_memory), address)
            found = self._prefixes[index, pc] = prefix_cost(code, address, at)
        if not pc and index not in self._marked:
            self._to_mark.add(index)
            self._soon()
        return found

    def _mark_blocks(self) -> None:
        """Put the time stamp hook on the memory instructions of blocks that were seen to read the time."""
        for index in self._to_mark:
            address, size, _ = self.counter.costs[index]
            self._marked.add(index)
            for one in decode(bytes(self.uc.mem_read(address, size)), address):
                if one.touches_memory and one.address not in self._hooked:
                    self._hooked.add(one.address)
                    self.counter.hook_access(one.address)
            self.uc.ctl_remove_cache(address, address + size)
        self._to_mark.clear()

    def _reset(self) -> None:
        self._reset_wanted = self._sleeping = False
        self.nvic.reset()
        self.chip.reset()
        self.set_cache(False)
        self.cpu.vtor = self.image.vector_address if self.image.vector_address < FLASH_BYTES else 0
        self.chip.system.vtor = self.cpu.vtor
        self.counter.settle(0)
        self.cpu.reset()

    # --- running ---------------------------------------------------------------------------------------------------------

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
            raise self.fault(str(trouble)) from None

    def _run(self, end: int, until: Callable[[], bool] | None) -> bool:
        while True:
            if until is not None and until():
                return True
            if self.poll is not None:
                self.poll()
            self.schedule.run_due()
            if self._reset_wanted:
                self._reset()
                self.resets += 1
                if self.resets >= _MAX_RESETS and self.seconds < 2 * _MAX_RESETS * _RESET_SECONDS:
                    raise BoardError(f"the program keeps resetting the board ({self.resets} resets)")
            if self.schedule.now() >= end:
                return False
            if self._sleeping:
                self._sleep(end)
                continue
            self._take_exception()
            self._execute(end)

    def _sleep(self, end: int) -> None:
        """Jump to the next event, or wait for the host."""
        self.cpu.read_masks()
        if self.nvic.wakes():
            self._sleeping = False
            return
        due = self.schedule.next_time()
        if due is None and end == _FOREVER and (self.pace is None or not self.chip.console.ever_received):
            raise BoardError(f"the program sleeps for ever at {self.image.name_at(self.cpu.pc)}: no interrupt is left that could wake it")
        now = self.schedule.now()
        step = min(due if due is not None else now + CLOCK_HZ // 100, end) - now
        if step > 0:
            self.schedule.asleep += step if self.pace is None else self.pace(step)

    def _take_exception(self) -> None:
        self.cpu.vtor = self.chip.system.vtor
        masks = self.cpu.read_masks()
        number = self.nvic.next_exception()
        if number is not None and not self.cpu.in_it_block():
            self._enter(number, self.cpu.pc)
            masks = self.cpu.read_masks()
            number = None
        self.counter.set_masks(masks)
        self.counter.state.poll_masks = int(self.nvic.masked_only())
        self._once_more = number is not None  # in an IT block: look again at the next block

    def _charge(self, cycles: int) -> None:
        state = self.counter.state
        state.active += cycles
        state.cached += cycles
        state.uncached += cycles

    def _enter(self, number: int, return_address: int) -> None:
        self.counter.settle(return_address)
        self.exceptions += 1
        self._event = True
        self.cpu.enter(number, return_address)
        self._charge(core.TAIL_CYCLES if self._returned else core.ENTRY_CYCLES)
        self._returned = False

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
        if self._returned:  # nothing was pending: the return ran to its end
            self._charge(core.RETURN_CYCLES)
            self._returned = False
        state = self.counter.state
        state.deadline = self._deadline(end)
        while True:
            state.stop_reason = STOP_NONE
            self._interrupt = None
            error = None
            try:
                self.uc.emu_start(self.cpu.pc | 1, _NEVER)
            except UcError as failure:
                error = failure
            if state.stop_reason == STOP_MISS:
                address, size = state.miss_address, state.miss_size
                code = bytes(self.uc.mem_read(address, size))
                self._check_fpu(code, address)
                self.counter.insert(address, size, block_cost(code, address))
                if not self._to_mark:
                    continue
            break
        reason, state.stop_reason = state.stop_reason, STOP_NONE
        if self._to_mark:
            self._mark_blocks()
        if reason == STOP_NONE:
            self._stopped_by_program(error)

    def _check_fpu(self, code: bytes, address: int) -> None:
        """Unicorn's floating point unit is always on; the chip's is off until CPACR says so. Looked at when a block runs first."""
        if self.chip.system.registers[CPACR] >> 20 & 15 != 15 and (at := first_float(code, address)) is not None:
            self.uc.reg_write(arm.UC_ARM_REG_PC, at | 1)
            raise self.fault("floating point instruction while the FPU is off (CPACR)")

    def _stopped_by_program(self, error: UcError | None) -> None:
        pc = self.cpu.pc
        if self._interrupt == _SVC_INTERRUPT:
            self.counter.settle(pc)
            self.cpu.read_masks()
            if self.nvic.group(self.nvic.priority(SVCALL)) >= self.nvic.execution_priority():
                raise self.fault("SVC while its priority is masked, which escalates to a HardFault,")
            self._enter(SVCALL, pc)
        elif self._interrupt == _EXC_RETURN_INTERRUPT:
            self.counter.settle(pc)
            self._returned = self._event = True
            self.cpu.leave(pc | 1)
        elif self._interrupt is not None:
            what = "BKPT instruction" if self._interrupt == _BKPT_INTERRUPT else f"exception {self._interrupt} of the core"
            raise self.fault(what)
        else:
            self._wait_or_fault(pc, error)

    def _wait_or_fault(self, pc: int, error: UcError | None) -> None:
        try:
            before = struct.unpack("<HH", self.uc.mem_read(pc - 4, 4))
        except UcError:
            before = (0, 0)
        if before[1] == _WFI and error is None:
            self.counter.settle(pc)
            self._sleeping = True
        elif before[1] == _WFE and (error is None or error.errno == uc_const.UC_ERR_INSN_INVALID):
            self.counter.settle(pc)
            self._sleeping = not (self._event or before[0] == _SEV)
            self._event = False
        elif error is not None:
            raise self.fault(what_failed(error, self._bad_address))

    def fault(self, what: str) -> BoardFault:
        return describe_fault(self, what)

    # --- the outside -----------------------------------------------------------------------------------------------------

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
