"""One point of a sweep, in a process of its own: its float network, the compressed run made of it, and that run on the
virtual board.

SWEEP/float/NAME/           run folder of the float network that points of equal model and seed share
SWEEP/points/KEY/result.json   the point, its commands, "train" and "board" figures as they come, or "error"
SWEEP/points/KEY/run/          the exported run; RUN/firmware and RUN/build are made by `host evaluate`
"""

from __future__ import annotations

import json
import os
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from converter.arrays import Int8, Json
from converter.checked import Fields, Items, Real, Text, Whole, rule_of
from converter.errors import ConvertError
from converter.files import read_json_object, write_atomic, write_json
from converter.onnx_qdq.reader import read_onnx
from converter.reference import run_batch
from converter.run_folder import ArtifactError, ModelArtifact
from converter.spec import KwsSpec
from trainer.board import BoardTools
from trainer.data.augment import LabelledClips, load_split
from trainer.errors import TrainerError
from trainer.network.quant_options import QuantOptions
from trainer.run.evaluate import accuracy_of, confusion
from trainer.run.fit import THREADS, predict
from trainer.run.prune import PruneOptions, prune_run
from trainer.run.quantize import quantize_run
from trainer.run.steps import CACHE, Source, default_settings, export_run, load_float, saved_settings, train_run
from trainer.sweep.grid import NONE, Point

_PERCENT = Real(0, 100)
RESULT = Fields(
    {},
    {
        "point": rule_of(Point),
        "commands": Items(Text(10_000)),
        "error": Text(10_000),
        "train": Fields(
            {"accuracy": _PERCENT, "n": Whole()}, dict.fromkeys(("per_class", "per_class_n"), Items(Real()))
        ),
        "board": Fields(
            {
                **dict.fromkeys(("cycles", "board_ms", "energy_uj"), Real()),
                **dict.fromkeys(("engine_flash_bytes", "differences", "inputs"), Whole()),
            }
        ),
    },
)


@dataclass(frozen=True)
class Job:
    """What a worker has to know of the sweep: where it lies, what it hears, float epochs (None: the usual), clips on
    the board."""

    folder: Path
    cwd: Path
    source: Source
    words: tuple[str, ...]
    epochs: int | None
    clips: int
    board: BoardTools | None = None  # None: no point gets as far

    @property
    def spec(self) -> KwsSpec:
        """Words and features."""
        return KwsSpec.of_words(list(self.words))

    def float_run(self, point: Point) -> Path:
        """The run folder of the point's float network."""
        return self.folder / "float" / point.float_key

    def point_folder(self, point: Point) -> Path:
        """The folder of the point's result."""
        return self.folder / "points" / point.key


def read_result(folder: Path) -> Json:
    """A point's result.json; empty when there is none or it is damaged."""
    return read_json_object(folder / "result.json", RESULT)


def write_result(folder: Path, result: Json) -> None:
    """Write result.json whole."""
    write_json(folder / "result.json", result)


def float_is_done(job: Job, point: Point) -> bool:
    """True when the float network is trained with the settings this sweep wants."""
    try:
        settings = saved_settings(ModelArtifact.load(job.float_run(point)))
    except (ArtifactError, KeyError, TypeError):
        return False
    return (
        settings == default_settings(job.source, point.model, job.epochs, point.seed)
        and (job.float_run(point) / "float.json").is_file()
    )


