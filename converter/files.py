"""Files, and sets of files that belong together, are written whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SET_READY, SET_WAITS, GONE = ".convert.ready", ".convert.", ".gone"
ABANDONED_S = 600.0
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole; equal values give equal bytes."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json_object(path: Path) -> dict[str, Any]:
    """What write_json wrote of an object; empty when there is none or it is damaged, so that it is made again."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_set(files: Mapping[str, bytes], folder: Path, gone: Sequence[str] = ()) -> None:
    """Puts the files into the folder, and takes those in `gone` out, all or none, wherever the process is killed.

    They are written to a folder inside it, whose renaming to SET_READY decides; whoever comes next moves what is left
    there (finish_set). Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finish_set(folder)
    for name in (*files, *gone):
        if (folder / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{name} is a folder there")
    for old in folder.glob(f"{SET_WAITS}*"):
        with contextlib.suppress(FileNotFoundError):  # its writer goes on
            if old.name != SET_READY and time.time() - old.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(old, ignore_errors=True)
    waiting = Path(tempfile.mkdtemp(dir=folder, prefix=SET_WAITS))
    try:
        for name, data in (*files.items(), *((f"{name}{GONE}", b"") for name in gone)):
            (waiting / name).write_bytes(data)
        waiting.chmod(0o755)
        _decide(waiting, folder)
    except BaseException:
        shutil.rmtree(waiting, ignore_errors=True)
        raise
    finish_set(folder)


def _decide(waiting: Path, folder: Path) -> None:
    """Renames to SET_READY, behind whoever else writes a set into this folder."""
    for _ in range(100):
        try:
            waiting.rename(folder / SET_READY)
            return
        except OSError as error:  # Windows knows no other word for it than EACCES
            if error.errno not in (*_NOT_EMPTY, errno.EACCES) or (error.errno == errno.EACCES and os.name != "nt"):
                raise
        finish_set(folder)
    raise OSError(errno.EBUSY, "other commands write into it without end")


def finish_set(folder: Path) -> None:
    """Ends what a killed write_set had decided; every reader of such a folder calls it first. Raises OSError."""
    ready = folder / SET_READY
    for _ in range(1000):
        try:
            names = sorted(os.listdir(ready))
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # another process finishes too
                    _put(ready / name, folder)
            ready.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise
    raise OSError(errno.EBUSY, "other commands write into it without end")


def _put(file: Path, folder: Path) -> None:
    """Moves a file to its place, or does what its name says."""
    if file.name.endswith(GONE):
        (folder / file.name.removesuffix(GONE)).unlink(missing_ok=True)
        file.unlink()
    else:
        file.replace(folder / file.name)
