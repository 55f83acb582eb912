"""`python -m trainer prune`: a pruned, perhaps fine-tuned or rewound float network as a run folder of its own."""

from __future__ import annotations

import copy
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
from trainer.network.model import Conv, Dense, Network
from trainer.network.prune import hold_zeros, nonzero_count, prune
from trainer.run.fit import THREADS, Epoch, TrainSettings, fit, torch_bytes
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
    untrained,
)

FINE_TUNE_SHARES = (0.5, 0.1, 0.02)  # of the float learning rate; validation chooses


@dataclass(frozen=True)
class PruneOptions:
    """What goes: `amount` of the weights or channels, ranked by `norm`; then `finetune` epochs at a rate chosen by
    validation, or the run's own training from epoch `rewind` on."""

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
    found: dict[str, Any] = before
    settings = saved_settings(artifact)
    if options.finetune or options.rewind is not None:
        pool = pool_of(source, selection, settings, progress)
        training = Training(pool, validation, settings, spec.features, out, options, progress)
        if options.rewind is not None:
            rewind(pruned, options.rewind, training, source.start)
            history = training.train(pruned, settings, "the rest of the training")
            found = summary(kept_epoch(history, settings), history, settings, validation)
        else:
            pruned, found, history = fine_tuned(pruned, before, training)
        made |= curves("prune", history)
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
    used = (_checkpoint(share) for share in FINE_TUNE_SHARES)
    save_run(artifact, made, _checkpoint(1.0), (*QUANTIZED, "qat.pt", "rewound.pt", *used))
    return artifact


def _checkpoint(share: float) -> str:
    return "prune_training.pt" if share == 1 else f"prune_training_{share:g}.pt"


@dataclass(frozen=True)
class Training:
    """What the trainings of one pruned network have in common; settings are the run's own."""

    pool: TrainingPool | Scenes
    validation: LabelledClips
    settings: TrainSettings
    features: FeatureSpec
    out: Path
    options: PruneOptions
    progress: Progress

    def train(self, network: Network, settings: TrainSettings, title: str) -> list[Epoch]:
        """In place, zeros held; the history of its epochs, from `rewind` on."""
        if self.options.kind == "unstructured":
            hold_zeros(network)
        return fit(
            network,
            self.pool,
            self.validation,
            settings,
            self.features,
            self.out / _checkpoint(settings.learning_rate / self.settings.learning_rate),
            self.progress,
            title,
            purpose=json.dumps(asdict(self.options)),
            first=self.options.rewind or 0,
        )


def fine_tuned(
    pruned: Network, before: dict[str, Any], training: Training
) -> tuple[Network, dict[str, Any], list[Epoch]]:
    """The network that is best on validation among the pruned one, measured as `before`, and those fine-tuned at each
    of FINE_TUNE_SHARES; its facts, with `rate_share` 0 where no fine-tuning was better; the best training's history."""
    made = []
    for share in FINE_TUNE_SHARES:
        network, own = copy.deepcopy(pruned), training.settings
        settings = replace(own, learning_rate=own.learning_rate * share, epochs=training.options.finetune)
        history = training.train(network, settings, f"fine-tuning at {share:g} of the rate")
        facts = summary(kept_epoch(history, settings), history, settings, training.validation)
        made.append((network, {**facts, "rate_share": share}, history))
    tried = {f"{facts['rate_share']:g}": facts["validation_accuracy"] for _, facts, _ in made}
    network, facts, history = max(made, key=lambda one: _rank(one[1]))
    if _rank(before) >= _rank(facts):
        network, facts = pruned, {**before, "rate_share": 0.0}
    return network, {**facts, "tried": tried}, history


def _rank(facts: dict[str, Any]) -> tuple[float, float]:
    return facts["validation_accuracy"], -facts["validation_loss"]


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


def rewind(pruned: Network, epoch: int, training: Training, start: str | None) -> None:
    """The winning ticket (Frankle and Carbin 2019, arXiv 1803.03635): `pruned` keeps its zeros, and gets for its other
    weights those after this epoch of the training it came from (Frankle et al. 2019, arXiv 1903.01611), which repeats
    bit for bit."""
    settings, early = training.settings, training.out / "rewound.pt"
    network = untrained(pruned.architecture, settings.seed, start)
    fit(
        network,
        training.pool,
        training.validation,
        settings,
        training.features,
        early,
        training.progress,
        "again to the epoch",
        past=epoch,
    )
    layers = [block for block in pruned.blocks.values() if isinstance(block, (Conv, Dense))]
    kept = [layer.weight != 0 for layer in layers]
    pruned.load_state_dict(network.state_dict())
    with torch.no_grad():
        for layer, mask in zip(layers, kept, strict=True):
            layer.weight.mul_(mask)
