"""`python -m trainer prune`: a pruned, perhaps fine-tuned or rewound float network as a run folder of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from converter.run_folder import ModelArtifact
from converter.spec import FeatureSpec
from trainer.data.augment import LabelledClips, TrainingPool, load_split
from trainer.data.scenes import Scenes
from trainer.errors import TrainerError
from trainer.network.model import Conv, Dense, Network, build
from trainer.network.prune import hold_zeros, nonzero_count, prune
from trainer.run.fit import THREADS, TrainSettings, fit, torch_bytes
from trainer.run.quantize import continue_in
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

FINE_TUNE_SHARE = 0.5


@dataclass(frozen=True)
class PruneOptions:
    """What goes: `amount` of the weights or channels, ranked by `norm`; then `finetune` epochs at half the learning
    rate, or the run's own training from epoch `rewind` on."""

    kind: str
    amount: float
    norm: str = "l1"
    finetune: int = 0
    rewind: int | None = None


def prune_run(run: Path, out: Path, options: PruneOptions, source: Source | None, progress: Progress) -> ModelArtifact:
    """RUN's float network pruned into OUT/float.pt and OUT/artifact.json, another folder than RUN, all at once."""
    torch.set_num_threads(THREADS)
    if out.resolve() == run.resolve():
        raise TrainerError(f"{out}: --out must be another folder than the run that is pruned; give a new one")
    origin = ModelArtifact.load(run)
    source = source or Source.load(run)
    _check_rewind(run, origin, options)
    pruned = prune(load_float(origin), options.kind, options.amount, options.norm)
    artifact, made = continue_in(origin, out)
    spec = artifact.spec
    selection = source.selection(spec, progress)
    validation = load_split(selection, "validation", CACHE, progress)
    before = measured(pruned, validation, spec.features)
    found: dict[str, Any] = {**before}
    if options.finetune or options.rewind is not None:
        settings, title = saved_settings(artifact), "the rest of the training"
        if options.rewind is None:
            rate = settings.learning_rate * FINE_TUNE_SHARE
            settings, title = replace(settings, learning_rate=rate, epochs=options.finetune), "fine-tuning"
        pool = pool_of(source, selection, settings, progress)
        if options.rewind is not None:
            early = out / "rewound.pt"
            rewind(pruned, options.rewind, pool, validation, settings, spec.features, early, progress)
        if options.kind == "unstructured":
            hold_zeros(pruned)
        history = fit(
            pruned,
            pool,
            validation,
            settings,
            spec.features,
            out / "prune_training.pt",
            progress,
            title,
            purpose=json.dumps(asdict(options)),
            first=options.rewind or 0,
        )
        made |= curves("prune", history)
        found = summary(kept_epoch(history, settings), history, settings, validation)
    state = {"architecture": asdict(pruned.architecture), "state": pruned.state_dict(), "spec_id": spec.spec_id}
    made["float.pt"] = torch_bytes(state)
    facts = {
        **asdict(options),
        "parameters": pruned.parameter_count,
        "nonzero": nonzero_count(pruned),
        "before_finetune": before["validation_accuracy"],
        **found,
    }
    artifact = artifact.with_results(parameters=pruned.parameter_count, prune=facts)
    save_run(artifact, made, "prune_training.pt", (*QUANTIZED, "qat.pt", "rewound.pt"))
    return artifact


def _check_rewind(run: Path, origin: ModelArtifact, options: PruneOptions) -> None:
    if options.rewind is None:
        return
    epochs = saved_settings(origin).epochs
    if options.kind != "unstructured" or options.finetune:
        raise TrainerError("--rewind: goes with --kind unstructured and without --finetune; leave the other out")
    if not 0 <= options.rewind < epochs:
        raise TrainerError(f"--rewind: must be an epoch of {run}'s training, 0 to {epochs - 1}, got {options.rewind}")
    if "prune" in origin.results:
        raise TrainerError(f"--rewind: goes back in a training of its own, {run} was pruned before; name its origin")


def rewind(
    pruned: Network,
    epoch: int,
    pool: TrainingPool | Scenes,
    validation: LabelledClips,
    settings: TrainSettings,
    features: FeatureSpec,
    checkpoint: Path,
    progress: Progress,
) -> None:
    """The winning ticket (Frankle and Carbin 2019, arXiv 1803.03635): `pruned` keeps its zeros, and gets for its other
    weights those after this epoch of the training it came from (Frankle et al. 2019, arXiv 1903.01611), which repeats
    bit for bit."""
    torch.manual_seed(settings.seed)
    network = build(pruned.architecture)
    fit(network, pool, validation, settings, features, checkpoint, progress, "again to the epoch", past=epoch)
    layers = [block for block in pruned.blocks.values() if isinstance(block, (Conv, Dense))]
    kept = [layer.weight != 0 for layer in layers]
    pruned.load_state_dict(network.state_dict())
    with torch.no_grad():
        for layer, mask in zip(layers, kept, strict=True):
            layer.weight.mul_(mask)
