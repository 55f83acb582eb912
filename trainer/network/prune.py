"""Pruning of a float network: channels taken out of the graph (structured), or single weights set to zero
(unstructured)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.errors import TrainerError
from trainer.network.model import Conv, Dense, Network, build, fold_norms

KINDS = ("unstructured", "structured")
NORMS = ("l1", "l2", "linf")
LONGEST_GAP = 255


def prune(network: Network, kind: str, amount: float, norm: str) -> Network:
    """A pruned copy: `amount` is the share of channels or of weights that go, `norm` ranks them."""
    if kind not in KINDS:
        raise TrainerError(f"--kind: must be one of {', '.join(KINDS)}, got {kind}")
    if norm not in NORMS:
        raise TrainerError(f"--norm: must be one of {', '.join(NORMS)}, got {norm}")
    if not 0 < amount < 1:
        raise TrainerError(f"--amount: must lie between 0 and 1, got {amount}")
    return without_channels(network, amount, norm) if kind == "structured" else without_weights(network, amount, norm)


def without_channels(network: Network, amount: float, norm: str) -> Network:
    """Every convolution keeps its strongest channels, the next layer loses the inputs that came from the others.

    A channel's strength is the norm of all weights that make it, batch norm folded in: those of a convolution and of
    the depthwise ones behind it. All convolutions keep the same share, and none loses all.
    """
    width = network.architecture.width
    if network.architecture.layers:
        raise TrainerError("--kind structured: takes channels out of the project's networks; use --kind unstructured")
    if network.architecture.widths:
        raise TrainerError(
            "--kind structured: takes channels out of networks of one width, this one was trained with --widths; train "
            "it with smaller ones"
        )
    count = width - int(amount * width + 0.5)
    if not 1 <= count < width:
        raise TrainerError(
            f"--amount: must take out 1 to {width - 1} of {width} channels, got {amount}, which takes out "
            f"{width - count}"
        )
    pruned = build(replace(network.architecture, width=count))
    kept, flat = (
        torch.arange(network.architecture.planes),
        False,
    )  # the channels of the features; are they those of a dense layer?
    for index, (name, block) in enumerate(network.blocks.items()):
        target = pruned.blocks[name]
        if isinstance(block, Conv):
            depthwise = block.conv.groups > 1
            assert isinstance(target, Conv)
            before, kept = kept, kept if depthwise else _strongest(network, index, len(target.bias), norm)
            _copy(block.weight[kept] if depthwise else block.weight[kept][:, before], target.weight)
            _copy(block.bias[kept], target.bias)
            if block.norm is not None and target.norm is not None:
                target.norm.load_state_dict({k: v[kept] if v.dim() else v for k, v in block.norm.state_dict().items()})
        elif isinstance(block, Dense):
            assert isinstance(target, Dense)
            places = target.weight.shape[1] // len(kept)
            _copy(
                block.weight if flat else block.weight.view(len(block.weight), places, -1)[:, :, kept].flatten(1),
                target.weight,
            )
            _copy(block.bias, target.bias)
            flat = True
    return pruned.eval()


def _strongest(network: Network, index: int, count: int, norm: str) -> Tensor:
    """The `count` strongest output channels of the convolution at `index`, in their order."""
    blocks = list(fold_norms(network).blocks.values())
    parts = [blocks[index]]
    for block in blocks[index + 1 :]:
        if not (isinstance(block, Conv) and block.conv.groups > 1):
            break
        parts.append(block)
    weights = torch.cat([p.weight.detach().flatten(1) for p in parts if isinstance(p, Conv)], dim=1)
    return _strength(weights, norm).argsort(descending=True, stable=True)[:count].sort().values


def _strength(rows: Tensor, norm: str) -> Tensor:
    order = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}[norm]
    found: Tensor = torch.linalg.vector_norm(rows, ord=order, dim=1)
    return found


def _copy(source: Tensor, target: Tensor) -> None:
    with torch.no_grad():
        target.copy_(source)


def without_weights(network: Network, amount: float, norm: str) -> Network:
    """The `amount` weakest weights of all layers are zero.

    A weight is weighed against the norm of those in its layer that are at least as large: no layer loses its largest,
    and small layers are spared. With l2 that is LAMP (Lee et al. 2021, arXiv 2010.07611).
    """
    pruned = copy.deepcopy(network)
    folded = fold_norms(network)
    ranks = {n: _share(b.weight.detach().abs(), norm) for n, b in folded.blocks.items() if isinstance(b, (Conv, Dense))}
    everything = torch.cat([r.flatten() for r in ranks.values()])
    order = everything.argsort(stable=True)[: int(amount * len(everything) + 0.5)]
    keep = torch.ones(len(everything))
    keep[order] = 0.0
    for (name, rank), mask in zip(ranks.items(), torch.split(keep, [r.numel() for r in ranks.values()]), strict=True):
        target = pruned.blocks[name]
        assert isinstance(target, (Conv, Dense))
        with torch.no_grad():
            target.weight.mul_(mask.view_as(rank))
    return pruned


def _share(sizes: Tensor, norm: str) -> Tensor:
    """Each size divided by the norm of the sizes that are not smaller.

    >>> [round(v, 3) for v in _share(torch.tensor([3.0, 0.0, 4.0]), "l2").tolist()]
    [0.6, 0.0, 1.0]
    """
    order = sizes.flatten().double().argsort(descending=True, stable=True)
    falling = sizes.flatten().double()[order]
    norms = {"l1": falling.cumsum(0), "l2": falling.square().cumsum(0).sqrt(), "linf": falling[:1].expand_as(falling)}[
        norm
    ]
    shares = torch.empty_like(falling)
    shares[order] = falling / norms.clamp(min=1e-300)
    return shares.view_as(sizes)


def hold_zeros(network: Network) -> None:
    """From now on no gradient reaches a weight that is zero: fine-tuning, weight decay and averaging leave it zero."""
    for block in network.blocks.values():
        if isinstance(block, (Conv, Dense)):
            block.weight.register_hook(_Mask(block.weight.detach() != 0))  # type: ignore[no-untyped-call]


class _Mask:
    """A gradient hook that keeps the gradients of the weights in `kept`."""

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient * self.kept


def nonzero_count(network: Network) -> int:
    """Weights and biases as deployed that are not zero."""
    folded = fold_norms(network)
    return sum(
        int((p != 0).sum()) for b in folded.blocks.values() if isinstance(b, (Conv, Dense)) for p in (b.weight, b.bias)
    )


@dataclass(frozen=True)
class StoredBytes:
    """What a network's weights and biases take: all of them; the non-zero ones alone, which nobody can read back; and
    two real formats.

    gaps: each non-zero weight with a byte that says how far it lies behind the one before in its row (a zero is stored
    where that is further than 255), and two bytes per row for its count. bitmap: one bit per weight and the non-zero
    ones.
    """

    dense: int
    nonzero: int
    gaps: int
    bitmap: int


def stored_bytes(network: Network, value_bytes: int) -> StoredBytes:
    """Sizes of a network whose weights have value_bytes each (biases 4, as floats or int32), batch norms folded."""
    dense = nonzero = gaps = bitmap = 0
    for block in fold_norms(network).blocks.values():
        if isinstance(block, (Conv, Dense)):
            rows, biases = block.weight.detach().flatten(1) != 0, 4 * len(block.bias)
            count = int(rows.sum())
            dense += value_bytes * rows.numel() + biases
            nonzero += value_bytes * count + biases
            gaps += (value_bytes + 1) * (count + sum(_fillers(row) for row in rows)) + 2 * len(rows) + biases
            bitmap += value_bytes * count + -(-rows.numel() // 8) + biases
    return StoredBytes(dense, nonzero, gaps, bitmap)


def _fillers(row: Tensor) -> int:
    """Zeros that must be stored because no gap byte reaches from one non-zero weight to the next."""
    places = row.nonzero().flatten()
    steps = places.diff(prepend=places.new_full((1,), -1))
    return int(((steps - 1) // LONGEST_GAP).sum())
