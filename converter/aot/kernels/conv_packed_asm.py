"""nn_conv_packed_s8 as Cortex-M4 assembly for one layer's shape: a convolution whose neighbouring outputs lie two
values of a row apart.

The trick: polynomials in z = 2**21. A word of weights is w[k+2] + w[k] z, a word of inputs x[i] + x[i+2] z, and their
product, added to 64 bits by one SMLAL,

    w[k+2] x[i]  +  (w[k+2] x[i+2] + w[k] x[i]) z  +  w[k] x[i+2] z^2,

holds four products of three neighbouring outputs: for output o, 2o + k + 2 = i, the second lies with o + 1, the third
with o + 2. So one 64-bit sum, a "triple", collects the whole of output o + 1, the late half of the taps of o (k % 4 in
2, 3) and the early half of those of o + 2 (k % 4 in 0, 1); the triple before has the early half of o, the next one the
late half of o + 2. That is four products a cycle where SMLAD has two. It is exact as long as each field stays below
2**20 in magnitude, which the converter proves from the layer's weights; 2**20 is added to the lower two fields in front
so that none borrows.

A row of inputs is made once: words (x[4j] + x[4j+2] z, x[4j+1] + x[4j+3] z), j = 0.., shared by all channels, all
output rows and both taps of a triple. Triple t collects outputs 2t-1, 2t, 2t+1 from the words j = t + tap.

Loops: the routine makes one row of outputs; over pairs of channels (a, b), over blocks of two triples, which are four
outputs each; a block of one triple where their number is odd. Registers of a block: r0-r7 the sums (low, high) of a's
two triples and b's, r8 inputs, r9 weights, r10-r12 and lr operands. All kernel rows are unrolled with immediate
offsets, without any counting; a row of taps = 2 is 14 loads in four groups (a load directly after another costs one
cycle) and 16 SMLALs: 34 cycles for 64 products. Kernel rows in the padding are skipped by entering further down. The
last field of a block's last triple is carried to the next block in the frame. Where out_w is even the last output's
late taps belong to no triple: they are a short last pass with plain SMLADs.

Streaming goes on from sums of the hop before, with the new input rows only: passes then begin at kept_sums(), which
loads the sums, and leave their rows by way of it, since it sets Z, which nothing in the rows changes.

Cycles of TinyConv's window, 235 kernel rows: 4 pairs * (5 blocks * 34 + 6) each, about 86 a block round them: 8 to
begin its sums, 12 to part the fields, 34 to round and pair eight outputs, the rest loads, stores and the loop.

What is computed is written in C in firmware/lib/nn/nn_conv_packed.c, which runs in its place on other CPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from converter.aot.kernels.asm import Routine, add, enter, leave, loads, note

FIELD = 21  # bits
HALF = 1 << (FIELD - 1)
CHANNEL_WORDS = 8  # constants of a pair of channels
# the frame, in words: the pair's constants, then what the block passes on, then what stays for the row
LEFT, OUT, CARRY_A, CARRY_B, BLOCK_ENTRY, SINGLE_ENTRY, TAIL_ENTRY, BLOCK_ROWS, SINGLE_ROWS, TAIL_ROWS, END, PAIRS = (
    f"sp, #{4 * word}" for word in range(CHANNEL_WORDS, CHANNEL_WORDS + 12)
)
X, WEIGHTS, TAILS, CHANNELS, ROW_OUT, SPARE, LOAD, LOAD_STEP, STORE, STORE_STEP = (
    f"sp, #{4 * word}" for word in range(CHANNEL_WORDS + 12, CHANNEL_WORDS + 22)
)
FRAME = 4 * (CHANNEL_WORDS + 22)
HIGH = 2 * FIELD - 32  # bits of the middle field in the upper half of a sum


@dataclass(frozen=True)
class PackedConvShape:
    """kernel_h rows of `taps` groups of four weights, `tail` of them again for the last output; out_c bytes from pixel
    to pixel."""

    kernel_h: int
    taps: int
    tail: int
    row_words: int
    out_w: int
    out_c: int
    shift: int
    # bits b of outputs from their zero point 128 - 2**b on: what is negative may be rounded in any way, it is clamped;
    # else 0
    relu: int

    @property
    def name(self) -> str:
        """Of the routine, equal for equal shapes."""
        sizes = (self.kernel_h, self.taps, self.tail, self.row_words, self.out_w, self.out_c, self.shift, self.relu)
        return "nn_conv_packed_" + "_".join(map(str, sizes))

    @property
    def blocks(self) -> int:
        """Blocks of two triples."""
        return (self.out_w + 1) // 4

    @property
    def single(self) -> bool:
        """Whether a block of one triple follows."""
        return self.out_w % 4 in (1, 2)


def routine(shape: PackedConvShape) -> Routine:
    """void name(const nn_conv_packed_args *): one row of outputs, all channels."""
    name = shape.name
    passes = [(f"{name}_block", row_of_block(shape, 0, 2), BLOCK_ENTRY, BLOCK_ROWS)] if shape.blocks else []
    passes += [(f"{name}_single", row_of_block(shape, 0, 1), SINGLE_ENTRY, SINGLE_ROWS)] if shape.single else []
    passes += [(f"{name}_tail", row_of_tail(shape, 0), TAIL_ENTRY, TAIL_ROWS)] if shape.tail else []
    lines = [
        *enter(FRAME),
        "ldm r0, {r1-r11}",
        f"add.w r12, {X}",
        "stm r12, {r1-r10}",
        "mov r8, r11",
        note("where each pass enters its unrolled kernel rows: behind those that are padding"),
        *(line for label, row, *places in passes for line in entry(label, 4 * len(row), *places)),
        *add("r1", 16 * shape.blocks),
        f"str.w r1, [{END}]",
        f"mov r1, #{shape.out_c // 2}",
        f"str.w r1, [{PAIRS}]",
        "movs r1, #1",
        f"{name}_pair:",  # Z is clear here and behind the loop over blocks, see rows_of()
        note("two channels a and b: constants to the stack, inputs and weights from the row's start"),
        *start_pair(),
        *(
            [f"{name}_again:", *block(shape, 2), f"ldr.w r12, [{END}]", "cmp r8, r12", f"bne.w {name}_again"]
            if shape.blocks
            else []
        ),
        note("the last outputs of the row"),
        *(["movs r12, #1"] if shape.blocks else []),
        *(block(shape, 1) if shape.single else []),
        *(finish_row(shape) if shape.out_w % 2 == 0 else []),
        note("next pair of channels"),
        *next_pair(shape),
        f"bne.w {name}_pair",
        *leave(FRAME),
        *(line for label, _, _, rows in passes for line in kept_sums(shape, label, rows)),
    ]
    return Routine(name, "nn_conv_packed_args", tuple(lines))


def block(shape: PackedConvShape, triples: int) -> list[str]:
    """Two outputs a triple of both channels: start, kernel rows, end."""
    label = f"{shape.name}_{'block' if triples == 2 else 'single'}"
    rows = (row_of_block(shape, row, triples) for row in range(shape.kernel_h))
    return [
        note(f"{triples} triples of a and of b: three packed sums each, from half their fields on"),
        *start_block(triples),
        *rows_of(label, rows),
        note("fields apart, each completed by its neighbour's carry; to int8 and out"),
        *finish_block(shape, triples),
    ]


def address_of(register: str, label: str) -> list[str]:
    """A label's address by its distance, wherever the routine runs."""
    here = f"{label}_from"
    return [
        f"movw {register}, #:lower16:({label} - ({here} + 4))",
        f"movt {register}, #:upper16:({label} - ({here} + 4))",
        f"{here}:",
        f"add {register}, pc",
    ]


