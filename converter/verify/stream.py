"""The check of streaming: after every hop the kept and new rows of each layer equal the run on the whole window."""

from __future__ import annotations

import numpy as np

from converter import reference
from converter.aot.native import NativeModel
from converter.aot.stream_plan import plan_stream, run_stream
from converter.arrays import Int8
from converter.errors import ConvertError
from converter.tflite.interpreters import Unavailable
from converter.verify.checks import Check, CheckInputs, Mismatches

MAX_FRAMES = 30000  # ten minutes at 20 ms
CHUNK = 256


def streaming(given: CheckInputs) -> Check:
    """The numpy simulation and the generated C, hop by hop over the recorded features one after another, then noise."""
    graph, hop = given.graph, given.source.hop_frames
    if hop is None:
        raise Unavailable("the model carries no spec, so it does not listen")
    try:
        plan = plan_stream(graph, hop)
    except ConvertError as error:
        raise Unavailable(str(error)) from None
    rows = graph.tensors[graph.input].size * hop // plan.hop_bytes
    frames = given.inputs.reshape(-1, plan.hop_bytes // hop)[: MAX_FRAMES + rows]
    frames = frames[: rows + (len(frames) - rows) // hop * hop]
    mismatches = Mismatches(f"hops and layers at hops of {hop} frames over {len(frames) - rows} frames")
    model = NativeModel(graph, given.folder / "stream", simd=True, hop_frames=hop)
    first = frames[:rows].reshape(graph.tensors[graph.input].shape)
    model.stream_start(first)
    simulated = run_stream(plan, frames[rows:], first)
    ends = np.arange(rows + hop, len(frames) + 1, hop)
    for at in range(0, len(ends), CHUNK):
        windows = np.stack([frames[end - rows : end] for end in ends[at : at + CHUNK]])
        wanted = reference.run_batch_all(graph, windows.reshape(-1, *graph.tensors[graph.input].shape[1:]))
        for index, end in enumerate(ends[at : at + CHUNK]):
            where = f"hop {at + index}"
            mismatches.compare(
                f"{where}, output", ("simulation", "reference"), simulated[at + index], wanted[graph.output][index]
            )
            _layers(
                mismatches,
                given,
                where,
                model.stream_layers(frames[end - hop : end]),
                [tensor[index] for tensor in wanted],
            )
    return mismatches.check()


def _layers(
    mismatches: Mismatches, given: CheckInputs, where: str, seen: list[tuple[int, Int8]], wanted: list[Int8]
) -> None:
    for number, rows in seen:
        layer = given.graph.layers[number]
        last = np.ravel(wanted[layer.output])[-rows.size :]
        mismatches.compare(f"{where}, layer {layer.name}, last {rows.size} values", ("C", "reference"), rows, last)
