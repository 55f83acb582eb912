"""Schedules by hand for CPUs: each step is one optimization, on top of those before it. They change the order of work,
not its result.

A step is given the schedule and the sizes. The block `out` adds up, `padded` copies; sums_in_registers comes last
because it splits `out`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import s_tir

from trainer.tvm.primitives import Primitive, Sizes

Step = Callable[[s_tir.Schedule, Sizes], None]
LANES = 16  # float32 in a 512-bit register; narrower machines split it
PARALLEL_MACS = 1 << 20  # with less to do than this, waking a second thread costs more than it brings
MAX_UNROLL = 49


def divisor(size: int, most: int) -> int:
    """The largest divisor of size that is at most `most`."""
    return next(n for n in range(most, 0, -1) if size % n == 0)


def lanes_of(size: int) -> int:
    """16, or for shorter axes the largest power of two that fits."""
    return min(LANES, 1 << (size.bit_length() - 1))


def _whole_blocks(s: s_tir.Schedule, loop: Any, size: int, tile: int) -> None:
    """Where the tile does not divide the axis, the last, partial one gets code of its own: the others then need no
    bounds checks."""
    if size % tile:
        s.annotate(loop, "pragma_loop_partition_hint", 1)


# gemm: out[y, x] += a[y, j] * b[j, x]


def gemm_tile(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Blocks of 8 x 32 outputs, the reduction outside of them: a row of b is loaded once per 8 rows of the output, a
    value of a once per 32 columns, and both stay in the first-level cache meanwhile. Ragged sizes are padded with zeros
    to whole blocks."""
    m, _, n = sizes
    rows, lanes = min(8, m), lanes_of(n)
    vectors = 2 if n > lanes else 1
    block = s.get_sblock("out")
    s.pad_einsum(block, [rows, vectors * lanes, 1])
    y, x, j = s.get_loops(block)
    y, y_tile = s.split(y, [None, rows])
    x, x_vectors, x_lanes = s.split(x, [None, vectors, lanes])
    s.reorder(x, y, j, y_tile, x_vectors, x_lanes)


