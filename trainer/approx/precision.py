"""Reconstruction error of each transform of a convolution or a matrix product against the precision it is computed in.

Every product and every sum is rounded to the named type, terms one after the other; the truth is the exact layer of
operands already rounded to that type, so only arithmetic is judged. int8 is the exception: there rounding the operands
is the method, and is judged too.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainer.approx.conv import F2, F4, join_tiles, tiles_of
from trainer.approx.logmath import log_matmul
from trainer.approx.matmul import factor

FLOATS = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = (*FLOATS, "int8")
TRANSFORMS = ("direct", "im2col", "winograd", "winograd4", "fft")
# of two matrices; svd: all ranks kept; log: 32 steps per octave, accumulators and conversion in the precision
PRODUCTS = ("direct", "svd", "log 32, exact", "log 32, hybrid", "log 32, Mitchell")
LOG_BASE, SORTED_BITS, INT8_ACCUMULATOR = 32, 3, 32
INPUTS = ("normal", "uniform", "relu")
CHANNELS = (1, 16, 64)
BATCH, SIDE, OUT = 4, 26, 2  # pictures 26 x 26: 24 x 24 outputs, whole tiles of both Winograd forms


def draw(distribution: str, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """x [4, channels, 26, 26] and k [2, channels, 3, 3] in fp64: x N(0,1), its ReLU, or uniform in [-1, 1]; k
    N(0,1)."""
    generator = torch.Generator().manual_seed(seed)
    x = _operand(distribution, (BATCH, channels, SIDE, SIDE), generator)
    return x, torch.randn((OUT, channels, 3, 3), generator=generator, dtype=torch.float64)


def draw_matrices(distribution: str, seed: int) -> tuple[Tensor, Tensor]:
    """a [32, 256] of the distribution and b [256, 32] of N(0,1), in fp64."""
    generator = torch.Generator().manual_seed(seed)
    return _operand(distribution, (32, 256), generator), torch.randn(
        (256, 32), generator=generator, dtype=torch.float64
    )


def _operand(distribution: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if distribution == "uniform":
        return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    return normal.relu() if distribution == "relu" else normal


def study(channels: tuple[int, ...] = CHANNELS, seeds: int = 4) -> list[dict[str, Any]]:
    """One record per transform, precision, distribution and channel count: relative RMS error over all seeds."""
    records = []
    for count, distribution in itertools.product(channels, INPUTS):
        layers = [draw(distribution, count, seed) for seed in range(seeds)]
        for precision, transform in itertools.product(PRECISIONS, TRANSFORMS):
            facts = {"transform": transform, "precision": precision, "input": distribution, "channels": count}
            records.append({**facts, "relative_rms": relative_rms(layers, transform, precision)})
    return records


def relative_rms(layers: list[tuple[Tensor, Tensor]], transform: str, precision: str) -> float:
    """RMS of the error over RMS of the truth, both over all layers (x, k)."""
    error = truth = 0.0
    for x, k in layers:
        if precision != "int8":
            x, k = x.to(FLOATS[precision]), k.to(FLOATS[precision])
        high, low = exact_sum(_conv_terms(x, k))
        got = convolve_int8(x, k, transform) if precision == "int8" else convolve(x, k, transform)
        error += float(((got.double() - high) - low).square().sum())
        truth += float(high.square().sum())
    return float((error / truth) ** 0.5)


def product_study(seeds: int = 2) -> list[dict[str, Any]]:
    """One record per way to multiply matrices [32, 256] and [256, 32], precision and distribution: relative RMS error
    over all seeds."""
    records = []
    for distribution in INPUTS:
        pairs = [draw_matrices(distribution, seed) for seed in range(seeds)]
        for precision, way in itertools.product(PRECISIONS, PRODUCTS):
            error = truth = 0.0
            for a, b in pairs:
                if precision != "int8":
                    a, b = a.to(FLOATS[precision]), b.to(FLOATS[precision])
                high, low = exact_sum([(a[:, None, i], b[None, i]) for i in range(a.shape[1])])
                error += float(((multiply(a, b, way, precision).double() - high) - low).square().sum())
                truth += float(high.square().sum())
            facts = {"transform": way, "precision": precision, "input": distribution}
            records.append({**facts, "relative_rms": (error / truth) ** 0.5})
    return records


def multiply(a: Tensor, b: Tensor, way: str, precision: str) -> Tensor:
    """a b in the precision; svd keeps the factors of a apart, log multiplies by adding exponents, sums in accumulators
    of the precision and converts in it. int8: registers of 32 bits, constants with 8 bits of fraction."""
    if way.startswith("log"):
        form = way.rpartition(" ")[2].lower()
        bits = SORTED_BITS if form == "hybrid" else 0
        if precision == "int8":
            form = "lut" if form == "exact" else form
            return log_matmul(quantize(a), quantize(b), LOG_BASE, form, bits, INT8_ACCUMULATOR, torch.float32)
        return log_matmul(a, b, LOG_BASE, form, bits, a.dtype, a.dtype)
    if precision == "int8":
        if way == "direct":
            return quantize(a) @ quantize(b)
        left, right = factor(a, min(a.shape))
        return quantize(left) @ quantize(quantize(right) @ quantize(b))
    if way == "direct":
        return _product(a, b)
    left, right = factor(a.double(), min(a.shape))
    return _product(left.to(a.dtype), _product(right.to(a.dtype), b))


def _product(a: Tensor, b: Tensor) -> Tensor:
    y = a.new_zeros(a.shape[0], b.shape[1])
    for i in range(a.shape[1]):
        y = y + a[:, i, None] * b[i]
    return y


def _conv_terms(x: Tensor, k: Tensor) -> list[tuple[Tensor, Tensor]]:
    h, w = x.shape[2] - 2, x.shape[3] - 2
    return [
        (x[:, None, c, row : row + h, column : column + w], k[:, c, row, column][:, None, None])
        for c in range(x.shape[1])
        for row in range(3)
        for column in range(3)
    ]


def exact_sum(terms: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The sum of products as high + low, both fp64, good to about 1e-30: errors of products and sums are kept (Dekker,
    1971)."""
    high = low = torch.zeros((), dtype=torch.float64)
    for left, right in terms:
        a, b = left.double(), right.double()
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
    """The convolution with each operation rounded to x's type. im2col is a product of matrices: its terms are summed
    in blocks, direct's one after the other."""
    if transform == "direct":
        return _direct(x, k)
    if transform == "im2col":
        return _im2col(x, k)
    if transform == "fft":
        return _fft(x, k)
    form = F2 if transform == "winograd" else F4
    u = apply_both(form.g, k)
    v = apply_both(form.bt, tiles_of(x, form))
    return join_tiles(apply_both(form.at, _channel_sum(u, v)), x.shape[2] - 2, x.shape[3] - 2)


