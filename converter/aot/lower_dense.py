"""From a dense layer to the const data of the fastest kernel that takes it."""

from __future__ import annotations

import numpy as np

from converter import quant
from converter.aot.kernels import dense_asm, requantize
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.dense import pack_dense_pairs, pack_dense_weights
from converter.aot.kernels.low_bits import dense_lowbit
from converter.aot.kernels.low_bits.dense_lowbit_asm import DenseCode, PackedShape, SparseShape
from converter.aot.kernels.structs import Kernel, NnDenseLayer, NnDenseLowbitLayer, NnDenseSparseLayer
from converter.arrays import Int8
from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected
from converter.operators.weighted import largest_sums


def lower_dense(graph: Graph, layer: FullyConnected, simd: bool) -> Kernel:
    """Weights as bytes, as a low-bit table or as the entries that are not zero, whichever is fastest."""
    x, y, in_size = graph.tensors[layer.input].quant, graph.tensors[layer.output].quant, graph.tensors[layer.input].size
    x_range = dense_lowbit.value_range(graph, layer.input) if simd else None
    out_n, in_n = layer.weights_oi.shape
    if in_size % in_n:
        raise ConvertError(
            f"{layer.name}: FULLY_CONNECTED takes {in_n} inputs a row, got {in_size} values; reshape the input"
        )
    weights = layer.weights_oi.astype(np.int64)
    bias = layer.bias.astype(np.int64)
    multipliers = quant.fully_connected_multipliers(x, layer.weight_quant, y, out_n)
    channels = requantize.channel_constants(bias - x.zero_point * weights.sum(axis=1), multipliers)
    output = requantize.output_range(layer.activation, y, largest_sums(layer.weights_oi, layer.bias, x), channels)
    rows = in_size // in_n
    shape = dense_lowbit.choose_dense(layer.weights_oi, x_range).shape if x_range else None
    if isinstance(shape, PackedShape):
        centred = requantize.channel_constants(bias + (shape.base - x.zero_point) * weights.sum(axis=1), multipliers)
        packed = dense_lowbit.pack_dense(layer.weights_oi, shape)
        return Kernel(
            "nn_dense_lowbit_s8",
            NnDenseLowbitLayer(
                rows, in_n, out_n, shape.bits, shape.offset, shape.base, output, packed, centred, DenseCode(shape)
            ),
        )
    if isinstance(shape, SparseShape):
        entries, groups = dense_lowbit.pack_sparse(layer.weights_oi, shape)
        return Kernel(
            "nn_dense_sparse_s8",
            NnDenseSparseLayer(
                rows, in_n, out_n, shape.distance_bits, shape.bits, output, entries, groups, channels, DenseCode(shape)
            ),
        )
    function, table, code = _dense_form(layer.weights_oi) if x_range else _portable_dense(layer.weights_oi)
    return Kernel(function, NnDenseLayer(rows, in_n, out_n, output, table, channels, code))


def _dense_form(weights_oi: Int8) -> tuple[str, Int8, AsmCode | None]:
    """(kernel, packed weights, code) for int8 weights."""
    if int(weights_oi.min()) > -128:
        code = AsmCode("nn_dense_code", (dense_asm.routine(),))
        return "nn_dense_pairs_s8_simd", pack_dense_pairs(weights_oi), code
    return "nn_dense_s8_simd", pack_dense_weights(weights_oi), None


def _portable_dense(weights_oi: Int8) -> tuple[str, Int8, None]:
    return "nn_dense_s8", np.ascontiguousarray(weights_oi).reshape(-1), None
