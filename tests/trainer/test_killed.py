"""Commands killed at any moment, or whose disk is full from there on: all or nothing, and the next run goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("train qat export evaluate clips convert", "negatives sweep search")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("group", GROUPS)
def test_commands_end_whole_wherever_they_are_killed_or_the_disk_is_full(group: str, tmp_path: Path) -> None:
    if "negatives" in group and shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")
    script = str(ROOT / "tests" / "support" / "killed.py")
    command = [sys.executable, script, str(tmp_path), "0", "3", "1", *group.split()]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["case"] for one in found] == group.split() and all(len(one["moments"]) == 3 for one in found)
    assert [fault for one in found for fault in one["faults"]] == []
