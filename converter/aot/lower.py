"""From a layer of the Graph to the const data of its C kernel (firmware/lib/nn/nn.h): all that can be known before run
time. Convolutions and dense layers have files of their own.

What comes back is plain data; converter/aot/emit.py prints it as C and the tests hand it to the compiled kernels as it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from converter import quant
from converter.aot.add_weights import INT8, find_add_weights
from converter.aot.kernels.structs import (
    Kernel,
    NnAddLayer,
    NnAddRepeatLayer,
    NnAddWeightedLayer,
    NnConcatenationLayer,
    NnMeanLayer,
    NnMulLayer,
    NnPadLayer,
    NnPoolLayer,
    NnSoftmaxLayer,
    NnStridedCopyLayer,
    NnTableLayer,
)
from converter.aot.lower_conv import lower_conv, lower_depthwise, window_of
from converter.aot.lower_dense import lower_dense
from converter.arrays import Int8
from converter.errors import ConvertError
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.binary import BinaryOperator
from converter.operators.concatenation import Concatenation
from converter.operators.conv2d import Conv2D
from converter.operators.copied import CopyOperator
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.hard_swish import HardSwish
from converter.operators.logistic import Logistic
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.mean import Mean
from converter.operators.mul import Mul
from converter.operators.pad import Pad
from converter.operators.quantize import Quantize
from converter.operators.relu import Relu
from converter.operators.relu6 import Relu6
from converter.operators.reshape import Reshape
from converter.operators.softmax import Softmax
from converter.operators.strided_slice import StridedSlice
from converter.operators.table import TableOperator
from converter.operators.tanh import Tanh
from converter.operators.transpose import Transpose
from converter.tensor import Constant, Tensor

POOL_SIMD_TAPS = 256  # int16 holds so many int8
EXP_TABLE_LIMIT = 256


def _pool(function: str, layer: AveragePool2D | MaxPool2D, x: Tensor, y: Tensor) -> Kernel:
    window = window_of(x.shape, y.shape, layer.window_hw, layer)
    low, high = quant.activation_range(layer.activation, y.quant)
    data = NnPoolLayer(
        **asdict(window),
        channels=x.shape[3],
        window_h=layer.window_hw[0],
        window_w=layer.window_hw[1],
        act_min=low,
        act_max=high,
    )
    return Kernel(function, data)


def lower_average_pool(graph: Graph, layer: AveragePool2D, simd: bool) -> Kernel:
    """nn_average_pool_s8, whose SIMD form sums in int16."""
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    suffix = "_simd" if simd and layer.window_hw[0] * layer.window_hw[1] <= POOL_SIMD_TAPS else ""
    return _pool(f"nn_average_pool_s8{suffix}", layer, x, y)


def lower_max_pool(graph: Graph, layer: MaxPool2D, simd: bool) -> Kernel:
    """nn_max_pool_s8."""
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    return _pool("nn_max_pool_s8", layer, x, y)


def lower_add(graph: Graph, layer: Add, simd: bool) -> Kernel:
    """nn_add_weighted_s8 where it gives the same outputs; else nn_add_s8, whose SIMD form shifts to the right only."""
    a, y, (_, quant_b) = graph.tensors[layer.input], graph.tensors[layer.output], layer.second(graph)
    low, high = quant.activation_range(layer.activation, y.quant)
    (mult_a, shift_a), (mult_b, shift_b), (mult_out, shift_out) = quant.add_multipliers(a.quant, quant_b, y.quant)
    data = NnAddLayer(
        count=a.size,
        zero_a=a.quant.zero_point,
        multiplier_a=mult_a,
        shift_a=shift_a,
        zero_b=quant_b.zero_point,
        multiplier_b=mult_b,
        shift_b=shift_b,
        multiplier_out=mult_out,
        shift_out=shift_out,
        out_zero=y.quant.zero_point,
        act_min=low,
        act_max=high,
    )
    if layer.repeats(graph):
        scales = {name: value for name, value in asdict(data).items() if name != "count"}
        function, constant = _second("nn_add_repeat_s8", "nn_add_constant_s8", layer)
        return Kernel(function, NnAddRepeatLayer(*layer.blocks(graph), **scales, constant=constant))
    pairs = [np.broadcast_to(values, (256, 256)).astype(np.int8) for values in (INT8[:, None], INT8[None, :])]
    ratios = [operand.scale / y.quant.scale for operand in (a.quant, quant_b)]
    found = find_add_weights(layer.run(graph, pairs), *ratios) if simd else None
    if found:
        return Kernel("nn_add_weighted_s8_simd", NnAddWeightedLayer(a.size, **asdict(found)))
    return Kernel("nn_add_s8_simd" if simd and shift_out <= 0 else "nn_add_s8", data)


def _second(function: str, with_constant: str, layer: BinaryOperator) -> tuple[str, Int8 | None]:
    """The C function for the second operand, and its values where it is a constant."""
    second = layer.input2
    return (with_constant, second.values.reshape(-1)) if isinstance(second, Constant) else (function, None)


def lower_mul(graph: Graph, layer: Mul, simd: bool) -> Kernel:
    """nn_mul_s8."""
    a, y, (_, quant_b) = graph.tensors[layer.input].quant, graph.tensors[layer.output].quant, layer.second(graph)
    low, high = quant.activation_range(layer.activation, y)
    function, constant = _second("nn_mul_s8", "nn_mul_constant_s8", layer)
    scales = (a.zero_point, quant_b.zero_point, *layer.multiplier(graph), y.zero_point, low, high)
    return Kernel(function, NnMulLayer(*layer.blocks(graph), *scales, constant))


def lower_reshape(graph: Graph, layer: Reshape, simd: bool) -> None:
    """The tensors share their bytes."""


def lower_softmax(graph: Graph, layer: Softmax, simd: bool) -> Kernel:
    """nn_softmax_s8 with a table of exp() of all differences to the maximum that count."""
    x = graph.tensors[layer.input]
    mantissa, left_shift, diff_min = quant.softmax_multiplier(x.quant, layer.beta)
    length = min(EXP_TABLE_LIMIT, 1 - diff_min)
    differences = -np.arange(length, dtype=np.int64)
    table = quant.exp_of_negative(quant.high_mul(differences << max(left_shift, 0), mantissa))
    depth = x.shape[-1]
    return Kernel("nn_softmax_s8", NnSoftmaxLayer(x.size // depth, depth, length, table.astype(np.int32)))


def lower_mean(graph: Graph, layer: Mean, simd: bool) -> Kernel:
    """nn_mean_s8, whose SIMD form takes four channels at once."""
    x, y = graph.tensors[layer.input].quant, graph.tensors[layer.output].quant
    maps, count, channels = layer.split(graph)
    data = NnMeanLayer(maps, count, channels, count * x.zero_point, *layer.multiplier(graph), y.zero_point)
    return Kernel("nn_mean_s8_simd" if simd else "nn_mean_s8", data)


def lower_pad(graph: Graph, layer: Pad, simd: bool) -> Kernel:
    """nn_pad_s8, of four axes."""
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    if len(x.shape) > 4:
        raise ConvertError(f"{layer.name}: PAD of {len(x.shape)} axes, the C kernel takes at most 4; reshape the input")
    missing = (1,) * (4 - len(x.shape))
    data = NnPadLayer(
        in_shape=missing + tuple(x.shape),
        before=(0,) * len(missing) + tuple(before for before, _ in layer.pads),
        out_shape=missing + tuple(y.shape),
        value=y.quant.zero_point,
    )
    return Kernel("nn_pad_s8", data)


def lower_table(graph: Graph, layer: TableOperator, simd: bool) -> Kernel:
    """nn_table_s8."""
    return Kernel("nn_table_s8", NnTableLayer(graph.tensors[layer.output].size, layer.table(graph)))


def lower_concatenation(graph: Graph, layer: Concatenation, simd: bool) -> Kernel:
    """nn_concatenation_s8."""
    widths = layer.widths(graph)
    rows = graph.tensors[layer.output].size // sum(widths)
    return Kernel("nn_concatenation_s8", NnConcatenationLayer(rows, len(widths), np.array(widths, np.int32)))


def lower_copy(graph: Graph, layer: CopyOperator, simd: bool) -> Kernel:
    """nn_strided_copy_s8."""
    first, shape, steps = layer.strides(graph)
    axes: list[tuple[int, int]] = []  # (values, step) of the output's, where neighbours that are one row are one
    for size, step in [pair for pair in zip(shape, steps, strict=True) if pair[0] > 1] or [(1, 1)]:
        if axes and axes[-1][1] == size * step:
            axes[-1] = (axes[-1][0] * size, step)
        else:
            axes.append((size, step))
    axes = [(1, 0)] * (len(shape) - len(axes)) + axes
    return Kernel(
        "nn_strided_copy_s8",
        NnStridedCopyLayer(first, tuple(size for size, _ in axes), tuple(step for _, step in axes)),
    )


# Operator and the function that chooses its kernel; tests/kernels/test_structs.py checks that none is missing.
LOWERINGS: tuple[tuple[type[Operator], Callable[..., Kernel | None]], ...] = (
    (Conv2D, lower_conv),
    (DepthwiseConv2D, lower_depthwise),
    (FullyConnected, lower_dense),
    (AveragePool2D, lower_average_pool),
    (MaxPool2D, lower_max_pool),
    (Add, lower_add),
    (Mul, lower_mul),
    (Reshape, lower_reshape),
    (Softmax, lower_softmax),
    (Mean, lower_mean),
    (Pad, lower_pad),
    (Quantize, lower_table),
    (Tanh, lower_table),
    (HardSwish, lower_table),
    (Relu6, lower_table),
    (Relu, lower_table),
    (Logistic, lower_table),
    (Concatenation, lower_concatenation),
    (Transpose, lower_copy),
    (StridedSlice, lower_copy),
)


def lower_layer(graph: Graph, layer: Operator, simd: bool = True) -> Kernel | None:
    """The kernel of one layer, in its SIMD form where there is one for the shape; None when nothing is to be done."""
    return dict(LOWERINGS)[type(layer)](graph, layer, simd)
