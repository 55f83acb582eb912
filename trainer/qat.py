"""Quantization-aware training: fake quantization with a straight-through estimator, laid out as the int8 pipeline runs.

Weights: symmetric, one scale per output channel, one in all for a dense layer. Activations: asymmetric, one scale per tensor,
ranges by moving average, zero always exact. Biases: int32 at input scale * weight scale. The input's scale and zero point come
from FeatureSpec.
Source: TensorFlow Lite 8-bit quantization specification; Jacob et al. 2018 (arXiv 1712.05877).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.errors import TrainerError
from trainer.model import AveragePool, Conv, Dense, Network, flatten_nhwc
from trainer.spec import FeatureSpec

SCORE_SCALE, SCORE_ZERO_POINT = 1 / 256, -128
MIN_SCALE = 1e-8


def round_through(x: Tensor) -> Tensor:
    """round(x) whose gradient is 1."""
    return x + (torch.round(x) - x).detach()


def fake_quant(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """x on the grid (q - zero_point) * scale, q in low..high; the gradient is 1 inside the range and 0 outside."""
    q = torch.clamp(round_through(x / scale) + zero_point, low, high)
    return (q - zero_point) * scale


def integers(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """The integers of a real tensor: clamp(round(x / scale) + zero_point)."""
    return torch.clamp(torch.round(x / scale) + zero_point, low, high)


class ActivationRange(nn.Module):
    """The observed range of one tensor and the scale and zero point that follow; `frozen` stops the averaging."""

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, bits: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.bits, self.momentum, self.frozen = bits, momentum, False
        self.q_low, self.q_high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        for name in ("low", "high", "seen"):
            self.register_buffer(name, torch.zeros(()))

    def observe(self, x: Tensor) -> None:
        with torch.no_grad():
            low, high = x.min().clamp(max=0.0), x.max().clamp(min=0.0)
            rate = max(self.momentum, 1.0 / (1.0 + float(self.seen)))
            self.low += (low - self.low) * rate
            self.high += (high - self.high) * rate
            self.seen += 1

    def parameters_of(self) -> tuple[Tensor, Tensor]:
        """(scale, zero point), the scale a float32 value; zero is a grid point."""
        low, high = self.low.float(), self.high.float()
        scale = ((high - low) / (self.q_high - self.q_low)).clamp(min=MIN_SCALE)
        zero_point = torch.clamp(torch.round(self.q_low - low / scale), self.q_low, self.q_high)
        return scale, zero_point

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.frozen:
            self.observe(x)
        scale, zero_point = self.parameters_of()
        return fake_quant(x, scale.to(x.dtype), zero_point.to(x.dtype), self.q_low, self.q_high)


@dataclass(frozen=True)
class LayerConstants:
    """The frozen integers of a Conv or Dense: int8 weights, their float32 scales, int32 bias, float32 bias scales."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    bias_scale: Tensor


