"""Reconstruction error of each convolution transform against the precision it is computed in.

Every product and every sum is rounded to the named type, terms one after the other; the truth is the exact layer of operands already
rounded to that type, so only arithmetic is judged. int8 is the exception: there rounding the operands is the method, and is judged too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainer.approx.conv import F2, F4, join_tiles, tiles_of

FLOATS = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = (*FLOATS, "int8")
TRANSFORMS = ("direct", "winograd", "winograd4", "fft")
INPUTS = ("normal", "uniform", "relu")
CHANNELS = (1, 16, 64)
BATCH, SIDE, OUT = 4, 26, 2  # pictures 26 x 26: 24 x 24 outputs, whole tiles of both Winograd forms


def draw(distribution: str, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """x [4, channels, 26, 26] and k [2, channels, 3, 3] in fp64: x N(0,1), its ReLU, or uniform in [-1, 1]; k N(0,1)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, channels, SIDE, SIDE)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if distribution == "uniform":
        x = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    elif distribution == "relu":
        x = x.relu()
    return x, torch.randn((OUT, channels, 3, 3), generator=generator, dtype=torch.float64)


def study(channels: tuple[int, ...] = CHANNELS, seeds: int = 4) -> list[dict[str, Any]]:
    """One record per transform, precision, distribution and channel count: relative RMS error over all seeds."""
    records = []
    for count in channels:
        for distribution in INPUTS:
            layers = [draw(distribution, count, seed) for seed in range(seeds)]
            for precision in PRECISIONS:
                for transform in TRANSFORMS:
                    if precision == "int8" and transform == "fft":
                        continue  # no int8 FFT is defined here
                    records.append({"transform": transform, "precision": precision, "input": distribution, "channels": count,
                                    "relative_rms": relative_rms(layers, transform, precision)})
    return records


def relative_rms(layers: list[tuple[Tensor, Tensor]], transform: str, precision: str) -> float:
    """RMS of the error over RMS of the truth, both over all layers (x, k)."""
    error = truth = 0.0
    for x, k in layers:
        if precision != "int8":
            x, k = x.to(FLOATS[precision]), k.to(FLOATS[precision])
        high, low = _truth(x, k)
        got = convolve_int8(x, k, transform) if precision == "int8" else convolve(x, k, transform)
        error += float(((got.double() - high) - low).square().sum())
        truth += float(high.square().sum())
    return float((error / truth) ** 0.5)


