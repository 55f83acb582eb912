"""The independent check: TensorFlow's own converter, given the same network with fake_quant nodes, makes the same int8 model."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest

from converter import reference
from converter.check import check
from converter.engines import Tflm, Unavailable
from converter.graph import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    Int8,
    Layer,
    MaxPool2D,
    QuantParams,
    Reshape,
    Softmax,
    Tensor,
)
from converter.tflite_reader import read_tflite
from converter.tflite_writer import write_tflite

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf: Any = pytest.importorskip("tensorflow", reason="tensorflow is not installed (extra `tf`)")

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
        self.layers: list[Layer] = []
        self.at = 0

    def _out(self, shape: tuple[int, ...], quant: QuantParams) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", shape, quant))
        return len(self.tensors) - 1

    def _spread(self, terms: int) -> float:
        """About three standard deviations of a sum of so many products, per unit of weight scale."""
        quant = self.tensors[self.at].quant
        return 3.0 * terms**0.5 * 73.0 * quant.scale * (148.0 if self.at == 0 else 40.0)

    def _relu_quant(self, reach: float) -> QuantParams:
        return QuantParams((_scale(self.rng, 0.9 * reach / 255, reach / 255),), (-128,))

    def _weights(self, shape: tuple[int, ...], channels: int, axis: int | None, middle: float = 0.005) -> tuple[Any, QuantParams, Any]:
        count = 1 if axis is None else channels
        scales = tuple(_scale(self.rng, 0.6 * middle, 1.4 * middle) for _ in range(count))
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        return values, QuantParams(scales, (0,) * count, axis), self.rng.integers(-4000, 4000, channels).astype(np.int32)

    def add_layer(self, layer: Layer) -> Net:
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
        logits = self._out((1, labels), QuantParams((_scale(self.rng, 0.05, 0.07),), (int(self.rng.integers(-20, 20)),)))
        self.add_layer(FullyConnected("logits", self.at, logits, *parts, "NONE"))
        self.add_layer(Softmax("scores", self.at, self._out((1, labels), SCORES)))
        return check(Graph(tuple(self.tensors), tuple(self.layers), 0, self.at))


def tinyconv() -> Graph:
    return Net((1, 49, 40, 1), 1).conv(8, (10, 8), 2).classify(4)


def dscnn() -> Graph:
    net = Net((1, 20, 10, 1), 2).conv(16, (10, 4), 2).depthwise().conv(16, (1, 1), 1).depthwise().conv(16, (1, 1), 1)
    return net.pool(AveragePool2D, (10, 5)).classify(12)


def residual() -> Graph:
    return Net((1, 16, 16, 3), 3).conv(8, (3, 3), 1).residual().pool(MaxPool2D, (2, 2)).residual().pool(AveragePool2D, (8, 8)).classify(10)


def _fake_quant(x: Any, quant: QuantParams) -> Any:
    low, high = ((edge - quant.zero_point) * quant.scale for edge in (-128, 127))
    return tf.quantization.fake_quant_with_min_max_args(x, low, high)


def _real_weights(values: Any, quant: QuantParams) -> Any:
    """Float weights behind TensorFlow's own fake_quant node, whose channels lie along the last axis."""
    limits = np.float32(127) * np.array(quant.scales, np.float32)
    if len(quant.scales) == 1:
        real = tf.constant(values.astype(np.float32) * np.float32(quant.scale))
        return tf.quantization.fake_quant_with_min_max_vars(real, -limits[0], limits[0], narrow_range=True)
    real = tf.constant(values.astype(np.float32) * np.array(quant.scales, np.float32))
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(real, -limits, limits, narrow_range=True)


