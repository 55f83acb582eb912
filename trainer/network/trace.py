"""Someone's torch module -> Layers with its weights: torch.fx follows its forward once, each node becomes a layer or
goes into the one before, and what comes out is held against the module itself.

A value is the output of a layer, [n, c, h, w] inside, and the module sees it in some shape of the same order: only that
shape changes where it flattens, squeezes or reshapes.
"""

from __future__ import annotations

import math
import re
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from trainer.errors import TrainerError
from trainer.network.layers import Layer
from trainer.network.model import FEATURES

SUPPORTED = (
    "Conv2d, Conv1d, BatchNorm behind a convolution, ReLU, ReLU6, MaxPool, AvgPool, AdaptiveAvgPool to 1, mean over "
    "height and width, Linear, Dropout, additions, flatten, reshape, view, squeeze, unsqueeze and transpose of features"
)
SAME_ORDER = ("flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous", "identity")
LOGITS = "logits"
TOLERANCE = 1e-4  # of the largest logit: the order of float sums


@dataclass(frozen=True)
class Traced:
    """What a module is made of: its layers, the last named logits, the state of the Network they build, and FILE:LINE
    of each layer."""

    layers: tuple[Layer, ...]
    state: dict[str, Tensor]
    places: dict[str, str]


@dataclass(frozen=True)
class _Value:
    """A layer's output: its sizes (c, h, w), or (k,) of a dense one, the shape the module sees, and whether another
    node reads it too."""

    layer: str
    sizes: tuple[int, ...]
    seen: tuple[int, ...]
    shared: bool = False


def trace(module: nn.Module, shape: tuple[int, ...], labels: int, file: Path) -> Traced:
    """The layers of a module that makes features [n, *shape] into logits [n, labels]; raises TrainerError, which names
    the line of `file` where it can."""
    noise = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0)) * 26
    module.train()
    try:
        tracer = fx.Tracer()
        tracer.record_stack_traces = True
        graph = fx.GraphModule(module, tracer.trace(module))
    except Exception as error:
        raise TrainerError(f"{where_raised(error, file)}: torch.fx cannot follow the network ({told(error)})") from None
    module.eval()
    taken = [node.name for node in graph.graph.nodes if node.op == "placeholder"]
    if len(taken) != 1:
        raise TrainerError(f"{file.name}: forward must take the features alone, takes {', '.join(taken) or 'nothing'}")
    reader = _Reader(graph, file, noise)
    with torch.no_grad():
        reader.run(noise)
        logits = reader.result
        if not isinstance(logits, Tensor) or logits.shape != (2, labels):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise TrainerError(
                f"{file.name}: must give logits [n, {labels}], one for each of the labels, got {got} for n = 2 "
                f"features [2, {', '.join(map(str, shape))}]"
            )
    return reader.finish()


