"""Gradients as the bytes that travel, and back: top-k, sign and QSGD; as many bytes on every worker.

x is a flat float32 gradient [d]; payloads are uint8 [bytes].
Sources: top-k Strom 2015, Aji and Heafield 2017 (arXiv 1704.05021), Stich et al. 2018 (1809.07599); sign Seide et al.
2014, Karimireddy et al. 2019 (1901.09847); QSGD Alistarh et al. 2017 (1610.02132).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BUCKET = 512  # values that share one of QSGD's scales


def kept_count(length: int, share: float) -> int:
    """How many of `length` values top-k and random-k send: at least one."""
    return max(1, round(share * length))


def top_k(x: Tensor, share: float) -> Tensor:
    """The largest by magnitude: indices as int32, then values as float32."""
    chosen = x.abs().topk(kept_count(len(x), share), sorted=False).indices
    return torch.cat([chosen.int().view(torch.uint8), x[chosen].view(torch.uint8)])


def from_top_k(payload: Tensor, length: int) -> Tensor:
    """The chosen values in their places, zeros elsewhere."""
    indices, values = payload.view(2, -1)
    made = torch.zeros(length)
    made[indices.clone().view(torch.int32).long()] = values.clone().view(torch.float32)
    return made


def random_places(length: int, share: float, generator: torch.Generator) -> Tensor:
    """Indices of random-k, each as likely as any other: workers with equal generators need not send them."""
    return torch.randperm(length, generator=generator)[: kept_count(length, share)]


def sign(x: Tensor) -> Tensor:
    """One bit a value, and the mean magnitude as float32 in front."""
    bits = torch.from_numpy(np.packbits(x.numpy() >= 0))
    return torch.cat([x.abs().mean().reshape(1).view(torch.uint8), bits])


def from_sign(payload: Tensor, length: int) -> Tensor:
    """Plus or minus the mean magnitude."""
    bits = torch.from_numpy(np.unpackbits(payload[4:].numpy(), count=length))
    return (2 * bits.float() - 1) * payload[:4].clone().view(torch.float32)


def qsgd(x: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Each value on one of 2 ** bits - 1 levels from -scale to scale, rounded up or down by chance so that its mean is
    the value; a bucket's scale is its largest magnitude.

    bits is 2, 4 or 8. Scales as float32, then the codes, 8 // bits in a byte, the first one lowest.
    """
    top = 2 ** (bits - 1) - 1
    buckets = torch.nn.functional.pad(x, (0, -len(x) % BUCKET)).view(-1, BUCKET)
    scales = buckets.abs().amax(1, keepdim=True)
    steps = buckets * (top / scales).nan_to_num(posinf=0.0)
    chance = torch.rand(buckets.shape, generator=generator)
    codes = ((steps + chance).floor().clamp(-top, top) + top).to(torch.uint8).view(-1)[: len(x)]
    codes = torch.nn.functional.pad(codes, (0, -len(x) % (8 // bits))).view(-1, 8 // bits)
    packed = codes[:, 0].clone()
    for place in range(1, codes.shape[1]):
        packed |= codes[:, place] << (bits * place)
    return torch.cat([scales.view(-1).view(torch.uint8), packed])


def from_qsgd(payload: Tensor, length: int, bits: int) -> Tensor:
    """The levels as values."""
    top, count = 2 ** (bits - 1) - 1, -(-length // BUCKET)
    scales, packed = payload[: 4 * count].clone().view(torch.float32), payload[4 * count :]
    codes = torch.stack([(packed >> place) & (2**bits - 1) for place in range(0, 8, bits)], 1).view(-1)[:length]
    levels = torch.nn.functional.pad(codes.float() - top, (0, -length % BUCKET)).view(count, BUCKET)
    values: Tensor = (levels * (scales / top)[:, None]).view(-1)[:length]
    return values
