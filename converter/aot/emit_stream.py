"""The streaming half of the AOT engine: a StreamPlan as C, every part of a layer one more const struct over the same
tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from converter.aot.c_text import call_operands, comment, string, struct_fields
from converter.aot.kernels import conv_packed
from converter.aot.kernels.structs import (
    Kernel,
    NnAddLayer,
    NnAddWeightedLayer,
    NnConvLayer,
    NnConvPackedLayer,
    NnDepthwise3Layer,
    NnDepthwiseTimeLayer,
    NnLayer,
    NnPadLayer,
    NnPointwiseLayer,
    NnPoolLayer,
    NnTableLayer,
    NnWinogradLayer,
    Sums,
)
from converter.aot.kernels.weight_tables import unpack_call
from converter.aot.memory_plan import ArenaPlan, owners
from converter.aot.stream_plan import LayerPlan, Part, Range, StateBuffer, StreamPlan
from converter.graph import Operator

HEADER = """\
// Streaming: equal to model_aot_run on the window moved by MODEL_AOT_STREAM_HOP_FRAMES frames, with most rows kept from the hop before.
#define MODEL_AOT_STREAMS 1
#define MODEL_AOT_STREAM_HOP_FRAMES {hop_frames}
#define MODEL_AOT_STREAM_HOP_BYTES {hop_bytes}
#define MODEL_AOT_STREAM_KEPT_BYTES {kept_bytes} // of the arena, from hop to hop

