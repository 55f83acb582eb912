"""Hooks on a wire to nobody: what they keep back, and what they send."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.distributed.exchange import METHODS, PLAIN_STEPS, Exchange, Still, Strength
from trainer.distributed.study import bucket_of

STRENGTH = Strength(share=0.05)


def digits_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def exchanged(exchange: Exchange, network: nn.Module, seed: int) -> tuple[Tensor, Tensor]:
    """A random gradient, and what the hook makes of it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    bucket: Any = bucket_of(network)
    given = bucket.buffer().clone()
    state, hook = exchange.hook()
    found: Tensor = hook(state, bucket).wait()
    exchange.step += 1
    return given, found


def run(method: str, steps: int, strength: Strength = STRENGTH) -> tuple[Tensor, Tensor, Exchange]:
    """The sums of all gradients and of what came of them."""
    network, exchange = digits_network(), Exchange.of(method, Still(4), strength, 0)
    pairs = [exchanged(exchange, network, seed) for seed in range(steps)]
    return sum(p[0] for p in pairs), sum(p[1] for p in pairs), exchange  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["topk", "randomk", "sign"])
def test_what_is_kept_back_is_sent_later(method: str) -> None:
    given, came, exchange = run(method, 12)
    kept = exchange.errors[0]
    assert kept.norm() > 0.1 * given.norm()
    assert torch.allclose(came + kept, given, atol=1e-3)


def test_powersgd_keeps_back_what_its_rank_leaves() -> None:
    given, came, exchange = run("powersgd2", 12)
    assert torch.allclose(came + exchange.torch_state.error_dict[0], given, atol=1e-3)


def test_qsgd_keeps_nothing_back() -> None:
    given, came, exchange = run("qsgd", 3)
    assert not exchange.errors
    assert 0 < (came - given).norm() < 0.3 * given.norm()


def test_powersgd_of_full_rank_is_all_reduce() -> None:
    network, exchange = digits_network(), Exchange.of("powersgd128", Still(4), STRENGTH, 0)
    exchange.torch_state.min_compression_rate = 1e-9  # factors of full rank save nothing
    for seed in range(6):
        given, came = exchanged(exchange, network, seed)
        assert torch.allclose(came, given, atol=1e-3)
    assert (0 in exchange.torch_state.p_memory_dict) and exchange.torch_state.iter > PLAIN_STEPS


@pytest.mark.parametrize(("rank", "fewer"), [(1, 20.5), (2, 12.0), (4, 6.6)])
def test_bytes_of_powersgd_on_the_small_digits(rank: int, fewer: float) -> None:
    network, exchange = digits_network(), Exchange.of(f"powersgd{rank}", Still(4), STRENGTH, 0)
    for seed in range(PLAIN_STEPS):
        exchanged(exchange, network, seed)
    plain = exchange.wire.payload_bytes / PLAIN_STEPS
    assert plain == 4 * 9610
    exchanged(exchange, network, 9)
    assert plain / (exchange.wire.payload_bytes - PLAIN_STEPS * plain) == pytest.approx(fewer, abs=0.05)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "local"])
def test_equal_gradients_come_back_as_one_of_them(method: str) -> None:
    given, came, _ = run(method, 1)
    if method in ("none", "fp16") or method.startswith("powersgd"):  # PowerSGD's first steps are plain
        assert torch.allclose(came, given, atol=1e-2)
    else:
        assert (came - given).norm() < given.norm()