def entry(label: str, row_bytes: int, begin: str, rows: str) -> list[str]:
    """Where a pass begins: in its unrolled rows behind the r8 first ones, or, where sums are kept (r7 is not null), at
    their loading."""
    return [
        *address_of("r11", f"{label}_rows"),
        f"movw r12, #{row_bytes}",
        "mla r11, r8, r12, r11",
        "orr r11, r11, #1",
        f"str.w r11, [{rows}]",
        *address_of("r12", f"{label}_kept"),
        "orr r12, r12, #1",
        "cmp r7, #0",
        "it ne",
        "movne r11, r12",
        f"str.w r11, [{begin}]",
    ]


def rows_of(label: str, rows: Iterable[list[str]]) -> list[str]:
    """All kernel rows; Z is set where the sums are kept."""
    return [
        f".balign 4\\n{label}_rows:",
        *(line for row in rows for line in row),
        f"beq.w {label}_store",
        f"{label}_stored:",
    ]


def kept_sums(shape: PackedConvShape, label: str, rows: str) -> list[str]:
    """Out of the way of plain runs: sums from LOAD on, before the kernel rows, and to STORE behind them, both without
    the carry."""

    def step(place: str, size: str, *transfer: str, half: str = "") -> list[str]:
        return [
            *loads([("r10", place), ("r11", size)]),
            *transfer,
            f"add.w r10, r10, r11{half}",
            f"str.w r10, [{place}]",
        ]

    def carry(operation: str, with_borrow: str) -> list[str]:
        lines = loads([("r10", CARRY_A), ("r11", CARRY_B)])
        for value, low, high in (("r10", "r0", "r1"), ("r11", "r4", "r5")):
            lines += [
                f"asr.w {value}, {value}, #{HIGH}",
                f"{operation}s.w {low}, {low}, {value}",
                f"{with_borrow}.w {high}, {high}, {value}, asr #31",
            ]
        return lines

    if label == f"{shape.name}_tail":
        load = [*step(LOAD, LOAD_STEP, "ldr.w r2, [r10]", "ldr.w r3, [r10, #8]", half=", lsr #1")]
        load += [line for i in (0, 1) for line in (f"sub.w r{i}, r{i}, #{HALF}", f"add.w r{i}, r{i}, r{i + 2}")]
        store = [
            *loads([("r2", CARRY_A), ("r3", CARRY_B)]),
            *(f"sub.w r{i + 2}, r{i}, r{i + 2}, asr #{HIGH}" for i in (0, 1)),
            *step(STORE, STORE_STEP, "str.w r2, [r10]", "str.w r3, [r10, #8]", half=", lsr #1"),
        ]
    else:
        load = [*step(LOAD, LOAD_STEP, "ldm r10, {r0-r7}"), *carry("add", "adc")]
        store = [*carry("sub", "sbc"), *step(STORE, STORE_STEP, "stm r10, {r0-r7}"), *carry("add", "adc")]
    return [
        note("sums kept from the hop before, in front of the kernel rows, and kept for the next behind them"),
        f".balign 4\\n{label}_kept:",
        *load,
        f"ldr.w r12, [{rows}]",
        "cmp r12, r12",
        "bx r12",
        f"{label}_store:",
        *store,
        f"b.w {label}_stored",
    ]


