"""The primitives: what each computes as a tensor expression, and the same in numpy and in torch. All float32, all
stride 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tvm import te, tirx

from converter.arrays import Float32
from trainer.errors import TrainerError

Sizes = tuple[int, ...]
MAX_SIZE = 1 << 16


@dataclass(frozen=True)
class Primitive:
    """`define(*sizes)` gives the tensors [input, weights, output]; `shapes(*sizes)` those of the two operands."""

    name: str
    size_names: tuple[str, ...]
    default: Sizes
    odd: str  # the size that must be odd, "" if none
    define: Callable[..., list[te.Tensor]]
    shapes: Callable[..., tuple[Sizes, Sizes]]
    by_numpy: Callable[[Float32, Float32], Float32]
    by_torch: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def check(self, sizes: Sizes) -> Sizes:
        """The sizes, or the default where none are given; raises TrainerError for what this primitive cannot be."""
        if not sizes:
            return self.default
        want = f"tvm {self.name}: --size takes {', '.join(self.size_names)}"
        if len(sizes) != len(self.size_names) or not all(1 <= size <= MAX_SIZE for size in sizes):
            got, usual = (",".join(map(str, numbers)) for numbers in (sizes, self.default))
            raise TrainerError(f"{want}, each 1 to {MAX_SIZE}, got {got}; for example {usual}")
        if self.odd and sizes[self.size_names.index(self.odd)] % 2 == 0:
            raise TrainerError(
                f"{want} with {self.odd} odd (padding is the same on both sides), got {sizes[-1]}; give an odd "
                f"{self.odd}"
            )
        return sizes

    def operands(self, sizes: Sizes, seed: int = 0) -> tuple[Float32, Float32]:
        """float32 data and weights in -1 .. 1, shaped as the sizes say."""
        generator = np.random.default_rng(seed)
        first, second = (generator.uniform(-1, 1, shape).astype(np.float32) for shape in self.shapes(*sizes))
        return first, second

    def prim_func(self, sizes: Sizes) -> tirx.PrimFunc:
        """The schedule before any step: the stages as written, one loop per axis."""
        return te.create_prim_func(self.define(*sizes)).with_attr("global_symbol", "main")


def _conv1d(m: int, n: int) -> list[te.Tensor]:
    """Full convolution: output i is the sum of a[i - j] * w[j], zeros outside a."""
    a, w = te.placeholder((m,), name="a"), te.placeholder((n,), name="w")
    p = te.compute(
        (m + 2 * (n - 1),),
        lambda i: tirx.if_then_else(tirx.all(i >= n - 1, i < m + n - 1), a[i - (n - 1)], 0.0),
        name="padded",
    )
    j = te.reduce_axis((0, n), name="j")
    return [a, w, te.compute((m + n - 1,), lambda i: te.sum(p[i + j] * w[n - 1 - j], axis=j), name="out")]


def _gemm(m: int, k: int, n: int) -> list[te.Tensor]:
    a, b = te.placeholder((m, k), name="a"), te.placeholder((k, n), name="b")
    j = te.reduce_axis((0, k), name="j")
    return [a, b, te.compute((m, n), lambda y, x: te.sum(a[y, j] * b[j, x], axis=j), name="out")]


def _conv2d(h: int, w: int, i: int, o: int, k: int) -> list[te.Tensor]:
    """Batch 1, NCHW and OIHW, same padding."""
    x, weights, r = te.placeholder((i, h, w), name="x"), te.placeholder((o, i, k, k), name="weights"), k // 2
    p = te.compute(
        (i, h + 2 * r, w + 2 * r),
        lambda c, y, z: tirx.if_then_else(tirx.all(y >= r, y < h + r, z >= r, z < w + r), x[c, y - r, z - r], 0.0),
        name="padded",
    )
    c, u, v = (te.reduce_axis((0, size), name=name) for size, name in ((i, "c"), (k, "u"), (k, "v")))
    return [
        x,
        weights,
        te.compute(
            (o, h, w), lambda n, y, z: te.sum(p[c, y + u, z + v] * weights[n, c, u, v], axis=[c, u, v]), name="out"
        ),
    ]


def _depthwise(b: int, c: int, h: int, w: int, k: int) -> list[te.Tensor]:
    """The depthwise half of a separable convolution (the pointwise half is a gemm): NCHW, one k x k kernel per channel,
    same padding."""
    x, weights, r = te.placeholder((b, c, h, w), name="x"), te.placeholder((c, k, k), name="weights"), k // 2
    p = te.compute(
        (b, c, h + 2 * r, w + 2 * r),
        lambda n, m, y, z: tirx.if_then_else(
            tirx.all(y >= r, y < h + r, z >= r, z < w + r), x[n, m, y - r, z - r], 0.0
        ),
        name="padded",
    )
    u, v = te.reduce_axis((0, k), name="u"), te.reduce_axis((0, k), name="v")
    out = te.compute(
        (b, c, h, w), lambda n, m, y, z: te.sum(p[n, m, y + u, z + v] * weights[m, u, v], axis=[u, v]), name="out"
    )
    return [x, weights, out]


def _numpy_conv2d(x: Float32, weights: Float32) -> Float32:
    return _numpy_windows(
        x, weights.shape[-1], lambda windows: np.tensordot(weights, windows, axes=((1, 2, 3), (0, 3, 4)))
    )


def _numpy_depthwise(x: Float32, weights: Float32) -> Float32:
    return _numpy_windows(x, weights.shape[-1], lambda windows: np.einsum("bchwuv,cuv->bchw", windows, weights))


def _numpy_windows(x: Float32, k: int, contract: Callable[[Float32], Float32]) -> Float32:
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(k // 2, k // 2)] * 2)
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(-2, -1))  # type: ignore[call-overload]
    return contract(windows)


def _torch_conv1d(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.conv1d(a[None, None], w.flip(0)[None, None], padding=len(w) - 1)[0, 0]


CONV1D = Primitive(
    "conv1d", ("M", "N"), (4096, 128), "", _conv1d, lambda m, n: ((m,), (n,)), np.convolve, _torch_conv1d
)
GEMM = Primitive(
    "gemm", ("M", "K", "N"), (512, 512, 512), "", _gemm, lambda m, k, n: ((m, k), (k, n)), np.matmul, torch.matmul
)
CONV2D = Primitive(
    "conv2d",
    ("H", "W", "I", "O", "K"),
    (56, 56, 64, 64, 3),
    "K",
    _conv2d,
    lambda h, w, i, o, k: ((i, h, w), (o, i, k, k)),
    _numpy_conv2d,
    lambda x, w: torch.conv2d(x[None], w, padding=w.shape[-1] // 2)[0],
)
DEPTHWISE = Primitive(
    "depthwise",
    ("B", "C", "H", "W", "K"),
    (4, 64, 56, 56, 3),
    "K",
    _depthwise,
    lambda b, c, h, w, k: ((b, c, h, w), (c, k, k)),
    _numpy_depthwise,
    lambda x, w: torch.conv2d(x, w[:, None], padding=w.shape[-1] // 2, groups=x.shape[1]),
)
PRIMITIVES = {primitive.name: primitive for primitive in (CONV1D, GEMM, CONV2D, DEPTHWISE)}
