"""Sets of files: all of them or none, wherever the writer is killed, and whoever writes beside it."""

from __future__ import annotations

import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from converter import convert
from converter.convert import FRONTEND_TABLES
from converter.errors import ConvertError
from converter.files import (
    PART,
    SCRATCH,
    SET_READY,
    BusyError,
    WriteError,
    alone,
    finish_set,
    scratch_folder,
    write_atomic,
    write_new,
    write_set,
)

ROOT = Path(__file__).resolve().parents[2]
OLD = {"a.h": b"old a", "b.c": b"old b", "model.tflite": b"old", FRONTEND_TABLES: b"old tables"}
NEW = {"a.h": b"new a", "b.c": b"new b" * 10_000, "model.tflite": b"new", "more.h": b"new more"}
# Kills itself before its n-th step in the file system.
WRITER = f"""
import os, signal, sys
from pathlib import Path
from converter.files import write_set

left = int(sys.argv[2])

def before(event, arguments):
    global left
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod") and left >= 0:
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

sys.addaudithook(before)
write_set({NEW!r}, Path(sys.argv[1]), gone=({FRONTEND_TABLES!r},))
"""


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_writer_killed_at_any_step_leaves_the_old_set_or_the_new_one(tmp_path: Path) -> None:
    outcomes = []
    for step in range(100):
        folder = tmp_path / f"{step}"
        write_set(OLD, folder)
        (folder / "mine.txt").write_bytes(b"not of the set")
        done = subprocess.run([sys.executable, "-c", WRITER, folder, str(step)], cwd=ROOT, check=False)
        finish_set(folder)
        found = content(folder)
        assert found.pop("mine.txt") == b"not of the set"
        assert found in (OLD, NEW), (step, found)
        outcomes.append(found == NEW)
        write_set(NEW, folder, gone=(FRONTEND_TABLES,))  # the next one goes on
        assert content(folder) == {**NEW, "mine.txt": b"not of the set"} and not list(folder.glob(".*"))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert done.returncode == 0 and outcomes == sorted(outcomes)  # one moment decides
    assert outcomes.count(False) > len(NEW) and outcomes.count(True) > len(NEW)


LEAVES = """
import os, signal, sys
from pathlib import Path
from converter.files import scratch_folder, write_atomic

with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "large").write_bytes(b"half")
    sys.addaudithook(lambda event, _: event == "os.chmod" and os.kill(os.getpid(), signal.SIGKILL))
    write_atomic(Path(sys.argv[1]) / "whole", b"half")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_a_killed_writer_left_goes_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVES, tmp_path], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [file.name for file in tmp_path.iterdir()]
    assert len(left) == 2 and any(name.endswith(PART) for name in left) and any(name.endswith(SCRATCH) for name in left)
    (tmp_path / "mine.half-written").write_bytes(b"not of this project, whose files are hidden")
    write_atomic(tmp_path / "whole", b"whole")
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert first.is_dir() and second.is_dir() and len(list(tmp_path.iterdir())) == 4
    assert content(tmp_path) == {
        "whole": b"whole",
        "mine.half-written": b"not of this project, whose files are hidden",
    }
    assert len(list(tmp_path.iterdir())) == 2


def test_a_second_command_in_a_folder_is_one_sentence(tmp_path: Path) -> None:
    with alone(tmp_path / "a" / "run"):
        with pytest.raises(BusyError, match="another command is at work in it"), alone(tmp_path / "a" / "run"):
            pass
        with alone(tmp_path / "a" / "other"):
            (tmp_path / "a" / "other" / "made").write_bytes(b"")
        assert (tmp_path / "a" / "run").is_dir()
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a", "made", "other"], "what is empty goes again"


def test_a_place_that_cannot_be_written_is_one_sentence_that_workers_can_send(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("a", "b"):
        with pytest.raises(WriteError, match=r"file/[ab]: cannot be written \(.*\); free some space") as caught:
            if name == "a":
                write_atomic(tmp_path / "file" / name, b"")
            else:
                write_set(NEW, tmp_path / "file" / name)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB, of which 40 are taken."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root on Linux alone")
    try:
        (disk / "taken").write_bytes(bytes(40_000))
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_disk: Path) -> None:
    before = list(small_disk.rglob("*"))
    command = [sys.executable, "-m", "converter", "convert", "reference", "--out", str(small_disk / "made")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and re.fullmatch(r"error: .*made: cannot be written \(No space .*\n", done.stderr)
    with pytest.raises(WriteError, match="No space left"):
        write_atomic(small_disk / "one", bytes(30_000))
    with pytest.raises(WriteError, match="No space left"):
        write_new(small_disk / "two", bytes(30_000))
    assert write_new(small_disk / "three", b"3") and not write_new(small_disk / "three", b"other")
    assert (small_disk / "three").read_bytes() == b"3"
    (small_disk / "three").unlink()
    assert [file for file in small_disk.rglob("*") if not file.is_dir()] == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_that_nobody_can_take_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "converter", "size", "reference"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and done.stderr == (
        "error: output: No space left on device; free some space or mend its rights, then run again\n"
    )


def test_two_writers_leave_one_of_their_sets(tmp_path: Path) -> None:
    sets = [{f"{letter}.h": b"%d" % number for letter in "abcdefgh"} for number in range(4)]

    def write(files: dict[str, bytes]) -> None:
        for _ in range(25):
            write_set(files, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, sets))
    assert content(tmp_path) in sets and not (tmp_path / SET_READY).exists()


def test_a_set_that_cannot_be_put_in_place_changes_nothing(tmp_path: Path) -> None:
    write_set(OLD, tmp_path)
    (tmp_path / "more.h").mkdir()
    with pytest.raises(ConvertError, match=r"more\.h is a folder there\); nothing was changed"):
        convert.write_all(NEW, tmp_path)
    assert content(tmp_path) == OLD
    shutil.rmtree(tmp_path / "more.h")
    convert.write_all(NEW, tmp_path)
    assert content(tmp_path) == NEW
