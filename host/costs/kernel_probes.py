"""Networks that show what the engine's kernels take: drawn layer by layer, always the same, so that each kernel is seen
in many shapes. Weights are noise, on which no cycle depends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from converter.arrays import Int8, Int32
from converter.check import check
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.concatenation import Concatenation
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.mean import Mean
from converter.operators.mul import Mul
from converter.operators.pad import Pad
from converter.operators.relu import Relu
from converter.operators.reshape import Reshape
from converter.operators.softmax import Softmax
from converter.operators.transpose import Transpose
from converter.operators.windows import HW, Padding, output_size
from converter.quant import Activation
from converter.tensor import Constant, QuantParams, Tensor

MIXED_PROBES, CLAMPED_PROBES, KEYWORD_PROBES, RARE_PROBES, LAYERS = 42, 12, 10, 4, 14
PROBES = MIXED_PROBES + CLAMPED_PROBES + KEYWORD_PROBES + RARE_PROBES
MOST_MACS, MOST_BYTES, MOST_WEIGHTS = 4_000_000, 40_000, 60_000  # of a layer, of a tensor, of a layer's weights
SHAPES = ((49, 40, 1), (49, 40, 1), (49, 10, 1), (32, 32, 3), (48, 48, 3), (64, 1, 40), (24, 24, 8), (12, 10, 24))
USUAL = float(np.float32(0.1))
SCORES = QuantParams((1 / 256,), (-128,))


@dataclass
class _Probe:
    """A network that grows."""

    rng: np.random.Generator
    clamped: bool = False  # whether outputs are clipped inside of int8
    tensors: list[Tensor] = field(default_factory=list)
    layers: list[Operator] = field(default_factory=list)

    @property
    def last(self) -> Tensor:
        return self.tensors[-1]

    def pick(self, *choices: int) -> int:
        return int(choices[self.rng.integers(len(choices))])

    def new(self, shape: tuple[int, ...], quant: QuantParams | None = None) -> tuple[str, int, int]:
        """(name, input, output) of a layer behind the last one."""
        name = f"layer{len(self.layers)}"
        clipped = QuantParams(
            (float(np.float32(self.rng.uniform(0.05, 0.2))),), (-7 if self.clamped else self.pick(-128, -128, -7),)
        )
        self.tensors.append(Tensor(name, shape, quant or clipped))
        return name, len(self.tensors) - 2, len(self.tensors) - 1

    def noise(self, shape: tuple[int, ...], outputs: int, axis: int | None) -> tuple[Int8, QuantParams, Int32]:
        count = outputs if axis is not None else 1
        scales = tuple(float(np.float32(scale)) for scale in self.rng.uniform(0.004, 0.008, count))
        bias = self.rng.integers(-2000, 2000, outputs).astype(np.int32)
        return self.rng.integers(-127, 128, shape).astype(np.int8), QuantParams(scales, (0,) * count, axis), bias

    def activation(self) -> Activation:
        return "RELU" if self.clamped or self.last.quant.zero_point == -128 else "NONE"


def probes() -> list[Graph]:
    """The networks: of about LAYERS layers each, keyword networks with low-bit ends, and what else there is."""
    kinds = (
        (mixed_probe, MIXED_PROBES),
        (clamped_probe, CLAMPED_PROBES),
        (keyword_probe, KEYWORD_PROBES),
        (rare_probe, RARE_PROBES),
    )
    return [make(number) for make, count in kinds for number in range(count)]


def mixed_probe(number: int) -> Graph:
    """Layers in any order."""
    return _mixed(_Probe(np.random.default_rng([20261201, number])), number)


def clamped_probe(number: int) -> Graph:
    """The same whose outputs are clipped inside of int8, which some kernels of assembly do not."""
    return _mixed(_Probe(np.random.default_rng([20261204, number]), clamped=True), number)


def _mixed(probe: _Probe, number: int) -> Graph:
    shape = (1, *SHAPES[number % len(SHAPES)])
    probe.tensors.append(Tensor("features", shape, QuantParams((USUAL,), (-128,))))
    kinds = [*_MAKERS]
    rng = probe.rng
    while len(probe.layers) < LAYERS:
        _, height, width, channels = probe.last.shape
        if height * width <= 4 or channels > 160:
            break
        kind = kinds[int(rng.integers(len(kinds)))]
        kind(probe, height, width, channels)
    if probe.last.size <= MOST_WEIGHTS // 4:
        probe.layers.append(Reshape(*probe.new((1, probe.last.size), probe.last.quant)))
        _dense(probe, min(probe.pick(2, 3, 4, 10, 12, 32, 64, 100), MOST_WEIGHTS // probe.last.size))
        if number % 2:
            _dense(probe, probe.pick(2, 4, 5, 12))
    probe.layers.append(Softmax(*probe.new(probe.last.shape, SCORES), 1.0))
    return check(Graph(tuple(probe.tensors), tuple(probe.layers), 0, len(probe.tensors) - 1))


def keyword_probe(number: int) -> Graph:
    """Convolutions at one pair of values a step, whose weights are as small as trained ones, and dense layers of few
    bits."""
    probe = _Probe(np.random.default_rng([20261202, number]))
    height, width = ((49, 40), (49, 10), (30, 20), (25, 13), (40, 31))[number % 5]
    probe.tensors.append(Tensor("features", (1, height, width, 1), QuantParams((USUAL,), (-128,))))
    for channels in (1, 2, 2):
        _, height, width, _ = probe.last.shape
        kernel = (probe.pick(3, 4, 5, 8, 10), probe.pick(3, 4, 5, 8, 10))
        outputs = probe.pick(4, 8, 12) if channels == 2 and len(probe.layers) == 2 else 2
        size = _sizes((height, width), kernel, stride := (probe.pick(1, 1, 2), 2 // channels), "SAME")
        name, noise = probe.new((1, *size, outputs)), probe.noise((outputs, *kernel, channels), outputs, 0)
        small = probe.rng.normal(0, 30, noise[0].shape).clip(-127, 127).astype(np.int8)
        probe.layers.append(Conv2D(*name, small, *noise[1:], stride, "SAME", probe.activation()))
    _pool(probe, *probe.last.shape[1:])
    probe.layers.append(Reshape(*probe.new((1, probe.last.size), probe.last.quant)))
    for low, share in ((7, 1.0), (1, 1.0), (127, 0.1), (7, 1.0), (40, 0.15)):
        inputs = probe.last.size
        outputs = min(probe.pick(6, 16, 48, 64), MOST_WEIGHTS // inputs)
        name, noise = probe.new((1, outputs)), probe.noise((outputs, inputs), outputs, None)
        few = noise[0] // 18 if low == 7 else noise[0].clip(-low, low)
        few = np.where(probe.rng.random(few.shape) < share, few, 0).astype(np.int8)
        probe.layers.append(FullyConnected(*name, few, *noise[1:], probe.activation()))
    return check(Graph(tuple(probe.tensors), tuple(probe.layers), 0, len(probe.tensors) - 1))


def rare_probe(number: int) -> Graph:
    """Kernels for what the fast ones do not take: wide windows, operands that repeat, large patches, weights of
    -128."""
    probe = _Probe(np.random.default_rng([20261203, number]))
    height, width, channels = 18 + 2 * number, 17 + number, 28 + 3 * number
    probe.tensors.append(Tensor("features", (1, height, width, channels), QuantParams((USUAL,), (-128,))))
    window = (height, width)
    name, _, mean = probe.new((1, 1, 1, channels), probe.last.quant)
    probe.layers.append(AveragePool2D(name, 0, mean, window, window, "VALID", "NONE"))
    name, _, repeated = probe.new((1, height, width, channels), QuantParams((USUAL,), (-7,)))
    probe.layers.append(Add(name, 0, mean, repeated, "NONE"))
    outputs, size = 2 + 2 * number, _sizes(window, (10, 10), (4, 4), "VALID")
    name, _, large = probe.new((1, *size, outputs), QuantParams((USUAL,), (-7,)))
    noise = probe.noise((outputs, 10, 10, channels), outputs, 0)
    probe.layers.append(Conv2D(name, repeated, large, *noise, (4, 4), "VALID", "NONE"))
    probe.layers.append(Reshape(*probe.new((1, probe.last.size), probe.last.quant)))
    inputs, outputs = probe.last.size, 5 + 20 * number
    weights, quant, bias = probe.noise((outputs, inputs), outputs, None)
    weights[0, 0] = -128
    probe.layers.append(FullyConnected(*probe.new((1, outputs)), weights, quant, bias, "NONE"))
    return check(Graph(tuple(probe.tensors), tuple(probe.layers), 0, len(probe.tensors) - 1))


def _dense(probe: _Probe, outputs: int) -> None:
    inputs = probe.last.size
    name = probe.new((1, outputs))
    probe.layers.append(FullyConnected(*name, *probe.noise((outputs, inputs), outputs, None), probe.activation()))


def _padding(probe: _Probe, size: HW, kernel: HW) -> Padding:
    fits = size[0] >= kernel[0] and size[1] >= kernel[1]
    return "VALID" if fits and probe.rng.random() < 0.4 else "SAME"


def _sizes(size: HW, kernel: HW, stride: HW, padding: Padding) -> HW:
    return output_size(size[0], kernel[0], stride[0], padding), output_size(size[1], kernel[1], stride[1], padding)


def _conv_of(probe: _Probe, size: HW, channels: int, kernel: HW, stride: HW, outputs: int) -> None:
    padding = _padding(probe, size, kernel)
    height, width = _sizes(size, kernel, stride, padding)
    weights = outputs * kernel[0] * kernel[1] * channels
    if weights * height * width > MOST_MACS or weights > MOST_WEIGHTS or height * width * outputs > MOST_BYTES:
        return
    name = probe.new((1, height, width, outputs))
    noise = probe.noise((outputs, *kernel, channels), outputs, 0)
    probe.layers.append(Conv2D(*name, *noise, stride, padding, probe.activation()))


def _conv(probe: _Probe, height: int, width: int, channels: int) -> None:
    step = 2 // channels if channels <= 2 and probe.rng.random() < 0.7 else probe.pick(1, 1, 2)
    kernel = (probe.pick(1, 3, 3, 4, 5, 8, 10), 1 if width == 1 else min(width, probe.pick(1, 3, 3, 4, 5, 8, 10)))
    stride = (probe.pick(1, 1, 2, 2), 1 if width == 1 else step)
    _conv_of(probe, (height, width), channels, kernel, stride, probe.pick(4, 8, 12, 16, 16, 24, 32, 64, 7))


def _conv3(probe: _Probe, height: int, width: int, channels: int) -> None:
    stride = probe.pick(1, 1, 2)
    _conv_of(probe, (height, width), channels, (3, 3), (stride, stride), probe.pick(8, 12, 16, 24, 32, 64))


def _pointwise(probe: _Probe, height: int, width: int, channels: int) -> None:
    stride = probe.pick(1, 1, 1, 2)
    outputs = probe.pick(4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 88, 96, 128, 9)
    _conv_of(probe, (height, width), channels, (1, 1), (stride, 1 if width == 1 else stride), outputs)


def _depthwise(probe: _Probe, height: int, width: int, channels: int) -> None:
    kernel = (3, 3) if probe.rng.random() < 0.5 else (probe.pick(2, 3, 5, 7), probe.pick(1, 2, 3, 5))
    if width == 1:
        kernel = (probe.pick(3, 5, 7, 9, 13), 1)
    stride = (probe.pick(1, 1, 2), 1 if width == 1 or kernel[1] == 1 else probe.pick(1, 1, 2))
    times = 2 if probe.rng.random() < 0.1 and channels < 64 else 1
    padding = _padding(probe, (height, width), kernel)
    sizes = _sizes((height, width), kernel, stride, padding)
    outputs = channels * times
    if sizes[0] * sizes[1] * outputs > MOST_BYTES:
        return
    name = probe.new((1, *sizes, outputs))
    noise = probe.noise((1, *kernel, outputs), outputs, 3)
    probe.layers.append(DepthwiseConv2D(*name, *noise, times, stride, padding, probe.activation()))


def _pool(probe: _Probe, height: int, width: int, channels: int) -> None:
    window = (probe.pick(2, 2, 3), min(width, probe.pick(2, 2, 3)))
    stride = (probe.pick(1, 2, 2), min(width, 2))
    padding = _padding(probe, (height, width), window)
    sizes, made = _sizes((height, width), window, stride, padding), (AveragePool2D, MaxPool2D)[probe.pick(0, 1)]
    probe.layers.append(made(*probe.new((1, *sizes, channels), probe.last.quant), window, stride, padding, "NONE"))


def _sum(probe: _Probe, height: int, width: int, channels: int) -> None:
    made, other = (Add, Mul)[probe.pick(0, 0, 1)], len(probe.tensors) - 1
    name, first, output = probe.new(probe.last.shape)
    alike = [number for number, tensor in enumerate(probe.tensors[:-1]) if tensor.shape == probe.last.shape]
    second: int | Constant = alike[probe.pick(0, -1)] if alike else other
    if probe.rng.random() < 0.3:
        values = probe.rng.integers(-128, 128, (channels,)).astype(np.int8)
        second = Constant(values, QuantParams((float(np.float32(0.02)),), (0,)))
    probe.layers.append(made(name, first, second, output, probe.activation()))


def _pad(probe: _Probe, height: int, width: int, channels: int) -> None:
    pads = ((0, 0), (probe.pick(0, 1, 2), probe.pick(1, 2)), (0, 0) if width == 1 else (1, probe.pick(0, 1)), (0, 0))
    shape = tuple(size + sum(pad) for size, pad in zip(probe.last.shape, pads, strict=True))
    probe.layers.append(Pad(*probe.new(shape, probe.last.quant), pads))


def _moved(probe: _Probe, height: int, width: int, channels: int) -> None:
    if probe.rng.random() < 0.5:
        perm = (0, 2, 1, 3)
        shape = tuple(probe.last.shape[axis] for axis in perm)
        probe.layers.append(Transpose(*probe.new(shape, probe.last.quant), perm))
        return
    name, first, output = probe.new((1, height, width, 2 * channels), probe.last.quant)
    probe.layers.append(Concatenation(name, first, (first,), output, 3))


def _table(probe: _Probe, height: int, width: int, channels: int) -> None:
    probe.layers.append(Relu(*probe.new(probe.last.shape)))


def _mean(probe: _Probe, height: int, width: int, channels: int) -> None:
    if probe.rng.random() < 0.5 and height > 4:
        probe.layers.append(Mean(*probe.new((1, 1, width, channels)), (1,)))


_Maker = Callable[[_Probe, int, int, int], None]
_MAKERS: tuple[_Maker, ...] = (
    *(_conv,) * 3,
    *(_conv3,) * 4,
    *(_pointwise,) * 5,
    *(_depthwise,) * 5,
    *(_pool,) * 2,
    *(_sum,) * 3,
    _pad,
    _moved,
    _table,
    _mean,
)
