"""The inner loops of nn_conv_fir_s8 as Cortex-M4 assembly for one layer's shape, where the compiler was measured to spill.

One function per block of Q = 1..4 pairs of output pixels; it runs over all pairs of channels (a, b). What it computes is written in C in
firmware/lib/nn/nn_conv_fir.c (portable_block), which runs in its place on other CPUs. Everything is unrolled over the kernel's rows: a
row is loads and SMLADs alone, with the strides as immediates; fewer rows are an entry further down. Code lies in RAM (.data.*), where a
fetch waits for no flash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_Q = 4
MAX_TAPS_OF_4 = 2  # blocks of four pairs leave few registers
MAX_STRIDE = 255  # of a pre-indexed LDR
CHANNEL_BYTES = 32  # of the constants of a pair of channels
# the frame: first nn_fir_args as the caller gives it, its rows replaced by the entry into the unrolled rows, then three words more
X0, X1, X2, WEIGHTS, CHANNELS, OUT_EVEN, OUT_ODD, OUT_LAST, PAIRS, ENTRY, RETURN, SAVED = range(0, 48, 4)
FRAME = SAVED + 4 * 2 * MAX_Q


@dataclass(frozen=True)
class FirShape:
    """kernel_h rows of `taps` words of even and of odd taps; `row_words` of one stream's row; out_c bytes from pixel to pixel."""

    kernel_h: int
    taps: int
    row_words: int
    out_c: int
    relu: int  # bits of outputs that begin at their zero point: what is negative may be rounded in any way, since it is clamped; else 0

    @property
    def pass_bytes(self) -> int:
        return self.kernel_h * self.taps * 8


