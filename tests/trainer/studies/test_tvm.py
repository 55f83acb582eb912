"""Schedules for this CPU: a schedule changes the order of work and not the result; the log replays; what cannot be is
one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from trainer.__main__ import board_tools
from trainer.errors import TrainerError
from trainer.tvm import auto, cpu, studies
from trainer.tvm.measure import checked, compiled, cpu_target, others, require_close
from trainer.tvm.primitives import PRIMITIVES, Sizes

VALUES = (1, 10, 100, 1000, 10000)
ODD: dict[str, tuple[Sizes, ...]] = {
    "conv1d": ((1, 1), (2, 3), (17, 5), (5, 17), (129, 33)),
    "gemm": ((1, 1, 1), (3, 5, 7), (33, 65, 17), (9, 2, 49)),
    "depthwise": (
        (1, 1, 1, 1, 1),
        (1, 1, 1, 1, 5),
        (2, 2, 17, 31, 5),
        (1, 3, 33, 15, 1),
        (3, 4, 16, 32, 7),
        (1, 1, 5, 5, 9),
    ),
    "conv2d": ((1, 1, 1, 1, 1), (7, 13, 3, 5, 3), (1, 17, 2, 33, 5), (9, 8, 17, 16, 7)),
}
FUNCTIONAL = [
    *(("conv1d", sizes) for value in VALUES for sizes in ((value, 1024), (1024, value))),
    *(("gemm", sizes) for value in VALUES for sizes in ((value, 1024, 1024), (1024, value, 1024), (1024, 1024, value))),
    *(
        ("depthwise", (b, c, h, w, k))
        for k in (1, 3, 5)
        for b, c, h, w in (
            (1, 1, 1, 1),
            (1, 64, 128, 128),
            (32, 1, 128, 1),
            (32, 64, 1, 128),
            (5, 7, 31, 127),
            (32, 64, 16, 16),
        )
    ),
    *(
        ("conv2d", (h, w, i, o, k))
        for k in (1, 3, 5)
        for h, w, i, o in ((56, 56, 64, 64), (1, 128, 64, 1), (128, 1, 1, 64), (13, 29, 10, 30))
    ),
]


def check(name: str, sizes: Sizes, steps: tuple[cpu.Step, ...]) -> None:
    primitive = PRIMITIVES[name]
    checked(
        primitive,
        sizes,
        " ".join(step.__name__ for step in steps),
        compiled(cpu.scheduled(primitive, sizes, steps), cpu_target()),
    )


@pytest.mark.parametrize("name", ODD)
def test_odd_and_degenerate_shapes(name: str) -> None:
    for sizes in ODD[name]:
        check(name, sizes, cpu.STEPS[name])


@pytest.mark.parametrize(
    ("name", "sizes"), [("conv1d", (1000, 1024)), ("gemm", (10, 1024, 1024)), ("depthwise", (5, 7, 31, 127, 3))]
)
def test_some_functional_shapes(name: str, sizes: Sizes) -> None:
    check(name, sizes, cpu.STEPS[name])


@pytest.mark.slow  # 52 shapes, the largest 10 billion products: a minute
@pytest.mark.parametrize(("name", "sizes"), FUNCTIONAL)
def test_all_functional_shapes(name: str, sizes: Sizes) -> None:
    check(name, sizes, cpu.STEPS[name])


@pytest.mark.parametrize("name", cpu.STEPS)
def test_every_step_and_what_was_not_kept_give_the_same_result(name: str) -> None:
    steps = cpu.STEPS[name]
    assert len(steps) >= 3 and all(len((step.__doc__ or "").split()) > 12 for step in (*steps, *cpu.REJECTED[name])), (
        "each says why"
    )
    for count in range(len(steps) + 1):
        check(name, ODD[name][2], steps[:count])
    sizes = (2, 2, 17, 31, 3) if name == "depthwise" else ODD[name][2]  # a kernel of 5 compiles for two minutes
    for step in cpu.REJECTED[name]:
        check(name, sizes, (*steps[:-1], step, steps[-1]))


@pytest.mark.parametrize("name", PRIMITIVES)
def test_the_committed_log_replays_to_the_same_result(name: str) -> None:
    primitive = PRIMITIVES[name]
    record = auto.read_log()[auto.key_of(primitive, primitive.default)]
    assert record["trials"] <= auto.MAX_TRIALS and auto.LOG.stat().st_size < 100_000
    module = auto.replay(primitive, primitive.default, record)
    assert module.script() != cpu.scheduled(primitive, primitive.default, ()).script()
    checked(primitive, primitive.default, "auto", compiled(module, cpu_target()))


@pytest.mark.slow
@pytest.mark.long  # a search, if a short one
def test_a_search_is_written_into_the_log_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "LOG", tmp_path / "tuned.json")
    gemm, sizes = PRIMITIVES["gemm"], (64, 32, 48)
    found = studies.searched(gemm, sizes, 4, replay=True)
    record = json.loads(auto.LOG.read_text())["gemm 64x32x48"]
    assert record["trials"] == 4 and record["target"] == str(cpu_target().attrs["mcpu"]) and record["microseconds"] > 0
    monkeypatch.setattr(auto, "tune", lambda *_: pytest.fail("tuned again although it is in the log"))
    assert found.script() == studies.searched(gemm, sizes, 4, replay=True).script()
    checked(gemm, sizes, "auto", compiled(found, cpu_target()))


def test_the_command_saves_the_ir_and_prints_ratios(tmp_path: Path) -> None:
    lines = studies.study("gemm", "cpu", "manual", "24,16,40", 8, True, tmp_path, board_tools)
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    assert rows == [
        "original",
        *(step.__name__ for step in cpu.STEPS["gemm"][:-1]),
        "**gemm_sums_in_registers** = manual",
        "(not kept) gemm_pack_rows",
        "torch",
        "numpy",
    ]
    scripts = [file.read_text() for file in sorted(tmp_path.glob("gemm_*.py"))]
    assert len(scripts) == len(set(scripts)) + 1 == 2 + len(cpu.STEPS["gemm"]), (
        "so small a gemm is not shared among cores"
    )
    assert "T.vectorized" not in scripts[0] and "T.vectorized" in scripts[2]


def test_torch_and_numpy_agree_at_the_usual_sizes_and_a_wrong_result_is_told() -> None:
    for primitive in PRIMITIVES.values():
        assert set(others(primitive, ODD[primitive.name][2])) == {"torch", "numpy"}
    with pytest.raises(TrainerError, match=r"must be numpy's, got a difference of 0\.1"):
        require_close("gemm wrong", np.full(3, 1.1, np.float32), np.ones(3), 8)


def test_table_says_auto_to_manual() -> None:
    found = (("original", "original", 8.0), ("s", "manual", 1.0), ("auto", "auto", 2.0), ("torch", "other", 4.0))
    rows = [studies.Row(*row) for row in found]
    lines = studies.table(PRIMITIVES["conv1d"], (3, 4), rows)
    assert "| **s** = manual | 1,000,000.0 | 8.00 | 0.25 |" in lines and "auto : manual = 2.00 (time)" in lines


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("fft",), "one of conv1d, gemm, conv2d, depthwise"),
        (("gemm", "--target", "tpu"), "--target is one of"),
        (("gemm", "--method", "best"), "--method is one of"),
        (("gemm", "--size", "4,4"), "--size takes M, K, N, each 1 to 65536, got 4,4"),
        (("conv1d", "--size", "0,4"), "each 1 to 65536"),
        (("conv1d", "--size", "a,4"), "whole numbers with commas"),
        (("depthwise", "--size", "1,1,4,4,2"), "K odd"),
        (("conv1d", "--method", "auto", "--no-replay", "--trials", "500"), "1 to 128, got 500"),
        (("conv1d", "--target", "cortex-m4"), "compiles conv2d and gemm"),
        (("firmware", "--generator", "rust"), "one of c, llvm"),
        (("firmware", "--method", "auto"), "--method is one of original, manual"),
        (("firmware", "nowhere"), "nowhere: no such run folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: tuple[str, ...],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainer.__main__ import main

    monkeypatch.setattr(sys, "argv", ["trainer", "tvm", *words, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 1 and told in error and "\n" not in error and not (tmp_path / "out").exists()


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('tvm', 'xgboost') else real(name, *a)\n"
        "from trainer.__main__ import main; sys.argv = ['trainer', 'tvm', 'gemm']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.strip() == (
        "error: tvm: needs the optional packages of the extra tvm, got no apache-tvm and no xgboost-cpu; "
        "pip install -e '.[tvm]'"
    )
