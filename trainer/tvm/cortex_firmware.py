"""The third engine: a run's generated firmware files with the convolutions and dense layers compiled by TVM, all else
by our kernels.

The files keep the contract of model_aot.h, so the firmware is built from them like from the converter's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter import convert as conversion
from converter.aot.c_text import comment, string, wrapped
from converter.aot.emit import HEADER, layer_data
from converter.aot.lower import lower_layer
from converter.aot.memory_plan import ArenaPlan, plan_arena
from converter.graph import Graph, Operator
from trainer.errors import TrainerError
from trainer.tvm.cortex import CHANNELS, PIXELS, STEPS, Kernel, Tile, kept_stages, kernel_of, scheduled
from trainer.tvm.cortex_code import source

GENERATORS = ("c", "llvm")
ASSEMBLY = "model_tvm.S"
PROVENANCE = "// Made by: python -m trainer tvm firmware (do not edit)\n"
TYPES = {"int8": "int8_t", "int16": "int16_t", "int32": "int32_t"}
# What generated code calls. TVM's C code has no vector types for this CPU, so the dual multiply-accumulate is said in
# ARM's own words.
STUBS = """\
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>

static inline int32_t load4(const void *from)
{
    int32_t value;
    memcpy(&value, from, 4);
    return value;
}

// two products of int16 added to a sum
static inline int32_t tvm_dot2(const int16_t *a, const int16_t *b, int32_t sum)
{
    return __smlad(load4(a), load4(b), sum);
}

// four products of int8 added to a sum
static inline int32_t tvm_dot4(const int8_t *a, const int8_t *b, int32_t sum)
{
    const int32_t x = load4(a), w = load4(b);
    sum = __smlad(__sxtb16(x), __sxtb16(w), sum);
    return __smlad(__sxtb16(x >> 8), __sxtb16(w >> 8), sum);
}
#else
static inline int32_t tvm_dot2(const int16_t *a, const int16_t *b, int32_t sum)
{
    return sum + a[0] * b[0] + a[1] * b[1];
}

static inline int32_t tvm_dot4(const int8_t *a, const int8_t *b, int32_t sum)
{
    return sum + a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
}
#endif
"""


def write_firmware(
    run: Path, out: Path, steps: int | None = None, generator: str = "llvm", tile: Tile = (PIXELS, CHANNELS)
) -> None:
    """The folder OUT/firmware, made like `converter convert`, with TVM's code after the first `steps` steps of the
    schedule (None: all)."""
    if generator not in GENERATORS:
        raise TrainerError(
            f"tvm firmware: the code generator is one of {', '.join(GENERATORS)}, got {generator!r}; name one of these"
        )
    loaded = conversion.load(run)
    texts = render(loaded.graph, len(STEPS) if steps is None else steps, generator, tile)
    files = {**conversion.render(loaded), **{name: text.encode() for name, text in texts.items()}}
    folder = out / "firmware"
    conversion.write_all(files, folder)
    if ASSEMBLY not in files:
        (folder / ASSEMBLY).unlink(missing_ok=True)


def render(graph: Graph, steps: int, generator: str, tile: Tile = (PIXELS, CHANNELS)) -> dict[str, str]:
    """model_aot.c and .h, and for LLVM the functions' assembly."""
    kernels = [kernel_of(graph, layer) for layer in graph.layers]
    if not any(kernels):
        raise TrainerError(
            "tvm firmware: TVM compiles convolutions and dense layers, the model has none; use `converter convert`"
        )
    if graph.variables:
        raise TrainerError("tvm firmware: the model keeps state between inferences; use `converter convert`")
    schedules = {number: scheduled(kernel, steps, "c", tile) for number, kernel in enumerate(kernels) if kernel}
    texts = {number: source(schedule, f"tvm_layer{number}", "c") for number, schedule in schedules.items()}
    ours = {n: lower_layer(graph, layer) for n, layer in enumerate(graph.layers) if n not in texts}
    rooms = [_rooms(kernel, steps) if kernel else [] for kernel in kernels]
    scratches = [
        sum(rooms[n]) if n in texts else (lowered.scratch_bytes if (lowered := ours[n]) else 0)
        for n in range(len(kernels))
    ]
    plan = plan_arena(graph, scratches)
    header = HEADER.format(
        input_bytes=graph.tensors[graph.input].size,
        output_bytes=graph.tensors[graph.output].size,
        layers=len(graph.layers),
        arena_bytes=plan.arena_bytes,
        scratch_bytes=max(scratches, default=0),
        state="",
        stream='#define MODEL_AOT_ENGINE "tvm"\n// No streaming: these functions run whole windows\n#define '
        "MODEL_AOT_STREAMS 0\n",
    )
    parts = [PROVENANCE, '#include "model_aot.h"\n\n#include "nn.h"\n', STUBS]
    files = {"model_aot.h": PROVENANCE + header}
    if generator == "llvm":
        made = {
            n: source(scheduled(kernel, steps, "llvm", tile), f"tvm_layer{n}", "llvm")
            for n, kernel in enumerate(kernels)
            if kernel
        }
        files[ASSEMBLY] = "".join(made.values())
        texts = {number: _prototype(text) for number, text in texts.items()}
    for number, layer in enumerate(graph.layers):
        kernel = kernels[number]
        if kernel:
            parts.append(_tables(number, layer, kernel) + texts[number])
        elif lowered := ours[number]:
            parts.append(layer_data(number, layer, lowered))
    parts.append(_entry_points(graph, kernels, plan, rooms))
    return {**files, "model_aot.c": "\n".join(parts)}


