"""Quantization-aware training: fake quantization with a straight-through estimator, laid out as the int8 pipeline runs.

Weights: symmetric, one scale per output channel, one in all for a dense layer. Activations: asymmetric, one scale per
tensor, ranges by moving average, zero always exact. Biases: int32 at input scale * weight scale. The input's scale and
zero point come from FeatureSpec. Below 8 bits step sizes start from a calibration set and are learned with the weights.
Source: TensorFlow Lite 8-bit quantization specification; Jacob et al. 2018 (arXiv 1712.05877); Esser et al. 2020,
learned step size (arXiv 1902.08153).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from converter.spec import FeatureSpec
from trainer.errors import TrainerError
from trainer.network.layers import Window, activated
from trainer.network.model import (
    FEATURES,
    AveragePool,
    Conv,
    Dense,
    MaxPool,
    Network,
    Unquantized,
    convolve,
    multiply,
)
from trainer.network.quant_options import MIN_SCALE, QuantOptions, activation_top, weight_steps

POOLS = (AveragePool, MaxPool, Window)  # what they give is on their input's grid
SCORE_SCALE, SCORE_ZERO_POINT = 1 / 256, -128


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


def _mean_of_integers(block: Window, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The means of few integers, whose halves, which are many, TensorFlow Lite rounds away from zero; the gradient is
    the mean's."""
    mean: Tensor = block(x)
    q = block(torch.round(x.detach() / scale)) + zero_point
    q = torch.trunc(q + 0.5 * torch.sign(q))
    return mean + ((q - zero_point) * scale - mean).detach()


class ActivationRange(nn.Module):
    """The range of one tensor and the scale and zero point that follow; `frozen` stops the averaging.

    A hidden tensor is never negative: its zero lies so that the largest of its levels is 127. The logits, and whatever
    may be negative in a network of one's own, use all of int8, with zero in the middle if symmetric. With fixed steps
    the range is set once and `gain`, the logarithm of a factor, is learned.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, options: QuantOptions, hidden: bool, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum, self.frozen, self.symmetric = momentum, options.fixed_steps, options.scheme == "symmetric"
        self.hidden, self.levels = hidden, options.hidden_levels if hidden else 255
        self.q_low, self.q_high = 127 - self.levels, 127
        for name in ("low", "high", "seen"):
            self.register_buffer(name, torch.zeros(()))
        self.gain = nn.Parameter(torch.zeros(())) if options.fixed_steps else None

    def observe(self, x: Tensor) -> None:
        """Widen the range by what x holds."""
        with torch.no_grad():
            low, high = x.min().clamp(max=0.0), x.max().clamp(min=0.0)
            rate = max(self.momentum, 1.0 / (1.0 + float(self.seen)))
            self.low += (low - self.low) * rate
            self.high += (high - self.high) * rate
            self.seen += 1

    def calibrate(self, x: Tensor, calibration: str) -> None:
        """Set the range from all values of a calibration set; that of the logits is their extremes."""
        with torch.no_grad():
            self.low.copy_(x.min().clamp(max=0.0))
            self.high.copy_(activation_top(x, self.levels, calibration) if self.hidden else x.max().clamp(min=0.0))
            self.seen.fill_(1)

    def parameters_of(self) -> tuple[Tensor, Tensor]:
        """(scale, zero point), the scale a float32 value; zero is a grid point."""
        low, high = self.low.float(), self.high.float()
        if self.symmetric and not self.hidden:
            scale, zero_point = torch.maximum(high, -low) / 127, torch.zeros(())
        else:
            scale = (high - low) / (self.q_high - self.q_low)
            zero_point = torch.clamp(
                torch.round(self.q_low - low / scale.clamp(min=MIN_SCALE)), self.q_low, self.q_high
            )
        return (scale if self.gain is None else scale * torch.exp(self.gain)).clamp(min=MIN_SCALE), zero_point

    def forward(self, x: Tensor) -> Tensor:
        """The values on their int8 grid, as real numbers."""
        if self.training and not self.frozen:
            self.observe(x)
        scale, zero_point = self.parameters_of()
        return fake_quant(x, scale.to(x.dtype), zero_point.to(x.dtype), self.q_low, self.q_high)


class WeightSteps(nn.Module):
    """The step sizes of one weight tensor: calibrated ones times exp(gain), gain learned."""

    base: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("base", torch.ones(count))
        self.gain = nn.Parameter(torch.zeros(count))

    def forward(self) -> Tensor:
        """The values on their int8 grid, as real numbers."""
        return self.base * torch.exp(self.gain)


@dataclass(frozen=True)
class LayerConstants:
    """The frozen integers of a Conv or Dense: int8 weights, their float32 scales, int32 bias, float32 bias scales."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    bias_scale: Tensor


