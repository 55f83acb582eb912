"""The approximate kernels against torch's own and against plain Python, and their errors on what does not apply."""

from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.approx import conv, logmath, matmul
from trainer.approx.studies import log_error
from trainer.errors import TrainerError

SEEDS = range(100)
CONV_BARS = {"naive": 1e-4, "im2col": 1e-4, "winograd": 1e-3, "winograd4": 1e-3, "fft": 1e-2}
LOG_ERROR = {1: 0.30, 2: 0.143, 4: 0.070, 8: 0.035, 16: 0.018, 32: 0.009}


def _layer(seed: int, kernel: tuple[int, int] = (3, 3)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A picture of 3 to 49 pixels a side: every size from 3 on comes up, both sides on their own."""
    draw = torch.Generator().manual_seed(seed)
    h, w = max(kernel[0], 3 + seed % 47), max(kernel[1], 3 + seed * 29 % 47)
    shapes = (1, 1 + seed % 3, h, w), (1 + seed % 2, 1 + seed % 3, *kernel), (1 + seed % 2,)
    x, k, b = (torch.randn(shape, generator=draw) for shape in shapes)
    return x, k, b


@pytest.mark.parametrize("method", CONV_BARS)
def test_conv2d_equals_torch_within_the_bar(method: str) -> None:
    for seed in SEEDS:
        x, k, b = _layer(seed)
        error = (conv.conv2d(x, k, b, method) - conv.conv2d(x, k, b, "torch")).abs().mean()
        assert error < CONV_BARS[method], f"seed {seed}, {list(x.shape)}"


@pytest.mark.parametrize("method", ["naive", "im2col", "fft"])
def test_conv2d_of_other_kernels_and_batches(method: str) -> None:
    for seed, kernel in enumerate([(1, 1), (1, 5), (4, 2), (10, 8), (7, 7)]):
        x, k, b = (t.double() for t in _layer(seed + 2, kernel))
        x = torch.cat([x, -2 * x, x + 1])
        torch.testing.assert_close(conv.conv2d(x, k, b, method), conv.conv2d(x, k, b, "torch"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", [conv.F2, conv.F4])
def test_winograd_in_fp64_is_exact_to_rounding_and_differentiable(form: conv.Winograd) -> None:
    method = "winograd" if form is conv.F2 else "winograd4"
    x, k, b = (t.double().requires_grad_() for t in _layer(17))
    ours = torch.autograd.grad(conv.conv2d(x, k, b, method).square().sum(), (x, k, b))
    theirs = torch.autograd.grad(conv.conv2d(x, k, b, "torch").square().sum(), (x, k, b))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_matmul_equals_torch_within_the_bar() -> None:
    for seed in SEEDS:
        draw = torch.Generator().manual_seed(seed)
        m, k, n = 3 + seed % 47, 3 + seed * 29 % 47, 3 + seed * 31 % 47
        a, b = torch.randn(m, k, generator=draw), torch.randn(k, n, generator=draw)
        for method, bar in {"naive": 1e-5, "log": 1e-5, "svd": 1e-4}.items():
            if method == "naive" and seed % 10:
                continue  # python loops: every tenth seed
            got = matmul.matmul(a, b, method, rank_a=min(m, k), rank_b=min(k, n))
            assert (got - a @ b).abs().mean() < bar, f"{method}, seed {seed}"


@pytest.mark.parametrize(
    "options", [{"method": "naive"}, {"method": "svd", "rank_a": 5}, {"method": "log"}, {"method": "log", "base": 4096}]
)
def test_matmul_broadcasts_leading_axes(options: dict[str, object]) -> None:
    a, b = torch.randn(2, 1, 5, 6, dtype=torch.float64), torch.randn(3, 6, 4, dtype=torch.float64)
    got = matmul.matmul(a, b, **options)  # type: ignore[arg-type]
    assert got.shape == (2, 3, 5, 4)
    assert (got - a @ b).abs().max() < 2e-3


def test_truncated_factors_are_the_nearest_of_their_rank() -> None:
    a = torch.randn(20, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(a)
    for rank in (1, 7, 20):
        left, right = matmul.factor(a, rank)
        assert left.shape == (20, rank) and right.shape == (rank, 30)
        torch.testing.assert_close((left @ right - a).norm(), values[rank:].norm(), rtol=1e-9, atol=1e-12)


def test_chain_takes_the_cheapest_order_and_leaves_thin_factors_apart() -> None:
    sizes: list[tuple[int, ...]] = []

    class Seen(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
            if getattr(func, "__name__", "") in ("matmul", "__matmul__"):
                sizes.append(tuple(out.shape))
            return out

    parts: list[torch.Tensor] = [
        torch.randn(shape).as_subclass(Seen) for shape in ((100, 3), (3, 100), (100, 2), (2, 100))
    ]
    got = matmul.chain(parts)
    torch.testing.assert_close(
        got.as_subclass(torch.Tensor),
        torch.linalg.multi_dot([p.as_subclass(torch.Tensor) for p in parts]),
        rtol=1e-3,
        atol=1e-3,
    )
    assert sizes == [(3, 2), (100, 2), (100, 100)]


@pytest.mark.parametrize("base", LOG_ERROR)
def test_log_error_halves_with_every_doubling_of_the_base(base: int) -> None:
    assert _log_error(base, "exact") == pytest.approx(LOG_ERROR[base], rel=0.06)
    assert _log_error(base, "lut") == pytest.approx(LOG_ERROR[base], rel=0.06)


def test_mitchell_floors_and_sorting_more_bits_lifts_the_floor() -> None:
    """The first sorted bit alone does not help (1 + r is worst in the middle of the octave, where its half then
    ends)."""
    assert _log_error(128, "mitchell") == pytest.approx(0.045, abs=0.002)
    errors = [_log_error(32, "hybrid", bits) for bits in range(6)]
    assert errors[1:] == sorted(errors[1:], reverse=True) and errors[0] > errors[2]
    assert errors[0] == _log_error(32, "mitchell") and errors[5] == _log_error(32, "exact")


def test_narrow_accumulators_and_conversions_cost_what_they_round_away() -> None:
    """Not flat: every form loses with fewer bits and reaches its own floor (base or Mitchell's line) with enough."""
    floor = {"exact": log_error(32, "exact", 0), "mitchell": log_error(32, "mitchell", 0)}
    for form, least in floor.items():
        errors = [log_error(32, form, 0, bits) for bits in (16, 20, 24, 48)]
        assert errors[0] > 2 * errors[-1] and errors[0] > errors[1] and errors[-1] == pytest.approx(least, rel=1e-3)
        kinds = [log_error(32, form, 0, None, kind) for kind in (torch.bfloat16, torch.float16, torch.float32)]
        assert kinds[2] == pytest.approx(least, rel=1e-3) and kinds[0] > kinds[2]
    held = [log_error(32, "exact", 0, kind) for kind in (torch.bfloat16, torch.float64)]
    assert held[0] > 1.01 * held[1] and held[1] == pytest.approx(floor["exact"], rel=1e-9)


def _log_error(base: int, conversion: str, sorted_bits: int = 0) -> float:
    draw = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(64, 256, dtype=torch.float64, generator=draw),
        torch.randn(256, 64, dtype=torch.float64, generator=draw),
    )
    return float(
        (matmul.matmul(a, b, "log", base=base, conversion=conversion, sorted_bits=sorted_bits) - a @ b).norm()
        / (a @ b).norm()
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2), min_size=1, max_size=12),
    st.sampled_from([1, 2, 4, 8]),
    st.data(),
)
def test_accumulators_equal_the_definition_in_python_integers(
    pairs: list[tuple[float, float]], base: int, data: st.DataObject
) -> None:
    low_bits = data.draw(st.integers(0, base.bit_length() - 1))
    (sign_a, e_a, _), (sign_b, e_b, _) = (logmath.encode(torch.tensor(side), base) for side in zip(*pairs, strict=True))
    want = [0] * (base >> low_bits)
    for sign, e in zip((sign_a * sign_b).tolist(), (e_a + e_b).tolist(), strict=True):
        q, r = divmod(e, base)
        want[r >> low_bits] += sign * ((base + r % (1 << low_bits) if low_bits else 1) << q)
    got = logmath._accumulate((sign_a * sign_b)[:, None], (e_a + e_b)[:, None], base, low_bits)
    assert got[:, 0].tolist() == want


