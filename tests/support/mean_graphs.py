"""Seeded MEAN layers, written as one-layer Graphs: maps of 1 to 33 rows, 1 to 19 columns and 1 to 21 channels, output
scales from far finer to far coarser than the input's, zero points at their limits, both shapes of output; every fifth
over other axes than height and width, some of a row of vectors."""

from __future__ import annotations

import numpy as np

from converter.arrays import Int8
from converter.check import check
from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.mean import Mean
from converter.tensor import QuantParams, Tensor


def mean_graph(index: int) -> Graph:
    """The same graph for an index for ever."""
    rng = np.random.default_rng([index, 40])
    while True:
        height, width = (1, 1) if index % 17 == 0 else (int(rng.integers(1, 34)), int(rng.integers(1, 20)))
        channels = int(rng.integers(1, 22))
        scales = 0.05, 0.05 * 2.0 ** float(rng.uniform(-6, 4) if index % 3 else rng.uniform(-1, 1))
        zeros = [int(rng.choice([-128, -3, 0, 127, int(rng.integers(-128, 128))])) for _ in scales]
        x, y = (QuantParams((float(np.float32(s)),), (z,)) for s, z in zip(scales, zeros, strict=True))
        shape: tuple[int, ...] = (1, height, width, channels)
        axes: tuple[int, ...] = (1, 2)
        if index % 5 == 4:
            shape = shape[: 3 + index % 3 % 2]
            first = int(rng.integers(1, len(shape)))
            axes = tuple(range(first, int(rng.integers(first + 1, len(shape) + 1))))
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        left = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        tensors = Tensor("x", shape, x), Tensor("y", kept if index % 2 else left, y)
        try:
            return check(Graph(tensors, (Mean("mean", 0, 1, axes),), 0, 1))
        except ConvertError:
            continue


def mean_inputs(graph: Graph, index: int) -> Int8:
    """Noise, then maps near one value, then the extremes."""
    rng, shape = np.random.default_rng([index, 41]), graph.tensors[0].shape[1:]
    near = np.clip(rng.integers(-128, 128) + rng.integers(-3, 4, shape), -128, 127)
    rows = [rng.integers(-128, 128, shape), near, np.full(shape, -128), np.full(shape, 127)]
    inputs: Int8 = np.stack(rows).astype(np.int8)
    return inputs
