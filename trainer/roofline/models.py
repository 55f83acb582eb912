"""Operations and bytes of every layer of a network, counted on meta tensors: shapes only, no weights, no arithmetic.

The rule: a layer is one operator as PyTorch runs it (convolution, batch norm, activation, addition, ...). It reads its
inputs and its weights once and writes its outputs once; views cost nothing; nothing is fused. A multiply-accumulate is
2 operations, and only convolutions and matrix products have any (torch.utils.flop_counter). Weights are read once per
batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from torch.utils.module_tracker import ModuleTracker

from trainer.roofline import nets

KINDS = ("convolution", "depthwise", "dense", "batch norm", "activation", "pooling", "element-wise", "copy", "other")


@dataclass(frozen=True)
class Layer:
    """One operator: operations of one picture, and elements (not bytes) that it reads and writes."""

    name: str
    kind: str
    flops: int
    weights: int
    inputs: int
    outputs: int

    def intensity(self, batch: int = 1, size: int = 4) -> float:
        """Operations a byte, elements of `size` bytes."""
        return batch * self.flops / (size * (self.weights + batch * (self.inputs + self.outputs)))


@dataclass(frozen=True)
class Network:
    """A network and its layers, for one picture."""

    name: str
    parameters: int
    flops: int
    layers: tuple[Layer, ...]

    @property
    def weights(self) -> int:
        """Elements read as weights, batch norm's statistics among them."""
        return sum(layer.weights for layer in self.layers)

    @property
    def activations(self) -> int:
        """Elements read and written as inputs and outputs."""
        return sum(layer.inputs + layer.outputs for layer in self.layers)

    @property
    def largest(self) -> int:
        """Most elements a layer holds as input and output."""
        return max(layer.inputs + layer.outputs for layer in self.layers)

    def footprint(self, batch: int = 1, size: int = 4) -> int:
        """Bytes of the weights and of the largest layer's input and output."""
        return size * (self.weights + batch * self.largest)

    def traffic(self, batch: int = 1, size: int = 4) -> int:
        """Bytes that all layers read and write."""
        return size * (self.weights + batch * self.activations)

    def intensity(self, batch: int = 1, size: int = 4) -> float:
        """Operations per byte at `size` bytes an element."""
        return batch * self.flops / self.traffic(batch, size)

    def to_json(self) -> dict[str, Any]:
        """What models.json holds of it."""
        return {
            "name": self.name,
            "parameters": self.parameters,
            "flops": self.flops,
            "weights": self.weights,
            "activations": self.activations,
            "largest": self.largest,
            "layers": [asdict(layer) for layer in self.layers],
        }


def count_all(progress: Callable[[str], None] = lambda name: None) -> dict[str, Network]:
    """Every network of nets.NAMES by its torchvision name."""
    found = {}
    for name, title in nets.NAMES.items():
        found[name] = count(
            nets.build(name, "meta"), torch.empty(1, 3, nets.side(name), nets.side(name), device="meta"), title
        )
        progress(title)
    return found


def count(network: nn.Module, picture: Tensor, name: str) -> Network:
    """What one forward pass reads, computes and writes; the picture has batch 1.

    >>> count(nn.Conv2d(2, 3, 3, device="meta"), torch.empty(1, 2, 5, 5, device="meta"), "small").flops
    972
    """
    ledger = _Ledger(network)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, ledger.tracker, ledger:
        network(picture)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Network(name, parameters, counter.get_total_flops(), tuple(ledger.layers))


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operator that is not a view."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = ModuleTracker()
        self.layers: list[Layer] = []
        self.weights = {_storage(t) for t in (*network.parameters(), *network.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        written = [t for t in tree_leaves(out) if isinstance(t, Tensor)][
            :1
        ]  # not a pool's indices or a norm's saved statistics
        view = not func._schema.is_mutable and {_storage(t) for t in written} <= {_storage(t) for t in read}
        if read and written and not view:
            formula = flop_registry.get(func._overloadpacket)
            flops = int(formula(*args, **kwargs, out_val=out)) if formula else 0
            weights = sum(t.numel() for t in read if _storage(t) in self.weights)
            inputs = sum(t.numel() for t in read) - weights
            where = max(self.tracker.parents - {"Global"}, key=lambda path: path.count("."), default="")
            name = where.partition(".")[2] or where
            self.layers.append(Layer(name, _kind(func, args), flops, weights, inputs, sum(t.numel() for t in written)))
        return out


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _kind(func: Any, args: Any) -> str:
    name = str(func._overloadpacket).removeprefix("aten.")
    if name == "convolution":
        groups = args[8]
        return "depthwise" if groups > 1 and groups == args[0].shape[1] else "convolution"
    return kind_of(name)


def kind_of(operator: str) -> str:
    """The kind of layer an ATen operator, or one of its backward forms, belongs to.

    >>> kind_of("native_batch_norm_backward"), kind_of("mkldnn_convolution"), kind_of("threshold_backward")
    ('batch norm', 'convolution', 'activation')
    """
    marks = {
        "batch norm": ("batch_norm",),
        "convolution": ("conv",),
        "pooling": ("pool", "mean"),
        "activation": (
            "relu",
            "threshold",
            "hardtanh",
            "hardswish",
            "silu",
            "sigmoid",
            "dropout",
            "bernoulli",
            "clamp",
        ),
        "dense": ("addmm", "mm", "linear", "matmul"),
        "copy": ("cat", "copy", "clone", "contiguous", "slice", "fill", "zero"),
        "element-wise": ("add", "mul", "sum", "div", "sub"),
    }
    return next((kind for kind, words in marks.items() if any(word in operator for word in words)), "other")
