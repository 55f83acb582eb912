"""Accuracy per class and the confusion matrix: float, fake-quantized and int8; from a reset and in a continuous stream.

int8 is the exported model run by the converter's numpy reference, which equals TensorFlow Lite Micro and the board.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from converter.arrays import Int8, Int16, Int64
from converter.files import write_set
from converter.onnx_qdq.reader import read_onnx
from converter.reference import run_batch
from converter.run_folder import ModelArtifact
from converter.spec import FeatureSpec, KwsSpec
from trainer.data.augment import LabelledClips, load_split
from trainer.data.dataset import noise_backgrounds
from trainer.data.features import stream_features
from trainer.errors import TrainerError
from trainer.run.detector_tuning import judge, judge_trial, make_stream, make_trial
from trainer.run.false_accepts import Listening, measure
from trainer.run.false_accepts_shown import LONG, picture, show_streams
from trainer.run.fit import THREADS, predict
from trainer.run.steps import CACHE, Source, load_float, load_quant

Confusion = Int64
# What the front end did before a clip, by split; the training clips are as recorded and tell what is learned by heart.
SHOWN = {"train": ("reset",), "validation": ("reset", "stream"), "test": ("reset", "stream")}


def confusion(labels: Int64, predicted: Int64, count: int) -> Confusion:
    """[true label, predicted label] counts.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    found = np.zeros((count, count), np.int64)
    np.add.at(found, (labels, predicted), 1)
    return found


def accuracy_of(matrix: Confusion) -> dict[str, Any]:
    """Accuracy in percent, n, and both per class, from a confusion matrix."""
    per_class = [round(100 * float(row[i]) / max(1, int(row.sum())), 2) for i, row in enumerate(matrix)]
    total = int(matrix.sum())
    return {
        "accuracy": round(100 * float(np.trace(matrix)) / max(1, total), 2),
        "n": total,
        "per_class": per_class,
        "per_class_n": [int(r.sum()) for r in matrix],
        "confusion": matrix.tolist(),
    }


def continuous_features(split: LabelledClips, spec: FeatureSpec) -> Int8:
    """The split's features when all clips are one recording and the front end is never reset; clips in a fixed random
    order."""
    order = np.random.default_rng(0).permutation(len(split.labels))
    frames = stream_features(split.pcm[order].reshape(-1), spec)
    per_clip = spec.clip_samples // spec.step_samples
    found = np.empty_like(split.features)
    for place, index in enumerate(order):
        found[index] = frames[place * per_clip : place * per_clip + spec.frames]
    return found


def evaluate_run(
    run: Path, source: Source | None, progress: Progress, asked: Listening | None = None
) -> dict[str, Any]:
    """RUN/evaluation.json and RUN/confusion.png; the same facts, without matrices, go into artifact.json.

    With `asked` also what the detector makes of hours of speech, under "listening_streams", and RUN/false_accepts.png.
    With recordings other than the run's own (`source`), only RUN/evaluation_other.json and confusion_other.png are
    written.
    Where the checkpoint of a network is missing, as in a folder that only ships a model, it is left out.
    """
    torch.set_num_threads(THREADS)
    artifact = ModelArtifact.load(run)
    engines = _engines(artifact)
    own = source is None
    source = source or Source.load(run)
    selection = source.selection(artifact.spec, progress)
    result: dict[str, Any] = {
        "labels": list(artifact.spec.labels),
        "smoke_test": source.synthetic or artifact.is_smoke_test,
        "engines": {},
    }
    once = selection.epoch()
    splits = {name: load_split(once, name, CACHE, progress) for name in SHOWN}
    task = progress.add_task("evaluating", total=len(engines) * sum(len(states) for states in SHOWN.values()))
    predicted: dict[tuple[str, str], Int64] = {}
    for name, split in splits.items():
        for state in SHOWN[name]:
            heard = split.features if state == "reset" else continuous_features(split, artifact.spec.features)
            for engine, scores in engines.items():
                found = scores(heard).argmax(axis=1)
                result["engines"].setdefault(engine, {})[f"{name}_{state}"] = accuracy_of(
                    confusion(split.labels, found, len(artifact.spec.labels))
                )
                if state == "reset":
                    predicted[engine, name] = found
                progress.advance(task)
    if "int8" in engines:
        if "float" in engines:
            result["float_to_int8"] = gained_lost(
                splits["test"].labels, predicted["float", "test"], predicted["int8", "test"]
            )
        result["listening"] = _listening(
            artifact, splits["test"], noise_backgrounds(selection, "test"), engines["int8"]
        )
    suffix, made = "" if own else "_other", dict[str, bytes]()
    if asked is not None:
        in_logits = "operating_point" in artifact.results and "float" in engines
        exact = engines["float"] if in_logits else None
        result["listening_streams"] = measure(artifact, selection, asked, exact, progress)
        made[f"false_accepts{suffix}.png"] = picture(artifact, result["listening_streams"])
    made[f"evaluation{suffix}.json"] = (json.dumps(result, indent=1) + "\n").encode()
    made[f"confusion{suffix}.png"] = _picture(result)
    if own:
        made["artifact.json"] = artifact.with_results(evaluation=_without_matrices(result)).to_bytes()
    write_set(made, run)
    return result