def train_float(job: Job, point: Point) -> Json:
    """The float network of this model and seed, and SWEEP/float/NAME/float.json with its test accuracy; seconds
    spent."""
    started = _begin(job)
    if not float_is_done(job, point):
        run = job.float_run(point)
        with Progress(disable=True) as progress:
            settings = default_settings(job.source, point.model, job.epochs, point.seed)
            artifact = train_run(run, job.source, job.spec, point.model, settings, progress)
            test = _test(job, progress)
        found = predict(load_float(artifact), test.features, job.spec.features).numpy().argmax(axis=1)
        facts = {
            "model": point.model,
            "seed": point.seed,
            **_accuracy(job, test, found),
            "parameters": artifact.results["parameters"],
        }
        write_atomic(run / "float.json", (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    return {"seconds": round(time.perf_counter() - started, 1)}


def make_point(job: Job, point: Point) -> Json:
    """result.json of the point, after the stages it still lacked; what goes wrong is its "error", never an exception,
    and stands with its traceback in traceback.txt."""
    started = _begin(job)
    folder = job.point_folder(point)
    result = {k: v for k, v in read_result(folder).items() if k in ("train", "board")}
    result |= {"point": asdict(point), "commands": commands(job, point)}
    try:
        if "train" not in result:
            result["train"] = _train(job, point, folder)
            write_result(folder, result)
        if "board" not in result:
            result["board"] = _board(job, folder)
    except (TrainerError, ArtifactError, ConvertError, OSError, RuntimeError, ValueError) as error:
        result["error"] = (str(error).splitlines() or [type(error).__name__])[0][:400]
        write_atomic(folder / "traceback.txt", traceback.format_exc().encode())
    write_result(folder, result)
    return {**result, "seconds": round(time.perf_counter() - started, 1)}


def _begin(job: Job) -> float:
    os.chdir(job.cwd)  # the cache and relative data folders are named from here
    torch.set_num_threads(THREADS)
    return time.perf_counter()


def _train(job: Job, point: Point, folder: Path) -> Json:
    """Pruned where asked for, quantized, exported; accuracy of the exported integers on the whole test split, by the
    reference."""
    started = time.perf_counter()
    run, out = job.float_run(point), folder / "run"
    facts: Json = {}
    with Progress(disable=True) as progress:
        if point.kind != NONE:
            pruned = prune_run(
                run,
                folder / "pruned",
                PruneOptions(point.kind, point.amount, point.norm, point.finetune),
                None,
                progress,
            )
            facts["float_validation_accuracy"] = round(100 * pruned.results["prune"]["validation_accuracy"], 2)
            run = folder / "pruned"
        artifact = quantize_run(
            run, out, point.method, QuantOptions(point.bits, calibration="mse"), None, None, progress
        )
        export_run(out, None, progress)
        test = _test(job, progress)
    scores: Int8 = run_batch(read_onnx(artifact.onnx.read_bytes()), np.ascontiguousarray(test.features)[..., None])
    facts["validation_accuracy"] = round(100 * artifact.results["qat"]["validation_accuracy"], 2)
    return {**facts, **_accuracy(job, test, scores.argmax(axis=1)), "seconds": round(time.perf_counter() - started, 1)}


def _test(job: Job, progress: Progress) -> LabelledClips:
    return load_split(job.source.selection(job.spec, progress), "test", CACHE, progress)


def _accuracy(job: Job, test: LabelledClips, predicted: Any) -> Json:
    found = accuracy_of(confusion(test.labels, predicted, len(job.spec.labels)))
    return {key: found[key] for key in ("accuracy", "n", "per_class", "per_class_n")}


def _board(job: Job, folder: Path) -> Json:
    """What `python -m host evaluate` says; TrainerError where an inference differs."""
    started = time.perf_counter()
    assert job.board, "a job that reaches the board was made with its tools"
    found = job.board.evaluate(folder / "run", job.clips)
    if found["differences"]:
        raise TrainerError(
            f"{folder / 'run'}: {found['differences']} of {found['inputs']} inferences differ from the host's; "
            f"`infer --layers` finds the layer"
        )
    return {**found, "seconds": round(time.perf_counter() - started, 1)}


def commands(job: Job, point: Point) -> list[str]:
    """What a user would type to make this point alone."""
    folder, source = job.point_folder(point), job.source
    run, out = job.float_run(point), folder / "run"
    train = (
        f"python -m trainer train --data {source.data} --words {','.join(job.words)} --model {point.model} "
        f"--seed {point.seed}"
    )
    train += f" --teacher {source.teacher}" if source.teacher else ""
    train += f" --clips {source.clips}" if source.clips else ""
    train += f" --epochs {job.epochs}" if job.epochs else ""
    lines = [f"{train} --out {run}"]
    if point.kind != NONE:
        lines.append(
            f"python -m trainer prune {run} --kind {point.kind} --amount {point.amount:g} --norm {point.norm} "
            f"--finetune {point.finetune} --out {folder / 'pruned'}"
        )
        run = folder / "pruned"
    return [
        *lines,
        f"python -m trainer quantize {run} --method {point.method} --bits {point.bits} --out {out}",
        f"python -m trainer export {out}",
        f"python -m host evaluate {out} --inputs {job.clips}",
    ]
