"""Streaming plans, simulated in numpy with noise in every row that a plan does not keep, equal the whole window at
every hop."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import Net, branched, tinyconv_like
from stream_graphs import GRAPHS, ds_cnn, models, noise_frames, recording, valid_in_time, windows

from converter import reference
from converter.aot.stream_plan import Part, ResumedSums, StateBuffer, StreamPlan, plan_stream, run_stream
from converter.errors import ConvertError
from converter.operators.reshape import Reshape
from converter.spec import KwsSpec

ROOT = Path(__file__).resolve().parents[2]
FULL_SECONDS = 620


@pytest.mark.parametrize("name", GRAPHS)
def test_streams_equal_whole_windows_on_noise(name: str) -> None:
    graph, hop = GRAPHS[name]
    plan = plan_stream(graph, hop)
    frames = noise_frames(graph, 100 * hop)
    assert np.array_equal(run_stream(plan, frames), reference.run_batch(graph, windows(graph, frames, hop)))


def test_random_graphs_stream_or_say_why() -> None:
    streamed = 0
    for seed in range(40):
        graph = branched(seed) if seed % 2 else tinyconv_like(seed)
        for hop in (1, 2):
            try:
                plan = plan_stream(graph, hop)
            except ConvertError as error:
                assert re.search(r"stride|mixes|edge|without rows", str(error)) and "whole windows" in str(error)
                continue
            frames = noise_frames(graph, 40 * hop, seed)
            assert np.array_equal(run_stream(plan, frames), reference.run_batch(graph, windows(graph, frames, hop))), (
                seed,
                hop,
            )
            streamed += 1
    assert streamed >= 30


def test_starts_from_any_window_and_drops_the_rest_of_a_hop() -> None:
    graph = tinyconv_like(0)
    frames, start = noise_frames(graph, 121), noise_frames(graph, 49, 1)
    got = run_stream(plan_stream(graph, 2), frames, start)
    assert len(got) == 60 and np.array_equal(got, reference.run_batch(graph, windows(graph, frames, 2, start)))
    assert run_stream(plan_stream(graph, 2), frames[:1]).shape == (0, 4)


def test_plan_of_tinyconv() -> None:
    """SAME: two rows see the upper edge, three the lower one, one is new; 1880 + 3040 bytes move.

    Of rows 21 to 24 the first three go on from the sums of rows 22 to 24 of the hop before; the last begins anew at
    input row 44.
    """
    plan = plan_stream(tinyconv_like(0), 2)
    assert plan.layers[0].parts == (
        Part((0, 2), (0, 8), 4),
        Part((21, 25), (38, 49), 0, ResumedSums(3, 1, 47, (44, 49), 6)),
    )
    assert plan.kept == {0: StateBuffer(0, 49, 40, 2, (0, 47)), 1: StateBuffer(0, 25, 160, 1, (2, 21))}
    assert plan.kept_bytes == 5960 and plan.layers[2].parts is None and "mixes all rows" in plan.layers[2].why


def test_plan_without_padding_computes_only_new_rows() -> None:
    plan = plan_stream(valid_in_time(), 2)
    assert [layer.parts for layer in plan.layers[:3]] == [
        (Part((19, 20), (38, 48), 0),),
        (Part((17, 18), (17, 20), 0),),
        (Part((17, 18), (17, 18), 0),),
    ]
    assert plan.kept[0].first == 38 and plan.kept[1].first == 17, "of maps in between only what the new row reads"
    assert 2 not in plan.kept, "a 1x1 convolution reads new rows only"


def _spoilt(plan: StreamPlan) -> list[StreamPlan]:
    """Plans that keep one row too many, at either end, compute one row too few, or go on from sums that are not the
    row's."""
    kept = plan.kept[1]
    low, high = kept.moved_rows
    parts = plan.layers[0].parts
    assert parts is not None and len(parts) == 2
    fewer = replace(plan.layers[0], parts=(replace(parts[0], out_rows=(0, 1)), parts[1]))
    later = replace(plan.layers[0], parts=(parts[0], replace(parts[1], out_rows=(22, 25), resumed=None)))
    resumed = parts[1].resumed
    assert resumed is not None
    ends = [
        replace(parts[1], resumed=replace(resumed, first_new_row=46)),
        replace(parts[1], resumed=replace(resumed, first_new_row=48)),
        replace(parts[1], resumed=replace(resumed, rows=2)),
        replace(parts[1], resumed=replace(resumed, in_rows=(45, 49))),
    ]
    return [
        *(replace(plan, layers=(replace(plan.layers[0], parts=(parts[0], end)), *plan.layers[1:])) for end in ends),
        replace(
            plan, kept={**plan.kept, 1: replace(kept, moved_rows=(low - 1, high))}, layers=(fewer, *plan.layers[1:])
        ),
        replace(
            plan, kept={**plan.kept, 1: replace(kept, moved_rows=(low, high + 1))}, layers=(later, *plan.layers[1:])
        ),
        replace(plan, layers=(fewer, *plan.layers[1:])),
        replace(plan, kept={**plan.kept, 0: replace(plan.kept[0], moved_rows=(0, 46))}),
    ]


