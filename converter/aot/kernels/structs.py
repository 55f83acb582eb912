"""The const structs of firmware/lib/nn/nn.h and nn_lowbit.h, one frozen dataclass each: same fields, same order.

nn.h says what a field means and how weights lie. `struct` is the C type, `header` the file that declares it.
tests/kernels/test_structs.py compares both with the headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, Union

from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.low_bits.dense_lowbit_asm import DenseCode
from converter.arrays import Int8, Int32


@dataclass(frozen=True, eq=False)
class Channels:
    """nn_channel[n]: int32 bias, multiplier and shift of n output channels."""

    bias: Int32
    multiplier: Int32
    shift: Int32


@dataclass(frozen=True)
class NnOutput:
    """nn_output: zero point and range of the outputs, and whether every |sum| stays below 2**30 (0 or 1)."""

    struct: ClassVar[str] = "nn_output"
    out_zero: int
    act_min: int
    act_max: int
    sum_below_2_30: int


@dataclass(frozen=True, eq=False)
class Unpacked:
    """A table of `words` words, of C type `kind`, that nn_unpack makes in RAM: at this offset of the arena, or in a
    place of its own."""

    packed: Int32
    kind: str
    words: int
    offset: int | None = None


@dataclass(frozen=True)
class Sums:
    """Room in RAM for so many words."""

    words: int


@dataclass(frozen=True, eq=False)
class NnConvLayer:
    """nn_conv_layer: of nn_conv_s8, nn_depthwise_s8 and their SIMD forms."""

    struct: ClassVar[str] = "nn_conv_layer"
    header: ClassVar[str] = "nn.h"
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    in_zero: int
    output: NnOutput
    weights: Int8 | Unpacked
    channels: Channels
    code: AsmCode | None


@dataclass(frozen=True, eq=False)
class NnConvPackedLayer:
    """nn_conv_packed_layer: two weights and two inputs to an operand."""

    struct: ClassVar[str] = "nn_conv_packed_layer"
    header: ClassVar[str] = "nn.h"
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    stride_h: int
    pad_top: int
    pad_left: int
    in_zero: int
    taps: int
    tail: int
    row_words: int
    shift: int
    relu: int
    weights: Int32 | Unpacked
    channels: Int32
    code: AsmCode | None
    sums: Sums | None = None
    resumed_rows: int = 0
    first_kept_row: int = 0
    first_new_row: int = 0


@dataclass(frozen=True, eq=False)
class NnPointwiseLayer:
    """nn_pointwise_layer: patches of few values, those of 1 x 1 kernels as they lie in the input."""

    struct: ClassVar[str] = "nn_pointwise_layer"
    header: ClassVar[str] = "nn.h"
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    in_zero: int
    out_zero: int
    shift: int
    pairs: int
    weights: Int32 | Unpacked
    constants: Int8 | None
    code: AsmCode | None


@dataclass(frozen=True, eq=False)
class NnDepthwise3Layer:
    """nn_depthwise3_layer: depthwise kernels of 3 x 3, `rows` rows of outputs at a time."""

    struct: ClassVar[str] = "nn_depthwise3_layer"
    header: ClassVar[str] = "nn.h"
    in_h: int
    in_w: int
    channels: int
    out_h: int
    out_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    in_zero: int
    out_zero: int
    shift: int
    rows: int
    weights: Int32 | Unpacked
    code: AsmCode | None


@dataclass(frozen=True, eq=False)
class NnDepthwiseTimeLayer:
    """nn_depthwise_time_layer: depthwise kernels of kernel_h x 1."""

    struct: ClassVar[str] = "nn_depthwise_time_layer"
    header: ClassVar[str] = "nn.h"
    in_h: int
    in_w: int
    channels: int
    out_h: int
    kernel_h: int
    pad_top: int
    in_zero: int
    out_zero: int
    shift: int
    doublings: int
    weights: Int32 | Unpacked
    code: AsmCode | None


@dataclass(frozen=True, eq=False)
class NnWinogradLayer:
    """nn_winograd_layer: kernels of 3 x 3 and stride 1 by Winograd."""

    struct: ClassVar[str] = "nn_winograd_layer"
    header: ClassVar[str] = "nn.h"
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    pad_top: int
    pad_left: int
    in_zero: int
    out_zero: int
    shift: int
    weights: Int32 | Unpacked
    code: AsmCode | None


@dataclass(frozen=True, eq=False)
class NnDenseLayer:
    """nn_dense_layer: FULLY_CONNECTED with int8 weights."""

    struct: ClassVar[str] = "nn_dense_layer"
    header: ClassVar[str] = "nn.h"
    rows: int
    in_n: int
    out_n: int
    output: NnOutput
    weights: Int8
    channels: Channels
    code: AsmCode | None


@dataclass(frozen=True, eq=False)
class NnDenseLowbitLayer:
    """nn_dense_lowbit_layer: FULLY_CONNECTED with weights of 2 or 4 bits."""

    struct: ClassVar[str] = "nn_dense_lowbit_layer"
    header: ClassVar[str] = "nn_lowbit.h"
    rows: int
    in_n: int
    out_n: int
    bits: int
    offset: int
    base: int
    output: NnOutput
    weights: Int32
    channels: Channels
    code: DenseCode


@dataclass(frozen=True, eq=False)
class NnDenseSparseLayer:
    """nn_dense_sparse_layer: FULLY_CONNECTED by its non-zero weights."""

    struct: ClassVar[str] = "nn_dense_sparse_layer"
    header: ClassVar[str] = "nn_lowbit.h"
    rows: int
    in_n: int
    out_n: int
    distance_bits: int
    bits: int
    output: NnOutput
    weights: Int32
    groups: Int32
    channels: Channels
    code: DenseCode


@dataclass(frozen=True)
class NnPoolLayer:
    """nn_pool_layer: AVERAGE_POOL_2D and MAX_POOL_2D."""

    struct: ClassVar[str] = "nn_pool_layer"
    header: ClassVar[str] = "nn.h"
    in_h: int
    in_w: int
    channels: int
    out_h: int
    out_w: int
    window_h: int
    window_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    act_min: int
    act_max: int


@dataclass(frozen=True)
class NnAddLayer:
    """nn_add_layer: ADD of `count` values."""

    struct: ClassVar[str] = "nn_add_layer"
    header: ClassVar[str] = "nn.h"
    count: int
    zero_a: int
    multiplier_a: int
    shift_a: int
    zero_b: int
    multiplier_b: int
    shift_b: int
    multiplier_out: int
    shift_out: int
    out_zero: int
    act_min: int
    act_max: int


@dataclass(frozen=True)
class NnAddWeightedLayer:
    """nn_add_weighted_layer: ADD of `count` values by one product each."""

    struct: ClassVar[str] = "nn_add_weighted_layer"
    header: ClassVar[str] = "nn.h"
    count: int
    weight_a: int
    weight_b: int
    offset: int


@dataclass(frozen=True, eq=False)
class NnSoftmaxLayer:
    """nn_softmax_layer: SOFTMAX over rows of `depth`; exp_table holds int32 Q0.31."""

    struct: ClassVar[str] = "nn_softmax_layer"
    header: ClassVar[str] = "nn.h"
    rows: int
    depth: int
    table_length: int
    exp_table: Int32


@dataclass(frozen=True)
class NnMeanLayer:
    """nn_mean_layer: MEAN of maps per channel."""

    struct: ClassVar[str] = "nn_mean_layer"
    header: ClassVar[str] = "nn.h"
    maps: int
    count: int
    channels: int
    zero_sum: int
    multiplier: int
    shift: int
    out_zero: int


@dataclass(frozen=True)
class NnPadLayer:
    """nn_pad_layer: PAD of four axes."""

    struct: ClassVar[str] = "nn_pad_layer"
    header: ClassVar[str] = "nn.h"
    in_shape: tuple[int, ...]
    before: tuple[int, ...]
    out_shape: tuple[int, ...]
    value: int


@dataclass(frozen=True, eq=False)
class NnAddRepeatLayer:
    """nn_add_repeat_layer: ADD whose second operand repeats or is a constant."""

    struct: ClassVar[str] = "nn_add_repeat_layer"
    header: ClassVar[str] = "nn.h"
    blocks: int
    count: int
    repeat: int
    zero_a: int
    multiplier_a: int
    shift_a: int
    zero_b: int
    multiplier_b: int
    shift_b: int
    multiplier_out: int
    shift_out: int
    out_zero: int
    act_min: int
    act_max: int
    constant: Int8 | None


@dataclass(frozen=True, eq=False)
class NnMulLayer:
    """nn_mul_layer: MUL."""

    struct: ClassVar[str] = "nn_mul_layer"
    header: ClassVar[str] = "nn.h"
    blocks: int
    count: int
    repeat: int
    zero_a: int
    zero_b: int
    multiplier: int
    shift: int
    out_zero: int
    act_min: int
    act_max: int
    constant: Int8 | None


@dataclass(frozen=True, eq=False)
class NnTableLayer:
    """nn_table_layer: an output for each int8."""

    struct: ClassVar[str] = "nn_table_layer"
    header: ClassVar[str] = "nn.h"
    count: int
    table: Int8


@dataclass(frozen=True, eq=False)
class NnConcatenationLayer:
    """nn_concatenation_layer: of any number of operands."""

    struct: ClassVar[str] = "nn_concatenation_layer"
    header: ClassVar[str] = "nn.h"
    rows: int
    operands: int
    widths: Int32


@dataclass(frozen=True)
class NnStridedCopyLayer:
    """nn_strided_copy_layer: TRANSPOSE and STRIDED_SLICE."""

    struct: ClassVar[str] = "nn_strided_copy_layer"
    header: ClassVar[str] = "nn.h"
    first: int
    shape: tuple[int, ...]
    step: tuple[int, ...]


CONVOLUTIONS = (
    NnConvLayer,
    NnConvPackedLayer,
    NnPointwiseLayer,
    NnDepthwise3Layer,
    NnDepthwiseTimeLayer,
    NnWinogradLayer,
)
NnLayer = Union[
    NnConvLayer,
    NnConvPackedLayer,
    NnPointwiseLayer,
    NnDepthwise3Layer,
    NnDepthwiseTimeLayer,
    NnWinogradLayer,
    NnDenseLayer,
    NnDenseLowbitLayer,
    NnDenseSparseLayer,
    NnPoolLayer,
    NnAddLayer,
    NnAddWeightedLayer,
    NnSoftmaxLayer,
    NnMeanLayer,
    NnPadLayer,
    NnAddRepeatLayer,
    NnMulLayer,
    NnTableLayer,
    NnConcatenationLayer,
    NnStridedCopyLayer,
]
Value = Union[int, tuple[int, ...], Int8, Int32, Channels, NnOutput, Unpacked, Sums, AsmCode, DenseCode, None]


@dataclass(frozen=True)
class Scratch:
    """RAM that a kernel may use during a call: the macro of nn.h that says how much, its arguments, and the bytes."""

    macro: str
    sizes: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, eq=False)
class Kernel:
    """A call of the C function `function` on the const struct `layer`."""

    function: str
    layer: NnLayer
    scratch: Scratch | None = None

    @property
    def scratch_bytes(self) -> int:
        """Of RAM while the kernel runs."""
        return self.scratch.bytes if self.scratch else 0


def members(struct: NnLayer | NnOutput) -> Iterator[tuple[str, Value]]:
    """(name, value) of every field, in the order of the C struct."""
    for field in fields(struct):
        yield field.name, getattr(struct, field.name)
