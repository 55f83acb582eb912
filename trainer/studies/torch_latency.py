"""How long PyTorch takes for one input of a run, as JSON: python -m trainer.studies.torch_latency RUN (the host's
`compare` reads it)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from converter.run_folder import ArtifactError, ModelArtifact
from trainer.errors import TrainerError
from trainer.run.steps import load_float

WARMUP = 50


def measure(call: Callable[[], object], synchronise: Callable[[], object], runs: int) -> list[float]:
    """Microseconds of each of `runs` calls, after a warm-up, each waited for."""
    for _ in range(WARMUP):
        call()
    synchronise()
    found = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        call()
        synchronise()
        found.append((time.perf_counter_ns() - start) / 1000)
    return found


def time_run(run: Path, runs: int) -> list[dict[str, object]]:
    """Batch 1, float32, on the CPU with one thread and, where present, on the GPU (input already there)."""
    artifact = ModelArtifact.load(run)
    network = load_float(artifact)
    spec = artifact.spec.features
    x = torch.zeros(1, 1, spec.frames, spec.channels)
    torch.set_num_threads(1)
    found: list[dict[str, object]] = []
    with torch.inference_mode():
        found.append(
            {
                "engine": f"PyTorch {torch.__version__}, CPU, float32, 1 thread",
                "device": "cpu",
                "us": measure(lambda: network(x), lambda: None, runs),
            }
        )
        if torch.cuda.is_available():
            on_gpu, there = network.cuda(), x.cuda()
            found.append(
                {
                    "engine": f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}, float32",
                    "device": "gpu",
                    "us": measure(lambda: on_gpu(there), torch.cuda.synchronize, runs),
                }
            )
    return found


def main() -> None:
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        raise SystemExit("usage: python -m trainer.studies.torch_latency RUN RUNS")
    try:
        print(json.dumps(time_run(Path(sys.argv[1]), int(sys.argv[2]))))
    except (TrainerError, ArtifactError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
