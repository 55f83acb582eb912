"""Whole small networks with random weights, for the planner and the C writer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from converter.arrays import Int8, Int32
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.pad import Pad
from converter.operators.reshape import Reshape
from converter.operators.softmax import Softmax
from converter.operators.windows import Padding, output_size
from converter.quant import Activation
from converter.tensor import QuantParams, Tensor

Rng = np.random.Generator


class Net:
    """Layers appended one after the other; every method gives back the number of its output tensor."""

    def __init__(self, rng: Rng, input_shape: tuple[int, ...]) -> None:
        self.rng = rng
        self.tensors = [Tensor("in", input_shape, self.quant())]
        self.layers: list[Operator] = []

    def quant(self) -> QuantParams:
        return QuantParams((float(np.float32(self.rng.uniform(0.02, 0.2))),), (int(self.rng.integers(-128, 128)),))

    def add_tensor(self, shape: tuple[int, ...], quant: QuantParams | None = None) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", shape, quant or self.quant()))
        return len(self.tensors) - 1

    def weights(self, shape: tuple[int, ...], channels: int) -> tuple[Int8, QuantParams, Int32]:
        taps = int(np.prod(shape)) // channels
        scales = tuple(float(np.float32(s)) for s in self.rng.uniform(0.3, 1.0, channels) / 70 / taps**0.5)
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        return (
            values,
            QuantParams(scales, (0,) * channels, 0),
            self.rng.integers(-3000, 3000, channels).astype(np.int32),
        )

    def conv(
        self, x: int, channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding, act: Activation
    ) -> int:
        _, h, w, c = self.tensors[x].shape
        values, quant, bias = self.weights((channels, *kernel, c), channels)
        y = self.add_tensor(
            (1, output_size(h, kernel[0], stride[0], padding), output_size(w, kernel[1], stride[1], padding), channels)
        )
        self.layers.append(Conv2D(f"conv{y}", x, y, values, quant, bias, stride, padding, act))
        return y

    def depthwise(self, x: int, kernel: tuple[int, int], multiplier: int = 1, padding: Padding = "SAME") -> int:
        _, h, w, c = self.tensors[x].shape
        values, quant, bias = self.weights((1, *kernel, c * multiplier), c * multiplier)
        out_hw = [output_size(size, k, 1, padding) for size, k in zip((h, w), kernel, strict=True)]
        y = self.add_tensor((1, *out_hw, c * multiplier))
        self.layers.append(
            DepthwiseConv2D(f"depthwise{y}", x, y, values, quant, bias, multiplier, (1, 1), padding, "RELU")
        )
        return y

    def dense(self, x: int, channels: int) -> int:
        values, quant, bias = self.weights((channels, self.tensors[x].size), channels)
        y = self.add_tensor((1, channels))
        self.layers.append(FullyConnected(f"dense{y}", x, y, values, quant, bias, "NONE"))
        return y

    def pool(self, x: int, kind: type[AveragePool2D] | type[MaxPool2D], window: tuple[int, int]) -> int:
        _, h, w, c = self.tensors[x].shape
        out_hw = [output_size(size, step, step, "SAME") for size, step in zip((h, w), window, strict=True)]
        y = self.add_tensor((1, *out_hw, c), self.tensors[x].quant)
        self.layers.append(kind(f"pool{y}", x, y, window, window, "SAME", "NONE"))
        return y

    def add(self, a: int, b: int) -> int:
        y = self.add_tensor(self.tensors[a].shape)
        self.layers.append(Add(f"add{y}", a, b, y, "RELU"))
        return y

    def pad(self, x: int, pads: tuple[tuple[int, int], ...]) -> int:
        shape = tuple(n + before + after for n, (before, after) in zip(self.tensors[x].shape, pads, strict=True))
        y = self.add_tensor(shape, self.tensors[x].quant)
        self.layers.append(Pad(f"pad{y}", x, y, pads))
        return y

    def flatten(self, x: int) -> int:
        y = self.add_tensor((1, self.tensors[x].size), self.tensors[x].quant)
        self.layers.append(Reshape(f"flat{y}", x, y))
        return y

    def softmax(self, x: int) -> int:
        y = self.add_tensor(self.tensors[x].shape, QuantParams((1 / 256,), (-128,)))
        self.layers.append(Softmax(f"softmax{y}", x, y))
        return y

    def graph(self, output: int) -> Graph:
        return Graph(tuple(self.tensors), tuple(self.layers), 0, output)


def tinyconv_like(seed: int) -> Graph:
    """conv - reshape - dense - softmax; seed 0 has the sizes of the deployed network, others do not."""
    rng = np.random.default_rng([7, seed])
    frames, bins, channels, kernel, stride, labels = 49, 40, 8, (10, 8), (2, 2), 4
    if seed:
        frames, bins, channels, labels = (
            int(rng.integers(low, high)) for low, high in ((5, 60), (5, 50), (1, 17), (2, 13))
        )
        kernel, stride = (
            (int(rng.integers(1, 12)), int(rng.integers(1, 12))),
            (int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        )
    net = Net(rng, (1, frames, bins, 1))
    hidden = net.conv(0, channels, kernel, stride, "SAME", "RELU")
    if seed % 2 == 0:  # as training gives it: a RELU's output starts at zero
        net.tensors[hidden] = Tensor(
            "hidden", net.tensors[hidden].shape, QuantParams(net.tensors[hidden].quant.scales, (-128,))
        )
    return net.graph(net.softmax(net.dense(net.flatten(hidden), labels)))


def branched(seed: int) -> Graph:
    """Convolutions with residual additions of varying reach, pools, a pad, every operator at least once."""
    rng = np.random.default_rng([8, seed])
    net = Net(rng, (1, int(rng.integers(6, 20)), int(rng.integers(6, 20)), int(rng.integers(1, 5))))
    x = net.pad(0, ((0, 0), (1, 2), (0, 1), (0, 0)))
    x = net.conv(x, int(rng.integers(2, 10)), (3, 3), (1, 1), "VALID", "RELU6")
    kept = [x]
    for _ in range(int(rng.integers(2, 7))):
        match int(rng.integers(4)):
            case 0:
                x = net.depthwise(x, (3, int(rng.integers(1, 6))))
            case 1:
                x = net.conv(x, net.tensors[x].shape[3], (1, 1), (1, 1), "SAME", "NONE")
            case 2:
                x = net.conv(x, net.tensors[x].shape[3], (3, 2), (1, 1), "SAME", "RELU")
            case _:
                x = net.add(x, kept[int(rng.integers(len(kept)))])
        kept.append(x)
    x = net.pool(net.add(x, kept[0]), MaxPool2D, (2, 2))
    x = net.pool(net.depthwise(x, (2, 2), 2), AveragePool2D, (3, 2))
    return net.graph(net.softmax(net.dense(net.flatten(x), int(rng.integers(2, 9)))))


def with_low_bits(graph: Graph, bits: int = 4) -> Graph:
    """The same network with its weights cut to their upper bits."""

    def cut(values: Int8) -> Int8:
        return (values >> (8 - bits)).astype(np.int8)

    def few(layer: Operator) -> Operator:
        if isinstance(layer, Conv2D):
            return replace(layer, weights_ohwi=cut(layer.weights_ohwi))
        if isinstance(layer, DepthwiseConv2D):
            return replace(layer, weights_1hwc=cut(layer.weights_1hwc))
        if isinstance(
            layer, FullyConnected
        ):  # with one scale, as ours have: TFLM refuses int4 dense layers with several
            return replace(
                layer, weights_oi=cut(layer.weights_oi), weight_quant=QuantParams(layer.weight_quant.scales[:1], (0,))
            )
        return layer

    return replace(graph, layers=tuple(map(few, graph.layers)))
