"""Random streams of Thumb-2 integer, DSP and floating point instructions, as assembly for
tests/support/bare/results.c."""

from __future__ import annotations

import random

_LOW = [f"r{index}" for index in range(0, 8)]
_THREE = [
    "add",
    "adds",
    "sub",
    "subs",
    "and",
    "ands",
    "orr",
    "eor",
    "bic",
    "orn",
    "rsb",
    "adc",
    "adcs",
    "sbc",
    "mul",
    "lsl",
    "lsr",
    "asr",
    "ror",
]
_DSP_THREE = [
    prefix + operation
    for prefix in ("s", "q", "sh", "u", "uq", "uh")
    for operation in ("add16", "sub16", "add8", "sub8", "asx", "sax")
]
_DSP_MORE = [
    "qadd",
    "qsub",
    "qdadd",
    "qdsub",
    "sel",
    "usad8",
    "smulbb",
    "smulbt",
    "smultb",
    "smultt",
    "smulwb",
    "smulwt",
    "smuad",
    "smuadx",
    "smusd",
    "smusdx",
    "smmul",
    "smmulr",
    "sdiv",
    "udiv",
    "uxtab16",
    "sxtab16",
    "uxtab",
    "sxtah",
]
_FOUR = [
    "mla",
    "mls",
    "smlabb",
    "smlatt",
    "smlabt",
    "smlad",
    "smladx",
    "smlsd",
    "smlawb",
    "smmla",
    "smmls",
    "smmlsr",
    "usada8",
]
_LONG = ["umull", "smull", "umlal", "smlal", "umaal", "smlald", "smlaldx", "smlsld", "smlalbb", "smlaltt"]
_TWO = ["mvn", "rev", "rev16", "revsh", "rbit", "clz", "sxtb", "uxth", "sxth", "uxtb", "sxtb16", "uxtb16"]
_FLOAT_THREE = [
    "vadd.f32",
    "vsub.f32",
    "vmul.f32",
    "vdiv.f32",
    "vnmul.f32",
    "vmla.f32",
    "vmls.f32",
    "vfma.f32",
    "vfms.f32",
    "vfnma.f32",
    "vfnms.f32",
]
_SPECIAL_FLOATS = [0, 0x80000000, 0x7F800000, 0x7FC00000, 1]
_FLOAT_TWO = [
    "vabs.f32",
    "vneg.f32",
    "vsqrt.f32",
    "vmov.f32",
    "vcvt.s32.f32",
    "vcvt.u32.f32",
    "vcvt.f32.s32",
    "vcvt.f32.u32",
    "vcvtr.s32.f32",
    "vcvtb.f32.f16",
    "vcvtb.f16.f32",
]


def _one(rng: random.Random) -> str:
    def low() -> str:
        return rng.choice(_LOW)

    def single() -> str:
        return f"s{rng.randrange(16)}"

    kind = rng.randrange(12)
    if kind == 0:
        return f"{rng.choice(_THREE)} {low()}, {low()}, {low()}"
    if kind in (1, 2):
        return f"{rng.choice(_DSP_THREE)} {low()}, {low()}, {low()}"
    if kind == 3:
        return f"{rng.choice(_DSP_MORE)} {low()}, {low()}, {low()}"
    if kind == 4:
        return f"{rng.choice(_FOUR)} {low()}, {low()}, {low()}, {low()}"
    if kind == 5:
        first, second = rng.sample(_LOW, 2)
        return f"{rng.choice(_LONG)} {first}, {second}, {low()}, {low()}"
    if kind == 6:
        return f"{rng.choice(_TWO)} {low()}, {low()}"
    if kind == 7:
        operation = rng.choice(["ssat", "usat", "ssat16", "usat16", "ubfx", "sbfx", "bfi", "bfc", "pkhbt", "pkhtb"])
        return _immediate(rng, operation, low(), low(), low())
    if kind == 8:
        return (
            f"{rng.choice(['cmp', 'cmn', 'tst', 'teq'])} {low()}, {low()}\n it "
            f"{rng.choice(['eq', 'ne', 'lt', 'ge', 'hi', 'vs'])}"
        )
    if kind == 9:
        return f"vmov {single()}, {low()}" if rng.random() < 0.5 else f"vmov {low()}, {single()}"
    if kind == 10:
        return f"{rng.choice(_FLOAT_THREE)} {single()}, {single()}, {single()}"
    return f"{rng.choice(_FLOAT_TWO)} {single()}, {single()}"


