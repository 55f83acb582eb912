"""Operators on shapes: what they compute is known before any inference, so no layer comes of them.

Converters write the shape behind a RESHAPE with SHAPE, STRIDED_SLICE and PACK to leave the batch open.
"""

from __future__ import annotations

import numpy as np

from converter.arrays import Int64
from converter.errors import ConvertError, require
from converter.formats.slices import ranges_of
from converter.formats.tflite import INT32, INT64, Table
from converter.tflite.file import TfliteFile

PACK_AXIS = 1  # of PackOptions
MOST_VALUES = 64  # of a shape and what is made of it


def fold(file: TfliteFile, name: str, operator: str, inputs: list[int], options: Table | None) -> Int64 | None:
    """The operator's integers; None where it is none of these or computes with activations. Raises ConvertError."""
    if operator == "SHAPE" and len(inputs) == 1:
        return np.array(file.shape(name, inputs[0]), np.int64)
    if operator not in ("STRIDED_SLICE", "PACK") or options is None or not inputs:
        return None
    if not all(_is_known(file, name, index) for index in inputs):
        return None
    values = [file.integers(name, index) for index in inputs]
    require(all(value.size <= MOST_VALUES for value in values), name, "folds more integers than any shape has")
    if operator == "PACK":
        axis = options.number(PACK_AXIS, "i", 0)
        if len({value.shape for value in values}) > 1 or not -values[0].ndim - 1 <= axis <= values[0].ndim:
            raise ConvertError(f"{name}: PACK needs operands of one shape and an axis of theirs, got axis {axis}")
        return np.stack(values, axis)
    require(len(values) == 4, name, f"STRIDED_SLICE needs 4 operands, got {len(values)}")
    ranges, shrunk = ranges_of(name, options, values[0].shape, *values[1:])
    for axis, taken in enumerate(ranges):
        values[0] = np.take(values[0], taken, axis)
    found: Int64 = values[0].squeeze(tuple(axis for axis, one in enumerate(shrunk) if one))
    return found


def _is_known(file: TfliteFile, name: str, index: int) -> bool:
    return index in file.folded or (file.type_of(name, index) in (INT32, INT64) and bool(file.data(name, index)))