def _truth(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution as high + low, both fp64, good to about 1e-30: errors of products and sums are kept (Dekker, 1971)."""
    x, k = x.double(), k.double()
    h, w = x.shape[2] - 2, x.shape[3] - 2
    high = low = x.new_zeros(len(x), len(k), h, w)
    for c in range(x.shape[1]):
        for row in range(3):
            for column in range(3):
                a, b = x[:, None, c, row:row + h, column:column + w], k[:, c, row, column][:, None, None]
                product = a * b
                (a1, a0), (b1, b0) = _halves(a), _halves(b)
                product_error = ((a1 * b1 - product) + a1 * b0 + a0 * b1) + a0 * b0
                total = high + product
                taken = total - high
                low = low + (((high - (total - taken)) + (product - taken)) + product_error)
                high = total
    return high, low


def _halves(t: Tensor) -> tuple[Tensor, Tensor]:
    shifted = t * 134217729.0  # 2^27 + 1
    upper = shifted - (shifted - t)
    return upper, t - upper


def convolve(x: Tensor, k: Tensor, transform: str) -> Tensor:
    """The convolution with each operation rounded to x's type; im2col sums the same terms in the same order as direct."""
    if transform == "direct":
        return _direct(x, k)
    if transform == "fft":
        return _fft(x, k)
    form = F2 if transform == "winograd" else F4
    u = apply_both(form.g, k)
    v = apply_both(form.bt, tiles_of(x, form))
    return join_tiles(apply_both(form.at, _channel_sum(u, v)), x.shape[2] - 2, x.shape[3] - 2)


def _direct(x: Tensor, k: Tensor) -> Tensor:
    h, w = x.shape[2] - 2, x.shape[3] - 2
    y = x.new_zeros(len(x), len(k), h, w)
    for c in range(x.shape[1]):
        for row in range(3):
            for column in range(3):
                y = y + x[:, None, c, row:row + h, column:column + w] * k[:, c, row, column][:, None, None]
    return y


def apply_both(rows: tuple[tuple[float, ...], ...], t: Tensor) -> Tensor:
    """M t M^T over the last two axes, term by term."""
    return _apply(rows, _apply(rows, t).transpose(-1, -2)).transpose(-1, -2)


def _apply(rows: tuple[tuple[float, ...], ...], t: Tensor) -> Tensor:
    """M t, coefficients rounded to t's type; what is multiplied by 0 is left out, by 1 not rounded."""
    made = []
    for row in rows:
        terms = [t[..., i, :] * torch.tensor(value, dtype=t.dtype) for i, value in enumerate(row) if value]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        made.append(total)
    return torch.stack(made, dim=-2)


def _channel_sum(u: Tensor, v: Tensor) -> Tensor:
    """[n, out, rows, columns, t, t] of u [out, in, t, t] and v [n, in, rows, columns, t, t], channel after channel."""
    total = v[:, None, 0] * u[:, 0, None, None]
    for c in range(1, v.shape[1]):
        total = total + v[:, None, c] * u[:, c, None, None]
    return total


def convolve_int8(x: Tensor, k: Tensor, transform: str) -> Tensor:
    """int8 operands, per tensor and symmetric; Winograd transforms them and rounds the transformed ones to int8 again."""
    x, k = quantize(x), quantize(k)
    if transform == "direct":
        return functional.conv2d(x, k)  # sums of products of 8 bit integers times one scale: exact in fp64
    form = F2 if transform == "winograd" else F4
    u, v = quantize(apply_both(form.g, k)), quantize(apply_both(form.bt, tiles_of(x, form)))
    return join_tiles(apply_both(form.at, _channel_sum(u, v)), x.shape[2] - 2, x.shape[3] - 2)


def quantize(t: Tensor) -> Tensor:
    """t rounded to 255 levels round zero, as fp64."""
    scale = t.abs().max() / 127
    return torch.round(t / scale) * scale


def _fft(x: Tensor, k: Tensor) -> Tensor:
    size = 1 << (max(x.shape[2:]) - 1).bit_length()
    pad_x = functional.pad(x, (0, size - x.shape[3], 0, size - x.shape[2]))
    pad_k = functional.pad(k, (0, size - 3, 0, size - 3))
    xr, xi = _fft2(pad_x, torch.zeros_like(pad_x))
    kr, ki = _fft2(pad_k, torch.zeros_like(pad_k))
    real, imaginary = x.new_zeros(len(x), len(k), size, size), x.new_zeros(len(x), len(k), size, size)
    for c in range(x.shape[1]):  # times the conjugate: a correlation
        a, b, p, q = xr[:, None, c], xi[:, None, c], kr[:, c], ki[:, c]
        real, imaginary = real + (a * p + b * q), imaginary + (b * p - a * q)
    scale = torch.tensor(1 / size, dtype=x.dtype)  # a power of two, on the way in, so that fp16 does not overflow
    y, _ = _fft2(real * scale, -imaginary * scale)
    return (y * scale)[:, :, :x.shape[2] - 2, :x.shape[3] - 2]


def _fft2(real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
    for _ in range(2):
        real, imaginary = _fft1(real, imaginary)
        real, imaginary = real.transpose(-1, -2), imaginary.transpose(-1, -2)
    return real, imaginary


def _fft1(real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """Radix-2 decimation in time over the last axis (Cooley and Tukey, 1965), each butterfly rounded to the type."""
    size = real.shape[-1]
    if size == 1:
        return real, imaginary
    (er, ei), (odd_r, odd_i) = _fft1(real[..., ::2], imaginary[..., ::2]), _fft1(real[..., 1::2], imaginary[..., 1::2])
    angle = -2 * torch.pi * torch.arange(size // 2, dtype=torch.float64) / size
    c, s = angle.cos().to(real.dtype), angle.sin().to(real.dtype)
    tr, ti = odd_r * c - odd_i * s, odd_r * s + odd_i * c
    return torch.cat([er + tr, er - tr], -1), torch.cat([ei + ti, ei - ti], -1)
