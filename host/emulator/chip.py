"""Which peripherals the nRF52840 has and where; factory information; the pins of the Nano 33 BLE."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from host.emulator.cpu.exceptions import Memory
from host.emulator.peripherals.base import FLAG_WORDS, NAMES, Bus, Idle, Peripheral, Unknown
from host.emulator.peripherals.gpio_ppi_wdt import Gpio, Gpiote, Ppi, Watchdog
from host.emulator.peripherals.nvmc import PAGE, UICR, Nvmc
from host.emulator.peripherals.pdm import Pdm
from host.emulator.peripherals.power_temp_rng import PowerClock, Rng, Temp
from host.emulator.peripherals.timers import Rtc, Timer
from host.emulator.peripherals.uarte import UARTE, Uarte
from host.emulator.schedule import Schedule
from host.emulator.unmodelled import Unmodelled

_PERIPHERALS, _PERIPHERALS_BYTES, _GPIO = 0x40000000, FLAG_WORDS * 4, 0x50000000
RESET_BY_WATCHDOG, RESET_BY_PROGRAM = 1 << 1, 1 << 2  # bits of RESETREAS
LED_PINS = {"red": 24, "green": 16, "blue": 6}  # P0, active low
OTHER_LEDS = {"orange (pin 13)": (0, 13), "power": (1, 9)}  # port and pin, active high


@dataclass(frozen=True)
class Wires:
    """What the peripherals need of the core and the board around them."""

    schedule: Schedule
    memory: Memory
    set_line: Callable[[int, bool], None]  # an interrupt's number, whether it is asserted
    unmodelled: Unmodelled
    reset: Callable[[int], None]  # the bit of RESETREAS
    set_cache: Callable[[bool], None]
    cache_counts: Callable[[], tuple[int, int]]  # hits and misses since power-up
    stall: Callable[[int], None]  # cycles for which the flash is not to be had
    watch_stores: Callable[[bool], None]  # whether the program may write to flash


class Nrf52840:
    """The peripherals around one core. pcm: int16 samples for the microphone, None for none."""

    def __init__(self, wires: Wires, pcm: Any) -> None:
        self.on_leds: Callable[[dict[str, bool]], None] | None = None  # given the three colours when one has changed
        self._leds: dict[str, bool] = {}
        self.pins: dict[str, int] = {}  # port -> levels
        self.bus = bus = Bus(wires.schedule, wires.memory, wires.set_line, wires.unmodelled)
        self.power = PowerClock(bus, 0x00)
        self.uarts = [Uarte(bus, 0x02), Uarte(bus, 0x28)]
        self.gpiote = Gpiote(bus, 0x06)
        for number in (0x08, 0x09, 0x0A, 0x1A, 0x1B):
            Timer(bus, number)
        for number in (0x0B, 0x11, 0x24):
            Rtc(bus, number)
        Rng(bus, 0x0D)
        Temp(bus, 0x0C)
        Watchdog(bus, 0x10, lambda: wires.reset(RESET_BY_WATCHDOG))
        Ppi(bus, 0x1F)
        for number in (0x1C, 0x21, 0x22, 0x2D, 0x27):  # PWM0 to PWM3, USBD
            Idle(bus, number)
        self.microphone = Pdm(bus, 0x1D, pcm)
        cache = wires.set_cache, wires.cache_counts
        self.nvmc = Nvmc(bus, 0x1E, *cache, wires.memory.erase, wires.stall, wires.watch_stores)
        self.ports = [Gpio(bus, 0x50000000, "P0", self._on_pins), Gpio(bus, 0x50000300, "P1", self._on_pins)]
        self.gpiote.ports = self.ports

    @property
    def console(self) -> Uarte:
        """The UART that is the serial port: the first one in use."""
        return next((uart for uart in self.uarts if uart.values.get(UARTE.ENABLE) or uart.ever_received), self.uarts[0])

    def leds(self) -> dict[str, bool]:
        """Which of the three colours is lit."""
        port = self.ports[0]
        return {name: bool(port.direction >> pin & 1) and not port.out >> pin & 1 for name, pin in LED_PINS.items()}

    def other_leds(self) -> dict[str, bool]:
        """The board's other two lights by name, whether they are lit."""
        return {
            name: bool(self.ports[port].out & self.ports[port].direction & 1 << pin)
            for name, (port, pin) in OTHER_LEDS.items()
        }

    def _on_pins(self, port: str, levels: int) -> None:
        self.pins[port] = levels
        self.gpiote.pins(int(port[1]), levels)
        leds = self.leds()
        if self.on_leds and leds != self._leds:
            self._leds = leds
            self.on_leds(leds)

    def regions(self) -> Iterator[tuple[int, int, Callable[[int, int], int], Callable[[int, int, int], None], Any]]:
        """Mapped registers: address, bytes, read(offset, size), write(offset, size, value), flags of the events."""
        for start, size, flags in ((_PERIPHERALS, _PERIPHERALS_BYTES, self.bus.flags), (_GPIO, 0x1000, None)):
            yield start, size, self._reader(start), self._writer(start), flags

    def find(self, address: int) -> Peripheral:
        """The peripheral with a register at this address of one of the regions; one that nobody models keeps what is
        written."""
        base = address & ~0xFFF
        if base == _GPIO:
            base = _GPIO + (0x300 if address & 0xF00 in (0x800, 0x900, 0xA00) else 0)
        found = self.bus.by_base.get(base)
        if found is None:
            number = (base - _PERIPHERALS) >> 12
            name = NAMES[number] if 0 <= number < len(NAMES) and NAMES[number] != "-" else f"peripheral {base:#010x}"
            found = Unknown(self.bus, number, name, base)
        return found

    def _reader(self, start: int) -> Callable[[int, int], int]:
        def read(offset: int, size: int) -> int:
            address = start + offset & ~3
            peripheral = self.find(address)
            return peripheral.read(address - peripheral.base) >> 8 * (offset & 3) & (1 << 8 * size) - 1

        return read

    def _writer(self, start: int) -> Callable[[int, int, int], None]:
        def write(offset: int, size: int, value: int) -> None:
            address = start + offset & ~3
            peripheral = self.find(address)
            if size < 4:
                shift, mask = 8 * (offset & 3), (1 << 8 * size) - 1
                value = peripheral.read(address - peripheral.base) & ~(mask << shift) | (value & mask) << shift
            peripheral.write(address - peripheral.base, value)

        return write

    @staticmethod
    def constants() -> Iterator[tuple[int, bytes]]:
        """Factory and user information: the chip's identity, reset on pin 18, NFC pins as GPIO."""
        factory = {
            0x010: (4096, 256),  # CODEPAGESIZE, CODESIZE
            0x060: (0x33333333, 0x52840000),  # DEVICEID
            0x0A0: (1, 0x12345678, 0x9ABC),  # DEVICEADDRTYPE, DEVICEADDR
            0x100: (0x52840, 0x41414430, 0x2004, 256, 1024),  # INFO: PART, VARIANT, PACKAGE, RAM, FLASH
            0x130: (8, 3),  # not in the data sheet: chip and revision, by which software knows the errata
        }
        yield 0x10000000, _page(factory)
        yield UICR, _page({0x200: (18, 18), 0x208: (0xFFFFFFFF, 0xFFFFFFFE)})  # PSELRESET; APPROTECT, NFCPINS
        yield 0xF0000000, bytes(0xFE0) + struct.pack("<4I", 8, 0, 0x30, 0) + bytes(16)


def _page(words: dict[int, tuple[int, ...]]) -> bytes:
    page = bytearray(b"\xff" * PAGE)
    for offset, values in words.items():
        struct.pack_into(f"<{len(values)}I", page, offset, *values)
    return bytes(page)
