"""How long each way to convolve takes beside torch's own kernel: fp32, one thread, the kernel's transform counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from converter.commands.timing import Call, Times, in_turns
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


def one_thread_times(calls: Sequence[Call], rounds: int) -> list[Times]:
    """Of each call a time per round, in which every call has one turn, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return in_turns(calls, rounds)
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
    """One record per layer and method that applies: the shortest time, the quartiles' distance over
    the median, the ratio to torch's and to im2col's shortest time, and to torch's of the third quartile."""
    records = []
    for name, (n, inputs, outputs, side, kernel) in LAYERS.items():
        generator = torch.Generator().manual_seed(0)
        x, k = (
            torch.randn(n, inputs, side, side, generator=generator),
            torch.randn(outputs, inputs, kernel, kernel, generator=generator),
        )
        methods = [m for m in FAST if kernel == 3 or not m.startswith("winograd")]
        calls = [lambda m=m, x=x, k=k: conv2d(x, k, method=m) for m in methods]
        times = dict(zip(methods, one_thread_times(calls, rounds), strict=True))
        direct = multiplications("torch", inputs, outputs, side, kernel)
        records += [
            {
                "layer": name,
                "method": m,
                "microseconds": 1e6 * times[m].best,
                "spread": times[m].spread,
                "times_torch": times[m].best / times["torch"].best,
                "times_torch_upper": times[m].upper / times["torch"].best,
                "times_im2col": times[m].best / times["im2col"].best,
                "fewer_multiplications": direct / multiplications(m, inputs, outputs, side, kernel),
            }
            for m in methods
        ]
    return records
