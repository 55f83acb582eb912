"""Const data of the int8 convolutions: weights in the order that each form of the kernel wants."""

from __future__ import annotations

import numpy as np

from converter.arrays import Int8


def pack_conv_weights(weights_ohwi: Int8) -> Int8:
    """The order nn_conv_s8_simd wants: see nn.h."""
    channels, rows = weights_ohwi.shape[:2]
    taps = weights_ohwi.reshape(channels, rows, -1)
    row = taps.shape[2]
    order = [k for group in range(0, row - row % 4, 4) for k in (group, group + 2, group + 1, group + 3)] + list(
        range(row - row % 4, row)
    )
    padded = np.zeros((channels + channels % 2, rows, row + row % 2), np.int8)
    padded[:channels, :, :row] = taps[:, :, order]
    pairs = padded.reshape(-1, 2, rows * (row + row % 2))  # [pair of channels, a or b, taps]
    return np.ascontiguousarray(pairs.transpose(0, 2, 1)).reshape(-1)


def pack_row_weights(weights_ohwi: Int8) -> Int8:
    """The order nn_conv_rows_s8_simd wants: see nn.h."""
    channels, rows = weights_ohwi.shape[:2]
    taps = weights_ohwi.reshape(channels, rows, -1)
    padded = np.zeros((channels, rows, -(-taps.shape[2] // 4) * 4), np.int8)
    padded[:, :, : taps.shape[2]] = taps
    return np.ascontiguousarray(padded.reshape(-1, 4)[:, [0, 2, 1, 3]]).reshape(-1)
