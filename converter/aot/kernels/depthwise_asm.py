"""The inner loops of nn_depthwise3_s8 as Cortex-M4 assembly for one layer's shape: a 3 x 3 depthwise convolution, one
plane after another.

A plane is one channel of the input, widened, as words of two values that stand one above the other, column by column.
Down a column of outputs all weights and the current words of three columns stay in registers: with stride 1 two outputs
take three new words, one load group, and twelve multiply-accumulates. Bias, multiplier, the plane's address and the end
wait in the FPU, from where a move costs one cycle. A second routine takes four planes out of the input. What both
compute is written in C in firmware/lib/nn/nn_depthwise3.c, which runs in their place on other CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.aot.kernels.asm import Routine, add, enter, leave, loads, note
from converter.aot.kernels.requantize import Rounding

MAX_ROWS = 33  # of outputs in a piece; the code takes 54 bytes a row
RECORD_WORDS = 9  # of a channel: (w0, w1) of each kernel column, (w1, w2) of each, bias, multiplier, second constant
MAX_ROW_BYTES = 4095  # a store's reach
TAKE = 24  # where in nn_depthwise3_args what the second routine is given begins
UNROLLED = 8  # columns that it takes without a loop
# the frame: nn_depthwise3_args, the plane's address less what the way into the unrolled code leaves out, then that way
PLANE, WEIGHTS, OUT, CHANNELS, COLUMNS, ROWS, ENTRY, SKIPPED = range(0, 32, 4)
FRAME = 32


@dataclass(frozen=True)
class DepthwiseShape:
    """Pieces of at most `rows` rows of outputs; row_bytes from one output to the one below, channels from one to its
    right neighbour."""

    rows: int
    stride_h: int
    stride_w: int
    row_bytes: int
    channels: int
    plane_words: int  # of a column
    plane_bytes: int
    in_w: int
    taken: int  # columns of the input that outputs look at
    rounding: Rounding

    @property
    def name(self) -> str:
        """Of the routines, equal for equal shapes."""
        sizes = (
            self.rows,
            self.stride_h,
            self.stride_w,
            self.row_bytes,
            self.channels,
            self.plane_words,
            self.plane_bytes,
            self.in_w,
            self.taken,
        )
        return "nn_depthwise3_" + "_".join(map(str, sizes))

    @property
    def unrolled(self) -> int:
        """Steps of the unrolled code: pairs of rows with stride 1, else rows."""
        return self.rows // 2 if self.stride_h == 1 else self.rows


U, V, X, Y, TO, F, SECOND = (
    ("r0", "r1", "r2"),
    ("r3", "r4", "r5"),
    ("r6", "r7", "r8"),
    ("r9", "r10"),
    "r11",
    "r12",
    "lr",
)
BIAS, MULTIPLIER, AT, FIRST, LEFT = (
    "s0",
    "s1",
    "s2",
    "s3",
    "s4",
)  # AT: words of this column; FIRST: its first output; LEFT: columns left


def routine(shape: DepthwiseShape) -> Routine:
    """void name(const nn_depthwise3_args *): `channels` planes, `rows` rows of `columns` outputs each."""
    name, (y, _) = _full_name(shape), Y
    steps = [line for number in range(shape.unrolled) for line in step(shape, number)]
    lines = [
        *enter(FRAME),
        "ldm r0, {r1-r6}",
        *(["lsrs r0, r6, #1"] if shape.stride_h == 1 else ["mov r0, r6"]),
        f"movw r7, #{4 * len(step(shape, 0))}",
        f"adr.w r8, {name}_end",
        "mls r7, r0, r7, r8",
        "orr r7, r7, #1",
        f"rsb r8, r0, #{shape.unrolled}",
        "lsl r8, r8, #2",
        "sub r1, r1, r8",
        "stm sp, {r1-r8}",
        f"{name}_channel:",
        note("a channel: its nine weights in six words, its bias, its multiplier"),
        f"ldr r6, [sp, #{WEIGHTS}]",
        "ldm r6!, {r0-r5, r9, r10, lr}",
        f"str r6, [sp, #{WEIGHTS}]",
        f"vmov {BIAS}, r9",
        f"vmov {MULTIPLIER}, r10",
        f"ldr r6, [sp, #{COLUMNS}]",
        f"ldr.w {F}, [sp, #{PLANE}]",
        f"ldr.w {TO}, [sp, #{OUT}]",
        f"vmov {LEFT}, r6",
        f"{name}_column:",
        note("a column of outputs downwards, into the unrolled steps so that `rows` of them are left"),
        f"vmov {AT}, {F}",
        f"vmov {FIRST}, {TO}",
        *loads([(y, f"sp, #{SKIPPED}"), (Y[1], f"sp, #{ENTRY}")]),
        f"add {y}, {y}, {F}",
        *loads((x, f"{y}, #{4 * shape.plane_words * j}") for j, x in enumerate(X)),
        f"bx {Y[1]}",
        ".balign 4",
        *steps,
        f"{name}_end:",
        note("next column, then next channel"),
        *(last_row(shape) if shape.stride_h == 1 else []),
        f"vmov {F}, {AT}",
        f"vmov {TO}, {FIRST}",
        f"vmov {y}, {LEFT}",
        *add(F, 4 * shape.plane_words * shape.stride_w),
        *add(TO, shape.channels),
        f"subs {y}, {y}, #1",
        f"vmov {LEFT}, {y}",
        f"bne.w {name}_column",
        *loads([("r6", f"sp, #{PLANE}"), ("r7", f"sp, #{OUT}"), ("r8", f"sp, #{CHANNELS}")]),
        *add("r6", shape.plane_bytes),
        "add r7, r7, #1",
        "subs r8, r8, #1",
        f"str r6, [sp, #{PLANE}]",
        f"str r7, [sp, #{OUT}]",
        f"str r8, [sp, #{CHANNELS}]",
        f"bne.w {name}_channel",
        *leave(FRAME),
    ]
    return Routine(name, "nn_depthwise3_args", tuple(lines), fpu=True)


def _full_name(shape: DepthwiseShape) -> str:
    return f"{shape.name}_{shape.rounding.name}"


def step(shape: DepthwiseShape, number: int) -> list[str]:
    """One output, or two with stride 1, all instructions of four bytes. X holds its first words, and then those of the
    next step."""
    y, below = Y
    pairs = shape.stride_h == 1
    lines = [f"vmov {F}, {BIAS}"]
    for j, (x, u) in enumerate(zip(X, U, strict=True)):
        lines += [
            f"smlad {y}, {x}, {u}, {y if j else F}",
            *([f"smlatb {below}, {x}, {u}, {below if j else F}"] if pairs else []),
        ]
    lines += _next_words(shape, number + 1)
    for x, v in zip(X, V, strict=True):
        lines += [f"smlabt {y}, {x}, {v}, {y}", *([f"smlad {below}, {x}, {v}, {below}"] if pairs else [])]
    lines += [f"vmov {F}, {MULTIPLIER}", *shape.rounding.lines(Y if pairs else [y], F, SECOND), f"strb.w {y}, [{TO}]"]
    return [
        *lines,
        *([f"strb.w {below}, [{TO}, #{shape.row_bytes}]"] if pairs else []),
        *add(TO, (1 + pairs) * shape.row_bytes),
    ]


def last_row(shape: DepthwiseShape) -> list[str]:
    """The last of an odd number of rows."""
    y, flag = Y
    lines = [
        f"ldr.w {flag}, [sp, #{ROWS}]",
        f"lsls {flag}, {flag}, #31",
        f"beq {_full_name(shape)}_even",
        f"vmov {F}, {BIAS}",
    ]
    lines += [f"smlad {y}, {x}, {u}, {y if j else F}" for j, (x, u) in enumerate(zip(X, U, strict=True))]
    lines += _next_words(shape, shape.unrolled + 1)
    lines += [f"smlabt {y}, {x}, {v}, {y}" for x, v in zip(X, V, strict=True)]
    lines += [f"vmov {F}, {MULTIPLIER}", *shape.rounding.lines([y], F, SECOND), f"strb.w {y}, [{TO}]"]
    return [*lines, f"{_full_name(shape)}_even:"]


def _next_words(shape: DepthwiseShape, number: int) -> list[str]:
    return [f"vmov {F}, {AT}", *loads((x, f"{F}, #{4 * (number + shape.plane_words * j)}") for j, x in enumerate(X))]


TOP, BOTTOM, TOP_STEP, BOTTOM_STEP, T, B, LOW, PART, OFFSET, TO_01, TO_23, ROW, END, INPUT = (
    "r0",
    "r1",
    "r2",
    "r3",
    "r4",
    "r5",
    "r6",
    "r7",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "lr",
)
ZEROS, PAIRS_LEFT, COLUMNS_LEFT, TAKE_FRAME = 0, 4, 8, 12


def take_routine(shape: DepthwiseShape) -> Routine:
    """void name(const nn_depthwise3_args *): `pairs` words of each column of the planes of four channels, from input
    row y on."""
    name = f"{shape.name}_take"
    rounds, rest = divmod(shape.taken, 4) if shape.taken > UNROLLED else (0, shape.taken)
    back = 16 * shape.plane_words * rounds - 4
    row = shape.in_w * shape.channels
    lines = [
        *enter(TAKE_FRAME),
        f"add r0, r0, #{TAKE}",
        "ldm r0, {r1-r7}",
        f"str r6, [sp, #{ZEROS}]",
        f"str r4, [sp, #{PAIRS_LEFT}]",
        f"mov {INPUT}, r1",
        f"mov {TO_01}, r2",
        *add(TO_23, 2 * shape.plane_bytes, "r2"),
        f"mov {ROW}, r3",
        f"mov {END}, r5",
        f"mov {OFFSET}, r7",
        f"{name}_pair:",
        note("two input rows, or zeros where they lie outside"),
        *_choose_row(shape, TOP, TOP_STEP, 0),
        f"add {ROW}, {ROW}, #1",
        *_choose_row(shape, BOTTOM, BOTTOM_STEP, row),
        f"add {ROW}, {ROW}, #1",
        *add(INPUT, 2 * row),
        note("columns of four channels, less the zero point: the two rows of a channel to a word"),
        *(
            [
                f"movw {LOW}, #{rounds}",
                f"{name}_four:",
                f"str {LOW}, [sp, #{COLUMNS_LEFT}]",
                *_take_columns(shape, 4),
                *add(TO_01, 16 * shape.plane_words),
                *add(TO_23, 16 * shape.plane_words),
                f"ldr {LOW}, [sp, #{COLUMNS_LEFT}]",
                f"subs {LOW}, {LOW}, #1",
                f"bne.w {name}_four",
            ]
            if rounds
            else []
        ),
        *_take_columns(shape, rest),
        *add(TO_01, -back),
        *add(TO_23, -back),
        f"ldr {T}, [sp, #{PAIRS_LEFT}]",
        f"subs {T}, {T}, #1",
        f"str {T}, [sp, #{PAIRS_LEFT}]",
        f"bne.w {name}_pair",
        *leave(TAKE_FRAME),
    ]
    return Routine(name, "nn_depthwise3_args", tuple(lines))


def _choose_row(shape: DepthwiseShape, pointer: str, step: str, offset: int) -> list[str]:
    """The input row `offset` bytes on, or outside the input the word of zeros again and again."""
    return [
        *add(pointer, offset, INPUT),
        f"movw {step}, #{shape.channels}",
        f"cmp {ROW}, {END}",
        "itt hs",
        f"movhs {pointer}, sp",
        f"movhs {step}, #0",
    ]


def _take_columns(shape: DepthwiseShape, count: int) -> list[str]:
    lines = []
    for column in range(count):
        at = 4 * shape.plane_words * column
        lines += [
            *loads([(T, TOP), (B, BOTTOM)]),
            f"add {TOP}, {TOP}, {TOP_STEP}",
            f"add {BOTTOM}, {BOTTOM}, {BOTTOM_STEP}",
            f"pkhbt {LOW}, {T}, {B}, lsl #16",
            f"pkhtb {T}, {B}, {T}, asr #16",
        ]
        for pair, to in ((LOW, TO_01), (T, TO_23)):
            lines += [
                f"sxtab16 {PART}, {OFFSET}, {pair}",
                f"sxtab16 {pair}, {OFFSET}, {pair}, ror #8",
                f"str.w {PART}, [{to}, #{at}]",
                f"str.w {pair}, [{to}, #{at + shape.plane_bytes}]",
            ]
    return lines
