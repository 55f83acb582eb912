"""The core's own registers at 0xE0000000: DWT, SysTick, NVIC, SCB, FPU; the rest reads as zero and is reported by
name."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from converter.checked import Flag, Items, Rule, Whole
from host.emulator.cpu.nvic import (
    BUS_FAULT,
    DEBUG_MONITOR,
    EXCEPTIONS,
    FIRST_IRQ,
    MEM_MANAGE,
    NMI,
    PENDSV,
    PRIORITY_BITS,
    SVCALL,
    SYSTICK,
    USAGE_FAULT,
    Nvic,
)
from host.emulator.schedule import MOST_CYCLES, Event, Schedule
from host.emulator.unmodelled import Unmodelled

SYSTEM_SPACE = 0xE0000000
# Registers by the ARMv7-M manual's names (B3.2); a range: one word after the other
DWT_CTRL, DWT_CYCCNT = 0xE0001000, 0xE0001004
ICTR, ACTLR = 0xE000E004, 0xE000E008
SYST_CSR, SYST_RVR, SYST_CVR, SYST_CALIB = range(0xE000E010, 0xE000E020, 4)
NVIC_ISER, NVIC_ICER, NVIC_ISPR, NVIC_ICPR, NVIC_IABR = range(0xE000E100, 0xE000E380, 0x80)
NVIC_IPR = 0xE000E400
CPUID, ICSR, VTOR, AIRCR, SCR, CCR, SHPR1, SHPR2, SHPR3, SHCSR = range(0xE000ED00, 0xE000ED28, 4)
CFSR, HFSR, DFSR, MMFAR, BFAR, AFSR, ID_PFR0, ID_PFR1, ID_DFR0 = range(0xE000ED28, 0xE000ED4C, 4)
ID_MMFR0, CPACR = 0xE000ED50, 0xE000ED88
MPU_TYPE, MPU_CTRL, MPU_RNR, MPU_RBAR, MPU_RASR = range(0xE000ED90, 0xE000EDA4, 4)
DHCSR, DEMCR, STIR = 0xE000EDF0, 0xE000EDFC, 0xE000EF00
FPCCR, FPCAR, FPDSCR, MVFR0, MVFR1 = range(0xE000EF34, 0xE000EF48, 4)
_TRACE = (range(0xE0000000, 0xE0001000), range(0xE0040000, 0xE0043000))  # output that goes nowhere

STKALIGN, NONBASETHRDENA = 1 << 9, 1 << 0  # bits of CCR
SLEEPONEXIT, SEVONPEND = 1 << 1, 1 << 4  # bits of SCR
ASPEN, LSPEN, LSPACT = 1 << 31, 1 << 30, 1 << 0  # bits of FPCCR
MON_EN = 1 << 16  # a bit of DEMCR
_ACTIVE = {
    0: MEM_MANAGE,
    1: BUS_FAULT,
    3: USAGE_FAULT,
    7: SVCALL,
    8: DEBUG_MONITOR,
    10: PENDSV,
    11: SYSTICK,
}  # of SHCSR
_PENDING = {12: USAGE_FAULT, 13: MEM_MANAGE, 14: BUS_FAULT, 15: SVCALL}
_ENABLED = {16: MEM_MANAGE, 17: BUS_FAULT, 18: USAGE_FAULT}

_PRIORITY_MASK = (0xFF << (8 - PRIORITY_BITS)) & 0xFF
_CLEAR_ON_ONE = (CFSR, HFSR, DFSR)
_DEBUG = (DHCSR, DEMCR)
_KEPT = (  # as written: nothing but _changed() and the core depends on them
    *(ACTLR, SCR, CCR, CFSR, HFSR, DFSR, MMFAR, BFAR, AFSR, CPACR, *_DEBUG, FPCCR, FPCAR, FPDSCR),
    *(MPU_CTRL, MPU_RNR, MPU_RBAR, MPU_RASR),
)
_CONSTANT = {
    **{CPUID: 0x410FC241, ICTR: 1, MPU_TYPE: 8 << 8, MVFR0: 0x10110021, MVFR1: 0x11000011},
    **{ID_PFR0: 0x30, ID_PFR1: 0x200, ID_DFR0: 0x100000, ID_MMFR0: 0x30},
}
_UNHEEDED = {
    FPDSCR: (0x07C00000, "FPU.FPDSCR other than 0"),
    MPU_CTRL: (1, "MPU switched on: its regions are kept, not enforced"),
}


def prioritized(address: int) -> int | None:
    """The exception whose priority is the byte at an address of NVIC_IPR or SHPR; None elsewhere."""
    if NVIC_IPR <= address < NVIC_IPR + EXCEPTIONS - FIRST_IRQ:
        return FIRST_IRQ + address - NVIC_IPR
    return MEM_MANAGE + address - SHPR1 if SHPR1 <= address < SHCSR else None


class SysTick:
    """The 24-bit down counter on the core clock. The nRF52840 stops it while the core sleeps; so does `clock`."""

    SAVED: ClassVar[dict[str, Rule]] = {
        "control": Whole(0, 7),
        "reload": Whole(0, 0xFFFFFF),
        "_zero_at": Whole(0, MOST_CYCLES),
        "_flag": Flag(),
        "armed": Items(Whole(0, MOST_CYCLES), most=1),
    }

    def __init__(self, nvic: Nvic, schedule: Schedule) -> None:
        self._nvic, self._schedule = nvic, schedule
        self.control = self.reload = 0
        self._zero_at = 0  # awake cycles at which the counter is zero next
        self._flag = False
        self._event: Event | None = None

    def _period(self) -> int:
        return self.reload + 1

    def _left(self) -> int:
        return self._zero_at - self._schedule.awake()

    def write_control(self, value: int) -> None:
        """SYST_CSR: bit 0 starts and stops, bit 1 asks for the exception."""
        started = value & 1 and not self.control & 1
        self.control = value & 7
        if started:
            self._zero_at = self._schedule.awake() + self._period()
        self._arm()

    def clear(self) -> None:
        """SYST_CVR was written: begin a period."""
        self._flag = False
        self._zero_at = self._schedule.awake() + self._period()
        self._arm()

    def value(self) -> int:
        """SYST_CVR."""
        if not self.control & 1 or not self.reload:
            return 0
        return self._left() % self._period()

    def read_control(self) -> int:
        """SYST_CSR; reading takes its COUNTFLAG away."""
        flag, self._flag = self._flag, False
        return self.control | flag << 16

    @property
    def armed(self) -> list[int]:
        """The order of the event at _zero_at, where there is one."""
        return [self._event.order] if self._event else []

    @armed.setter
    def armed(self, orders: list[int]) -> None:
        for order in orders:
            self._event = self._schedule.put_back(self._zero_at, order, self._wrap, awake=True)

    def _arm(self) -> None:
        if self._event:
            self._event.cancel()
            self._event = None
        if self.control & 1 and self.reload:
            self._event = self._schedule.at_awake(self._zero_at, self._wrap)

    def _wrap(self) -> None:
        self._flag = True
        self._zero_at += self._period()
        if self.control & 2:
            self._nvic.pend(SYSTICK)
        self._arm()


class SystemSpace:
    """Reads and writes of 0xE0000000..0xE00FFFFF, by offset."""

    SAVED: ClassVar[dict[str, Rule]] = {
        "vtor": Whole(0, 0xFFFFFF80),
        "_cyccnt_on": Flag(),
        "_cyccnt_base": Whole(-MOST_CYCLES, MOST_CYCLES),
        "kept": Items(Whole(0, 0xFFFFFFFF), len(_KEPT), len(_KEPT)),
    }

    def __init__(self, nvic: Nvic, schedule: Schedule, unmodelled: Unmodelled, reset: Callable[[], None]) -> None:
        self.nvic, self.systick, self._schedule = nvic, SysTick(nvic, schedule), schedule
        self._unmodelled, self._reset = unmodelled, reset
        self.on_control: Callable[[], None] = lambda: None  # called when CCR, CPACR or FPCCR was written
        self.vtor = 0
        self.registers: dict[int, int] = {}
        self._cyccnt_on, self._cyccnt_base = False, 0
        self.reset()

    def reset(self) -> None:
        """As after a system reset; the debugger's registers keep what they hold."""
        self.systick.write_control(0)
        kept = {address: self.registers[address] for address in _DEBUG if address in self.registers}
        self.registers.update({**dict.fromkeys(_KEPT, 0), FPCCR: ASPEN | LSPEN, CCR: STKALIGN, **kept})
        self.on_control()

    @property
    def kept(self) -> list[int]:
        """The registers that are kept as written."""
        return [self.registers[address] for address in _KEPT]

    @kept.setter
    def kept(self, values: list[int]) -> None:
        self.registers.update(zip(_KEPT, values, strict=True))

    def cyccnt(self) -> int:
        """DWT_CYCCNT: cycles awake, modulo 2^32."""
        return (self._schedule.awake() - self._cyccnt_base if self._cyccnt_on else self._cyccnt_base) & 0xFFFFFFFF

    def move_cycle_counter(self, cycles: int) -> None:
        """DWT_CYCCNT as if so many more cycles had been counted."""
        self._cyccnt_base += -cycles if self._cyccnt_on else cycles

    def _dwt_control(self, on: bool) -> None:
        if on != self._cyccnt_on:
            value = self.cyccnt()
            self._cyccnt_on = on
            self._cyccnt_base = self._schedule.awake() - value if on else value

    def read(self, offset: int, size: int) -> int:
        """`size` bytes at an offset."""
        address = SYSTEM_SPACE + offset
        word = self._read_word(address & ~3)
        return word >> 8 * (address & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """`size` bytes at an offset."""
        address = SYSTEM_SPACE + offset
        if size == 4:
            self._write_word(address, value)
        elif prioritized(address) is not None:
            self._write_priorities(address, size, value)
        else:
            old, shift = self._read_word(address & ~3), 8 * (address & 3)
            if address & ~3 in _CLEAR_ON_ONE:
                old = 0
            mask = (1 << 8 * size) - 1 << shift
            self._write_word(address & ~3, old & ~mask | value << shift & mask)

    def _read_word(self, address: int) -> int:
        nvic = self.nvic
        if address == DWT_CYCCNT:
            return self.cyccnt()
        if address == DWT_CTRL:
            return 0x40000000 | self._cyccnt_on
        if address in self.registers:
            return self.registers[address]
        if address in _CONSTANT:
            return _CONSTANT[address]
        if NVIC_ISER <= address < NVIC_IPR:
            kinds = (nvic.enabled, nvic.pending, set(nvic.active))
            return self._bits(kinds[(address - NVIC_ISER) // 0x100], address & 0x7F)
        first = prioritized(address)
        if first is not None:
            return int.from_bytes(bytes(nvic.priorities[first : first + 4]), "little")
        return self._read_control(address)

    def _read_control(self, address: int) -> int:
        nvic = self.nvic
        if address == SYST_CSR:
            return self.systick.read_control()
        if address == SYST_RVR:
            return self.systick.reload
        if address == SYST_CVR:
            return self.systick.value()
        if address == SYST_CALIB:
            return 0xC0000000
        if address == ICSR:
            best = nvic.best_pending() or 0
            return (
                (nvic.active[-1] if nvic.active else 0)
                | (len(nvic.active) <= 1) << 11
                | best << 12
                | (NMI in nvic.pending) << 31
                | any(number >= FIRST_IRQ for number in nvic.pending) << 22
                | (SYSTICK in nvic.pending) << 26
                | (PENDSV in nvic.pending) << 28
            )
        if address == VTOR:
            return self.vtor
        if address == AIRCR:
            return 0xFA050000 | nvic.priority_group << 8
        if address == SHCSR:
            states = ((_ACTIVE, nvic.active), (_PENDING, nvic.pending), (_ENABLED, nvic.enabled))
            return sum(1 << bit for bits, inside in states for bit, number in bits.items() if number in inside)
        self._unmodelled.register("system register ", address, "", "read")
        return 0

    @staticmethod
    def _bits(members: set[int], offset: int) -> int:
        first = FIRST_IRQ + offset * 8
        return sum(1 << number - first for number in members if first <= number < first + 32)

    def _write_word(self, address: int, value: int) -> None:
        nvic = self.nvic
        if address == DWT_CTRL:
            self._dwt_control(bool(value & 1))
        elif address == DWT_CYCCNT:
            self._cyccnt_base = self._schedule.awake() - value if self._cyccnt_on else value
        elif address in self.registers:
            self.registers[address] = self.registers[address] & ~value if address in _CLEAR_ON_ONE else value
            self._changed(address, value)
        elif NVIC_ISER <= address < NVIC_IABR:
            self._write_interrupts(address, value)
        elif prioritized(address) is not None:
            self._write_priorities(address, 4, value)
        elif address == STIR:
            nvic.pend(FIRST_IRQ + (value & 0xFF))
        elif address not in _CONSTANT:
            self._write_control(address, value)

    def _changed(self, address: int, value: int) -> None:
        """What follows from a register that is kept as written."""
        if address == DEMCR:
            (self.nvic.enabled.add if value & MON_EN else self.nvic.enabled.discard)(DEBUG_MONITOR)
        elif address == SCR:
            self.nvic.event_on_pend = bool(value & SEVONPEND)
        elif address in (CCR, CPACR, FPCCR):
            self.on_control()
        elif address in _UNHEEDED and value & _UNHEEDED[address][0]:
            self._unmodelled(_UNHEEDED[address][1])
        if address == CCR and value & NONBASETHRDENA:
            self._unmodelled("SCB.CCR: NONBASETHRDENA")

    def _write_interrupts(self, address: int, value: int) -> None:
        nvic, first = self.nvic, FIRST_IRQ + (address & 0x7F) * 8
        numbers = {first + bit for bit in range(32) if value >> bit & 1 and first + bit < EXCEPTIONS}
        if address < NVIC_ICER:
            nvic.enabled |= numbers
        elif address < NVIC_ISPR:
            nvic.enabled -= numbers
        elif address < NVIC_ICPR:
            for number in numbers:
                nvic.pend(number)
        else:
            nvic.pending -= numbers
        nvic.on_change()

    def _write_priorities(self, address: int, size: int, value: int) -> None:
        for index in range(size):
            number = prioritized(address + index)
            if number is not None:
                self.nvic.priorities[number] = value >> 8 * index & _PRIORITY_MASK
        self.nvic.on_change()

    def _write_control(self, address: int, value: int) -> None:
        nvic = self.nvic
        if address == SYST_CSR:
            self.systick.write_control(value)
        elif address == SYST_RVR:
            self.systick.reload = value & 0xFFFFFF
        elif address == SYST_CVR:
            self.systick.clear()
        elif address == ICSR:
            for bit, number in ((31, NMI), (28, PENDSV), (26, SYSTICK)):
                if value >> bit & 1:
                    nvic.pend(number)
            for bit, number in ((27, PENDSV), (25, SYSTICK)):
                if value >> bit & 1:
                    nvic.pending.discard(number)
            nvic.on_change()
        elif address == VTOR:
            self.vtor = value & 0xFFFFFF80
        elif address == AIRCR:
            if value >> 16 == 0x05FA:
                nvic.priority_group = value >> 8 & 7
                if value & 4:
                    self._reset()
        elif address == SHCSR:
            for bit, number in _ENABLED.items():
                (nvic.enabled.add if value >> bit & 1 else nvic.enabled.discard)(number)
        elif not any(address in trace for trace in _TRACE):
            self._unmodelled.register("system register ", address, "", "write")
