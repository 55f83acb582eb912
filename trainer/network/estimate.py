"""What an untrained network of one's own will take on the board: its layers as the Graph that export and converter make
of them, with weights of noise and usual ranges, on which cycles and bytes hardly depend."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from converter.aot import estimate as board
from converter.aot.estimate import Estimate
from converter.arrays import Int8, Int32
from converter.check import check
from converter.errors import ConvertError
from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.pad import Pad
from converter.operators.relu import Relu
from converter.operators.relu6 import Relu6
from converter.operators.reshape import Reshape
from converter.operators.windows import Padding, pads_along
from converter.quant import Activation
from converter.spec import DetectorSpec, FeatureSpec, KwsSpec
from converter.tensor import QuantParams, Tensor
from trainer.errors import TrainerError
from trainer.network.layers import Layer
from trainer.network.trace import trace

ACTIVATIONS: dict[str, Activation] = {"": "NONE", "relu": "RELU", "relu6": "RELU6"}
USUAL_SCALE, RELU6_SCALE = float(np.float32(0.1)), float(np.float32(6 / 255))
NOISE = 36.0  # of weights whose largest is 127, about as trained ones


def estimate(module: nn.Module, features: FeatureSpec | None = None) -> Estimate:
    """Expected cycles, flash and RAM of a module that makes features [n, 1, frames, channels] into logits; print it.

    The figures are those of `converter inspect` after training, within 15 % (docs/estimates.md). Raises TrainerError
    for what is no such network, as `train --network` does.
    """
    spec = features or FeatureSpec()
    shape = (1, spec.frames, spec.channels)
    file = Path(type(module).forward.__code__.co_filename)
    trained = module.training
    try:
        with torch.no_grad():
            logits = module.eval()(torch.zeros(2, *shape))
        labels = int(logits.shape[-1])
    except Exception:  # trace() tells where
        labels = 0
    try:
        traced = trace(module, shape, labels, file)
    finally:
        module.train(trained)
    words = [f"word{number}" for number in range(max(1, labels - 2))]
    return estimate_layers(traced.layers, replace(KwsSpec.of_words(words), features=spec) if labels > 2 else None, spec)


def estimate_layers(layers: tuple[Layer, ...], spec: KwsSpec | None, features: FeatureSpec) -> Estimate:
    """The same of layers that were read; without a spec as a model that does not listen. Raises TrainerError."""
    try:
        graph = check(untrained_graph(layers, features, spec.to_json() if spec else ""))
        return board.estimate(graph, DetectorSpec.hop_frames if spec else None)
    except ConvertError as error:
        raise TrainerError(f"the network's layers do not go onto the board: {error}") from None


@dataclass
class _Growing:
    """A graph that grows by layers."""

    tensors: list[Tensor]
    layers: list[Operator] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def new(self, name: str, shape: tuple[int, ...], quant: QuantParams) -> int:
        self.tensors.append(Tensor(name, shape, quant))
        return len(self.tensors) - 1

    def moved(self, name: str, of: int, shape: tuple[int, ...]) -> int:
        """A view of tensor `of`."""
        if self.tensors[of].shape == shape:
            return of
        made = self.new(name, shape, self.tensors[of].quant)
        self.layers.append(Reshape(name, of, made))
        return made

    def weights(self, shape: tuple[int, ...], outputs: int, axis: int | None) -> tuple[Int8, QuantParams, Int32]:
        count = outputs if axis is not None else 1
        scales = tuple(float(np.float32(scale)) for scale in self.rng.uniform(0.004, 0.008, count))
        values = self.rng.normal(0, NOISE, shape).clip(-127, 127).astype(np.int8)
        return values, QuantParams(scales, (0,) * count, axis), np.zeros(outputs, np.int32)


def untrained_graph(layers: tuple[Layer, ...], features: FeatureSpec, spec_json: str = "") -> Graph:
    """The Graph of layers that trainer/network/trace.py has read."""
    quant = QuantParams((features.scale,), (features.zero_point,))
    growing = _Growing([Tensor("features", (1, features.frames, features.channels, 1), quant)])
    outputs = {"features": 0}
    for layer in layers:
        outputs[layer.name] = _add(growing, layer, [outputs[name] for name in layer.inputs])
    return Graph(tuple(growing.tensors), tuple(growing.layers), 0, outputs[layers[-1].name], spec_json)


def _add(growing: _Growing, layer: Layer, inputs: list[int]) -> int:
    """Puts the layer's operators in place; the tensor that holds what it gives."""
    x = growing.tensors[inputs[0]]
    match layer.kind:
        case "dropout" | "dropout_maps":
            return inputs[0]
        case "turn":
            return growing.moved(layer.name, inputs[0], (1, x.shape[1], x.shape[3], x.shape[2]))
        case "conv":
            return _conv(growing, layer, inputs[0])
        case "dense":
            flat = growing.moved(f"{layer.name}_flat", inputs[0], (1, x.size))
            made = growing.new(layer.name, (1, layer.channels[1]), _quant(layer))
            weights = growing.weights((layer.channels[1], x.size), layer.channels[1], None)
            growing.layers.append(FullyConnected(layer.name, flat, made, *weights, ACTIVATIONS[layer.activation]))
            return made
        case "add":
            made = growing.new(layer.name, x.shape, _quant(layer))
            growing.layers.append(Add(layer.name, inputs[0], inputs[1], made, ACTIVATIONS[layer.activation]))
            return made
        case "activation":
            made = growing.new(layer.name, x.shape, _quant(layer))
            table = Relu6 if layer.activation == "relu6" else Relu
            growing.layers.append(table(layer.name, inputs[0], made))
            return made
        case "mean":
            made = growing.new(layer.name, (1, 1, 1, x.shape[3]), x.quant)
            window = (x.shape[1], x.shape[2])
            growing.layers.append(AveragePool2D(layer.name, inputs[0], made, window, window, "VALID", "NONE"))
            return made
        case _:
            source, padding, size = _padded(growing, layer, inputs[0])
            made = growing.new(layer.name, (1, *size, x.shape[3]), x.quant)
            pool = MaxPool2D if layer.kind == "max" else AveragePool2D
            settings = (layer.kernel_hw, layer.stride_hw, padding)
            growing.layers.append(pool(layer.name, source, made, *settings, "NONE"))
            return made


