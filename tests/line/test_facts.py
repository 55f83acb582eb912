"""A fact that C and Python both state is the same fact."""

from __future__ import annotations

import io
import json
import re
import tokenize
from pathlib import Path

import pytest
from PIL import Image

from converter.spec import MAX_WORDS, DetectorSpec, FeatureSpec, SpecError
from converter.target import NRF52840, SAMPLE_RATE_HZ
from converter.tflite.reader import KINDS, READ_HERE
from converter.tflite.schema import operator_name
from host.link import protocol
from host.measure.bench import BASELINE
from host.measure.bench_chart import plotted

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
        ("PROTOCOL_MAX_THRESHOLDS", MAX_WORDS),
    ],
)
def test_limits_of_the_protocol(name: str, value: int) -> None:
    assert c_constants("firmware/lib/protocol/protocol.h")[name] == value


def test_limits_of_the_detector() -> None:
    found = c_constants("firmware/lib/detector/detector.h")
    assert found["DETECTOR_MAX_LABELS"] == MAX_WORDS + 2
    assert found["DETECTOR_MAX_EVIDENCE"] * 8 == DetectorSpec((0,), average_count=8).highest_sum
    DetectorSpec((0,), average_count=found["DETECTOR_MAX_AVERAGE"])
    with pytest.raises(SpecError):
        DetectorSpec((0,), average_count=found["DETECTOR_MAX_AVERAGE"] + 1)


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


# Literals that would be second copies of converter/target.py, and the files that may hold them.
COPIES = re.compile(
    r"(?<![\w.])(16_?000|64_?000_?000|64e6|1_?048_?576|262_?144|(256|1024) \* 1024|256 << 10|1 << 18|1 << 20)(?!\w)"
)
ALLOWED = {
    "converter/target.py": "their home",
    "host/link/protocol.py": "PROTOCOL_MAX_QUIET, a number of samples that protocol.h states too",
    "host/emulator/cpu/faults.py": "1 << 18 is a bit of CFSR",
    "converter/tflite/interpreters.py": "1 << 20 bytes of a desktop's arena",
    "trainer/data/download.py": "1 << 20 bytes are read at a time",
    "trainer/studies/images_tables.py": "MIB, a unit",
    "trainer/tvm/cpu.py": "1 << 20 multiplications, measured on a desktop",
}


def test_the_boards_facts_are_written_once() -> None:
    """Flash, RAM, clock and rate are imported; doctests and strings may name them."""
    found = []
    for package in ("converter", "host", "trainer"):
        for file in sorted((ROOT / package).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            code = _without_strings_and_comments(file.read_text())
            found += [f"{name}: {match[0]}" for match in COPIES.finditer(code) if name not in ALLOWED]
    assert not found, f"import these from converter/target.py: {found}"


def _without_strings_and_comments(source: str) -> str:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    kept = (token.string for token in tokens if token.type not in (tokenize.STRING, tokenize.COMMENT))
    return " ".join(kept)


def test_the_picture_of_speeds_shows_the_figures_of_the_benchmark() -> None:
    with Image.open(ROOT / "docs" / "speed.png") as picture:
        shown = json.loads(picture.info["Comment"])
    assert shown == plotted(json.loads(BASELINE.read_text())) and len(shown) >= 3


def test_the_readme_names_the_operators_that_are_read() -> None:
    (said,) = re.findall(r"^Supported: ((?:.+\n)+)", (ROOT / "README.md").read_text(), re.M)
    named = set(re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", said.partition(";")[0]))
    read = {operator_name(number) for number in KINDS} | set(READ_HERE)
    assert named == read
