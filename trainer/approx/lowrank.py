"""What truncated singular value factors cost in accuracy, and what they save in multiplications and in time."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.approx.digits import load_digits, train_perceptron
from trainer.approx.matmul import chain, factor
from trainer.approx.speed import one_thread_times
from trainer.errors import TrainerError

SHAPES = {"1024 x 1024": (1024, 1024), "4000 x 4": (4000, 4)}
RANKS = {"1024 x 1024": (16, 32, 64, 128, 256, 320, 384, 448, 480, 512, 576, 640, 768, 1024), "4000 x 4": (1, 2, 3, 4)}
BATCH, FRACTIONS = 64, tuple(i / 32 for i in (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32))


def inputs(data: Path | None) -> dict[str, Tensor]:
    """Five matrices by name: a photograph, N(0,1) numbers, digits (data: see load_digits), activations and a weight of
    a net they train."""
    train_x, train_y, test_x, _ = load_digits(data)
    net = train_perceptron(train_x, train_y)
    first = net[0]
    assert isinstance(first, nn.Linear)
    found = {
        "image": _photograph(),
        "random": torch.randn(512, 512, generator=torch.Generator().manual_seed(0)),
        "digits": test_x[:1024],
        "layer activations": net[:2](test_x[:1024]),
        "layer weight": first.weight.detach(),
    }
    return {name: matrix.double() for name, matrix in found.items()}


def _photograph() -> Tensor:
    """The portrait that matplotlib brings along, grey."""
    from matplotlib import cbook, image

    try:
        file = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
        pixels = torch.tensor(image.imread(file).copy())
    except FileNotFoundError as error:
        raise TrainerError(
            f"svd study: the photograph is matplotlib's sample, got {error}; reinstall matplotlib"
        ) from None
    return pixels.double().mean(-1) / 255


def accuracy_study(matrices: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Relative Frobenius error of each matrix at twelve ranks, from all its singular values."""
    records = []
    for name, matrix in matrices.items():
        energy = torch.linalg.svdvals(matrix).square()
        for rank in sorted({max(1, round(fraction * len(energy))) for fraction in FRACTIONS}):
            error = float((energy[rank:].sum() / energy.sum()).sqrt())
            records.append(
                {
                    "input": name,
                    "shape": list(matrix.shape),
                    "rank": rank,
                    "full_rank": len(energy),
                    "relative_error": error,
                }
            )
    return records


def speed_study(rounds: int = 60) -> list[dict[str, Any]]:
    """Speed-up over torch's product of W and x [., 64] by rank: in multiplications and in time (the shortest, and
    the factors' third quartile against the whole's shortest), factors kept apart, fp32, one thread."""
    records = []
    for name, (m, k) in SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        w, x = torch.randn(m, k, generator=generator), torch.randn(k, BATCH, generator=generator)
        factors = [factor(w, rank) for rank in RANKS[name]]
        whole, *parts = one_thread_times(
            [partial(torch.matmul, w, x), *(partial(chain, [*f, x]) for f in factors)], rounds
        )
        for rank, spent in zip(RANKS[name], parts, strict=True):
            records.append(
                {
                    "shape": name,
                    "batch": BATCH,
                    "rank": rank,
                    "multiplications_ratio": m * k / (rank * (m + k)),
                    "time_ratio": whole.best / spent.best,
                    "time_ratio_lower": whole.best / spent.upper,
                    "whole_microseconds": 1e6 * whole.best,
                    "factored_microseconds": 1e6 * spent.best,
                    "spread": spent.spread,
                }
            )
    return records


def break_even(records: list[dict[str, Any]], shape: str) -> float | None:
    """The rank, between two measured ones, at which the factors take as long as the whole matrix; None if never."""
    points = [(r["rank"], r["time_ratio"]) for r in records if r["shape"] == shape]
    for (low, fast), (high, slow) in pairwise(points):
        if fast >= 1 > slow:
            return float(low + (high - low) * (fast - 1) / (fast - slow))
    return None
