"""Forms of other converters that are an operator of the Graph: PADV2 of zeros, a dilation that reaches nothing,
REDUCE_MAX over a map."""

from __future__ import annotations

import numpy as np
import pytest
from operator_checks import check_file
from tflite_files import TfliteFile

from converter.errors import ConvertError
from converter.operators.pad import Pad
from converter.tflite.reader import read_tflite

FINE = (0.05, 3)


def padded(value: int) -> bytes:
    file = TfliteFile()
    x, y = file.tensor((1, 3, 2), FINE), file.tensor((1, 4, 4), FINE, name="y")
    pads = file.constant(np.array([[0, 0], [0, 1], [2, 0]], np.int32))
    file.operator("PADV2", [x, pads, file.constant(np.array(value, np.int8), FINE)], [y], 43)
    return file.file([x], [y])


def test_padv2_of_zeros_is_pad(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = check_file(padded(3), monkeypatch)
    assert isinstance(graph.layers[0], Pad)
    with pytest.raises(ConvertError, match=r"^y: PADV2 is supported with the zero point 3, got \[4\]"):
        read_tflite(padded(4))


def dilated(kernel_hw: tuple[int, int], depthwise: bool) -> bytes:
    """A convolution of two channels, VALID, with a dilation of (height 2, width 1)."""
    file = TfliteFile()
    x = file.tensor((1, 5, 5, 2), FINE)
    y = file.tensor((1, 6 - kernel_hw[0], 6 - kernel_hw[1], 2), FINE, name="y")
    shape = (1, *kernel_hw, 2) if depthwise else (2, *kernel_hw, 2)
    weights = np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)
    operands = [x, file.constant(weights, (0.01, 0)), file.constant(np.array([40, -70], np.int32), (0.0005, 0))]
    strides = [("Int8", 0, 1), ("Int32", 1, 1), ("Int32", 2, 1)]
    if depthwise:
        slots = [*strides, ("Int32", 3, 1), ("Int32", 5, 1), ("Int32", 6, 2)]
    else:
        slots = [*strides, ("Int32", 4, 1), ("Int32", 5, 2)]
    file.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", operands, [y], 2 if depthwise else 1, *slots)
    return file.file([x], [y])


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_dilation_that_reaches_no_second_value_is_none(depthwise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    check_file(dilated((1, 3), depthwise), monkeypatch)
    with pytest.raises(ConvertError, match=r"^y: dilation is not supported, got \(height, width\) = \(2, 1\); pad"):
        read_tflite(dilated((2, 1), depthwise))


def largest(axes: list[int], y_shape: tuple[int, ...], quant: tuple[float, int] = FINE) -> bytes:
    file = TfliteFile()
    x, y = file.tensor((1, 3, 5, 4), FINE), file.tensor(y_shape, quant, name="y")
    operands = [x, file.constant(np.array(axes, np.int32))]
    file.operator("REDUCE_MAX", operands, [y], 27, ("Bool", 0, len(y_shape) == 4))
    return file.file([x], [y])


def test_the_largest_of_a_map_is_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    for axes, shape, layers in (
        ([1, 2], (1, 4), ["MaxPool2D", "Reshape"]),
        ([2, 1], (1, 1, 1, 4), ["MaxPool2D"]),
        ([-3, -2], (1, 4), ["MaxPool2D", "Reshape"]),
    ):
        graph = check_file(largest(axes, shape), monkeypatch)
        assert [type(layer).__name__ for layer in graph.layers] == layers
    with pytest.raises(ConvertError, match=r"^y: REDUCE_MAX is supported over axes 1 and 2 of four, got \[1\]"):
        read_tflite(largest([1], (1, 5, 4)))
    with pytest.raises(ConvertError, match=r"got \[1, 6\] of"):
        read_tflite(largest([1, 6], (1, 4)))
    with pytest.raises(ConvertError, match="y/largest: input and output need the same scale"):
        read_tflite(largest([1, 2], (1, 4), (0.1, 3)))
