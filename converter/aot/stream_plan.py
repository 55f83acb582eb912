"""Streaming: which rows of which layer stay as they are from one hop to the next, and which must be computed again.

Between two inferences the window moves by hop_frames rows. A row of a layer's output whose whole receptive field has
only moved along is the row row_shift below it of the inference before. Computed again are rows that see new frames,
and under SAME padding those that see the moving edges. Rows are positions along axis 1 (time); what lies behind the
first layer without them runs on the whole map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Union

import numpy as np

from converter import reference
from converter.aot.memory_plan import owners
from converter.arrays import Int8, Int64
from converter.errors import ConvertError
from converter.graph import Graph, Operator, RowWindow
from converter.operators.conv2d import Conv2D
from converter.spec import KwsSpec

KEPT_LIMIT_BYTES = 65536  # of 256 KB of RAM; a model that would keep more runs on whole windows
CHUNK = 64
Range = tuple[int, int]  # first row, one past the last


@dataclass(frozen=True)
class TimeAxis:
    """A tensor as rows in time. After a hop row r holds what row r + row_shift held, for all r of `same`."""

    rows: int
    row_shift: int
    same: Range


@dataclass(frozen=True)
class StateBuffer:
    """A tensor that lives on between hops: its rows from `first` on, of which `moved_rows` come from `row_shift` rows
    further down."""

    first: int
    rows: int
    row_bytes: int
    row_shift: int
    moved_rows: Range

    @property
    def bytes(self) -> int:
        """Of the arena."""
        return (self.rows - self.first) * self.row_bytes

    @property
    def partial(self) -> bool:
        """True when rows in front are never read, so that the tensor has a smaller buffer of its own."""
        return self.first > 0


@dataclass(frozen=True)
class ResumedSums:
    """How a kernel that keeps its int32 sums makes a part: its first `rows` rows resume the sums of the rows
    `row_shift` further down after the hop before, and add what input rows from `first_new_row` on give; only in_rows
    are read."""

    rows: int
    row_shift: int
    first_new_row: int
    in_rows: Range
    pad_top: int


@dataclass(frozen=True)
class Part:
    """One call of a layer's kernel per hop: these rows of the output from these of the input, pad_top rows of padding
    above them."""

    out_rows: Range
    in_rows: Range
    pad_top: int
    resumed: ResumedSums | None = None


@dataclass(frozen=True)
class LayerPlan:
    """parts is None where the layer runs on its whole input; `why` says so."""

    parts: tuple[Part, ...] | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class StreamPlan:
    """What one hop does: move the kept rows, take in hop_frames rows of hop_bytes bytes in all, then run `layers` in
    order."""

    graph: Graph
    hop_frames: int
    hop_bytes: int
    kept: dict[int, StateBuffer]  # by owner tensor
    layers: tuple[LayerPlan, ...]

    @property
    def kept_bytes(self) -> int:
        """Of the arena, from hop to hop."""
        return sum(kept.bytes for kept in self.kept.values())


Outcome = Union[TimeAxis, str]  # a str: why the layer runs on the whole map


def plan_stream(graph: Graph, hop_frames: int) -> StreamPlan:
    """The plan for hops of so many frames; ConvertError says why the model cannot stream."""
    if graph.variables:
        raise ConvertError("the model keeps its own state between inferences, so each takes its whole input")
    axes: dict[int, TimeAxis] = {graph.input: _input_axis(graph, hop_frames)}
    whys: list[str] = []
    for layer in graph.layers:
        found = _follow(graph, layer, axes)
        if isinstance(found, TimeAxis):
            axes[layer.output] = found
        whys.append(found if isinstance(found, str) else "")
    if all(why or layer.MEMORY == "view" for why, layer in zip(whys, graph.layers, strict=True)):
        why = next((why for why in whys if why), "the model has no layers")
        raise ConvertError(
            f"{why}; no rows can be kept between hops of {hop_frames} frames, so the model runs on whole windows"
        )
    plan = _needed(graph, hop_frames, axes, whys)
    if plan.kept_bytes > KEPT_LIMIT_BYTES:
        raise ConvertError(
            f"{graph.layers[-1].name}: streaming would keep {plan.kept_bytes} bytes between hops, "
            f"at most {KEPT_LIMIT_BYTES}; pad the model's layers in time with VALID, or let it run on whole windows"
        )
    return plan


def _input_axis(graph: Graph, hop_frames: int) -> TimeAxis:
    x = graph.tensors[graph.input]
    rows = (
        KwsSpec.from_json(graph.spec_json).features.frames
        if graph.spec_json
        else x.shape[1]
        if len(x.shape) == 4
        else 0
    )
    if rows < 2 or x.size % rows:
        raise ConvertError(
            f"{x.name}: an input of shape {x.shape} has no rows in time, so the model cannot stream; "
            "make it [1, frames, ...]"
        )
    if not 1 <= hop_frames < rows:
        raise ConvertError(
            f"{x.name}: a hop must be 1 to {rows - 1} of the window's {rows} frames, got {hop_frames}; choose a "
            f"shorter hop"
        )
    return TimeAxis(rows, hop_frames, (0, rows - hop_frames))


def _follow(graph: Graph, layer: Operator, axes: dict[int, TimeAxis]) -> Outcome:
    """How the layer's output moves, given how its inputs do."""
    if any(index not in axes for index in layer.inputs):
        return f"{layer.name}: reads a map without rows in time"
    inputs = [axes[index] for index in layer.inputs]
    if layer.MEMORY == "view":
        return inputs[0]
    shape = graph.tensors[layer.input].shape
    if len(shape) != 4 or shape[1] != inputs[0].rows:
        return f"{layer.name}: mixes all rows of its input"
    reach = layer.rows(graph)
    if reach is None:
        return f"{layer.name}: mixes all rows of its input"
    if len({axis.row_shift for axis in inputs}) > 1:
        return f"{layer.name}: its inputs move by {inputs[0].row_shift} and {inputs[1].row_shift} rows a hop"
    if inputs[0].row_shift % reach.stride:
        return (
            f"{layer.name}: its input moves by {inputs[0].row_shift} rows a hop, not a multiple of its time stride "
            f"{reach.stride}"
        )
    same = max(axis.same[0] for axis in inputs), min(axis.same[1] for axis in inputs)
    found = _moved_rows(graph.tensors[layer.output].shape[1], reach, inputs[0].rows, inputs[0].row_shift, same)
    return (
        found if found.same[0] < found.same[1] else f"{layer.name}: every row of its output sees an edge or a new frame"
    )