def _listening(
    artifact: ModelArtifact, test: LabelledClips, noises: Sequence[Int16], score: Callable[[Int8], Int8]
) -> dict[str, Any]:
    """What the detector does on a stream of test clips, and on clips played alone."""
    settings = (artifact.spec.features, artifact.detector)
    stream = make_stream(test, noises, score, *settings)
    heard = judge(stream, artifact.detector)
    trial = make_trial(test, score, *settings, per_class=25)
    return {
        "words": heard.words,
        "heard": heard.heard,
        "false_accepts": heard.wrong,
        "seconds": round(stream.seconds),
        "false_accepts_per_hour": round(heard.false_accepts_per_hour, 1),
        "miss_rate": round(heard.miss_rate, 4),
        "trial": {"right": judge_trial(trial, artifact.detector), "n": len(trial.labels)},
    }


def _engines(artifact: ModelArtifact) -> dict[str, Callable[[Int8], npt.NDArray[Any]]]:
    """Name to function from int8 features [n, frames, channels] to scores or logits [n, labels]."""
    features = artifact.spec.features
    engines: dict[str, Callable[[Int8], npt.NDArray[Any]]] = {}
    if artifact.float_checkpoint.is_file() or not artifact.onnx.is_file():
        network = load_float(artifact)
        engines["float"] = lambda x: predict(network, x, features).numpy()
    if artifact.qat_checkpoint.is_file():
        quant = load_quant(artifact)
        engines["fake-quant"] = lambda x: predict(quant, x, features).numpy()
    if artifact.onnx.is_file():
        graph = read_onnx(artifact.onnx.read_bytes())
        if not graph.spec_json or KwsSpec.from_json(graph.spec_json).spec_id != artifact.spec.spec_id:
            raise TrainerError(f"{artifact.onnx}: is not of this run's spec {artifact.spec.spec_id}; export again")
        engines["int8"] = lambda x: run_batch(graph, np.ascontiguousarray(x)[..., None])
    return engines


def gained_lost(labels: Int64, before: Int64, after: Int64) -> dict[str, Any]:
    """Clips that became right, clips that became wrong, and the net loss in points of accuracy.

    >>> gained_lost(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), np.array([0, 0, 1, 0]))
    {'gained': 1, 'lost': 1, 'net_loss_points': 0.0, 'n': 4}
    """
    gained = int(((before != labels) & (after == labels)).sum())
    lost = int(((before == labels) & (after != labels)).sum())
    return {
        "gained": gained,
        "lost": lost,
        "net_loss_points": round(100 * (lost - gained) / len(labels), 2),
        "n": len(labels),
    }


def _without_matrices(result: dict[str, Any]) -> dict[str, Any]:
    """What artifact.json keeps."""
    engines = {}
    for engine, splits in result["engines"].items():
        engines[engine] = {
            split: {k: v for k, v in found.items() if k != "confusion"} for split, found in splits.items()
        }
    kept = {**result, "engines": engines}
    if "listening_streams" in result:
        kept["listening_streams"] = {k: v for k, v in result["listening_streams"].items() if k not in LONG}
    return kept


