"""The inner loop of nn_conv_s8_simd as Cortex-M4 assembly: all pairs of output channels (a, b) of three gathered
pixels or of one of them, any shape.

A word of weights (two taps of a and of b, int8) is widened and meets that pair of taps of every pixel: two SMLADs each.
The shape comes with the arguments, so that all layers of a model share the code. What it computes is dot() and what
follows it in nn_conv_simd.c.
"""

from __future__ import annotations

from converter.aot.kernels.asm import Routine, add, loads, note

PIXELS = 3  # NN_CONV_SIMD_PIXELS: gathered side by side
STEPS = 16  # NN_CONV_STEPS: words of weights in a turn of the loop; NN_CONV_STEP_BYTES is the code of one
A, B, W, X = ("r0", "r1", "r2"), ("r3", "r4", "r5"), "r6", "r7"
# the frame: nn_conv_args, the way into the first turn as an address
PIXEL, WEIGHTS, CHANNELS, OUT, PAIRS, FILTER_BYTES, TURNS, ENTRY, OUT_C, TWICE_ZERO_PLUS_1 = range(0, 40, 4)
FRAME = 40
CHANNEL_BYTES = 12  # nn_channel: bias, multiplier, shift


def routine(relu: bool, pixels: int) -> Routine:
    """void name(const nn_conv_args *). relu: the output's zero point is -128, so that what is negative may be rounded
    in any way. pixels: PIXELS or 1."""
    name = f"nn_conv_pairs_{'relu' if relu else 'full'}_x{pixels}"
    finish, pack = (round_relu, pack_relu) if relu else (round_full, pack_full)
    a, b = A[:pixels], B[:pixels]
    further = ("strh r1, [r7, r6]", "strh r2, [r7, r6, lsl #1]") if pixels > 1 else ()
    lines = [
        "push {r4-r11, lr}",
        f"sub sp, #{FRAME}",
        "ldm r0, {r1-r10}",
        f"adr.w r11, {name}_turn",
        "add r8, r8, r11",
        "orr r8, r8, #1",
        "stm sp, {r1-r10}",
        f"{name}_pair:",
        note("two channels a and b of each pixel: all sums begin with the biases"),
        *loads(
            [
                (X, f"sp, #{PIXEL}"),
                (W, f"sp, #{WEIGHTS}"),
                ("r11", f"sp, #{CHANNELS}"),
                ("r8", f"sp, #{TURNS}"),
                ("r9", f"sp, #{ENTRY}"),
                (a[0], "r11"),
                (b[0], f"r11, #{CHANNEL_BYTES}"),
            ]
        ),
        *(f"mov {s}, {sums[0]}" for sums in (a, b) for s in sums[1:]),
        note("into the unrolled turn where the words that remain to be done fill it"),
        "bx r9",
        ".balign 4",
        f"{name}_turn:",
        *(line for number in range(STEPS) for line in step(number, a, b)),
        "subs r8, r8, #1",
        f"bne.w {name}_turn",
        note("to int8; bytes of a and b side by side for each pixel"),
        f"ldr r11, [sp, #{CHANNELS}]",
        *finish(a, 0),
        *finish(b, CHANNEL_BYTES),
        *pack(a, b),
        *loads([("r7", f"sp, #{OUT}"), ("r6", f"sp, #{OUT_C}")][: 1 + len(further)]),
        "strh r0, [r7]",
        *further,
        note("next pair of channels"),
        f"add r12, sp, #{WEIGHTS}",
        "ldm r12, {r0-r4}",  # weights, channels, out, pairs, filter_bytes
        "add r0, r0, r4",
        *add("r1", 2 * CHANNEL_BYTES),
        "add r2, r2, #2",
        "subs r3, r3, #1",
        "stm r12, {r0-r3}",
        f"bne.w {name}_pair",
        f"add sp, #{FRAME}",
        "pop {r4-r11, pc}",
    ]
    return Routine(name, "nn_conv_args", tuple(lines))


def step(number: int, a: tuple[str, ...], b: tuple[str, ...]) -> list[str]:
    """One word of weights. W and X point a word of weights and of every pixel before what is next; the last step of a
    turn moves them."""
    moved = "!" if number == STEPS - 1 else ""
    pixels = ("r11", "r12", "lr")[: len(a)]
    at_x = 4 * PIXELS * (number + 1)
    return [
        f"ldr.w r9, [{W}, #{4 * (number + 1)}]{moved}",
        *(f"ldr.w {p}, [{X}, #{at_x + 4 * i}]" for i, p in enumerate(pixels) if i),
        f"ldr.w {pixels[0]}, [{X}, #{at_x}]{moved}",
        "sxtb16 r10, r9, ror #8",
        "sxtb16.w r9, r9",
        *(
            f"smlad {s}, {w}, {p}, {s}"
            for sums, w in ((a, "r9"), (b, "r10"))
            for s, p in zip(sums, pixels, strict=True)
        ),
    ]


def round_relu(sums: tuple[str, ...], channel: int) -> list[str]:
    """To 0..255, from the channel at r11 + channel."""
    lines = [
        *loads([("r8", f"r11, #{channel + 4}"), ("r9", f"r11, #{channel + 8}")]),
        "rsb r9, r9, #0",
        "sub r10, r9, #1",
        "mov r12, #1",
        "lsl r10, r12, r10",
    ]
    for s in sums:
        lines += [f"lsl {s}, {s}, #1", f"smmlar {s}, {s}, r8, r10", f"asr {s}, {s}, r9", f"usat {s}, #8, {s}"]
    return lines


def round_full(sums: tuple[str, ...], channel: int) -> list[str]:
    """To int8 as nn_scale_bounded_twice and nn_ssat8_half."""
    lines = [
        *loads([("r8", f"r11, #{channel + 4}"), ("r9", f"r11, #{channel + 8}"), ("r10", f"sp, #{TWICE_ZERO_PLUS_1}")]),
        "mvn r9, r9",
    ]
    for s in sums:
        lines += [
            f"lsl {s}, {s}, #1",
            f"smmulr {s}, {s}, r8",
            f"add {s}, {s}, {s}, asr #31",
            f"asr {s}, {s}, r9",
            f"add {s}, r10",
            f"ssat {s}, #8, {s}, asr #1",
        ]
    return lines


def pack_relu(a: tuple[str, ...], b: tuple[str, ...]) -> list[str]:
    """Saturated outputs of channels a and b side by side; their zero point -128 comes in by the sign bits."""
    pairs = zip(a, b, strict=True)
    return [line for x, y in pairs for line in (f"orr {x}, {x}, {y}, lsl #8", f"eor {x}, {x}, #0x80808080")]


def pack_full(a: tuple[str, ...], b: tuple[str, ...]) -> list[str]:
    """Outputs of channels a and b, any int8, side by side."""
    return [line for x, y in zip(a, b, strict=True) for line in (f"uxtb {x}, {x}", f"orr {x}, {x}, {y}, lsl #8")]
