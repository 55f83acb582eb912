"""Rooflines: a measurement that resumes, pictures and page from what was stored."""

from __future__ import annotations

import doctest
import json
import math
import re
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from converter.commands import timing
from trainer import gpu
from trainer.__main__ import main
from trainer.errors import TrainerError
from trainer.roofline import (
    actions,
    board,
    chips,
    latency,
    machine,
    measure,
    measured,
    models,
    nets,
    page,
    pictures,
    system,
)

ROOT = Path(__file__).resolve().parents[3]
SMALL = ("squeezenet1_0", "shufflenet_v2_x1_0")


def cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of `python -m trainer roofline WORDS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["trainer", "roofline", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def networks() -> dict[str, models.Network]:
    return models.count_all()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished measurement of two small networks."""
    folder = tmp_path_factory.mktemp("measured")
    said: list[str] = []
    measure.run(folder, 0.2, said.append, SMALL, (1, 2), largest=512, elements=1 << 20)
    assert len(said) == 3 + 4 + 4 + 2
    return folder


def board_json(folder: Path, **changes: Any) -> Path:
    row = {"name": "conv", "operations": 644_000, "bytes": 6_632, "cycles": 5_000_000}
    content = {
        "identity": {"clock_hz": 64_000_000},
        "modelled": True,
        "roofline": [row, {**row, "name": "dense", "operations": 32_004, "bytes": 20_020, "cycles": 300_000}],
        **changes,
    }
    file = folder / "board_TinyConv.json"
    file.write_text(json.dumps(content))
    return file


# --- measuring


def test_stream_counts_bytes_not_kilobytes() -> None:
    """A copy through numpy of the same size agrees within a factor of 20 (never one of 1,000), whatever else the
    machine does."""
    import numpy as np

    elements, threads = 1 << 22, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours = machine.stream("copy", "cpu", 0.2, elements)["bytes_per_second"]
    finally:
        torch.set_num_threads(threads)
    a, b = np.ones(elements, np.float32), np.zeros(elements, np.float32)
    times = system.take(lambda: np.copyto(b, a), "cpu", 0.2)
    assert 1 / 20 < ours / (2 * a.nbytes / min(times.seconds)) < 20
    assert [machine.moved(kernel, 10) for kernel in machine.STREAM] == [80, 80, 120, 120]


def test_peak_counts_every_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "take", lambda call, device, seconds: (call(), timing.Times((0.5, 0.25, 1.0)))[1])
    found = machine.peak("fp32", "cpu", 1.0, largest=512)
    assert found["ways"]["product of 512x512"] == 2 * 512**3 / 0.25
    assert found["ways"]["3x3 convolution of 32 channels"] == 2 * 8 * 32 * 32 * 9 * 28 * 28 / 0.25
    assert found["operations_per_second"] == max(found["ways"].values())


def test_types_the_hardware_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"sse2"})
    for dtype in ("bf16", "int8"):
        assert "no " + dtype in machine.peak(dtype, "cpu", 0.01)["skipped"]


def test_take_warms_up_and_repeats() -> None:
    calls: list[int] = []
    times = system.take(lambda: calls.append(1), "cpu", 0.0)
    assert len(times.seconds) == timing.LEAST_RUNS and len(calls) == timing.LEAST_RUNS + 1
    assert len(system.take(lambda: None, "cpu", 0.05).seconds) == timing.MOST_RUNS


def test_a_measurement_has_every_point_and_says_what_it_left_out(stored: Path) -> None:
    found = measure.load(stored / "measure.json")
    assert found["finished"] and found["machine"] == system.machine()
    for name in SMALL:
        for batch in (1, 2):
            point = found["points"][measure.inference_key("cpu", name, batch)]
            assert ("skipped" in point) != (point.get("median", 0) > 0 and point["runs"] >= 3)
        step = found["points"][f"cpu training {name}"]
        if "skipped" not in step:
            assert step["backward_over_forward"] == step["backward"]["median"] / step["forward"]["median"]
            assert step["kinds"]["forward"]["convolution"] > 0 and step["kinds"]["backward"]["convolution"] > 0
    assert found["points"]["cpu stream triad"]["bytes_per_second"] > 1e8


def test_an_interrupted_measurement_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(point: dict[str, Any]) -> Any:
        def work(*_: object) -> dict[str, Any]:
            called.append(1)
            return dict(point)

        return work

    called: list[int] = []
    monkeypatch.setattr(machine, "peak", count({"operations_per_second": 1e9, "way": "none"}))
    monkeypatch.setattr(machine, "stream", count({"bytes_per_second": 1e9}))
    monkeypatch.setattr(
        latency, "inference", count({"median": 1e-3, "spread": 0.0, "pictures_per_second": 1.0, "runs": 3})
    )
    monkeypatch.setattr(latency, "training", count({"skipped": "for the test"}))
    monkeypatch.setattr(system, "devices", lambda: ["cpu"])

    def stop_at_five(line: str) -> None:
        if line.startswith("5/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure.run(tmp_path, 1, stop_at_five, SMALL, (1,))
    half = measure.load(tmp_path / "measure.json")
    assert len(half["points"]) == 5 and not half["finished"] and len(called) == 5
    measure.run(tmp_path, 1, lambda line: None, SMALL, (1,))
    whole = measure.load(tmp_path / "measure.json")
    assert len(called) == 11 and whole["finished"]
    assert {key: whole["points"][key] for key in half["points"]} == half["points"]
    measure.run(tmp_path, 1, lambda line: None, SMALL, (1,))
    assert len(called) == 22, "a finished measurement is made anew"
    (tmp_path / "measure.json").write_text(json.dumps({**half, "machine": {**half["machine"], "cpu": "another"}}))
    with pytest.raises(TrainerError, match="another"):
        measure.run(tmp_path, 1, lambda line: None, SMALL, (1,))


def test_what_takes_too_long_or_too_much_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = measure.Store(tmp_path / "m.json", {}, minutes=1.0)
    store.points["cpu inference squeezenet1_0 1"] = {"median": 2.0}
    assert measure._inference(store, "squeezenet1_0", 64, "cpu", 1.0)["skipped"].startswith(
        "estimated 512 s for 4 runs (batch 1 took 2 s)"
    )
    assert measure._training(store, "squeezenet1_0", "cpu")["skipped"].startswith("estimated 240 s")
    monkeypatch.setattr(latency, "free_bytes", lambda device: 10**8)
    assert "80 % of the free 0.1 GB" in measure._inference(store, "squeezenet1_0", 64, "cpu", 1.0)["skipped"]
    store.spent["cpu"] = 60.0
    assert measure._limit(store, "cpu") == 0.0
    assert measure._limit(store, "cuda") == 60 / measure.LONG_POINTS, "a slow CPU leaves the GPU its minutes"


def test_each_device_spends_its_own_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**6))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: float(next(now)))  # type: ignore[attr-defined]
    for part, name in ((machine, "peak"), (machine, "stream"), (latency, "inference"), (latency, "training")):
        monkeypatch.setattr(part, name, lambda *_: {"skipped": "for the test"})
    monkeypatch.setattr(system, "devices", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.backends.cuda.matmul.allow_tf32 = True  # its attribute is none that monkeypatch can put back
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(latency, "free_bytes", lambda device: 10**12)
    monkeypatch.setattr(system, "unused_gpu", lambda: "GPU sm_90: not measured")
    said: list[str] = []
    measure.run(tmp_path, 1, said.append, SMALL, (1,))
    assert measure.load(tmp_path / "measure.json")["spent"] == {"cpu": 11.0, "cuda": 11.0}
    assert said[0] == "GPU sm_90: not measured" and len(said) == 1 + 2 * 11
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_a_gpu_that_torch_cannot_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "architecture", lambda: "sm_90")
    assert system.unused_gpu().startswith(f"GPU sm_90: not measured, torch {torch.__version__} cannot use it")
    monkeypatch.setattr(gpu, "architecture", lambda: "")
    assert system.unused_gpu() == ""


def test_out_of_memory_is_a_point_left_out_and_other_errors_are_not() -> None:
    def full() -> dict[str, Any]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    def broken() -> dict[str, Any]:
        raise RuntimeError("shapes differ")

    assert "out of memory" in measure._guarded(full)["skipped"]
    with pytest.raises(RuntimeError, match="shapes"):
        measure._guarded(broken)


def test_ranks_against_a_formula() -> None:
    """Without ties: 1 - 6 sum d^2 / (n (n^2 - 1)); with ties the mean ranks; only what both have."""
    x = {"a": 3.0, "b": 1.0, "c": 9.0, "d": 4.0, "e": 5.0}
    y = {"a": 2.0, "b": 7.0, "c": 1.0, "d": 8.0, "e": 3.0, "other": 0.0}
    ranks_x, ranks_y = {"a": 2, "b": 1, "c": 5, "d": 3, "e": 4}, {"a": 2, "b": 4, "c": 1, "d": 5, "e": 3}
    expected = 1 - 6 * sum((ranks_x[k] - ranks_y[k]) ** 2 for k in x) / (5 * 24)
    value, n = measure.spearman({"x": x, "y": y})["x"]["y"]
    assert value == pytest.approx(expected) and n == 5
    assert measure._ranks([5.0, 1.0, 5.0]) == [2.5, 1.0, 2.5]
    assert math.isnan(measure.spearman({"x": {"a": 1.0}, "y": {"a": 2.0}})["x"]["y"][0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
def test_on_a_gpu(tmp_path: Path) -> None:
    measure.run(tmp_path, 1, lambda line: None, ("resnet18",), (1, 8), largest=1024, elements=1 << 24)
    points = measure.load(tmp_path / "measure.json")["points"]
    for dtype in ("fp32", "bf16"):
        assert (
            points[f"cuda peak {dtype}"].get("operations_per_second", 0) > 1e10
            or points[f"cuda peak {dtype}"]["skipped"]
        )
    assert points["cuda stream triad"]["bytes_per_second"] > 1e10
    assert points["cuda inference resnet18 8"]["median"] > 0
    assert points["cuda training resnet18"]["kinds"]["backward"]["convolution"] > 0


# --- board, pictures, page


def test_the_board_s_layers(tmp_path: Path) -> None:
    model = board.load(board_json(tmp_path))
    assert [layer.name for layer in model.layers] == ["conv", "dense"]
    assert model.layers[0].operations_per_second == pytest.approx(644_000 / 5_000_000 * 64e6)
    assert model.whole.operations == 676_004
    roof = chips.of("nRF52840").roof("int8", model.whole.intensity)
    (row,) = [row for row in page.board_table(chips.of("nRF52840"), model).rows if row[1] == "dense"]
    from_flash = 32_004 / 20_020 * 256e6 / 3  # bytes a second behind two wait states
    assert row[-1] == f"{100 * 32_004 / 300_000 * 64e6 / from_flash:.0f} %"
    bytes_of_a_pass = 6_632 + 20_020  # 25 operations a byte: bound by the 819 GB/s of a TPU v5e
    assert f"{819e9 / bytes_of_a_pass / 1e6:.3g} M/s (TPU v5e, memory-bound)" in page.passes_elsewhere(model)
    dense = replace(model, layers=(replace(model.layers[0], operations=10**9, bytes=1000),))
    assert "393 k/s (TPU v5e, compute-bound)" in page.passes_elsewhere(dense)
    assert roof == 256e6 and 1000 * model.whole.operations / roof == pytest.approx(2.6, abs=0.05)


@pytest.mark.parametrize("change", [{"roofline": []}, {"roofline": [{"name": "x"}]}, {"identity": {}}])
def test_other_json_is_no_board(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(TrainerError, match=r"board_TinyConv\.json"):
        board.load(board_json(tmp_path, **change))


def test_labels_stay_apart() -> None:
    placed = pictures.spread_out([0.5, 0.5, 0.52, 0.9, 0.1], 0.1)
    ordered = sorted(placed)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(ordered))
    assert placed[4] == 0.1 and placed[3] == 0.9


def test_plot_from_a_stored_measurement(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(stored / "measure.json", tmp_path)
    board_json(tmp_path)
    assert cli(monkeypatch, "plot", "--out", str(tmp_path)) == 0
    files = {Path(line).name: Path(line) for line in capsys.readouterr().out.split()}
    expected = {"chips", "models", "networks_on_chips", "bound", "layers", "board"}
    expected |= {f"cpu_{what}" for what in ("roofline", "latency", "throughput", "spearman", "training")}
    drawn = {name.removesuffix(".png") for name in files if name.endswith(".png")}
    assert expected - {"cpu_training"} <= drawn
    for name in drawn:
        content = files[f"{name}.png"].read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) < 150_000, name
    whole = files["roofline.html"].read_text()
    assert whole.count("data:image/png;base64,") == len(drawn)
    assert not re.search(r'(src|href)="?https?:', whole)
    tables = files["tables.md"].read_text()
    rows = (
        "AlexNet",
        "138,357,544",
        "TinyConv on the Nano 33 BLE",
        "STREAM triad",
        "Spearman",
        "nRF52840",
        "256 MOP/s",
    )
    for text in rows:
        assert text in tables and text in whole, text


def test_plot_of_an_unfinished_measurement(stored: Path, networks: dict[str, models.Network]) -> None:
    points = measure.load(stored / "measure.json")["points"]
    some = {key: point for key, point in points.items() if "peak" in key}
    assert actions._of_device(measured.Measurement("cpu", some), networks) == {}
    some |= {key: point for key, point in points.items() if "stream" in key}
    assert set(actions._of_device(measured.Measurement("cpu", some), networks)) == {"cpu_roofline.png"}


def test_tables_escape_and_say_what_is_missing() -> None:
    found = measured.Measurement("cpu", {"cpu inference vgg16 256": {"skipped": "estimated 900 s"}})
    table = page.latency_table(found)
    assert table.rows == [["VGG16", "left out: estimated 900 s"]]
    busy = {"machine": {**system.machine(), "cores": 2}, "load": 7.0}
    assert "OTHER PROGRAMS RAN" in page.markdown([table], busy)
    assert "it was quiet" in page.markdown([table], {**busy, "load": 0.5})
    assert "a &lt; b" in page.page({}, [page.Table("t", "a < b", ("x",), [["y"]])], None)


@pytest.mark.parametrize("action", ["chips", "models"])
def test_chips_and_models_write_their_files(tmp_path: Path, action: str) -> None:
    files = actions.run(action, tmp_path, 1, lambda line: None)
    content = json.loads((tmp_path / f"{action}.json").read_text())
    assert len(content) == (len(chips.load()) if action == "chips" else len(nets.NAMES))
    assert len(files) >= 3 and all(file.is_file() for file in files)


@pytest.mark.parametrize(
    ("words", "part"), [(("draw",), "the action is one of"), (("plot",), "there is no measurement")]
)
def test_wrong_words_are_one_sentence(
    tmp_path: Path,
    words: tuple[str, ...],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli(monkeypatch, *words, "--out", str(tmp_path)) == 1
    said = capsys.readouterr()
    assert said.out == "" and part in said.err and len(said.err.strip().splitlines()) == 1


def test_a_damaged_board_file_is_one_sentence(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(stored / "measure.json", tmp_path)
    board_json(tmp_path, roofline=None)
    assert cli(monkeypatch, "plot", "--out", str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "board_TinyConv.json: the board's layers are what" in said and len(said.strip().splitlines()) == 1


def test_a_damaged_measurement_is_one_sentence(tmp_path: Path) -> None:
    for content in (
        "{",
        "[]",
        '{"points": {}}',
        '{"points": [], "machine": {}, "finished": 1, "spent": {}, "load": 0}',
    ):
        (tmp_path / "measure.json").write_text(content)
        with pytest.raises(TrainerError, match="measure again"):
            measure.load(tmp_path / "measure.json")


@pytest.mark.parametrize(
    "module", [chips, timing, latency, machine, measure, models, pictures], ids=lambda module: module.__name__
)
def test_docstrings_run(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_nothing_imports_the_leaf() -> None:
    users = [
        file
        for folder in ("trainer", "converter", "host")
        for file in (ROOT / folder).rglob("*.py")
        if "trainer.roofline" in file.read_text() and "roofline" not in file.parent.name
    ]
    assert users == [ROOT / "trainer" / "__main__.py"]
