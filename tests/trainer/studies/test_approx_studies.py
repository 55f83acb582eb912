"""The studies' figures that were published or can be told beforehand; times are printed by the command, never
asserted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch.nn import functional

from converter.commands import timing
from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected
from converter.operators.softmax import Softmax
from converter.reference import run_batch
from converter.tensor import QuantParams, Tensor
from trainer.__main__ import board_tools
from trainer.approx import digits, lowrank, pictures, precision, speed
from trainer.approx.board import low_rank
from trainer.approx.digits import FACTORED, load_digits, study
from trainer.approx.pictures import Line, Panel
from trainer.approx.studies import run
from trainer.errors import TrainerError


@pytest.mark.parametrize("kind", ["fp32", "fp16", "bf16"])
def test_winograd_loses_accuracy_with_one_channel_and_gains_with_many(kind: str) -> None:
    one, many = (
        [precision.draw("normal", channels, seed) for seed in range(seeds)] for channels, seeds in ((1, 6), (64, 1))
    )
    direct, f2, f4 = (precision.relative_rms(one, transform, kind) for transform in ("direct", "winograd", "winograd4"))
    assert 1.5 < f2 / direct < 1.9 and 8 < f4 / direct < 12
    direct, f2 = (precision.relative_rms(many, transform, kind) for transform in ("direct", "winograd"))
    assert 0.55 < f2 / direct < 0.8


def test_int8_error_of_a_layer_after_relu() -> None:
    layers = [precision.draw("relu", 1, seed) for seed in range(8)]
    assert precision.relative_rms(layers, "direct", "int8") == pytest.approx(0.009, abs=0.001)
    assert precision.relative_rms(layers, "winograd", "int8") == pytest.approx(0.02, abs=0.002)
    assert precision.relative_rms(layers, "winograd4", "int8") > 0.2


@pytest.mark.parametrize("transform", precision.TRANSFORMS)
def test_every_transform_in_fp64_is_the_convolution(transform: str) -> None:
    x, k = precision.draw("uniform", 3, 1)
    torch.testing.assert_close(precision.convolve(x, k, transform), functional.conv2d(x, k), rtol=0, atol=1e-13)
    assert 0 < precision.relative_rms([(x, k)], transform, "fp64") < 3e-15


def test_lost_energy_falls_with_the_rank_to_nothing() -> None:
    records = lowrank.accuracy_study({"random": torch.randn(40, 64, dtype=torch.float64)})
    errors = [r["relative_error"] for r in records]
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0.0 and records[-1]["rank"] == 40


def test_break_even_lies_between_the_ranks_that_enclose_it() -> None:
    records = [{"shape": "s", "rank": rank, "time_ratio": ratio} for rank, ratio in ((64, 8.0), (480, 1.1), (512, 0.9))]
    assert lowrank.break_even(records, "s") == pytest.approx(496)
    assert lowrank.break_even(records[:2], "s") is None


def test_what_a_study_lacks_is_said(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainerError, match="one of precision, speed, svd, digits, log"):
        run("fft", tmp_path, None, None, Progress(), board_tools)
    with pytest.raises(TrainerError, match="--run"):
        run("board", tmp_path, None, None, Progress(), board_tools)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3)) + bytes(12) + b"x")
    with pytest.raises(TrainerError, match="as long as it says"):
        run("digits", tmp_path, tmp_path, None, Progress(), board_tools)


def test_every_product_in_fp64_is_the_product_but_the_logarithmic_one() -> None:
    a, b = precision.draw_matrices("normal", 0)
    for way in ("direct", "svd"):
        torch.testing.assert_close(precision.multiply(a, b, way, "fp64"), a @ b, rtol=0, atol=1e-12)
    errors = {
        (r["transform"], r["precision"]): r["relative_rms"]
        for r in precision.product_study(seeds=1)
        if r["input"] == "normal"
    }
    assert errors["direct", "fp64"] < 1e-15 and errors["svd", "fp32"] < 1e-6
    floors = {"exact": 0.0092, "hybrid": 0.0185, "Mitchell": 0.0457}
    for form, floor in floors.items():
        log = {kind: errors[f"log 32, {form}", kind] for kind in precision.PRECISIONS}
        assert log["fp64"] == pytest.approx(floor, rel=0.03) and log["fp32"] == pytest.approx(log["fp64"], rel=1e-3)
        assert log["fp16"] == pytest.approx(log["fp64"], rel=0.02) and log["bf16"] > 1.02 * log["fp64"]
    assert errors["log 32, exact", "bf16"] < errors["direct", "bf16"] and errors["log 32, exact", "fp16"] > 0.009


def test_int8_error_of_the_fft_is_between_both_winograd_forms() -> None:
    layers = [precision.draw("relu", 1, seed) for seed in range(8)]
    f2, fft, f4 = (precision.relative_rms(layers, transform, "int8") for transform in ("winograd", "fft", "winograd4"))
    assert f2 < fft < f4


@pytest.mark.parametrize("method, fewer", [("torch", 1.0), ("im2col", 1.0), ("winograd", 2.25), ("winograd4", 4.0)])
def test_multiplications_that_each_method_saves_on_whole_tiles(method: str, fewer: float) -> None:
    direct = speed.multiplications("torch", 64, 64, 58, 3)
    assert direct == 56 * 56 * 9 * 64 * 64 and direct / speed.multiplications(method, 64, 64, 58, 3) == fewer


def test_digits_without_a_folder_are_the_small_ones() -> None:
    small = load_digits(None)
    assert [len(part) for part in small] == [1437, 1437, 360, 360] and small[0].shape[1] == 64 and small[0].max() == 1.0
    whole, *parts = study(small, epochs=8, rounds=1)
    assert whole["accuracy"] > 0.9 and whole["parameters"] == 64 * 512 + 512 + 512 * 128 + 128 + 1290
    by_set = {title: [part for part in parts if part["factored"] == title] for title in FACTORED}
    for title, rows in by_set.items():  # at full rank the products are those of the network itself
        assert rows[0]["accuracy"] < rows[-1]["accuracy"] == pytest.approx(whole["accuracy"], abs=0.01), title
    assert [rows[-1]["rank"] for rows in by_set.values()] == [64, 128, 128]
    eight = {title: next(row["parameters"] for row in rows if row["rank"] == 8) for title, rows in by_set.items()}
    assert whole["parameters"] - eight["first layer"] == 64 * 512 - 8 * (64 + 512)
    assert whole["parameters"] - eight["last two layers"] == 512 * 128 + 1280 - 8 * (512 + 128 + 128 + 10)
    saved = [whole["parameters"] - count for count in eight.values()]
    assert saved[0] + saved[1] == saved[2]


def test_layers_are_bound_by_memory_or_arithmetic_as_the_ridge_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_ridge", lambda: 14.0)
    first, middle, last = digits.layers_of(784, batch=64)
    assert first["operations"] == 2 * 64 * 784 * 512 and first["bytes"] == 4 * (784 * 512 + 64 * (784 + 512))
    assert first["operations_per_byte"] == pytest.approx(26.5, abs=0.1) and first["bound"] == "compute"
    assert middle["operations_per_byte"] == pytest.approx(19.7, abs=0.1) and middle["bound"] == "compute"
    assert last["operations_per_byte"] == pytest.approx(4.04, abs=0.1) and last["bound"] == "memory"


def test_dense_layer_before_a_softmax_loses_nothing_at_one_rank_less() -> None:
    """The mean over the outputs changes no score: 5 outputs have rank 4; each output may be rounded otherwise by a few
    steps."""
    graph = random_dense_softmax(inputs=60, outputs=5)
    x = np.random.default_rng(0).integers(-128, 128, (200, 1, 60), np.int8)
    scores = run_batch(graph, x).astype(int)
    kept, lost = (np.abs(run_batch(low_rank(graph, rank, x), x).astype(int) - scores).max() for rank in (4, 1))
    assert kept <= 6 < 40 < lost
    with pytest.raises(TrainerError, match="rank of 1 to 5, got NONE and rank 6"):
        low_rank(graph, 6, x)


def random_dense_softmax(inputs: int, outputs: int) -> Graph:
    rng = np.random.default_rng(1)
    weights = rng.integers(-127, 128, (outputs, inputs), np.int8)
    tensors = (
        Tensor("x", (1, inputs), QuantParams((0.02,), (3,))),
        Tensor("logits", (1, outputs), QuantParams((0.05,), (0,))),
        Tensor("scores", (1, outputs), QuantParams((1 / 256,), (-128,))),
    )
    dense = FullyConnected(
        "logits", 0, 1, weights, QuantParams((0.0008,), (0,)), rng.integers(-9000, 9000, outputs, np.int32), "NONE"
    )
    return Graph(tensors, (dense, Softmax("scores", 1, 2)), 0, 2)


def test_a_shortest_time_has_its_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round has one turn of each call; the ratios are of shortest times, their bars of third quartiles."""
    clock = iter([4.0, 8.0, 1.0, 6.0, 3.0, 2.0, 2.0, 4.0])
    asked: list[str] = []
    monkeypatch.setattr(timing, "once", lambda call: (call(), next(clock))[1])
    first, second = timing.in_turns([lambda: asked.append("first"), lambda: asked.append("second")], 4)
    assert asked == ["first", "second"] * 5
    assert (first.seconds, second.seconds) == ((4.0, 1.0, 3.0, 2.0), (8.0, 6.0, 2.0, 4.0))
    assert (first.best, first.median, first.upper, second.best) == (1.0, 2.5, 3.75, 2.0)
    assert first.spread == (3.75 - 1.25) / 2.5 and timing.Times((2.0,)).upper == 2.0

    layer = {"2 to 2, 8x8": (1, 2, 2, 10, 3)}
    monkeypatch.undo()
    monkeypatch.setattr(speed, "LAYERS", layer)
    records = speed.study(rounds=3)
    assert [r["method"] for r in records] == list(speed.FAST)
    assert all(r["times_torch_upper"] >= r["times_torch"] > 0 and r["spread"] >= 0 for r in records)


def test_categories_are_not_joined_ranks_are_whole_numbers_and_bars_reach_to_their_ends() -> None:
    drawn = pictures.draw(
        "two",
        [
            Panel("a", "", "y", (Line("one", ["x", "z"], [1.0, 2.0], [3.0, 4.0]),)),
            Panel("b", "rank", "y", (Line("two", [16, 64, 256], [1.0, 2.0, 3.0]),), log_x=True),
        ],
    )
    names, ranks = drawn.axes
    assert names.lines[0].get_linestyle() == "None" and ranks.lines[0].get_linestyle() == "-"
    assert [bar.tolist() for bar in names.collections[0].get_segments()] == [[[0, 1], [0, 3]], [[1, 2], [1, 4]]]
    drawn.canvas.draw()
    assert {"16", "64", "256"} <= {tick.get_text() for tick in ranks.get_xticklabels()}