def start_pair() -> list[str]:
    """The pair's constants into the frame; inputs, weights and outputs from the row's start."""
    return [
        f"ldr.w r12, [{CHANNELS}]",
        "ldm r12!, {r0-r7}",
        "stm sp, {r0-r7}",
        f"str.w r12, [{CHANNELS}]",
        *loads([("r8", X), ("r9", WEIGHTS), ("r0", SPARE), ("r1", ROW_OUT)]),
        "mov r2, #0",
        *(
            f"str.w {register}, [{place}]"
            for register, place in (("r0", LEFT), ("r1", OUT), ("r2", CARRY_A), ("r2", CARRY_B))
        ),
    ]


def start_block(triples: int) -> list[str]:
    """All sums from 2**20 in the lower two fields, the first ones with the last field of the block before; then the
    kernel rows."""
    return [
        *loads([("r0", CARRY_A), ("r4", CARRY_B), ("r10", BLOCK_ENTRY if triples == 2 else SINGLE_ENTRY)]),
        f"mov r2, #{HALF}",
        *(["mov r6, r2"] if triples == 2 else []),
        f"add.w r0, r2, r0, asr #{HIGH}",
        f"add.w r4, r2, r4, asr #{HIGH}",
        *(f"mov r{high}, #{HALF >> (32 - FIELD)}" for high in ((1, 3, 5, 7) if triples == 2 else (1, 5))),
        "bx r10",
    ]


