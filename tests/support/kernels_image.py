"""A C program of many layers with their inputs and expected outputs: run with sanitizers here and on a Cortex-M4 in
QEMU.

The layers' data is printed by the very functions that print model_aot.c. The program says which layer differs first,
and where.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from kernels_on_host import NN, SOURCES, STRICT, compiler
from random_layers import random_graph, random_inputs

from converter import reference
from converter.aot.c_text import call_operands, wrapped
from converter.aot.emit import layer_data
from converter.aot.kernels.structs import Kernel
from converter.aot.lower import lower_layer
from converter.arrays import Int8
from converter.graph import Graph

MARK = "every layer equal"
ARM_FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=softfp", "-mfpu=fpv4-sp-d16")

DRIVER = """
static void say(const char *text);
static void done(int failures);

#define GUARD 16
static _Alignas(16) unsigned char room[GUARD + %(out_bytes)d + 3 + GUARD];
static _Alignas(16) unsigned char scratch_room[%(scratch_bytes)d + GUARD];

static void say_number(const char *before, long value)
{
    char text[16];
    int at = 15;
    const int negative = value < 0;
    text[at] = 0;
    do {
        text[--at] = (char)('0' + (negative ? -(value %% 10) : value %% 10));
        value /= 10;
    } while (value != 0);
    if (negative) {
        text[--at] = '-';
    }
    say(before);
    say(text + at);
}

static int8_t *prepare(int number, uint32_t bytes)
{
    (void)bytes;
    memset(room, 0x5A, sizeof room);
    memset(scratch_room, 0x5A, sizeof scratch_room);
    return (int8_t *)room + GUARD + number %% 4;
}

