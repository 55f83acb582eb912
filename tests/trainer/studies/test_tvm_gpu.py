"""GPU schedules without a GPU: the generated CUDA is compiled by nvcc where it is, and run on the CPU, thread by
thread, everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("tvm", reason="the extra tvm is not installed")
import cuda_host
import tvm

from trainer import gpu as driver
from trainer.errors import TrainerError
from trainer.tvm import cuda_parts, gpu, gpu_study, gpu_timer
from trainer.tvm.measure import checked, reference, require_close, terms
from trainer.tvm.primitives import PRIMITIVES, Primitive, Sizes

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
        assert line.endswith(f"compiled by nvcc for {cuda_parts.prepare() or gpu.NO_GPU_ARCH}")
    assert len(list(tmp_path.glob("*.cu"))) == len(list(tmp_path.glob("*.py"))) == 1 + len(gpu.STEPS[name])


@pytest.mark.parametrize("name", SHAPES)
def test_on_the_gpu(name: str, tmp_path: Path) -> None:
    if not cuda_parts.prepare():
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
        gpu_study.compiles("no", "sm_80")
    with pytest.raises(TrainerError, match="use manual"):
        gpu_study.study(PRIMITIVES["gemm"], (1, 1, 1), "auto", tmp_path)


# --- what is missing on a machine with a GPU names itself


def library(file: Path, source: str, *options: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build a stand-in library with")
    command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-x", "none", "-o", str(file), *options]
    subprocess.run(command, input=source.encode(), check=True)
    return file


def driver_of(folder: Path, init: int = 0, count: int = 1) -> str:
    """A stand-in for libcuda.so.1 with GPUs of compute capability 9.0."""
    source = f"""int cuInit(unsigned flags) {{ return {init}; }}
        int cuDeviceGetCount(int *n) {{ *n = {count}; return 0; }}
        int cuDeviceGet(int *device, int i) {{ *device = i; return 0; }}
        int cuDeviceGetAttribute(int *value, int name, int device) {{ *value = name == 75 ? 9 : 0; return 0; }}"""
    return str(library(folder / f"driver_{init}_{count}.so", source))


def test_the_architecture_is_the_driver_s_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for init, count, arch in ((0, 1, "sm_90"), (0, 0, ""), (100, 0, ""), (34, 0, "")):
        monkeypatch.setattr(driver, "DRIVER", driver_of(tmp_path, init, count))
        assert driver.architecture() == arch
    monkeypatch.setattr(driver, "DRIVER", driver_of(tmp_path, 803))
    with pytest.raises(TrainerError, match=r"must answer cuInit, got error 803; see that `nvidia-smi` works"):
        driver.architecture()
    monkeypatch.setattr(driver, "DRIVER", str(tmp_path / "none.so"))
    assert driver.architecture() == "" == cuda_parts.prepare()
    assert str(gpu.cuda_target("sm_90").attrs["arch"]) == "sm_90"


def test_a_missing_runtime_library_is_not_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "DRIVER", driver_of(tmp_path))
    needed = library(tmp_path / "libcudart.so.99", "int f(void) { return 1; }", "-Wl,-soname,libcudart.so.99")
    broken = library(tmp_path / "tvm.so", "int f(void); int g(void) { return f(); }", str(needed))
    needed.unlink()
    monkeypatch.setattr(cuda_parts, "RUNTIME", broken)
    primitive = PRIMITIVES["gemm"]
    with pytest.raises(TrainerError, match=r"here \(sm_90\) needs libcudart\.so\.99, got .*'\.\[tvm,cuda\]'") as caught:
        gpu_study.study(primitive, (1, 1, 1), "original", tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_compiler_parts_name_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cuda_parts.OPTIONS, raising=False)
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    with pytest.raises(TrainerError, match=rf"needs the header cuda_runtime\.h, got none in {tmp_path};"):
        cuda_parts.compiler("sm_90")
    (tmp_path / "include" / "cccl" / "cuda" / "std").mkdir(parents=True)
    (tmp_path / "include" / "cuda_runtime.h").touch()
    with pytest.raises(TrainerError, match="needs the header cuda/std/cstdint of CCCL"):
        cuda_parts.compiler("sm_90")
    (tmp_path / "include" / "cccl" / "cuda" / "std" / "cstdint").touch()
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainerError, match="needs cuda-bindings, got"):
        cuda_parts.compiler("sm_90")
    assert os.environ[cuda_parts.OPTIONS] == f"-I{tmp_path}/include/cccl"

    def absent() -> None:
        raise RuntimeError('Failure finding "libnvrtc.so"')

    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(nvrtc=SimpleNamespace(nvrtcVersion=absent)))
    with pytest.raises(TrainerError, match=r"needs NVRTC \(libnvrtc\), got Failure finding"):
        cuda_parts.compiler("sm_90")
    assert os.environ[cuda_parts.OPTIONS].count("-I") == 1


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_nvrtc_compiles_the_last_step(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings", reason="the extra cuda is not installed")
    monkeypatch.setenv("CUDA_PATH", os.environ.get("CUDA_PATH", ""))
    if not os.environ["CUDA_PATH"]:
        monkeypatch.delenv("CUDA_PATH")
    monkeypatch.setenv(cuda_parts.OPTIONS, "")
    cuda_parts.compiler(arch)
    for name, primitive in PRIMITIVES.items():
        source = gpu.cuda_source(gpu.scheduled(primitive, primitive.default, gpu.STEPS[name]), arch)
        assert bytes(tvm.support.nvcc.compile_cuda(source, target_format="cubin", arch=arch)[:4]) == b"\x7fELF"


# --- checks and times


@pytest.mark.parametrize("left", [1, 6])
def test_a_kernel_that_leaves_values_unwritten_does_not_pass(left: int) -> None:
    """The output is poisoned before each call, on whatever device: what an earlier kernel wrote cannot serve."""
    primitive = PRIMITIVES["gemm"]
    want = reference(primitive, *primitive.operands((2, 4, 3)))

    def partly(*arguments: Any) -> None:
        values = arguments[2].numpy()
        values.ravel()[: 6 - left] = want.ravel()[: 6 - left]
        arguments[2].copyfrom(values)

    with pytest.raises(TrainerError, match=f"got a difference of .* and {left} values unwritten"):
        checked(primitive, (2, 4, 3), "partly", partly, tvm.cpu())


def test_torch_beside_them_is_fp32_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.backends.cuda.matmul.allow_tf32 = True  # its attribute is none that monkeypatch can put back
    gpu_study.torch_call(PRIMITIVES["conv2d"], (9, 21, 5, 19, 3), "cpu")()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    tf32 = PRIMITIVES["gemm"].by_torch

    def rounded(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:  # to TF32's 10 bits of fraction
        return tf32(*((t.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32) for t in (x, w)))

    other = Primitive(**{**vars(PRIMITIVES["gemm"]), "by_torch": rounded})
    with pytest.raises(TrainerError, match="gemm torch: the result must be numpy's"):
        gpu_study.torch_call(other, (64, 64, 64), "cpu")


class Gpu:
    """CUDA's run-time library with two clocks: the CPU's, which every launch moves, and the GPU's, which works the
    queue off."""

    cudaError_t = SimpleNamespace(cudaSuccess=0, cudaErrorNotReady=600)

    def __init__(self, launch: float, fill: float) -> None:
        self.cpu = self.gpu = 0.0
        self.launch, self.fill, self.fills = launch, fill, 0

    def queue(self, takes: float) -> float:
        self.cpu += self.launch
        self.gpu = max(self.gpu, self.cpu) + takes
        return self.gpu

    def cudaEventCreate(self) -> tuple[int, list[float]]:
        return 0, [0.0]

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        return 0, 1

    def cudaMemsetAsync(self, *_: int) -> tuple[int]:
        self.fills += 1
        self.queue(self.fill)
        return (0,)

    def cudaEventRecord(self, event: list[float], _: int) -> tuple[int]:
        event[0] = max(self.gpu, self.cpu)
        return (0,)

    def cudaEventQuery(self, event: list[float]) -> tuple[int]:
        return (600 if event[0] > self.cpu else 0,)

    def cudaEventSynchronize(self, event: list[float]) -> tuple[int]:
        self.cpu = max(self.cpu, event[0])
        return (0,)

    def cudaEventElapsedTime(self, start: list[float], end: list[float]) -> tuple[int, float]:
        return 0, 1e3 * (end[0] - start[0])

    def cudaEventDestroy(self, _: list[float]) -> tuple[int]:
        return (0,)

    cudaFree = cudaEventDestroy


def test_a_kernel_shorter_than_its_launch_is_timed_without_it() -> None:
    there = Gpu(launch=6e-6, fill=10e-6)
    with gpu_timer.Timer(there) as timer:
        assert timer.fastest_seconds(lambda: there.queue(2e-6)) == pytest.approx(2e-6)
        assert timer.fastest_seconds(lambda: there.queue(50e-6)) == pytest.approx(50e-6)
    assert there.fills > gpu_timer.LEAST_FILLS * 9, "the first row was not queued in time, and was made again"
    slow = Gpu(launch=1.0, fill=1e-6)
    with pytest.raises(TrainerError, match="queued before the GPU begins"), gpu_timer.Timer(slow) as timer:
        timer.fastest_seconds(lambda: slow.queue(2e-6))
    there.cudaMalloc = lambda size: (2, None)  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(TrainerError, match="CUDA must answer cudaMalloc, got 2"):
        gpu_timer.Timer(there).__enter__()