def gemm_vectorize(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Sixteen neighbouring columns are one register: one instruction multiplies and adds all of them."""
    s.vectorize(s.get_loops(s.get_sblock("out"))[5])


def gemm_pack_columns(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Copy b once into panels of 32 columns. Read along j a panel is one stretch of memory: no jumps of N floats
    between one row and the next, and no rows that fall on the same cache set when N is a power of two."""
    block = s.get_sblock("out")
    vectors, lanes = (int(s.get(loop).extent) for loop in s.get_loops(block)[4:])
    packed, width = s.cache_read(block, 1, "global"), vectors * lanes
    s.transform_layout(block, ("read", 1), lambda j, x: (x // width, j, x % width))
    _, x = s.get_loops(packed)
    s.vectorize(s.split(x, [None, lanes])[1])


def gemm_parallel(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Blocks are independent: all cores take their share of them, neighbours to the same core so that a panel stays in
    its cache."""
    if sizes[0] * sizes[1] * sizes[2] >= PARALLEL_MACS:
        loops = s.get_loops(s.get_sblock("out"))
        s.parallel(s.fuse(loops[0], loops[1]))


def gemm_sums_in_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """The 8 x 32 sums live in 16 registers over the whole reduction, written out once at its end, and the block's loops
    are unrolled so that every sum is a register by name: 16 independent chains hide the latency of the multiply-add."""
    block = s.get_sblock("out")
    *_, y, j, y_tile, x_vectors, x_lanes = s.get_loops(block)
    lanes = int(s.get(x_lanes).extent)
    written = s.cache_write(block, 0, "local")
    s.reverse_compute_at(written, y)
    s.unroll(y_tile), s.unroll(x_vectors)
    s.vectorize(s.split(s.get_loops(written)[-1], [None, lanes])[1])
    s.decompose_reduction(block, j)


def gemm_pack_rows(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Copy a into panels of 8 rows too. Not kept: the 8 rows are 8 streams that the prefetcher follows anyway, so the
    copy only costs."""
    block = s.get_sblock("out")
    rows = int(s.get(s.get_loops(block)[-3]).extent)
    s.cache_read(block, 0, "global")
    s.transform_layout(block, ("read", 0), lambda y, j: (y // rows, j, y % rows))


# conv2d: out[n, y, z] += padded[c, y + u, z + v] * weights[n, c, u, v]


def conv2d_tile(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Blocks of 8 neighbouring pixels x 32 output channels, the reduction outside of them: a weight once loaded serves
    8 pixels, a pixel 32 channels. (14 x 32 would fit the register file on paper; it spilled and took twice as long.)"""
    block = s.get_sblock("out")
    n, y, z, c, u, v = s.get_loops(block)
    lanes = divisor(sizes[3], LANES)
    n, n_vectors, n_lanes = s.split(n, [None, divisor(sizes[3] // lanes, 2), lanes])
    z, z_tile = s.split(z, [None, divisor(sizes[1], 8)])
    s.reorder(n, y, z, c, u, v, z_tile, n_vectors, n_lanes)


def conv2d_pack_weights(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Copy the weights once so that the 32 channels of a block lie side by side: what is multiplied together is loaded
    by one instruction, where OIHW would need 16 loads 4 I K K bytes apart."""
    block = s.get_sblock("out")
    vectors, lanes = (int(s.get(loop).extent) for loop in s.get_loops(block)[7:])
    width = vectors * lanes
    s.cache_read(block, 1, "global")
    s.transform_layout(block, ("read", 1), lambda n, c, u, v: (n // width, c, u, v, n % width))


def conv2d_vectorize(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Sixteen output channels are one register; the pixel is broadcast to all of them. (Along the row would leave 56 =
    3.5 x 16.)"""
    s.vectorize(s.get_loops(s.get_sblock("out"))[8])


def conv2d_parallel(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Rows of the output are independent, and so are the rows of the padded picture: all cores take their share of
    both."""
    h, w, i, o, k = sizes
    if h * w * i * o * k * k >= PARALLEL_MACS:
        loops = s.get_loops(s.get_sblock("out"))
        s.parallel(s.fuse(loops[0], loops[1]))
        padded = s.get_loops(s.get_sblock("padded"))
        s.parallel(s.fuse(padded[0], padded[1]))


def conv2d_sums_in_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """The block's sums live in 16 registers over the whole reduction, channels innermost; at its end they are turned to
    NCHW and written. The block's loops are unrolled so that every sum is a register by name."""
    block = s.get_sblock("out")
    *_, z, c, _, _, z_tile, n_vectors, n_lanes = s.get_loops(block)
    width = int(s.get(n_vectors).extent) * int(s.get(n_lanes).extent)
    written = s.cache_write(block, 0, "local")
    s.transform_layout(block, ("write", 0), lambda n, y, x: (n // width, y, x, n % width))
    s.reverse_compute_at(written, z)
    s.unroll(z_tile), s.unroll(n_vectors)
    s.decompose_reduction(block, c)


def inline_padding(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Make no padded copy, test for the border where a value is read. Not kept: the test is made per product, the copy
    per pixel."""
    s.compute_inline(s.get_sblock("padded"))


# conv1d: out[i] += padded[i + j] * w[N - 1 - j]


def conv1d_tile(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Blocks of 128 neighbouring outputs, the reduction outside of them: a weight once loaded serves all 128, and the
    inputs of a block (128 + N floats) stay in the first-level cache. The last block, when it is not full, has code of
    its own."""
    size = sizes[0] + sizes[1] - 1
    block, lanes = s.get_sblock("out"), lanes_of(size)
    i, j = s.get_loops(block)
    vectors = min(8, -(-size // lanes))
    i, i_vectors, i_lanes = s.split(i, [None, vectors, lanes])
    _whole_blocks(s, i, size, vectors * lanes)
    s.reorder(i, j, i_vectors, i_lanes)


def conv1d_vectorize(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Sixteen neighbouring outputs are one register; they read sixteen neighbouring inputs, the weight is broadcast."""
    s.vectorize(s.get_loops(s.get_sblock("out"))[3])


def conv1d_parallel(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Blocks are independent. Only from a million products on: 4096 x 128 are done in less time than it takes to wake a
    second thread."""
    if sizes[0] * sizes[1] >= PARALLEL_MACS:
        s.parallel(s.get_loops(s.get_sblock("out"))[0])


def conv1d_sums_in_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """The block's 128 sums live in 8 registers over the whole kernel, written once at its end: without this every
    product loads and stores its sum. The 8 registers are unrolled, 8 independent chains."""
    block = s.get_sblock("out")
    i, j, *_, i_vectors, i_lanes = s.get_loops(block)
    lanes = int(s.get(i_lanes).extent)
    written = s.cache_write(block, 0, "local")
    s.reverse_compute_at(written, i)
    s.unroll(i_vectors)
    s.vectorize(s.split(s.get_loops(written)[-1], [None, lanes])[1])
    s.decompose_reduction(block, j)


def conv1d_unroll_kernel(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Four taps per turn of the loop: a quarter of the counting and branching. Not kept: LLVM does it by itself."""
    if sizes[1] % 4 == 0:
        s.unroll(s.split(s.get_loops(s.get_sblock("out"))[1], [None, 4])[1])


def conv1d_parallel_always(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Share the blocks among the cores at any size. Not kept: see conv1d_parallel."""
    s.parallel(s.get_loops(s.get_sblock("out"))[0])


# depthwise: out[n, m, y, z] += padded[n, m, y + u, z + v] * weights[m, u, v]


def depthwise_pad_planes(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Pad one plane, convolve it, then the next: the padded plane (13 KB here) is still in the first-level cache when
    it is read. Padding everything first would send the whole picture to memory and back."""
    block = s.get_sblock("out")
    n, m, *_ = s.get_loops(block)
    s.compute_at(s.get_sblock("padded"), s.fuse(n, m))


def depthwise_tile(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Blocks of 4 rows x 16 columns, the kernel outside of them: the rows overlap, so a row once loaded serves up to K
    rows of outputs, and there are four independent sums. Partial blocks at the right and lower border have code of
    their own."""
    *_, h, w, _ = sizes
    rows, lanes = min(4, h), lanes_of(w)
    _, y, z, u, v = s.get_loops(s.get_sblock("out"))
    y, y_tile = s.split(y, [None, rows])
    z, z_lanes = s.split(z, [None, lanes])
    _whole_blocks(s, y, h, rows)
    _whole_blocks(s, z, w, lanes)
    s.reorder(y, z, u, v, y_tile, z_lanes)


def depthwise_vectorize(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Sixteen neighbouring columns are one register: they read sixteen neighbouring columns of the plane, the weight
    goes to all."""
    s.vectorize(s.get_loops(s.get_sblock("out"))[6])


def depthwise_parallel(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Planes are independent: all cores take their share of them, each with a padded plane of its own. Only from a
    million products on."""
    b, c, h, w, k = sizes
    if b * c * h * w * k * k >= PARALLEL_MACS:
        s.parallel(s.get_loops(s.get_sblock("out"))[0])


def depthwise_sums_in_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """The block's four sums live in registers over the whole kernel, and the kernel is unrolled (up to 7 x 7): its
    weights are then constants of the plane that LLVM keeps in registers, and rows shared by several outputs are loaded
    once."""
    block = s.get_sblock("out")
    _, _, z, u, v, y_tile, _ = s.get_loops(block)
    written = s.cache_write(block, 0, "local")
    s.reverse_compute_at(written, z)
    s.unroll(y_tile)
    if sizes[4] ** 2 <= MAX_UNROLL:
        s.unroll(u), s.unroll(v)
    *_, rows, columns = s.get_loops(written)
    s.unroll(rows), s.vectorize(columns)
    s.decompose_reduction(block, u)


STEPS: dict[str, tuple[Step, ...]] = {
    "conv1d": (conv1d_tile, conv1d_vectorize, conv1d_parallel, conv1d_sums_in_registers),
    "gemm": (gemm_tile, gemm_vectorize, gemm_pack_columns, gemm_parallel, gemm_sums_in_registers),
    "conv2d": (conv2d_tile, conv2d_pack_weights, conv2d_vectorize, conv2d_parallel, conv2d_sums_in_registers),
    "depthwise": (
        depthwise_pad_planes,
        depthwise_tile,
        depthwise_vectorize,
        depthwise_parallel,
        depthwise_sums_in_registers,
    ),
}
# What was tried and did not help: measured and shown like the others, each put before the last of all steps.
REJECTED: dict[str, tuple[Step, ...]] = {
    "conv1d": (conv1d_unroll_kernel, conv1d_parallel_always),
    "gemm": (gemm_pack_rows,),
    "conv2d": (inline_padding,),
    "depthwise": (inline_padding,),
}


def scheduled(primitive: Primitive, sizes: Sizes, steps: tuple[Step, ...]) -> tvm.IRModule:
    """The primitive after these steps."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": primitive.prim_func(sizes)}))
    for step in steps:
        step(schedule, sizes)
    return schedule.mod
