"""The AOT engine: a Graph as two C files that call the kernels of firmware/lib/nn, no interpreter, no allocation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from converter.aot.c_text import call_operands, comment, string, struct_fields, wrapped
from converter.aot.emit_stream import keep_sums, stream_header, stream_source
from converter.aot.kernels.asm import AsmCode
from converter.aot.kernels.low_bits.dense_lowbit_asm import DenseCode
from converter.aot.kernels.structs import Channels, Kernel, NnDenseSparseLayer, Sums, Unpacked, Value, members
from converter.aot.kernels.weight_tables import (
    bytes_apart,
    movable_bytes,
    place_tables,
    scratch_with_table,
    stored,
    table_of,
    unpack_call,
    unpack_kernels,
)
from converter.aot.lower import lower_layer
from converter.aot.memory_plan import ArenaPlan, kept_after, plan_arena
from converter.aot.placement import layers_in_ram
from converter.aot.stream_plan import StreamPlan, plan_stream
from converter.arrays import Int8, Int32
from converter.errors import ConvertError
from converter.graph import Graph, Operator, Variable
from converter.target import Target

# Bytes that the smallest firmware, without a front end, takes beside the engine, its stack included; tests/emulator/
# test_build.py compares with an image.
LEAST_FLASH_BESIDE, LEAST_RAM_BESIDE = 16_500, 40_000
PROVENANCE = "// Made by: python -m converter convert (do not edit)\n"

ARENA = """\
static _Alignas(16) uint32_t arena[MODEL_AOT_ARENA_BYTES / 4];
#define AT(offset) ((int8_t *)arena + (offset))
"""

HEADER = """\
#ifndef MODEL_AOT_H
#define MODEL_AOT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define MODEL_AOT_INPUT_BYTES {input_bytes}
#define MODEL_AOT_OUTPUT_BYTES {output_bytes}
#define MODEL_AOT_LAYERS {layers}
#define MODEL_AOT_ARENA_BYTES {arena_bytes} // activations and scratch together
#define MODEL_AOT_SCRATCH_BYTES {scratch_bytes} // the largest scratch of one layer, part of the arena

// Called after each layer; `output` is valid during the call only.
typedef void (*model_aot_observer)(int layer, const char *name, const int8_t *output, uint32_t bytes);

