"""torchaudio beside a CPU-only PyTorch: its Python parts (resampling, spectrograms, mel, MFCC, masking) without its
CUDA-linked library.

The published torchaudio wheel loads a library that needs libc10_cuda.so when it is imported, although none of those
transforms calls it. So its private module `torchaudio._extension` is replaced, before the import, by one that says "no
library here". That is a private name, hence the exact version. File reading and forced alignment, which do need a
library, are not used in this project.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import sys
import threading
from types import ModuleType
from typing import Any

from trainer.errors import TrainerError

VERSION = "2.11.0"
_ONE_AT_A_TIME = threading.Lock()
_FIX = f"pip install --no-deps torchaudio=={VERSION}"


def load() -> Any:
    """The module torchaudio, usable; raises TrainerError unless exactly VERSION is installed. Safe from several
    threads."""
    with _ONE_AT_A_TIME:
        return sys.modules["torchaudio"] if "torchaudio" in sys.modules else _load()


def _load() -> Any:
    try:
        found = importlib.metadata.version("torchaudio").split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        raise TrainerError(f"torchaudio: version {VERSION} is needed, none is installed; {_FIX}") from None
    if found != VERSION:
        raise TrainerError(f"torchaudio: version {VERSION} is needed, got {found}; {_FIX}")
    sys.modules["torchaudio._extension"] = _without_library()
    try:
        return importlib.import_module("torchaudio")
    except (ImportError, OSError) as error:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        raise TrainerError(
            f"torchaudio: {VERSION} must fit the installed torch, got `{error}`; reinstall both together"
        ) from None


def _without_library() -> ModuleType:
    module = ModuleType("torchaudio._extension", "Says that torchaudio's compiled library is absent.")
    module.__spec__ = importlib.machinery.ModuleSpec("torchaudio._extension", None)
    names: dict[str, Any] = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_load_lib": lambda name: False,
        "fail_if_no_align": _needs_library,
    }
    vars(module).update(names)
    return module


def _needs_library(function: Any) -> Any:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise TrainerError(
            f"torchaudio.{function.__name__}: needs the compiled library that is left out here; use another function"
        )

    return refuse
