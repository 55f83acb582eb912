"""Files, and sets of files that belong together, are written whole or not at all. Standard library only.

Whatever is temporary is held by its writer (flock, which the kernel lets go of when a process ends, however it ends):
what nobody holds was left by a killed one, and goes when the next command writes beside it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from converter.checked import Rule, check, json_in

try:
    import fcntl
except ImportError:  # Windows: there a file that is open cannot be removed, and a folder is abandoned after a while
    fcntl = None  # type: ignore[assignment]

SET_READY, SET_WAITS, GONE = ".convert.ready", ".convert.", ".gone"
PART, SCRATCH = ".half-written", ".scratch"
ABANDONED_S = 600.0
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


class WriteError(OSError):
    """A file or folder that cannot be written; its text is the sentence."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written ({self.strerror}); free some space there, or name another place"

    @staticmethod
    def of(path: Path, error: OSError) -> WriteError:
        """The same error, about the file that was to be written."""
        if isinstance(error, WriteError):
            return error
        return WriteError(error.errno or errno.ENOSPC, error.strerror or "it ends half-way", str(path))


class BusyError(ValueError):
    """A folder that another command is changing."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then rename. Raises WriteError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        while not _write_beside(path, data):
            pass
    except OSError as error:
        raise WriteError.of(path, error) from None


def write_new(path: Path, data: bytes) -> bool:
    """As write_atomic, but where the name is free; False, with nothing written, where it is not. Raises WriteError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        with contextlib.suppress(FileExistsError):
            while not _write_beside(path, data, _name_anew):
                pass
            return True
        return False
    except OSError as error:
        raise WriteError.of(path, error) from None


def _name_anew(name: str, path: Path) -> None:
    """os.replace, or FileExistsError."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(errno.EEXIST, "is there", str(path)) from None
        os.replace(name, path)
    else:
        os.unlink(name)


def _write_beside(path: Path, data: bytes, rename: Callable[[str, Path], None] = os.replace) -> bool:
    """False where another command took the temporary file, in the moment before it was held, for an abandoned one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            _lock(handle)
            if not os.fstat(handle).st_nlink:
                return False
            file.write(data)
            file.flush()
            os.chmod(name, 0o644)
            if fcntl:
                rename(name, path)
        if not fcntl:
            rename(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def _lock(handle: int, wait: bool = True) -> bool:
    """Holds an open file or folder until it is closed; False when another does. A file system without locks holds
    nothing."""
    if fcntl:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


@functools.cache
def _tidy(folder: Path) -> None:
    """Once a process: takes half-written files of killed writers out of a folder."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(".") and name.endswith(PART):
                _take_away(folder / name)


def _take_away(left: Path) -> None:
    """Removes a temporary file or folder that nobody holds."""
    with contextlib.suppress(OSError):
        if not fcntl:
            if left.is_file() or time.time() - left.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            return
        handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _lock(handle, wait=False):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        finally:
            os.close(handle)


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None, prefix: str = "kws-") -> Iterator[Path]:
    """A folder for the block alone, in `parent` or where temporary files go; those of killed processes go first.
    Raises WriteError."""
    place = parent or Path(tempfile.gettempdir())
    try:
        for left in place.glob(f"{prefix}*{SCRATCH}"):
            _take_away(left)
        folder, handle = _held_folder(place, prefix, SCRATCH)
    except OSError as error:
        raise WriteError.of(place, error) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _held_folder(place: Path, prefix: str, suffix: str = "") -> tuple[Path, int | None]:
    """A new folder and the handle that holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=place, prefix=prefix, suffix=suffix))
        if not fcntl:
            return folder, None
        with contextlib.suppress(FileNotFoundError):  # taken for abandoned in the moment before it was held
            handle = os.open(folder, os.O_RDONLY)
            _lock(handle)
            if folder.exists():
                return folder, handle
            os.close(handle)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The block is the only one that changes the folder, among all commands of this computer; BusyError when another
    does. Where the system has no flock they are not told of each other."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise WriteError.of(folder, error) from None
    try:
        if handle is not None and not _lock(handle, wait=False):
            raise BusyError(f"{folder}: another command is at work in it; wait for its end, or name another folder")
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty: something was made
            for place in made:
                place.rmdir()
        if handle is not None:
            os.close(handle)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole; equal values give equal bytes."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json_object(path: Path, rule: Rule) -> dict[str, Any]:
    """What write_json wrote of an object; empty when there is none or it breaks the rule, so that it is made again."""
    try:
        found: dict[str, Any] = json_in(path)
        check("", found, rule)
    except (OSError, ValueError):
        return {}
    return found


def write_set(files: Mapping[str, bytes], folder: Path, gone: Sequence[str] = ()) -> None:
    """Puts the files into the folder, and takes those in `gone` out, all or none, wherever the process is killed.

    They are written to a folder inside it, whose renaming to SET_READY decides; whoever comes next moves what is left
    there (finish_set). Raises WriteError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_set(files, folder, gone)
    except OSError as error:
        raise WriteError.of(folder, error) from None


def _write_set(files: Mapping[str, bytes], folder: Path, gone: Sequence[str]) -> None:
    finish_set(folder)
    for name in (*files, *gone):
        if (folder / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{name} is a folder there")
    for left in folder.glob(f"{SET_WAITS}*"):
        if left.name != SET_READY:
            _take_away(left)
    waiting, handle = _held_folder(folder, SET_WAITS)
    try:
        for name, data in (*files.items(), *((f"{name}{GONE}", b"") for name in gone)):
            (waiting / name).write_bytes(data)
        waiting.chmod(0o755)
        _decide(waiting, folder)
    except BaseException:
        shutil.rmtree(waiting, ignore_errors=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)
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
        except (FileNotFoundError, NotADirectoryError):
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
