"""How long each way to convolve takes beside torch's own kernel: fp32, one thread, the kernel's transform counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from converter.commands.timing import Call, fastest_in_turns
from trainer.approx.conv import conv2d

LAYERS = {  # pictures, input channels, output channels, side with its border, kernel
    "1 to 1, 47x47": (1, 1, 1, 49, 3),
    "16 to 16, 32x32": (1, 16, 16, 34, 3),
    "64 to 64, 56x56": (1, 64, 64, 58, 3),
    "128 to 128, 28x28": (1, 128, 128, 30, 3),
    "256 to 256, 14x14": (1, 256, 256, 16, 3),
    "64 to 64, 28x28, 8 pictures": (8, 64, 64, 30, 3),
    "16 to 16, 50x50, kernel 15": (1, 16, 16, 64, 15),
}
FAST = ("torch", "im2col", "winograd", "winograd4", "fft")


def fastest_seconds(calls: Sequence[Call], rounds: int) -> list[float]:
    """The shortest time of each call; in each round every call has one turn, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return fastest_in_turns(calls, rounds)
    finally:
        torch.set_num_threads(threads)


def multiplications(method: str, inputs: int, outputs: int, side: int, kernel: int) -> float:
    """Products of numbers per picture; transforms by constants are left out, as the literature counts (Lavin and Gray,
    2015)."""
    positions = (side - kernel + 1) ** 2
    if method.startswith("winograd"):
        m = 2 if method == "winograd" else 4
        tiles = -(-(side - 2) // m)
        return (m + 2) ** 2 * tiles**2 * inputs * outputs
    if method == "fft":
        return 4 * side * (side // 2 + 1) * inputs * outputs  # a product of two complex numbers is four
    return positions * kernel**2 * inputs * outputs


def study(rounds: int = 20) -> list[dict[str, Any]]:
    """One record per layer and method that applies: microseconds, the ratio to torch's and to im2col's time."""
    records = []
    for name, (n, inputs, outputs, side, kernel) in LAYERS.items():
        generator = torch.Generator().manual_seed(0)
        x, k = (
            torch.randn(n, inputs, side, side, generator=generator),
            torch.randn(outputs, inputs, kernel, kernel, generator=generator),
        )
        methods = [m for m in FAST if kernel == 3 or not m.startswith("winograd")]
        calls = [lambda m=m, x=x, k=k: conv2d(x, k, method=m) for m in methods]
        seconds = dict(zip(methods, fastest_seconds(calls, rounds), strict=True))
        direct = multiplications("torch", inputs, outputs, side, kernel)
        records += [
            {
                "layer": name,
                "method": m,
                "microseconds": 1e6 * seconds[m],
                "times_torch": seconds[m] / seconds["torch"],
                "times_im2col": seconds[m] / seconds["im2col"],
                "fewer_multiplications": direct / multiplications(m, inputs, outputs, side, kernel),
            }
            for m in methods
        ]
    return records
