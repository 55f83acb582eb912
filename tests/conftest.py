"""Where real recordings and public models lie; tests on generated signals need neither."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from host_cli import cli  # noqa: F401 - a fixture for every test

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, beside: str) -> Path:
    given = os.environ.get(variable)
    folder = Path(given) if given else ROOT.parent / "shared" / "data" / beside
    if not folder.is_dir():
        pytest.skip(f"no data: set {variable} to the folder of {beside}")
    return folder


@pytest.fixture(scope="session")
def speech_commands() -> Path:
    """A Speech-Commands-shaped folder of real recordings."""
    return _folder("KWS_DATA", "speech_commands")


@pytest.fixture(scope="session")
def mlperf_tiny() -> Path:
    """MLPerf Tiny's models/ and kws_mfcc_int8.npz."""
    return _folder("KWS_MLPERF", "mlperf_tiny")
