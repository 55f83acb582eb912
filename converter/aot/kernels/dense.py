"""Const data of the int8 dense kernels: weights in the order that each form wants."""

from __future__ import annotations

import numpy as np

from converter.arrays import Int8

DENSE_OUTPUTS = 4  # NN_DENSE_SIMD_OUTPUTS


def pack_dense_weights(weights_oi: Int8) -> Int8:
    """The order nn_dense_s8_simd wants: see nn.h."""
    outputs, inputs = weights_oi.shape
    padded = np.zeros((-(-outputs // DENSE_OUTPUTS) * DENSE_OUTPUTS, -(-inputs // 4) * 4), np.int8)
    padded[:outputs, :inputs] = weights_oi
    blocks = padded.reshape(-1, DENSE_OUTPUTS, padded.shape[1] // 4, 4)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(-1)


def pack_dense_pairs(weights_oi: Int8) -> Int8:
    """The order nn_dense_pairs_s8_simd wants: see nn.h."""
    outputs, inputs = weights_oi.shape
    padded = np.zeros((-(-outputs // DENSE_OUTPUTS) * DENSE_OUTPUTS, -(-inputs // 4) * 4), np.int64)
    padded[:outputs, :inputs] = weights_oi
    pairs = (padded[0::2] + 256 * padded[1::2]).astype(np.int16)  # [pair of outputs, inputs]
    words = pairs.reshape(-1, DENSE_OUTPUTS // 2, padded.shape[1] // 4, 4)[..., [0, 2, 1, 3]]
    packed: Int8 = np.ascontiguousarray(words.transpose(0, 2, 1, 3)).astype("<i2").reshape(-1).view(np.int8)
    return packed
