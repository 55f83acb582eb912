"""Convolution by six methods: stride 1, no padding, as torch.nn.functional.conv2d counts it (a correlation)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.errors import TrainerError

METHODS = ("naive", "torch", "im2col", "winograd", "winograd4", "fft")


@dataclass(frozen=True)
class Winograd:
    """The three matrices of F(m x m, 3 x 3): Y = A^T [(G g G^T) * (B^T d B)] A, tile t = m + 2 (Lavin and Gray, arXiv
    1509.09308)."""

    bt: tuple[tuple[float, ...], ...]  # [t, t]
    g: tuple[tuple[float, ...], ...]  # [t, 3]
    at: tuple[tuple[float, ...], ...]  # [m, t]

    @property
    def m(self) -> int:
        """Outputs of a tile along each axis."""
        return len(self.at)

    @property
    def tile(self) -> int:
        """Inputs of a tile along each axis."""
        return len(self.bt)


F2 = Winograd(
    bt=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    g=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    at=((1, 1, 1, 0), (0, 1, -1, -1)),
)
F4 = Winograd(
    bt=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    g=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    at=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)


def conv2d(x: Tensor, k: Tensor, b: Tensor | None = None, method: str = "im2col") -> Tensor:
    """The convolution of x with k plus b, as [n, out, h - kh + 1, w - kw + 1].

    x is [n, in, h, w], k is [out, in, kh, kw], b is [out]; all of one floating type.

    >>> conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3), method="winograd")
    tensor([[[[9., 9.],
              [9., 9.]]]])
    """
    _check(x, k, b, method)
    if method == "torch":
        return functional.conv2d(x, k, b)
    if method == "naive":
        y = _naive(x, k)
    elif method == "im2col":
        y = _im2col(x, k)
    elif method == "fft":
        y = _fft(x, k)
    else:
        y = _winograd(x, k, F2 if method == "winograd" else F4)
    return y if b is None else y + b[:, None, None]


def _check(x: Tensor, k: Tensor, b: Tensor | None, method: str) -> None:
    if method not in METHODS:
        raise TrainerError(f"conv2d: the method is one of {', '.join(METHODS)}, got {method!r}; name one of these")
    if x.ndim != 4 or k.ndim != 4:
        raise TrainerError(
            f"conv2d: x is [n, in, h, w] and k is [out, in, kh, kw], got {list(x.shape)} and {list(k.shape)}; add axes"
        )
    if 0 in x.shape or 0 in k.shape:
        raise TrainerError(
            f"conv2d: no axis may be empty, got x {list(x.shape)} and k {list(k.shape)}; give at least one of each"
        )
    if x.shape[1] != k.shape[1]:
        raise TrainerError(
            f"conv2d: x and k have the same input channels, got {x.shape[1]} and {k.shape[1]}; groups are not supported"
        )
    if k.shape[2] > x.shape[2] or k.shape[3] > x.shape[3]:
        raise TrainerError(
            f"conv2d: the kernel fits into the picture, got {list(k.shape[2:])} on {list(x.shape[2:])}; pad x first"
        )
    if b is not None and b.shape != k.shape[:1]:
        raise TrainerError(
            f"conv2d: b is [out] = [{k.shape[0]}], got {list(b.shape)}; give one bias per output channel"
        )
    others = [k] if b is None else [k, b]
    if not x.is_floating_point() or any(t.dtype != x.dtype for t in others):
        found = ", ".join(str(t.dtype) for t in [x, *others])
        raise TrainerError(f"conv2d: all tensors have one floating type, got {found}; convert them to one")
    if method.startswith("winograd") and k.shape[2:] != (3, 3):
        raise TrainerError(
            f"conv2d: {method} is defined here for 3x3 kernels, got {k.shape[2]}x{k.shape[3]}; use im2col or fft"
        )
    if method == "fft" and x.dtype not in (torch.float32, torch.float64):
        raise TrainerError(f"conv2d: fft needs float32 or float64, got {x.dtype}; convert x, k and b")


def _naive(x: Tensor, k: Tensor) -> Tensor:
    n, _, h, w = x.shape
    out, _, kh, kw = k.shape
    y = x.new_empty(n, out, h - kh + 1, w - kw + 1)
    for i in range(n):
        for o in range(out):
            for row in range(y.shape[2]):
                for column in range(y.shape[3]):
                    y[i, o, row, column] = (x[i, :, row : row + kh, column : column + kw] * k[o]).sum()
    return y


def _im2col(x: Tensor, k: Tensor) -> Tensor:
    out, _, kh, kw = k.shape
    columns = functional.unfold(x, (kh, kw))  # [n, in * kh * kw, positions]
    return (k.reshape(out, -1) @ columns).reshape(len(x), out, x.shape[2] - kh + 1, x.shape[3] - kw + 1)


def tiles_of(x: Tensor, form: Winograd) -> Tensor:
    """The overlapping input tiles [n, in, rows, columns, t, t]; x is padded with zeros on the right and below to whole
    tiles."""
    pad_h, pad_w = (-(size - 2) % form.m for size in x.shape[2:])
    return functional.pad(x, (0, pad_w, 0, pad_h)).unfold(2, form.tile, form.m).unfold(3, form.tile, form.m)


def join_tiles(y: Tensor, h: int, w: int) -> Tensor:
    """[n, out, h, w] of the output tiles [n, out, rows, columns, m, m]; what lies beyond h and w is cut off."""
    n, out, rows, columns, m, _ = y.shape
    return y.permute(0, 1, 2, 4, 3, 5).reshape(n, out, rows * m, columns * m)[:, :, :h, :w]


def _winograd(x: Tensor, k: Tensor, form: Winograd) -> Tensor:
    """The tile's axes t, t stand in front, so that each transform is a product of a small matrix and one long one."""
    bt, g, at = (torch.tensor(rows, dtype=x.dtype, device=x.device) for rows in (form.bt, form.g, form.at))
    n, inputs, h, w = x.shape
    m, t = form.m, form.tile
    tiles = tiles_of(x, form)  # [n, in, rows, columns, t, t]
    rows, columns = tiles.shape[2:4]
    u = (g @ k @ g.T).permute(2, 3, 0, 1).reshape(t * t, -1, inputs)
    v = _both_axes(bt, tiles.permute(4, 5, 1, 0, 2, 3).reshape(t, t, -1)).reshape(t * t, inputs, -1)
    y = _both_axes(at, (u @ v).reshape(t, t, -1)).reshape(m, m, len(k), n, rows, columns)
    return y.permute(3, 2, 4, 0, 5, 1).reshape(n, len(k), rows * m, columns * m)[:, :, : h - 2, : w - 2]


def _both_axes(matrix: Tensor, t: Tensor) -> Tensor:
    """M t M^T over the first two axes of t [., ., positions]."""
    return matrix @ (matrix @ t.reshape(len(t), -1)).reshape(len(matrix), *t.shape[1:])


def _fft(x: Tensor, k: Tensor) -> Tensor:
    h, w = x.shape[2:]
    x_spectrum, k_spectrum = torch.fft.rfft2(x), torch.fft.rfft2(k, s=(h, w))
    spectrum = torch.einsum("nchw,ochw->nohw", x_spectrum, k_spectrum.conj())
    y: Tensor = torch.fft.irfft2(spectrum, s=(h, w))  # circular: only these rows and columns did not wrap round
    return y[:, :, : h - k.shape[2] + 1, : w - k.shape[3] + 1]