def row_of_block(shape: PackedConvShape, row: int, triples: int) -> list[str]:
    """A kernel row, all instructions of four bytes: of each parity a word of a and b per tap against `triples`
    neighbouring inputs."""
    lines = []
    for parity in (0, 1):
        left, right = "r10", "r11"
        for tap in range(shape.taps):
            weights = 16 * (shape.taps * row + tap) + 8 * parity
            x = 4 * shape.row_words * row + 8 * tap + 4 * parity
            inputs = [(left, f"r8, #{x}")] if tap == 0 or triples == 1 else []
            inputs += [(right, f"r8, #{x + 8}")] if triples == 2 else []
            lines += loads([*inputs, ("r12", f"r9, #{weights}"), ("lr", f"r9, #{weights + 4}")])
            sums = [("r0, r1", left, "r12"), ("r4, r5", left, "lr"), ("r2, r3", right, "r12"), ("r6, r7", right, "lr")]
            lines += [f"smlal {low_high}, {word}, {weight}" for low_high, word, weight in sums[: 2 * triples]]
            left, right = right, left
    return lines


def row_of_tail(shape: PackedConvShape, row: int) -> list[str]:
    """A kernel row of the last output's late taps, all instructions of four bytes."""
    free = [*(f"r{i}" for i in range(2, 8)), "r10", "r11", "r12"]
    lines = []
    for first in range(0, shape.tail, 3):
        taps = range(first, min(first + 3, shape.tail))
        groups = [free[3 * i : 3 * i + 3] for i in range(len(taps))]
        for tap, (x, a, b) in zip(taps, groups, strict=True):
            weights = 8 * (shape.tail * row + tap)
            at = 4 * shape.row_words * row + 8 * (shape.taps - 1) + 4 * tap  # r8 points behind the blocks
            lines += loads([(x, f"r8, #{at}"), (a, f"r9, #{weights}"), (b, f"r9, #{weights + 4}")])
        lines += [line for x, a, b in groups for line in (f"smlad r0, {x}, {a}, r0", f"smlad r1, {x}, {b}, r1")]
    return lines


def finish_block(shape: PackedConvShape, triples: int) -> list[str]:
    """Two outputs a triple of each channel: the left one is that between the block before and this one."""
    if triples == 2:
        lines = [
            f"str.w r3, [{CARRY_A}]",
            f"str.w r7, [{CARRY_B}]",
            f"add.w r2, r2, r1, asr #{HIGH}",
            f"add.w r6, r6, r5, asr #{HIGH}",
            *middle_field("r10", "r0", "r1"),
            *middle_field("r1", "r2", "r3"),
            *middle_field("r3", "r4", "r5"),
            *middle_field("r5", "r6", "r7"),
        ]
    else:
        lines = [
            f"str.w r1, [{CARRY_A}]",
            f"str.w r5, [{CARRY_B}]",
            *middle_field("r10", "r0", "r1"),
            *middle_field("r3", "r4", "r5"),
        ]
    a, b = ("r0", "r10", "r2", "r1")[: 2 * triples], ("r4", "r3", "r6", "r5")[: 2 * triples]
    lines += [f"ubfx {low}, {low}, #0, #{FIELD}" for low in (*a[::2], *b[::2])]
    for sums, at in ((a, 0), (b, 4)):
        registers = ("r7", "r11", "r12", "lr")
        lines += loads((register, f"sp, #{4 * (at + i)}") for i, register in enumerate(registers))
        lines += scale(shape, sums, registers)
    lines += [line for low, high in zip(a, b, strict=True) for line in couple(shape, low, high)]
    lines += [*loads([("r7", LEFT), ("r11", OUT)]), "strh r0, [r7]"]
    lines += [f"strh.w {value}, [r11, #{shape.out_c * pixel}]" for pixel, value in enumerate(a[1:])]
    lines += [*add("r7", (2 * triples - 1) * shape.out_c, "r11"), *add("r11", 2 * triples * shape.out_c)]
    return [*lines, f"str.w r7, [{LEFT}]", f"str.w r11, [{OUT}]", f"add.w r8, r8, #{8 * triples}"]