void model_aot_stream_start(void); // model_aot_run(NULL) that also lays down what the hops keep; the arena is theirs until the next run
// The next MODEL_AOT_STREAM_HOP_BYTES of input. The observer is given the last rows of each layer's output, those that were kept or made.
void model_aot_stream_run(const int8_t *rows, model_aot_observer after_layer);
"""  # noqa: E501


def stream_header(plan: StreamPlan | None, why: str) -> str:
    """The part of model_aot.h about streaming; without a plan it says why."""
    if plan is None:
        return f"// No streaming: {comment(why)}\n#define MODEL_AOT_STREAMS 0\n"
    return HEADER.format(hop_frames=plan.hop_frames, hop_bytes=plan.hop_bytes, kept_bytes=plan.kept_bytes)


def stream_source(plan: StreamPlan, kernels: list[Kernel | None], arena: ArenaPlan) -> str:
    """The structs of all parts and the two functions."""
    writer = _Writer(plan, kernels, arena, owners(plan.graph))
    structs = [text for number in range(len(kernels)) for text in writer.structs(number)]
    return "\n".join([*structs, *writer.start(), writer.run()])


def resumes(kernel: Kernel | None, part: Part) -> bool:
    """Whether the layer's kernel keeps the sums of the part's last rows from hop to hop.

    All rows of inputs that such a part reads must fit in its scratch.
    """
    if kernel is None or not isinstance(kernel.layer, NnConvPackedLayer) or part.resumed is None:
        return False
    rows = conv_packed.buffered_rows(kernel.layer.kernel_h, kernel.layer.stride_h)
    return part.resumed.in_rows[1] - part.resumed.in_rows[0] <= rows


def keep_sums(plan: StreamPlan, kernels: list[Kernel | None]) -> list[Kernel | None]:
    """The kernels of whole windows, which lay down the sums that the first hop goes on from."""
    found = list(kernels)
    for number, step in enumerate(plan.layers):
        kernel, part = kernels[number], step.parts[-1] if step.parts else None
        if part and part.resumed and kernel and resumes(kernel, part):
            layer = kernel.layer
            assert isinstance(layer, NnConvPackedLayer)
            words = part.resumed.rows * conv_packed.sums_words(layer.out_w, layer.out_c, layer.tail)
            first = part.out_rows[0] + part.resumed.row_shift
            found[number] = replace(kernel, layer=replace(layer, sums=Sums(words), first_kept_row=first))
    return found


def part_struct(layer: NnLayer, part: Part, rows: int, resume: bool = False) -> NnLayer:
    """The layer's struct for some of its `rows` rows of outputs only; to resume means to go on from sums of the hop
    before."""
    (out_start, out_stop), (in_start, in_stop) = part.out_rows, part.in_rows
    out_h, in_h = out_stop - out_start, in_stop - in_start
    match layer:
        case NnConvPackedLayer() if part.resumed and resume:
            (in_start, in_stop), resumed = part.resumed.in_rows, part.resumed
            return replace(
                layer,
                in_h=in_stop - in_start,
                out_h=out_h,
                pad_top=resumed.pad_top,
                resumed_rows=resumed.rows,
                first_kept_row=resumed.row_shift,
                first_new_row=resumed.first_new_row - in_start,
            )
        case NnConvPackedLayer():
            return replace(layer, in_h=in_h, out_h=out_h, pad_top=part.pad_top, sums=None, first_kept_row=0)
        case (
            NnConvLayer()
            | NnPointwiseLayer()
            | NnDepthwise3Layer()
            | NnDepthwiseTimeLayer()
            | NnWinogradLayer()
            | NnPoolLayer()
        ):
            return replace(layer, in_h=in_h, out_h=out_h, pad_top=part.pad_top)
        case NnAddLayer() | NnAddWeightedLayer() | NnTableLayer():
            return replace(layer, count=layer.count // rows * out_h)
        case NnPadLayer():
            return replace(
                layer,
                in_shape=(layer.in_shape[0], in_h, *layer.in_shape[2:]),
                before=(layer.before[0], part.pad_top, *layer.before[2:]),
                out_shape=(layer.out_shape[0], out_h, *layer.out_shape[2:]),
            )
        case _:  # of an operator without rows
            raise AssertionError(f"{layer.struct} is not computed in parts")


@dataclass(frozen=True, eq=False)
class _Writer:
    plan: StreamPlan
    kernels: list[Kernel | None]
    arena: ArenaPlan
    owner: dict[int, int]

    def structs(self, number: int) -> Iterator[str]:
        kernel, parts = self.kernels[number], self.plan.layers[number].parts
        if kernel is None or parts is None:
            return
        rows = self.plan.graph.tensors[self.plan.graph.layers[number].output].shape[1]
        for index, part in enumerate(parts):
            struct = part_struct(kernel.layer, part, rows, resumes(kernel, part))
            start, stop = part.out_rows
            yield (
                f"// {number}: rows {start} to {stop - 1}\n"
                f"static const {struct.struct} layer{number}_part{index} = {{\n"
                f"{struct_fields(f'layer{number}', struct)}\n}};\n"
            )

    def row_bytes(self, index: int) -> int:
        shape = self.plan.graph.tensors[index].shape
        return self.plan.graph.tensors[index].size // shape[1]

    def place(self, index: int, row: int, row_bytes: int) -> str:
        """Where a row of a tensor lies while streaming."""
        kept = self.plan.kept.get(self.owner[index])
        if kept is None or not kept.partial:
            return f"AT({self.arena.tensor_offsets[index] + row * row_bytes})"
        assert row >= kept.first
        return f"AT({self.arena.kept_offsets[self.owner[index]] + (row - kept.first) * row_bytes})"

    def whole(self, index: int) -> str:
        return self.place(index, 0, 0)

    def start(self) -> Iterator[str]:
        """model_aot_stream_start and, where only the last rows of a tensor are kept, the observer that copies them."""
        copies = {index: kept for index, kept in self.plan.kept.items() if kept.partial}
        made_by = {
            layer.output: number for number, layer in enumerate(self.plan.graph.layers) if layer.MEMORY != "view"
        }
        cases = "".join(
            f"    if (layer == {made_by[index]}) {{\n        {self.copy(index, kept, 'output')}\n    }}\n"
            for index, kept in copies.items()
            if index in made_by
        )
        if cases:
            yield (
                "static void keep_rows(int layer, const char *name, const int8_t *output, uint32_t bytes)\n"
                f"{{\n    (void)name;\n    (void)bytes;\n{cases}}}\n"
            )
        kept_input = copies.get(self.plan.graph.input)
        first = f"    {self.copy(self.plan.graph.input, kept_input, 'model_aot_input()')}\n" if kept_input else ""
        yield f"void model_aot_stream_start(void)\n{{\n{first}    model_aot_run({'keep_rows' if cases else '0'});\n}}\n"

    def copy(self, index: int, kept: StateBuffer, source: str) -> str:
        return (
            f"nn_move_s8({self.place(index, kept.first, kept.row_bytes)}, {source} + "
            f"{kept.first * kept.row_bytes}, {kept.bytes});"
        )

    def run(self) -> str:
        graph = self.plan.graph
        rows = graph.tensors[graph.input].size * self.plan.hop_frames // self.plan.hop_bytes
        new = self.place(graph.input, rows - self.plan.hop_frames, self.plan.hop_bytes // self.plan.hop_frames)
        lines = [*self.move(graph.input), f"    nn_move_s8({new}, rows, MODEL_AOT_STREAM_HOP_BYTES);"]
        for number, (layer, step) in enumerate(zip(graph.layers, self.plan.layers, strict=True)):
            lines += self.layer(number, layer, step)
        body = "\n".join(lines)
        return f"void model_aot_stream_run(const int8_t *rows, model_aot_observer after_layer)\n{{\n{body}\n}}\n"

    def move(self, index: int) -> list[str]:
        kept = self.plan.kept.get(index)
        if kept is None or kept.moved_rows[0] >= kept.moved_rows[1]:
            return []
        low, high = kept.moved_rows
        to, source = (self.place(index, row, kept.row_bytes) for row in (low, low + kept.row_shift))
        return [f"    nn_move_s8({to}, {source}, {(high - low) * kept.row_bytes});"]

    def layer(self, number: int, layer: Operator, step: LayerPlan) -> list[str]:
        kernel = self.kernels[number]
        lines = unpack_call(number, kernel)
        if kernel is not None and step.parts is None:
            lines.append(
                self.call(
                    number,
                    f"layer{number}",
                    kernel,
                    layer,
                    [self.whole(i) for i in (*layer.inputs, layer.output)],
                )
            )
        elif kernel is not None and step.parts is not None:
            lines += self.move(layer.output)
            for index, part in enumerate(step.parts):
                in_rows = part.resumed.in_rows if part.resumed and resumes(kernel, part) else part.in_rows
                rows: list[tuple[int, Range]] = [(i, in_rows) for i in layer.inputs] + [(layer.output, part.out_rows)]
                places = [self.place(i, start, self.row_bytes(i)) for i, (start, _) in rows]
                lines.append(self.call(number, f"layer{number}_part{index}", kernel, layer, places))
        if layer.MEMORY == "view" and not step.why and self.owner[layer.output] not in self.plan.kept:
            return lines  # only some of its rows are there
        pointer, size = self.shown(layer, step)
        lines.append("    if (after_layer) {")
        lines.append(f"        after_layer({number}, {string(layer.name)}, {pointer}, {size});")
        return [*lines, "    }"]

    def call(self, number: int, struct: str, kernel: Kernel, layer: Operator, places: list[str]) -> str:
        scratch = f"AT({self.arena.scratch_offsets[number]})" if kernel.scratch_bytes else "0"
        operands = call_operands(kernel.layer, places[:-1], places[-1], scratch)
        return f"    {kernel.function}(&{struct}, {operands});"

    def shown(self, layer: Operator, step: LayerPlan) -> tuple[str, int]:
        """What the observer sees of a layer: all that is whole after it, always the last rows of its output."""
        index, size = layer.output, self.plan.graph.tensors[layer.output].size
        kept = self.plan.kept.get(self.owner[index])
        if kept is not None:
            return self.place(index, kept.first, kept.row_bytes), kept.bytes
        if step.parts is not None:
            start, stop = step.parts[-1].out_rows if step.parts else (0, 0)
            return self.place(index, start, self.row_bytes(index)), (stop - start) * self.row_bytes(index)
        return self.whole(index), size