def test_a_wrong_plan_does_not_pass() -> None:
    graph, hop = tinyconv_like(0), 2
    plan = plan_stream(graph, hop)
    frames = noise_frames(graph, 80)
    # the softmax would hide much
    logits = replace(graph, tensors=graph.tensors[:-1], layers=graph.layers[:-1], output=graph.layers[-2].output)
    want = reference.run_batch(logits, windows(logits, frames, hop))
    for number, wrong in enumerate(_spoilt(plan)):
        spoilt = replace(wrong, graph=logits, layers=wrong.layers[:-1])
        assert not np.array_equal(run_stream(spoilt, frames), want), number
    right = replace(plan, graph=logits, layers=plan.layers[:-1])
    assert np.array_equal(run_stream(right, frames), want)


def test_what_cannot_stream_says_why() -> None:
    for hop, says in (
        (1, "conv1: its input moves by 1 rows a hop, not a multiple of its time stride 2"),
        (0, "got 0"),
        (49, "1 to 48 of the window's 49"),
        (48, "every row of its output sees an edge or a new frame"),
    ):
        with pytest.raises(ConvertError, match=re.escape(says)):
            plan_stream(tinyconv_like(0), hop)
    net = Net(np.random.default_rng(0), (1, 49, 40, 1))
    with pytest.raises(ConvertError, match="mixes all rows of its input; no rows can be kept between hops of 2 frames"):
        plan_stream(net.graph(net.dense(net.flatten(0), 4)), 2)
    net = Net(np.random.default_rng(0), (1, 640))
    with pytest.raises(ConvertError, match=re.escape("an input of shape (1, 640) has no rows in time")):
        plan_stream(net.graph(net.dense(0, 4)), 2)
    with pytest.raises(ConvertError, match="would keep 164000 bytes between hops, at most 65536"):
        plan_stream(ds_cnn(0, "SAME", 100, 40, 40), 2)


def test_a_flat_input_is_rows_by_its_spec() -> None:
    net = Net(np.random.default_rng(3), (1, 1960))
    x = net.add_tensor((1, 49, 40, 1), net.tensors[0].quant)
    net.layers.append(Reshape("rows", 0, x))
    y = net.conv(x, 4, (10, 8), (2, 2), "SAME", "RELU")
    graph = replace(net.graph(net.dense(net.flatten(y), 4)), spec_json=KwsSpec.of_words(["yes"]).to_json())
    frames = noise_frames(
        replace(graph, tensors=(replace(graph.tensors[0], shape=(1, 49, 40)), *graph.tensors[1:])), 80
    )
    padded = np.concatenate([np.full((49, 40), graph.tensors[0].quant.zero_point, np.int8), frames])
    whole = np.stack([padded[end : end + 49].reshape(-1) for end in range(2, 81, 2)])
    assert np.array_equal(run_stream(plan_stream(graph, 2), frames), reference.run_batch(graph, whole))


@pytest.mark.parametrize("name", ["reference", "ds_cnn valid"])
def test_streams_equal_whole_windows_on_recordings(speech_commands: Path, name: str) -> None:
    graph, frames = models()[name], recording(speech_commands, 20)
    assert np.array_equal(
        run_stream(plan_stream(graph, 2), frames), reference.run_batch(graph, windows(graph, frames, 2))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", "ds_cnn", "ds_cnn valid", "tinyconv"])
def test_ten_minutes_of_recordings(speech_commands: Path, name: str) -> None:
    graph, frames = models()[name], recording(speech_commands, FULL_SECONDS)
    assert len(frames) >= 600 * 50, "ten minutes of recordings are wanted; KWS_DATA names a smaller folder"
    got, want = run_stream(plan_stream(graph, 2), frames), reference.run_batch(graph, windows(graph, frames, 2))
    assert len(got) >= 15000 and np.array_equal(got, want)
