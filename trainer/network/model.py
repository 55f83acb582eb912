"""The networks: TinyConv, a small DS-CNN, a temporal convolutional network, two image CNNs and those of one's own, as
a plain list of blocks that QAT, export and pruning walk through.

Tensors inside are NCHW; a Dense flattens NHWC, as the board stores activations, so its weights need no permutation.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from converter.operators.windows import Padding, output_size, same_pads
from converter.spec import FeatureSpec
from trainer.errors import TrainerError
from trainer.network.layers import Activation, Add, Dropout, Layer, Turn, Window, activated

MODELS = ("tinyconv", "tinyconv_stream", "dscnn", "tcn")
IMAGE_MODELS = ("mnist_cnn", "conv4")
TCN_KERNELS = (3, 5, 7, 9)  # frames: the first convolution's, with stride 2, then of each depthwise one
OWN = "own"  # the model of an Architecture whose layers were read from someone's Python file
FEATURES = "features"  # the name of a network's input, beside those of its blocks
MAX_WIDTH = 1024  # of a tcn
DEFAULT_WIDTH = {"tinyconv": 8, "tinyconv_stream": 8, "dscnn": 40, "tcn": 88, "mnist_cnn": 32, "conv4": 32}


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build an untrained network.

    `width` is the count of channels of its convolutions; later ones of an image CNN have twice as many. Its pictures
    have `planes` planes of `frames` rows and `channels` columns. `kernels` are a tcn's, in frames, and `widths` the
    channels behind each of them where they are not all `width`. `layers` are those of a network of one's own.
    """

    model: str
    labels: int
    frames: int
    channels: int
    width: int
    dropout: float = 0.5
    planes: int = 1
    kernels: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    layers: tuple[Layer, ...] = ()

    @staticmethod
    def of(model: str, labels: int, features: FeatureSpec, dropout: float = 0.5) -> Architecture:
        """The named model for features [frames, channels] and so many labels; raises TrainerError."""
        if model not in MODELS:
            raise TrainerError(f"--model: must be one of {', '.join(MODELS)}, got {model}")
        kernels = TCN_KERNELS if model == "tcn" else ()
        return Architecture(
            model, labels, features.frames, features.channels, DEFAULT_WIDTH[model], dropout, kernels=kernels
        )

    def chain(self, kernels: tuple[int, ...], widths: tuple[int, ...]) -> Architecture:
        """The same tcn with these kernels and widths, the first convolution's in front; () keeps what it has. Raises
        TrainerError."""
        if not (kernels or widths):
            return self
        if self.model != "tcn":
            raise TrainerError(f"--kernels, --widths: only --model tcn takes them, got --model {self.model}")
        made = replace(self, kernels=kernels or self.kernels, widths=widths)
        if widths and (len(widths) != len(made.kernels) or not all(1 <= width <= MAX_WIDTH for width in widths)):
            raise TrainerError(
                f"--widths: needs a number of channels from 1 to {MAX_WIDTH} for each of the kernels "
                f"{','.join(map(str, made.kernels))}, got {','.join(map(str, widths))}"
            )
        if len(made.kernels) < 2 or min(made.kernels) < 1 or tcn_rows(self.frames, made.kernels) < 1:
            raise TrainerError(
                f"--kernels: needs two or more of at least one frame that leave a row of {self.frames} frames, got "
                f"{','.join(map(str, made.kernels))}"
            )
        return replace(made, width=widths[0]) if widths else made

    @staticmethod
    def of_pictures(model: str, labels: int, planes_rows_columns: tuple[int, ...]) -> Architecture:
        """The named model for pictures; raises TrainerError."""
        if model not in IMAGE_MODELS:
            raise TrainerError(f"--model: must be one of {', '.join(IMAGE_MODELS)}, got {model}")
        planes, rows, columns = planes_rows_columns
        return Architecture(model, labels, rows, columns, DEFAULT_WIDTH[model], planes=planes)


class Conv(nn.Module):
    """Zero padding (none for VALID), convolution (depthwise when groups = channels), batch norm if asked for, ReLU or
    another activation: NCHW to NCHW."""

    def __init__(
        self,
        sizes_hw: tuple[int, int],
        in_channels: int,
        out_channels: int,
        kernel_hw: tuple[int, int],
        stride_hw: tuple[int, int],
        depthwise: bool = False,
        norm: bool = False,
        padding: Padding = "SAME",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.stride_hw, self.activation = stride_hw, activation
        self.pads_tblr = same_pads(sizes_hw, kernel_hw, stride_hw) if padding == "SAME" else (0, 0, 0, 0)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_hw, stride_hw, groups=in_channels if depthwise else 1, bias=True
        )
        self.norm = nn.BatchNorm2d(out_channels) if norm else None

    @property
    def weight(self) -> Tensor:
        """Float weights in torch's layout."""
        return self.conv.weight

    @property
    def bias(self) -> Tensor:
        """Float bias, one per output."""
        assert self.conv.bias is not None
        return self.conv.bias

    def forward(self, x_nchw: Tensor) -> Tensor:
        """[n, channels, height, width] to the layer's output; a network's is logits [n, labels]."""
        y = convolve(x_nchw, self.weight, self.bias, self)
        return activated(y if self.norm is None else self.norm(y), self.activation)


