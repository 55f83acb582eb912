"""Small int8 networks whose scales a fake_quant node can name exactly; what TensorFlow's converter is asked to make,
too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from converter.arrays import Int8
from converter.check import check
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.softmax import Softmax
from converter.tensor import QuantParams, Tensor

SCORES = QuantParams((1 / 256,), (-128,))


def _scale(rng: np.random.Generator, low: float, high: float) -> float:
    """12 significant bits: then the min and max of a fake_quant node name the scale exactly."""
    mantissa, exponent = math.frexp(rng.uniform(low, high))
    return math.ldexp(round(mantissa * 4096), exponent - 12)


class Net:
    """A small network with random weights; each method appends a layer and moves `at` to its output."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = [Tensor("input", shape, QuantParams((26 / 256,), (-128,)))]
        self.layers: list[Operator] = []
        self.at = 0

    def _out(self, shape: tuple[int, ...], quant: QuantParams) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", shape, quant))
        return len(self.tensors) - 1

    def _spread(self, terms: int) -> float:
        """About three standard deviations of a sum of so many products, per unit of weight scale."""
        quant = self.tensors[self.at].quant
        return 3.0 * math.sqrt(terms) * 73.0 * quant.scale * (148.0 if self.at == 0 else 40.0)

    def _relu_quant(self, reach: float) -> QuantParams:
        return QuantParams((_scale(self.rng, 0.9 * reach / 255, reach / 255),), (-128,))

    def _weights(
        self, shape: tuple[int, ...], channels: int, axis: int | None, middle: float = 0.005
    ) -> tuple[Any, QuantParams, Any]:
        count = 1 if axis is None else channels
        scales = tuple(_scale(self.rng, 0.6 * middle, 1.4 * middle) for _ in range(count))
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        return (
            values,
            QuantParams(scales, (0,) * count, axis),
            self.rng.integers(-4000, 4000, channels).astype(np.int32),
        )

    def add_layer(self, layer: Operator) -> Net:
        self.layers.append(layer)
        self.at = layer.output
        return self

    def conv(self, channels: int, kernel: tuple[int, int], stride: int) -> Net:
        _, height, width, depth = self.tensors[self.at].shape
        quant = self._relu_quant(0.005 * self._spread(kernel[0] * kernel[1] * depth))
        y = self._out((1, -(-height // stride), -(-width // stride), channels), quant)
        parts = self._weights((channels, *kernel, depth), channels, 0)
        return self.add_layer(Conv2D("conv", self.at, y, *parts, (stride, stride), "SAME", "RELU"))

    def depthwise(self) -> Net:
        """One scale for all channels: TensorFlow's fake_quant nodes know no per-channel depthwise weights."""
        shape = self.tensors[self.at].shape
        y = self._out(shape, self._relu_quant(0.005 * self._spread(9)))
        parts = self._weights((1, 3, 3, shape[3]), shape[3], None)
        return self.add_layer(DepthwiseConv2D("depthwise", self.at, y, *parts, 1, (1, 1), "SAME", "RELU"))

    def residual(self) -> Net:
        before = self.tensors[self.at]
        number = self.at
        self.conv(before.shape[3], (3, 3), 1)
        reach = 200 * (before.quant.scale + self.tensors[self.at].quant.scale)
        return self.add_layer(Add("add", number, self.at, self._out(before.shape, self._relu_quant(reach)), "RELU"))

    def pool(self, kind: type[AveragePool2D] | type[MaxPool2D], window: tuple[int, int]) -> Net:
        x = self.tensors[self.at]
        y = self._out((1, x.shape[1] // window[0], x.shape[2] // window[1], x.shape[3]), x.quant)
        return self.add_layer(kind("pool", self.at, y, window, window, "VALID", "NONE"))

    def classify(self, labels: int) -> Graph:
        depth = self.tensors[self.at].size
        parts = self._weights((labels, depth), labels, None, 8.0 / self._spread(depth))
        logits = self._out(
            (1, labels), QuantParams((_scale(self.rng, 0.05, 0.07),), (int(self.rng.integers(-20, 20)),))
        )
        self.add_layer(FullyConnected("logits", self.at, logits, *parts, "NONE"))
        self.add_layer(Softmax("scores", self.at, self._out((1, labels), SCORES)))
        return check(Graph(tuple(self.tensors), tuple(self.layers), 0, self.at))


def tinyconv() -> Graph:
    return Net((1, 49, 40, 1), 1).conv(8, (10, 8), 2).classify(4)


def dscnn() -> Graph:
    net = Net((1, 20, 10, 1), 2).conv(16, (10, 4), 2).depthwise().conv(16, (1, 1), 1).depthwise().conv(16, (1, 1), 1)
    return net.pool(AveragePool2D, (10, 5)).classify(12)


def residual() -> Graph:
    return (
        Net((1, 16, 16, 3), 3)
        .conv(8, (3, 3), 1)
        .residual()
        .pool(MaxPool2D, (2, 2))
        .residual()
        .pool(AveragePool2D, (8, 8))
        .classify(10)
    )


NETS = {"tinyconv": tinyconv, "dscnn": dscnn, "residual": residual}


def inputs_of(graph: Graph, count: int = 60) -> Int8:
    """Noise of many levels and depths, so that what the layers average differs from input to input."""
    rng = np.random.default_rng(5)
    shape = graph.tensors[0].shape[1:]
    levels, depths = rng.uniform(-120, 120, (count, 1, shape[1], 1)), rng.uniform(5, 100, (count, 1, 1, 1))
    x: Int8 = np.clip(levels + depths * rng.standard_normal((count, *shape)), -128, 127).astype(np.int8)
    return x
