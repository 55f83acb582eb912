"""The inner loops of nn_conv_fir_s8 as Cortex-M4 assembly for one layer's shape, where the compiler was measured to spill.

One function per block of Q = 1..3 pairs of output pixels; it runs over all pairs of channels (a, b). What it computes is written in C in
firmware/lib/nn/nn_conv_fir.c (portable_block), which runs in its place on other CPUs. Everything is unrolled over the kernel's rows: a
row is loads and SMLADs alone, with the strides as immediates; fewer rows are an entry further down. Code lies in RAM (.data.*), where a
fetch waits for no flash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_Q = 3
MAX_STRIDE = 255  # of a pre-indexed LDR
SUMS = ("r0", "r1", "r2", "r3", "r4", "r5")
X, W = "r6", "r7"
FREE = ("r8", "r9", "r10", "r11", "r12", "lr")
CHANNEL_BYTES = 32  # of the constants of a pair of channels
# the frame: first nn_fir_args as the caller gives it, its rows replaced by the entry into the unrolled rows, then three words more
X0, X1, X2, WEIGHTS, CHANNELS, OUT_EVEN, OUT_ODD, OUT_LAST, PAIRS, ENTRY, RETURN, SAVED = range(0, 48, 4)
FRAME = SAVED + 4 * len(SUMS)


@dataclass(frozen=True)
class FirShape:
    """kernel_h rows of `taps` words of even and of odd taps; `row_words` of one stream's row; out_c bytes from pixel to pixel."""

    kernel_h: int
    taps: int
    row_words: int
    out_c: int
    relu: bool  # the output's zero point is -128: what is negative may be rounded in any way, since it is clamped

    @property
    def pass_bytes(self) -> int:
        return self.kernel_h * self.taps * 8


def block_name(prefix: str, q: int) -> str:
    return f"{prefix}_fir{q}"


def render(prefix: str, shape: FirShape, sizes: Iterable[int]) -> str:
    """C text: the functions for blocks of these sizes and the table `prefix`_code of them; a null pointer where the CPU lacks SMLAD."""
    sizes = sorted(set(sizes))
    lines = ['#include "nn_simd.h"', "#if NN_HAS_DSP"]
    for q in sizes:
        lines += [f"void {block_name(prefix, q)}(const nn_fir_args *args);", "__asm__("]
        lines += [f'    "{line}\\n"' for line in block(block_name(prefix, q), shape, q)]
        lines.append(");")
    entries = ", ".join(block_name(prefix, q) if q in sizes else "0" for q in range(1, MAX_Q + 1))
    lines += [f"static const nn_fir_code {prefix}_blocks = {{{{{entries}}}}};", f"#define {prefix}_code &{prefix}_blocks"]
    lines += ["#else", f"#define {prefix}_code 0", "#endif"]
    return "\n".join(lines) + "\n"


def block(name: str, shape: FirShape, q: int) -> list[str]:
    """The assembly of one function: void name(const nn_fir_args *)."""
    sums = [*SUMS[:q], *SUMS[3:3 + q]]
    body = row(shape, q)
    listed = "{" + ", ".join(sums) + "}"
    return [
        f".section .data.{name},\\\"awx\\\",%progbits", ".syntax unified", ".thumb", ".balign 4", f".type {name}, %function", ".thumb_func",
        f"{name}:",
        "push {r4-r11, lr}", f"sub sp, #{FRAME}",
        "ldm r0, {r1-r10}",
        f"adr.w r11, {name}_end", f"movw r12, #{4 * len(body)}", "mls r10, r10, r12, r11", "orr r10, r10, #1",
        "stm sp, {r1-r10}",
        f"{name}_pair:",
        f"ldr r8, [sp, #{CHANNELS}]", "ldrd r0, r3, [r8]",
        *(f"mov {other}, {first}" for first, others in (("r0", SUMS[1:q]), ("r3", SUMS[4:3 + q])) for other in others),
        *run_pass(name, shape, 0),
        f"add r8, sp, #{SAVED}", f"stm r8, {listed}",
        *run_pass(name, shape, 1),
        *store(shape, q, last=False),
        f"add r8, sp, #{SAVED}", f"ldm r8, {listed}",
        *run_pass(name, shape, 2),
        *store(shape, q, last=True),
        f"add r12, sp, #{WEIGHTS}", "ldm r12, {r0-r5}",
        *add("r0", 3 * shape.pass_bytes), f"add r1, #{CHANNEL_BYTES}", "add r2, #2", "add r3, #2", "add r4, #2", "subs r5, #1",
        "stm r12, {r0-r5}", f"bne.w {name}_pair",
        f"add sp, #{FRAME}", "pop {r4-r11, pc}",
        f"{name}_rows:", *body * shape.kernel_h,
        f".balign 4\\n{name}_end:", f"ldr r8, [sp, #{RETURN}]", "bx r8",
        ".text",
    ]


