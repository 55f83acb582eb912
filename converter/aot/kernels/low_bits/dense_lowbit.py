"""Low-bit and sparse dense layers: which format a layer takes in flash, and its const data (nn_lowbit.h says
how it lies there)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.aot.kernels.low_bits import dense_lowbit_asm
from converter.aot.kernels.low_bits.dense_lowbit_asm import GROUP, TURN, PackedShape, SparseShape
from converter.arrays import Int8, Int32, Int64
from converter.graph import Graph

OUTPUTS = 4  # of a block of nn_dense_lowbit_s8
LOWER_SUM_LIMIT = (1 << 13) - 1  # what 14 bits hold, of either sign
SLOWEST = 2.0  # a format may take so many times the cycles of plain int8
NEAR = 1.125  # a faster format may take so many times the bytes of the smallest
# Cycles as the virtual board counts them, per weight of a whole block, per flush, per entry, per output;
# test_dense_lowbit.py compares.
PER_WEIGHT = {8: 1.41, 4: 1.48, 2: 1.05}
PER_FLUSH, PER_ENTRY, PER_ROW = 36, 5.1, 60


@dataclass(frozen=True)
class DenseFormat:
    """A form that a dense layer can take: bytes in flash of its weights and of code of its own, modelled cycles of a
    row.

    shape is None for plain int8, whose code is counted with the library.
    """

    name: str
    bytes: int
    cycles: int
    shape: PackedShape | SparseShape | None = None


def dense_formats(weights_oi: Int8, x_range: tuple[int, int]) -> list[DenseFormat]:
    """Every form that holds these weights, plain int8 first. Sparse forms are named by the bits of a distance and of a
    weight."""
    outputs, inputs = weights_oi.shape
    blocks = -(-outputs // OUTPUTS)
    padded, whole = blocks * OUTPUTS * (-(-inputs // 4) * 4), blocks * OUTPUTS * (-(-inputs // TURN) * TURN)
    low, high = int(weights_oi.min()), int(weights_oi.max())
    found = [DenseFormat("int8", padded, round(PER_WEIGHT[8] * padded))]
    for bits in (4, 2):
        if low >= -(1 << (bits - 1)) and high < 1 << (bits - 1):
            shape = packed_shape(bits, low, x_range)
            flushes = blocks * -(-inputs // (TURN * shape.chunk_turns))
            size = whole * bits // 8 + dense_lowbit_asm.code_bytes(shape)
            found.append(DenseFormat(shape.name, size, round(PER_WEIGHT[bits] * whole + PER_FLUSH * flushes), shape))
    for sparse in (SparseShape(4, 4), SparseShape(4, 8), SparseShape(8, 4), SparseShape(8, 8)):
        if sparse.bits == 8 or (low >= -8 and high <= 7):
            groups = sum(-(-max(count, 1) // GROUP) for count in entry_counts(weights_oi, sparse))
            size = groups * (sparse.distance_bits + sparse.bits) + 4 * outputs + dense_lowbit_asm.code_bytes(sparse)
            cycles = round(PER_ENTRY * GROUP * groups + PER_ROW * outputs)
            found.append(DenseFormat(sparse.name, size, cycles, sparse))
    return found


def choose_dense(weights_oi: Int8, x_range: tuple[int, int]) -> DenseFormat:
    """Of the forms that take at most SLOWEST times the cycles of plain int8 the smallest, or the fastest of those
    nearly as small."""
    formats = dense_formats(weights_oi, x_range)
    allowed = [f for f in formats if f.cycles <= SLOWEST * formats[0].cycles]
    least = min(f.bytes for f in allowed)
    return min((f for f in allowed if f.bytes <= NEAR * least), key=lambda f: (f.cycles, f.bytes))


def packed_shape(bits: int, least: int, x_range: tuple[int, int]) -> PackedShape:
    """How nn_dense_lowbit_s8 computes the layer: inputs are centred where that keeps the sums of 2-bit weights
    small."""
    if bits == 4:
        return PackedShape(4, 0, 8, dense_lowbit_asm.CHUNK_4_BITS // TURN)
    low, high = x_range
    base, offset = (low + high + 1) // 2, 1 if least >= -1 else 2
    largest = max(high - base, base - low, 1) * (offset + 1)
    return PackedShape(2, base, offset, max(1, LOWER_SUM_LIMIT // (TURN * largest)))


def pack_dense(weights_oi: Int8, shape: PackedShape) -> Int32:
    """The order nn_dense_lowbit_s8 wants: see nn_lowbit.h."""
    outputs, inputs = weights_oi.shape
    padded = np.zeros((-(-outputs // OUTPUTS) * OUTPUTS, -(-inputs // TURN) * TURN), np.int64)
    padded[:outputs, :inputs] = weights_oi
    fours = padded.reshape(-1, OUTPUTS, padded.shape[1] // 4, 4).transpose(
        0, 2, 1, 3
    )  # [block, four inputs, output, input]
    words = np.zeros((*fours.shape[:2], shape.bits // 2), np.int64)
    for output in range(OUTPUTS):
        for index in range(4):
            lane, odd = divmod(index, 2)
            word, position, is_top = place(shape.bits, output, lane, odd)
            fields = fours[:, :, output, index] + (0 if is_top else shape.offset)
            words[:, :, word] |= (fields & ((1 << shape.bits) - 1)) << (shape.bits * position)
    packed: Int32 = words.reshape(-1).astype(np.uint32).view(np.int32)
    return packed


def place(bits: int, output: int, lane: int, odd: int) -> tuple[int, int, bool]:
    """(word, field, whether in two's complement) of input 2 * lane + odd of four."""
    if bits == 4:
        return odd, 4 * lane + output, output == OUTPUTS - 1
    turned, is_top = 2 * (2 * (output // 2) + odd), output % 2 == 1
    return 0, (turned + 8 * lane + (7 if is_top else 0)) % 16, is_top


def pack_sparse(weights_oi: Int8, shape: SparseShape) -> tuple[Int32, Int32]:
    """(words, groups per output) of nn_dense_sparse_s8: see nn_lowbit.h."""
    words, groups = list[NDArray[np.uint8]](), list[int]()
    for row in weights_oi:
        entries = _entries(row, (1 << shape.distance_bits) - 1) or [(0, 0)]
        entries += [(0, 0)] * (-len(entries) % GROUP)
        table = np.array(entries, np.int64).reshape(-1, GROUP, 2)
        groups.append(len(table))
        parts = [_numbers(table[:, :, 0], shape.distance_bits), _numbers(table[:, :, 1], shape.bits)]
        words.append(np.concatenate(parts, axis=1).reshape(-1))
    data: Int32 = np.concatenate(words).view("<i4").astype(np.int32)
    return data, np.array(groups, np.int32)


def entry_counts(weights_oi: Int8, shape: SparseShape) -> list[int]:
    """Entries per output, those included that only bridge a long distance."""
    longest = (1 << shape.distance_bits) - 1
    gaps = [np.diff(np.flatnonzero(row), prepend=0) for row in weights_oi]
    return [int(len(gap) + (np.maximum(gap - 1, 0) // longest).sum()) for gap in gaps]


def _numbers(values: Int64, bits: int) -> NDArray[np.uint8]:
    """[groups, 8] as bytes: as they are, or the first four in the lower halves."""
    return (values if bits == 8 else (values[:, :4] & 15) | ((values[:, 4:] & 15) << 4)).astype(np.uint8)


def _entries(row: Int8, longest: int) -> list[tuple[int, int]]:
    """(distance, weight)"""
    found, at = list[tuple[int, int]](), 0
    for index in np.flatnonzero(row).tolist():
        while index - at > longest:
            found.append((longest, 0))
            at += longest
        found.append((index - at, int(row[index])))
        at = index
    return found


def value_range(graph: Graph, index: int) -> tuple[int, int]:
    """Bounds of a tensor's integers that hold for every input of the network."""
    made_by = {layer.output: layer for layer in graph.layers}
    chain = []
    while index in made_by:
        chain.append(made_by[index])
        index = made_by[index].input
    bounds = (-128, 127)
    for layer in reversed(chain):
        bounds = layer.bounds(graph, bounds)
    return bounds
