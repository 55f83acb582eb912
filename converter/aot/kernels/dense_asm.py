"""The inner loop of nn_dense_pairs_s8_simd as Cortex-M4 assembly: four outputs over eight inputs a turn, any size.

A word of weights holds two outputs twice, 256 * b + a of two inputs: one SMLAD adds both, one of the lower bytes,
widened by SXTB16, a alone. What it computes is four_loaded() in nn_dense_pairs_simd.c.
"""

from __future__ import annotations

from converter.aot.kernels.asm import Routine, note

TURN = 8  # NN_DENSE_TURN: inputs; twice as many save 4 % of the time and cost 152 bytes of RAM
NAME = "nn_dense_pairs"


def routine() -> Routine:
    """void name(const nn_dense_args *): r0 weights, r1 inputs, r2 turns left; r4, r6 the sums of a and of c, r5, r7
    those of both."""
    lines = ["push {r4-r11, lr}", "ldm r0, {r0-r3}", "push {r3}", "ldm r3, {r4-r7}"]
    lines += [f"{NAME}_turn:", note(f"{TURN} inputs against words of a pair of outputs, twice")]
    for _ in range(TURN // 4):
        lines += [
            "ldr r12, [r1], #4",
            "ldr r9, [r0, #4]",
            "ldr r10, [r0, #8]",
            "ldr r11, [r0, #12]",
            "ldr r8, [r0], #16",
            "sxtb16 lr, r12, ror #8",
            "sxtb16 r12, r12",
        ]
        for word, x, (alone, both) in (
            ("r8", "r12", ("r4", "r5")),
            ("r9", "lr", ("r4", "r5")),
            ("r10", "r12", ("r6", "r7")),
            ("r11", "lr", ("r6", "r7")),
        ):
            lines += [
                f"smlad {both}, {x}, {word}, {both}",
                f"sxtb16 {word}, {word}",
                f"smlad {alone}, {x}, {word}, {alone}",
            ]
    lines += ["subs r2, r2, #1", f"bne.w {NAME}_turn", "pop {r3}", "stm r3, {r4-r7}", "pop {r4-r11, pc}"]
    return Routine(NAME, "nn_dense_args", tuple(lines))