class AveragePool(nn.Module):
    """The mean over each channel's plane: [n, c, h, w] to [n, c, 1, 1]."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        """[n, channels, height, width] to the layer's output; a network's is logits [n, labels]."""
        return x_nchw.mean(dim=(2, 3), keepdim=True)


class MaxPool(nn.Module):
    """The largest of each 2x2 patch: [n, c, h, w] to [n, c, h // 2, w // 2]."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        """[n, channels, height, width] to the layer's output; a network's is logits [n, labels]."""
        return F.max_pool2d(x_nchw, 2)


class Dense(nn.Module):
    """Flatten NHWC, dropout, matrix product, ReLU if asked for: [n, c, h, w] or [n, k] to [n, outputs].

    More rows than it has inputs for are a stream: [n, c, h + k, w] to [n, k + 1, outputs].
    """

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0, activation: str = "") -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.dropout, self.activation = dropout, activation

    @property
    def weight(self) -> Tensor:
        """Float weights in torch's layout."""
        return self.linear.weight

    @property
    def bias(self) -> Tensor:
        """Float bias, one per output."""
        return self.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, height, width] to the layer's output; a network's is logits [n, labels]."""
        return activated(multiply(x, self.weight, self.bias, self), self.activation)


Block = Union[Conv, AveragePool, MaxPool, Dense, Add, Activation, Window, Dropout, Turn]
Unquantized = (Dropout, Turn)  # blocks that change no value: their output is on their input's grid


class Network(nn.Module):
    """Blocks in order, each behind the one before or behind its `inputs`: features [n, 1, frames, channels] to logits
    [n, labels]."""

    def __init__(
        self,
        architecture: Architecture,
        blocks: list[tuple[str, Block]],
        inputs: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.blocks = nn.ModuleDict(dict(blocks))
        names = [name for name, _ in blocks]
        self.inputs = inputs or {name: (before,) for before, name in zip([FEATURES, *names], names, strict=False)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """[n, channels, height, width] to the layer's output; a network's is logits [n, labels]."""
        values = {FEATURES: x_nchw}
        for name, block in self.blocks.items():
            values[name] = x_nchw = block(*(values[before] for before in self.inputs[name]))
        return x_nchw

    @property
    def ends_in_scores(self) -> bool:
        """True for pictures: the exported model ends in a softmax. A spotter ends in logits, whose evidence does not
        saturate."""
        return self.architecture.model in IMAGE_MODELS

    @property
    def streams(self) -> bool:
        """True when nothing is padded or pooled: features of more frames give the logits of every window in them, [n,
        windows, labels], one window a stride of the first convolution."""
        convolutions = [block for block in self.blocks.values() if not isinstance(block, Dense)]
        return not self.architecture.layers and all(
            isinstance(block, Conv) and not any(block.pads_tblr) for block in convolutions
        )

    @property
    def parameter_count(self) -> int:
        """Weights and biases as deployed, that is without batch norm."""
        return sum(
            p.numel()
            for block in self.blocks.values()
            if isinstance(block, (Conv, Dense))
            for p in (block.weight, block.bias)
        )


def convolve(x_nchw: Tensor, weight: Tensor, bias: Tensor, layer: Conv) -> Tensor:
    """The padded convolution of a layer with these weights. A 1x1 kernel, and one as wide as its one input plane, is a
    matrix product, which is faster on a CPU."""
    top, bottom, left, right = layer.pads_tblr
    x = F.pad(x_nchw, (left, right, top, bottom)) if any(layer.pads_tblr) else x_nchw
    kernel, stride = weight.shape[2:], layer.stride_hw
    if kernel == (1, 1) and stride == (1, 1) and layer.conv.groups == 1:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    if x.shape[1] == 1 and kernel[1] == x.shape[3]:
        rows = x[:, 0].unfold(1, kernel[0], stride[0]).transpose(2, 3)  # [n, rows, kernel rows, channels]
        return F.linear(rows.flatten(2), weight.flatten(1), bias)[:, :, None].permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, stride, groups=layer.conv.groups)


def multiply(x: Tensor, weight: Tensor, bias: Tensor, layer: Dense) -> Tensor:
    """Dropout and product of a dense layer with these weights. On a stream, whose windows overlap, each window drops
    values of its own: docs/spotter.md says what that is worth."""
    return F.linear(F.dropout(flatten_nhwc(x, weight.shape[1]), layer.dropout, layer.training), weight, bias)


def flatten_nhwc(x: Tensor, inputs: int) -> Tensor:
    """[n, c, h, w] to [n, h * w * c], or where that is more than `inputs` to all windows of so many, [n, k, inputs];
    [n, k] stays."""
    if x.dim() == 2:
        return x
    rows = x.permute(0, 2, 3, 1).flatten(2)  # [n, h, w * c]
    window = inputs // rows.shape[2]
    if rows.shape[1] == window:
        return rows.flatten(1)
    return rows.unfold(1, window, 1).transpose(2, 3).flatten(2)


def build(architecture: Architecture) -> Network:
    """The untrained network of an architecture, from torch's current random state."""
    builders = {
        "tinyconv": _tinyconv,
        "tinyconv_stream": _tinyconv,
        "dscnn": _dscnn,
        "tcn": _tcn,
        "mnist_cnn": _mnist_cnn,
        "conv4": _conv4,
        OWN: _own,
    }
    return builders[architecture.model](architecture)


