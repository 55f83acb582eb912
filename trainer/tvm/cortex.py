"""int8 convolution and dense layers as TVM expressions with TensorFlow Lite's rounding, and their schedules for the
Cortex-M4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import s_tir, te, tirx

from converter.aot.kernels.structs import Channels, NnConvLayer, NnDenseLayer, NnOutput
from converter.aot.lower import lower_layer
from converter.arrays import Int32
from converter.graph import Graph, Operator
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from trainer.tvm.cortex_intrin import register

Tile = tuple[int, int]  # pixels, channels
PIXELS, CHANNELS, MAX_UNROLL = 4, 2, 16


@dataclass(frozen=True, eq=False)
class Kernel:
    """A layer as TVM sees it. Its function takes pointers to the input, these constants, room for the stages kept in
    RAM, the output."""

    inputs: tuple[te.Tensor, ...]  # input, weights, bias, multiplier, shift
    constants: tuple[NDArray[Any], ...]  # from the weights on
    stages: tuple[te.Tensor, ...]  # the sums last
    output: te.Tensor
    is_conv: bool
    dual: bool  # whether the dual multiply-accumulate fits the row length


def kernel_of(graph: Graph, layer: Operator) -> Kernel | None:
    """CONV_2D, DEPTHWISE_CONV_2D of one input channel (the same sums) and FULLY_CONNECTED of one row; None for anything
    else.

    All numbers come from the lowering of the compiled engine's portable kernels.
    """
    one_channel = isinstance(layer, DepthwiseConv2D) and graph.tensors[layer.input].shape[3] == 1
    if not (one_channel or isinstance(layer, (Conv2D, FullyConnected))):
        return None
    lowered = lower_layer(graph, layer, simd=False)
    assert lowered is not None
    match lowered.layer:
        case NnDenseLayer(rows=rows):
            return _dense(lowered.layer) if rows == 1 else None
        case NnConvLayer():
            return _conv(lowered.layer)
        case _:
            raise AssertionError(f"no portable kernel has {lowered.layer.struct}")


def _conv(f: NnConvLayer) -> Kernel:
    """Rows are widened to int16 and padded first; a kernel row is then `taps` values in a row, an even number (the odd
    one out is 0)."""
    assert isinstance(f.weights, np.ndarray)
    row = f.kernel_w * f.in_c
    taps, step = row + row % 2, f.stride_w * f.in_c
    rows, columns = (f.out_h - 1) * f.stride_h + f.kernel_h, (f.out_w - 1) * step + taps
    weights = np.zeros((f.out_c, f.kernel_h, taps), np.int16)
    weights[:, :, :row] = f.weights.reshape(f.out_c, f.kernel_h, row)
    left, width = f.pad_left * f.in_c, f.in_w * f.in_c
    x = te.placeholder((f.in_h, width), "int8", name="x")
    w = te.placeholder(weights.shape, "int16", name="w")
    tables, constants = _channels(f.channels)
    wide = te.compute(
        (rows, columns),
        lambda y, z: tirx.if_then_else(
            tirx.all(y >= f.pad_top, y < f.pad_top + f.in_h, z >= left, z < left + width),
            (x[y - f.pad_top, z - left].astype("int32") - f.in_zero).astype("int16"),
            tirx.const(0, "int16"),
        ),
        name="wide",
    )
    u, v = te.reduce_axis((0, f.kernel_h), name="u"), te.reduce_axis((0, taps), name="v")
    sums = te.compute(
        (f.out_h, f.out_w, f.out_c),
        lambda y, z, o: te.sum(
            wide[y * f.stride_h + u, z * step + v].astype("int32") * w[o, u, v].astype("int32"), axis=[u, v]
        ),
        name="sums",
    )
    out = te.compute(
        sums.shape, lambda y, z, o: _requantize(sums[y, z, o], [t[o] for t in tables], f.output), name="out"
    )
    return Kernel((x, w, *tables), (weights, *constants), (wide, sums), out, True, True)


def _dense(f: NnDenseLayer) -> Kernel:
    """One row of inputs; the input's zero point is inside the bias."""
    weights = f.weights.reshape(f.out_n, f.in_n)
    x, w = te.placeholder((f.in_n,), "int8", name="x"), te.placeholder(weights.shape, "int8", name="w")
    tables, constants = _channels(f.channels)
    u = te.reduce_axis((0, f.in_n), name="u")
    sums = te.compute((f.out_n,), lambda o: te.sum(x[u].astype("int32") * w[o, u].astype("int32"), axis=u), name="sums")
    out = te.compute(sums.shape, lambda o: _requantize(sums[o], [t[o] for t in tables], f.output), name="out")
    return Kernel((x, w, *tables), (weights, *constants), (sums,), out, False, f.in_n % 4 == 0)


def _channels(channels: Channels) -> tuple[list[te.Tensor], list[Int32]]:
    constants = [getattr(channels, name) for name in ("bias", "multiplier", "shift")]
    tables = [
        te.placeholder(c.shape, "int32", name=name)
        for c, name in zip(constants, ("bias", "multiplier", "shift"), strict=True)
    ]
    return tables, constants


