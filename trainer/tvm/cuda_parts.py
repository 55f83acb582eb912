"""What TVM needs of CUDA besides the driver, found in the packages of the extra `cuda` or in an installed toolkit: the
run-time library, NVRTC with its Python binding, and two sets of headers.

TVM itself looks for no package's headers, and goes on without a word when the run-time library is missing.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import tvm

from trainer import gpu
from trainer.errors import TrainerError

RUNTIME = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
OPTIONS = "TVM_CUDA_NVRTC_EXTRA_OPTS"


def prepare() -> str:
    """The GPU's architecture, with everything loaded that TVM runs on it with; "" where there is no GPU.

    Where there is one that cannot be used, TrainerError names what is missing.
    """
    arch = gpu.architecture()
    if arch:
        _load_runtime(arch)
        compiler(arch)
        if not tvm.cuda().exist:
            raise _lacks(arch, "a driver for this CUDA", "none that TVM can use")
    return arch


def _load_runtime(arch: str) -> None:
    for folder in packages():
        for file in sorted(folder.glob("lib/libcudart.so.*")):
            ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)
    try:
        ctypes.CDLL(str(RUNTIME), ctypes.RTLD_GLOBAL)  # registers itself with TVM, now or when tvm was imported
    except OSError as error:
        raise _lacks(arch, str(error).partition(":")[0], str(error)) from None


def compiler(arch: str) -> None:
    """Set TVM's way to NVRTC and its headers; TrainerError names what is missing. Needs no GPU."""
    _set_headers(arch)
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except ImportError as error:
        raise _lacks(arch, "cuda-bindings", str(error)) from None
    except (RuntimeError, OSError) as error:
        raise _lacks(arch, "NVRTC (libnvrtc)", (str(error).splitlines() or ["nothing"])[0]) from None


def _set_headers(arch: str) -> None:
    """CUDA_PATH, unless it is given, and the folder of libcu++, where TVM would not look."""
    nvcc = shutil.which("nvcc")
    roots = [*packages(), *([Path(nvcc).resolve().parents[1]] if nvcc else []), Path("/usr/local/cuda")]
    if "CUDA_PATH" in os.environ:
        roots = [Path(os.environ["CUDA_PATH"])]
    root = next((folder for folder in roots if (folder / "include" / "cuda_runtime.h").is_file()), None)
    if root is None:
        raise _lacks(arch, "the header cuda_runtime.h", f"none in {', '.join(map(str, roots))}")
    headers = [root / "include", *root.glob("include/cccl"), *root.glob("targets/*/include/cccl")]
    std = next((folder for folder in headers if (folder / "cuda" / "std" / "cstdint").is_file()), None)
    if std is None:
        raise _lacks(arch, "the header cuda/std/cstdint of CCCL", f"none in {root}")
    os.environ["CUDA_PATH"] = str(root)
    wanted, given = shlex.quote(f"-I{std}"), os.environ.get(OPTIONS, "")
    if wanted not in given:
        os.environ[OPTIONS] = f"{given} {wanted}".strip()


def packages() -> list[Path]:
    """The folders that NVIDIA's packages fill together (nvidia/cu13)."""
    found = find_spec("nvidia")
    places = list(found.submodule_search_locations or []) if found else []
    return [folder for place in places for folder in sorted(Path(place).glob("cu[0-9]*"), reverse=True)]


def _lacks(arch: str, part: str, got: str) -> TrainerError:
    return TrainerError(f"tvm: to run on the GPU here ({arch}) needs {part}, got {got}; pip install -e '.[tvm,cuda]'")
