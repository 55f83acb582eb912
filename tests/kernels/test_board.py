"""Generated engines on the virtual Nano 33 BLE, in its own machine code: every layer equals the reference, in the
cycles stated."""

from __future__ import annotations

from pathlib import Path

import pytest
from codegen_graphs import branched, tinyconv_like
from traced_engine import traced_cycles

from converter.tflite.reader import read_tflite


def test_tinyconv_equals_reference_within_its_cycles(tmp_path: Path) -> None:
    cached, uncached = traced_cycles(tinyconv_like(0), tmp_path)
    print(f"TinyConv, modelled cycles: cached {sum(cached)} {cached}, uncached {sum(uncached)} {uncached}")
    assert sum(cached) <= 269_000 and sum(uncached) <= 298_000  # counts of a model, the same on every machine


@pytest.mark.parametrize("seed", range(3))
def test_branched_graphs_equal_reference(tmp_path: Path, seed: int) -> None:
    traced_cycles(branched(seed), tmp_path)


def test_ds_cnn_equals_reference_within_its_cycles(mlperf_tiny: Path, tmp_path: Path) -> None:
    graph = read_tflite((mlperf_tiny / "models" / "kws_ref_model.tflite").read_bytes())
    cached, uncached = traced_cycles(graph, tmp_path)
    print(f"DS-CNN, modelled cycles: cached {sum(cached)} {cached}, uncached {sum(uncached)} {uncached}")
    assert sum(cached) <= 3_195_000
