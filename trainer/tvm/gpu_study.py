"""GPU schedules as files: CUDA source of every step, compiled where nvcc is, run and timed where a GPU is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch
import tvm

from converter.files import scratch_folder, write_atomic
from trainer.errors import TrainerError
from trainer.tvm import gpu
from trainer.tvm.measure import ROUNDS, reference, require_close, terms
from trainer.tvm.primitives import Primitive, Sizes


def study(primitive: Primitive, sizes: Sizes, method: str, out: Path) -> list[str]:
    """The lines to print."""
    if method == "auto":
        raise TrainerError(
            "tvm: --method auto measures its candidates and was built for cpu and cortex-m4, got --target cuda; "
            "use manual"
        )
    steps = gpu.STEPS[primitive.name] if method == "manual" else ()
    parts = {"original": gpu.scheduled(primitive, sizes, ())}
    parts.update({step.__name__: gpu.scheduled(primitive, sizes, steps[:n]) for n, step in enumerate(steps, 1)})
    lines = []
    for number, (name, module) in enumerate(parts.items()):
        stem = out / f"{primitive.name}_cuda_{number}_{name}"
        source = gpu.cuda_source(module)
        write_atomic(stem.with_suffix(".py"), (module.script() + "\n").encode())
        write_atomic(stem.with_suffix(".cu"), source.encode())
        lines.append(f"{stem}.cu: {compiles(source)}")
    return lines + (_times(primitive, sizes, parts) if tvm.cuda().exist else ["no GPU here: written, not run"])


def compiles(source: str) -> str:
    """What nvcc says: compiled, or that there is none; raises TrainerError with its words when it refuses the
    source."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return "nvcc is not on PATH, not compiled"
    with scratch_folder() as folder:
        file = folder / "kernel.cu"
        file.write_text(source)
        command = [nvcc, f"-arch={gpu.ARCH}", "-cubin", "-o", f"{folder}/kernel.cubin", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise TrainerError(f"tvm: nvcc must compile the generated source, got {said}; report this schedule")
    return f"compiled by nvcc for {gpu.ARCH}"


def _times(primitive: Primitive, sizes: Sizes, parts: dict[str, tvm.IRModule]) -> list[str]:
    """Milliseconds on the GPU, operands there before, results checked; torch beside them where it knows the GPU."""
    x, w = primitive.operands(sizes)
    want = reference(primitive, x, w)
    device = tvm.cuda()
    arguments = [tvm.runtime.tensor(values, device) for values in (x, w, np.zeros(want.shape, np.float32))]
    lines = []
    for name, module in parts.items():
        built = tvm.compile(module, target=gpu.cuda_target()).mod
        built["main"](*arguments)
        require_close(f"{primitive.name} {name}", arguments[2].numpy(), want, terms(w))
        times = built.time_evaluator("main", device, number=10, repeat=ROUNDS)(*arguments).results
        lines.append(f"{name}: {min(times) * 1e3:.4f} ms")
    if torch.cuda.is_available():
        there = torch.from_numpy(x).cuda(), torch.from_numpy(w).cuda()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        times = []
        for _ in range(10 * ROUNDS):
            start.record()
            primitive.by_torch(*there)
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        lines.append(f"torch: {min(times):.4f} ms")
    return lines
