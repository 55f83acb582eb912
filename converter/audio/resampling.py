"""Sound at another rate, piece by piece as it comes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from converter.arrays import Float64, Int16
from converter.errors import ConvertError

ZERO_CROSSINGS, ROLLOFF = 64, 0.99  # of the sinc on each side; of the lower Nyquist rate
MOST_TAPS = 1_000_000  # of all phases: 8 MB


class Resampler:
    """int16 at one rate into int16 at another, by the windowed sinc of torchaudio's Resample, which `trainer record`
    and `audio` use; pieces of any size give what the whole does, rounded to nearest and clipped."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Raises ConvertError where the rates have no simple ratio."""
        ratio = Fraction(from_hz, to_hz)
        self._step, self._phases = ratio.numerator, ratio.denominator  # so many samples become so many
        base = min(self._step, self._phases) * ROLLOFF
        self._half = math.ceil(ZERO_CROSSINGS * self._step / base)
        if self._phases * 2 * self._half > MOST_TAPS:
            raise ConvertError(
                f"microphone: its rate must have a simple ratio to {to_hz} Hz, got {from_hz} Hz; set it to 16, 44.1 or "
                f"48 kHz in the system's settings"
            )
        taps = np.arange(1 - self._half, self._half + 1)
        place = np.arange(self._phases) * self._step % self._phases / self._phases  # between two samples
        at = np.clip((taps - place[:, None]) * base / self._step, -ZERO_CROSSINGS, ZERO_CROSSINGS)
        window = np.cos(at * np.pi / ZERO_CROSSINGS / 2) ** 2
        self._filter: Float64 = np.sinc(at) * window * base / self._step  # [phases, taps]
        self._heard = np.zeros(self._half - 1, np.int16)  # silence before the first sample
        self._next = 0  # the next output's phase

    def push(self, pcm: Int16) -> Int16:
        """The next piece; what is complete by now, which is up to 64 zero crossings behind it."""
        self._heard = np.concatenate([self._heard, pcm])
        room = len(self._heard) - 2 * self._half + 1  # places that the filter has all samples of
        count = max(0, -(-(room * self._phases - self._next * self._step) // self._step))
        number = self._next + np.arange(count)
        first, phase = number * self._step // self._phases, number % self._phases
        windows = self._heard[first[:, None] + np.arange(2 * self._half)]
        made = np.einsum("ij,ij->i", windows, self._filter[phase])
        done = (self._next + count) // self._phases  # whole turns of the filter
        self._heard, self._next = self._heard[done * self._step :], self._next + count - done * self._phases
        found: Int16 = np.clip(np.rint(made), -32768, 32767).astype(np.int16)
        return found
