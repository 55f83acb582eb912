"""The figures, pictures and tables of docs/course.md made again, row by row, by the commands that the page names.

OUT/course.json      of each finished row its command and the minutes it took
OUT/logs/ROW.txt     what a row printed: some tables are nowhere else
OUT/...              what the rows made; a picture of docs/ has the same name below OUT
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.arrays import Json
from converter.checked import Fields, Items, Named, Real, Text
from converter.errors import printable
from converter.files import read_json_object, write_atomic, write_json
from trainer.errors import TrainerError

OPTIONS = {"images": "--images", "negatives": "--negative"}  # of folders that some rows need, and nobody must have
_RECORD = Fields({"rows": Named(Fields({"command": Items(Text(10_000)), "minutes": Real()}))})


@dataclass(frozen=True)
class Row:
    """A command behind `python -m`, where {out} is the study's folder, {data} recordings, {images} digits, {negatives}
    speech without the words; what it makes below OUT; about how many minutes it takes on two cores."""

    name: str
    command: str
    makes: tuple[str, ...]
    minutes: float

    def arguments(self, folders: Mapping[str, Path]) -> list[str]:
        """The words of the command; KeyError of a folder that is not given."""
        return [word.format_map(folders) for word in shlex.split(self.command)]


def _seeds(name: str, command: str, made: str, minutes: float) -> tuple[Row, ...]:
    rows = ([part.replace("SEED", seed) for part in (name, command, made)] for seed in "012")
    return tuple(Row(name, command, (made,), minutes) for name, command, made in rows)


_SPEECH = "--data {data} --words yes,stop"
_ELF = "{out}/run0/build/emulator/firmware.elf"
_RUNS = "{out}/run0 {out}/run1 {out}/run2"
_SPOTTER = f"trainer train {_SPEECH} --model tcn --negatives {{negatives}} --out {{out}}/spotter"
_CPU = ("latency", "throughput", "roofline", "spearman", "training")


def _png(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}.png" for name in names)


ROWS = (
    Row(
        "features", "trainer features {data}/yes {data}/no --out {out}/course/features.png", ("course/features.png",), 1
    ),
    Row("teacher", f"trainer train {_SPEECH} --model dscnn --out {{out}}/teacher", ("teacher/float.pt",), 10),
    *_seeds(
        "float SEED",
        f"trainer train {_SPEECH} --teacher {{out}}/teacher --seed SEED --out {{out}}/runSEED",
        "runSEED/float.pt",
        4,
    ),
    *_seeds("int8 SEED", "trainer qat {out}/runSEED", "runSEED/qat.pt", 1),
    *_seeds("export SEED", "trainer export {out}/runSEED", "runSEED/model.onnx", 0.2),
    *_seeds("accuracy SEED", "trainer evaluate {out}/runSEED", "runSEED/evaluation.json", 0.5),
    Row("firmware", "converter convert {out}/run0", ("run0/firmware/model_aot.c",), 0.1),
    Row("size", "converter size {out}/run0 --json {out}/run0/size.json", ("run0/size.json",), 0.1),
    Row("checks", "converter verify {out}/run0 --json {out}/run0/checks.json", ("run0/checks.json",), 2),
    Row("image", "host build {out}/run0", ("run0/build/emulator/firmware.elf",), 0.3),
    Row(
        "stages",
        f"host profile {_ELF} --run {{out}}/run0 --layers --json {{out}}/roofline/board_TinyConv.json",
        ("roofline/board_TinyConv.json",),
        0.5,
    ),
    Row(
        "host beside board",
        "host compare {out}/run0 --profile {out}/roofline/board_TinyConv.json --json {out}/run0/compare.json",
        ("run0/compare.json",),
        0.3,
    ),
    Row("clips", "trainer clips {out}/run0 --per-class 25 --out {out}/clips", ("clips",), 0.2),
    Row(
        "trial",
        f"host trial {_ELF} {{out}}/clips --run {{out}}/run0 --times 1 --json {{out}}/run0/trial.json",
        ("run0/trial.json",),
        3,
    ),
    Row("bits", f"trainer study bits {_RUNS} --out {{out}}/compression", ("compression/bits.md",), 20),
    Row("pruning", "trainer study pruning {out}/run0 --out {out}/compression", ("compression/pruning.md",), 20),
    Row(
        "ticket",
        "trainer prune {out}/run0 --kind unstructured --amount 0.8 --norm l2 --rewind 2 --out {out}/ticket",
        ("ticket/float.pt",),
        5,
    ),
    Row("small floats", f"trainer minifloat {_RUNS}", ("logs/small_floats.txt",), 3),
    Row("sweep", f"trainer sweep {_SPEECH} --teacher {{out}}/teacher --out {{out}}/sweep", ("sweep/sweep.json",), 30),
    Row("sweep's page", "host report {out}/sweep --out {out}/sweep.html", ("sweep.html", "sweep.png"), 0.1),
    *(
        Row(m, f"trainer images --data {{images}} --model {m} --out {{out}}/{m}", (f"{m}/float.pt",), 1)
        for m in ("mnist_cnn", "conv4")
    ),
    Row(
        "images pruned",
        "trainer study images {out}/mnist_cnn {out}/conv4 --out {out}/compression",
        ("compression/images.md",),
        60,
    ),
    Row("spotter", _SPOTTER, ("spotter/float.pt",), 90),
    Row("spotter int8", "trainer qat {out}/spotter", ("spotter/qat.pt",), 10),
    Row("spotter export", "trainer export {out}/spotter", ("spotter/model.onnx",), 0.3),
    Row(
        "false accepts",
        "trainer evaluate {out}/spotter --negative {negatives}",
        ("spotter/evaluation.json",),
        10,
    ),
    Row("chips", "trainer roofline chips --out {out}/roofline", _png("roofline", "chips"), 0.1),
    Row("networks", "trainer roofline models --out {out}/roofline", _png("roofline", "models", "layers"), 0.5),
    Row("this machine", "trainer roofline measure --out {out}/roofline", ("roofline/measure.json",), 14),
    Row(
        "rooflines",
        "trainer roofline plot --out {out}/roofline",
        (
            "roofline/tables.md",
            *_png("roofline", "networks_on_chips", "bound", "board", *(f"cpu_{name}" for name in _CPU)),
        ),
        0.3,
    ),
    Row("schedules", "trainer tvm table --out {out}/tvm_table.md", ("tvm_table.md",), 10),
    *(
        Row(
            f"{name} for {target}",
            f"trainer tvm {name} --target {target} --out {{out}}/tvm",
            (f"logs/{name}_for_{target}.txt",),
            1,
        )
        for name, target in (("gemm", "cuda"), ("conv2d", "cortex-m4"))
    ),
    *(
        Row(
            f"approx {name}",
            f"trainer approx {name} --out {{out}}/approx" + (" --run {out}/run0" if name == "board" else ""),
            _png("approx", name),
            1,
        )
        for name in ("precision", "speed", "svd", "digits", "log", "board")
    ),
    Row(
        "gradients, digits",
        "trainer distributed --data digits --model perceptron --steps 160 --out {out}/distributed",
        ("distributed/table.md", *_png("distributed", "accuracy", "time")),
        10,
    ),
    Row(
        "gradients, words",
        "trainer distributed --data {data} --steps 320 --methods topk,sign,qsgd,powersgd1,local "
        "--out {out}/distributed_words",
        ("distributed_words/table.md",),
        15,
    ),
)


def make_course(folders: Mapping[str, Path], say: Callable[[str], None], rows: Sequence[Row] = ROWS) -> None:
    """Each row that is not yet finished by just this command, in their order; `say` gets what they print, and before
    each how long it takes, measured in this folder or stated. A failing row does not stop those behind it: raises
    TrainerError at the end."""
    out = folders["out"]
    file = out / "course.json"
    done: dict[str, Json] = read_json_object(file, _RECORD).get("rows", {})
    failed: list[str] = []
    for place, row in enumerate(rows, 1):
        head = f"[{place} of {len(rows)}] {row.name}: "
        try:
            arguments = row.arguments(folders)
        except KeyError as missing:
            say(f"{head}left out, it needs {OPTIONS[missing.args[0]]} DIR")
            continue
        kept = done.get(row.name)
        if kept and kept["command"] == arguments and all((out / made).exists() for made in row.makes):
            say(f"{head}finished before, in {kept['minutes']:.1f} minutes")
            continue
        takes = f"{kept['minutes']:.1f} minutes when last measured here" if kept else f"{row.minutes:g} minutes stated"
        say(f"{head}{takes}: python -m {shlex.join(arguments)}")
        start = time.monotonic()
        code = _run(arguments, out / "logs" / f"{row.name.replace(' ', '_')}.txt", say)
        lacking = [made for made in row.makes if not (out / made).exists()]
        if code or lacking:
            failed.append(row.name)
            say(f"{head}FAILED, " + (f"exit code {code}" if code else f"it did not make {', '.join(lacking)}"))
            continue
        done[row.name] = {"command": arguments, "minutes": round((time.monotonic() - start) / 60, 2)}
        write_json(file, {"rows": done})
    if failed:
        raise TrainerError(
            f"study course: {len(failed)} of {len(rows)} rows failed ({', '.join(failed)}); what they printed is above "
            f"and in {out / 'logs'}; mend that and run the same command again, finished rows are kept"
        )


def _run(arguments: Sequence[str], log: Path, say: Callable[[str], None]) -> int:
    """The exit code of the command; its lines go to `say` as they come and into the log at last."""
    lines: list[str] = []
    with subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True, errors="replace") as p:
        assert p.stdout is not None
        for line in p.stdout:
            lines.append(line)
            say(printable(line.rstrip("\n")))
    log.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(log, "".join(lines).encode())
    return p.returncode
