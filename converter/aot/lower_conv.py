"""From a convolution to the const data of the fastest kernel that takes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from converter import quant
from converter.aot.constant_channels import ChannelConstants, fold_constant_channels
from converter.aot.kernels import (
    conv_asm,
    conv_packed,
    depthwise,
    depthwise_time,
    pointwise,
    pointwise_asm,
    requantize,
    winograd,
)
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.conv import pack_conv_weights, pack_row_weights
from converter.aot.kernels.conv_packed import PackedConvWindow
from converter.aot.kernels.depthwise import pack_depthwise_weights
from converter.aot.kernels.pointwise_asm import PointwiseShape
from converter.aot.kernels.structs import (
    Channels,
    Kernel,
    NnConvLayer,
    NnConvPackedLayer,
    NnDepthwise3Layer,
    NnDepthwiseTimeLayer,
    NnOutput,
    NnPointwiseLayer,
    NnWinogradLayer,
    Scratch,
)
from converter.arrays import Int8, Int32, Int64
from converter.graph import Graph
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.weighted import largest_sums
from converter.operators.windows import pad_before
from converter.tensor import QuantParams, Tensor

SIMD_PIXELS = 3  # NN_CONV_SIMD_PIXELS
ROWS_PIXELS = 5  # NN_CONV_ROWS_PIXELS
SIMD_SCRATCH_LIMIT = 16384  # a convolution that wants more takes the portable kernel: RAM is worth more than its time
PLANE_SCRATCH_LIMIT = 8192  # of nn_depthwise3_s8; larger planes are done in pieces


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


def window_of(
    x: tuple[int, ...],
    y: tuple[int, ...],
    window_hw: tuple[int, int],
    layer: Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D,
) -> Window:
    """Of a layer whose input and output have shapes x and y, [1, H, W, C]."""
    pads = [pad_before(x[1 + i], window_hw[i], layer.stride_hw[i], layer.padding) for i in (0, 1)]
    return Window(x[1], x[2], y[1], y[2], *layer.stride_hw, *pads)


def lower_conv(graph: Graph, layer: Conv2D, simd: bool) -> Kernel:
    """The fastest of nn_pointwise, nn_conv_packed, nn_winograd, nn_conv_rows and nn_conv that takes the shape."""
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    return _conv(layer, layer.weights_ohwi, x, y, simd)


def lower_depthwise(graph: Graph, layer: DepthwiseConv2D, simd: bool) -> Kernel:
    """nn_depthwise3, nn_depthwise_time or nn_depthwise; a convolution's kernel for one input channel."""
    x, y = graph.tensors[layer.input], graph.tensors[layer.output]
    if x.shape[3] == 1:  # one input channel: the same sums as a CONV_2D, which has the faster kernel
        return _conv(layer, layer.weights_1hwc.transpose(3, 1, 2, 0), x, y, simd)
    return _depthwise(layer, x, y, simd)


def _folded(
    layer: Conv2D | DepthwiseConv2D, weights: Int8, x: QuantParams, y: QuantParams, simd: bool
) -> ChannelConstants:
    """The constants of the layer, weights [channels, taps]; the portable kernels take them as they are."""
    multipliers = quant.conv_multipliers(x, layer.weight_quant, y, len(weights))
    if not simd:
        none = np.zeros(len(weights), bool)
        return ChannelConstants(weights, layer.bias.astype(np.int64), multipliers, none, none.astype(np.int8))
    return fold_constant_channels(weights, layer.bias, multipliers, x, y, layer.activation)