def test_log_of_powers_of_two_and_zeros_is_exact() -> None:
    a, b = torch.tensor([[4.0, -0.5, 0.0]]), torch.tensor([[0.25], [8.0], [3.0]])
    for conversion in logmath.CONVERSIONS:
        assert matmul.matmul(a, b, "log", base=8, conversion=conversion).item() == -3.0
    assert matmul.matmul(a * 0, b, "log", base=8).item() == 0.0


X, K = torch.zeros(1, 2, 6, 6), torch.zeros(3, 2, 3, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: conv.conv2d(X, K, None, "karatsuba"), "method is one of"),
        (lambda: conv.conv2d(X[0], K), "add axes"),
        (lambda: conv.conv2d(X[:0], K), "no axis may be empty"),
        (lambda: conv.conv2d(X, K[:, :1]), "same input channels, got 2 and 1"),
        (lambda: conv.conv2d(X[:, :, :2], K), "kernel fits into the picture"),
        (lambda: conv.conv2d(X, K, torch.zeros(2)), "one bias per output channel"),
        (lambda: conv.conv2d(X, K.double()), "one floating type"),
        (lambda: conv.conv2d(X, K[..., :2], None, "winograd"), "3x3 kernels, got 3x2"),
        (lambda: conv.conv2d(X.half(), K.half(), None, "fft"), "float32 or float64"),
        (lambda: matmul.matmul(K, K, "strassen"), "method is one of"),
        (lambda: matmul.matmul(X, K), "leading axes broadcast|make k equal"),
        (lambda: matmul.matmul(torch.zeros(2, 3, 3), torch.zeros(3, 3, 3)), "leading axes broadcast"),
        (lambda: matmul.matmul(K, K.double()), "one floating type"),
        (lambda: matmul.matmul(K[0, 0], K[0, 0], "svd", rank_a=4), "is 1 to 3, got 4"),
        (lambda: matmul.matmul(K[0, 0], K[0, 0], "log", conversion="lut"), "needs steps of 1/base"),
        (lambda: matmul.matmul(K[0, 0], K[0, 0], "log", base=0), "at least 1 step"),
        (lambda: matmul.matmul(K[0, 0], K[0, 0], "log", base=6, conversion="mitchell"), "power of two, got 6"),
        (
            lambda: matmul.matmul(K[0, 0], K[0, 0], "log", base=4, conversion="hybrid", sorted_bits=3),
            "2 bits of remainder",
        ),
        (lambda: matmul.matmul(K[0, 0] + torch.inf, K[0, 0], "log", base=4), "got inf or nan"),
        (lambda: matmul.matmul(K[0, 0], K[0, 0], "log", base=1 << 20, conversion="mitchell"), "fits into 63 bits"),
    ],
)
def test_what_does_not_apply_is_one_sentence(call, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainerError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", [conv, logmath, matmul])
def test_examples(module) -> None:  # type: ignore[no-untyped-def]
    assert doctest.testmod(module).failed == 0