def _quant(layer: Layer) -> QuantParams:
    """From zero on where an activation clips, else on both sides of it."""
    scale = RELU6_SCALE if layer.activation == "relu6" else USUAL_SCALE
    return QuantParams((scale,), (-128 if layer.activation else -5,))


def _conv(growing: _Growing, layer: Layer, at: int) -> int:
    source, padding, size = _padded(growing, layer, at)
    channels, outputs = layer.channels
    made = growing.new(layer.name, (1, *size, outputs), _quant(layer))
    place, end = (layer.name, source, made), (layer.stride_hw, padding, ACTIVATIONS[layer.activation])
    if layer.groups > 1:
        weights = growing.weights((1, *layer.kernel_hw, outputs), outputs, 3)
        growing.layers.append(DepthwiseConv2D(*place, *weights, outputs // channels, *end))
    else:
        weights = growing.weights((outputs, *layer.kernel_hw, channels), outputs, 0)
        growing.layers.append(Conv2D(*place, *weights, *end))
    return made


def _padded(growing: _Growing, layer: Layer, at: int) -> tuple[int, Padding, tuple[int, int]]:
    """(what a window moves over, how it is padded, the output's size): pads other than TensorFlow Lite's are a layer of
    their own."""
    x, (top, bottom, left, right) = growing.tensors[at], layer.pads_tblr
    pads, rows, columns = ((top, bottom), (left, right)), x.shape[1] + top + bottom, x.shape[2] + left + right
    size = (
        (rows - layer.kernel_hw[0]) // layer.stride_hw[0] + 1,
        (columns - layer.kernel_hw[1]) // layer.stride_hw[1] + 1,
    )
    if not any(layer.pads_tblr):
        return at, "VALID", size
    windows = zip(x.shape[1:3], layer.kernel_hw, layer.stride_hw, strict=True)
    same = tuple(pads_along(extent, kernel, stride, "SAME") for extent, kernel, stride in windows)
    if pads == same and layer.kind != "average":
        return at, "SAME", size
    made = growing.new(f"{layer.name}_pad", (1, rows, columns, x.shape[3]), x.quant)
    growing.layers.append(Pad(f"{layer.name}_pad", at, made, ((0, 0), *pads, (0, 0))))
    return made, "VALID", size