def _direct(x: Tensor, k: Tensor) -> Tensor:
    y = torch.zeros((), dtype=x.dtype)
    for a, b in _conv_terms(x, k):
        y = y + a * b
    return y


def _im2col(x: Tensor, k: Tensor) -> Tensor:
    """Blocks of 8 terms each have a sum of their own, as the registers of a blocked matrix product have; these are then
    added."""
    terms = _conv_terms(x, k)
    blocks = [terms[at : at + 8] for at in range(0, len(terms), 8)]
    y = torch.zeros((), dtype=x.dtype)
    for block in blocks:
        part = torch.zeros((), dtype=x.dtype)
        for a, b in block:
            part = part + a * b
        y = y + part
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
    """int8 operands, per tensor and symmetric; Winograd and the FFT round the transformed operands to int8 again, the
    way back is exact."""
    x, k = quantize(x), quantize(k)
    if transform in ("direct", "im2col"):
        return functional.conv2d(x, k)  # sums of products of 8 bit integers times one scale: exact in fp64
    if transform == "fft":
        size = x.shape[2:]
        xs, ks = (torch.view_as_complex(quantize(torch.view_as_real(torch.fft.rfft2(t, s=size)))) for t in (x, k))
        y: Tensor = torch.fft.irfft2(torch.einsum("nchw,ochw->nohw", xs, ks.conj()), s=size)
        return y[:, :, : size[0] - 2, : size[1] - 2]
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
    return (y * scale)[:, :, : x.shape[2] - 2, : x.shape[3] - 2]


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
