"""A model file as it came, and where in it the tensors of its Graph are: for checks that start from the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Place:
    """A tensor of the Graph and what the file calls it: the name of an ONNX value, the number of a .tflite's tensor.

    is_nchw: the file holds [1, C, H, W], the Graph [1, H, W, C]; else the elements lie in one order.
    """

    tensor: int
    key: str | int
    is_nchw: bool = False


@dataclass(frozen=True, eq=False)
class Original:
    """The bytes of a model file. The last place is the model's output, as the file gives it to its user."""

    name: str
    format: Literal["onnx", "tflite"]
    data: bytes
    places: tuple[Place, ...]
