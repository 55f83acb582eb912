"""From a layer of the Graph to the const data of its C kernel (firmware/lib/nn/nn.h): all that can be known before run
time.

What comes back is plain data; converter/aot/emit.py prints it as C and the tests hand it to the compiled kernels as it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from converter import quant
from converter.aot.kernels import (
    conv_asm,
    conv_packed,
    dense_asm,
    dense_lowbit,
    depthwise,
    pointwise,
    requantize,
    winograd,
)
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.conv import pack_conv_weights, pack_row_weights
from converter.aot.kernels.conv_packed import PackedConvWindow
from converter.aot.kernels.dense import pack_dense_pairs, pack_dense_weights
from converter.aot.kernels.dense_lowbit_asm import DenseCode, PackedShape, SparseShape
from converter.aot.kernels.depthwise import pack_depthwise_weights
from converter.aot.kernels.structs import (
    Channels,
    Kernel,
    NnAddLayer,
    NnConvLayer,
    NnConvPackedLayer,
    NnDenseLayer,
    NnDenseLowbitLayer,
    NnDenseSparseLayer,
    NnDepthwise3Layer,
    NnMeanLayer,
    NnOutput,
    NnPadLayer,
    NnPointwiseLayer,
    NnPoolLayer,
    NnSoftmaxLayer,
    NnWinogradLayer,
    Scratch,
)
from converter.arrays import Int8, Int32, Int64
from converter.errors import ConvertError
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.mean import Mean
from converter.operators.pad import Pad
from converter.operators.reshape import Reshape
from converter.operators.softmax import Softmax
from converter.operators.windows import pad_before
from converter.quant import Activation
from converter.tensor import QuantParams

SIMD_PIXELS = 3  # NN_CONV_SIMD_PIXELS
ROWS_PIXELS = 5  # NN_CONV_ROWS_PIXELS
SIMD_SCRATCH_LIMIT = 16384  # a convolution that wants more takes the portable kernel: RAM is worth more than its time
PLANE_SCRATCH_LIMIT = 8192  # of nn_depthwise3_s8; larger planes are done in pieces
POOL_SIMD_TAPS = 256  # int16 holds so many int8
EXP_TABLE_LIMIT = 256


@dataclass(frozen=True)
class Window:
    """Sizes of a layer whose window moves over rows and columns."""

    in_h: int
    in_w: int
    out_h: int
    out_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int


def _channels(bias: Int64, multipliers: tuple[Int64, Int64]) -> Channels:
    # biases wrap modulo 2**32, as the CPU adds
    return Channels(bias.astype(np.int32), multipliers[0].astype(np.int32), multipliers[1].astype(np.int32))


def _output(activation: Activation, y: QuantParams, largest_sums: Int64, channels: Channels) -> NnOutput:
    low, high = quant.activation_range(activation, y)
    bounded = int(largest_sums.max()) < 1 << 30 and int(channels.shift.max()) < 0
    return NnOutput(y.zero_point, low, high, int(bounded))


def _largest_sums(weights_on: Int64, bias: Int64, x: QuantParams) -> Int64:
    """A bound on |bias + sum(w * (x - zero))| per output channel; weights are [channel, taps]."""
    reach = max(127 - x.zero_point, x.zero_point + 128)
    sums: Int64 = np.abs(bias) + np.abs(weights_on).sum(axis=1) * reach
    return sums


def _window(
    x: tuple[int, ...],
    y: tuple[int, ...],
    window_hw: tuple[int, int],
    layer: Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D,
) -> Window:
    pads = [pad_before(x[1 + i], window_hw[i], layer.stride_hw[i], layer.padding) for i in (0, 1)]
    return Window(x[1], x[2], y[1], y[2], *layer.stride_hw, *pads)


def _conv(
    layer: Conv2D | DepthwiseConv2D,
    weights_ohwi: Int8,
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    x: QuantParams,
    y: QuantParams,
    simd: bool,
) -> Kernel:
    out_c, kernel_h, kernel_w, in_c = weights_ohwi.shape
    bias = layer.bias.astype(np.int64)
    channels = _channels(bias, quant.conv_multipliers(x, layer.weight_quant, y, out_c))
    largest = _largest_sums(weights_ohwi.reshape(out_c, -1).astype(np.int64), bias, x)
    output = _output(layer.activation, y, largest, channels)
    window = _window(x_shape, y_shape, (kernel_h, kernel_w), layer)
    if simd and pointwise.pointwise_fits((kernel_h, kernel_w), in_c, out_c):
        scaled = requantize.rounding(channels.multiplier, channels.shift, output, largest)
        if scaled:
            return _pointwise(weights_ohwi.reshape(out_c, in_c), window, channels, scaled, x.zero_point)
    packed = _conv_packed(weights_ohwi, window, channels, output, x) if simd else None
    if packed is not None:
        return packed
    if simd and winograd.fits((kernel_h, kernel_w), layer.stride_hw, in_c, (y_shape[2], out_c), output):
        scaled = requantize.rounding(
            channels.multiplier, channels.shift, output, largest, wanted=0
        )  # whose scaling is the least
        kernel = _winograd(weights_ohwi, window, channels, scaled, x.zero_point, largest) if scaled else None
        if kernel:
            return kernel
    function, weights, scratch = (
        _conv_form(weights_ohwi, y_shape[2], layer.stride_hw[1]) if simd else _portable_conv(weights_ohwi)
    )
    takes_code = function == "nn_conv_s8_simd" and out_c >= 2
    code = _conv_code(output) if takes_code else None
    return Kernel(
        function, _conv_layer(window, weights_ohwi.shape, x.zero_point, output, weights, channels, code), scratch
    )


def _conv_layer(
    window: Window,
    weights_ohwi_shape: tuple[int, ...],
    in_zero: int,
    output: NnOutput,
    weights: Int8,
    channels: Channels,
    code: AsmCode | None,
) -> NnConvLayer:
    """`weights` as the kernel wants them, of shape OHWI before."""
    out_c, kernel_h, kernel_w, in_c = weights_ohwi_shape
    return NnConvLayer(
        in_h=window.in_h,
        in_w=window.in_w,
        in_c=in_c,
        out_h=window.out_h,
        out_w=window.out_w,
        out_c=out_c,
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        stride_h=window.stride_h,
        stride_w=window.stride_w,
        pad_top=window.pad_top,
        pad_left=window.pad_left,
        in_zero=in_zero,
        output=output,
        weights=weights,
        channels=channels,
        code=code,
    )


def _conv_code(output: NnOutput) -> AsmCode | None:
    """The assembly for three pixels, which rounds in one way only."""
    if not requantize.full_range(output):
        return None
    return AsmCode("nn_conv_code", (conv_asm.routine(output.out_zero == -128),))


def _pointwise(weights_oi: Int8, window: Window, channels: Channels, scaled: requantize.Scaled, in_zero: int) -> Kernel:
    out_c, in_c = weights_oi.shape
    layer = NnPointwiseLayer(
        in_h=window.in_h,
        in_w=window.in_w,
        in_c=in_c,
        out_h=window.out_h,
        out_w=window.out_w,
        out_c=out_c,
        stride_h=window.stride_h,
        stride_w=window.stride_w,
        pad_top=window.pad_top,
        out_zero=scaled.rounding.out_zero,
        shift=scaled.rounding.shift,
        weights=pointwise.pack_pointwise(weights_oi, channels.bias.astype(np.int64), in_zero, scaled),
        code=pointwise.pointwise_code(in_c, out_c, window.stride_w, scaled),
    )
    return Kernel("nn_pointwise_s8", layer)


def _winograd(
    weights_ohwi: Int8,
    window: Window,
    channels: Channels,
    scaled: requantize.Scaled,
    in_zero: int,
    largest: Int64,
) -> Kernel | None:
    out_c, _, _, in_c = weights_ohwi.shape
    weights = winograd.pack(weights_ohwi, channels.bias.astype(np.int64), in_zero, largest, scaled)
    scratch_bytes = winograd.scratch_bytes(in_c, window.out_w, out_c)
    if weights is None or scratch_bytes > SIMD_SCRATCH_LIMIT:
        return None
    layer = NnWinogradLayer(
        in_h=window.in_h,
        in_w=window.in_w,
        in_c=in_c,
        out_h=window.out_h,
        out_w=window.out_w,
        out_c=out_c,
        pad_top=window.pad_top,
        pad_left=window.pad_left,
        in_zero=in_zero,
        out_zero=scaled.rounding.out_zero,
        shift=scaled.rounding.shift,
        weights=weights,
        code=winograd.code(in_c, window.out_w, out_c, scaled),
    )
    return Kernel("nn_winograd_s8", layer, Scratch("NN_WINOGRAD_SCRATCH", (in_c, window.out_w, out_c), scratch_bytes))


def _conv_packed(
    weights_ohwi: Int8, window: Window, channels: Channels, output: NnOutput, x: QuantParams
) -> Kernel | None:
    """nn_conv_packed_s8 where it takes the layer."""
    out_c, kernel_h, kernel_w, in_c = weights_ohwi.shape
    shape = PackedConvWindow(
        kernel_h, kernel_w, window.in_w, in_c, window.out_w, out_c, window.stride_h, window.pad_left
    )
    if not conv_packed.fits(shape, window.stride_w, weights_ohwi, x, output):
        return None
    relu = requantize.relu_bits(output)
    zero = 0 if 0 < relu < 8 else output.out_zero  # outputs of few bits get it at the end
    scaled = conv_packed.rounding(channels.bias, channels.multiplier, channels.shift, zero)
    if scaled is None or shape.scratch_bytes > SIMD_SCRATCH_LIMIT:
        return None
    layer = NnConvPackedLayer(
        in_h=window.in_h,
        in_w=window.in_w,
        in_c=in_c,
        out_h=window.out_h,
        out_w=window.out_w,
        out_c=out_c,
        kernel_h=kernel_h,
        stride_h=window.stride_h,
        pad_top=window.pad_top,
        pad_left=window.pad_left,
        in_zero=x.zero_point,
        taps=shape.taps,
        tail=shape.tail,
        row_words=shape.row_words,
        shift=scaled.shift,
        relu=relu,
        weights=conv_packed.pack_weights(weights_ohwi, shape.tail),
        channels=conv_packed.constants(scaled),
        code=conv_packed.code(shape, scaled.shift, relu),
    )
    sizes = (kernel_h, window.stride_h, shape.row_words, shape.tail)
    return Kernel("nn_conv_packed_s8", layer, Scratch("NN_CONV_PACKED_SCRATCH", sizes, shape.scratch_bytes))


def _conv_form(weights_ohwi: Int8, out_w: int, stride_w: int) -> tuple[str, Int8, Scratch | None]:
    """(kernel, packed weights, scratch) of the fastest form for the shape."""
    _, kernel_h, kernel_w, in_c = weights_ohwi.shape
    row = kernel_w * in_c
    fours = -(-row // 4)
    row_words = -(-out_w // ROWS_PIXELS) * ROWS_PIXELS + 2 * fours
    if stride_w * in_c == 2 and 4 * kernel_h * row_words <= SIMD_SCRATCH_LIMIT:
        scratch = Scratch("NN_CONV_ROWS_SCRATCH", (kernel_h, kernel_w, in_c, out_w), 4 * kernel_h * row_words)
        return "nn_conv_rows_s8_simd", pack_row_weights(weights_ohwi), scratch
    scratch_bytes = 4 * SIMD_PIXELS * kernel_h * ((row + 1) // 2) + 4 * fours
    if scratch_bytes <= SIMD_SCRATCH_LIMIT:
        scratch = Scratch("NN_CONV_SIMD_SCRATCH", (kernel_h, kernel_w, in_c), scratch_bytes)
        return "nn_conv_s8_simd", pack_conv_weights(weights_ohwi), scratch
    return _portable_conv(weights_ohwi)


def _portable_conv(weights_ohwi: Int8) -> tuple[str, Int8, None]:
    return "nn_conv_s8", np.ascontiguousarray(weights_ohwi).reshape(-1), None


def _depthwise(
    layer: DepthwiseConv2D,
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    x: QuantParams,
    y: QuantParams,
    simd: bool,
) -> Kernel:
    _, kernel_h, kernel_w, out_c = layer.weights_1hwc.shape
    bias = layer.bias.astype(np.int64)
    channels = _channels(bias, quant.conv_multipliers(x, layer.weight_quant, y, out_c))
    largest = _largest_sums(layer.weights_1hwc.reshape(-1, out_c).T.astype(np.int64), bias, x)
    window = _window(x_shape, y_shape, (kernel_h, kernel_w), layer)
    output = _output(layer.activation, y, largest, channels)
    plain = simd and out_c == x_shape[3]
    out_hwc = (y_shape[1], y_shape[2], out_c)
    rows = depthwise.depthwise_rows((kernel_h, kernel_w), layer.stride_hw, out_hwc, PLANE_SCRATCH_LIMIT)
    scaled = requantize.rounding(channels.multiplier, channels.shift, output, largest)
    if plain and rows and scaled:
        return _depthwise3(
            layer, window, rows, depthwise.pack_depthwise(layer.weights_1hwc, bias, scaled), scaled, x.zero_point
        )
    weights = (
        pack_depthwise_weights(layer.weights_1hwc) if plain else np.ascontiguousarray(layer.weights_1hwc).reshape(-1)
    )
    shape_ohwi = (out_c, kernel_h, kernel_w, x_shape[3])
    return Kernel(
        "nn_depthwise_s8_simd" if plain else "nn_depthwise_s8",
        _conv_layer(window, shape_ohwi, x.zero_point, output, weights, channels, None),
    )


def _depthwise3(
    layer: DepthwiseConv2D,
    window: Window,
    rows: int,
    weights: Int32,
    scaled: requantize.Scaled,
    in_zero: int,
) -> Kernel:
    channels, out_w = layer.weights_1hwc.shape[3], window.out_w
    data = NnDepthwise3Layer(
        in_h=window.in_h,
        in_w=window.in_w,
        channels=channels,
        out_h=window.out_h,
        out_w=out_w,
        stride_h=window.stride_h,
        stride_w=window.stride_w,
        pad_top=window.pad_top,
        pad_left=window.pad_left,
        in_zero=in_zero,
        out_zero=scaled.rounding.out_zero,
        shift=scaled.rounding.shift,
        rows=rows,
        weights=weights,
        code=depthwise.depthwise_code(rows, layer.stride_hw, (window.in_w, out_w), window.pad_left, channels, scaled),
    )
    sizes = (rows, window.stride_h, out_w, window.stride_w)
    scratch_bytes = depthwise.depthwise_scratch(rows, layer.stride_hw, out_w)
    return Kernel("nn_depthwise3_s8", data, Scratch("NN_DEPTHWISE3_SCRATCH", sizes, scratch_bytes))


def _dense(
    layer: FullyConnected, in_size: int, x: QuantParams, y: QuantParams, x_range: tuple[int, int] | None
) -> Kernel:
    """x_range: what the inputs can be; None takes the portable kernel."""
    out_n, in_n = layer.weights_oi.shape
    if in_size % in_n:
        raise ConvertError(
            f"{layer.name}: FULLY_CONNECTED takes {in_n} inputs a row, got {in_size} values; reshape the input"
        )
    weights = layer.weights_oi.astype(np.int64)
    bias = layer.bias.astype(np.int64)
    multipliers = quant.fully_connected_multipliers(x, layer.weight_quant, y, out_n)
    channels = _channels(bias - x.zero_point * weights.sum(axis=1), multipliers)
    output = _output(layer.activation, y, _largest_sums(weights, bias, x), channels)
    rows = in_size // in_n
    shape = dense_lowbit.choose_dense(layer.weights_oi, x_range).shape if x_range else None
    if isinstance(shape, PackedShape):
        centred = _channels(bias + (shape.base - x.zero_point) * weights.sum(axis=1), multipliers)
        packed = dense_lowbit.pack_dense(layer.weights_oi, shape)
        return Kernel(
            "nn_dense_lowbit_s8",
            NnDenseLowbitLayer(
                rows, in_n, out_n, shape.bits, shape.offset, shape.base, output, packed, centred, DenseCode(shape)
            ),
        )
    if isinstance(shape, SparseShape):
        entries, groups = dense_lowbit.pack_sparse(layer.weights_oi, shape)
        return Kernel(
            "nn_dense_sparse_s8",
            NnDenseSparseLayer(
                rows, in_n, out_n, shape.distance_bits, shape.bits, output, entries, groups, channels, DenseCode(shape)
            ),
        )
    function, table, code = _dense_form(layer.weights_oi) if x_range else _portable_dense(layer.weights_oi)
    return Kernel(function, NnDenseLayer(rows, in_n, out_n, output, table, channels, code))


def _dense_form(weights_oi: Int8) -> tuple[str, Int8, AsmCode | None]:
    """(kernel, packed weights, code) for int8 weights."""
    if int(weights_oi.min()) > -128:
        code = AsmCode("nn_dense_code", (dense_asm.routine(),))
        return "nn_dense_pairs_s8_simd", pack_dense_pairs(weights_oi), code
    return "nn_dense_s8_simd", pack_dense_weights(weights_oi), None


def _portable_dense(weights_oi: Int8) -> tuple[str, Int8, None]:
    return "nn_dense_s8", np.ascontiguousarray(weights_oi).reshape(-1), None


def _pool(
    function: str, layer: AveragePool2D | MaxPool2D, x_shape: tuple[int, ...], y_shape: tuple[int, ...], y: QuantParams
) -> Kernel:
    window = _window(x_shape, y_shape, layer.window_hw, layer)
    low, high = quant.activation_range(layer.activation, y)
    data = NnPoolLayer(
        in_h=window.in_h,
        in_w=window.in_w,
        channels=x_shape[3],
        out_h=window.out_h,
        out_w=window.out_w,
        window_h=layer.window_hw[0],
        window_w=layer.window_hw[1],
        stride_h=window.stride_h,
        stride_w=window.stride_w,
        pad_top=window.pad_top,
        pad_left=window.pad_left,
        act_min=low,
        act_max=high,
    )
    return Kernel(function, data)


def _add(layer: Add, count: int, a: QuantParams, b: QuantParams, y: QuantParams, simd: bool) -> Kernel:
    low, high = quant.activation_range(layer.activation, y)
    (mult_a, shift_a), (mult_b, shift_b), (mult_out, shift_out) = quant.add_multipliers(a, b, y)
    data = NnAddLayer(
        count=count,
        zero_a=a.zero_point,
        multiplier_a=mult_a,
        shift_a=shift_a,
        zero_b=b.zero_point,
        multiplier_b=mult_b,
        shift_b=shift_b,
        multiplier_out=mult_out,
        shift_out=shift_out,
        out_zero=y.zero_point,
        act_min=low,
        act_max=high,
    )
    return Kernel("nn_add_s8_simd" if simd and shift_out <= 0 else "nn_add_s8", data)


def _softmax(layer: Softmax, x_shape: tuple[int, ...], x: QuantParams) -> Kernel:
    mantissa, left_shift, diff_min = quant.softmax_multiplier(x, layer.beta)
    length = min(EXP_TABLE_LIMIT, 1 - diff_min)
    differences = -np.arange(length, dtype=np.int64)
    table = quant.exp_of_negative(quant.high_mul(differences << max(left_shift, 0), mantissa))
    depth = x_shape[-1]
    rows = int(np.prod(x_shape)) // depth
    return Kernel("nn_softmax_s8", NnSoftmaxLayer(rows, depth, length, table.astype(np.int32)))


def _pad(layer: Pad, x_shape: tuple[int, ...], y_shape: tuple[int, ...], y: QuantParams) -> Kernel:
    if len(x_shape) > 4:
        raise ConvertError(f"{layer.name}: PAD of {len(x_shape)} axes, the C kernel takes at most 4; reshape the input")
    missing = (1,) * (4 - len(x_shape))
    data = NnPadLayer(
        in_shape=missing + tuple(x_shape),
        before=(0,) * len(missing) + tuple(before for before, _ in layer.pads),
        out_shape=missing + tuple(y_shape),
        value=y.zero_point,
    )
    return Kernel("nn_pad_s8", data)


def lower_conv(graph: Graph, layer: Conv2D, simd: bool) -> Kernel:
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    return _conv(layer, layer.weights_ohwi, x.shape, y.shape, x.quant, y.quant, simd)


def lower_depthwise(graph: Graph, layer: DepthwiseConv2D, simd: bool) -> Kernel:
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    if x.shape[3] == 1:  # one input channel: the same sums as a CONV_2D, which has the faster kernel
        return _conv(layer, layer.weights_1hwc.transpose(3, 1, 2, 0), x.shape, y.shape, x.quant, y.quant, simd)
    return _depthwise(layer, x.shape, y.shape, x.quant, y.quant, simd)


def lower_dense(graph: Graph, layer: FullyConnected, simd: bool) -> Kernel:
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    return _dense(layer, x.size, x.quant, y.quant, dense_lowbit.value_range(graph, layer.input) if simd else None)


def lower_average_pool(graph: Graph, layer: AveragePool2D, simd: bool) -> Kernel:
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    suffix = "_simd" if simd and layer.window_hw[0] * layer.window_hw[1] <= POOL_SIMD_TAPS else ""
    return _pool(f"nn_average_pool_s8{suffix}", layer, x.shape, y.shape, y.quant)


def lower_max_pool(graph: Graph, layer: MaxPool2D, simd: bool) -> Kernel:
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    return _pool("nn_max_pool_s8", layer, x.shape, y.shape, y.quant)


def lower_add(graph: Graph, layer: Add, simd: bool) -> Kernel:
    a, b, y = (graph.tensors[index] for index in (layer.input, layer.input2, layer.output))
    return _add(layer, a.size, a.quant, b.quant, y.quant, simd)


def lower_reshape(graph: Graph, layer: Reshape, simd: bool) -> None:
    """The tensors share their bytes."""


def lower_softmax(graph: Graph, layer: Softmax, simd: bool) -> Kernel:
    x = graph.tensors[layer.input]
    return _softmax(layer, x.shape, x.quant)


def lower_mean(graph: Graph, layer: Mean, simd: bool) -> Kernel:
    """nn_mean_s8, whose SIMD form takes four channels at once."""
    x, y, count = graph.tensors[layer.input], graph.tensors[layer.output], layer.count(graph)
    data = NnMeanLayer(count, x.shape[3], count * x.quant.zero_point, *layer.multiplier(graph), y.quant.zero_point)
    return Kernel("nn_mean_s8_simd" if simd else "nn_mean_s8", data)


def lower_pad(graph: Graph, layer: Pad, simd: bool) -> Kernel:
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    return _pad(layer, x.shape, y.shape, y.quant)


# Operator and the function that chooses its kernel; tests/kernels/test_structs.py checks that none is missing.
LOWERINGS: tuple[tuple[type[Operator], Callable[..., Kernel | None]], ...] = (
    (Conv2D, lower_conv),
    (DepthwiseConv2D, lower_depthwise),
    (FullyConnected, lower_dense),
    (AveragePool2D, lower_average_pool),
    (MaxPool2D, lower_max_pool),
    (Add, lower_add),
    (Reshape, lower_reshape),
    (Softmax, lower_softmax),
    (Mean, lower_mean),
    (Pad, lower_pad),
)


def lower_layer(graph: Graph, layer: Operator, simd: bool = True) -> Kernel | None:
    """The kernel of one layer, in its SIMD form where there is one for the shape; None when nothing is to be done."""
    return dict(LOWERINGS)[type(layer)](graph, layer, simd)
