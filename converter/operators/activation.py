"""The activation that an operator may fuse: NONE, RELU or RELU6."""

from __future__ import annotations

from typing import Literal

import numpy as np

from converter import quant
from converter.arrays import Int8, Int64
from converter.errors import ConvertError, require
from converter.formats.tflite import TfliteNode
from converter.quant import Activation
from converter.tensor import QuantParams, Tensor

NUMBERS: dict[Activation, int] = {"NONE": 0, "RELU": 1, "RELU6": 3}  # of ActivationFunctionType
OTHERS = {2: "RELU_N1_TO_1", 4: "TANH", 5: "SIGN_BIT"}


def check_activation(name: str, activation: Activation, y: Tensor) -> None:
    """RELU6 needs a clamp that fits int32; raises ConvertError."""
    rule = f"6 / output scale must stay below 2**30, the scale is {y.quant.scale}"
    require(activation != "RELU6" or 6.0 / y.quant.scale < 1 << 30, name, rule)


def clamp(values: Int64, activation: Activation, y: QuantParams) -> Int8:
    """int8 outputs."""
    return np.clip(values, *quant.activation_range(activation, y)).astype(np.int8)


def read_activation(node: TfliteNode, field: int) -> Activation:
    """The fused activation in a .tflite's options; raises ConvertError on one that is not supported."""
    number = node.options.number(field, "b", 0)
    found = next((name for name, known in NUMBERS.items() if known == number), None)
    if found is None:
        name = OTHERS.get(number, "one newer than 2026")
        raise ConvertError(
            f"{node.name}: the fused activation must be none, RELU or RELU6, got {name}; make it an operator of its own"
        )
    return found


def activation_slot(field: int, activation: Activation) -> tuple[Literal["Int8"], int, int]:
    """What options_table writes for it."""
    return "Int8", field, NUMBERS[activation]