def matches(module: nn.Module, network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the network that was read computes what the module does, on noise, in evaluation mode."""
    noise = torch.rand((4, *shape), generator=torch.Generator().manual_seed(1)) * 26
    with torch.no_grad():
        ours, theirs = network.eval()(noise), module.eval()(noise)
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max().clamp(min=1e-3))


def told(error: BaseException) -> str:
    """The first line of what an exception says, with its kind."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}".removesuffix(": ")


def where_raised(error: BaseException, file: Path) -> str:
    """FILE:LINE of the deepest line of the file in the exception's traceback; FILE where there is none."""
    lines = [row.lineno for row in traceback.extract_tb(error.__traceback__) if row.filename == str(file)]
    return f"{file.name}:{lines[-1]}" if lines else file.name


class _Reader(fx.Interpreter):
    """Runs the graph on noise, and makes a layer of each node as it goes."""

    def __init__(self, graph: fx.GraphModule, file: Path, noise: Tensor) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self.file, self.noise = file, noise
        self.layers: dict[str, Layer] = {}
        self.state: dict[str, Tensor] = {}
        self.values: dict[fx.Node, _Value] = {}
        self.places: dict[str, str] = {}
        self.weights: dict[int, str] = {}
        self.result: Any = None
        self.last: _Value | None = None

    def where(self, node: fx.Node) -> str:
        """FILE:LINE of a node."""
        lines = re.findall(rf'File "{re.escape(str(self.file))}", line (\d+)', node.stack_trace or "")
        return f"{self.file.name}:{lines[-1]}" if lines else self.file.name

    def refuse(self, node: fx.Node, why: str) -> TrainerError:
        """The error of a node."""
        return TrainerError(f"{self.where(node)}: {why}")

    def run_node(self, n: fx.Node) -> Any:
        """What the node gives; enters its layer."""
        try:
            found = super().run_node(n)
        except Exception as error:
            raise self.refuse(
                n, f"{_name(self, n)} fails on features {tuple(self.noise.shape)}: {told(error)}"
            ) from None
        n.meta["seen"] = tuple(found.shape) if isinstance(found, Tensor) else None
        if n.op == "placeholder":
            self.values[n] = _Value(FEATURES, tuple(self.noise.shape[1:]), tuple(self.noise.shape))
        elif n.op == "output":
            self.result = found
            of = n.args[0]
            self.last = self.values.get(of) if isinstance(of, fx.Node) else None
        elif isinstance(found, Tensor):
            value = self.read(n, tuple(found.shape))
            readers = [user for user in n.users if user.target not in ("size", "dim", getattr)]
            self.values[n] = replace(value, seen=tuple(found.shape), shared=value.shared or len(readers) > 1)
        elif not isinstance(found, int) and not (isinstance(found, tuple) and all(isinstance(s, int) for s in found)):
            raise self.unsupported(n)
        return found

    def unsupported(self, node: fx.Node) -> TrainerError:
        """The sentence about an operator."""
        return self.refuse(node, f"{_name(self, node)} is not supported; a network may have {SUPPORTED}")

    def read(self, node: fx.Node, shape: tuple[int, ...]) -> _Value:
        """The value of a node that gives a tensor of this shape; raises TrainerError."""
        tensors = [self.values[one] for one in node.args if isinstance(one, fx.Node) and one in self.values]
        kind = _name(self, node).lower()
        module = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        if node.op == "get_attr" or not tensors:
            raise self.unsupported(node)
        x = tensors[0]
        if kind in SAME_ORDER:
            if shape[:1] != x.seen[:1] or math.prod(shape) != math.prod(x.seen):
                raise self.refuse(node, f"{kind} must keep the batch, got {x.seen} to {shape}")
            return x
        if kind.startswith("dropout"):
            return self.dropout(node, x, kind, module)
        if kind.rstrip("_") in ("relu", "relu6"):
            return self.activation(node, x, kind.rstrip("_"))
        if kind.rstrip("_") in ("add", "iadd"):
            return self.add(node, tensors)
        if kind in ("transpose", "permute", "swapaxes"):
            return self.turn(node, x, shape)
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            return self.conv(node, x, module, shape)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            return self.norm(node, x, module)
        if isinstance(module, nn.Linear):
            return self.linear(node, x, module)
        if re.fullmatch(r"(max|avg)_?pool[12]d", kind):
            return self.pool(node, x, kind, module, shape)
        if kind == "mean" or re.fullmatch(r"adaptive_?avg_?pool[12]d", kind):
            return self.mean(node, x, shape)
        raise self.unsupported(node)

    def emit(self, node: fx.Node, kind: str, inputs: tuple[_Value, ...], sizes: tuple[int, ...]) -> _Value:
        """A new layer, named after its node."""
        name = node.name
        while name in self.layers or hasattr(nn.ModuleDict, name) or re.search(r"_(weight|bias|scale|zero.*)$", name):
            name += "_"
        name += "_" * (name in (FEATURES, LOGITS, "scores", "flat", "clip"))
        self.layers[name] = Layer(name, kind, tuple(one.layer for one in inputs))
        self.places[name] = self.where(node)
        return _Value(name, sizes, ())

    def change(self, value: _Value, **fields: Any) -> _Value:
        """Other fields of the value's layer."""
        self.layers[value.layer] = replace(self.layers[value.layer], **fields)
        return value

    def map_of(self, node: fx.Node, x: _Value) -> tuple[int, int, int]:
        """(channels, height, width) of what a node reads as a map."""
        plane = x.seen[1:] if len(x.seen) == 4 else (*x.seen[1:], 1)
        if len(x.sizes) != 3 or len(x.seen) not in (3, 4) or plane != x.sizes:
            raise self.refuse(
                node,
                f"{_name(self, node)} reads {x.seen}, which is not [n, channels, ...] as a layer before it gave it",
            )
        return x.sizes[0], x.sizes[1], x.sizes[2]

    def once(self, node: fx.Node, module: nn.Module) -> None:
        """Raises TrainerError for weights that two layers have in common."""
        for parameter in module.parameters():
            if self.weights.setdefault(id(parameter), node.name) != node.name:
                what = f"{_name(self, node)} shares its weights with {self.weights[id(parameter)]}"
                raise self.refuse(node, f"{what}; give each layer its own")

    def conv(self, node: fx.Node, x: _Value, module: nn.Conv1d | nn.Conv2d, shape: tuple[int, ...]) -> _Value:
        """A convolution, along time one of width 1."""
        self.once(node, module)
        self.map_of(node, x)
        if any(step != 1 for step in module.dilation) or module.padding_mode != "zeros":
            raise self.refuse(node, f"{_name(self, node)} with dilation or padding other than zeros is not supported")
        if module.groups not in (1, module.in_channels):
            raise self.refuse(node, f"{_name(self, node)} of {module.groups} groups is not supported; 1, or depthwise")
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        if isinstance(module.padding, str):
            missing = [size - 1 if module.padding == "same" else 0 for size in kernel]
            pads = (missing[0] // 2, missing[0] - missing[0] // 2, missing[1] // 2, missing[1] - missing[1] // 2)
        else:
            rows, columns = _pair(module.padding, 0)
            pads = (rows, rows, columns, columns)
        channels, has_bias = (module.in_channels, module.out_channels), module.bias is not None
        sizes = _pair(shape[2:])
        made = self.emit(node, "conv", (x,), (module.out_channels, *sizes))
        self.change(made, channels=channels, kernel_hw=kernel, stride_hw=stride, pads_tblr=pads)
        self.change(made, groups=module.groups, bias=has_bias)
        weight = module.weight.detach()
        self.keep(made, "conv.weight", weight if weight.dim() == 4 else weight.unsqueeze(3))
        self.keep(made, "conv.bias", torch.zeros(channels[1]) if module.bias is None else module.bias.detach())
        return made

    def norm(self, node: fx.Node, x: _Value, module: nn.BatchNorm1d | nn.BatchNorm2d) -> _Value:
        """Goes into the convolution before."""
        self.once(node, module)
        layer = self.layers.get(x.layer)
        if layer is None or layer.kind != "conv" or layer.activation or layer.norm or x.shared:
            raise self.refuse(
                node,
                f"{_name(self, node)} must stand directly behind a convolution that nothing else reads, to go into it",
            )
        self.map_of(node, x)
        if not module.affine or not module.track_running_stats or module.momentum is None:
            raise self.refuse(
                node, f"{_name(self, node)} without affine, running statistics or momentum is not supported"
            )
        self.change(x, norm=(float(module.eps), float(module.momentum)))
        for key, value in module.state_dict().items():
            self.keep(x, f"norm.{key}", value)
        return x

    def linear(self, node: fx.Node, x: _Value, module: nn.Linear) -> _Value:
        """A dense layer; its weights in the order in which the board stores a map."""
        self.once(node, module)
        if len(x.seen) != 2:
            raise self.refuse(node, f"Linear reads [n, inputs] here, got {x.seen}; flatten first")
        channels = (module.in_features, module.out_features)
        made = self.emit(node, "dense", (x,), channels[1:])
        self.change(made, channels=channels, bias=module.bias is not None)
        weight = module.weight.detach()
        if len(x.sizes) == 3:
            weight = weight.reshape(-1, *x.sizes).permute(0, 2, 3, 1).flatten(1)
        self.keep(made, "linear.weight", weight)
        self.keep(made, "linear.bias", torch.zeros(channels[1]) if module.bias is None else module.bias.detach())
        return made

    def activation(self, node: fx.Node, x: _Value, kind: str) -> _Value:
        """Goes into the layer before where nothing else reads that."""
        layer = self.layers.get(x.layer)
        if layer is not None and not x.shared and layer.kind in ("conv", "dense", "add") and not layer.activation:
            return self.change(x, activation=kind)
        return self.change(self.emit(node, "activation", (x,), x.sizes), activation=kind)

    def add(self, node: fx.Node, tensors: list[_Value]) -> _Value:
        """The sum of two layers' outputs."""
        if len(tensors) != 2 or node.kwargs or tensors[0].seen != tensors[1].seen:
            shapes = " and ".join(str(one.seen) for one in tensors)
            raise self.refuse(node, f"add takes two tensors of the network of equal shape, got {shapes}")
        if tensors[0].sizes != tensors[1].sizes:
            raise self.refuse(node, "add takes two tensors that were reshaped alike; add before reshaping")
        return self.emit(node, "add", (tensors[0], tensors[1]), tensors[0].sizes)

    def dropout(self, node: fx.Node, x: _Value, kind: str, module: nn.Module | None) -> _Value:
        """Nothing but while training."""
        given = _given(node, ("input", "p", "training", "inplace"))
        rate = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else given.get("p", 0.5)
        if not given.get("training", True) or not rate:
            return x
        maps = kind in ("dropout1d", "dropout2d")
        return self.change(self.emit(node, "dropout_maps" if maps else "dropout", (x,), x.sizes), rate=float(rate))

    def turn(self, node: fx.Node, x: _Value, shape: tuple[int, ...]) -> _Value:
        """Channels and columns of a map change places; [n, frames, channels] is one of a single channel."""
        turned = (x.sizes[2], x.sizes[1], x.sizes[0]) if len(x.sizes) == 3 else ()
        before, after = (2, *x.sizes), (2, *turned)
        if x.seen == before and shape == after and self.axes(node, 4) == (0, 3, 2, 1):
            return self.emit(node, "turn", (x,), turned)
        rows = (2, *x.sizes[1:])
        if x.sizes[:1] == (1,) and x.seen == rows and shape == (2, *turned[:2]) and self.axes(node, 3) == (0, 2, 1):
            return self.emit(node, "turn", (x,), turned)
        raise self.refuse(
            node,
            f"{_name(self, node)} from {x.seen} to {shape} is not supported; of a map [n, c, h, w] transpose(1, 3), of "
            f"features [n, frames, channels] transpose(1, 2)",
        )

    def axes(self, node: fx.Node, rank: int) -> tuple[int, ...]:
        """Which axis of the input each axis of the output is."""
        sample = torch.zeros(tuple(range(2, 2 + rank)))
        found = getattr(sample, str(_name(self, node)))(*node.args[1:], **node.kwargs)
        return tuple(size - 2 for size in found.shape)

    def pool(self, node: fx.Node, x: _Value, kind: str, module: nn.Module | None, shape: tuple[int, ...]) -> _Value:
        """Windows of a map."""
        channels, _, _ = self.map_of(node, x)
        largest = kind.startswith("max")
        names = ("input", "kernel_size", "stride", "padding", *(("dilation",) if largest else ("ceil_mode",)))
        given = vars(module) if module is not None else _given(node, names)
        kernel, rank = given["kernel_size"], len(x.seen)
        stride, padding = given.get("stride") or kernel, given.get("padding", 0)
        plain = not given.get("ceil_mode") and given.get("dilation", 1) == 1 and given.get("count_include_pad", True)
        if not plain or given.get("divisor_override") or given.get("return_indices"):
            raise self.refuse(node, f"{_name(self, node)} is supported with kernel, stride and padding alone")
        rows, columns = _pair(padding, 0, rank)
        made = self.emit(node, "max" if largest else "average", (x,), (channels, *_pair(shape[2:])))
        self.change(made, pads_tblr=(rows, rows, columns, columns))
        return self.change(made, kernel_hw=_pair(kernel, 1, rank), stride_hw=_pair(stride, 1, rank))

    def mean(self, node: fx.Node, x: _Value, shape: tuple[int, ...]) -> _Value:
        """Over height and width."""
        channels, _, _ = self.map_of(node, x)
        if math.prod(shape) != 2 * channels or shape[1] != channels:
            raise self.refuse(
                node, f"{_name(self, node)} from {x.seen} to {shape} is not supported; it may give one value a channel"
            )
        return self.emit(node, "mean", (x,), (channels, 1, 1))

    def keep(self, value: _Value, key: str, tensor: Tensor) -> None:
        """A tensor of the layer's block."""
        self.state[f"blocks.{value.layer}.{key}"] = tensor.detach().clone()

    def finish(self) -> Traced:
        """The layers, the last named logits; raises TrainerError."""
        last = self.layers.get(self.last.layer) if self.last is not None else None
        if last is None or last.kind != "dense" or last.activation:
            kind = "nothing" if last is None else last.activation or last.kind
            raise TrainerError(f"{self.file.name}: must end in a Linear, whose outputs are the logits, ends in {kind}")
        needed, kept = [last.name], []
        for layer in reversed(self.layers.values()):
            if layer.name in needed:
                needed += layer.inputs
                kept.append(layer)
        kept[0] = replace(kept[0], name=LOGITS)
        if any(last.name in layer.inputs for layer in kept):
            raise TrainerError(f"{self.file.name}: nothing may read the logits, but a layer does")
        names = {layer.name for layer in kept} | {last.name}
        renamed = {
            key.replace(f"blocks.{last.name}.", f"blocks.{LOGITS}.", 1): value
            for key, value in self.state.items()
            if key.split(".")[1] in names
        }
        return Traced(tuple(reversed(kept)), renamed, self.places)


def _name(reader: fx.Interpreter, node: fx.Node) -> str:
    """What a node does, as its user calls it: Conv2d, relu, add."""
    if node.op == "call_module":
        return type(reader.fetch_attr(str(node.target))).__name__
    if node.op == "get_attr":
        return f"the tensor {node.target}"
    return str(getattr(node.target, "__name__", node.target))


def _given(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """A call's arguments by name."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _pair(size: Any, other: int = 1, rank: int = 4) -> tuple[int, int]:
    """(height, width) of what torch takes as a number or as one or two: along time alone the width is `other`."""
    if isinstance(size, int):
        return (size, size) if rank == 4 else (size, other)
    return (int(size[0]), int(size[1])) if len(size) == 2 else (int(size[0]), other)
