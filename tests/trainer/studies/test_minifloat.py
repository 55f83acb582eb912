"""Minifloats: rounding against torch's own 8-bit floats and against the values a format has; the study on a small
network."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import pytest
import torch

from converter.spec import KwsSpec
from trainer.errors import TrainerError
from trainer.network.model import Architecture, Conv, Dense, build
from trainer.studies import minifloat
from trainer.studies.minifloat import (
    FORMATS,
    SHARED,
    Minifloat,
    Rounded,
    float_grid,
    integer_grid,
    shared,
)

SPEC = KwsSpec.of_words(["yes", "stop"])


def every_half() -> torch.Tensor:
    """All finite float16 values, and float32 values just beside the middles that ties decide on."""
    halves = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    halves = halves[torch.isfinite(halves)]
    return torch.cat([halves, halves * (1 + 2**-22), halves * (1 - 2**-22)])


@pytest.mark.parametrize(
    ("name", "dtype", "overflow"), [("e4m3", torch.float8_e4m3fn, 464.0), ("e5m2", torch.float8_e5m2, 61440.0)]
)
def test_eight_bits_round_as_torch_does(name: str, dtype: torch.dtype, overflow: float) -> None:
    """Every value below the overflow bit for bit, zero's sign included; above it torch gives infinity or NaN, we the
    largest value."""
    format_, x = Minifloat.of(name), every_half()
    inside = x.abs() < overflow
    ours, torchs = format_.round(x[inside]), x[inside].to(dtype).float()
    assert int(inside.sum()) > 140_000 and torch.equal(ours.view(torch.int32), torchs.view(torch.int32))
    assert torch.equal(format_.round(torch.tensor([1e9, -1e9])), torch.tensor([format_.top, -format_.top]))
    assert format_.top == torch.finfo(dtype).max


def values(format_: Minifloat) -> list[float]:
    """All non-negative finite values, from their codes."""
    found = []
    for code in range(1 << (format_.bits - 1)):
        exponent, mantissa = code >> format_.mantissa, code & ((1 << format_.mantissa) - 1)
        fraction = mantissa / (1 << format_.mantissa) + (exponent > 0)
        found.append(fraction * 2.0 ** (max(exponent, 1) - format_.bias))
    return [v for v in found if v <= format_.top]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_rounds_to_its_nearest_value(name: str) -> None:
    format_ = Minifloat.of(name)
    grid = torch.tensor(values(format_))
    assert torch.equal(format_.round(grid), grid) and float(grid.max()) == format_.top
    x = torch.linspace(0, min(format_.top, 64.0), 4001)
    assert torch.equal((format_.round(x) - x).abs(), (grid[:, None] - x).abs().amin(0))
    middles = (grid[1:] + grid[:-1]) / 2
    if format_.mantissa:
        assert bool((torch.searchsorted(grid, format_.round(middles)) % 2 == 0).all()), (
            "a tie goes to the even mantissa"
        )
    else:
        assert torch.equal(format_.round(middles[1:]), grid[2:]), (
            "powers of two alone: a tie goes up, as it would with more bits"
        )


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_one_exponent_bit_is_an_integer(bits: int) -> None:
    """e1mY has equal steps: with the scale searched for, weights and outputs are those of the symmetric integer."""
    torch.manual_seed(0)
    network = build(Architecture.of("tinyconv", 4, SPEC.features)).eval()
    x = torch.rand(8, 1, 49, 40) * 20
    one, other = (
        Rounded(network, grid, None, x)
        for grid in (float_grid(Minifloat(1, bits - 2)), integer_grid(bits, signed=True))
    )
    torch.testing.assert_close(one(x), other(x), rtol=1e-5, atol=1e-6)


def test_weights_and_activations_lie_on_the_grid() -> None:
    torch.manual_seed(0)
    network = build(Architecture.of("dscnn", 4, SPEC.features)).eval()
    x = torch.rand(8, 1, 49, 40) * 20
    grid = float_grid(Minifloat.of("e2m1"))
    rounded = Rounded(network, grid, grid, x)
    for block in rounded.network.blocks.values():
        if isinstance(block, (Conv, Dense)):
            rows = block.weight.flatten(1) if isinstance(block, Conv) else block.weight.reshape(1, -1)
            assert max(len(row.abs().unique()) for row in rows) <= len(values(Minifloat.of("e2m1")))
    assert set(rounded.scales) == {n for n, b in network.blocks.items() if isinstance(b, Conv)}
    assert not torch.equal(rounded(x), Rounded(network, grid, None, x)(x))


@pytest.mark.parametrize("name", ["m3e4", "e0m3", "e4m4", "e1m0", "fp8"])
def test_a_bad_format_is_one_sentence(name: str) -> None:
    with pytest.raises(TrainerError, match="--formats: must be like e4m3"):
        Minifloat.of(name)


def test_examples_in_the_docstrings_hold() -> None:
    done = doctest.testmod(minifloat)
    assert done.attempted >= 2 and done.failed == 0


@pytest.mark.parametrize("name", SHARED)
def test_blocks_share_the_largest_power_of_two_that_their_largest_value_needs(name: str) -> None:
    """Every block by itself, value by value in plain Python, is what OCP's conversion gives; rows of 70 end in a block
    of 6."""
    torch.manual_seed(1)
    rows = torch.randn(5, 70) * torch.logspace(-4, 4, 70)
    rows[2, 32:64] = 0
    found = shared(name[3:]).round(rows)
    elements = [code / 64 for code in range(128)] if name == "mx-int8" else values(Minifloat.of(name[3:]))
    largest_exponent = math.floor(math.log2(max(elements)))
    for row, ours in zip(rows.tolist(), found.tolist(), strict=True):
        for start in range(0, 70, 32):
            block = row[start : start + 32]
            top = max(map(abs, block))
            scale = 2.0 ** (math.floor(math.log2(top)) - largest_exponent) if top else 1.0
            for value, rounded in zip(block, ours[start : start + 32], strict=True):
                least = min(abs(abs(value) / scale - element) for element in elements)
                assert abs(rounded) / scale in elements and rounded * value >= 0
                assert abs(abs(value) / scale - abs(rounded) / scale) == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "top", "emax"),
    [
        *(("mx-e4m3", 448.0, 8), ("mx-e5m2", 57344.0, 15), ("mx-int8", 127 / 64, 0)),
        *(("mx-e3m2", 28.0, 4), ("mx-e2m3", 7.5, 2), ("mx-e2m1", 6.0, 2)),
    ],
)
def test_block_formats_are_those_of_the_specification(name: str, top: float, emax: int) -> None:
    """OCP Microscaling Formats 1.0, sections 5.3 and 6.3: the largest element, its exponent emax, the scale
    2^(floor(log2(largest)) - emax) of 32 values, and E8M0's least scale 2^-127."""
    rule = shared(name[3:])
    assert rule.grid.top == top and math.floor(math.log2(top)) == emax
    for exponent in (-20, 0, 13):
        block = torch.zeros(1, 64)
        block[0, 0], block[0, 31], block[0, 32] = 1.999 * 2.0**exponent, 2.0**-60, 2.0**-60
        scale = 2.0 ** (exponent - emax)
        found = rule.round(block)[0]
        assert float(found[0]) == float(rule.grid.round(block[0, :1] / scale)[0]) * scale
        assert float(found[31]) == 0 and float(found[32]) == 2.0**-60  # a block of its own
        block[0, 0] = scale * top
        assert float(rule.round(block)[0, 0]) == scale * top
    least = float(rule.grid.round(torch.tensor([1.0]))[0]) * 2.0**-127
    assert float(rule.round(torch.full((1, 32), least, dtype=torch.float64))[0, 0]) == least
    tiny = rule.round(torch.full((1, 32), 2.0**-126, dtype=torch.float64) * 2.0**-30)
    assert float(tiny.abs().max()) == 0  # below every element at the least scale


def test_shared_scales_run_along_channels_first() -> None:
    """Activations are rounded in blocks of neighbouring channels: 32 channels of one place have one scale."""
    torch.manual_seed(0)
    network = build(replace(Architecture.of("tinyconv", 4, SPEC.features), width=32)).eval()
    x = torch.rand(2, 1, 49, 40) * 20
    rule = shared("e2m1")
    net = Rounded(network, shared("int8"), rule, x)
    conv = next(block for block in net.network.blocks.values() if isinstance(block, Conv))
    seen: list[torch.Tensor] = []
    dense = next(block for block in net.network.blocks.values() if isinstance(block, Dense))
    dense.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(x)
    plain = conv(x)
    here = seen[-1].view_as(plain) if seen[-1].shape != plain.shape else seen[-1]
    place = rule.round(plain[0, :, 3, 5][None])[0]
    assert torch.equal(here[0, :, 3, 5], place)