def _float_layer(graph: Graph, layer: Layer, values: list[Any]) -> Any:
    """One layer in TensorFlow's floats, before the fake_quant of its output."""
    x, x_scale = values[layer.input], graph.tensors[layer.input].quant.scale
    if isinstance(layer, (Conv2D, DepthwiseConv2D, FullyConnected)):
        bias = layer.bias.astype(np.float32) * np.float32(x_scale) * np.array(layer.weight_quant.scales, np.float32)
        if isinstance(layer, Conv2D):
            y = tf.nn.conv2d(x, _real_weights(layer.weights_ohwi.transpose(1, 2, 3, 0), layer.weight_quant), layer.stride_hw, layer.padding)
        elif isinstance(layer, DepthwiseConv2D):
            y = tf.nn.depthwise_conv2d(x, _real_weights(layer.weights_1hwc[0][..., np.newaxis], layer.weight_quant),
                                       (1, *layer.stride_hw, 1), layer.padding)
        else:
            y = tf.matmul(tf.reshape(x, (1, -1)), _real_weights(layer.weights_oi.T, layer.weight_quant))
        y = tf.nn.bias_add(y, bias)
        return tf.nn.relu(y) if layer.activation == "RELU" else y
    if isinstance(layer, Add):
        return tf.nn.relu(x + values[layer.input2])
    if isinstance(layer, (AveragePool2D, MaxPool2D)):
        pool = tf.nn.avg_pool2d if isinstance(layer, AveragePool2D) else tf.nn.max_pool2d
        return pool(x, layer.window_hw, layer.stride_hw, layer.padding)
    assert isinstance(layer, Softmax)
    return tf.nn.softmax(x)


def by_tensorflow(graph: Graph) -> bytes:
    """TensorFlow's own .tflite of the same network."""

    def network(x: Any) -> Any:
        values: list[Any] = [_fake_quant(x, graph.tensors[0].quant)]
        for layer in graph.layers:
            y = _float_layer(graph, layer, values)
            values.append(y if isinstance(layer, Softmax) else _fake_quant(y, graph.tensors[layer.output].quant))
        return values[graph.output]

    signature = tf.function(network, input_signature=[tf.TensorSpec(graph.tensors[0].shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def _inputs(graph: Graph, count: int = 60) -> Int8:
    """Noise of many levels and depths, so that what the layers average differs from input to input."""
    rng = np.random.default_rng(5)
    shape = graph.tensors[0].shape[1:]
    levels, depths = rng.uniform(-120, 120, (count, 1, shape[1], 1)), rng.uniform(5, 100, (count, 1, 1, 1))
    x: Int8 = np.clip(levels + depths * rng.standard_normal((count, *shape)), -128, 127).astype(np.int8)
    return x


@pytest.mark.parametrize("make", [tinyconv, dscnn, residual])
def test_tensorflows_converter_makes_the_same_int8_model(make: Any) -> None:
    ours = make()
    data = by_tensorflow(ours)
    theirs = read_tflite(data)
    kept = [layer for layer in theirs.layers if not isinstance(layer, Reshape)]
    assert [type(layer) for layer in kept] == [type(layer) for layer in ours.layers]
    for mine, other in zip(ours.layers, kept, strict=True):
        assert ours.tensors[mine.output].quant == theirs.tensors[other.output].quant, mine.name
        if isinstance(mine, (Conv2D, DepthwiseConv2D, FullyConnected)):
            assert isinstance(other, (Conv2D, DepthwiseConv2D, FullyConnected))
            assert mine.weight_quant.scales == other.weight_quant.scales, mine.name
            assert np.array_equal(mine.bias, other.bias), mine.name
    assert ours.tensors[0].quant == theirs.tensors[0].quant
    x = _inputs(ours)
    mine_all, theirs_all = reference.run_batch_all(ours, x), reference.run_batch_all(theirs, x)
    for mine, other in zip(ours.layers, kept, strict=True):
        assert np.array_equal(mine_all[mine.output], theirs_all[other.output]), mine.name
    scores = mine_all[ours.output]
    assert len(np.unique(scores)) > 20, "the network must not saturate"
    try:
        engine = Tflm(theirs, data, keep_all=False)
    except Unavailable:
        return
    assert all(np.array_equal(engine.output(x[row])[0], scores[row]) for row in range(20))


@pytest.mark.parametrize("make", [tinyconv, residual])
def test_tensorflows_interpreter_loads_what_we_write(make: Any) -> None:
    graph = make()
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_REF
    engine = tf.lite.Interpreter(model_content=write_tflite(graph), experimental_op_resolver_type=resolver)
    engine.allocate_tensors()
    source, result = engine.get_input_details()[0], engine.get_output_details()[0]
    assert source["quantization"] == (graph.tensors[0].quant.scale, graph.tensors[0].quant.zero_point)
    worst = 0
    for row in _inputs(graph, 5):
        engine.set_tensor(source["index"], row[np.newaxis])
        engine.invoke()
        theirs = engine.get_tensor(result["index"]).astype(int)
        worst = max(worst, int(np.abs(theirs - reference.run(graph, row)[graph.output]).max()))
    assert worst <= 1, "TensorFlow's current kernels round otherwise than TensorFlow Lite Micro, by one step here at most"
