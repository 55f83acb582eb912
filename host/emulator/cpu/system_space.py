"""The core's own registers at 0xE0000000: DWT, SysTick, NVIC, SCB, FPU; the rest reads as zero and is reported by
name."""

from __future__ import annotations

from collections.abc import Callable

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
from host.emulator.schedule import Event, Schedule

SYSTEM_SPACE = 0xE0000000
DWT_CTRL, DWT_CYCCNT = 0xE0001000, 0xE0001004
_CPUID = 0x410FC241
_PRIORITY_MASK = (0xFF << (8 - PRIORITY_BITS)) & 0xFF
_PLAIN = {  # kept as written: nothing of the model depends on them
    0xE000ED10: "SCB.SCR",
    0xE000ED14: "SCB.CCR",
    0xE000ED28: "SCB.CFSR",
    0xE000ED2C: "SCB.HFSR",
    0xE000ED30: "SCB.DFSR",
    0xE000ED34: "SCB.MMFAR",
    0xE000ED38: "SCB.BFAR",
    0xE000ED3C: "SCB.AFSR",
    0xE000ED88: "SCB.CPACR",
    0xE000EDF0: "DHCSR",
    0xE000EDFC: "DEMCR",
    0xE000EF34: "FPU.FPCCR",
    0xE000EF38: "FPU.FPCAR",
    0xE000EF3C: "FPU.FPDSCR",
    0xE000E008: "ACTLR",
    0xE000ED94: "MPU.CTRL",
    0xE000ED98: "MPU.RNR",
    0xE000ED9C: "MPU.RBAR",
    0xE000EDA0: "MPU.RASR",
}
_CONSTANT = {
    0xE000ED00: _CPUID,
    0xE000ED90: 8 << 8,
    0xE000E004: 1,
    0xE000EF40: 0x10110021,
    0xE000EF44: 0x11000011,
    0xE000ED40: 0x30,
    0xE000ED44: 0x200,
    0xE000ED48: 0x100000,
    0xE000ED50: 0x30,
}
_ACTIVE, _PENDING, _ENABLED = range(3)
_SHCSR = {
    0: (MEM_MANAGE, _ACTIVE),
    1: (BUS_FAULT, _ACTIVE),
    3: (USAGE_FAULT, _ACTIVE),
    7: (SVCALL, _ACTIVE),
    8: (DEBUG_MONITOR, _ACTIVE),
    10: (PENDSV, _ACTIVE),
    11: (SYSTICK, _ACTIVE),
    12: (USAGE_FAULT, _PENDING),
    13: (MEM_MANAGE, _PENDING),
    14: (BUS_FAULT, _PENDING),
    15: (SVCALL, _PENDING),
    16: (MEM_MANAGE, _ENABLED),
    17: (BUS_FAULT, _ENABLED),
    18: (USAGE_FAULT, _ENABLED),
}
_UNHEEDED = {
    0xE000EF3C: (0x07C00000, "FPU.FPDSCR other than 0"),
    0xE000ED94: (1, "MPU switched on: its regions are kept, not enforced"),
}
_CLEAR_ON_ONE = {0xE000ED28, 0xE000ED2C, 0xE000ED30}
CFSR, HFSR, MMFAR, BFAR, CPACR, SCR, CCR = (
    0xE000ED28,
    0xE000ED2C,
    0xE000ED34,
    0xE000ED38,
    0xE000ED88,
    0xE000ED10,
    0xE000ED14,
)
FPCCR, FPCAR = 0xE000EF34, 0xE000EF38
ASPEN, LSPEN, LSPACT = 1 << 31, 1 << 30, 1 << 0  # bits of FPCCR
DEMCR, MON_EN = 0xE000EDFC, 1 << 16
_DEBUG = (0xE000EDF0, DEMCR)
STKALIGN, NONBASETHRDENA = 1 << 9, 1 << 0  # bits of CCR
SLEEPONEXIT, SEVONPEND = 1 << 1, 1 << 4  # bits of SCR


