"""Download of Speech Commands v0.02: continues after an interruption, checks the SHA-256, unpacks into a new folder or
not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from rich.progress import Progress

from trainer.errors import TrainerError

BLOCK = 1 << 20
TIMEOUT_S = 60


@dataclass(frozen=True)
class Archive:
    """A .tar.gz on the web. Source of size and checksum: TensorFlow Datasets' and torchaudio's lists agree."""

    url: str
    sha256: str
    size: int


SPEECH_COMMANDS = Archive(
    url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    size=2_428_923_189,
)


def fetch(archive: Archive, folder: Path, progress: Progress, keep: bool = False) -> Path:
    """Download, check and unpack; the folder appears only when it is whole. Raises TrainerError with one sentence."""
    if folder.exists():
        raise TrainerError(f"{folder}: is there already; remove it to download again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / archive.url.rsplit("/", 1)[-1]
    partial = file.with_name(file.name + ".part")
    if not file.is_file():
        _require_space(folder.parent, archive.size)
        _download(archive, partial, progress)
        partial.replace(file)
    _check(archive, file, progress)
    _unpack(file, folder, progress)
    if not keep:
        file.unlink()
    return folder


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 3 * size:  # the archive, and what it unpacks to
        raise TrainerError(
            f"{folder}: needs {3 * size / 1e9:.1f} GB of free space, has {free / 1e9:.1f} GB; name another "
            f"folder by --out"
        )


def _download(archive: Archive, partial: Path, progress: Progress) -> None:
    """Append what is missing to `partial`."""
    have = partial.stat().st_size if partial.is_file() else 0
    if have > archive.size:
        partial.unlink()
        have = 0
    task = progress.add_task("download, bytes", total=archive.size, completed=have)
    if have == archive.size:
        return
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            if have and reply.status != 206:  # the server begins anew
                have = 0
                progress.update(task, completed=0)
            with partial.open("ab" if have else "wb") as out:
                while block := reply.read(BLOCK):
                    out.write(block)
                    progress.advance(task, len(block))
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise TrainerError(
            f"{archive.url}: download stopped ({error}); start the same command again to continue"
        ) from None
    found = partial.stat().st_size
    if found < archive.size:
        raise TrainerError(
            f"{archive.url}: download stopped at {found} of {archive.size} bytes; start the same command again "
            f"to continue"
        )


def _check(archive: Archive, file: Path, progress: Progress) -> None:
    task = progress.add_task("checksum, bytes", total=file.stat().st_size)
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(BLOCK):
            digest.update(block)
            progress.advance(task, len(block))
    if digest.hexdigest() != archive.sha256:
        file.unlink()
        raise TrainerError(
            f"{file}: SHA-256 must be {archive.sha256}, got {digest.hexdigest()}; it was removed, download it again"
        )


def _unpack(file: Path, folder: Path, progress: Progress) -> None:
    """Unpack beside the folder, then rename; only plain files and folders inside are taken."""
    beside = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(beside, ignore_errors=True)
    task = progress.add_task("unpacking, bytes", total=file.stat().st_size)
    try:
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:gz") as archive:
            for member in archive:
                _take(archive, member, beside)
                progress.update(task, completed=raw.tell())
        if not beside.is_dir():
            raise TrainerError(f"{file}: holds no files; download it again")
        os.replace(beside, folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise TrainerError(f"{file}: cannot be unpacked ({error}); remove it and download again") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise TrainerError(
            f"{member.name}: a path in the archive must stay inside its folder; this is not Speech Commands"
        )
    target = folder.joinpath(*path.parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        target.parent.mkdir(parents=True, exist_ok=True)
        source = archive.extractfile(member)
        assert source is not None
        with source, target.open("wb") as out:
            shutil.copyfileobj(source, out)
    else:
        raise TrainerError(
            f"{member.name}: the archive may hold only files and folders, this is neither; this is not Speech Commands"
        )
