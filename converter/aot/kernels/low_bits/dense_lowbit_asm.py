"""The inner loops of nn_dense_lowbit_s8 and nn_dense_sparse_s8 as Cortex-M4 assembly; nn_dense_lowbit.c and
nn_dense_sparse.c have them in portable C.

A half word holds weights of several outputs, lowest first, so one SMLAD multiplies them all: the sum is that of the
first output plus 16 (or 2^14) times that of the second, and so on. 4 bits: SMLADs of the half words cut to 4, 8, 12 and
16 bits, and the sums lie apart by subtraction, in any case modulo 2^32. 2 bits: two weights stand at the ends of a half
word, the lower sum must stay within 14 bits. So after `chunk_turns` the sums are taken apart. Lower fields are stored
plus an offset, which the sum of the inputs takes away. Code lies where NN_CODE_SECTION of
nn_simd.h says.
"""

from __future__ import annotations

from dataclasses import dataclass

TURN = 16  # NN_LOWBIT_TURN
GROUP = 8  # NN_SPARSE_GROUP
CHUNK_4_BITS = 504  # inputs: the sums of d, times 4096, stay within int32; half of them within an int16 lane


@dataclass(frozen=True)
class PackedShape:
    """bits 4 or 2; what is subtracted from inputs; what was added to the lower fields; turns until the sums are taken
    apart."""

    bits: int
    base: int
    offset: int
    chunk_turns: int

    @property
    def name(self) -> str:
        """What listings call the format."""
        return f"int{self.bits}"


@dataclass(frozen=True)
class SparseShape:
    """Bits of an entry's distance and of its weight, 4 or 8."""

    distance_bits: int
    bits: int

    @property
    def name(self) -> str:
        """What listings call the format."""
        return f"sparse{self.distance_bits}+{self.bits}"


def render(prefix: str, shape: PackedShape | SparseShape) -> str:
    """C text: the function and the macro `prefix`_code that points at it; a null pointer where the CPU lacks SMLAD."""
    if isinstance(shape, SparseShape):
        name, kind = f"{prefix}_row", "nn_dense_sparse_code"
        declared = f"int32_t {name}(const uint32_t *entries, const int8_t *x, int32_t groups);"
    else:
        name, kind = f"{prefix}_block", "nn_dense_lowbit_code"
        declared = f"void {name}(const uint32_t *weights, const int8_t *x, int32_t turns, int32_t *sums);"
    code = [
        ".syntax unified",
        ".thumb",
        ".balign 4",
        f".type {name}, %function",
        ".thumb_func",
        f"{name}:",
        *instructions(shape),
        f".size {name}, . - {name}",
        ".text",
    ]
    lines = [
        '#include "nn_simd.h"',
        "#if NN_HAS_DSP",
        declared,
        f'__asm__(NN_CODE_SECTION("{name}")',
        *(f'    "{line}\\n"' for line in code),
        ");",
    ]
    lines += [f"static const {kind} {prefix}_entry = {{NN_CODE({name})}};", f"#define {prefix}_code &{prefix}_entry"]
    lines += ["#else", f"#define {prefix}_code 0", "#endif"]
    return "\n".join(lines) + "\n"


def instructions(shape: PackedShape | SparseShape) -> list[str]:
    """The routine's lines for a format."""
    if isinstance(shape, SparseShape):
        return sparse_row(shape)
    return four_bits(shape) if shape.bits == 4 else two_bits(shape)


def code_bytes(shape: PackedShape | SparseShape) -> int:
    """At most: some instructions take two bytes."""
    return 4 * len(instructions(shape))


