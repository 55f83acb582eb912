"""The inner loops of nn_winograd_s8 as Cortex-M4 assembly for one layer's shape: 3 x 3 convolution by exact integer
Winograd, F(2x2, 3x3).

Two routines for a block of four tiles (4 rows of 10 columns of input, 2 rows of 8 columns of output). `transform`
widens the input to int16 and makes B^T d B, two channels a word. `multiply` runs pairs of output channels (a, b) over
the 16 points of the tiles: at each point a small matrix product, two words of weights and one word of each tile for
eight SMLADs, then A^T m A and the rounding of both channels. Loads stand in groups, since all but the first of a group
cost one cycle. What they compute is written in C in firmware/lib/nn/nn_winograd.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.aot.kernels.asm import CORE, Routine, add, enter, leave, loads, note
from converter.aot.kernels.pointwise_asm import products
from converter.aot.kernels.requantize import Rounding

TILES, POINTS, COLUMNS = 4, 16, 10  # of a block; columns of input
MAX_IN_C = 128  # the code of a point is 56 bytes a pair of channels
MAX_OUT_C = 500  # out of a store's reach beyond
MAX_ROW_BYTES = 1365  # out of a load's reach beyond
INIT = 2  # words in front of each point's weights: both biases at point 5, zeros elsewhere
# behind the 16 points: multiplier and addend_or_shift of a, then of b


@dataclass(frozen=True)
class WinogradShape:
    """in_c (a multiple of 4) bytes of a pixel to out_c (even); row_bytes from one row of the padded input to the
    next."""

    in_c: int
    out_c: int
    row_bytes: int
    rounding: Rounding

    @property
    def taps(self) -> int:
        """Pairs of input channels."""
        return self.in_c // 2

    @property
    def point_bytes(self) -> int:
        """Of the transformed input: [tile][tap], a word each."""
        return 4 * TILES * self.taps


def transform(shape: WinogradShape) -> Routine:
    """void name(const nn_winograd_args *): args->rows to args->v, [point][tile][tap].

    First d's rows are combined, column by column, into the frame: [column][channels 1 and 3 or 0 and 2][4 rows]; then
    its columns.
    """
    name = f"nn_winograd_in_{shape.in_c}_{shape.row_bytes}"
    frame = 4 * 8 * COLUMNS + 12
    rows, v, quads = frame - 12, frame - 8, frame - 4
    lines = [
        *enter(frame),
        "ldrd r1, r2, [r0]",
        f"mov r3, #{shape.in_c // 4}",
        f"str r1, [sp, #{rows}]",
        f"str r2, [sp, #{v}]",
        f"{name}_quad:",
        f"str r3, [sp, #{quads}]",
        f"ldr r0, [sp, #{rows}]",
        "mov lr, sp",
        "add.w r1, r0, #4",
        f"str r1, [sp, #{rows}]",
        f"mov r9, #{COLUMNS}",
        "vmov s0, r9",
        f"{name}_column:",
        note("B^T d: four rows of a column, four channels at once"),
        *loads([(f"r{1 + i}", f"r0, #{i * shape.row_bytes}" if i else "r0") for i in range(4)]),
        *(f"sxtb16 r{5 + i}, r{1 + i}" for i in range(4)),
        *(f"sxtb16 r{1 + i}, r{1 + i}, ror #8" for i in range(4)),
        *_combine(("r9", "r10", "r11", "r12"), ("r5", "r6", "r7", "r8")),
        *_combine(("r5", "r6", "r7", "r8"), ("r1", "r2", "r3", "r4")),
        "stm lr!, {r5-r12}",
        "vmov r1, s0",
        *add("r0", shape.in_c),
        "subs r1, r1, #1",
        "vmov s0, r1",
        f"bne.w {name}_column",
        f"ldr lr, [sp, #{v}]",
        "mov r0, sp",
        f"mov r9, #{POINTS // 4}",
        "vmov s0, r9",
        f"{name}_row:",
        note("(B^T d) B: a row of the four tiles to its four points"),
        *_columns(shape, 4, 0),
        *_columns(shape, 0, 1),
        "vmov r1, s0",
        *add("lr", 4 * shape.point_bytes),
        "add.w r0, r0, #4",
        "subs r1, r1, #1",
        "vmov s0, r1",
        f"bne.w {name}_row",
        f"ldrd r2, r3, [sp, #{v}]",
        "add.w r2, r2, #8",
        f"str r2, [sp, #{v}]",
        "subs r3, r3, #1",
        f"bne.w {name}_quad",
        *leave(frame),
    ]
    return Routine(name, "nn_winograd_args", tuple(lines), fpu=True)


def _combine(to: tuple[str, ...], d: tuple[str, ...]) -> list[str]:
    """One column of B^T d for two channels; `to` and `d` share no register."""
    return [
        f"ssub16 {to[0]}, {d[0]}, {d[2]}",
        f"sadd16 {to[1]}, {d[1]}, {d[2]}",
        f"ssub16 {to[2]}, {d[2]}, {d[1]}",
        f"ssub16 {to[3]}, {d[1]}, {d[3]}",
    ]


def _columns(shape: WinogradShape, stream: int, tap: int) -> list[str]:
    """One row of (B^T d) B for the four tiles, from the frame at r0 on to lr; `stream` of 8 words a column, tap 0 or 1
    of four channels."""
    lines = loads([(f"r{1 + c}", f"r0, #{4 * (8 * c + stream)}") for c in range(COLUMNS)])
    for tile in range(TILES):
        d = tuple(f"r{1 + 2 * tile + c}" for c in range(4))
        for point, step in enumerate(_combine(("r11", "r12", "r11", "r12"), d)):
            lines += [
                step,
                f"str.w r{11 + point % 2}, [lr, #{point * shape.point_bytes + 4 * (tile * shape.taps + tap)}]",
            ]
    return lines


def multiply(shape: WinogradShape) -> Routine:
    """void name(const nn_winograd_args *): args->v to 2 x 8 outputs of all channels at args->out and args->out +
    args->out_row.

    The frame: the products of a pair of channels [point][a of 4 tiles, b of 4 tiles], then four pointers.
    """
    name = f"nn_winograd_{shape.in_c}_{shape.out_c}_{shape.rounding.name}"
    room = 4 * 2 * TILES * POINTS
    v, out, out_row, end = (room + 4 * i for i in range(4))
    frame = room + 20
    lines = [
        *enter(frame),
        "ldr.w r1, [r0, #4]",
        "ldr.w r8, [r0, #8]",
        "ldr.w r2, [r0, #12]",
        "ldr.w r3, [r0, #16]",
        *add("r4", shape.out_c, "r2"),
        "add.w r3, r3, r2",
        f"strd r1, r2, [sp, #{v}]",
        f"strd r3, r4, [sp, #{out_row}]",
        f"{name}_pair:",
        f"ldr.w r9, [sp, #{v}]",
        "mov r11, sp",
        "vmov s0, r11",
        f"{name}_point:",
        note("one of 16 points: products of a pair of channels with all four tiles"),
        *products(shape.taps, CORE[:4], CORE[4:8], "r9", "r8", ("r10", "r11", "r12", "lr")),
        "vmov r11, s0",
        *add("r8", 4 * (INIT + 2 * shape.taps)),
        *add("r9", shape.point_bytes),
        "stm r11!, {r0-r7}",
        "vmov s0, r11",
        f"add.w r12, sp, #{room}",
        "cmp r11, r12",
        f"bne.w {name}_point",
        note("A^T m A of both channels, to int8 and out"),
        *_outputs(shape, out, out_row),
        "add.w r8, r8, #16",
        f"ldr.w r0, [sp, #{out}]",
        f"ldr.w r1, [sp, #{out_row}]",
        f"ldr.w r2, [sp, #{end}]",
        "add.w r0, r0, #2",
        "add.w r1, r1, #2",
        f"strd r0, r1, [sp, #{out}]",
        "cmp r0, r2",
        f"bne.w {name}_pair",
        *leave(frame),
    ]
    return Routine(name, "nn_winograd_args", tuple(lines), fpu=True)


def _outputs(shape: WinogradShape, out: int, out_row: int) -> list[str]:
    """A^T m A, rounded and stored, of both channels and four tiles; r8 points at the pair's constants."""
    lines = []
    for channel in range(2):
        lines += [f"ldrd r10, r11, [r8, #{8 * channel}]"]
        for tile in range(TILES):
            for q in range(4):  # r0, r2, r4, r6: upper row of A^T m, r1, r3, r5, r7: lower row
                upper, lower, m2, m3 = f"r{2 * q}", f"r{2 * q + 1}", "r9", "r12"
                at = 32 * q + 4 * (TILES * channel + tile)
                lines += loads([(r, f"sp, #{at + 128 * p}") for p, r in enumerate((upper, lower, m2, m3))])
                lines += [
                    f"add.w {upper}, {upper}, {lower}",
                    f"sub.w {lower}, {lower}, {m2}",
                    f"add.w {upper}, {upper}, {m2}",
                    f"sub.w {lower}, {lower}, {m3}",
                ]
            for low in (0, 1):
                y0, y1, y2, y3 = (f"r{2 * q + low}" for q in range(4))
                lines += [
                    f"add.w {y0}, {y0}, {y1}",
                    f"sub.w {y1}, {y1}, {y2}",
                    f"add.w {y0}, {y0}, {y2}",
                    f"sub.w {y1}, {y1}, {y3}",
                ]
            sums = ["r0", "r2", "r1", "r3"]  # (0, 0), (0, 1), (1, 0), (1, 1)
            halved = [] if shape.rounding.shift else [f"asr.w {s}, {s}, #1" for s in sums]
            lines += [
                *halved,
                *shape.rounding.lines(sums, "r10", "r11"),
                *loads([("r9", f"sp, #{out}"), ("r12", f"sp, #{out_row}")]),
            ]
            at = 2 * tile * shape.out_c + channel
            lines += [
                f"strb.w r0, [r9, #{at}]",
                f"strb.w r2, [r9, #{at + shape.out_c}]",
                f"strb.w r1, [r12, #{at}]",
                f"strb.w r3, [r12, #{at + shape.out_c}]",
            ]
    return lines