class SysTick:
    """The 24-bit down counter on the core clock. The nRF52840 stops it while the core sleeps; so does `clock`."""

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
        started = value & 1 and not self.control & 1
        self.control = value & 7
        if started:
            self._zero_at = self._schedule.awake() + self._period()
        self._arm()

    def clear(self) -> None:
        self._flag = False
        self._zero_at = self._schedule.awake() + self._period()
        self._arm()

    def value(self) -> int:
        if not self.control & 1 or not self.reload:
            return 0
        return self._left() % self._period()

    def read_control(self) -> int:
        flag, self._flag = self._flag, False
        return self.control | flag << 16

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

    def __init__(
        self, nvic: Nvic, schedule: Schedule, unmodelled: Callable[[str], None], reset: Callable[[], None]
    ) -> None:
        self.nvic, self.systick, self._schedule = nvic, SysTick(nvic, schedule), schedule
        self._unmodelled, self._reset = unmodelled, reset
        self.on_control: Callable[[], None] = lambda: None  # told that CCR, CPACR or FPCCR was written
        self.vtor = 0
        self.registers: dict[int, int] = {}
        self._cyccnt_on, self._cyccnt_base = False, 0
        self.reset()

    def reset(self) -> None:
        """As after a system reset; the debugger's registers keep what they hold."""
        self.systick.write_control(0)
        kept = {address: self.registers[address] for address in _DEBUG if address in self.registers}
        self.registers.update({**dict.fromkeys(_PLAIN, 0), FPCCR: ASPEN | LSPEN, CCR: STKALIGN, **kept})
        self.on_control()

    def cyccnt(self) -> int:
        return (self._schedule.awake() - self._cyccnt_base if self._cyccnt_on else self._cyccnt_base) & 0xFFFFFFFF

    def _dwt_control(self, on: bool) -> None:
        if on != self._cyccnt_on:
            value = self.cyccnt()
            self._cyccnt_on = on
            self._cyccnt_base = self._schedule.awake() - value if on else value

    def read(self, offset: int, size: int) -> int:
        address = SYSTEM_SPACE + offset
        word = self._read_word(address & ~3)
        return word >> 8 * (address & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        address = SYSTEM_SPACE + offset
        if size == 4:
            self._write_word(address, value)
        elif 0xE000E400 <= address < 0xE000E400 + EXCEPTIONS - FIRST_IRQ or 0xE000ED18 <= address < 0xE000ED24:
            for index in range(size):
                self._write_priority(address + index, value >> 8 * index & 0xFF)
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
        if 0xE000E100 <= address < 0xE000E400:
            return self._bits(
                {0: nvic.enabled, 1: nvic.pending, 2: set(nvic.active)}[(address - 0xE000E100) // 0x100], address & 0x7F
            )
        if 0xE000E400 <= address < 0xE000E400 + EXCEPTIONS - FIRST_IRQ:
            first = FIRST_IRQ + address - 0xE000E400
            return int.from_bytes(bytes(nvic.priorities[first : first + 4]), "little")
        if 0xE000ED18 <= address < 0xE000ED24:
            first = 4 + address - 0xE000ED18
            return int.from_bytes(bytes(nvic.priorities[first : first + 4]), "little")
        return self._read_control(address)

    def _read_control(self, address: int) -> int:
        nvic = self.nvic
        if address == 0xE000E010:
            return self.systick.read_control()
        if address == 0xE000E014:
            return self.systick.reload
        if address == 0xE000E018:
            return self.systick.value()
        if address == 0xE000E01C:
            return 0xC0000000
        if address == 0xE000ED04:
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
        if address == 0xE000ED08:
            return self.vtor
        if address == 0xE000ED0C:
            return 0xFA050000 | nvic.priority_group << 8
        if address == 0xE000ED24:
            return sum(
                1 << bit
                for bit, (number, states) in _SHCSR.items()
                if number in (nvic.active, nvic.pending, nvic.enabled)[states]
            )
        self._unmodelled(f"system register {address:#010x} (read)")
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
        elif 0xE000E100 <= address < 0xE000E300:
            self._write_interrupts(address, value)
        elif 0xE000E400 <= address < 0xE000E400 + EXCEPTIONS - FIRST_IRQ or 0xE000ED18 <= address < 0xE000ED24:
            for index in range(4):
                self._write_priority(address + index, value >> 8 * index & 0xFF)
        elif address == 0xE000EF00:
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
        if address < 0xE000E180:
            nvic.enabled |= numbers
        elif address < 0xE000E200:
            nvic.enabled -= numbers
        elif address < 0xE000E280:
            for number in numbers:
                nvic.pend(number)
        else:
            nvic.pending -= numbers
        nvic.on_change()

    def _write_priority(self, address: int, value: int) -> None:
        number = address - 0xE000ED18 + 4 if address >= 0xE000ED18 else address - 0xE000E400 + FIRST_IRQ
        self.nvic.priorities[number] = value & _PRIORITY_MASK
        self.nvic.on_change()

    def _write_control(self, address: int, value: int) -> None:
        nvic = self.nvic
        if address == 0xE000E010:
            self.systick.write_control(value)
        elif address == 0xE000E014:
            self.systick.reload = value & 0xFFFFFF
        elif address == 0xE000E018:
            self.systick.clear()
        elif address == 0xE000ED04:
            for bit, number in ((31, NMI), (28, PENDSV), (26, SYSTICK)):
                if value >> bit & 1:
                    nvic.pend(number)
            for bit, number in ((27, PENDSV), (25, SYSTICK)):
                if value >> bit & 1:
                    nvic.pending.discard(number)
            nvic.on_change()
        elif address == 0xE000ED08:
            self.vtor = value & 0xFFFFFF80
        elif address == 0xE000ED0C:
            if value >> 16 == 0x05FA:
                nvic.priority_group = value >> 8 & 7
                if value & 4:
                    self._reset()
        elif address == 0xE000ED24:
            for bit, number in ((16, MEM_MANAGE), (17, BUS_FAULT), (18, USAGE_FAULT)):
                (nvic.enabled.add if value >> bit & 1 else nvic.enabled.discard)(number)
        elif (
            not 0xE0000000 <= address < 0xE0001000 and not 0xE0040000 <= address < 0xE0043000
        ):  # trace output goes nowhere
            self._unmodelled(f"system register {address:#010x} (write)")