def _conv(layer: Conv2D | DepthwiseConv2D, weights_ohwi: Int8, x: Tensor, y: Tensor, simd: bool) -> Kernel:
    out_c, kernel_h, kernel_w, in_c = weights_ohwi.shape
    folded = _folded(layer, weights_ohwi.reshape(out_c, -1), x.quant, y.quant, simd)
    weights_ohwi = folded.weights.reshape(weights_ohwi.shape)
    channels = requantize.channel_constants(folded.bias, folded.multipliers)
    largest = largest_sums(folded.weights, channels.bias, x.quant)
    output = requantize.output_range(layer.activation, y.quant, largest, channels)
    window = window_of(x.shape, y.shape, (kernel_h, kernel_w), layer)
    if simd and (kernel_h, kernel_w) == (1, 1) and pointwise.pointwise_fits(1, in_c, out_c):
        scaled = requantize.rounding(channels.multiplier, channels.shift, output, largest)
        if scaled:
            return _pointwise(weights_ohwi, window, folded, scaled, x.quant.zero_point)
    packed = _conv_packed(weights_ohwi, window, channels, output, x.quant) if simd else None
    if packed is not None:
        return packed
    if simd and winograd.fits((kernel_h, kernel_w), layer.stride_hw, in_c, (y.shape[2], out_c), output):
        # wanted=0: the least scaling
        scaled = requantize.rounding(channels.multiplier, channels.shift, output, largest, wanted=0)
        kernel = _winograd(weights_ohwi, window, channels, scaled, x.quant.zero_point, largest) if scaled else None
        if kernel:
            return kernel
    if simd and _patches_fit(weights_ohwi, window):
        scaled = requantize.rounding(channels.multiplier, channels.shift, output, largest)
        if scaled:
            return _pointwise(weights_ohwi, window, folded, scaled, x.quant.zero_point)
    function, weights, scratch = (
        _conv_form(weights_ohwi, y.shape[2], layer.stride_hw[1]) if simd else _portable_conv(weights_ohwi)
    )
    takes_code = function == "nn_conv_s8_simd" and out_c >= 2 and requantize.unclamped(output)
    relu = output.out_zero == -128
    routines = tuple(conv_asm.routine(relu, pixels) for pixels in (1, conv_asm.PIXELS))
    code = AsmCode("nn_conv_code", routines) if takes_code else None
    data = _conv_layer(window, weights_ohwi.shape, x.quant.zero_point, output, weights, channels, code)
    return Kernel(function, data, scratch)


def _patches_fit(weights_ohwi: Int8, window: Window) -> bool:
    """Whether nn_conv_patches_s8 takes the shape and nothing better does."""
    out_c, kernel_h, kernel_w, in_c = weights_ohwi.shape
    scratch_bytes = kernel_h * ((window.out_w - 1) * window.stride_w + kernel_w) * in_c
    fits = (kernel_h, kernel_w) != (1, 1) and pointwise.pointwise_fits(kernel_h, kernel_w * in_c, out_c)
    whole_blocks = (
        window.out_w >= pointwise_asm.BLOCK and window.stride_w * in_c != 2
    )  # which nn_conv_rows_s8_simd takes
    return fits and whole_blocks and scratch_bytes <= SIMD_SCRATCH_LIMIT


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
        **asdict(window),
        in_c=in_c,
        out_c=out_c,
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        in_zero=in_zero,
        output=output,
        weights=weights,
        channels=channels,
        code=code,
    )


def _pointwise(
    weights_ohwi: Int8, window: Window, folded: ChannelConstants, scaled: requantize.Scaled, in_zero: int
) -> Kernel:
    """nn_pointwise_s8 for a kernel of 1 x 1, else nn_conv_patches_s8."""
    out_c, kernel_h, kernel_w, in_c = weights_ohwi.shape
    row = kernel_w * in_c
    row_step = ((window.out_w - 1) * window.stride_w + kernel_w) * in_c  # NN_CONV_PATCHES_ROW
    computed = pointwise.computed_channels(folded.constant)
    shape = PointwiseShape(
        row,
        out_c,
        window.stride_w * in_c,
        scaled.rounding,
        kernel_h,
        row_step if kernel_h > 1 else 0,
        computed is not None,
    )
    layer = NnPointwiseLayer(
        **asdict(window),
        in_c=in_c,
        out_c=out_c,
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        in_zero=in_zero,
        out_zero=scaled.rounding.out_zero,
        shift=scaled.rounding.shift,
        pairs=(out_c if computed is None else len(computed)) // 2,
        weights=pointwise.pack_pointwise(
            weights_ohwi.reshape(out_c, kernel_h, row), folded.bias, in_zero, scaled, computed
        ),
        constants=None if computed is None else folded.values,
        code=pointwise.pointwise_code(shape),
    )
    if (kernel_h, kernel_w) == (1, 1):
        return Kernel("nn_pointwise_s8", layer)
    sizes = (kernel_h, kernel_w, in_c, window.out_w, window.stride_w)
    return Kernel("nn_conv_patches_s8", layer, Scratch("NN_CONV_PATCHES_SCRATCH", sizes, kernel_h * row_step))


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
    zero = 0 if 0 < relu < 8 else output.out_zero  # low-bit outputs get it at the end
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