def middle_field(to: str, low: str, high: str) -> list[str]:
    """Field 1 of a 64-bit sum, whose upper bits are the lower ones of `high`."""
    return [f"lsr.w {to}, {low}, #{FIELD}", f"bfi {to}, {high}, #{32 - FIELD}, #{HIGH}"]


def scale(shape: PackedConvShape, sums: Sequence[str], constants: tuple[str, str, str, str]) -> list[str]:
    """From fields to int8 in place; see rounding() in converter/aot/kernels/conv_packed.py. The second constant is
    lost."""
    scale, offset, multiplier, added = constants
    lines = [f"mla {s}, {s}, {scale}, {offset}" for s in sums]
    if shape.relu:
        lines += [f"smmla {s}, {s}, {multiplier}, {added}" for s in sums]
        return lines + [
            f"{'ssat' if shape.relu == 8 else 'usat'} {s}, #{shape.relu}, {s}, asr #{shape.shift}" for s in sums
        ]
    for s in sums:
        lines += [
            f"smmla {offset}, {s}, {multiplier}, {added}",
            f"and.w {s}, {scale}, {s}, asr #31",
            f"sub.w {s}, {offset}, {s}, lsr #1",
            f"ssat {s}, #8, {s}, asr #{shape.shift}",
        ]
    return lines


def couple(shape: PackedConvShape, low: str, high: str) -> list[str]:
    """Two outputs into a half word; low-bit ones get their zero point now."""
    zero_points = (128 - (1 << shape.relu)) * 0x01010101
    return [f"bfi {low}, {high}, #8, #8", *([f"add.w {low}, {low}, #{zero_points}"] if 0 < shape.relu < 8 else [])]


def finish_row(shape: PackedConvShape) -> list[str]:
    """The last output of a pair of channels: the last block's carry and the tail."""
    lines = [
        *loads([("r0", CARRY_A), ("r1", CARRY_B), *([("r9", TAILS), ("r10", TAIL_ENTRY)] if shape.tail else [])]),
        f"mov r2, #{HALF}",
        *(f"add.w r{i}, r2, r{i}, asr #{HIGH}" for i in (0, 1)),
    ]
    if shape.tail:
        lines += ["bx r10", *rows_of(f"{shape.name}_tail", (row_of_tail(shape, row) for row in range(shape.kernel_h)))]
    a, b = ("r2", "r3", "r4", "r5"), ("r6", "r7", "r10", "r11")
    lines += loads([*((register, f"sp, #{4 * i}") for i, register in enumerate((*a, *b))), ("r12", LEFT)])
    return [*lines, *scale(shape, ["r0"], a), *scale(shape, ["r1"], b), *couple(shape, "r0", "r1"), "strh.w r0, [r12]"]


def next_pair(shape: PackedConvShape) -> Iterator[str]:
    """On to the next two output channels, or out of the loop."""
    yield from loads([("r0", WEIGHTS), ("r1", ROW_OUT), ("r2", PAIRS), *([("r3", TAILS)] if shape.tail else [])])
    yield from add("r0", 16 * shape.kernel_h * shape.taps)
    yield from (*add("r3", 8 * shape.kernel_h * shape.tail), f"str.w r3, [{TAILS}]") if shape.tail else ()
    yield from (
        "add.w r1, r1, #2",
        "subs r2, r2, #1",
        f"str.w r0, [{WEIGHTS}]",
        f"str.w r1, [{ROW_OUT}]",
        f"str.w r2, [{PAIRS}]",
    )
