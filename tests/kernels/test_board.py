"""Generated engines on the virtual Nano 33 BLE, in its own machine code: every layer equals the reference, in the
cycles stated."""

from __future__ import annotations

from pathlib import Path

import pytest
from codegen_graphs import branched, tinyconv_like
from traced_engine import traced_cycles

from converter.tflite.reader import read_tflite


def test_tinyconv_equals_reference_within_its_cycles(tmp_path: Path) -> None:
    ideal, expected = traced_cycles(tinyconv_like(0), tmp_path)
    print(f"TinyConv, modelled cycles: ideal {sum(ideal)} {ideal}, expected {sum(expected)} {expected}")
    assert sum(ideal) <= 270_000 and sum(expected) <= 1.06 * sum(ideal)  # counts of a model, the same on every machine


@pytest.mark.parametrize("seed", range(3))
def test_branched_graphs_equal_reference(tmp_path: Path, seed: int) -> None:
    traced_cycles(branched(seed), tmp_path)


def test_ds_cnn_equals_reference_within_its_cycles(mlperf_tiny: Path, tmp_path: Path) -> None:
    graph = read_tflite((mlperf_tiny / "models" / "kws_ref_model.tflite").read_bytes())
    ideal, expected = traced_cycles(graph, tmp_path)
    print(f"DS-CNN, modelled cycles: ideal {sum(ideal)} {ideal}, expected {sum(expected)} {expected}")
    assert sum(ideal) <= 3_195_000 and sum(expected) <= 1.06 * sum(ideal)
