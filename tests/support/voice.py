"""Words of a synthetic voice that the committed spotter hears."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from converter.arrays import Pcm
from trainer.data.synthetic import resample_spectrum


def spoken(*words: str, before_s: float = 2.5, between_s: float = 1.2) -> Pcm:
    """The words with soft noise between them, int16 at 16 kHz."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("no espeak-ng on this machine")
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, 8, round(16000 * before_s))]
    for word in words:
        said = subprocess.run(
            ["espeak-ng", "--stdout", "-v", "en-gb", "-s", "150", word], capture_output=True, check=True
        )
        sound, rate_hz = soundfile.read(io.BytesIO(said.stdout))
        parts += [0.6 * 32768 * resample_spectrum(sound, rate_hz), rng.normal(0, 8, round(16000 * between_s))]
    return np.asarray(np.clip(np.concatenate(parts), -32768, 32767), np.int16)
