"""Sets of files: all of them or none, wherever the writer is killed, and whoever writes beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from converter import convert
from converter.convert import FRONTEND_TABLES
from converter.errors import ConvertError
from converter.files import SET_READY, finish_set, write_set

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
        assert content(folder) == {**NEW, "mine.txt": b"not of the set"} and not (folder / SET_READY).exists()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert done.returncode == 0 and outcomes == sorted(outcomes)  # one moment decides
    assert outcomes.count(False) > len(NEW) and outcomes.count(True) > len(NEW)


def test_what_a_killed_writer_left_long_ago_is_taken_away(tmp_path: Path) -> None:
    write_set(OLD, tmp_path)
    for name, age_s in ((".convert.old", 3600), (".convert.new", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.h").write_bytes(b"half")
        os.utime(tmp_path / name, (0, (tmp_path / name).stat().st_mtime - age_s))
    write_set(NEW, tmp_path)
    assert not (tmp_path / ".convert.old").exists() and (tmp_path / ".convert.new").exists()


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