def _immediate(rng: random.Random, operation: str, a: str, b: str, c: str) -> str:
    if operation in ("ssat", "usat"):
        return f"{operation} {a}, #{rng.randrange(1, 32)}, {b}, {rng.choice(['lsl', 'asr'])} #{rng.randrange(1, 31)}"
    if operation in ("ssat16", "usat16"):
        return f"{operation} {a}, #{rng.randrange(1, 16)}, {b}"
    if operation == "pkhbt":
        return f"pkhbt {a}, {b}, {c}, lsl #{rng.randrange(1, 31)}"
    if operation == "pkhtb":
        return f"pkhtb {a}, {b}, {c}, asr #{rng.randrange(1, 31)}"
    start = rng.randrange(31)
    width = rng.randrange(1, 32 - start)
    return f"bfc {a}, #{start}, #{width}" if operation == "bfc" else f"{operation} {a}, {b}, #{start}, #{width}"


def _conditional(text: str, following: str) -> str:
    """An IT block over the next instruction, which must carry the condition."""
    condition = text.rsplit(" ", 1)[1]
    operation, _, operands = following.partition(" ")
    name, _, suffix = operation.partition(".")
    return f"{text}\n {name}{condition}{'.' + suffix if suffix else ''} {operands}"


def stream(seed: int, chunks: int = 20, per_chunk: int = 30) -> str:
    """Assembly of `int main(void)`: chunks of instructions, after each of which r0-r7, flags, s0-s15 and FPSCR go into
    the results."""
    rng = random.Random(seed)
    lines = [
        ".syntax unified",
        ".thumb",
        ".cpu cortex-m4",
        ".fpu fpv4-sp-d16",
        ".text",
        ".global main",
        ".type main, %function",
        "main:",
        " ldr r9, =results",
    ]
    for chunk in range(chunks):
        for register in _LOW:
            value = rng.choice(
                [rng.getrandbits(32), rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x80008000, 0x7F80])]
            )
            lines.append(f" ldr {register}, ={value:#x}")
        for index in range(16):
            value = rng.choice([rng.getrandbits(32), rng.getrandbits(30) | 0x30000000, rng.choice(_SPECIAL_FLOATS)])
            lines += [f" ldr r8, ={value:#x}", f" vmov s{index}, r8"]
        rounding = rng.choice([0, 0, 0x01000000, 0x02000000, 0x00400000, 0x00800000, 0x00C00000])
        lines += [
            f" ldr r8, ={rng.getrandbits(5) << 27 | rng.getrandbits(4) << 16:#x}",
            " msr apsr_nzcvqg, r8",
            f" ldr r8, ={rounding:#x}",
            " vmsr fpscr, r8",
        ]
        pending = None
        for _ in range(per_chunk):
            one = _one(rng)
            while pending and ("\n" in one or one.startswith(("adds", "subs", "ands", "adcs"))):
                one = _one(rng)
            if pending:
                lines.append(" " + _conditional(pending, one))
                pending = None
            elif "\n" in one:
                pending = one
            else:
                lines.append(" " + one)
        lines += [
            " stmia r9!, {r0-r7}",
            " mrs r0, apsr",
            " stmia r9!, {r0}",
            " vstmia r9!, {s0-s15}",
            " vmrs r0, fpscr",
            " stmia r9!, {r0}",
            f" b chunk_{chunk}",
            " .ltorg",
            f"chunk_{chunk}:",
        ]
    lines += [" ldr r0, =result_count", f" ldr r1, ={26 * chunks}", " str r1, [r0]", " bl finish", " .ltorg"]
    return "\n".join(lines) + "\n"