def show(artifact: ModelArtifact, result: dict[str, Any], console: Console | None = None) -> None:
    """Print the tables; synthetic speech is called a smoke test."""
    console = console or Console()
    labels = result["labels"]
    word = "smoke test with synthetic speech (not an accuracy)" if result["smoke_test"] else "accuracy"
    for split, states in SHOWN.items():
        sizes = next(iter(result["engines"].values()))[f"{split}_reset"]
        table = Table(title=f"{artifact.model} {word}, {split}, %")
        for heading in ("engine", "front end"):
            table.add_column(heading)
        for label, n in zip(("all", *labels), (sizes["n"], *sizes["per_class_n"]), strict=True):
            table.add_column(f"{label}\nn = {n}", justify="right")
        for engine, state in ((e, s) for e in result["engines"] for s in states):
            found = result["engines"][engine][f"{split}_{state}"]
            shares = zip(found["per_class"], found["per_class_n"], strict=True)
            each = (f"{percent:.1f}" if n else "-" for percent, n in shares)
            table.add_row(engine, state, f"{found['accuracy']:.2f}" if found["n"] else "-", *each)
        console.print(table)
    last = list(result["engines"])[-1]
    grid = Table(title=f"confusion matrix, {last}, test, from reset")
    for heading in ("true \\ heard", *labels):
        grid.add_column(heading, justify="right")
    for label, row in zip(labels, result["engines"][last]["test_reset"]["confusion"], strict=True):
        grid.add_row(label, *(str(v) for v in row))
    console.print(grid)
    if "float_to_int8" in result:
        change = result["float_to_int8"]
        console.print(
            f"float to int8 on test: {change['gained']} clips gained, {change['lost']} lost, net loss "
            f"{change['net_loss_points']} points (n = {change['n']})"
        )
    if "listening" in result:
        heard = result["listening"]
        console.print(
            f"listening to a stream of test clips: {heard['heard']} of {heard['words']} words heard, "
            f"{heard['false_accepts']} "
            f"false accepts in {heard['seconds']} s; clip by clip {heard['trial']['right']} of "
            f"{heard['trial']['n']} right"
        )
    if "listening_streams" in result:
        show_streams(artifact, result["listening_streams"], console)


def show_runs(best: ModelArtifact, every: Sequence[ModelArtifact], console: Console | None = None) -> None:
    """Print each run's validation and test figures, their mean and spread, and which one was kept."""
    console = console or Console()
    word = "smoke test" if best.is_smoke_test else "accuracy"
    table = Table(title=f"{word} of {len(every)} runs, %")
    for heading in ("run", "seed", "validation, fake-quant", "test, float", "test, int8"):
        table.add_column(heading, justify="right")
    tests = []
    for artifact in every:
        engines = artifact.results.get("evaluation", {}).get("engines", {})
        cells = [engines.get(e, {}).get("test_reset", {}) for e in ("float", "int8")]
        tests += [cells[1]["accuracy"]] if cells[1] else []
        table.add_row(
            artifact.path.name,
            str(artifact.seed),
            f"{100 * artifact.results['qat']['validation_accuracy']:.2f}",
            *(f"{c['accuracy']:.2f} (n = {c['n']})" if c else "not evaluated" for c in cells),
        )
    console.print(table)
    if len(tests) > 1:
        console.print(
            f"int8 test {word}: mean {np.mean(tests):.2f} %, from {min(tests):.2f} to {max(tests):.2f}, "
            f"standard deviation {np.std(tests, ddof=1):.2f}"
        )
    console.print(f"kept by validation: seed {best.seed}, {best.path}")


def _picture(result: dict[str, Any]) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    engines = result["engines"]
    word = "smoke test" if result["smoke_test"] else "test"
    figure, axes = pyplot.subplots(
        1, len(engines), figsize=(4.2 * len(engines), 4), layout="constrained", squeeze=False
    )
    for axis, (engine, splits) in zip(axes[0], engines.items(), strict=True):
        found = splits["test_reset"]
        matrix = np.array(found["confusion"])
        axis.imshow(matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True)), cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(matrix.shape):
            shade = "white" if matrix[row, column] > matrix[row].sum() / 2 else "black"
            axis.text(column, row, str(matrix[row, column]), ha="center", va="center", color=shade)
        ticks = range(len(result["labels"]))
        axis.set(title=f"{engine}, {word}: {found['accuracy']:.1f} % (n = {found['n']})", xlabel="heard", ylabel="true")
        axis.set_xticks(ticks, result["labels"], rotation=45)
        axis.set_yticks(ticks, result["labels"])
    data = io.BytesIO()
    figure.savefig(data, dpi=110)
    pyplot.close(figure)
    return data.getvalue()
