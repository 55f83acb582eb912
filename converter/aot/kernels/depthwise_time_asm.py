"""The loop of nn_depthwise_time_s8 as Cortex-M4 assembly for one layer's shape: one pixel, four channels at a time.

A word of one row and the word of the row below are four channels twice. PKHBT and PKHTB put the two rows side by side,
SXTB16 widens them to pairs (upper row, lower row) of one channel, and one SMLAD multiplies both taps: two rows of four
channels are six words loaded in one group, six instructions to widen and four SMLADs, 17 cycles for eight products. An
odd last row takes SMLABB and its kind. Everything is unrolled; the end of the channels waits in the FPU. What it
computes is written in C in firmware/lib/nn/nn_depthwise_time.c, which runs in its place on other CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.aot.kernels.asm import Routine, add, enter, leave, loads, note
from converter.aot.kernels.requantize import Rounding

GROUP = 4  # channels
WRITEBACK = 255  # reach of a load that moves its pointer, and of one with a negative offset


@dataclass(frozen=True)
class DepthwiseTimeShape:
    """kernel_h rows, row_bytes from one to the next; sums are multiplied by 2**doublings."""

    kernel_h: int
    row_bytes: int
    doublings: int
    rounding: Rounding

    @property
    def name(self) -> str:
        """Of the routine, equal for equal shapes."""
        return f"nn_depthwise_time_{self.kernel_h}_{self.row_bytes}_{self.doublings}_{self.rounding.name}"

    @property
    def pairs(self) -> int:
        """Of rows."""
        return self.kernel_h // 2

    @property
    def record_words(self) -> int:
        """NN_DEPTHWISE_TIME_RECORD"""
        return 3 * GROUP + GROUP * self.pairs + 2 * (self.kernel_h % 2)


X, W, OUT, SUMS, FREE, END = (
    "r0",
    "r1",
    "r2",
    ("r3", "r4", "r5", "r6"),
    ("r7", "r8", "r9", "r10", "r11", "r12", "lr"),
    "s0",
)


def routine(shape: DepthwiseTimeShape) -> Routine:
    """void name(const nn_depthwise_time_args *): from `out` to `end`, four channels a turn."""
    name, last = shape.name, FREE[0]
    lines = [
        *enter(0),
        "ldm r0, {r0-r3}",
        f"vmov {END}, r3",
        f"{name}_four:",
        note("four channels: sums from the biases on, two rows at a time"),
        *(line for pair in range(shape.pairs) for line in _pair(shape, pair)),
        note("an odd last row; to int8 and out"),
        *_finish(shape),
        f"vmov {last}, {END}",
        *([] if _moves_at_once(shape) else add(W, 4 * shape.record_words)),
        f"cmp {OUT}, {last}",
        f"bne.w {name}_four",
        *leave(0),
    ]
    return Routine(name, "nn_depthwise_time_args", tuple(lines), fpu=True)


def _moves_at_once(shape: DepthwiseTimeShape) -> bool:
    """Whether the record's first load can move the pointer to the next record."""
    return 4 * shape.record_words <= WRITEBACK


def _word(shape: DepthwiseTimeShape, word: int) -> str:
    """The address of a word of the record, not the first one."""
    return f"{W}, #{4 * (word - (shape.record_words if _moves_at_once(shape) else 0))}"


def _row(shape: DepthwiseTimeShape, row: int) -> str:
    """The address of the group's four values in a row, not the first one, which moved the pointer on."""
    return f"{X}, #{shape.row_bytes * row - GROUP}"


def _pair(shape: DepthwiseTimeShape, pair: int) -> list[str]:
    """Two rows, times the words of their weights."""
    upper, lower, *weights, both = FREE
    biases = loads((s, _word(shape, i)) for i, s in enumerate(SUMS) if i)
    moved = f", #{4 * shape.record_words}" if _moves_at_once(shape) else ""
    return [
        *([f"ldr.w {SUMS[0]}, [{W}]{moved}", *biases, f"ldr.w {upper}, [{X}], #{GROUP}"] if pair == 0 else []),
        *(loads([(upper, _row(shape, 2 * pair))]) if pair else []),
        *loads([(lower, _row(shape, 2 * pair + 1))]),
        *loads((w, _word(shape, GROUP * (1 + pair) + i)) for i, w in enumerate(weights)),
        f"pkhbt {both}, {upper}, {lower}, lsl #16",
        f"pkhtb {upper}, {lower}, {upper}, asr #16",
        f"sxtb16 {lower}, {both}",
        f"sxtb16 {both}, {both}, ror #8",
        f"smlad {SUMS[0]}, {lower}, {weights[0]}, {SUMS[0]}",
        f"smlad {SUMS[1]}, {both}, {weights[1]}, {SUMS[1]}",
        f"sxtb16 {lower}, {upper}",
        f"sxtb16 {upper}, {upper}, ror #8",
        f"smlad {SUMS[2]}, {lower}, {weights[2]}, {SUMS[2]}",
        f"smlad {SUMS[3]}, {upper}, {weights[3]}, {SUMS[3]}",
    ]


def _finish(shape: DepthwiseTimeShape) -> list[str]:
    """The odd row, its loads in a group with constants of the first channels; then all outputs."""
    at = shape.record_words - 2 * GROUP
    constants = [_word(shape, at + i) for i in range(2 * GROUP)]
    lines = []
    if shape.kernel_h % 2:
        x, w01, w23, spare, *early = FREE
        words = [_row(shape, shape.kernel_h - 1), _word(shape, at - 2), _word(shape, at - 1), *constants[:3]]
        lines += [
            *loads(zip((x, w01, w23, *early), words, strict=True)),
            f"sxtb16 {spare}, {x}",
            f"sxtb16 {x}, {x}, ror #8",
            f"smlabb {SUMS[0]}, {spare}, {w01}, {SUMS[0]}",
            f"smlabt {SUMS[1]}, {x}, {w01}, {SUMS[1]}",
            f"smlatb {SUMS[2]}, {spare}, {w23}, {SUMS[2]}",
            f"smlatt {SUMS[3]}, {x}, {w23}, {SUMS[3]}",
        ]
        held = [*early, x, w01, w23, spare, early[0]]  # the first channel's multiplier is done with by then
        lines += [*_round(shape, 0, held), *loads(zip(held[3:], constants[3:], strict=True))]
    else:
        held = [*FREE, FREE[0]]
        lines += [*loads(zip(held[:7], constants[:7], strict=True)), *_round(shape, 0, held)]
        lines += loads([(held[7], constants[7])])
    lines += [line for channel in range(1, GROUP) for line in _round(shape, channel, held)]
    first, *others = SUMS
    return [
        *lines,
        f"strb.w {first}, [{OUT}], #{GROUP}",
        *(f"strb.w {s}, [{OUT}, #{i + 1 - GROUP}]" for i, s in enumerate(others)),
    ]


def _round(shape: DepthwiseTimeShape, channel: int, held: list[str]) -> list[str]:
    """The channel's sum to int8 in place."""
    s, doublings = SUMS[channel], shape.doublings
    doubled = [f"lsl.w {s}, {s}, #{doublings}"] if doublings else []
    return [*doubled, *shape.rounding.lines([s], held[2 * channel], held[2 * channel + 1])]
