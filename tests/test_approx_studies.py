"""The studies' figures that were published or can be told beforehand; times are printed by the command, never asserted."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from trainer.approx import lowrank, precision
from trainer.approx.studies import run
from trainer.errors import TrainerError


@pytest.mark.parametrize("kind", ["fp32", "fp16", "bf16"])
def test_winograd_loses_accuracy_with_one_channel_and_gains_with_many(kind: str) -> None:
    one, many = ([precision.draw("normal", channels, seed) for seed in range(seeds)] for channels, seeds in ((1, 6), (64, 1)))
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
    with pytest.raises(TrainerError, match="one of precision, svd, digits, log"):
        run("fft", tmp_path, None)
    with pytest.raises(TrainerError, match="--data"):
        run("digits", tmp_path, None)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3)) + bytes(12) + b"x")
    with pytest.raises(TrainerError, match="as long as it says"):
        run("digits", tmp_path, tmp_path)
