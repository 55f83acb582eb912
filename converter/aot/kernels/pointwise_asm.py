"""The inner loops of nn_pointwise_s8 and nn_conv_patches_s8 as Cortex-M4 assembly for one layer's shape: one or four
pixels, each a patch of one or more rows of the input.

A block of pixels is widened once into the frame, where `sp` is its pointer; then pairs of output channels (a, b) run
over it, all taps unrolled: two words of weights and one word of each pixel for 2 * pixels SMLADs. Loads stand in groups
that take all free registers, since all but the first of a group cost one cycle; the words of the fourth pixel wait in
the FPU, from where a move costs one. What it computes is written in C in firmware/lib/nn/nn_pointwise.c, which runs in
its place on other CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from converter.aot.kernels.asm import CORE, Routine, add, enter, leave, loads, note
from converter.aot.kernels.requantize import Rounding

BLOCK = 4  # pixels; single ones for what is left
FLOATS = 32
MAX_TAPS = 144  # NN_POINTWISE_MAX_TAPS, pairs of values of a pixel: the code of a block is 56 bytes for each
MAX_OUT_C = 1000  # out of a store's reach beyond
# of a pair of channels, beside the weights: both biases in front, multiplier and second constant of a and of b behind
RECORD_WORDS = 6
PLACES_WORDS = 1  # and behind them, where some channels are constant: which two of the outputs these are, as uint16


@dataclass(frozen=True)
class PointwiseShape:
    """Patches of `rows` rows of row_bytes, row_step bytes apart, to out_c; pixel_step bytes from one patch to the next.

    places: only some pairs of channels are computed, and their records say where they go.
    """

    row_bytes: int
    out_c: int
    pixel_step: int
    rounding: Rounding
    rows: int = 1
    row_step: int = 0
    places: bool = False

    @property
    def taps(self) -> int:
        """Pairs of a patch's values."""
        return self.rows * ((self.row_bytes + 1) // 2)

    @property
    def record_bytes(self) -> int:
        """Flash of two output channels."""
        return 4 * (RECORD_WORDS + self.places * PLACES_WORDS + 2 * self.taps)

    def name(self, pixels: int) -> str:
        """Of the routine for so many pixels at once."""
        rows = f"_{self.rows}_{self.row_step}" if self.rows > 1 else ""
        sizes = f"{self.row_bytes}_{self.out_c}_{self.pixel_step}{rows}_{self.rounding.name}"
        return f"nn_pointwise_{sizes}_x{pixels}{'_places' if self.places else ''}"


def routine(shape: PointwiseShape, pixels: int) -> Routine:
    """void name(const nn_pointwise_args *): `pixels` pixels, all channels."""
    name = shape.name(pixels)
    a, b, w, free = CORE[:pixels], CORE[pixels : 2 * pixels], CORE[2 * pixels], CORE[2 * pixels + 1 :]
    floats = min(shape.taps, FLOATS) if pixels == BLOCK else 0
    saved = floats > 16
    out, end = 4 * pixels * shape.taps, 4 * pixels * shape.taps + 4
    frame = out + 8
    put, m_a, second_a, m_b, second_b = free[:5]
    constants = 8 + 8 * shape.taps
    lines = [
        *enter(frame, saved),
        "ldm r0, {r0-r3}",
        f"str.w r1, [sp, #{out}]",
        f"str.w r3, [sp, #{end}]",
        "mov r11, r2",
        note("all pixels as words of two int16 on the stack"),
        *widen(name, shape, pixels),
        *(_keep_in_floats(shape, floats) if floats else []),
        f"mov {w}, r11",
        f"{name}_pair:",
        note("two channels a and b: sums over all taps of every pixel, from the biases on"),
        *products(shape.taps, a, b, "sp", w, free, floats),
        note("to int8 and out"),
        *loads(
            [
                (put, f"sp, #{out}"),
                *((r, f"{w}, #{constants + 4 * i}") for i, r in enumerate((m_a, second_a, m_b, second_b))),
            ]
        ),
        *shape.rounding.lines(a, m_a, second_a),
        *shape.rounding.lines(b, m_b, second_b),
        *_store(shape, a, b, put, (m_a, m_b), f"{w}, #{constants + 16}"),
        f"ldr.w {m_a}, [sp, #{end}]",
        *([] if shape.places else [f"add.w {put}, {put}, #2", f"str.w {put}, [sp, #{out}]"]),
        *add(w, shape.record_bytes),
        f"cmp {w if shape.places else put}, {m_a}",
        f"bne.w {name}_pair",
        *leave(frame, saved),
    ]
    return Routine(name, "nn_pointwise_args", tuple(lines), fpu=True)


def _store(
    shape: PointwiseShape, a: tuple[str, ...], b: tuple[str, ...], put: str, free: tuple[str, str], places: str
) -> list[str]:
    """Both channels of every pixel, from `put` on or where the record's half words at `places` say."""
    steps = [shape.out_c * pixel for pixel in range(len(a))]
    if not shape.places:
        return [
            f"strb.w {s}, [{put}, #{step + i}]"
            for i, sums in enumerate((a, b))
            for step, s in zip(steps, sums, strict=True)
        ]
    to_a, to_b = free
    return [
        f"ldr.w {to_b}, [{places}]",
        f"uxtah {to_a}, {put}, {to_b}",
        f"add.w {to_b}, {put}, {to_b}, lsr #16",
        *(f"strb.w {s}, [{to_a}, #{step}]" for step, s in zip(steps, a, strict=True)),
        *(f"strb.w {s}, [{to_b}, #{step}]" for step, s in zip(steps, b, strict=True)),
    ]


def _keep_in_floats(shape: PointwiseShape, count: int) -> list[str]:
    """The first words of the last pixel of a block."""
    return [
        *add("r0", 4 * shape.taps * (BLOCK - 1), "sp"),
        "vldmia r0, {" + ", ".join(f"s{i}" for i in range(count)) + "}",
    ]


def widen(name: str, shape: PointwiseShape, pixels: int) -> list[str]:
    """Pixels from r0 on into words of two int16 from sp on, of each four values of a row (0, 2) (1, 3); r11 is left
    alone."""
    one = _widen_row(f"{name}_four", shape.row_bytes)
    for row in range(1, shape.rows):
        one += [*add("r0", shape.row_step - shape.row_bytes), *_widen_row(f"{name}_four{row}", shape.row_bytes)]
    if pixels == 1:
        return ["mov r10, sp", *one]
    further = shape.pixel_step - (shape.rows - 1) * shape.row_step - shape.row_bytes
    return [
        "mov r10, sp",
        f"mov r12, #{pixels}",
        f"{name}_pixel:",
        *one,
        *(add("r0", further) if further else []),
        "subs r12, r12, #1",
        f"bne.w {name}_pixel",
    ]


def _widen_row(label: str, count: int) -> list[str]:
    rounds, words = divmod(count // 4, 4)
    loop = [f"mov r9, #{rounds}", f"{label}:", *_widen_words(4), "subs r9, r9, #1", f"bne {label}"]
    return [*(loop if rounds else []), *(_widen_words(words) if words else []), *_widen_tail(count % 4)]


def _widen_words(count: int) -> list[str]:
    """`count` words of four values, each from an address of its own alignment."""
    pairs = [(f"r{1 + 2 * i}", f"r{2 + 2 * i}") for i in range(count)]
    lines = [f"ldr.w {odd}, [r0], #4" for _, odd in pairs]
    for even, odd in pairs:
        lines += [f"sxtb16 {even}, {odd}", f"sxtb16 {odd}, {odd}, ror #8"]
    return [*lines, f"stm r10!, {{r1-r{2 * count}}}"]


def _widen_tail(count: int) -> list[str]:
    """What is left of a pixel, not looking beyond it: (0, -), (0, 1) or (0, 2) (1, -)."""
    values = [f"ldrsb.w r{1 + i}, [r0], #1" for i in range(count)]
    if count == 0:
        return []
    if count == 1:
        return [*values, "uxth r1, r1", "str r1, [r10], #4"]
    if count == 2:
        return [*values, "pkhbt r1, r1, r2, lsl #16", "str r1, [r10], #4"]
    return [*values, "pkhbt r1, r1, r3, lsl #16", "uxth r2, r2", "stm r10!, {r1, r2}"]


Item = tuple[str, int, int]  # ("x", tap, pixel) or ("w", tap, 0 or 1)


def products(
    taps: int, a: tuple[str, ...], b: tuple[str, ...], x: str, w: str, free: tuple[str, ...], floats: int = 0
) -> list[str]:
    """Both sums of every pixel over all taps, from the biases on, which the first pixel's sums hold until the others
    have taken them.

    Pixels lie from register x on, [pixel][tap]; both biases and then the weights, [tap][channel], from w on; the last
    pixel's first `floats` words are in the FPU.
    """
    pixels = len(a)
    lines = loads([(a[0], w), (b[0], f"{w}, #4")])
    wanted = list(_wanted(taps, pixels, floats))
    held, idle = dict[Item, str](), list(free)
    for tap in range(taps):
        for pixel in _order(tap, pixels):
            item: Item = ("x", tap, pixel)
            if pixel == BLOCK - 1 and tap < floats:
                held[item] = idle.pop(0)
                lines.append(f"vmov {held[item]}, s{tap}")
            while item not in held:
                group = [wanted.pop(0) for _ in range(min(len(idle), len(wanted)))]
                held.update({each: idle.pop(0) for each in group})
                lines += loads([(held[each], _address(taps, each, x, w)) for each in group])
            for side, sums in enumerate((a, b)):
                source = sums[0] if tap == 0 else sums[pixel]
                lines.append(f"smlad {sums[pixel]}, {held[item]}, {held['w', tap, side]}, {source}")
            idle.append(held.pop(item))
        idle += [held.pop(("w", tap, 0)), held.pop(("w", tap, 1))]
    return lines


def _order(tap: int, pixels: int) -> list[int]:
    return [*range(1, pixels), 0] if tap == 0 else list(range(pixels))


def _wanted(taps: int, pixels: int, floats: int) -> Iterator[Item]:
    """What is loaded, in the order of use."""
    for tap in range(taps):
        yield from (("w", tap, 0), ("w", tap, 1))
        yield from (("x", tap, pixel) for pixel in _order(tap, pixels) if not (pixel == BLOCK - 1 and tap < floats))


def _address(taps: int, item: Item, x: str, w: str) -> str:
    kind, tap, index = item
    return f"{x}, #{4 * (index * taps + tap)}" if kind == "x" else f"{w}, #{8 + 8 * tap + 4 * index}"
