"""Modelled energy: cycles times what the nRF52840's data sheet says its core draws. Never a measurement.

nRF52840 Product Specification v1.1, section 5.2.1.3 "CPU running", I_CPU0: 3.3 mA typical for CoreMark at 64 MHz from
flash, cache on, clock from the crystal (HFXO), DC/DC regulator, 3.0 V supply, 25 degrees C, peripherals idle (52 uA per
MHz). With the LDO regulator (I_CPU1) the same table says 6.3 mA. Other code than CoreMark, the microphone, the LED and
the rest of the Arduino board draw otherwise; none of that is in these figures.
"""

from __future__ import annotations

from converter.target import NRF52840

CORE_AMPERE = 3.3e-3
SUPPLY_VOLT = 3.0
CONDITIONS = (
    "modelled energy: cycles at 64 MHz x 3.3 mA (data sheet, CPU running from flash with cache, DC/DC "
    "regulator) x 3.0 V"
)


def modelled_energy_uj(cycles: float) -> float:
    """Microjoules of the core while it works so many cycles.

    >>> modelled_energy_uj(64_000_000)
    9900.0
    """
    return round(cycles / NRF52840.clock_hz * CORE_AMPERE * SUPPLY_VOLT * 1e6, 6)
