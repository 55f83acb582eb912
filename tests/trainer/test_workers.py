"""Workers end with the command that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
import os, sys, time
from pathlib import Path
from trainer.workers import worker_pool

def begin(folder):
    (Path(folder) / str(os.getpid())).touch()

if __name__ == "__main__":
    with worker_pool(2, begin, sys.argv[1]) as pool:
        list(pool.map(time.sleep, (0.0, 0.0, 600.0)))  # one is at work, one waits for work
"""


def test_workers_end_when_the_command_is_killed(tmp_path: Path) -> None:
    script, folder = tmp_path / "command.py", tmp_path / "workers"
    script.write_text(COMMAND)
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, str(script), str(folder)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as command:
        try:
            while len(list(folder.iterdir())) < 2:
                assert command.poll() is None
                time.sleep(0.05)
        finally:
            command.kill()
    workers = [int(path.name) for path in folder.iterdir()]
    assert len(workers) == 2
    for worker in workers:
        while _runs(worker):  # the test's own time limit ends it
            time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
