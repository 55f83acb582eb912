"""What compression keeps of a gradient, and in how many bytes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainer.distributed import codecs

DRAWS = 4000


def gradient(length: int, seed: int = 0) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(seed)) ** 3


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("length", [1, 37, 512, 513])
def test_qsgd_is_right_in_the_mean(bits: int, length: int) -> None:
    x, generator = gradient(length), torch.Generator().manual_seed(1)
    draws = [codecs.from_qsgd(codecs.qsgd(x, bits, generator), length, bits) for _ in range(DRAWS // 4)]
    step = torch.cat([b.abs().max().expand(len(b)) for b in x.split(codecs.BUCKET)]) / (2 ** (bits - 1) - 1)  # type: ignore[no-untyped-call]
    errors = (torch.stack(draws) - x) / step
    assert errors.abs().max() <= 1.001
    error = 0.5 / len(errors) ** 0.5  # of a mean of roundings, at most
    assert errors.mean(0).abs().max() <= 5 * error
    assert abs(float(errors.mean())) <= 5 * error / length**0.5


def test_qsgd_of_nothing_is_nothing() -> None:
    payload = codecs.qsgd(torch.zeros(600), 4, torch.Generator())
    assert not codecs.from_qsgd(payload, 600, 4).any()
    assert len(payload) == 2 * 4 + 300


def test_random_k_is_right_in_the_mean() -> None:
    x, share = gradient(50), 0.1
    draws = torch.zeros(DRAWS, len(x))
    generator = torch.Generator().manual_seed(2)
    for draw in draws:
        places = codecs.random_places(len(x), share, generator)
        assert len(set(places.tolist())) == 5
        draw[places] = x[places] / share
    error = draws.std(0) / DRAWS**0.5
    assert ((draws.mean(0) - x).abs() <= 5 * error).all()


@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_top_k_is_a_contraction(length: int, share: float) -> None:
    x, k = gradient(length), codecs.kept_count(length, share)
    payload = codecs.top_k(x, share)
    assert len(payload) == 8 * k
    kept = codecs.from_top_k(payload, length)
    assert int((kept != 0).sum()) == k
    assert (x - kept).square().sum() <= (1 - k / length) * x.square().sum() + 1e-6
    assert (x - kept).abs().max() <= kept[kept != 0].abs().min()


def test_sign_packs_32_values_where_one_was() -> None:
    x = gradient(32_000)
    payload = codecs.sign(x)
    assert len(payload) == x.nbytes // 32 + 4
    made = codecs.from_sign(payload, len(x))
    assert torch.equal(made >= 0, x >= 0)
    assert torch.allclose(made.abs(), x.abs().mean())
    assert len(codecs.from_sign(codecs.sign(x[:13]), 13)) == 13