def _depthwise(layer: DepthwiseConv2D, x: Tensor, y: Tensor, simd: bool) -> Kernel:
    _, kernel_h, kernel_w, out_c = layer.weights_1hwc.shape
    folded = _folded(layer, np.ascontiguousarray(layer.weights_1hwc.reshape(-1, out_c).T), x.quant, y.quant, simd)
    channels = requantize.channel_constants(folded.bias, folded.multipliers)
    layer = replace(
        layer,
        weights_1hwc=np.ascontiguousarray(folded.weights.T).reshape(layer.weights_1hwc.shape),
        bias=channels.bias,
    )
    largest = largest_sums(folded.weights, channels.bias, x.quant)
    window = window_of(x.shape, y.shape, (kernel_h, kernel_w), layer)
    output = requantize.output_range(layer.activation, y.quant, largest, channels)
    plain = simd and out_c == x.shape[3]
    out_hwc = (y.shape[1], y.shape[2], out_c)
    rows = depthwise.depthwise_rows((kernel_h, kernel_w), layer.stride_hw, out_hwc, PLANE_SCRATCH_LIMIT)
    scaled = requantize.rounding(channels.multiplier, channels.shift, output, largest)
    if plain and rows and scaled:
        return _depthwise3(
            layer,
            window,
            rows,
            depthwise.pack_depthwise(layer.weights_1hwc, folded.bias, scaled),
            scaled,
            x.quant.zero_point,
        )
    if plain and depthwise_time.fits((kernel_h, kernel_w), layer.stride_hw, x.shape[2], out_c) and window.pad_left == 0:
        found = (
            (scaled, 0) if scaled else requantize.rounding_doubled(channels.multiplier, channels.shift, output, largest)
        )
        if found:
            return _depthwise_time(layer, window, *found, x.quant.zero_point)
    weights = (
        pack_depthwise_weights(layer.weights_1hwc) if plain else np.ascontiguousarray(layer.weights_1hwc).reshape(-1)
    )
    shape_ohwi = (out_c, kernel_h, kernel_w, x.shape[3])
    return Kernel(
        "nn_depthwise_s8_simd" if plain else "nn_depthwise_s8",
        _conv_layer(window, shape_ohwi, x.quant.zero_point, output, weights, channels, None),
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
        **asdict(window),
        channels=channels,
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


def _depthwise_time(
    layer: DepthwiseConv2D, window: Window, scaled: requantize.Scaled, doublings: int, in_zero: int
) -> Kernel:
    _, kernel_h, _, channels = layer.weights_1hwc.shape
    bias = layer.bias.astype(np.int64)
    data = NnDepthwiseTimeLayer(
        in_h=window.in_h,
        in_w=window.in_w,
        channels=channels,
        out_h=window.out_h,
        kernel_h=kernel_h,
        pad_top=window.pad_top,
        in_zero=in_zero,
        out_zero=scaled.rounding.out_zero,
        shift=scaled.rounding.shift,
        doublings=doublings,
        weights=depthwise_time.pack_weights(layer.weights_1hwc, bias, in_zero, scaled),
        code=depthwise_time.code(kernel_h, window.in_w * channels, scaled, doublings),
    )
    return Kernel("nn_depthwise_time_s8", data)
