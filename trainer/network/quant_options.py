"""How a network is quantized, and the step sizes that a calibration set suggests.

b bits are those of weights and hidden activations; the input features and the logits always have 8. Low-bit integers
live in int8 tensors: weights in -(2^(b-1) - 1) .. 2^(b-1) - 1; a hidden activation, never negative, in 127 - (2^b - 1)
.. 127 with zero at the low end, so that int8 saturation and a fused ReLU clamp it and no engine needs another operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import TrainerError

WEIGHTS = ("per-channel", "per-tensor")
SCHEMES = ("asymmetric", "symmetric", "asymmetric-weights")
CALIBRATIONS = ("minmax", "percentile", "mse")
PERCENTILE = 0.999
SEARCH_STEPS = 80
SEARCH_VALUES = 100_000
MIN_SCALE = 1e-8


@dataclass(frozen=True)
class QuantOptions:
    """Width, granularity, scheme and first ranges of a quantized network.

    scheme: `asymmetric` spends all 2^b levels of a hidden activation at and above zero, `symmetric` keeps half of them
    for negative values that never come; weights are symmetric in both. `asymmetric-weights` can be measured, not
    exported. fixed_steps: step sizes come from calibration and are learned (LSQ), instead of following the weights and
    a moving average.
    """

    bits: int = 8
    weights: str = "per-channel"
    scheme: str = "asymmetric"
    calibration: str = "minmax"
    fixed_steps: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise TrainerError(f"--bits: must be in 2..8, got {self.bits}")
        for option, value, known in (
            ("weights", self.weights, WEIGHTS),
            ("scheme", self.scheme, SCHEMES),
            ("calibration", self.calibration, CALIBRATIONS),
        ):
            if value not in known:
                raise TrainerError(f"--{option}: must be one of {', '.join(known)}, got {value}")

    @property
    def weight_top(self) -> int:
        """The largest magnitude of a weight: 127 with 8 bits, 1 with 2."""
        return (1 << (self.bits - 1)) - 1

    @property
    def hidden_levels(self) -> int:
        """The count of steps between zero and the largest hidden activation."""
        return (1 << (self.bits - 1)) - 1 if self.scheme == "symmetric" else (1 << self.bits) - 1


def weight_steps(weight: Tensor, per_channel: bool, options: QuantOptions) -> Tensor:
    """Step sizes [outputs] or [1] of a weight tensor [outputs, ...], by the chosen calibration."""
    rows = weight.detach().float().flatten(1) if per_channel else weight.detach().float().reshape(1, -1)
    return _tops(rows.abs(), options.weight_top, options.calibration) / options.weight_top


def activation_top(values: Tensor, levels: int, calibration: str) -> Tensor:
    """The value of the largest level of a hidden activation, from all values a calibration set gives."""
    flat = values.detach().float().reshape(1, -1)
    if flat.numel() > SEARCH_VALUES and calibration != "minmax":
        flat = flat[:, :: flat.numel() // SEARCH_VALUES]
    return _tops(flat, levels, calibration)[0]


def _tops(rows: Tensor, levels: int, calibration: str) -> Tensor:
    """Per row of magnitudes [n, k], the value that the largest of `levels` levels stands for."""
    peaks = rows.amax(1)
    if calibration == "percentile":
        rank = max(0, int(PERCENTILE * rows.shape[1] + 0.5) - 1)
        peaks = rows.sort(dim=1).values[:, rank]
    elif calibration == "mse":
        peaks = least_error(peaks, lambda tops: _error(rows, tops, levels))
    return torch.where(peaks > 0, peaks, rows.amax(1)).clamp(min=MIN_SCALE)


def least_error(peaks: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
    """Of SEARCH_STEPS equal shares of the peaks, per row the one of least error."""
    best, least = peaks, error(peaks)
    for part in range(1, SEARCH_STEPS):
        tops = peaks * (part / SEARCH_STEPS)
        found = error(tops)
        best, least = torch.where(found < least, tops, best), torch.minimum(found, least)
    return best


def _error(rows: Tensor, tops: Tensor, levels: int) -> Tensor:
    step = (tops / levels).clamp(min=MIN_SCALE)[:, None]
    return ((torch.clamp(torch.round(rows / step), max=levels) * step - rows) ** 2).mean(1)