@dataclass(frozen=True)
class Registers:
    """Where a block keeps the sums of channels a and b, its two pointers, and what is free for operands."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    x: str
    w: str
    free: tuple[str, ...]


def registers(q: int) -> Registers:
    half = max(q, 3)
    names = (*(f"r{i}" for i in range(13)), "lr")
    free = names[q:half] + names[half + q:2 * half] + names[2 * half + 2:]
    return Registers(names[:q], names[half:half + q], names[2 * half], names[2 * half + 1], free)


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
    r = registers(q)
    body = row_of_four(shape) if q == 4 else row(shape, q)
    listed = "{" + ", ".join([*r.a, *r.b]) + "}"
    return [
        f".section .data.{name},\\\"awx\\\",%progbits", ".syntax unified", ".thumb", ".balign 4", f".type {name}, %function", ".thumb_func",
        f"{name}:",
        "push {r4-r11, lr}", f"sub sp, #{FRAME}",
        "ldm r0, {r1-r10}",
        f"adr.w r11, {name}_end", f"movw r12, #{4 * len(body)}", "mls r10, r10, r12, r11", "orr r10, r10, #1",
        "stm sp, {r1-r10}",
        f"{name}_pair:",
        f"ldr r8, [sp, #{CHANNELS}]", f"ldrd {r.a[0]}, {r.b[0]}, [r8]",
        *(f"mov {other}, {sums[0]}" for sums in (r.a, r.b) for other in sums[1:]),
        *run_pass(name, shape, r, 0),
        f"add r8, sp, #{SAVED}", f"stm r8, {listed}",
        *run_pass(name, shape, r, 1),
        *store(shape, r, last=False),
        f"add r8, sp, #{SAVED}", f"ldm r8, {listed}",
        *run_pass(name, shape, r, 2),
        *store(shape, r, last=True),
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


def run_pass(name: str, shape: FirShape, r: Registers, number: int) -> list[str]:
    """Jump into the unrolled rows with the number-th stream and its weights, and come back."""
    return [
        f"ldr {r.x}, [sp, #{(X0, X1, X2)[number]}]", f"ldr {r.w}, [sp, #{WEIGHTS}]", f"ldr r11, [sp, #{ENTRY}]",
        *(add(r.w, number * shape.pass_bytes) if number else []),
        f"adr.w r10, {name}_back{number} + 1", f"str r10, [sp, #{RETURN}]",
        "bx r11", f".balign 4\\n{name}_back{number}:",
    ]


def row(shape: FirShape, q: int) -> list[str]:
    """One kernel row, all instructions of four bytes. r.x and r.w point at the last word that the row before has read of them.

    Loads stand in groups, since all but the first of a group cost one cycle; each group takes as much as registers are free.
    """
    r = registers(q)
    wanted = [("x", i) for i in range(q)]
    for tap in range(shape.taps):
        wanted += ([("x", tap + q - 1)] if tap else []) + [("a", tap), ("b", tap)]
    free, held, lines = list(r.free), dict[tuple[str, int], str](), list[str]()
    for tap in range(shape.taps):
        if ("b", tap) not in held:
            while wanted and free:
                item = wanted.pop(0)
                held[item] = free.pop(0)
                lines.append(_load(item, held[item], shape, r))
        for side, sums in (("a", r.a), ("b", r.b)):
            lines += [f"smlad {s}, {held['x', tap + i]}, {held[side, tap]}, {s}" for i, s in enumerate(sums)]
        free += [held.pop(("x", tap)), held.pop(("a", tap)), held.pop(("b", tap))]
    return lines


def row_of_four(shape: FirShape) -> list[str]:
    """A row of one or two taps for four pairs of pixels, whose sums leave four registers: two words of x, two of weights at a time."""
    r = registers(4)
    even, odd, wa, wb = r.free

    def words(*items: tuple[str, int, str]) -> list[str]:
        return [_load((kind, index), register, shape, r) for kind, index, register in items]

    def products(*pairs: tuple[int, str]) -> list[str]:
        return [f"smlad {sums[p]}, {x}, {w}, {sums[p]}" for w, sums in ((wa, r.a), (wb, r.b)) for p, x in pairs]

    lines = words(("a", 0, wa), ("b", 0, wb), ("x", 0, even), ("x", 1, odd)) + products((0, even), (1, odd))
    lines += words(("x", 2, even), ("x", 3, odd)) + products((2, even), (3, odd))
    if shape.taps == 2:
        lines += words(("a", 1, wa), ("b", 1, wb)) + products((1, even), (2, odd))
        lines += words(("x", 1, even), ("x", 4, odd)) + products((0, even), (3, odd))
    return lines


def _load(item: tuple[str, int], register: str, shape: FirShape, r: Registers) -> str:
    kind, index = item
    if kind == "x":
        last, stride = len(r.a) + shape.taps - 2, 4 * shape.row_words
        return f"ldr.w {register}, [{r.x}, #{stride - 4 * (last - index)}]" + ("!" if index == last else "")
    word = 2 * index + (kind == "b")
    return f"ldr.w {register}, [{r.w}, #{4 * word + 4}]" + ("!" if word == 2 * shape.taps - 1 else "")


def store(shape: FirShape, r: Registers, last: bool) -> list[str]:
    """Round the sums of both channels and store them, q pixels 2 * out_c bytes apart; of the odd pixels the last has a place of its own."""
    places = [("r11", 2 * shape.out_c * i) for i in range(len(r.a))]
    lines = [f"ldr r8, [sp, #{CHANNELS}]", f"ldr r11, [sp, #{OUT_ODD if last else OUT_EVEN}]"]
    if last:
        places[-1] = ("r12", 0)
        lines.append(f"ldr r12, [sp, #{OUT_LAST}]")
    for sums, offset in ((r.a, 8), (r.b, 20)):
        lines += [f"ldr r9, [r8, #{offset}]", f"ldr r10, [r8, #{offset + 4}]", f"ldr lr, [r8, #{offset + 8}]"]
        for s in sums:
            if shape.relu:
                lines += [f"smmlar {s}, {s}, r9, r10", f"asr.w {s}, {s}, lr", f"usat {s}, #{shape.relu}, {s}"]
            else:
                lines += [f"smmulr {s}, {s}, r9", f"add.w {s}, {s}, {s}, asr #31", f"asr.w {s}, {s}, lr", f"add.w {s}, {s}, r10",
                          f"ssat {s}, #8, {s}, asr #1"]
    zero_points = (128 - (1 << shape.relu)) % 256 * 0x01010101
    for a, b, (base, offset) in zip(r.a, r.b, places, strict=True):
        if shape.relu:
            lines += [f"orr.w {a}, {a}, {b}, lsl #8", f"eor.w {a}, {a}, #0x{zero_points:08x}", f"strh.w {a}, [{base}, #{offset}]"]
        else:
            lines += [f"strb.w {a}, [{base}, #{offset}]", f"strb.w {b}, [{base}, #{offset + 1}]"]
    return lines
