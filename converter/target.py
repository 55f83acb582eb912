"""The board's facts, each in one place. Standard library only.

Source: nRF52840 Product Specification v1.7, sections 4.2 (memory map) and 5.4 (64 MHz HFCLK).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A microcontroller that images are built for: sizes in bytes, addresses, core clock in hertz."""

    name: str
    flash_start: int
    flash_bytes: int
    ram_start: int
    ram_bytes: int
    code_ram_start: int  # the same RAM where the core's code buses see it
    clock_hz: int


NRF52840 = Target("nRF52840", 0x00000000, 1 << 20, 0x20000000, 256 << 10, 0x00800000, 64_000_000)
"""The chip of the Arduino Nano 33 BLE: 1 MiB of flash, 256 KiB of RAM, a Cortex-M4F at 64 MHz."""

SAMPLE_RATE_HZ = 16_000
"""What the board's microphone delivers and every front end here takes; FeatureSpec.sample_rate_hz begins with it."""
