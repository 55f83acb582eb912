"""How long PyTorch takes for one input of a run; the host's `compare` shows it beside the board."""

from __future__ import annotations

from pathlib import Path

import torch

from converter.commands.timing import microseconds
from converter.run_folder import ModelArtifact
from trainer.run.steps import load_float


def time_run(run: Path, runs: int) -> list[tuple[str, str, tuple[float, ...]]]:
    """(engine, "cpu" or "gpu", microseconds of each run): batch 1, float32, on the CPU with one thread and, where
    present, on the GPU (input already there)."""
    artifact = ModelArtifact.load(run)
    network = load_float(artifact)
    spec = artifact.spec.features
    x = torch.zeros(1, 1, spec.frames, spec.channels)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            name = f"PyTorch {torch.__version__}"
            found = [(f"{name}, CPU, float32, 1 thread", "cpu", microseconds(lambda: network(x), runs))]
            if torch.cuda.is_available():
                on_gpu, there = network.cuda(), x.cuda()
                us = microseconds(lambda: on_gpu(there), runs, torch.cuda.synchronize)
                found.append((f"{name}, {torch.cuda.get_device_name()}, float32", "gpu", us))
    finally:
        torch.set_num_threads(threads)
    return found