int8_t *model_aot_input(void); // may be overwritten by model_aot_run
const int8_t *model_aot_output(void); // valid until the next model_aot_run
void model_aot_run(model_aot_observer after_layer); // after_layer may be NULL
{state}
{stream}
#ifdef __cplusplus
}}
#endif
#endif
"""


STATE = """#define MODEL_AOT_STATE_BYTES {bytes} // that the model keeps from run to run, part of the arena
void model_aot_reset(void); // the next run is the first again
"""


def engine_kernels(graph: Graph) -> list[Kernel | None]:
    """The kernels of the compiled engine as its flash holds their constants."""
    return unpack_kernels(graph, [lower_layer(graph, layer) for layer in graph.layers])


def render_aot(
    graph: Graph,
    simd: bool = True,
    hop_frames: int | None = None,
    target: Target | None = None,
    ram_budget: int | None = 0,
) -> dict[str, str]:
    """model_aot.c and model_aot.h; the same graph always gives the same bytes. simd=False takes the portable kernels
    only.

    ram_budget: bytes of RAM for code, arena and the constants of layers that are copied there; None: as layers_in_ram
    says. With hop_frames the engine also streams by such hops where the model can; where not, the header says why.
    Raises ConvertError where a target is named and has less flash or RAM than the model and the least firmware round it
    take.
    """
    engine = plan_engine(graph, simd, hop_frames, ram_budget)
    if target is not None:
        _require_fit(graph, engine.kernels, engine.plan.arena_bytes, engine.in_ram, target)
    header = HEADER.format(
        input_bytes=graph.tensors[graph.input].size,
        output_bytes=graph.tensors[graph.output].size,
        layers=len(graph.layers),
        arena_bytes=engine.plan.arena_bytes,
        scratch_bytes=max(engine.scratches, default=0),
        state=STATE.format(bytes=sum(graph.tensors[v.read].size for v in graph.variables)) if graph.variables else "",
        stream=stream_header(engine.stream, engine.no_stream),
    )
    return {"model_aot.h": PROVENANCE + header, "model_aot.c": PROVENANCE + _source(graph, engine)}


@dataclass(frozen=True, eq=False)
class PlannedEngine:
    """All that is decided before text is written. scratches: bytes by layer; stream: None where no_stream says why;
    in_ram: the layers whose constants are copied to RAM at start."""

    kernels: list[Kernel | None]
    scratches: list[int]
    plan: ArenaPlan
    stream: StreamPlan | None
    no_stream: str
    in_ram: set[int]

    @property
    def final_kernels(self) -> list[Kernel | None]:
        """As they are written: those that stream with the sums that they keep."""
        return keep_sums(self.stream, self.kernels) if self.stream else self.kernels


def plan_engine(
    graph: Graph, simd: bool = True, hop_frames: int | None = None, ram_budget: int | None = None
) -> PlannedEngine:
    """The engine of a graph; see render_aot for what it is given."""
    kernels: list[Kernel | None] = [lower_layer(graph, layer, simd) for layer in graph.layers]
    stream, why = _stream_plan(graph, hop_frames)
    kernels, scratches, plan = _planned(graph, unpack_kernels(graph, kernels) if simd else kernels, stream)
    in_ram = layers_in_ram(graph, kernels, plan.arena_bytes, ram_budget) if simd else set()
    return PlannedEngine(kernels, scratches, plan, stream, why, in_ram)


def _require_fit(
    graph: Graph, kernels: list[Kernel | None], arena_bytes: int, in_ram: set[int], target: Target
) -> None:
    """No model passes of which it is certain that the linker will refuse it; it has the last word on all others."""
    flash = sum(stored(kernel)[1] for kernel in kernels if kernel)
    ram = arena_bytes + bytes_apart(kernels) + sum(movable_bytes(kernels[number]) for number in in_ram)
    window = graph.tensors[graph.input].size if graph.spec_json else 0
    for memory, of, model, beside, has, mend in (
        ("flash", "constants", flash, LEAST_FLASH_BESIDE, target.flash_bytes, "take fewer or narrower weights"),
        (
            "RAM",
            "activations, scratch and constants kept there",
            ram,
            LEAST_RAM_BESIDE + window,
            target.ram_bytes,
            "make its layers smaller, or its --ram-budget",
        ),
    ):
        if (over := model + beside - has) > 0:
            raise ConvertError(
                f"the model is at least {over:,} bytes over the {memory} of the {target.name}: {model:,} bytes of {of} "
                f"and {beside:,} of firmware, {has:,} are there; {mend}"
            )


def _planned(
    graph: Graph, kernels: list[Kernel | None], stream: StreamPlan | None
) -> tuple[list[Kernel | None], list[int], ArenaPlan]:
    """(kernels, scratch bytes, arena); tables of unpacked weights are scratch, or have places of their own where that
    takes no more RAM."""
    kept = {index: kept.bytes for index, kept in stream.kept.items()} if stream else {}
    scratches = [kernel.scratch_bytes if kernel else 0 for kernel in kernels]
    plan = plan_arena(graph, scratches, kept)
    tables = 4 * sum(table.words for kernel in kernels if (table := table_of(kernel)))
    if not tables:
        return kernels, scratches, plan
    with_tables = [scratch_with_table(kernel) for kernel in kernels]
    shared = plan_arena(graph, with_tables, kept)
    if plan.arena_bytes + tables <= shared.arena_bytes:
        return kernels, scratches, plan
    return place_tables(kernels, shared.scratch_offsets), with_tables, shared


def engine_memory(graph: Graph, kernels: Sequence[Kernel | None], hop_frames: int | None) -> tuple[int, int]:
    """Bytes of the constants of engine_kernels in flash, and of the arena with the tables that have places of their
    own: all that is not code."""
    kernels, _, plan = _planned(graph, list(kernels), _stream_plan(graph, hop_frames)[0])
    constants = sum(stored(kernel)[1] for kernel in kernels if kernel)
    return constants, plan.arena_bytes + bytes_apart(kernels)


def _stream_plan(graph: Graph, hop_frames: int | None) -> tuple[StreamPlan | None, str]:
    """The plan, or None and the reason."""
    if hop_frames is None:
        return None, "no hop was asked for"
    try:
        return plan_stream(graph, hop_frames), ""
    except ConvertError as error:
        return None, str(error)


def _source(graph: Graph, engine: PlannedEngine) -> str:
    kernels = engine.kernels
    packed = any(kernel and (kernel.layer.header == "nn_lowbit.h" or table_of(kernel)) for kernel in kernels)
    string_h = "#include <string.h>\n\n" if graph.variables else ""
    parts = [f'#include "model_aot.h"\n\n{string_h}#include "nn.h"\n' + ('#include "nn_lowbit.h"\n' if packed else "")]
    if any(table_of(kernel) for kernel in kernels):  # tables point into the arena
        parts.append(ARENA)
    kernels = engine.final_kernels
    parts += [
        layer_data(i, layer, kernel, i in engine.in_ram)
        for i, (layer, kernel) in enumerate(zip(graph.layers, kernels, strict=True))
        if kernel
    ]
    parts.append(_entry_points(graph, kernels, engine.plan))
    if engine.stream:
        parts.append(stream_source(engine.stream, kernels, engine.plan))
    return "\n".join(parts)


def layer_data(number: int, layer: Operator, kernel: Kernel, in_ram: bool = False) -> str:
    """The tables of one layer, in flash or copied to RAM at start, then its struct."""
    prefix = f"layer{number}"
    tables = [text for name, value in _table_order(kernel) for text in _table(f"{prefix}_{name}", value, in_ram)]
    body = f"static const {kernel.layer.struct} {prefix} = {{\n{struct_fields(prefix, kernel.layer)}\n}};\n"
    checks = ""
    if kernel.scratch:
        sizes = ", ".join(map(str, kernel.scratch.sizes))
        wanted = f"{kernel.scratch.macro}({sizes}) == {kernel.scratch.bytes}"
        checks = f'_Static_assert({wanted}, "{prefix}: scratch as nn.h wants it");\n'
    return f"// {number}: {type(layer).__name__} {comment(layer.name)}\n" + "".join(tables) + body + checks


def _table_order(kernel: Kernel) -> list[tuple[str, Value]]:
    """The fields in the order in which their tables lie in flash: as in the struct, but `groups` last."""
    if isinstance(kernel.layer, NnDenseSparseLayer):
        return sorted(members(kernel.layer), key=lambda member: member[0] == "groups")
    return list(members(kernel.layer))


def _table(name: str, value: Value, in_ram: bool = False) -> list[str]:
    place = "NN_IN_RAM static" if in_ram else "static const"
    if isinstance(value, np.ndarray):
        kind = "int8_t" if value.dtype == np.int8 else "int32_t"
        return [f"{place} _Alignas(4) {kind} {name}[{value.size}] = {{\n{wrapped(_literals(value))}\n}};\n"]
    if isinstance(value, Unpacked):
        room = f"static _Alignas(4) {value.kind} {name}[{4 * value.words // (1 if value.kind == 'int8_t' else 4)}];\n"
        return [
            *_table(f"{name.removesuffix('_weights')}_packed", value.packed),
            *([room] if value.offset is None else []),
        ]
    if isinstance(value, Sums):
        return [f"static int32_t {name}[{value.words}];\n"]
    if isinstance(value, (AsmCode, DenseCode)):
        return [value.render(name.removesuffix("_code"))]
    if isinstance(value, Channels):
        rows = zip(_literals(value.bias), value.multiplier.tolist(), value.shift.tolist(), strict=True)
        texts = [f"{{{bias}, {multiplier}, {shift}}}" for bias, multiplier, shift in rows]
        return [f"{place} nn_channel {name}[{len(texts)}] = {{\n{wrapped(texts)}\n}};\n"]
    return []


def _literals(values: Int8 | Int32) -> list[str]:
    return ["(-2147483647 - 1)" if value == -(1 << 31) else str(value) for value in values.tolist()]


def _entry_points(graph: Graph, kernels: list[Kernel | None], plan: ArenaPlan) -> str:
    kept = kept_after(graph)
    steps = [
        _step(graph, i, kernel, plan) + "".join(_keep(graph, variable, plan) for variable in kept.get(i, ()))
        for i, kernel in enumerate(kernels)
    ]
    once = [line for i, kernel in enumerate(kernels) for line in unpack_call(i, kernel, once=True)]
    if once:
        inside = "\n".join(f"    {line}" for line in [*once, "    unpacked = 1;"])
        steps.insert(0, f"    static int unpacked;\n    if (!unpacked) {{\n{inside}\n    }}\n")
    if graph.variables:
        steps.insert(0, "    if (!begun) {\n        model_aot_reset();\n    }\n")
    return (
        ("" if any(table_of(kernel) for kernel in kernels) else f"{ARENA}\n")
        + f"""\
