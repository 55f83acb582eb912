"""A sweep of two points from recordings to the virtual board: interrupted, resumed, one point broken; and its grids."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trainer_corpus
from rich.progress import Progress

from converter.run_folder import ArtifactError
from trainer.errors import TrainerError
from trainer.run.steps import Source
from trainer.sweep import run as sweep
from trainer.sweep.grid import DEFAULT_GRID, Point, parse
from trainer.sweep.point import Job, make_point, read_result, write_result

ROOT = Path(__file__).resolve().parents[2]
GRID = ["--grid", "kind=structured amount=0.5,0.99 method=ptq"]  # 0.99 of 8 channels leaves none: a broken point


def a_job(folder: Path, words: tuple[str, ...] = ("yes", "stop")) -> Job:
    return Job(folder, folder, Source("data"), words, None, 50)


def test_a_grid_is_every_combination_once() -> None:
    points = parse(["bits=2,8 method=ptq,qat seed=0,1", "bits=8 kind=structured amount=0.25,0.5", "bits=8"])
    assert len(points) == 8 + 2 and points[0] == Point(bits=2, method="ptq") and points[8].amount == 0.25
    assert all(parse([p.label]) == [p] for p in points), "a point's own grid names just this point"
    assert len({p.key for p in points}) == len(points) and len({p.float_key for p in points}) == 2


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ("bits=9", "bits lie in 2..8"),
        ("bits", "axis=values"),
        ("width=3", "axes are model, seed"),
        ("bits=4 bits=2", "comes twice"),
        ("bits=few", "must hold numbers"),
        ("method=pruned", "method must be one of ptq, qat"),
        ("model=vgg", "model must be one of"),
        ("amount=0.5", "kind is unstructured or structured"),
        ("kind=structured", "amount lies between"),
        ("finetune=3", "needs a kind"),
        ("", "names no point"),
    ],
)
def test_a_wrong_grid_is_one_sentence(grid: str, told: str) -> None:
    with pytest.raises(TrainerError, match=told):
        parse([grid])


def test_the_default_grid_keeps_its_promise(tmp_path: Path) -> None:
    """At most 60 points, and by the counted epochs at most 75 minutes on two cores."""
    points, job = parse(DEFAULT_GRID), a_job(tmp_path)
    floats = {p.float_key: p for p in points}.values()
    seconds = sum(sweep.estimate(job, p, sweep.CLIPS_OF_AN_EPOCH) for p in points)
    seconds += sum(sweep.float_seconds(job, p, sweep.CLIPS_OF_AN_EPOCH) for p in floats)
    assert len(points) <= 60 and seconds / 60 / 2 <= 75


def test_a_folder_belongs_to_one_task(tmp_path: Path) -> None:
    points = parse(["bits=4,8"])
    sweep.claim(a_job(tmp_path), points)
    sweep.claim(a_job(tmp_path), parse(["bits=8 seed=0,1"]))
    listed = json.loads((tmp_path / "sweep.json").read_text())["points"]
    assert [p["bits"] for p in listed] == [4, 8, 8], "points of an earlier grid stay listed, none twice"
    with pytest.raises(TrainerError, match="other words; give another --out"):
        sweep.claim(a_job(tmp_path, ("yes",)), points)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(TrainerError, match="damaged"):
        sweep.claim(a_job(tmp_path), points)


def test_again_forgets_a_stage_or_all(tmp_path: Path) -> None:
    job, point = a_job(tmp_path), Point()
    board = dict.fromkeys(("cycles", "board_ms", "energy_uj", "engine_flash_bytes", "differences", "inputs"), 2)
    whole = {"point": {}, "commands": [], "train": {"accuracy": 1, "n": 3}, "board": board}
    for again, left in (("board", {"point", "commands", "train"}), ("all", set())):
        write_result(job.point_folder(point), whole)
        sweep.forget(job, point, again)
        assert read_result(job.point_folder(point)).keys() == left


def test_a_point_whose_float_network_is_gone_is_broken_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = a_job(tmp_path)
    found = make_point(job, Point())
    assert "no artifact.json" in found["error"] and read_result(job.point_folder(Point()))["error"] == found["error"]
    assert "Traceback" in (job.point_folder(Point()) / "traceback.txt").read_text()
    with pytest.raises((TrainerError, ArtifactError)), Progress(disable=True) as progress:
        sweep.sweep(job, [Point()], None, None, progress)  # no recordings at all: nothing is started


def command(corpus: Path, out: Path, *more: str) -> list[str]:
    options = ["--data", str(corpus), "--words", "yes,stop", "--epochs", "1", "--out", str(out)]
    return [sys.executable, "-m", "trainer", "sweep", *options, *GRID, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def results(out: Path) -> dict[str, dict[str, Any]]:
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(out.glob("points/*/result.json"))}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    return trainer_corpus.make(tmp_path / "data", speakers=24)


def interrupt_after_a_training(arguments: list[str], out: Path) -> subprocess.CompletedProcess[str]:
    """Ctrl-C, as a terminal sends it to all processes, as soon as one point is trained and before all are done."""
    process = subprocess.Popen(
        arguments,
        cwd=out.parent,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 240
    while not any("train" in found for found in results(out).values()):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, *told)


def test_interrupt_resume_and_a_broken_point(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    stopped = interrupt_after_a_training(command(corpus, out), out)
    assert (
        stopped.returncode == 130
        and "start the same command again" in stopped.stderr
        and "Traceback" not in stopped.stderr
    )
    assert "2 points, 0 of them finished; 1 float networks to train" in stopped.stderr
    before = {key: found["train"] for key, found in results(out).items() if "train" in found}
    networks = {file: file.stat().st_mtime_ns for key in before for file in [out / "points" / key / "run" / "qat.pt"]}
    networks[out / "float" / "tinyconv-s0" / "float.pt"] = (
        (out / "float" / "tinyconv-s0" / "float.pt").stat().st_mtime_ns
    )
    done = subprocess.run(
        command(corpus, out), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "1 points finished, 1 broken" in done.stderr and "Traceback" not in done.stderr
    assert "0 float networks to train" in done.stderr
    assert {file: file.stat().st_mtime_ns for file in networks} == networks, "what was trained is not trained again"
    found = results(out)
    assert all(found[key]["train"] == train for key, train in before.items())
    broken = [r for r in found.values() if "error" in r]
    assert (
        len(broken) == 1
        and broken[0]["point"]["amount"] == 0.99
        and "must take out 1 to 7 of 8 channels" in broken[0]["error"]
    )
    (whole,) = (r for r in found.values() if "error" not in r)
    board = whole["board"]
    assert (
        board["differences"] == 0 and board["inputs"] == 8 and board["cycles"] > 10_000 and board["parameters"] == 8328
    )
    assert board["energy_uj"] == pytest.approx(board["cycles"] / 64e6 * 3.3e-3 * 3.0 * 1e6)
    assert whole["train"]["n"] == 8 and any(line.startswith("python -m trainer quantize") for line in whole["commands"])
    files = {file: file.read_bytes() for file in out.glob("points/*/result.json")}
    page = subprocess.run(
        [sys.executable, "-m", "host", "report", str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert page.returncode == 0 and "must take out 1 to 7" in (out / "report.html").read_text()
    assert {file: file.read_bytes() for file in files} == files


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_gives_the_same(corpus: Path, tmp_path: Path) -> None:
    """Slow: two Ray nodes start as processes. Everything but times of this machine equals the local run's."""
    pytest.importorskip("ray", reason="the optional package ray is not installed")
    from ray.cluster_utils import Cluster

    local = subprocess.run(
        command(corpus, tmp_path / "here"), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert "1 points finished, 1 broken" in local.stderr, local.stderr[-2000:]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        done = subprocess.run(
            command(corpus, tmp_path / "there", "--ray", cluster.address),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    assert "1 points finished, 1 broken" in done.stderr and "on 2 workers" in done.stderr, done.stderr[-2000:]
    assert comparable(tmp_path / "there", exact=True) == comparable(tmp_path / "here", exact=False)


def comparable(out: Path, exact: bool) -> list[Any]:
    """Results without times of this machine and folder names."""
    drop = ("seconds", "host_us", "host_engine")
    # a timer interrupt falls into one layer or another, or one more into a run: some 50 expected cycles
    cycles = ("cycles", "cycles_uncached", "layer_cycles", "cycles_stream_hop")
    ticks = (*cycles, "board_ms", "energy_uj")
    found = []
    for key, r in results(out).items():
        stages = {
            stage: {
                k: v if exact or k not in ticks else pytest.approx(v, rel=2e-3, abs=60 if k in cycles else None)
                for k, v in r.get(stage, {}).items()
                if k not in drop
            }
            for stage in ("train", "board")
        }
        found.append((key, r["point"], r.get("error"), stages))
    return found
