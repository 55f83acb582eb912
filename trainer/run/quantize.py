"""From RUN/float.pt to RUN/qat.pt: post-training quantization or quantization-aware fine-tuning, and the detector that
goes with it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from converter.run_folder import NETWORK_FILE, ArtifactError, ModelArtifact
from trainer.data.augment import LabelledClips, TrainingPool, add_teacher_logits, load_split
from trainer.data.dataset import Selection, noise_backgrounds
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import fold_norms
from trainer.network.prune import hold_zeros
from trainer.network.quant_options import QuantOptions
from trainer.run.detector_tuning import judge, judge_trial, make_stream, make_trial, tune
from trainer.run.fine_tune import calibrate, fine_tune, qat_settings
from trainer.run.fit import predict, torch_bytes
from trainer.run.operating_point import WANTED, check_wanted, left_out, quant_outputs, tune_for_streams
from trainer.run.steps import (
    CACHE,
    QUANTIZED,
    Source,
    curves,
    kept_epoch,
    load_float,
    measured,
    pool_of,
    save_run,
    saved_settings,
    summary,
)

METHODS = ("ptq", "qat")


def quantize_run(
    run: Path,
    out: Path,
    method: str,
    options: QuantOptions,
    epochs: int | None,
    source: Source | None,
    progress: Progress,
    wanted: float = WANTED,
) -> ModelArtifact:
    """RUN's float network quantized into OUT/qat.pt (OUT may be RUN), and the detector's thresholds, both on validation
    data; OUT changes at the end, all at once.

    A run trained for streams gets the thresholds for `wanted` false accepts per hour.

    Below 8 bits, and in PTQ, step sizes come from training clips; QAT then learns them, from the run's teacher, or from
    RUN's own float network if there was none. 8-bit QAT follows the weights instead.
    """
    if method not in METHODS:
        raise TrainerError(f"--method: must be one of {', '.join(METHODS)}, got {method}")
    check_wanted(wanted)
    origin = ModelArtifact.load(run, older_detector=True)
    source = source or Source.load(run)
    network = load_float(origin)
    artifact, made = continue_in(origin, out)
    options = replace(options, fixed_steps=method == "ptq" or options.bits < 8)
    settings = qat_settings(saved_settings(artifact), epochs, options.bits)
    selection = source.selection(artifact.spec, progress)
    validation = load_split(selection, "validation", CACHE, progress)
    pool = pool_of(source, selection, settings, progress)
    if method == "qat" and options.bits < 8 and isinstance(pool, TrainingPool) and pool.teacher_logits is None:
        pool = add_teacher_logits(
            lambda x: predict(network, x, selection.spec.features).numpy(),
            pool,
            origin.float_checkpoint,
            CACHE,
            progress,
        )
    quant = QuantNetwork(fold_norms(network), artifact.spec.features, options)
    calibrate(quant, pool, settings.seed)
    others = left_out(artifact, run, source, options, progress) if settings.scenes else nullcontext()
    with others as heard:
        found: dict[str, Any] = {"method": method, **asdict(options)}
        checkpoint = "qat_training.pt"
        if method == "ptq":
            found.update(measured(quant, validation, quant.features))
        else:
            if is_masked(artifact):
                hold_zeros(quant.network)
            history = fine_tune(quant, pool, validation, settings, out / checkpoint, progress)
            made |= curves("qat", history)
            found.update(summary(kept_epoch(history, settings), history, settings, validation))
        state = {
            "architecture": asdict(quant.network.architecture),
            "state": quant.state_dict(),
            "bits": options.bits,
            "options": asdict(options),
            "spec_id": artifact.spec.spec_id,
        }
        made["qat.pt"] = torch_bytes(state)
        artifact = artifact.with_results(qat=found)
        if heard is not None:
            artifact = tune_for_streams(artifact, heard(), quant, source, wanted, progress)
        else:
            artifact = tune_detector(artifact, quant, selection, validation)
    save_run(artifact, made, checkpoint, [name for name in QUANTIZED if name != checkpoint])
    return artifact


def is_masked(artifact: ModelArtifact) -> bool:
    """True when the float network was pruned weight by weight: its zeros stay."""
    return bool(artifact.results.get("prune", {}).get("kind") == "unstructured")


def continue_in(artifact: ModelArtifact, out: Path) -> tuple[ModelArtifact, dict[str, bytes]]:
    """The artifact of a new run folder that starts from this run's float network, and the files that it takes over; the
    run itself, and none, if `out` is its folder."""
    if out.resolve() == artifact.path.resolve():
        return artifact, {}
    if (out / "artifact.json").exists() and not (out / "origin.txt").exists():
        raise ArtifactError(f"{out}: --out must not be a run that was trained itself, got one; choose another folder")
    taken = ("float.pt", "source.json", "clips.txt.gz", NETWORK_FILE)
    names = [name for name in taken if (artifact.path / name).is_file()]
    made = {name: (artifact.path / name).read_bytes() for name in names}
    made["origin.txt"] = f"{artifact.path.name}\n".encode()
    kept = {k: v for k, v in artifact.results.items() if k in ("counts", "parameters", "train", "prune")}
    return replace(artifact, path=out, results=kept), made


def tune_detector(
    artifact: ModelArtifact, quant: QuantNetwork, selection: Selection, validation: LabelledClips
) -> ModelArtifact:
    """The artifact with the detector that does best on validation clips, in a stream and played alone."""
    features = artifact.spec.features
    score = quant_outputs(quant)
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