def four_bits(shape: PackedShape) -> list[str]:
    """r0 weights, r1 inputs; r4-r7 the sums of half words cut to 16, 12, 8 and 4 bits; lr those of the inputs.

    r10 counts the turns of the chunk, r11 all that are left. Even inputs of four in r2, odd ones in r12; r3, r8, r9
    take words of weights.
    """
    lines = [
        "push {r3-r11, lr}",
        "mov r11, r2",
        "1:",
        *_next_chunk("r10", "r11", shape.chunk_turns),
        *(f"mov {register}, #0" for register in ("r4", "r5", "r6", "r7", "lr")),
        "2:",
    ]
    for group in range(TURN // 4):
        lines += [
            f"ldr r12, [r1, #{4 * group}]",
            f"ldr r8, [r0, #{8 * group}]",
            f"ldr r9, [r0, #{8 * group + 4}]",
            "sxtab16 lr, lr, r12",
            "sxtab16 lr, lr, r12, ror #8",
            "sxtb16 r2, r12",
            "sxtb16 r12, r12, ror #8",
        ]
        for word, x in (("r8", "r2"), ("r9", "r12")):
            lines += [
                f"smlad r4, {x}, {word}, r4",
                f"bic r3, {word}, #0xF000F000",
                f"smlad r5, {x}, r3, r5",
                f"uxtb16 r3, {word}",
                f"smlad r6, {x}, r3, r6",
                f"and r3, {word}, #0x000F000F",
                f"smlad r7, {x}, r3, r7",
            ]
    lines += [f"add r0, #{2 * TURN}", f"add r1, #{TURN}", "subs r10, #1", "bne.w 2b"]
    lines += [
        *_input_sum("lr"),
        "ldr r12, [sp]",
        "ldm r12, {r2, r3, r8, r9}",
        "sub r4, r4, r5",
        "sub r5, r5, r6",
        "sub r6, r6, r7",  # 4096 d, 256 (c + 8 x), 16 (b + 8 x), and r7 = a + 8 x
        "sub r7, r7, lr, lsl #3",
        "add r2, r7",
        "asr r6, r6, #4",
        "sub r6, r6, lr, lsl #3",
        "add r3, r6",
        "asr r5, r5, #8",
        "sub r5, r5, lr, lsl #3",
        "add r8, r5",
        "add r9, r9, r4, asr #12",
        "stm r12, {r2, r3, r8, r9}",
    ]
    return [*lines, "cmp r11, #0", "bne.w 1b", "pop {r3-r11, pc}"]


def two_bits(shape: PackedShape) -> list[str]:
    """r0 weights, r1 inputs, r2 turns left, r3 the mask of a half word's ends, r4 sums of a and b, r5 of c and d, r6 of
    the inputs.

    Four inputs in r8 (even) and r10 (odd), their word of weights in r9; r12 holds -base twice; r7 counts the turns of
    the chunk.
    """
    lines = ["push {r3-r11, lr}", "movw r3, #0xC003", "movt r3, #0xC003"]
    if shape.base:
        lines += [f"movw r12, #{-shape.base & 0xFFFF}", f"movt r12, #{-shape.base & 0xFFFF}"]
    extend = "sxtab16 {0}, r12, {1}" if shape.base else "sxtb16 {0}, {1}"
    lines += [
        "1:",
        *_next_chunk("r7", "r2", shape.chunk_turns),
        *(f"mov {register}, #0" for register in ("r4", "r5", "r6")),
        "2:",
    ]
    for group in range(TURN // 4):
        lines += [
            f"ldr r8, [r1, #{4 * group}]",
            f"ldr r9, [r0, #{4 * group}]",
            extend.format("r10", "r8") + ", ror #8",
            extend.format("r8", "r8"),
            "sadd16 r6, r6, r8",
            "sadd16 r6, r6, r10",
        ]
        for turned, (x, total) in enumerate((("r8", "r4"), ("r10", "r4"), ("r8", "r5"), ("r10", "r5"))):
            lines += [
                "and r11, r3, r9" + (f", ror #{4 * turned}" if turned else ""),
                f"smlad {total}, {x}, r11, {total}",
            ]
    lines += [f"add r0, #{TURN}", f"add r1, #{TURN}", "subs r7, #1", "bne.w 2b", *_input_sum("r6")]
    lines += ["lsl r6, r6, #1"] if shape.offset == 2 else []
    lines += [
        "ldr r7, [sp]",
        "ldm r7, {r8, r9, r10, r11}",
        "sbfx lr, r4, #0, #14",
        "sub r4, r4, lr",
        "sub lr, lr, r6",
        "add r8, lr",
        "add r9, r9, r4, asr #14",
        "sbfx lr, r5, #0, #14",
        "sub r5, r5, lr",
        "sub lr, lr, r6",
        "add r10, lr",
        "add r11, r11, r5, asr #14",
        "stm r7, {r8, r9, r10, r11}",
    ]
    return [*lines, "cmp r2, #0", "bne.w 1b", "pop {r3-r11, pc}"]


def _next_chunk(count: str, left: str, most: int) -> list[str]:
    """count = min(left, most); left -= count."""
    return [
        f"movw {count}, #{most}",
        f"cmp {left}, {count}",
        "it lt",
        f"movlt {count}, {left}",
        f"sub {left}, {left}, {count}",
    ]


def _input_sum(lanes: str) -> list[str]:
    """The sum of both int16 of a register, through r8."""
    return [f"sxth r8, {lanes}", f"add {lanes}, r8, {lanes}, asr #16"]


def sparse_row(shape: SparseShape) -> list[str]:
    """r0 entries, r1 the input last used, r2 groups left; the sum in r3. A group's distances in r8 and r9, its weights
    in r10 and r11."""
    halved, low = shape.distance_bits == 4, shape.bits == 4
    words = ["r8"] + ([] if halved else ["r9"]) + ["r10"] + ([] if low else ["r11"])
    lines = ["push {r4-r11, lr}", "mov r3, #0", "mov r12, #0x0F0F0F0F", "mvn lr, r12", "1:"]
    lines += [f"ldr {word}, [r0, #{4 * index}]" for index, word in enumerate(words) if index] + [
        f"ldr r8, [r0], #{4 * len(words)}"
    ]
    lines += ["and r9, r12, r8, lsr #4", "and r8, r12, r8"] if halved else []
    lines += (
        ["and r11, lr, r10", "and r10, lr, r10, lsl #4"] if low else []
    )  # in the high half of a byte a weight counts 16 times
    for distances, weights in (("r8", "r10"), ("r9", "r11")):
        lines += [
            f"uxtab r4, r1, {distances}",
            f"uxtab r5, r4, {distances}, ror #8",
            f"uxtab r6, r5, {distances}, ror #16",
            f"uxtab r1, r6, {distances}, ror #24",
            "ldrsb r4, [r4]",
            "ldrsb r5, [r5]",
            "ldrsb r6, [r6]",
            "ldrsb r7, [r1]",
            f"sxtb16 {distances}, {weights}",
            f"sxtb16 {weights}, {weights}, ror #8",
            f"smlabb r3, r4, {distances}, r3",
            f"smlabb r3, r5, {weights}, r3",
            f"smlabt r3, r6, {distances}, r3",
            f"smlabt r3, r7, {weights}, r3",
        ]
    return [*lines, "subs r2, #1", "bne.w 1b", "asr r0, r3, #4" if low else "mov r0, r3", "pop {r4-r11, pc}"]


@dataclass(frozen=True)
class DenseCode:
    """nn_dense_lowbit_code or nn_dense_sparse_code of one layer: assembly where the CPU has SMLAD, a null pointer
    elsewhere."""

    shape: PackedShape | SparseShape

    def render(self, prefix: str) -> str:
        """C text, see render()."""
        return render(prefix, self.shape)
