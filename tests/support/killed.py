"""python tests/support/killed.py FOLDER SEED MOMENTS FULL [CASE...]: commands that kill themselves, without a word,
before a step of theirs in the file system, at MOMENTS steps drawn from SEED; then the same command again, to its end.

What must hold: every visible file is whole, and one that the command also wrote in a run that was not killed; files
that belong together are all old or all new; the second command ends as one that was never killed, makes nothing again
that was finished, and leaves no temporary file. At the first FULL of these steps also with a disk that is full from
there on: one sentence, exit code 1.

A process of its own that loads everything once and forks; the figures go to stdout, one JSON object a case.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch.onnx
import trainer_corpus
from search_table import TABLE

import converter.__main__
import trainer.__main__
from converter.arrays import Json
from converter.files import finish_set
from trainer.board import BoardTools
from trainer.data import scenes
from trainer.data.recordings import write_wav
from trainer.run import clips, evaluate, operating_point, prune, quantize, steps
from trainer.search import candidate
from trainer.search import run as searching
from trainer.sweep import point
from trainer.sweep import run as sweeping

APPS = {"trainer": trainer.__main__.app, "converter": converter.__main__.app}
LOADED = (clips, evaluate, prune, quantize, point)
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")
OTHERS = ("torchinductor_", ".ses")  # what torch and onnxruntime leave in the folder of temporary files
HIDDEN = ("tmp", "log")  # folders of a run of a command, beside what it works in
# Files that stand for work that took long: none of it is done twice.
COSTLY = re.compile(r"training\.pt$|rung\d\.json$|\.flac$")
ALIVE_S = 300


@dataclass(frozen=True)
class Case:
    """A command, what was made before it in the same folder, and the folders whose visible files belong together."""

    command: str
    before: tuple[str, ...] = ()
    together: tuple[str, ...] = ()


TRAIN = "trainer train --data ../../data --words yes,stop --epochs 2 --out run"
QAT, EXPORT = "trainer qat run --epochs 2", "trainer export run"
NEGATIVES = "trainer negatives --no-packages --out negatives" + "".join(f" --recordings ../../{n}" for n in "abc")
CASES = {
    "train": Case(TRAIN, (f"{TRAIN} --seed 1", QAT, EXPORT), ("run",)),
    "qat": Case(QAT, (TRAIN, QAT, EXPORT), ("run",)),
    "quantize": Case("trainer quantize run --bits 4 --epochs 2 --out low", (TRAIN,), ("low",)),
    "export": Case(EXPORT, (TRAIN, QAT), ("run",)),
    "evaluate": Case("trainer evaluate run", (TRAIN, QAT, EXPORT), ("run",)),
    "clips": Case("trainer clips run --out clips --per-class 1", (TRAIN,), ("clips",)),
    "convert": Case("converter convert run", (TRAIN, QAT, EXPORT), ("run/firmware",)),
    "negatives": Case(NEGATIVES),
    "sweep": Case("trainer sweep --out sweep --data ../../data --epochs 1 --grid method=ptq"),
    "search": Case(
        "trainer search --out search --data ../../data --negatives negatives --candidates 1 --scenes 100", (NEGATIVES,)
    ),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended: what waitpid tells as an exit code, negative for a signal; what it said on stderr; how many
    steps it took in the file system; (file, hash of its content) of all it put in place, in order."""

    code: int
    said: str
    steps: int
    put: tuple[tuple[str, str], ...]


def digest(data: bytes) -> str:
    """Equal for files that differ only in how long something took and in which of a case's folders."""
    return hashlib.sha256(re.sub(rb'"seconds": [\d.]+|/(whole|killed|full)\b', b"", data)).hexdigest()[:16]


def tree(work: Path) -> dict[str, str]:
    """Relative name -> digest of every file, hidden ones too."""
    names = ((file, file.relative_to(work)) for file in work.rglob("*") if file.is_file())
    return {str(name): digest(file.read_bytes()) for file, name in names if name.parts[0] not in HIDDEN}


def left_behind(work: Path) -> list[str]:
    """Temporary files and folders, also where the system keeps them."""
    paths = {*work.rglob(".*"), *(work / "tmp").iterdir()}
    return [str(path.relative_to(work)) for path in paths if not path.name.startswith(OTHERS)]


