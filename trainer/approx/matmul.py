"""Matrix product by four methods: the definition, torch's own, truncated singular value factors, logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.approx.logmath import log_matmul
from trainer.errors import TrainerError

METHODS = ("naive", "torch", "svd", "log")


def matmul(
    a: Tensor,
    b: Tensor,
    method: str = "torch",
    rank_a: int | None = None,
    rank_b: int | None = None,
    base: int | None = None,
    conversion: str = "exact",
    sorted_bits: int = 0,
) -> Tensor:
    """a [..., m, k] times b [..., k, n] as [..., m, n]; leading axes broadcast.

    svd replaces a and b by their best approximations of rank_a and rank_b (None: kept as it is), which stay factored.
    log rounds exponents to 1/base octave (None: not rounded); conversion and sorted_bits: see
    trainer.approx.logmath.log_matmul.
    """
    _check(a, b, method)
    if method == "torch":
        return a @ b
    if method == "naive":
        return _naive(a, b)
    if method == "svd":
        left = [a] if rank_a is None else list(factor(a, rank_a))
        right = [b] if rank_b is None else list(factor(b, rank_b))
        return chain([*left, *right])
    return log_matmul(a, b, base, conversion, sorted_bits)


def factor(a: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """[..., m, rank] and [..., rank, k], whose product is the nearest to a [..., m, k] of this rank (Eckart and Young,
    1936)."""
    most = min(a.shape[-2:])
    if not 1 <= rank <= most:
        raise TrainerError(
            f"matmul: the rank of a {a.shape[-2]}x{a.shape[-1]} matrix is 1 to {most}, got {rank}; choose one of these"
        )
    u, s, vt = torch.linalg.svd(a, full_matrices=False)
    root = s[..., :rank].sqrt()
    return u[..., :rank] * root[..., None, :], root[..., :, None] * vt[..., :rank, :]


def chain(factors: list[Tensor]) -> Tensor:
    """The product of the matrices in the order of fewest multiplications, so that thin factors are never multiplied
    back."""
    while len(factors) > 1:
        at = min(
            range(len(factors) - 1),
            key=lambda i: _rest_cost(_merged([t.shape[-2:] for t in factors], i)) + _cost(factors, i),
        )
        factors = [*factors[:at], factors[at] @ factors[at + 1], *factors[at + 2 :]]
    return factors[0]


def _cost(factors: list[Tensor], i: int) -> int:
    return factors[i].shape[-2] * factors[i].shape[-1] * factors[i + 1].shape[-1]


def _merged(shapes: list[torch.Size], i: int) -> list[torch.Size]:
    return [*shapes[:i], torch.Size((shapes[i][0], shapes[i + 1][1])), *shapes[i + 2 :]]


def _rest_cost(shapes: list[torch.Size]) -> int:
    """Multiplications of the best order; all orders are tried, there are at most four factors."""
    if len(shapes) == 1:
        return 0
    return min(
        shapes[i][0] * shapes[i][1] * shapes[i + 1][1] + _rest_cost(_merged(shapes, i)) for i in range(len(shapes) - 1)
    )


def _naive(a: Tensor, b: Tensor) -> Tensor:
    batch = (a[..., 0, 0] + b[..., 0, 0]).shape
    y = a.new_empty(*batch, a.shape[-2], b.shape[-1])
    for row in range(a.shape[-2]):
        for column in range(b.shape[-1]):
            y[..., row, column] = (a[..., row, :] * b[..., :, column]).sum(-1)
    return y


def _check(a: Tensor, b: Tensor, method: str) -> None:
    if method not in METHODS:
        raise TrainerError(f"matmul: the method is one of {', '.join(METHODS)}, got {method!r}; name one of these")
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise TrainerError(
            f"matmul: a is [..., m, k] and b is [..., k, n], got {list(a.shape)} and {list(b.shape)}; make k equal"
        )
    if 0 in a.shape or 0 in b.shape:
        raise TrainerError(
            f"matmul: no axis may be empty, got {list(a.shape)} and {list(b.shape)}; give at least one of each"
        )
    if not a.is_floating_point() or a.dtype != b.dtype:
        raise TrainerError(f"matmul: a and b have one floating type, got {a.dtype} and {b.dtype}; convert them to one")
    try:
        a[..., 0, 0] + b[..., 0, 0]
    except RuntimeError:
        raise TrainerError(
            f"matmul: leading axes broadcast, got {list(a.shape[:-2])} and {list(b.shape[:-2])}; make them fit"
        ) from None