def add(register: str, value: int) -> list[str]:
    return [f"add.w {register}, {register}, #{value}" if value < 4096 else f"add.w {register}, {register}, #{value & ~0xFFF}"] + (
        [f"add.w {register}, {register}, #{value & 0xFFF}"] if value >= 4096 and value & 0xFFF else [])


def run_pass(name: str, shape: FirShape, number: int) -> list[str]:
    """Jump into the unrolled rows with the number-th stream and its weights, and come back."""
    return [
        f"ldr {X}, [sp, #{(X0, X1, X2)[number]}]", f"ldr {W}, [sp, #{WEIGHTS}]", f"ldr r9, [sp, #{ENTRY}]",
        *(add(W, number * shape.pass_bytes) if number else []),
        f"adr.w r8, {name}_back{number}", "orr r8, r8, #1", f"str r8, [sp, #{RETURN}]",
        "bx r9", f".balign 4\\n{name}_back{number}:",
    ]


def row(shape: FirShape, q: int) -> list[str]:
    """One kernel row, all instructions of four bytes. X and W point at the last word that the row before has read of them.

    Loads stand in groups, since all but the first of a group cost one cycle; each group takes as much as registers are free.
    """
    x_count, stride, w_stride = q + shape.taps - 1, 4 * shape.row_words, 8 * shape.taps
    wanted = [("x", i) for i in range(q)]
    for tap in range(shape.taps):
        wanted += ([("x", tap + q - 1)] if tap else []) + [("a", tap), ("b", tap)]
    free, held, lines = [*SUMS[q:3], *SUMS[3 + q:], *FREE], {}, []
    for tap in range(shape.taps):
        if ("b", tap) not in held:
            while wanted and free:
                item = wanted.pop(0)
                held[item] = free.pop(0)
                lines.append(_load(item, held[item], x_count, stride, w_stride, shape.taps))
        for side, sums in (("a", SUMS[:3]), ("b", SUMS[3:])):
            lines += [f"smlad {s}, {held['x', tap + i]}, {held[side, tap]}, {s}" for i, s in enumerate(sums[:q])]
        free += [held.pop(("x", tap)), held.pop(("a", tap)), held.pop(("b", tap))]
    return lines


def _load(item: tuple[str, int], register: str, x_count: int, stride: int, w_stride: int, taps: int) -> str:
    kind, index = item
    if kind == "x":
        offset = stride - 4 * (x_count - 1 - index)
        return f"ldr.w {register}, [{X}, #{offset}]" + ("!" if index == x_count - 1 else "")
    offset = w_stride - 4 * (2 * taps - 1 - 2 * index - (kind == "b"))
    return f"ldr.w {register}, [{W}, #{offset}]" + ("!" if (kind, index) == ("b", taps - 1) else "")


def store(shape: FirShape, q: int, last: bool) -> list[str]:
    """Round the sums of both channels and store them, q pixels 2 * out_c bytes apart; of the odd pixels the last has a place of its own."""
    places = [("r11", 2 * shape.out_c * i) for i in range(q)]
    lines = [f"ldr r8, [sp, #{CHANNELS}]", f"ldr r11, [sp, #{OUT_ODD if last else OUT_EVEN}]"]
    if last:
        places[-1] = ("r12", 0)
        lines.append(f"ldr r12, [sp, #{OUT_LAST}]")
    for first, offset in ((0, 8), (3, 20)):
        sums = SUMS[first:first + q]
        lines += [f"ldr r9, [r8, #{offset}]", f"ldr r10, [r8, #{offset + 4}]", f"ldr lr, [r8, #{offset + 8}]"]
        for s in sums:
            if shape.relu:
                lines += [f"smmlar {s}, {s}, r9, r10", f"asr.w {s}, {s}, lr", f"usat {s}, #8, {s}"]
            else:
                lines += [f"smmulr {s}, {s}, r9", f"add.w {s}, {s}, {s}, asr #31", f"asr.w {s}, {s}, lr", f"add.w {s}, {s}, r10",
                          f"ssat {s}, #8, {s}, asr #1"]
    for a, b, (base, offset) in zip(SUMS[:q], SUMS[3:3 + q], places, strict=True):
        if shape.relu:
            lines += [f"orr.w {a}, {a}, {b}, lsl #8", f"eor.w {a}, {a}, #0x80808080", f"strh.w {a}, [{base}, #{offset}]"]
        else:
            lines += [f"strb.w {a}, [{base}, #{offset}]", f"strb.w {b}, [{base}, #{offset + 1}]"]
    return lines
