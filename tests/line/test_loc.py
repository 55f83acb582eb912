"""The budget of lines: what is added must be paid for by what goes."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

import pytest

LOC = Path(__file__).with_name("loc.py")


def test_lines_stay_within_the_budget() -> None:
    if subprocess.run(["git", "ls-files"], cwd=LOC.parent, capture_output=True, check=False).returncode:
        pytest.skip("no git checkout")
    loc = runpy.run_path(str(LOC))
    counted = loc["totals"](loc["lines_by_folder"]())
    for name, most in loc["BUDGET"].items():
        assert 0 < counted[name] <= most, f"{name}: {counted[name]:,} lines, at most {most:,}; see `make loc`"
    assert counted["generated"] > 0