class QuantNetwork(nn.Module):
    """A Network (batch norms folded) that computes with fake-quantized weights and activations."""

    def __init__(self, network: Network, features: FeatureSpec, options: QuantOptions) -> None:
        super().__init__()
        if any(isinstance(b, Conv) and b.norm is not None for b in network.blocks.values()):
            raise TrainerError("QuantNetwork: batch norms must be folded first (trainer.network.model.fold_norms)")
        self.network, self.options, self.features = network, options, features
        self.input_scale = float(torch.tensor(features.scale, dtype=torch.float32))
        layers = {name: block for name, block in network.blocks.items() if isinstance(block, (Conv, Dense))}
        own = {n: b for n, b in network.blocks.items() if not isinstance(b, (*POOLS, *Unquantized))}
        self.ranges = nn.ModuleDict({n: ActivationRange(options, bool(b.activation)) for n, b in own.items()})
        self.steps = nn.ModuleDict()
        if options.fixed_steps and options.scheme != "asymmetric-weights":
            self.steps.update(
                {n: WeightSteps(len(b.bias) if self._per_channel(b.weight) else 1) for n, b in layers.items()}
            )

    @property
    def streams(self) -> bool:
        """As the network it was made of."""
        return self.network.streams

    @property
    def bits(self) -> int:
        """Width of the weights, 2 to 8."""
        return self.options.bits

    def freeze_ranges(self, frozen: bool = True) -> None:
        """Keep the ranges of activations as they are from now on."""
        for observer in self.ranges.values():
            assert isinstance(observer, ActivationRange)
            observer.frozen = frozen or observer.gain is not None

    def calibrate_steps(self, x_nchw: Tensor) -> None:
        """Set all step sizes, layer after layer, each range from what the quantized layers before it give; needs fixed
        steps."""
        with torch.no_grad():
            values = {FEATURES: x_nchw}
            for name, block in self.network.blocks.items():
                inputs = [values[before] for before in self.network.inputs[name]]
                if name in self.ranges:
                    if name in self.steps:
                        steps = self.steps[name]
                        assert isinstance(steps, WeightSteps) and isinstance(block, (Conv, Dense))
                        steps.base.copy_(weight_steps(block.weight, self._per_channel(block.weight), self.options))
                    observer = self.ranges[name]
                    assert isinstance(observer, ActivationRange)
                    observer.calibrate(self._layer(name, block, inputs), self.options.calibration)
                values[name] = self._output(name, block, inputs)

    def _per_channel(self, weight: Tensor) -> bool:
        """A dense layer gets one scale for all its outputs: the TensorFlow Lite Micro of today's Arduino library reads
        only the first."""
        return self.options.weights == "per-channel" and weight.dim() > 2

    def weight_scale(self, name: str, input_scale: Tensor) -> Tensor:
        """One float32 scale per output channel; wide enough that the int32 bias cannot overflow.

        A channel pruned to nothing takes the widest of the others': of its own there is none, and its bias would be
        huge on it.
        """
        block = self.network.blocks[name]
        assert isinstance(block, (Conv, Dense))
        weight, bias = block.weight, block.bias
        if name in self.steps:
            scale: Tensor = self.steps[name]().float().expand(len(bias))
        elif self.options.scheme == "asymmetric-weights":
            rows = weight.detach().flatten(1).float()
            scale = (rows.amax(1).clamp(min=0) - rows.amin(1).clamp(max=0)) / ((1 << self.bits) - 1)
        else:
            scale = weight.detach().abs().flatten(1).amax(1).float() / self.options.weight_top
        alive = weight.detach().flatten(1).any(1)
        scale = torch.where(alive, scale, scale.detach().amax())
        room = bias.detach().abs().float() / (input_scale.float() * 2.0**30)
        widest = torch.maximum(scale, room).clamp(min=MIN_SCALE)
        return widest if self._per_channel(weight) else widest.amax().expand_as(widest)

    def constants(self, name: str, input_scale: Tensor) -> LayerConstants:
        """The integers of one layer as they are exported."""
        if self.options.scheme == "asymmetric-weights":
            raise TrainerError(
                "--scheme: the TensorFlow Lite format has symmetric weights only, got asymmetric-weights, which can be "
                "evaluated but not exported; use asymmetric or symmetric"
            )
        block = self.network.blocks[name]
        assert isinstance(block, (Conv, Dense))
        weight, bias, input_scale = block.weight.detach(), block.bias.detach(), input_scale.detach()
        scale, top = self.weight_scale(name, input_scale).detach(), self.options.weight_top
        shape = (-1,) + (1,) * (weight.dim() - 1)
        bias_scale = input_scale.float() * scale
        return LayerConstants(
            weight=integers(weight.float(), scale.view(shape), torch.zeros(()), -top, top).to(torch.int8),
            weight_scale=scale,
            bias=torch.round(bias.double() / bias_scale.double()).to(torch.int32),
            bias_scale=bias_scale,
        )

    def _fake_weights(self, name: str, block: Conv | Dense, input_scale: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.weight_scale(name, input_scale).to(block.weight.dtype)
        top, low = self.options.weight_top, -self.options.weight_top
        zero = torch.zeros((), dtype=scale.dtype)
        shape = (-1,) + (1,) * (block.weight.dim() - 1)
        if self.options.scheme == "asymmetric-weights":
            low, lowest = low - 1, block.weight.detach().flatten(1).amin(1).clamp(max=0)
            lowest = lowest if self._per_channel(block.weight) else lowest.amin().expand_as(lowest)
            zero = torch.clamp(torch.round(low - lowest / scale), low, top).view(shape)
        weight = fake_quant(block.weight, scale.view(shape), zero, low, top)
        bias_scale = (input_scale.float() * scale.float()).to(scale.dtype).detach()
        return weight, round_through(block.bias / bias_scale) * bias_scale

    def output_quant(self, name: str) -> tuple[Tensor, Tensor]:
        """(scale, zero point) of the tensor that a block writes; a pool keeps its input's."""
        while name not in self.ranges and name != FEATURES:
            name = self.network.inputs[name][0]
        if name == FEATURES:
            return torch.tensor(self.input_scale), torch.tensor(float(self.features.zero_point))
        observer = self.ranges[name]
        assert isinstance(observer, ActivationRange)
        scale, zero_point = observer.parameters_of()
        return scale.detach(), zero_point

    def layers(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """The fake-quantized output of every block, in order; x is the dequantised features."""
        values = {FEATURES: x_nchw}
        for name, block in self.network.blocks.items():
            values[name] = self._output(name, block, [values[before] for before in self.network.inputs[name]])
        del values[FEATURES]
        return values

    def _output(self, name: str, block: nn.Module, inputs: list[Tensor]) -> Tensor:
        if isinstance(block, (MaxPool, *Unquantized)) or (isinstance(block, Window) and block.largest):
            same: Tensor = block(*inputs)  # values of its input
            return same
        if isinstance(block, POOLS):
            scale, zero_point = (v.to(inputs[0].dtype) for v in self.output_quant(name))
            if isinstance(block, Window):
                return _mean_of_integers(block, inputs[0], scale, zero_point)
            return fake_quant(block(*inputs), scale, zero_point, -128, 127)
        found: Tensor = self.ranges[name](self._layer(name, block, inputs))
        return found

    def _layer(self, name: str, block: nn.Module, inputs: list[Tensor]) -> Tensor:
        """A layer's output before it is quantized."""
        if not isinstance(block, (Conv, Dense)):
            joined: Tensor = block(*inputs)
            return joined
        weight, bias = self._fake_weights(name, block, self.output_quant(self.network.inputs[name][0])[0])
        multiplied = convolve if isinstance(block, Conv) else multiply
        return activated(multiplied(inputs[0], weight, bias, block), block.activation)  # type: ignore[arg-type]

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Fake-quantized logits [n, labels]."""
        return list(self.layers(x_nchw).values())[-1]

    def integer_layers(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """The int8 output of every block in NHWC order, and where there is a softmax of it as `scores`; evaluation
        mode."""
        outputs = self.layers(x_nchw)
        found: dict[str, Tensor] = {}
        for name, value in outputs.items():
            if isinstance(self.network.blocks[name], Unquantized):
                continue
            scale, zero_point = (v.to(value.dtype) for v in self.output_quant(name))
            q = integers(value, scale, zero_point, -128, 127).to(torch.int8)
            found[name] = q.permute(0, 2, 3, 1).contiguous() if q.dim() == 4 else q
        if not self.network.ends_in_scores:
            return found
        scores = F.softmax(list(outputs.values())[-1], dim=1)
        found["scores"] = integers(
            scores, torch.tensor(SCORE_SCALE), torch.tensor(float(SCORE_ZERO_POINT)), -128, 127
        ).to(torch.int8)
        return found
