"""`make bench` runs and writes every figure it promises; the figures themselves are not judged here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "tinyconv_window_cycles",
    "tinyconv_stream_hop_cycles",
    "frontend_slice_cycles",
    "listen_20ms_cycles",
    "flash_bytes",
    "ram_bytes",
    "engine_flash_bytes",
    "engine_ram_bytes",
    "features_times_real_time",
    "training_samples_per_second",
    "conversion_seconds",
    "emulator_instructions_per_second",
}


@pytest.mark.slow
@pytest.mark.long  # .ci/run makes the short form of the bench
def test_bench_writes_every_figure(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "host", "bench", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found.keys() >= KEYS | {f"{key}_uncached" for key in KEYS if key.endswith("_cycles")}
    for key in ("tinyconv_window", "tinyconv_stream_hop", "frontend_slice", "listen_20ms"):
        assert found[f"{key}_cycles_low"] < found[f"{key}_cycles"] < found[f"{key}_cycles_high"], key
        assert found[f"{key}_instructions"] < found[f"{key}_cycles"]
    assert all(value > 0 for value in found.values())
