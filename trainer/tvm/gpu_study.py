"""GPU schedules as files: CUDA source of every step, compiled where nvcc is, checked and timed where a GPU is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import torch
import tvm

from converter.commands.timing import Call
from converter.files import scratch_folder, write_atomic
from trainer.errors import TrainerError
from trainer.tvm import cuda_parts, gpu
from trainer.tvm.gpu_timer import Timer
from trainer.tvm.measure import checked, reference, require_close, terms
from trainer.tvm.primitives import Primitive, Sizes


def study(primitive: Primitive, sizes: Sizes, method: str, out: Path) -> list[str]:
    """The lines to print."""
    if method == "auto":
        raise TrainerError(
            "tvm: --method auto measures its candidates and was built for cpu and cortex-m4, got --target cuda; "
            "use manual"
        )
    here = cuda_parts.prepare()
    arch = here or gpu.NO_GPU_ARCH
    steps = gpu.STEPS[primitive.name] if method == "manual" else ()
    parts = {"original": gpu.scheduled(primitive, sizes, ())}
    parts.update({step.__name__: gpu.scheduled(primitive, sizes, steps[:n]) for n, step in enumerate(steps, 1)})
    lines = []
    for number, (name, module) in enumerate(parts.items()):
        stem = out / f"{primitive.name}_cuda_{number}_{name}"
        source = gpu.cuda_source(module, arch)
        write_atomic(stem.with_suffix(".py"), (module.script() + "\n").encode())
        write_atomic(stem.with_suffix(".cu"), source.encode())
        lines.append(f"{stem}.cu: {compiles(source, arch)}")
    return lines + (_times(primitive, sizes, parts, arch) if here else ["no GPU here: written, not run"])


def compiles(source: str, arch: str) -> str:
    """What nvcc says: compiled, or that there is none; raises TrainerError with its words when it refuses the
    source."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return "nvcc is not on PATH, not compiled"
    with scratch_folder() as folder:
        file = folder / "kernel.cu"
        file.write_text(source)
        command = [nvcc, f"-arch={arch}", "-cubin", "-o", f"{folder}/kernel.cubin", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise TrainerError(f"tvm: nvcc must compile the generated source, got {said}; report this schedule")
    return f"compiled by nvcc for {arch}"


def _times(primitive: Primitive, sizes: Sizes, parts: dict[str, tvm.IRModule], arch: str) -> list[str]:
    """Milliseconds on the GPU, operands there before, results checked; torch beside them where it knows the GPU."""
    lines = []
    with Timer() as timer:
        for name, module in parts.items():
            call = checked(primitive, sizes, name, gpu.compiled(module, arch)["main"], tvm.cuda())
            lines.append(f"{name}: {timer.fastest_seconds(call) * 1e3:.4f} ms")
        if torch.cuda.is_available():
            call = torch_call(primitive, sizes, "cuda")
            lines.append(f"torch: {timer.fastest_seconds(call) * 1e3:.4f} ms")
        else:
            lines.append(f"torch {torch.__version__} cannot use this GPU: not beside them (docs/tvm.md, GPU)")
    return lines


def torch_call(primitive: Primitive, sizes: Sizes, device: str) -> Call:
    """The primitive by torch in fp32 (TF32 has 10 bits of fraction and would be another product), checked like ours."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    x, w = primitive.operands(sizes)
    there = torch.from_numpy(x).to(device), torch.from_numpy(w).to(device)
    got = primitive.by_torch(*there).cpu().numpy()
    require_close(f"{primitive.name} torch", got, reference(primitive, x, w), terms(w))
    return lambda: primitive.by_torch(*there)
