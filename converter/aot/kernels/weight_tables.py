"""Low-bit convolutions: weights small in flash, unpacked by nn_unpack into the table that the layer's kernel reads.

The table is packed as it is, whatever kernel it is for: runs of words whose halves (or bytes, or fields 21 bits apart)
are small numbers, all shifted alike, take 2, 4 or 8 bits each (nn_lowbit.h). It is unpacked into RAM before each
inference, as scratch of its layer, or once into a place of its own where that costs no more RAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from converter.aot.kernels.conv_packed_asm import FIELD
from converter.aot.kernels.structs import (
    CONVOLUTIONS,
    Channels,
    Kernel,
    NnDenseLowbitLayer,
    NnDenseSparseLayer,
    Unpacked,
    members,
)
from converter.aot.memory_plan import ALIGNMENT
from converter.arrays import Int8, Int32, Int64
from converter.graph import Graph
from converter.tflite.writer import weight_bits

LEAST_SAVED, MOST_KEPT = (
    256,
    2 / 3,
)  # bytes, about those of nn_unpack; share of the table: unpacking a little less takes as long
MAX_RUN = 0xFFFE
SHIFTS = 9
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class _Run:
    """`words` output words; bits 0 means as they are."""

    words: int
    bits: int
    lane_bits: int
    shifts: tuple[int, int]

    @property
    def packed_words(self) -> int:
        return 1 + (-(-self.words * self.bits // _stored_bits(self.lane_bits)) if self.bits else self.words)


def unpack_kernels(graph: Graph, kernels: Sequence[Kernel | None]) -> list[Kernel | None]:
    """The same kernels, convolutions of at most 4 bits with packed weights where that saves flash."""
    found: list[Kernel | None] = []
    for layer, kernel in zip(graph.layers, kernels, strict=True):
        if kernel is not None and 0 < weight_bits(layer) <= 4:
            kernel = _unpacked(kernel)
        found.append(kernel)
    return found


def _unpacked(kernel: Kernel) -> Kernel:
    """The kernel with packed weights, if it is a convolution's and they are small."""
    if not isinstance(kernel.layer, CONVOLUTIONS) or isinstance(kernel.layer.weights, Unpacked):
        return kernel
    weights = kernel.layer.weights
    packed = pack_table(weights)
    if packed.nbytes > min(weights.nbytes - LEAST_SAVED, MOST_KEPT * weights.nbytes):
        return kernel
    kind = "int8_t" if weights.dtype == np.int8 else "int32_t"
    table = Unpacked(packed, kind, -(-weights.nbytes // ALIGNMENT))
    return replace(kernel, layer=replace(kernel.layer, weights=table))


def stored(kernel: Kernel) -> tuple[str, int]:
    """(form of the weights in flash, bytes of all constants that the kernel is given); "" for a kernel without
    weights."""
    size = 0
    for _, value in members(kernel.layer):
        if isinstance(value, np.ndarray):
            size += value.nbytes
        elif isinstance(value, Unpacked):
            size += value.packed.nbytes
        elif isinstance(value, Channels):
            size += 3 * value.bias.nbytes
    match kernel.layer:
        case NnDenseLowbitLayer(code=code) | NnDenseSparseLayer(code=code):
            return code.shape.name, size
        case _ if any(name == "weights" for name, _ in members(kernel.layer)):
            return "packed" if table_of(kernel) else "plain", size
        case _:
            return "", size


def table_of(kernel: Kernel | None) -> Unpacked | None:
    """The kernel's packed weights, if it has such."""
    if kernel is None or not isinstance(kernel.layer, CONVOLUTIONS):
        return None
    return kernel.layer.weights if isinstance(kernel.layer.weights, Unpacked) else None


def movable_bytes(kernel: Kernel | None) -> int:
    """Of the constants that may lie in flash or in RAM: all but packed weights."""
    if kernel is None:
        return 0
    table = table_of(kernel)
    return stored(kernel)[1] - (table.packed.nbytes if table else 0)


def bytes_apart(kernels: Sequence[Kernel | None]) -> int:
    """RAM of the tables of unpacked weights that have places of their own, not in the arena."""
    tables = map(table_of, kernels)
    return 4 * sum(table.words for table in tables if table and table.offset is None)


def scratch_with_table(kernel: Kernel | None) -> int:
    """Scratch bytes of a layer whose weights are unpacked behind the kernel's own scratch."""
    if kernel is None:
        return 0
    table = table_of(kernel)
    return _aligned(kernel.scratch_bytes) + 4 * table.words if table else kernel.scratch_bytes


def place_tables(kernels: Sequence[Kernel | None], scratch_offsets: dict[int, int]) -> list[Kernel | None]:
    """The kernels with their tables behind their scratch in the arena."""

    def place(number: int, kernel: Kernel | None) -> Kernel | None:
        table = table_of(kernel)
        if kernel is None or table is None or not isinstance(kernel.layer, CONVOLUTIONS):
            return kernel
        offset = scratch_offsets[number] + _aligned(kernel.scratch_bytes)
        return replace(kernel, layer=replace(kernel.layer, weights=replace(table, offset=offset)))

    return [place(number, kernel) for number, kernel in enumerate(kernels)]


def unpack_call(number: int, kernel: Kernel | None, once: bool = False) -> list[str]:
    """The C line that fills the layer's table: those in the arena before each use, those with a place of their own
    once."""
    table = table_of(kernel)
    if table is None or (table.offset is None) != once:
        return []
    target = f"(int32_t *)layer{number}_weights" if table.offset is None else f"(int32_t *)AT({table.offset})"
    return [f"    nn_unpack(layer{number}_packed, {table.packed.size}, {target});"]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def pack_table(table: Int8 | Int32) -> Int32:
    """The words that nn_unpack turns back into the table's words (the last one filled with zeros)."""
    data = np.ascontiguousarray(table).reshape(-1).view(np.uint8)
    padded = np.concatenate([data, np.zeros(-len(data) % 4, np.uint8)])
    words = padded.view("<u4")
    parts, at = list[NDArray[np.uint32]](), 0
    for run in _runs(padded):
        kind = {8: 1, 16: 0, FIELD: 2}[run.lane_bits]
        head = run.words | run.bits << 16 | kind << 20 | run.shifts[0] << 24 | run.shifts[1] << 28
        body = words[at : at + run.words] if run.bits == 0 else _fields(padded[4 * at : 4 * (at + run.words)], run)
        parts += [np.array([head], np.uint32), body.astype(np.uint32)]
        at += run.words
    return np.concatenate(parts).view(np.int32)


def _stored_bits(lane_bits: int) -> int:
    """Of a lane in a packed word."""
    return 16 if lane_bits == FIELD else lane_bits


def _lanes(data: NDArray[np.uint8], lane_bits: int) -> Int64:
    """[words, lanes], signed; of lanes of FIELD bits the lower one may borrow from the upper one."""
    if lane_bits == FIELD:
        words = data.view("<i4").astype(np.int64)
        low = ((words + (1 << (FIELD - 1))) & ((1 << FIELD) - 1)) - (1 << (FIELD - 1))
        return np.stack([low, (words - low) >> FIELD], axis=1)
    return data.view("<i1" if lane_bits == 8 else "<i2").astype(np.int64).reshape(-1, 32 // lane_bits)


def _fields(data: NDArray[np.uint8], run: _Run) -> Int64:
    lanes, stored_bits = _lanes(data, run.lane_bits), _stored_bits(run.lane_bits)
    per = stored_bits // run.bits
    shifts = np.resize(np.array(run.shifts), len(lanes))[:, None]
    stored = (lanes >> shifts) + (1 << (run.bits - 1))
    padded = np.zeros((-(-len(lanes) // per) * per, lanes.shape[1]), np.int64)
    padded[: len(lanes)] = stored
    places = stored_bits * np.arange(lanes.shape[1])[None, None, :] + run.bits * np.arange(per)[None, :, None]
    merged: Int64 = (padded.reshape(-1, per, lanes.shape[1]) << places).sum(axis=(1, 2))
    return merged


def _runs(data: NDArray[np.uint8]) -> list[_Run]:
    """From the first word on the run that stores its words in the fewest, words that no run makes smaller as they
    are."""
    kinds = ((8, 2), (8, 4), (16, 2), (16, 4), (16, 8), (FIELD, 2), (FIELD, 4), (FIELD, 8))
    candidates = [(lane_bits, bits, _reach(data, lane_bits, bits)) for lane_bits, bits in kinds]
    runs, at, total = list[_Run](), 0, len(data) // 4
    while at < total:
        best = max(
            (_longest(at, *candidate) for candidate in candidates),
            key=lambda run: 1 - run.packed_words / max(run.words, 1),
        )
        if best.packed_words >= best.words:
            best = _Run(1, 0, 16, (0, 0))
            if runs and runs[-1].bits == 0 and runs[-1].words < MAX_RUN:
                best = replace(best, words=1 + runs.pop().words)
                at -= best.words - 1
        runs.append(best)
        at += best.words
    return runs


def _reach(data: NDArray[np.uint8], lane_bits: int, bits: int) -> Int64:
    """[shift, word]: how many words, every other one from this one on, hold fields of so many bits at that shift."""
    lanes = _lanes(data, lane_bits)
    shifts = SHIFTS if lane_bits == 16 else 1
    reach = np.zeros((shifts, len(lanes) + 2), np.int64)
    for shift in range(shifts):
        small = lanes >> shift
        fits = ((small << shift == lanes) & (small >= -(1 << (bits - 1))) & (small < 1 << (bits - 1))).all(axis=1)
        for at in range(len(lanes) - 1, -1, -1):
            reach[shift, at] = reach[shift, at + 2] + 1 if fits[at] else 0
    return reach


def _longest(at: int, lane_bits: int, bits: int, reach: Int64) -> _Run:
    first, second = int(reach[:, at].argmax()), int(reach[:, at + 1].argmax())
    words = min(2 * int(min(reach[first, at], reach[second, at + 1])), MAX_RUN)
    return _Run(words, bits, lane_bits, (first, second))
