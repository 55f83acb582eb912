"""`python -m host` inside the test's process, and sounds for its commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

import host.__main__ as commands
from converter.arrays import Pcm


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`python -m host ARGUMENTS` inside this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["host", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            commands.main()
            raise SystemExit(0)
        found = capsys.readouterr()
        return Result(int(ended.value.code or 0), found.out, found.err)

    return run


def refusal(result: Result) -> str:
    """The one sentence on stderr of a command that failed."""
    assert result.code == 1 and "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.strip() and "━" not in line and "0:00" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.err
    return lines[0]


def sound(seconds: float, seed: int = 0) -> Pcm:
    """Bursts of noise and tones with pauses, so that scores move."""
    rng = np.random.default_rng(seed)
    n = int(16000 * seconds)
    loudness = np.repeat(rng.choice([20, 300, 3000, 20000], n // 1600 + 1), 1600)[:n]
    tone = np.sin(2 * np.pi * np.cumsum(np.repeat(rng.uniform(150, 4000, n // 800 + 1), 800)[:n]) / 16000)
    return np.asarray(np.clip(loudness * (0.6 * tone + 0.3 * rng.normal(size=n)), -32768, 32767), np.int16)


def wav(path: Path, pcm: Pcm, rate: int = 16000, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, pcm, rate, subtype=subtype)
    return path