def _tinyconv(a: Architecture) -> Network:
    """Convolution 10x8 stride 2 with `width` channels, then dense: 16,652 parameters for 8 channels and 4 labels.

    tinyconv_stream does not pad, so that while listening each hop makes one new row and no edge is computed again:
    11,532 parameters.
    """
    size, kernel = (a.frames, a.channels), (10, 8)
    padding: Padding = "VALID" if a.model == "tinyconv_stream" else "SAME"
    conv = Conv(size, 1, a.width, kernel, (2, 2), padding=padding)
    height, width = (output_size(s, k, 2, padding) for s, k in zip(size, kernel, strict=True))
    dense = Dense(height * width * a.width, a.labels, a.dropout)
    for block in (conv, dense):
        nn.init.trunc_normal_(block.weight, std=0.01)
        nn.init.zeros_(block.bias)
    return Network(a, [("conv", conv), ("logits", dense)])


def _dscnn(a: Architecture) -> Network:
    """A convolution and four depthwise-separable pairs with batch norm, mean over the plane, dense."""
    size, w = (a.frames, a.channels), a.width
    blocks: list[tuple[str, Block]] = [("conv", Conv(size, 1, w, (10, 4), (2, 2), norm=True))]
    size = _halved(size)
    for index in range(4):
        stride = 2 if index == 0 else 1
        blocks.append((f"depthwise{index}", Conv(size, w, w, (3, 3), (stride, stride), depthwise=True, norm=True)))
        size = _halved(size) if stride == 2 else size
        blocks.append((f"pointwise{index}", Conv(size, w, w, (1, 1), (1, 1), norm=True)))
    return Network(a, [*blocks, ("pool", AveragePool()), ("logits", Dense(w, a.labels, a.dropout / 2))])


def tcn_rows(frames: int, kernels: tuple[int, ...]) -> int:
    """Rows that a tcn's dense layer sees; below 1: its kernels are longer than its window."""
    return output_size(frames, kernels[0], 2, "VALID") - sum(taps - 1 for taps in kernels[1:])


def _tcn(a: Architecture) -> Network:
    """A convolution over all channels with stride 2 in time, depthwise-separable pairs along time, dense over the rows
    that are left: 38,372 parameters and 587,488 MAC for 88 channels and 4 labels.

    Nothing is padded, so that it streams: each hop of two frames adds one row to every layer.
    """
    rows = output_size(a.frames, a.kernels[0], 2, "VALID")
    widths = a.widths or (a.width,) * len(a.kernels)
    blocks: list[tuple[str, Block]] = [
        (
            "conv",
            Conv((a.frames, a.channels), 1, widths[0], (a.kernels[0], a.channels), (2, 1), norm=True, padding="VALID"),
        )
    ]
    for index, taps in enumerate(a.kernels[1:]):
        before, width = widths[index], widths[index + 1]
        depthwise = Conv((rows, 1), before, before, (taps, 1), (1, 1), depthwise=True, norm=True, padding="VALID")
        rows = output_size(rows, taps, 1, "VALID")
        if rows < 1:
            raise TrainerError(f"a tcn of kernels {a.kernels} needs more than {a.frames} frames; give shorter ones")
        pointwise = Conv((rows, 1), before, width, (1, 1), (1, 1), norm=True, padding="VALID")
        blocks += [(f"depthwise{index}", depthwise), (f"pointwise{index}", pointwise)]
    return Network(a, [*blocks, ("logits", Dense(rows * widths[-1], a.labels, a.dropout))])


