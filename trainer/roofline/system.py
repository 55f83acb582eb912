"""The machine that times are taken on: devices, memory, instruction sets, and whether it was quiet."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from converter.commands import timing
from trainer import gpu


def take(call: Callable[[], object], device: str, seconds: float) -> timing.Times:
    """Runs of the call, each waited for; see timing.take."""
    return timing.take(call, seconds, lambda: synchronise(device))


def synchronise(device: str) -> None:
    """Wait until the device has done what it was told; a CPU has already."""
    if device == "cuda":
        torch.cuda.synchronize()


def devices() -> list[str]:
    """Names for torch: the CPU, and the GPU where there is one."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def unused_gpu() -> str:
    """A sentence where the driver has a GPU that this torch cannot use, or nothing."""
    arch = "" if torch.cuda.is_available() else gpu.architecture()
    return (
        f"GPU {arch}: not measured, torch {torch.__version__} cannot use it; install a CUDA torch "
        f"(`python3 bootstrap.py roofline cuda`)"
        if arch
        else ""
    )


def free_bytes(device: str) -> int:
    """Memory that can still be taken."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    try:
        line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
    }


def load() -> float:
    """Programs that ran or waited for the CPU in the last minute; 0 where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def _cpu_name() -> str:
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """Instruction sets the CPU has, in Linux' words; empty elsewhere."""
    lines = [line.split(":", 1)[1] for line in _cpuinfo() if line.startswith(("flags", "Features"))]
    return set(lines[0].split()) if lines else set()


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
