"""Random IT blocks of one to four instructions with every form of load and store, as assembly for
tests/support/bare/it_blocks.c."""

from __future__ import annotations

import random

_CONDITIONS = ("eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")
_OPPOSITE = {one: _CONDITIONS[index ^ 1] for index, one in enumerate(_CONDITIONS)}
# {c} is the condition; {d} {e} data registers; {b} a pointer to a multiple of 8 inside the pool, {n} a small index
LOADS_AND_STORES = (
    *(
        f"{operation}{{c}}{width} {{d}}, {address}"
        for operation in ("ldr", "ldrb", "ldrh", "ldrsb", "ldrsh", "str", "strb", "strh")
        for width, address in (
            (".w" if operation[3:4] == "s" else ".n", "[{b}, #4]"),
            (".n", "[{b}, {n}]"),
            (".w", "[{b}, #-8]"),
            (".w", "[{b}, #20]"),
            (".w", "[{b}, {n}, lsl #2]"),
            (".w", "[{b}, #4]!"),
            (".w", "[{b}, #-4]!"),
            (".w", "[{b}], #4"),
        )
    ),
    *("ldr{c}.n {d}, [sp, #4]", "str{c}.n {d}, [sp, #4]", "ldr{c}.w {d}, [sp, #8]", "str{c}.w {d}, [sp, #-8]"),
    *("ldr{c}.w {d}, near_{k}", "ldr{c}.n {d}, near_{k}", "ldrd{c} {d}, {e}, near_{k}", "ldrh{c}.w {d}, near_{k} + 2"),
    *(f"{one}{{c}} {{d}}, {{e}}, [{{b}}]" for one in ("ldrd", "strd")),
    *(f"{one}{{c}} {{d}}, {{e}}, [{{b}}, #{at}]" for one in ("ldrd", "strd") for at in (8, -8)),
    *(f"{one}{{c}} {{d}}, {{e}}, [{{b}}, #{at}]!" for one in ("ldrd", "strd") for at in (8, -8)),
    *(f"{one}{{c}} {{d}}, {{e}}, [{{b}}], #{at}" for one in ("ldrd", "strd") for at in (8, -8)),
    *("ldrd{c} {d}, {e}, [sp, #8]", "strd{c} {d}, {e}, [sp, #-8]"),
    *("ldmia{c} {b}!, {{{d}, {e}}}", "stmia{c} {b}!, {{{d}, {e}}}", "ldmia{c}.w {b}, {{{d}, {e}}}"),
    *("ldmdb{c} {b}, {{{d}, {e}}}", "stmdb{c} {b}!, {{{d}, {e}}}", "ldmdb{c} {b}!, {{{d}, {e}}}"),
    *("ldrex{c} {d}, [{b}, #4]", "ldrexb{c} {d}, [{b}]", "ldrexh{c} {d}, [{b}]", "strex{c} {d}, {e}, [{b}]"),
    *("strexb{c} {d}, {e}, [{b}]", "strexh{c} {d}, {e}, [{b}]"),
    *("vldr{c} s1, [{b}, #4]", "vstr{c} s2, [{b}, #-4]", "vldr{c} d1, [{b}]", "vstr{c} d2, [{b}, #8]"),
    *("vldmia{c} {b}, {{s4-s6}}", "vstmia{c} {b}!, {{s3-s5}}", "vldmdb{c} {b}!, {{d1}}", "vstmdb{c} {b}!, {{d2}}"),
    *("ldr{c}t {d}, [{b}, #4]", "str{c}t {d}, [{b}, #4]"),
)
_OTHERS = ("mov{c} {d}, {e}", "add{c}.w {d}, {d}, #1", "mvn{c}.w {d}, {e}", "cmp{c} {d}, {e}", "vadd{c}.f32 s1, s2, s3")
_ENDS = ("b{c} end_{k}", "bx{c} r11", "ldr{c} pc, [r10, #4]", "ldmia{c}.w r10, {{{d}, pc}}", "bl{c} back", "blx{c} r12")


def _mask(rng: random.Random, count: int) -> tuple[str, list[str]]:
    """The mnemonic of an IT with its condition, and the conditions of its instructions."""
    first = rng.choice(_CONDITIONS)
    rest = [rng.random() < 0.5 for _ in range(count - 1)]
    return (
        f"it{''.join('t' if same else 'e' for same in rest)} {first}",
        [first, *(first if same else _OPPOSITE[first] for same in rest)],
    )


def _instruction(rng: random.Random, form: str, condition: str, number: int) -> str:
    d, e = rng.sample(["r0", "r1", "r2", "r3"], 2)
    if "{{{d}" in form or "{{" in form:
        d, e = sorted((d, e))
    b = rng.choice(["r4", "r5"])
    text = form.format(c=condition, d=d, e=e, b=b, n=rng.choice(["r6", "r7"]), k=number)
    return text.replace(f"ldr{condition}t", f"ldrt{condition}").replace(f"str{condition}t", f"strt{condition}")


def it_blocks(seed: int, blocks: int) -> str:
    """Assembly of `void blocks(void)` for it_blocks.c: each block runs on fresh registers with random flags, four times
    over, with pointers that are loaded in the same basic block, known before, or off by one to three bytes."""
    rng = random.Random(seed)
    lines = [".syntax unified", ".thumb", ".cpu cortex-m4", ".fpu fpv4-sp-d16", ".text", ".global it_blocks, back"]
    lines += [".type it_blocks, %function", "it_blocks:", " push {r4-r11, lr}", " sub sp, #64"]
    for number in range(blocks):
        count = rng.randrange(1, 5)
        it, conditions = _mask(rng, count)
        odd = rng.randrange(4) if rng.random() < 0.3 else 0
        known = [one for one in LOADS_AND_STORES if not odd or not one.startswith("strex")]  # QEMU does not check them
        forms = [rng.choice(known if rng.random() < 0.8 else _OTHERS) for _ in conditions]
        if rng.random() < 0.15:
            forms[-1] = rng.choice(_ENDS)
        body = [_instruction(rng, one, condition, number) for one, condition in zip(forms, conditions, strict=True)]
        lines += [
            f" movs r0, #{odd}",
            f" adr.w r1, end_{number} + 1",
            " bl prepare",  # r0 to r8 (3), the flags, FP registers; r10 to r12: where the ends of the block go
            *([" ldr r4, [r9]", " ldr r5, [r9, #4]"] if rng.random() < 0.5 else []),
            *([" nop"] * rng.randrange(3)),
            *([f" b.n at_{number}"] if rng.random() < 0.3 else []),
            f"at_{number}:",
            f" {it}",
            *(f" {one}" for one in body),
            *([" subs r8, #1", f" bne.w at_{number}"] if rng.random() < 0.3 else []),  # the block leads to itself
            f" b.n end_{number}",
            " .balign 4",
            f"near_{number}: .word {rng.getrandbits(32):#x}, {rng.getrandbits(32):#x}",
            f"end_{number}:",
            " bl keep",
        ]
        if number % 16 == 15:
            lines += [f" b.w over_{number}", *[" nop"] * 40, f"over_{number}:"]
    lines += [" add sp, #64", " pop {r4-r11, pc}", ".thumb_func", "back: bx lr"]
    return "\n".join(lines) + "\n"
