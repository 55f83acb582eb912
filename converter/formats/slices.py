"""Which elements a STRIDED_SLICE takes."""

from __future__ import annotations

from converter.arrays import Int64
from converter.errors import require
from converter.formats.tflite import Table

BEGIN_MASK, END_MASK, ELLIPSIS_MASK, NEW_AXIS_MASK, SHRINK_MASK, OFFSET = range(6)  # of StridedSliceOptions


def ranges_of(
    name: str, options: Table, shape: tuple[int, ...], begin: Int64, end: Int64, strides: Int64
) -> tuple[tuple[range, ...], tuple[bool, ...]]:
    """For each axis of `shape` its indices, and whether the output leaves the axis out. Raises ConvertError.

    Source: TensorFlow Lite's StartForAxis and StopForAxis, which clamp as Python's slices do.
    """
    rank = len(shape)
    given = {len(values.ravel()) for values in (begin, end, strides)}
    require(given == {rank}, name, f"STRIDED_SLICE needs begin, end and strides for each axis of {shape}")
    masks = [options.number(field, "i", 0) for field in range(OFFSET)]
    plain = not (masks[ELLIPSIS_MASK] or masks[NEW_AXIS_MASK] or options.number(OFFSET, "B", 0))
    require(plain, name, "STRIDED_SLICE is supported without ellipsis, new axes and relative ends; export it without")
    bits = [[bool(mask >> axis & 1) for axis in range(rank)] for mask in masks]
    found = []
    for axis, size in enumerate(shape):
        step = int(strides.ravel()[axis])
        require(step != 0, name, f"the stride of axis {axis} is 0; no slice has such")
        start = None if bits[BEGIN_MASK][axis] else int(begin.ravel()[axis])
        stop = None if bits[END_MASK][axis] else int(end.ravel()[axis])
        taken = range(*slice(start, stop, step).indices(size))
        if bits[SHRINK_MASK][axis]:  # one element, wherever the end is
            taken = range(taken.start, taken.start + 1)
            require(
                step > 0, name, f"axis {axis} is left out with stride {step}; TensorFlow Lite Micro takes nothing then"
            )
            require(0 <= taken.start < size, name, f"begins at {start} of axis {axis}, which has {size}")
        require(len(taken) > 0, name, f"takes nothing of axis {axis} of {shape}; export it without")
        found.append(taken)
    return tuple(found), tuple(bits[SHRINK_MASK])
