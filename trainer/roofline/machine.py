"""What this machine can do at most: operations a second per data type, and bytes a second to and from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from converter.commands.timing import Times
from trainer.roofline.system import cpu_flags, free_bytes, take

DTYPES = ("fp32", "bf16", "int8")
STREAM = {"copy": 2, "scale": 2, "add": 3, "triad": 3}  # arrays that a pass reads or writes (McCalpin, STREAM, 1995)
CPU_NEEDS = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "int8": {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"},
}
TORCH = {"fp32": torch.float32, "bf16": torch.bfloat16}


def peak(dtype: str, device: str, seconds: float, largest: int = 0) -> dict[str, Any]:
    """The fastest of matrix products and a convolution, as operations a second; why not, where the hardware lacks the
    type."""
    missing = _missing(dtype, device)
    if missing:
        return {"skipped": missing}
    largest = largest or (8192 if device == "cuda" else 4096)
    sizes = [n for n in (512, 1024, 2048, 4096, 8192) if n <= largest]
    ways: dict[str, tuple[float, Times]] = {}
    for n in sizes:
        ways[f"product of {n}x{n}"] = 2.0 * n**3, take(_product(dtype, n, device), device, seconds)
    if dtype != "int8":
        channels, rows = (256, 56) if largest >= 2048 else (32, 28)
        flops = 2.0 * 8 * channels * channels * 9 * rows * rows
        ways[f"3x3 convolution of {channels} channels"] = (
            flops,
            take(_convolution(dtype, channels, rows, device), device, seconds),
        )
    rates = {name: flops / min(times.seconds) for name, (flops, times) in ways.items()}
    best = max(rates, key=lambda name: rates[name])
    return {"operations_per_second": rates[best], "way": best, "ways": rates, **ways[best][1].to_json()}


def _missing(dtype: str, device: str) -> str:
    if dtype == "fp32":
        return ""
    if device == "cuda":
        has = torch.cuda.is_bf16_supported(False) if dtype == "bf16" else torch.cuda.get_device_capability() >= (7, 5)
        return "" if has else f"this GPU has no {dtype} matrix units"
    wanted = CPU_NEEDS[dtype]
    return "" if cpu_flags() & wanted else f"this CPU has no {dtype} instructions (one of {', '.join(sorted(wanted))})"


def _product(dtype: str, n: int, device: str) -> Callable[[], object]:
    if dtype == "int8":
        a, b = (torch.randint(-128, 128, (n, n), dtype=torch.int8, device=device) for _ in range(2))
        right = b.t() if device == "cuda" else b  # the layout that each library likes
        return lambda: torch._int_mm(a, right)
    x, y, out = (torch.randn(n, n, device=device).to(TORCH[dtype]) for _ in range(3))
    return lambda: torch.mm(x, y, out=out)


def _convolution(dtype: str, channels: int, rows: int, device: str) -> Callable[[], object]:
    x = torch.randn(8, channels, rows, rows, device=device).to(TORCH[dtype])
    weight = torch.randn(channels, channels, 3, 3, device=device).to(TORCH[dtype])

    def call() -> object:
        with torch.inference_mode():
            return functional.conv2d(x, weight, padding=1)

    return call


def stream(kernel: str, device: str, seconds: float, elements: int = 0) -> dict[str, Any]:
    """Bytes a second of one STREAM kernel on arrays far larger than any cache; what a cache fetches before writing is
    not counted."""
    elements = elements or min(1 << (28 if device == "cuda" else 26), free_bytes(device) // 32)
    a, b, c = (torch.full((elements,), value, device=device) for value in (1.0, 2.0, 0.0))
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: c.copy_(a),
        "scale": lambda: torch.mul(c, 3.0, out=b),
        "add": lambda: torch.add(a, b, out=c),
        "triad": lambda: torch.add(b, c, alpha=3.0, out=a),
    }
    times = take(calls[kernel], device, seconds)
    return {"bytes_per_second": moved(kernel, elements) / min(times.seconds), "elements": elements, **times.to_json()}


def moved(kernel: str, elements: int) -> int:
    """Bytes of fp32 arrays that one pass of the kernel reads and writes.

    >>> moved("triad", 1000), moved("copy", 1000)
    (12000, 8000)
    """
    return 4 * STREAM[kernel] * elements