int8_t *model_aot_input(void)
{{
    return AT({plan.tensor_offsets[graph.input]});
}}

const int8_t *model_aot_output(void)
{{
    return AT({plan.tensor_offsets[graph.output]});
}}

{_reset(graph, plan)}void model_aot_run(model_aot_observer after_layer)
{{
{"".join(steps)}}}
"""
    )


def _keep(graph: Graph, variable: Variable, plan: ArenaPlan) -> str:
    to, written = plan.kept_offsets[variable.read], plan.tensor_offsets[variable.written]
    return f"    memcpy(AT({to}), AT({written}), {graph.tensors[variable.read].size}); // {comment(variable.name)}\n"


def _reset(graph: Graph, plan: ArenaPlan) -> str:
    if not graph.variables:
        return ""
    fills = "\n".join(
        f"    memset(AT({plan.kept_offsets[v.read]}), {v.initial}, {graph.tensors[v.read].size}); // {comment(v.name)}"
        for v in graph.variables
    )
    return f"static int begun;\n\nvoid model_aot_reset(void)\n{{\n{fills}\n    begun = 1;\n}}\n\n"


def _step(graph: Graph, number: int, kernel: Kernel | None, plan: ArenaPlan) -> str:
    layer = graph.layers[number]
    output = f"AT({plan.tensor_offsets[layer.output]})"
    lines = []
    if kernel:
        scratch = f"AT({plan.scratch_offsets[number]})" if kernel.scratch_bytes else "0"
        inputs = [f"AT({plan.tensor_offsets[index]})" for index in layer.inputs]
        operands = call_operands(kernel.layer, inputs, output, scratch)
        lines += [*unpack_call(number, kernel), f"    {kernel.function}(&layer{number}, {operands});"]
    lines.append("    if (after_layer) {")
    lines.append(f"        after_layer({number}, {string(layer.name)}, {output}, {graph.tensors[layer.output].size});")
    lines.append("    }")
    return "\n".join(lines) + "\n"