def _rooms(kernel: Kernel, steps: int) -> list[int]:
    """Bytes of each stage in RAM, multiples of 8."""
    sizes = [
        int(np.prod([int(n) for n in stage.shape])) * np.dtype(str(stage.dtype)).itemsize
        for stage in kept_stages(kernel, steps)
    ]
    return [-(-size // 8) * 8 for size in sizes]


def _prototype(c_source: str) -> str:
    """The declaration of a function that is in the assembly."""
    first = c_source.split("{", 1)[0]
    return first.replace("static ", "", 1).strip() + ";\n"


def _tables(number: int, layer: Operator, kernel: Kernel) -> str:
    tables = [f"// {number}: {type(layer).__name__} {comment(layer.name)}\n"]
    for tensor, values in zip(kernel.inputs[1:], kernel.constants, strict=True):
        tables.append(_table(f"layer{number}_{tensor.op.name}", values))
    return "".join(tables)


def _table(name: str, values: NDArray[Any]) -> str:
    literals = ["(-2147483647 - 1)" if value == -(1 << 31) else str(value) for value in values.reshape(-1).tolist()]
    return (
        f"static const _Alignas(4) {TYPES[np.dtype(values.dtype).name]} {name}[{values.size}] = "
        f"{{\n{wrapped(literals)}\n}};\n"
    )


def _entry_points(graph: Graph, kernels: list[Kernel | None], plan: ArenaPlan, rooms: list[list[int]]) -> str:
    steps = "".join(_step(graph, number, kernels[number], plan, rooms[number]) for number in range(len(kernels)))
    return f"""\
static _Alignas(16) uint32_t arena[MODEL_AOT_ARENA_BYTES / 4];
#define AT(offset) ((int8_t *)arena + (offset))

int8_t *model_aot_input(void)
{{
    return AT({plan.tensor_offsets[graph.input]});
}}

const int8_t *model_aot_output(void)
{{
    return AT({plan.tensor_offsets[graph.output]});
}}

void model_aot_run(model_aot_observer after_layer)
{{
{steps}}}
"""


def _step(graph: Graph, number: int, kernel: Kernel | None, plan: ArenaPlan, rooms: list[int]) -> str:
    layer = graph.layers[number]
    output = f"AT({plan.tensor_offsets[layer.output]})"
    inputs = [f"AT({plan.tensor_offsets[index]})" for index in layer.inputs]
    scratch = plan.scratch_offsets.get(number)
    lines = []
    if kernel:
        tables = [
            f"({TYPES[np.dtype(values.dtype).name]} *)layer{number}_{tensor.op.name}"
            for tensor, values in zip(kernel.inputs[1:], kernel.constants, strict=True)
        ]
        stages = [f"(void *)AT({(scratch or 0) + sum(rooms[:i])})" for i in range(len(rooms))]
        lines.append(f"    tvm_layer{number}({', '.join([*inputs, *tables, *stages, output])});")
    elif lowered := lower_layer(graph, layer):
        operands = [*inputs, output] + ([] if len(layer.inputs) > 1 else ["0" if scratch is None else f"AT({scratch})"])
        lines.append(f"    {lowered.function}(&layer{number}, {', '.join(operands)});")
    lines += [
        "    if (after_layer) {",
        f"        after_layer({number}, {string(layer.name)}, {output}, {graph.tensors[layer.output].size});",
        "    }",
    ]
    return "\n".join(lines) + "\n"
