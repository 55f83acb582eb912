"""Where each activation and scratch buffer lies in the one arena that the generated C keeps in RAM.

Buffers are placed greedily by size at the lowest free place (Pisarchyk and Lee, "Efficient Memory Management for Deep
Neural Net Inference", 2020). Where that misses the lower bound, other orders are tried, always the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converter.graph import Graph, Variable

ALIGNMENT = 4
TRIES, TRIED_PAIRS = 1000, 5_000_000  # orders, and pairs of buffers compared in all of them: seconds at most


@dataclass(frozen=True)
class Buffer:
    """Bytes needed from layer `first` to layer `last`, both included; the graph's input is there from layer 0 on."""

    bytes: int
    first: int
    last: int

    def overlaps(self, other: Buffer) -> bool:
        """Whether both are alive during one layer."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class ArenaPlan:
    """Byte offsets into the arena: by tensor (reshaped tensors share one), by layer's scratch, and by tensor kept from
    run to run."""

    tensor_offsets: dict[int, int]
    scratch_offsets: dict[int, int]
    arena_bytes: int
    lower_bound: int  # the most bytes that any layer needs at once
    kept_offsets: dict[int, int]


def plan_arena(
    graph: Graph, scratch_bytes: Sequence[int] = (), kept_bytes: Mapping[int, int] | None = None
) -> ArenaPlan:
    """Offsets such that nothing overlaps what is still needed; scratch_bytes[i] is what layer i wants beside its
    tensors.

    kept_bytes[t] bytes of tensor t outlive the run: a tensor kept whole is never overwritten by another, of others a
    copy is kept.
    """
    owner_of = owners(graph)
    kept = {**{v.read: graph.tensors[v.read].size for v in graph.variables}, **(kept_bytes or {})}
    tensors = _tensor_buffers(graph, owner_of)
    end = max(len(graph.layers) - 1, 0)
    whole = {t for t, size in kept.items() if size == graph.tensors[t].size}
    tensors.update({t: Buffer(tensors[t].bytes, 0, end) for t in whole})
    copies = {t: Buffer(_aligned(size), 0, end) for t, size in kept.items() if t not in whole}
    scratches = {i: Buffer(_aligned(size), i, i) for i, size in enumerate(scratch_bytes) if size}
    buffers = [*tensors.values(), *copies.values(), *scratches.values()]
    bound = _lower_bound(buffers)
    offsets = _best_offsets(buffers, bound)
    by_owner = dict(zip(tensors, offsets[: len(tensors)], strict=True))
    copied = dict(zip(copies, offsets[len(tensors) : len(tensors) + len(copies)], strict=True))
    return ArenaPlan(
        tensor_offsets={index: by_owner[owner] for index, owner in owner_of.items()},
        scratch_offsets=dict(zip(scratches, offsets[len(tensors) + len(copies) :], strict=True)),
        arena_bytes=_end(buffers, offsets),
        lower_bound=bound,
        kept_offsets={**{t: by_owner[t] for t in whole}, **copied},
    )


def bytes_alive(graph: Graph, scratch_bytes: Sequence[int]) -> list[int]:
    """For each layer the bytes of all tensors that are needed while it runs, with its scratch."""
    buffers = _tensor_buffers(graph, owners(graph)).values()
    return [
        _aligned(scratch) + sum(b.bytes for b in buffers if b.first <= number <= b.last)
        for number, scratch in enumerate(scratch_bytes)
    ]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def owners(graph: Graph) -> dict[int, int]:
    """For each tensor that exists at run time the tensor whose bytes it is."""
    owners = {index: index for index in (graph.input, *(variable.read for variable in graph.variables))}
    for layer in graph.layers:
        owners[layer.output] = owners[layer.input] if layer.MEMORY == "view" else layer.output
    return owners


def kept_after(graph: Graph) -> dict[int, list[Variable]]:
    """For a layer's number the variables that get their next value behind it: it is written then, and the present one
    is no longer needed."""
    owner_of, found = owners(graph), dict[int, list[Variable]]()
    for variable in graph.variables:
        last = max(
            number
            for number, layer in enumerate(graph.layers)
            if layer.output == variable.written or variable.read in (owner_of[index] for index in layer.inputs)
        )
        found.setdefault(last, []).append(variable)
    return found


def _tensor_buffers(graph: Graph, owners: dict[int, int]) -> dict[int, Buffer]:
    first = {graph.input: 0, **{variable.read: 0 for variable in graph.variables}}
    last = dict(first)
    for i, layer in enumerate(graph.layers):
        for index in (*layer.inputs, layer.output):
            first.setdefault(owners[index], i)
            last[owners[index]] = i
    last[owners[graph.output]] = max(len(graph.layers) - 1, 0)
    for number, variables in kept_after(graph).items():
        for variable in variables:
            last[owners[variable.written]] = max(last[owners[variable.written]], number)
    return {owner: Buffer(_aligned(graph.tensors[owner].size), first[owner], last[owner]) for owner in first}


def _lower_bound(buffers: list[Buffer]) -> int:
    return max(sum(b.bytes for b in buffers if b.first <= at.first <= b.last) for at in buffers)


def _best_offsets(buffers: list[Buffer], bound: int) -> list[int]:
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].bytes, buffers[i].first))
    best = _place(buffers, order)
    shuffle = random.Random(0)  # its shuffle is the same in every Python this project supports
    for _ in range(min(TRIES, TRIED_PAIRS // len(buffers) ** 2)):
        if _end(buffers, best) == bound:
            break
        shuffle.shuffle(order)
        offsets = _place(buffers, order)
        if _end(buffers, offsets) < _end(buffers, best):
            best = offsets
    return best


def _place(buffers: list[Buffer], order: list[int]) -> list[int]:
    """Each buffer in turn at the lowest offset that no overlapping earlier one covers."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for i in order:
        offset = 0
        for other in sorted((j for j in placed if buffers[j].overlaps(buffers[i])), key=lambda j: offsets[j]):
            if offset + buffers[i].bytes <= offsets[other]:
                break
            offset = max(offset, offsets[other] + buffers[other].bytes)
        offsets[i] = offset
        placed.append(i)
    return offsets


def _end(buffers: list[Buffer], offsets: list[int]) -> int:
    return max(offset + b.bytes for b, offset in zip(buffers, offsets, strict=True))