def _requantize(total: Any, channel: list[Any], output: NnOutput) -> Any:
    """TFLite's double rounding of an int32 sum: the doubling high multiply (halves upward), then a shift that rounds
    halves away from zero.

    Where sums may pass 2**30 or a shift is not to the right (`sum_below_2_30` is 0), those that cannot overflow
    are taken.
    """

    def c32(number: int) -> Any:
        return tirx.const(number, "int32")

    bias, multiplier, shift = channel
    value, right = total + bias, -shift
    if not output.sum_below_2_30:
        value, right = (
            (value.astype("int64") << te.max(shift, c32(0)).astype("int64")).astype("int32"),
            te.max(right, c32(0)),
        )
    high = (
        (value.astype("int64") * multiplier.astype("int64") + tirx.const(1 << 30, "int64")) >> tirx.const(31, "int64")
    ).astype("int32")
    negative = (high >> c32(31)) & c32(1)
    if output.sum_below_2_30:
        rounded = (high + (c32(1) << (right - c32(1))) - negative) >> right
    else:
        mask = c32(-1) ^ (c32(-1) << right)
        rounded = (high >> right) + ((high & mask) > ((mask >> c32(1)) + negative)).astype("int32")
    return te.max(te.min(rounded + c32(output.out_zero), c32(output.act_max)), c32(output.act_min)).astype("int8")


# The steps, in order. Each changes the schedule and nothing else.


def tile_registers(s: s_tir.Schedule, kernel: Kernel, generator: str, tile: Tile) -> None:
    """Several sums at a time in registers: a weight once loaded serves PIXELS neighbouring outputs, a value of the
    input CHANNELS kernels (a dense layer's input four outputs). Each output is made as soon as its sum is there, so a
    layer's sums (16,000 B for TinyConv's convolution) need no RAM. The M4 has 13 registers: many more sums than these
    would be spilled."""
    block = s.get_sblock("sums")
    if kernel.is_conv:
        y, z, o, u, v = s.get_loops(block)
        z, z_tile = s.split(z, [None, _divisor(_extent(s, z), tile[0])])
        o, o_tile = s.split(o, [None, _divisor(_extent(s, o), tile[1])])
        s.reorder(y, z, o, u, v, z_tile, o_tile)
        outer, first, tiles = o, u, [z_tile, o_tile]
    else:
        o, u = s.get_loops(block)
        o, o_tile = s.split(o, [None, _divisor(_extent(s, o), 4)])
        s.reorder(o, u, o_tile)
        outer, first, tiles = o, u, [o_tile]
    s.reverse_compute_at(s.get_sblock("out"), outer)
    for loop in (*tiles, *s.get_loops(s.get_sblock("out"))[-len(tiles) :]):
        s.unroll(loop)
    for loop in s.get_loops(s.decompose_reduction(block, first))[-len(tiles) :]:
        s.unroll(loop)


def dual_multiply(s: s_tir.Schedule, kernel: Kernel, generator: str, tile: Tile) -> None:
    """Two products per instruction: SMLAD multiplies two pairs of int16 and adds both to a sum. Pairs of a kernel row
    lie side by side in the widened input and in the weights; a dense layer's int8 values are widened four at a time by
    SXTB16 on the way."""
    width = 2 if kernel.is_conv else 4
    if not kernel.dual:
        return
    block = s.get_sblock("sums_update")
    row = next(loop for loop in s.get_loops(block) if s.get(loop).loop_var.name == ("v" if kernel.is_conv else "u"))
    tiles = s.get_loops(block)[-(2 if kernel.is_conv else 1) :]
    outer, pair = s.split(row, [None, width])
    s.reorder(outer, *tiles, pair)
    s.tensorize(pair, f"kws_dot{width}_{generator}")


def unroll_row(s: s_tir.Schedule, kernel: Kernel, generator: str, tile: Tile) -> None:
    """Write a kernel row's pairs out one by one: no counter and no branch per pair, and every address is a constant
    from the row's start. Helps GCC; LLVM does it by itself. A dense layer has no row: four words at a time cost 3,000
    cycles more there, so it is left alone."""
    if kernel.is_conv:
        row = s.get_loops(s.get_sblock("sums_update_o" if kernel.dual else "sums_update"))[4]
        if _extent(s, row) <= MAX_UNROLL:
            s.unroll(row)


def _extent(s: s_tir.Schedule, loop: Any) -> int:
    return int(s.get(loop).extent)


def _divisor(size: int, most: int) -> int:
    return next(n for n in range(most, 0, -1) if size % n == 0)


STEPS = (tile_registers, dual_multiply, unroll_row)


def kept_stages(kernel: Kernel, steps: int) -> tuple[te.Tensor, ...]:
    """The stages that lie in RAM as a whole: once scheduled, the sums are a few registers."""
    return kernel.stages[:-1] if steps else kernel.stages


def scheduled(kernel: Kernel, steps: int, generator: str, tile: Tile = (PIXELS, CHANNELS)) -> s_tir.Schedule:
    """The schedule after the first `steps` steps, for generator `c` or `llvm`."""
    register()
    schedule = s_tir.Schedule(te.create_prim_func([*kernel.inputs, *kept_stages(kernel, steps), kernel.output]))
    for step in STEPS[:steps]:
        step(schedule, kernel, generator, tile)
    return schedule
