"""GPU schedules without a GPU: the generated CUDA is compiled by nvcc where it is, and run on the CPU, thread by
thread, everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")
import cuda_host
import tvm

from trainer.errors import TrainerError
from trainer.tvm import gpu, gpu_study
from trainer.tvm.measure import reference, require_close, terms
from trainer.tvm.primitives import PRIMITIVES, Sizes

SHAPES: dict[str, tuple[Sizes, ...]] = {
    "conv1d": ((300, 37), (1, 1), (5, 300)),
    "gemm": ((70, 33, 65), (1, 1, 1), (64, 64, 128)),
    "conv2d": ((9, 21, 5, 19, 3), (1, 1, 1, 1, 1), (8, 16, 8, 16, 1)),
    "depthwise": ((2, 3, 18, 35, 5), (1, 1, 1, 1, 5), (1, 2, 16, 32, 7)),
}
CASES = [(name, sizes) for name, shapes in SHAPES.items() for sizes in shapes]


def check(name: str, sizes: Sizes, count: int, folder: Path) -> str:
    primitive = PRIMITIVES[name]
    module = gpu.scheduled(primitive, sizes, gpu.STEPS[name][:count])
    source = gpu.cuda_source(module)
    x, w = primitive.operands(sizes)
    want = reference(primitive, x, w)
    require_close(name, cuda_host.run(source, gpu.host_script(module), (x, w), want.shape, folder), want, terms(w))
    return source


@pytest.mark.parametrize("name", SHAPES)
def test_the_last_step_is_numpys_result_on_a_ragged_shape(name: str, tmp_path: Path) -> None:
    source = check(name, SHAPES[name][0], 99, tmp_path)
    assert "__global__" in source and "__shared__" in source and "threadIdx.x" in source and "__syncthreads" in source


@pytest.mark.slow  # 48 sources are compiled: a minute
@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_every_step_is_numpys_result(name: str, sizes: Sizes, tmp_path: Path) -> None:
    for count in range(len(gpu.STEPS[name]) + 1):
        check(name, sizes, count, tmp_path / str(count))


def test_gemm_fetches_four_floats_at_a_time() -> None:
    primitive = PRIMITIVES["gemm"]
    steps = gpu.STEPS["gemm"]
    before, after = (gpu.cuda_source(gpu.scheduled(primitive, primitive.default, steps[:n])) for n in (1, 2))
    assert "float4" in after and "float4" not in before


@pytest.mark.parametrize(
    "name", ["gemm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("conv1d", "conv2d", "depthwise"))]
)
def test_nvcc_compiles_every_step(name: str, tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc on PATH to compile CUDA with")
    for line in gpu_study.study(PRIMITIVES[name], PRIMITIVES[name].default, "manual", tmp_path)[:-1]:
        assert line.endswith("compiled by nvcc for sm_80")
    assert len(list(tmp_path.glob("*.cu"))) == len(list(tmp_path.glob("*.py"))) == 1 + len(gpu.STEPS[name])


@pytest.mark.parametrize("name", SHAPES)
def test_on_the_gpu(name: str, tmp_path: Path) -> None:
    if not tvm.cuda().exist:
        pytest.skip("no GPU here to run the kernels on")
    lines = gpu_study.study(PRIMITIVES[name], PRIMITIVES[name].default, "manual", tmp_path)
    assert sum(line.endswith(" ms") for line in lines) >= 1 + len(gpu.STEPS[name])


def test_what_nvcc_refuses_and_a_search_without_a_runner_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'kernel.cu(1): error: no' >&2\nexit 2\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(TrainerError, match=r"got kernel.cu\(1\): error: no; report"):
        gpu_study.compiles("no")
    with pytest.raises(TrainerError, match="use manual"):
        gpu_study.study(PRIMITIVES["gemm"], (1, 1, 1), "auto", tmp_path)
