"""The layers of a network of one's own, as data: what a checkpoint holds of it, so that no command but `train` needs
the Python file that it came from; and the blocks that only such networks have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from converter.operators.windows import HW, Pads

ACTIVATIONS = ("", "relu", "relu6")
KINDS = ("conv", "dense", "add", "activation", "max", "average", "mean", "dropout", "dropout_maps", "turn")


@dataclass(frozen=True)
class Layer:
    """One layer: its kind, which layers it reads ("features" is the network's input), and what the kind needs.

    norm: eps and momentum of a batch norm behind the convolution, None without one. channels: inputs and outputs; those
    of a dense layer are in NHWC order. rate: a dropout's.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    activation: str = ""
    channels: tuple[int, int] = (0, 0)
    kernel_hw: tuple[int, int] = (1, 1)
    stride_hw: tuple[int, int] = (1, 1)
    pads_tblr: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    bias: bool = True
    norm: tuple[float, float] | None = None
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.activation not in ACTIVATIONS:
            raise ValueError(f"{self.name}: no such layer ({self.kind} {self.activation})")


def activated(x: Tensor, activation: str) -> Tensor:
    """x behind one of ACTIVATIONS."""
    if activation == "relu6":
        return F.relu6(x)
    return F.relu(x) if activation == "relu" else x


class Add(nn.Module):
    """The sum of two tensors of equal shape, and an activation."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Their sum."""
        return activated(x + y, self.activation)


class Activation(nn.Module):
    """A ReLU or ReLU6 that no layer before it can take in."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """The clipped values."""
        return activated(x, self.activation)


class Window(nn.Module):
    """The largest value or the mean of each window of a plane; padded zeros count in the mean."""

    def __init__(self, largest: bool, kernel_hw: HW, stride_hw: HW, pads_tblr: Pads) -> None:
        super().__init__()
        self.largest, self.kernel_hw, self.stride_hw, self.pads_tblr = largest, kernel_hw, stride_hw, pads_tblr

    def forward(self, x_nchw: Tensor) -> Tensor:
        """[n, channels, height, width] to the same with fewer rows and columns."""
        top, bottom, left, right = self.pads_tblr
        if any(self.pads_tblr):
            x_nchw = F.pad(x_nchw, (left, right, top, bottom), value=-torch.inf if self.largest else 0.0)
        pool = F.max_pool2d if self.largest else F.avg_pool2d
        y: Tensor = pool(x_nchw, self.kernel_hw, self.stride_hw)
        return y


class Dropout(nn.Module):
    """Some values, or some whole maps, to zero while training."""

    def __init__(self, rate: float, maps: bool) -> None:
        super().__init__()
        self.rate, self.maps = rate, maps

    def forward(self, x: Tensor) -> Tensor:
        """x, in evaluation mode."""
        drop = F.dropout2d if self.maps and x.dim() == 4 else F.dropout
        return drop(x, self.rate, self.training)


class Turn(nn.Module):
    """Channels and columns exchanged, [n, c, h, w] to [n, w, h, c]: features whose channels are a convolution's, which
    moves nothing on the board."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        """A view of x."""
        return x_nchw.permute(0, 3, 2, 1)
