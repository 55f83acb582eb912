"""Arrays that take long to make, kept on disk by what they are made of."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.files import write_atomic
from trainer.data.dataset import Clip

CACHE_VERSION = 1


def contents(clips: Sequence[Clip]) -> list[object]:
    """What clips are made of, as a cache key: names, hashes of their files, labels, cuts."""
    digests: dict[Path, str] = {}
    for clip in clips:
        if clip.path not in digests:
            digests[clip.path] = digest(clip.path)
    return [(c.name, digests[c.path], c.label, c.start, c.gain) for c in clips]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file(cache: Path, name: str, key: object) -> Path:
    text = json.dumps([CACHE_VERSION, key], sort_keys=True)
    return cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"


def cached(cache: Path, name: str, key: object) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays kept under this key; None when there are none or the file is damaged."""
    file = _file(cache, name, key)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {k: arrays[k] for k in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def keep(cache: Path, name: str, key: object, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write the arrays under this key, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(_file(cache, name, key), buffer.getvalue())
