"""Checkpoint to ONNX with QuantizeLinear/DequantizeLinear nodes, through torch's dynamo exporter, and the test vectors.

The trained scales are written as they are; nothing is calibrated again. Value names: the int8 output of a layer is
`NAME_q`, NAME being the block's name (conv, ..., logits) and `scores` for the softmax of an image CNN; the graph input
is `features`.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from converter.arrays import Int8, Int16, Int64
from converter.spec import KwsSpec
from trainer.network.fake_quant import SCORE_SCALE, SCORE_ZERO_POINT, QuantNetwork
from trainer.network.layers import Add, Turn, Window
from trainer.network.model import FEATURES, AveragePool, Conv, Dense, MaxPool, Unquantized

OPSET = 18


def _op(name: str, inputs: tuple[Tensor, ...], dtype: torch.dtype, shape: Any, **attrs: Any) -> Tensor:
    result: Tensor = torch.onnx.ops.symbolic(name, inputs, attrs, dtype=dtype, shape=shape, version=OPSET)
    return result


class ExportNetwork(nn.Module):
    """The frozen integers of a QuantNetwork as buffers; its forward is the graph to export and computes nothing."""

    def __init__(self, source: QuantNetwork) -> None:
        super().__init__()
        self.blocks, self.ends_in_scores = source.network.blocks, source.network.ends_in_scores
        self.inputs = source.network.inputs
        self._quant(FEATURES, *source.output_quant(FEATURES))
        for name, block in source.network.blocks.items():
            if isinstance(block, (Conv, Dense)):
                constants = source.constants(name, source.output_quant(self.inputs[name][0])[0])
                self.register_buffer(f"{name}_weight", constants.weight)
                self.register_buffer(f"{name}_weight_scale", constants.weight_scale)
                self.register_buffer(f"{name}_weight_zero", torch.zeros(len(constants.weight_scale), dtype=torch.int8))
                self.register_buffer(f"{name}_bias", constants.bias)
                self.register_buffer(f"{name}_bias_scale", constants.bias_scale)
                self.register_buffer(f"{name}_bias_zero", torch.zeros(len(constants.bias_scale), dtype=torch.int32))
            self._quant(name, *source.output_quant(name))
            if getattr(block, "activation", "") == "relu6":
                self.register_buffer("clip_low", torch.zeros(()))
                self.register_buffer("clip_high", torch.full((), 6.0))
        self.register_buffer("flat_shape", torch.tensor([1, -1]))
        self._quant("scores", torch.tensor(SCORE_SCALE), torch.tensor(float(SCORE_ZERO_POINT)))

    def _quant(self, name: str, scale: Tensor, zero_point: Tensor) -> None:
        self.register_buffer(f"{name}_scale", scale.detach().float().clone())
        self.register_buffer(f"{name}_zero_point", zero_point.detach().to(torch.int8).clone())

    def _through_int8(self, x: Tensor, name: str) -> Tensor:
        params = (self.get_buffer(f"{name}_scale"), self.get_buffer(f"{name}_zero_point"))
        q = _op("QuantizeLinear", (x, *params), torch.int8, x.shape)
        return _op("DequantizeLinear", (q, *params), torch.float32, x.shape)

    def _constant(self, name: str, kind: str) -> Tensor:
        value = self.get_buffer(f"{name}_{kind}")
        params = (self.get_buffer(f"{name}_{kind}_scale"), self.get_buffer(f"{name}_{kind}_zero"))
        return _op("DequantizeLinear", (value, *params), torch.float32, value.shape, axis=0)

    def _conv(self, name: str, block: Conv, x: Tensor) -> Tensor:
        top, bottom, left, right = block.pads_tblr
        kernel, stride = block.conv.kernel_size, block.stride_hw
        height = (x.shape[2] + top + bottom - kernel[0]) // stride[0] + 1
        width = (x.shape[3] + left + right - kernel[1]) // stride[1] + 1
        return _op(
            "Conv",
            (x, self._constant(name, "weight"), self._constant(name, "bias")),
            torch.float32,
            (x.shape[0], block.conv.out_channels, height, width),
            pads=[top, left, bottom, right],
            strides=list(stride),
            group=block.conv.groups,
            kernel_shape=list(kernel),
        )

    def _window(self, block: Window, x: Tensor) -> Tensor:
        top, bottom, left, right = block.pads_tblr
        settings = {"kernel_shape": list(block.kernel_hw), "strides": list(block.stride_hw)}
        settings["pads"] = [top, left, bottom, right]
        if block.largest:
            return _op("MaxPool", (x,), torch.float32, block(x).shape, **settings)
        return _op("AveragePool", (x,), torch.float32, block(x).shape, **settings, count_include_pad=1)

    def _activated(self, x: Tensor, activation: str) -> Tensor:
        if activation == "relu6":
            return _op("Clip", (x, self.get_buffer("clip_low"), self.get_buffer("clip_high")), torch.float32, x.shape)
        return F.relu(x) if activation else x

    def _flat(self, x: Tensor) -> Tensor:
        if x.dim() == 2:
            return x
        return _op("Reshape", (x.permute(0, 2, 3, 1), self.get_buffer("flat_shape")), torch.float32, (1, x[0].numel()))

    def forward(self, features: Tensor) -> Tensor:
        """Logits or scores, every activation through its Q/DQ pair."""
        x = self._through_int8(features, FEATURES)
        values = {FEATURES: x}
        for name, block in self.blocks.items():
            inputs = [values[before] for before in self.inputs[name]]
            x = inputs[0]
            if isinstance(block, Conv):
                x = self._conv(name, block, x)
            elif isinstance(block, AveragePool):
                x = _op("GlobalAveragePool", (x,), torch.float32, (x.shape[0], x.shape[1], 1, 1))
            elif isinstance(block, MaxPool):
                halved = (x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2)
                x = _op("MaxPool", (x,), torch.float32, halved, kernel_shape=[2, 2], strides=[2, 2])
            elif isinstance(block, Window):
                x = self._window(block, x)
            elif isinstance(block, Dense):
                x = F.linear(self._flat(x), self._constant(name, "weight"), self._constant(name, "bias"))
            elif isinstance(block, Add):
                x = x + inputs[1]
            elif isinstance(block, Turn):
                x = block(x)
            if not isinstance(block, Unquantized):
                x = self._through_int8(self._activated(x, getattr(block, "activation", "")), name)
            values[name] = x
        return self._through_int8(F.softmax(x, dim=1), "scores") if self.ends_in_scores else x


def to_onnx(source: QuantNetwork, spec: KwsSpec | None) -> bytes:
    """The serialized ONNX model, any width in int8 tensors: input `features` [1, 1, frames, channels], output `logits`
    [1, labels].

    Without a spec, that of an image CNN: the input has its planes, the output is `scores`.
    """
    module = ExportNetwork(source).eval()
    shape = source.network.architecture
    example = torch.zeros(1, shape.planes, shape.frames, shape.channels)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not there
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
            input_names=["features"],
            output_names=["scores" if module.ends_in_scores else "logits"],
        )
    assert program is not None
    model = program.model_proto
    _name_values(model.graph)
    _plain(model)
    for key, value in (("kws_spec", spec.to_json()), ("spec_id", spec.spec_id)) if spec else ():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _name_values(graph: onnx.GraphProto) -> None:
    """Name nodes BLOCK/Op (Q/DQ nodes as their value) and values after their block; the int8 output of a block becomes
    BLOCK_q.

    A block ends with the QuantizeLinear whose scale is the initialiser BLOCK_scale.
    """
    renamed = {info.name: info.name for info in graph.output}
    waiting: list[onnx.NodeProto] = []
    for node in graph.node:
        waiting.append(node)
        if node.op_type == "QuantizeLinear":
            block = node.input[1].removesuffix("_scale")
            for item in waiting:
                renamed.setdefault(item.output[0], _value_name(block, item))
                linear = item.op_type.endswith("Linear")
                item.name = renamed[item.output[0]] if linear else f"{block}/{item.op_type}"
            waiting = []
    for node in waiting:
        node.name = node.output[0]
    for node in graph.node:
        for values in (node.input, node.output):
            for index, value in enumerate(values):
                values[index] = renamed.get(value, value)
    for info in graph.value_info:
        info.name = renamed.get(info.name, info.name)


def _value_name(block: str, node: onnx.NodeProto) -> str:
    if node.op_type == "QuantizeLinear":
        return f"{block}_q"
    if node.op_type == "DequantizeLinear":
        return str(node.input[1]).removesuffix("_scale") + "_real"
    return f"{block}_{node.op_type.lower()}" if node.op_type != "Constant" else f"{block}_{node.output[0]}"


def _plain(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about the machine and its source lines: the file must be the same everywhere."""
    model.producer_name, model.producer_version, model.doc_string = "nano33-kws", "", ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for item in (
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        del item.metadata_props[:]
        item.doc_string = ""


def vectors(source: QuantNetwork, pcm: Int16, features: Int8, labels: Int64) -> dict[str, NDArray[Any]]:
    """What RUN/vectors.npz holds: the inputs, logits, and `layer:NAME_q` int8 (NHWC) for every layer."""
    source = source.eval()
    with torch.no_grad():
        outputs = source.integer_layers(dequantised(features, source))
        logits = source(dequantised(features, source))
    layers = {f"layer:{name}_q": value.numpy() for name, value in outputs.items()}
    return {"pcm": pcm, "features": features, "labels": labels, "logits": logits.numpy(), **layers}


def dequantised(features: Int8, source: QuantNetwork) -> Tensor:
    """int8 [n, frames, channels] as the real NCHW tensor a network takes."""
    real = torch.from_numpy(np.ascontiguousarray(features)).float() - float(source.features.zero_point)
    return (real * source.input_scale).unsqueeze(1)


def npz_bytes(arrays: dict[str, NDArray[Any]]) -> bytes:
    """What a compressed .npz holds."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