def _mnist_cnn(a: Architecture) -> Network:
    """Two unpadded 3x3 convolutions of 32 and 64 channels, pool, dense 128 and 10: 1,199,882 parameters on 28x28
    digits."""
    size, w = (a.frames, a.channels), a.width
    convs = (
        Conv(size, a.planes, w, (3, 3), (1, 1), padding="VALID"),
        Conv(size, w, 2 * w, (3, 3), (1, 1), padding="VALID"),
    )
    flat = ((size[0] - 4) // 2) * ((size[1] - 4) // 2) * 2 * w
    return Network(
        a,
        [
            ("conv1", convs[0]),
            ("conv2", convs[1]),
            ("pool", MaxPool()),
            ("dense", Dense(flat, 128, a.dropout / 2, activation="relu")),
            ("logits", Dense(128, a.labels, a.dropout)),
        ],
    )


def _conv4(a: Architecture) -> Network:
    """Four padded 3x3 convolutions of 32, 32, 64 and 64 channels, a pool after each two, dense 256, 128 and the
    labels."""
    size, w = (a.frames, a.channels), a.width
    half = size[0] // 2, size[1] // 2
    return Network(
        a,
        [
            ("conv1", Conv(size, a.planes, w, (3, 3), (1, 1))),
            ("conv2", Conv(size, w, w, (3, 3), (1, 1))),
            ("pool1", MaxPool()),
            ("conv3", Conv(half, w, 2 * w, (3, 3), (1, 1))),
            ("conv4", Conv(half, 2 * w, 2 * w, (3, 3), (1, 1))),
            ("pool2", MaxPool()),
            ("dense1", Dense((half[0] // 2) * (half[1] // 2) * 2 * w, 256, a.dropout / 2, activation="relu")),
            ("dense2", Dense(256, 128, a.dropout, activation="relu")),
            ("logits", Dense(128, a.labels, a.dropout)),
        ],
    )


def _own(a: Architecture) -> Network:
    """The network that trainer/network/trace.py has read; raises ValueError or RuntimeError for layers that do not fit
    each other, as those of a damaged checkpoint."""
    known = {FEATURES}
    for layer in a.layers:
        if layer.name in known or not known.issuperset(layer.inputs) or len(layer.inputs) != 1 + (layer.kind == "add"):
            raise ValueError(f"{layer.name}: does not fit the layers before it")
        known.add(layer.name)
    network = Network(a, [(row.name, _block(row)) for row in a.layers], {row.name: row.inputs for row in a.layers})
    with torch.no_grad():
        network.eval()(torch.zeros(1, a.planes, a.frames, a.channels))
    return network.train()


def _block(layer: Layer) -> Block:
    match layer.kind:
        case "conv":
            conv = Conv((1, 1), *layer.channels, layer.kernel_hw, layer.stride_hw, activation=layer.activation)
            conv.pads_tblr = layer.pads_tblr
            sizes = (*layer.channels, layer.kernel_hw, layer.stride_hw)
            conv.conv = nn.Conv2d(*sizes, groups=layer.groups)
            conv.bias.requires_grad_(layer.bias)
            if layer.norm:
                eps, momentum = layer.norm
                conv.norm = nn.BatchNorm2d(layer.channels[1], eps, momentum)
            return conv
        case "dense":
            dense = Dense(*layer.channels, activation=layer.activation)
            dense.bias.requires_grad_(layer.bias)
            return dense
        case "add":
            return Add(layer.activation)
        case "activation":
            return Activation(layer.activation)
        case "max" | "average":
            return Window(layer.kind == "max", layer.kernel_hw, layer.stride_hw, layer.pads_tblr)
        case "mean":
            return AveragePool()
        case "turn":
            return Turn()
        case _:
            return Dropout(layer.rate, layer.kind == "dropout_maps")


def _halved(size_hw: tuple[int, int]) -> tuple[int, int]:
    return output_size(size_hw[0], 1, 2, "SAME"), output_size(size_hw[1], 1, 2, "SAME")


def fold_norms(network: Network) -> Network:
    """A copy whose batch norms are folded into the convolutions before them; same outputs in evaluation mode."""
    folded = copy.deepcopy(network)
    for block in folded.blocks.values():
        if isinstance(block, Conv) and block.norm is not None:
            norm = block.norm
            assert norm.running_mean is not None and norm.running_var is not None
            gain = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
            block.conv.weight.data = block.conv.weight.data * gain[:, None, None, None]
            block.bias.data = (block.bias.data - norm.running_mean) * gain + norm.bias.detach()
            block.norm = None
            block.bias.requires_grad_()  # the norm's, from now on
    return folded
