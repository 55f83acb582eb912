"""The inner loop of nn_conv_s8_simd as Cortex-M4 assembly: all pairs of output channels (a, b) of three gathered
pixels, any shape.

A word of weights (two taps of a and of b, int8) is widened and meets that pair of taps of three pixels: six SMLADs. The
shape comes with the arguments, so that all layers of a model share the code. What it computes is dot() and what follows
it in nn_conv_simd.c.
"""

from __future__ import annotations

from converter.aot.kernels.asm import Routine, add, loads, note

PIXELS = 3  # NN_CONV_SIMD_PIXELS
STEPS = 16  # NN_CONV_STEPS: words of weights in a turn of the loop; NN_CONV_STEP_BYTES is the code of one
A, B, W, X = ("r0", "r1", "r2"), ("r3", "r4", "r5"), "r6", "r7"
# the frame: nn_conv_args, the way into the first turn as an address
PIXEL, WEIGHTS, CHANNELS, OUT, PAIRS, FILTER_BYTES, TURNS, ENTRY, OUT_C, TWICE_ZERO_PLUS_1 = range(0, 40, 4)
FRAME = 40
CHANNEL_BYTES = 12  # nn_channel: bias, multiplier, shift


def routine(relu: bool) -> Routine:
    """void name(const nn_conv_args *). relu: the output's zero point is -128, so that what is negative may be rounded
    in any way."""
    name = f"nn_conv_pairs_{'relu' if relu else 'full'}"
    finish, pack = (round_relu, pack_relu) if relu else (round_full, pack_full)
    lines = [
        "push {r4-r11, lr}",
        f"sub sp, #{FRAME}",
        "ldm r0, {r1-r10}",
        f"adr.w r11, {name}_turn",
        "add r8, r8, r11",
        "orr r8, r8, #1",
        "stm sp, {r1-r10}",
        f"{name}_pair:",
        note("two channels a and b, three pixels each: all sums begin with the biases"),
        *loads(
            [
                (X, f"sp, #{PIXEL}"),
                (W, f"sp, #{WEIGHTS}"),
                ("r11", f"sp, #{CHANNELS}"),
                ("r8", f"sp, #{TURNS}"),
                ("r9", f"sp, #{ENTRY}"),
                (A[0], "r11"),
                (B[0], f"r11, #{CHANNEL_BYTES}"),
            ]
        ),
        *(f"mov {s}, {sums[0]}" for sums in (A, B) for s in sums[1:]),
        note("into the unrolled turn where the words that remain to be done fill it"),
        "bx r9",
        ".balign 4",
        f"{name}_turn:",
        *(line for number in range(STEPS) for line in step(number)),
        "subs r8, r8, #1",
        f"bne.w {name}_turn",
        note("to int8; bytes of a and b side by side for each pixel"),
        f"ldr r11, [sp, #{CHANNELS}]",
        *finish(A, 0),
        *finish(B, CHANNEL_BYTES),
        *pack(),
        *loads([("r7", f"sp, #{OUT}"), ("r6", f"sp, #{OUT_C}")]),
        "strh r0, [r7]",
        "strh r1, [r7, r6]",
        "strh r2, [r7, r6, lsl #1]",
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


def step(number: int) -> list[str]:
    """One word of weights. W and X point a word before what is next; the last step of a turn moves them."""
    moved = "!" if number == STEPS - 1 else ""
    at_w, at_x = (4 * STEPS, 4 * PIXELS * STEPS - 8) if moved else (4 * number + 4, 4 * PIXELS * number + 4)
    pixels = ("r11", "r12", "lr")
    lines = [
        f"ldr.w r9, [{W}, #{at_w}]{moved}",
        *(f"ldr.w {p}, [{X}, #{at_x + 4 * i}]{moved if i == 2 else ''}" for i, p in enumerate(pixels)),
        "sxtb16 r10, r9, ror #8",
        "sxtb16.w r9, r9",
    ]
    return lines + [
        f"smlad {s}, {w}, {p}, {s}" for sums, w in ((A, "r9"), (B, "r10")) for s, p in zip(sums, pixels, strict=True)
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


def pack_relu() -> list[str]:
    """Saturated outputs of channels a and b side by side; their zero point -128 comes in by the sign bits."""
    return [
        line for a, b in zip(A, B, strict=True) for line in (f"orr {a}, {a}, {b}, lsl #8", f"eor {a}, {a}, #0x80808080")
    ]


def pack_full() -> list[str]:
    """Outputs of channels a and b, any int8, side by side."""
    return [line for a, b in zip(A, B, strict=True) for line in (f"uxtb {a}, {a}", f"orr {a}, {a}, {b}, lsl #8")]
