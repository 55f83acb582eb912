"""The table of docs/packed.md: the networks it is about, its rows, and one point measured."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter.check import check
from converter.convert import load
from converter.operators.conv2d import Conv2D
from converter.operators.fully_connected import FullyConnected
from converter.tflite.writer import weight_bits
from host.measure import packed_study as packed

ROOT = Path(__file__).resolve().parents[2]


def test_networks_have_the_bits_and_zeros_they_are_named_for() -> None:
    whole = load(ROOT / "reference").graph
    assert packed.cut(whole, 8, 0.0).model_id == whole.model_id
    for bits in (2, 3, 4, 6):
        graph = check(packed.cut(whole, bits, 0.0))
        conv, dense = graph.layers[0], graph.layers[1]
        assert isinstance(conv, Conv2D) and isinstance(dense, FullyConnected)
        assert weight_bits(conv) == weight_bits(dense) == bits
        assert graph.tensors[conv.output].quant.zero_point == 128 - (1 << bits)
        before = whole.layers[1]
        assert isinstance(before, FullyConnected)
        error = dense.weights_oi * (dense.weight_quant.scale / before.weight_quant.scale) - before.weights_oi
        assert np.sqrt(np.square(error).mean()) < 0.6 * before.weights_oi.std()  # still the same network, coarser
    for sparsity in packed.SPARSITIES:
        dense = packed.cut(whole, 8, sparsity).layers[1]
        assert isinstance(dense, FullyConnected)
        assert (dense.weights_oi == 0).mean() == pytest.approx(sparsity, abs=1e-3)


def test_table_has_a_row_per_point_as_the_page_shows_it() -> None:
    forms, constants, cycles = ("packed", "int4", ""), (500, 8048, 400), (240000, 24000, 500)
    sizes, times = (16000, 11000, 45000), (270000, 290000, 81000)
    point = packed.Point("id", 4, 0.5, forms, constants, *sizes, *times, cycles, 10400)
    lines = packed.markdown([point, replace(point, bits=2)]).splitlines()
    assert lines[2] == (
        "| 4 | 50% | packed, int4 | 500 + 8,048 | 16,000 | 11,000 | 270,000 | 290,000 | 81,000 | 24,000 | 10,400 |"
    )
    page = (ROOT / "docs" / "packed.md").read_text()
    assert lines[0] in page
    rows = re.findall(r"^\| (\d) \| (\d+)% \|", page, re.MULTILINE)
    assert rows == [(str(bits), str(round(100 * sparsity))) for bits, sparsity in packed.plan()]


@pytest.mark.slow  # builds a whole image
def test_a_point_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "plan", lambda: [(2, 0.0)])
    (first,) = packed.points(tmp_path)
    assert first.forms[:2] == ("packed", "int2") and first.engine_flash < 16_000 and first.window_cycles < 330_000
    monkeypatch.setattr(packed, "measure", None)
    assert list(packed.points(tmp_path)) == [first]
