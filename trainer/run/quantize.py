"""From RUN/float.pt to RUN/qat.pt: post-training quantization or quantization-aware fine-tuning, and the detector that
goes with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch.nn import functional as F

from converter.arrays import Int8
from converter.run_folder import ArtifactError, ModelArtifact
from trainer.data.augment import LabelledClips, TrainingPool, add_teacher_logits, load_split
from trainer.data.dataset import Selection, noise_backgrounds
from trainer.data.scenes import Scenes
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import fold_norms
from trainer.network.prune import hold_zeros
from trainer.network.quant_options import QuantOptions
from trainer.run.detector_tuning import float_scores, judge, judge_trial, make_stream, make_trial, tune
from trainer.run.fit import THREADS, TrainSettings, fit, predict, save_torch, to_batch
from trainer.run.steps import (
    CACHE,
    Source,
    best_epoch,
    forget,
    load_float,
    measured,
    pool_of,
    save_curves,
    saved_settings,
    summary,
)

METHODS = ("ptq", "qat")
LEARNING_SHARE = {
    2: 0.5,
    3: 0.1,
    8: 0.1,
}  # of the float learning rate; other widths the least. Chosen by validation, three seeds
LEAST_SHARE = 0.05


def quantize_run(
    run: Path,
    out: Path,
    method: str,
    options: QuantOptions,
    epochs: int | None,
    source: Source | None,
    progress: Progress,
) -> ModelArtifact:
    """RUN's float network quantized into OUT/qat.pt (OUT may be RUN), and the detector's thresholds, both on validation
    data.

    Below 8 bits, and in PTQ, step sizes come from training clips; QAT then learns them, from the run's teacher, or from
    RUN's own float network if there was none. 8-bit QAT follows the weights instead.
    """
    if method not in METHODS:
        raise TrainerError(f"--method: must be one of {', '.join(METHODS)}, got {method}")
    origin = ModelArtifact.load(run, older_detector=True)
    source = source or Source.load(run)
    network = load_float(origin)
    artifact = continue_in(origin, out)
    options = replace(options, fixed_steps=method == "ptq" or options.bits < 8)
    settings = qat_settings(saved_settings(artifact), epochs, options.bits)
    selection = source.selection(artifact.spec, progress)
    validation = load_split(selection, "validation", CACHE, progress)
    pool = pool_of(source, selection, settings, progress)
    if method == "qat" and options.bits < 8 and isinstance(pool, TrainingPool) and pool.teacher_logits is None:
        pool = add_teacher_logits(
            lambda x: predict(network, x, selection.spec.features).numpy(),
            pool,
            artifact.float_checkpoint,
            CACHE,
            progress,
        )
    quant = QuantNetwork(fold_norms(network), artifact.spec.features, options)
    torch.manual_seed(settings.seed)  # calibration by moving averages runs with dropout
    calibrate(quant, pool)
    found: dict[str, Any] = {"method": method, **asdict(options)}
    if method == "ptq":
        found.update(measured(quant, validation, quant.features))
    else:
        found.update(_fine_tune(quant, artifact, pool, validation, settings, progress))
    save_torch(
        out / "qat.pt",
        {
            "architecture": asdict(quant.network.architecture),
            "state": quant.state_dict(),
            "bits": options.bits,
            "options": asdict(options),
            "spec_id": artifact.spec.spec_id,
        },
    )
    forget(out, "qat_training.pt", "model.onnx", "vectors.npz", "evaluation.json")
    return tune_detector(artifact, quant, selection, validation).with_results(qat=found).save()


def qat_settings(settings: TrainSettings, epochs: int | None, bits: int) -> TrainSettings:
    """Fine-tuning with fake quantization: a quarter of the epochs, at least four; the fewer bits, the larger the steps
    it takes to help."""
    return replace(
        settings,
        learning_rate=settings.learning_rate * learning_share(bits),
        epochs=epochs or max(4, settings.epochs // 4),
    )


def learning_share(bits: int) -> float:
    """What share of the float learning rate QAT begins with."""
    return LEARNING_SHARE.get(bits, LEAST_SHARE)


def _fine_tune(
    quant: QuantNetwork,
    artifact: ModelArtifact,
    pool: TrainingPool | Scenes,
    validation: LabelledClips,
    settings: TrainSettings,
    progress: Progress,
) -> dict[str, Any]:
    def freeze(epoch: int) -> None:
        quant.freeze_ranges(epoch >= (settings.epochs + 1) // 2)

    if is_masked(artifact):
        hold_zeros(quant.network)
    history = fit(
        quant,
        pool,
        validation,
        settings,
        artifact.spec.features,
        artifact.path / "qat_training.pt",
        progress,
        f"{quant.bits}-bit training",
        before_epoch=freeze,
        purpose=json.dumps(asdict(quant.options)),
    )
    save_curves(artifact.path, "qat", history)
    return summary(best_epoch(history), history, settings, validation)


def is_masked(artifact: ModelArtifact) -> bool:
    """True when the float network was pruned weight by weight: its zeros stay."""
    return bool(artifact.results.get("prune", {}).get("kind") == "unstructured")


def calibrate(quant: QuantNetwork, pool: TrainingPool | Scenes) -> None:
    """First ranges from training clips, before the first step."""
    torch.set_num_threads(THREADS)
    if quant.options.fixed_steps:
        quant.eval()
        quant.calibrate_steps(to_batch(pool.calibration(), quant.features))
        return
    quant.train()
    clips = pool.ranges()
    with torch.no_grad():
        for start in range(0, len(clips), 128):
            quant(to_batch(clips[start : start + 128], quant.features))


def continue_in(artifact: ModelArtifact, out: Path) -> ModelArtifact:
    """The artifact of a new run folder that starts from this run's float network; the run itself if `out` is its
    folder."""
    if out.resolve() == artifact.path.resolve():
        return artifact
    if (out / "artifact.json").exists() and not (out / "origin.txt").exists():
        raise ArtifactError(f"{out}: --out must not be a run that was trained itself, got one; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("float.pt", "source.json", "clips.txt.gz"):
        if (artifact.path / name).is_file():
            shutil.copyfile(artifact.path / name, out / name)
    (out / "origin.txt").write_text(f"{artifact.path.name}\n")
    kept = {k: v for k, v in artifact.results.items() if k in ("counts", "parameters", "train", "prune")}
    return replace(artifact, path=out, results=kept)


def tune_detector(
    artifact: ModelArtifact, quant: QuantNetwork, selection: Selection, validation: LabelledClips
) -> ModelArtifact:
    """The artifact with the detector that does best on validation clips, in a stream and played alone."""
    features = artifact.spec.features
    score = quant_scores(quant)
    stream = make_stream(validation, noise_backgrounds(selection, "validation"), score, features, artifact.detector)
    trial = make_trial(validation, score, features, artifact.detector, per_class=40)
    detector = tune(stream, trial, artifact.detector)
    result = judge(stream, detector)
    found = {
        "stream_seconds": round(stream.seconds),
        "words": result.words,
        "heard": result.heard,
        "false_accepts": result.wrong,
        "trial_right": judge_trial(trial, detector),
        "trial_n": len(trial.labels),
    }
    return replace(artifact, detector=detector).with_results(detector_validation=found)


def quant_scores(quant: QuantNetwork) -> Callable[[Int8], Int8]:
    """Features to int8 scores by the fake-quantized network."""

    def score(windows: Int8) -> Int8:
        return float_scores(F.softmax(predict(quant, windows, quant.features), dim=1).numpy())

    return score
