"""`trainer audio` in a process of its own, which may print names that are no text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def audio_command(*words: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "audio", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False, errors="surrogateescape",
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.returncode, done.stdout, done.stderr