static int compare(int number, const int8_t *out, const int8_t *want, uint32_t bytes, uint32_t scratch_bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        if (out[i] != want[i]) {
            say_number("layer ", number), say_number(" byte ", (long)i), say_number(": got ", out[i]), say_number(", want ", want[i]);
            say("\\n");
            return 1;
        }
    }
    const unsigned char *start = (const unsigned char *)out, *end = start + bytes;
    for (int i = 0; i < GUARD; i++) {
        if (start[-1 - i] != 0x5A || end[i] != 0x5A || scratch_room[scratch_bytes + (uint32_t)i] != 0x5A) {
            say_number("layer ", number), say(": wrote outside its buffers\\n");
            return 1;
        }
    }
    return 0;
}
"""  # noqa: E501

MAIN = """
int main(void)
{
    int failures = 0;
    int8_t *out;
%(steps)s
    say(failures == 0 ? "%(mark)s\\n" : "differences\\n");
    say_number("layers run: ", %(layers)d), say("\\n");
    done(failures);
    return 0;
}
"""

HOST_PORT = """
#include <stdio.h>
#include <stdlib.h>
static void say(const char *text) { fputs(text, stdout); }
static void done(int failures) { exit(failures != 0); }
"""

# ARM semihosting: SYS_WRITE0 = 4, SYS_EXIT = 0x18 with ADP_Stopped_ApplicationExit
ARM_PORT = """
static void semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}
static void say(const char *text) { semihost(4, text); }
static void done(int failures) { (void)failures; semihost(0x18, (const void *)0x20026); }
int main(void);
extern uint32_t stack_top[];
void reset(void);
void reset(void)
{
    extern uint32_t data_from[], data_start[], data_end[], bss_start[], bss_end[];
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20;  // CPACR: the FPU
    __asm__ volatile("dsb\\n isb");
    for (uint32_t *from = data_from, *to = data_start; to != data_end;) { *to++ = *from++; }
    for (uint32_t *to = bss_start; to != bss_end;) { *to++ = 0; }
    main();
}
static void fault(void) { say("fault\\n"); done(1); for (;;) { } }
__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))stack_top, reset, fault, fault, fault, fault, fault,
};
"""

# QEMU's mps2-an386: 4 MB at 0 and 4 MB at 0x20000000
ARM_LINKER = """
ENTRY(reset)
SECTIONS {
  .text 0 : { KEEP(*(.vectors)) *(.text*) *(.rodata*) . = ALIGN(4); }
  data_from = LOADADDR(.data);
  .data 0x20000000 : AT(ADDR(.text) + SIZEOF(.text)) { data_start = .; *(.data*) . = ALIGN(4); data_end = .; }
  .bss : { bss_start = .; *(.bss*) *(COMMON) . = ALIGN(4); bss_end = .; }
  stack_top = 0x20400000;
  ASSERT(SIZEOF(.text) + SIZEOF(.data) <= 0x400000, "more layers than the machine has memory for")
  /DISCARD/ : { *(.ARM.exidx*) *(.ARM.extab*) }
}
"""


Case = tuple[Graph, Int8]


def random_case(index: int) -> Case:
    graph = random_graph(index)
    return graph, random_inputs(graph, index, 1)[0:1]


def image_source(cases: Sequence[Case], port: str) -> str:
    """The program for the last layers of these graphs, each in its SIMD and, where that differs, its portable form."""
    parts: list[str] = []
    calls: list[str] = []
    out_bytes = scratch_bytes = 0
    for graph, x in cases:
        tensors = reference.run(graph, x)
        layer = graph.layers[-1]
        inputs = [tensors[i] for i in layer.inputs]
        for kernel in _forms(graph):
            number = len(calls)
            out_bytes, scratch_bytes = max(out_bytes, tensors[-1].size), max(scratch_bytes, kernel.scratch_bytes)
            parts += [
                layer_data(number, layer, kernel),
                *(_bytes(f"x{number}_{i}", x, number + i) for i, x in enumerate(inputs)),
            ]
            parts.append(_bytes(f"want{number}", tensors[-1], 0))
            calls.append(_call(number, kernel, len(inputs), tensors[-1].size))
    includes = '#include <stdint.h>\n#include <string.h>\n#include "nn.h"\n#include "nn_lowbit.h"\n'
    driver = DRIVER % {"out_bytes": out_bytes, "scratch_bytes": scratch_bytes}
    return "\n".join(
        [includes, port, driver, *parts, MAIN % {"steps": "\n".join(calls), "layers": len(calls), "mark": MARK}]
    )


def _forms(graph: Graph) -> list[Kernel]:
    simd, portable = (lower_layer(graph, graph.layers[-1], simd) for simd in (True, False))
    assert simd is not None and portable is not None
    return [simd] if simd.function == portable.function else [simd, portable]


def _bytes(name: str, values: Int8, misalign: int) -> str:
    """The values at an address that is `misalign` mod 4 beyond a multiple of 4, nothing behind them."""
    shift = misalign % 4
    padded = [0] * shift + values.reshape(-1).tolist()
    return (
        f"static const _Alignas(4) int8_t {name}_room[{len(padded)}] = {{\n{wrapped([str(v) for v in padded])}\n}};\n"
        f"static const int8_t *const {name} = {name}_room + {shift};\n"
    )


def _call(number: int, kernel: Kernel, inputs: int, out_bytes: int) -> str:
    operands = call_operands(kernel.layer, [f"x{number}_{i}" for i in range(inputs)], "out", "scratch_room")
    return (
        f"    out = prepare({number}, {out_bytes}u);\n    {kernel.function}(&layer{number}, {operands});\n"
        f"    failures += compare({number}, out, want{number}, {out_bytes}u, {kernel.scratch_bytes}u);"
    )


def build_host_image(folder: Path, cases: Sequence[Case]) -> Path:
    """An executable with address and undefined-behaviour sanitizers that stop at the first finding."""
    source = folder / "image.c"
    source.write_text(image_source(cases, HOST_PORT))
    target, sanitized = folder / "image", ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = (compiler(), *STRICT, "-g", "-O1", *sanitized, f"-I{NN}")
    _run([*command, str(source), *_kernels(command), "-o", str(target)])
    return target


def build_arm_image(folder: Path, cases: Sequence[Case], optimize: str) -> Path:
    """A bare ELF for mps2-an386 with the real DSP instructions."""
    source, linker, target = folder / "image.c", folder / "image.ld", folder / "image.elf"
    source.write_text(image_source(cases, ARM_PORT))
    linker.write_text(ARM_LINKER)
    command = (compiler("arm-none-eabi-gcc"), *ARM_FLAGS, *STRICT, optimize, f"-I{NN}")
    layout = ("-nostartfiles", f"-T{linker}", "-Wl,-n")
    _run([*command, *layout, str(source), *_kernels(command), "-o", str(target)])
    return target


@functools.cache
def _kernels(command: tuple[str, ...]) -> tuple[str, ...]:
    """All kernels, compiled once by a process that makes many images."""
    folder = Path(tempfile.mkdtemp(prefix="kws-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _run([*command, "-c", *map(str, SOURCES)], cwd=folder)
    return tuple(map(str, sorted(folder.glob("*.o"))))


def run_qemu(elf: Path) -> str:
    """What the image said."""
    semihosting = ("-semihosting-config", "enable=on,target=native")
    return _run(
        [compiler("qemu-system-arm"), "-M", "mps2-an386", "-nographic", *semihosting, "-kernel", str(elf)], timeout=120
    )


def _run(command: list[str], timeout: float = 300, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL, cwd=cwd
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def expected_outputs(index: int, row: int = 0, count: int = 3) -> tuple[list[Int8], Int8]:
    """Inputs of the last layer of random graph `index` and what it must give."""
    graph = random_graph(index)
    tensors = reference.run(graph, random_inputs(graph, index, count)[row : row + 1])
    return [np.ascontiguousarray(tensors[i]) for i in graph.layers[-1].inputs], tensors[-1]