def _moved_rows(out_rows: int, reach: RowWindow, in_rows: int, shift: int, same: Range) -> TimeAxis:
    """The longest run of output rows none of whose taps is a new or changed row or becomes padding."""

    def tap_moved(row: int) -> bool:
        return row + shift < 0 or row >= in_rows or same[0] <= row < same[1]

    moved = shift // reach.stride
    best, start = (0, 0), 0
    for row in range(out_rows):
        tap = reach.first_tap(row)
        if row + moved >= out_rows or not all(tap_moved(t) for t in range(tap, tap + reach.window)):
            start = row + 1
        elif row + 1 - start > best[1] - best[0]:
            best = (start, row + 1)
    return TimeAxis(out_rows, moved, best)


def _needed(graph: Graph, hop_frames: int, axes: dict[int, TimeAxis], whys: list[str]) -> StreamPlan:
    """From the output back to the input: which rows are read, hence which tensors must be kept from where on."""
    owner = owners(graph)
    reads: dict[int, list[Range]] = {owner[graph.output]: [(0, 1 << 30)]}
    layers: list[LayerPlan] = []
    for layer, why in zip(reversed(graph.layers), reversed(whys), strict=True):
        plan = LayerPlan(None, why)
        if not why and layer.MEMORY != "view":
            first = min((start for start, _ in reads.get(owner[layer.output], [])), default=0)
            plan = LayerPlan(tuple(_parts(graph, layer, axes[layer.output], axes[layer.input], first)))
        layers.append(plan)
        if layer.MEMORY != "view":
            ranges = [part.in_rows for part in plan.parts] if plan.parts is not None else [(0, 1 << 30)]
            for index in layer.inputs:
                reads.setdefault(owner[index], []).extend(ranges)
    kept = {}
    for index in dict.fromkeys(owner[index] for index in axes):
        axis, ranges = axes[index], [r for r in reads.get(index, []) if r[0] < r[1]]
        if any(start < axis.same[1] and stop > axis.same[0] for start, stop in ranges):
            first = min(start for start, _ in ranges)
            moved = max(first, axis.same[0]), axis.same[1]
            kept[index] = StateBuffer(first, axis.rows, graph.tensors[index].size // axis.rows, axis.row_shift, moved)
    rows = axes[graph.input].rows
    return StreamPlan(
        graph, hop_frames, hop_frames * graph.tensors[graph.input].size // rows, kept, tuple(reversed(layers))
    )


def _parts(graph: Graph, layer: Operator, axis: TimeAxis, in_axis: TimeAxis, first: int) -> Iterator[Part]:
    """The rows in front of the moved ones and those behind, as far as anything reads them."""
    reach = layer.rows(graph)
    assert reach is not None
    in_rows = graph.tensors[layer.input].shape[1]
    for start, stop in ((0, axis.same[0]), (axis.same[1], axis.rows)):
        start = max(start, first)
        if start < stop:
            tap, end = reach.first_tap(start), reach.first_tap(stop - 1) + reach.window
            low = min(max(tap, 0), in_rows)
            part = Part((start, stop), (low, max(low, min(end, in_rows))), low - tap)
            at_the_end = start == axis.same[1] and isinstance(layer, Conv2D)
            yield replace(part, resumed=_resumed_sums(part, reach, axis, in_axis)) if at_the_end else part


def _resumed_sums(part: Part, reach: RowWindow, axis: TimeAxis, in_axis: TimeAxis) -> ResumedSums | None:
    """Of rows at the lower edge the taps at kept input rows are those of the row `row_shift` below in the hop before,
    which had them too.

    Only behind an input whose rows all move along until the new ones: a row that was changed would be in the sums as it
    was.
    """
    (start, stop), moved, first_new_row = part.out_rows, axis.row_shift, in_axis.same[1]
    rows = stop - moved - start
    if in_axis.same[0] > 0 or rows <= 0 or reach.first_tap(start) < 0:
        return None
    low = min(first_new_row, max(reach.first_tap(stop - moved), 0))
    return ResumedSums(rows, moved, first_new_row, (low, part.in_rows[1]), low - reach.first_tap(start))


def run_stream(plan: StreamPlan, frames: Int8, start: Int8 | None = None) -> Int8:
    """The output after every hop over `frames` (int8 [n, ...], rest of a last hop dropped): [hops, *output shape].

    The window before them is `start` (default: the input's zero point everywhere). What a plan does not keep is
    overwritten with noise, so that a wrong plan gives other outputs than converter.reference.
    """
    graph, x = plan.graph, plan.graph.tensors[plan.graph.input]
    window = np.full(x.shape, x.quant.zero_point, np.int8) if start is None else start.reshape(x.shape)
    hops = frames.reshape(-1)[: frames.size // plan.hop_bytes * plan.hop_bytes].reshape(-1, plan.hop_bytes)
    tensors = reference.run(graph, window)
    last = {index: tensors[index].reshape(1, kept.rows, kept.row_bytes) for index, kept in plan.kept.items()}
    sums = {layer.output: layer.sums(graph, tensors[layer.input]) for layer, _ in _resuming(plan)}
    outputs = [np.empty((0, *graph.tensors[graph.output].shape[1:]), np.int8)]
    for at in range(0, len(hops), CHUNK):
        outputs.append(_run_hops(plan, hops[at : at + CHUNK], last, sums, np.random.default_rng(at)))
    return np.concatenate(outputs)


def _resuming(plan: StreamPlan) -> Iterator[tuple[Conv2D, Part]]:
    """The convolutions whose last part may go on from sums, with that part."""
    for layer, step in zip(plan.graph.layers, plan.layers, strict=True):
        if isinstance(layer, Conv2D) and step.parts and step.parts[-1].resumed:
            yield layer, step.parts[-1]


def _from_sums(graph: Graph, layer: Conv2D, part: Part, x: Int8, last: dict[int, Int64]) -> Int8:
    """The part's output rows of some hops, made as its ResumedSums says; `last` holds the sums of the hop before."""
    resumed, (start, stop), found = part.resumed, part.out_rows, list[Int64]()
    assert resumed is not None
    seen, new = (
        np.full_like(x, graph.tensors[layer.input].quant.zero_point),
        np.full_like(x, graph.tensors[layer.input].quant.zero_point),
    )
    seen[:, slice(*resumed.in_rows)], new[:, resumed.first_new_row :] = (
        x[:, slice(*resumed.in_rows)],
        x[:, resumed.first_new_row :],
    )
    whole, added = layer.sums(graph, seen), layer.sums(graph, new)
    for index in range(len(x)):
        sums = whole[index : index + 1].copy()
        before = last[layer.output][:, start + resumed.row_shift : start + resumed.row_shift + resumed.rows]
        sums[:, start : start + resumed.rows] = before + added[index : index + 1, start : start + resumed.rows]
        last[layer.output] = sums
        found.append(sums[:, start:stop])
    return layer.from_sums(graph, np.concatenate(found))


def _run_hops(
    plan: StreamPlan, hops: Int8, last: dict[int, Int8], sums: dict[int, Int64], noise: np.random.Generator
) -> Int8:
    """Some hops at once, layer by layer; `last` and `sums`, what is kept of the hop before, are brought up to date."""
    graph, owner = plan.graph, owners(plan.graph)
    tensors: dict[int, Int8] = {}

    def settle(index: int, computed: Int8, parts: list[Range]) -> None:
        """Rows of `parts` are as computed, kept ones moved from the hop before, all others noise."""
        kept, rows = plan.kept.get(index), computed.shape[1]
        state = noise.integers(-128, 128, computed.shape).astype(np.int8)
        for start, stop in parts:
            state[:, start:stop] = computed[:, start:stop]
        if kept is not None:
            before = last[index][0]
            for hop in state:
                low, high = kept.moved_rows
                hop[low:high] = before[low + kept.row_shift : high + kept.row_shift]
                before = hop.copy()
                before[: kept.first] = noise.integers(-128, 128, before[: kept.first].shape)
            last[index] = before[None]
        tensors[index] = state.reshape(len(hops), rows, -1)

    rows = plan.graph.tensors[graph.input].size * plan.hop_frames // plan.hop_bytes
    new = np.zeros((len(hops), rows, plan.hop_bytes // plan.hop_frames), np.int8)
    new[:, rows - plan.hop_frames :] = hops.reshape(len(hops), plan.hop_frames, -1)
    settle(graph.input, new, [(rows - plan.hop_frames, rows)])
    for layer, step in zip(graph.layers, plan.layers, strict=True):
        if layer.MEMORY == "view":
            continue
        shapes = [graph.tensors[index].shape[1:] for index in layer.inputs]
        inputs = [
            tensors[owner[index]].reshape(len(hops), *shape) for index, shape in zip(layer.inputs, shapes, strict=True)
        ]
        y = reference.run_layer_batch(graph, layer, inputs)
        if step.parts is None:
            tensors[layer.output] = y
        else:
            if layer.output in sums and isinstance(layer, Conv2D):
                part = step.parts[-1]
                y[:, slice(*part.out_rows)] = _from_sums(graph, layer, part, inputs[0], sums)
            settle(
                layer.output,
                y.reshape(len(hops), graph.tensors[layer.output].shape[1], -1),
                [part.out_rows for part in step.parts],
            )
    return tensors[owner[graph.output]].reshape(len(hops), *graph.tensors[graph.output].shape[1:])