def run(command: str, work: Path, at: int = -1, full: bool = False) -> Ended:
    """The command in a process of its own, in the folder `work`, killed before step `at`, or with a disk that is full
    from then on."""
    for name in HIDDEN:
        (work / name).mkdir(parents=True, exist_ok=True)
    for file in (work / "log").iterdir():
        file.unlink()
    child = os.fork()
    if child == 0:
        try:
            _be(command, work, at, full)
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    deadline = time.monotonic() + ALIVE_S
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    lines = (work / "log" / "steps").read_text().splitlines()
    put = tuple((name, content) for kind, name, content in map(str.split, lines) if kind == "put")
    return Ended(os.waitstatus_to_exitcode(found[1]), (work / "log" / "stderr").read_text(), len(lines), put)


def _be(command: str, work: Path, at: int, full: bool) -> None:
    """In the child: the command, its steps counted by the interpreter's audit events."""
    os.chdir(work)
    tempfile.tempdir = os.environ["TMPDIR"] = str(work / "tmp")
    torch.set_num_threads(1)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(work / "log" / name, os.O_CREAT | os.O_WRONLY), stream)
    log, root, count = os.open(work / "log" / "steps", os.O_CREAT | os.O_WRONLY), str(work), 0

    def inside(path: object) -> str | None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        name = os.path.relpath(os.path.join(root, os.fsdecode(path)), root)
        return None if name.startswith(("..", "log")) else name

    def step(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        opened = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (opened or event in CHANGES) or (name := inside(given[0])) is None:
            return
        if count == at and not full:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        if event == "os.rename" and os.path.isfile(given[0]) and (target := inside(given[1])):
            with open(os.open(given[0], os.O_RDONLY), "rb") as file:
                os.write(log, f"put {target} {digest(file.read())}\n".encode())
        else:
            os.write(log, f"step {event} {name}\n".encode())
        if full and count > at and (opened or event == "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(given[0]))

    _small()
    sys.addaudithook(step)
    package, *arguments = command.split()
    sys.argv = [package, *arguments]
    try:
        APPS[package](arguments)
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _small() -> None:
    """Work in this process instead of in workers, trainings of a second, and a board that answers at once."""

    def default_settings(source: Any, model: str, epochs: int | None, seed: int) -> Any:
        found = usual(source, model, epochs, seed)
        return replace(found, augment=replace(found.augment, copies=1))

    @contextmanager
    def workers_of(address: str | None) -> Iterator[tuple[Any, int]]:
        def submit(work: Callable[..., Json], *given: Any) -> Future[Json]:
            done: Future[Json] = Future()
            done.set_result(work(*given))
            return done

        yield submit, 1

    def worker_pool(workers: int, prepare: Callable[..., None] = lambda: None, *given: Any) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, initializer=prepare, initargs=given)

    usual = steps.default_settings
    for module in (steps, sweeping, point):
        module.default_settings = default_settings  # type: ignore[attr-defined]
    for module in (sweeping, searching):
        module.workers_of = workers_of  # type: ignore[attr-defined]
    for module in (scenes, operating_point):
        module.worker_pool = worker_pool  # type: ignore[attr-defined]
    for module in (candidate, searching):
        module.RUNGS = ((1, 0.5),)  # type: ignore[attr-defined]
    searching.cost_table = lambda *_: (TABLE, 0.01)  # type: ignore[attr-defined]
    trainer.__main__.board_tools = board_tools


def board_tools() -> BoardTools:
    return BoardTools(*(None,) * 2, on_board, *(None,) * 4)  # type: ignore[arg-type]


def on_board(folder: Path, inputs: int) -> Json:
    """What a board answers, without the two thirds of a minute that building an image and running it take."""
    from converter import convert

    convert.write_all(convert.render(convert.load(folder)), folder / "firmware")
    figures = ["cycles_stream_hop", "engine_flash_bytes", "engine_ram_bytes", "cycles", "board_ms", "energy_uj"]
    return {**dict.fromkeys(figures, 1000), "differences": 0, "inputs": inputs}


def inputs(folder: Path) -> None:
    """Words, and speech of three speakers."""
    trainer_corpus.make(folder / "data")
    rng = np.random.default_rng(3)
    seconds = np.arange(16000 * 36) / 16000
    for name in "abc":
        sound = 4000 * np.sin(2 * np.pi * seconds * np.repeat(rng.uniform(200, 3000, 120), 4800))
        write_wav(folder / name / "talk.wav", np.rint(sound).astype(np.int16))


def before(folder: Path, commands: Sequence[str]) -> Path:
    """The folder that these commands leave, made once."""
    place = folder / "before" / hashlib.sha256(" ".join(commands).encode()).hexdigest()[:8]
    if not place.is_dir():
        if commands:
            shutil.copytree(before(folder, commands[:-1]), place)
            ended = run(commands[-1], place)
            assert ended.code == 0, (commands[-1], ended.said)
        else:
            place.mkdir(parents=True)
    return place


def check(folder: Path, name: str, rng: random.Random, moments: int, full_disks: int) -> Json:
    """What is to be said about a case: its steps in the file system, moments tried, and what went wrong."""
    case = CASES[name]
    start = before(folder, case.before)
    clean = folder / name / "whole"
    shutil.copytree(start, clean)
    whole = run(case.command, clean)
    assert whole.code == 0, (case.command, whole.said)
    faults: list[str] = [f"left after a whole run: {left}" for left in left_behind(clean)]
    wanted, old, known = tree(clean), tree(start), {*whole.put, *tree(start).items()}
    chosen = sorted(rng.sample(range(whole.steps), min(moments, whole.steps)))
    for number, at in enumerate(chosen):
        for full in (False, True)[: 1 + (number < full_disks)]:
            work = folder / name / ("full" if full else "killed")
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(start, work)
            first = run(case.command, work, at, full)
            if not full and first.code != -signal.SIGKILL:
                faults.append(f"step {at}: ended with {first.code} before it was killed: {first.said[-300:]}")
            if full and first.code != 0 and not one_sentence(first):
                faults.append(f"step {at}, disk full: {first.code}, {first.said[-600:]}")
            for ready in work.rglob(".convert.ready"):
                finish_set(ready.parent)
            seen = {n: d for n, d in tree(work).items() if not any(p.startswith(".") for p in Path(n).parts)}
            faults += [f"step {at}: {n} is not one that was meant" for n, d in seen.items() if (n, d) not in known]
            for place in case.together:
                has, was, will = ({n: d for n, d in t.items() if _of(n, place)} for t in (seen, old, wanted))
                if has not in (was, will):
                    faults.append(f"step {at}: {place} is neither as it was nor as it will be")
            second = run(case.command, work)
            if second.code:
                faults.append(f"step {at}: again ended with {second.code}: {second.said[-600:]}")
            found = tree(work)
            faults += [f"step {at}: {n} differs" for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n)]
            faults += [f"step {at}: {left} is left" for left in left_behind(work)]
            twice = _costly(first) + _costly(second) - _costly(whole)
            if first.code and twice > full:  # of the one that could not be written
                faults.append(f"step {at}: {twice} finished pieces of work were done again")
    return {"case": name, "steps": whole.steps, "moments": chosen, "faults": faults}


def one_sentence(ended: Ended) -> bool:
    said = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    return ended.code == 1 and len(said) == 1 and "Traceback" not in ended.said and "No space left" in said[0]


def _of(name: str, place: str) -> bool:
    """Whether a file belongs to those that change together: a checkpoint does not."""
    return name.startswith(f"{place}/") and not name.endswith("training.pt")


def _costly(ended: Ended) -> int:
    return sum(COSTLY.search(name) is not None for name, _ in ended.put)


def main() -> None:
    matplotlib.use("Agg")
    for module in ("matplotlib.pyplot", "torch._dynamo", "torch._inductor", "torch.distributed", "onnxscript"):
        importlib.import_module(module)  # before the forks, which would each do it

    folder, seed, moments, full_disks, *names = sys.argv[1:]
    place = Path(folder).resolve()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    inputs(place)
    for name in names or CASES:
        began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        found = check(place, name, random.Random(f"{seed} {name}"), int(moments), int(full_disks))
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began
        print(json.dumps({**found, "cpu_seconds": round(spent, 1)}), flush=True)
        shutil.rmtree(place / name)


if __name__ == "__main__":
    main()
