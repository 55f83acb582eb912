"""A convolution of one input channel is a CONV_2D and a DEPTHWISE_CONV_2D alike: the Graph has one form, the .tflite
the faster one.

TensorFlow Lite Micro's fast kernels (CMSIS-NN on Cortex-M4) gather the window of every output for a CONV_2D, which one
channel hardly repays; its depthwise kernel reads the input in place, four outputs at a time. CONV_2D's cycles over
DEPTHWISE_CONV_2D's on the virtual board, 34 shapes, CMSIS-NN of 2022 at -Os and of 2026 at -O2: 4, 8 or 12 outputs and
a window of several values 1.01 to 1.89 (TinyConv's
1.47 and 1.74); 16 or 28 outputs 1.01 to 1.14, 32 and 64 0.58 to 0.86; 6 or 7 outputs 0.49 to 0.62; a window of one
value 0.28 to 1.03.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from converter.graph import Graph, Operator
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.tensor import QuantParams

DEPTHWISE_OUTPUTS = (4, 8, 12)


def depthwise_as_conv(layer: Operator) -> Operator:
    """The layer as a Graph holds it: a depthwise convolution of one channel becomes the Conv2D of the same sums."""
    if not isinstance(layer, DepthwiseConv2D) or layer.weights_1hwc.ndim != 4:
        return layer
    batch, _, _, channels = layer.weights_1hwc.shape
    if batch != 1 or channels != layer.depth_multiplier:
        return layer
    weights = np.ascontiguousarray(layer.weights_1hwc.transpose(3, 1, 2, 0))
    return Conv2D(
        layer.name,
        layer.input,
        layer.output,
        weights,
        _along(layer.weight_quant, 0),
        layer.bias,
        layer.stride_hw,
        layer.padding,
        layer.activation,
    )


def conv_as_depthwise(layer: Operator) -> Operator:
    """The layer as a .tflite holds it; depthwise_as_conv gives it back."""
    layer = depthwise_as_conv(layer)
    if not isinstance(layer, Conv2D):
        return layer
    channels, height, width, depth = layer.weights_ohwi.shape
    if depth != 1 or channels not in DEPTHWISE_OUTPUTS or height * width == 1:
        return layer
    weights = np.ascontiguousarray(layer.weights_ohwi.transpose(3, 1, 2, 0))
    return DepthwiseConv2D(
        layer.name,
        layer.input,
        layer.output,
        weights,
        _along(layer.weight_quant, 3),
        layer.bias,
        channels,
        layer.stride_hw,
        layer.padding,
        layer.activation,
    )


def graph_in_tflite(graph: Graph) -> Graph:
    """The graph with its layers as a .tflite holds them."""
    return replace(graph, layers=tuple(map(conv_as_depthwise, graph.layers)))


def _along(quant: QuantParams, axis: int) -> QuantParams:
    return quant if quant.axis is None else replace(quant, axis=axis)
