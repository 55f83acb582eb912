"""A fact that C and Python both state is the same fact."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from converter.spec import FeatureSpec
from converter.target import NRF52840, SAMPLE_RATE_HZ
from host.link import protocol

ROOT = Path(__file__).resolve().parents[2]


def c_constants(file: str) -> dict[str, int]:
    """Every `#define NAME number` of a header."""
    found = re.findall(r"^#define (\w+) \(?(0x[0-9A-Fa-f]+|\d+)[uU]?[lL]*\)?(?=\s|$)", (ROOT / file).read_text(), re.M)
    return {name: int(value, 0) for name, value in found}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROTOCOL_VERSION", protocol.PROTOCOL_VERSION),
        ("PROTOCOL_AUDIO_SAMPLES", protocol.AUDIO_SAMPLES),
        ("PROTOCOL_MAX_QUIET", protocol.QUIET_SAMPLES),
    ],
)
def test_limits_of_the_protocol(name: str, value: int) -> None:
    assert c_constants("firmware/lib/protocol/protocol.h")[name] == value


def test_memory_of_the_linker_script() -> None:
    """The bare image is linked for the same flash and RAM that sizes are shares of."""
    sizes = re.findall(r"(\w+)\s*\([a-z]+\)\s*:\s*ORIGIN = (\w+), LENGTH = (\w+)", _linker_script())
    regions = {name.lower(): (int(origin, 0), _bytes(length)) for name, origin, length in sizes}
    assert regions["flash"] == (NRF52840.flash_start, NRF52840.flash_bytes)
    assert regions["ram"] == (NRF52840.ram_start, NRF52840.ram_bytes)


def _linker_script() -> str:
    return (ROOT / "firmware" / "bare" / "nrf52840.ld").read_text()


def _bytes(text: str) -> int:
    unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
    return int(text.rstrip("KM"), 0) * unit


def test_the_microphones_rate() -> None:
    assert FeatureSpec().sample_rate_hz == SAMPLE_RATE_HZ
