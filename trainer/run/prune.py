"""`python -m trainer prune`: a pruned, perhaps fine-tuned float network as a run folder of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from converter.run_folder import ModelArtifact
from trainer.data.augment import load_split
from trainer.errors import TrainerError
from trainer.network.prune import hold_zeros, nonzero_count, prune
from trainer.run.fit import THREADS, fit, torch_bytes
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
    rate."""

    kind: str
    amount: float
    norm: str = "l1"
    finetune: int = 0


def prune_run(run: Path, out: Path, options: PruneOptions, source: Source | None, progress: Progress) -> ModelArtifact:
    """RUN's float network pruned into OUT/float.pt and OUT/artifact.json, another folder than RUN, all at once."""
    torch.set_num_threads(THREADS)
    if out.resolve() == run.resolve():
        raise TrainerError(f"{out}: --out must be another folder than the run that is pruned; give a new one")
    origin = ModelArtifact.load(run)
    source = source or Source.load(run)
    pruned = prune(load_float(origin), options.kind, options.amount, options.norm)
    artifact, made = continue_in(origin, out)
    spec = artifact.spec
    selection = source.selection(spec, progress)
    validation = load_split(selection, "validation", CACHE, progress)
    before = measured(pruned, validation, spec.features)
    found: dict[str, Any] = {**before}
    if options.finetune:
        settings = saved_settings(artifact)
        settings = replace(settings, learning_rate=settings.learning_rate * FINE_TUNE_SHARE, epochs=options.finetune)
        pool = pool_of(source, selection, settings, progress)
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
            "fine-tuning",
            purpose=json.dumps(asdict(options)),
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
    save_run(artifact, made, "prune_training.pt", (*QUANTIZED, "qat.pt"))
    return artifact