class QuantNetwork(nn.Module):
    """A Network (batch norms folded) that computes with fake-quantized weights and activations."""

    def __init__(self, network: Network, features: FeatureSpec, bits: int) -> None:
        super().__init__()
        if not 2 <= bits <= 8:
            raise TrainerError(f"--bits: must be in 2..8, got {bits}")
        if any(isinstance(b, Conv) and b.norm is not None for b in network.blocks.values()):
            raise TrainerError("QuantNetwork: batch norms must be folded first (trainer.model.fold_norms)")
        self.network, self.bits, self.features = network, bits, features
        self.input_scale = float(torch.tensor(features.scale, dtype=torch.float32))
        self.ranges = nn.ModuleDict(
            {name: ActivationRange(bits) for name, block in network.blocks.items() if isinstance(block, (Conv, Dense))})

    def freeze_ranges(self, frozen: bool = True) -> None:
        for observer in self.ranges.values():
            assert isinstance(observer, ActivationRange)
            observer.frozen = frozen

    def weight_scale(self, weight: Tensor, bias: Tensor, input_scale: Tensor) -> Tensor:
        """One float32 scale per output channel; wide enough that the int32 bias cannot overflow.

        A dense layer gets the same scale for all its outputs: the TensorFlow Lite Micro of today's Arduino library reads only the first.
        """
        peak = weight.detach().abs().flatten(1).amax(1).float()
        scale = peak / ((1 << (self.bits - 1)) - 1)
        room = bias.detach().abs().float() / (input_scale.float() * 2.0**30)
        widest = torch.maximum(scale, room).clamp(min=MIN_SCALE)
        return widest if weight.dim() > 2 else widest.amax().expand_as(widest)

    def constants(self, name: str, input_scale: Tensor) -> LayerConstants:
        """The integers of one layer as they are exported."""
        block = self.network.blocks[name]
        assert isinstance(block, (Conv, Dense))
        weight, bias = block.weight.detach(), block.bias.detach()
        scale = self.weight_scale(weight, bias, input_scale)
        top = (1 << (self.bits - 1)) - 1
        shape = (-1,) + (1,) * (weight.dim() - 1)
        bias_scale = input_scale.float() * scale
        return LayerConstants(
            weight=integers(weight.float(), scale.view(shape), torch.zeros(()), -top, top).to(torch.int8), weight_scale=scale,
            bias=torch.round(bias.double() / bias_scale.double()).to(torch.int32), bias_scale=bias_scale)

    def _fake_weights(self, block: Conv | Dense, input_scale: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.weight_scale(block.weight, block.bias, input_scale).to(block.weight.dtype)
        top = (1 << (self.bits - 1)) - 1
        zero = torch.zeros((), dtype=scale.dtype)
        shape = (-1,) + (1,) * (block.weight.dim() - 1)
        weight = fake_quant(block.weight, scale.view(shape), zero, -top, top)
        bias_scale = (input_scale.float() * scale.float()).to(scale.dtype)
        return weight, round_through(block.bias / bias_scale) * bias_scale

    def output_quant(self, name: str) -> tuple[Tensor, Tensor]:
        """(scale, zero point) of the tensor that a block writes; an AveragePool keeps its input's."""
        names = list(self.network.blocks)
        while not isinstance(self.network.blocks[name], (Conv, Dense)):
            name = names[names.index(name) - 1]
        observer = self.ranges[name]
        assert isinstance(observer, ActivationRange)
        return observer.parameters_of()

    def layers(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """The fake-quantized output of every block, in order; x is the dequantised features."""
        outputs: dict[str, Tensor] = {}
        scale = torch.tensor(self.input_scale)
        x = x_nchw
        for name, block in self.network.blocks.items():
            if isinstance(block, AveragePool):
                quant_scale, zero_point = (v.to(x.dtype) for v in self.output_quant(name))
                x = fake_quant(block(x), quant_scale, zero_point, -128, 127)
            else:
                assert isinstance(block, (Conv, Dense))
                x = self.ranges[name](self._layer(block, x, scale))
                scale = self.output_quant(name)[0]
            outputs[name] = x
        return outputs

    def _layer(self, block: Conv | Dense, x: Tensor, input_scale: Tensor) -> Tensor:
        weight, bias = self._fake_weights(block, input_scale)
        if isinstance(block, Conv):
            top, bottom, left, right = block.pads_tblr
            padded = F.pad(x, (left, right, top, bottom))
            return F.relu(F.conv2d(padded, weight, bias, block.stride_hw, groups=block.conv.groups))
        y = F.linear(F.dropout(flatten_nhwc(x), block.dropout, self.training), weight, bias)
        return F.relu(y) if block.relu else y

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Fake-quantized logits [n, labels]."""
        return list(self.layers(x_nchw).values())[-1]

    def integer_layers(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """The int8 output of every block in NHWC order, and of the softmax as `scores`; evaluation mode."""
        outputs = self.layers(x_nchw)
        found: dict[str, Tensor] = {}
        for name, value in outputs.items():
            scale, zero_point = (v.to(value.dtype) for v in self.output_quant(name))
            q = integers(value, scale, zero_point, -128, 127).to(torch.int8)
            found[name] = q.permute(0, 2, 3, 1).contiguous() if q.dim() == 4 else q
        scores = F.softmax(list(outputs.values())[-1], dim=1)
        found["scores"] = integers(scores, torch.tensor(SCORE_SCALE), torch.tensor(float(SCORE_ZERO_POINT)), -128, 127).to(torch.int8)
        return found
