"""The convolutional networks, from torchvision without its compiled operators: beside CPU-only torch these cannot be
loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

from trainer.errors import TrainerError

NAMES = {
    "alexnet": "AlexNet",
    "vgg16": "VGG16",
    "resnet18": "ResNet18",
    "resnet50": "ResNet50",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3-L",
    "efficientnet_b0": "EfficientNet-B0",
    "densenet121": "DenseNet121",
    "squeezenet1_0": "SqueezeNet1_0",
    "inception_v3": "InceptionV3",
    "shufflenet_v2_x1_0": "ShuffleNetV2",
}
_kept: list[Any] = []  # an operator library lives as long as its object


def build(name: str, device: str = "cpu") -> nn.Module:
    """The network on the device (`meta`: shapes only), random weights, in evaluation mode."""
    options = {"init_weights": False} if name == "inception_v3" else {}  # its own draw of weights takes half a minute
    with torch.device(device):
        network: nn.Module = getattr(_models(), name)(weights=None, **options)
    return network.eval()


def side(name: str) -> int:
    """Rows and columns of the pictures it takes."""
    return 299 if name == "inception_v3" else 224


def pictures(name: str, batch: int, device: str = "cpu") -> torch.Tensor:
    """Standard normal pictures [batch, 3, side, side]."""
    return torch.randn(batch, 3, side(name), side(name), device=device)


def _models() -> ModuleType:
    try:
        with _without_operators():
            from torchvision import models
    except (ImportError, RuntimeError) as error:
        raise TrainerError(
            f"roofline: the networks come from torchvision 0.28, got {error}; pip install torchvision==0.28.0"
        ) from None
    assert isinstance(models, ModuleType)
    return models


@contextmanager
def _without_operators() -> Iterator[None]:
    """torchvision's import describes operators of its compiled part; where that is missing one is declared and the rest
    is skipped."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _kept.append(library)
    describe = torch.library.register_fake

    def skip(op: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return _same
        return describe(op, *arguments, **options)

    torch.library.register_fake = skip
    try:
        yield
    finally:
        torch.library.register_fake = describe


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
