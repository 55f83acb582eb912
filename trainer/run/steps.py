"""What the commands do to a run folder: train, export, select. Each reads and writes RUN, and prints nothing but
progress."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import nn
from torch.nn import functional as F

from converter.checked import build as build_checked
from converter.checked import json_in
from converter.files import write_set
from converter.run_folder import NETWORK_FILE, ModelArtifact
from converter.spec import DetectorSpec, FeatureSpec, KwsSpec
from trainer.data.augment import (
    AugmentSettings,
    LabelledClips,
    TrainingPool,
    add_teacher_logits,
    load_split,
    training_pool,
)
from trainer.data.cache import digest
from trainer.data.dataset import Selection, clip_names, select
from trainer.data.scene_studio import HardNegatives, SceneSettings
from trainer.data.scenes import Scenes, load_scenes
from trainer.data.synthetic import MARKER, SyntheticSettings, synthesize
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Architecture, Network, build, fold_norms
from trainer.network.onnx_export import npz_bytes, to_onnx, vectors
from trainer.network.quant_options import QuantOptions
from trainer.run.fit import Epoch, TrainSettings, fit, load_torch, of_checkpoint, predict, torch_bytes
from trainer.run.own_network import ReadNetwork

CACHE = Path("build/cache")
DOWNLOADED = Path("build/data/speech_commands_v0.02")
VECTOR_CLIPS = 256


@dataclass(frozen=True)
class Source:
    """Where the recordings of a run come from; kept in RUN/source.json, apart from the artifact because it names this
    machine's folders."""

    data: str
    clips: str | None = None
    teacher: str | None = None
    negatives: str | None = None
    start: str | None = None

    @staticmethod
    def load(run: Path) -> Source:
        """What RUN/source.json names; raises TrainerError."""
        file = run / "source.json"
        try:
            return build_checked(Source, json_in(file))
        except (OSError, ValueError) as error:
            why = f"source.json: {error}" if file.is_file() else "no source.json"
            raise TrainerError(f"{run}: it does not say where its recordings are ({why}); give --data DIR") from None

    def to_bytes(self) -> bytes:
        """What source.json holds."""
        return (json.dumps(asdict(self)) + "\n").encode()

    @property
    def synthetic(self) -> bool:
        """True for `synthetic` and for a folder that `synthesize` made: what is measured there is a smoke test."""
        return self.data == "synthetic" or (Path(self.data) / MARKER).is_file()

    def folder(self, spec: KwsSpec, progress: Progress) -> Path:
        """The data folder; synthetic speech is made when it is not there yet."""
        if self.data == "synthetic":
            settings = SyntheticSettings(spec.words)
            name = hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest()[:12]
            return synthesize(settings, CACHE / f"synthetic-{name}", progress)
        if self.data == "speech_commands" and not Path(self.data).is_dir():
            if not DOWNLOADED.is_dir():
                raise TrainerError(
                    f"{DOWNLOADED}: not there; run `python -m trainer download` first, or give --data DIR"
                )
            return DOWNLOADED
        return Path(self.data)

    def selection(self, spec: KwsSpec, progress: Progress) -> Selection:
        """The clips of every split for this task."""
        return select(self.folder(spec, progress), spec, Path(self.clips) if self.clips else None)


# Chosen by misses and false accepts of left-out speakers; see docs/spotter.md.
STREAM_SETTINGS = TrainSettings(
    epochs=6,
    batch=64,
    learning_rate=4e-3,
    weight_decay=2e-2,
    time_mask=10,
    channel_mask=5,
    warp=0.12,
    average=0.998,
    scenes=SceneSettings(),
    hard=HardNegatives(),
)


def default_settings(source: Source, model: str, epochs: int | None, seed: int) -> TrainSettings:
    """The settings of a run: short and few copies on synthetic speech, which is a smoke test."""
    settings = TrainSettings(seed=seed, teacher=Path(source.teacher).name if source.teacher else "")
    if model == "dscnn":
        settings = replace(settings, epochs=40, batch=64)
    if source.negatives:
        settings = replace(STREAM_SETTINGS, seed=seed)
    elif source.synthetic:
        settings = replace(settings, epochs=40, augment=AugmentSettings(copies=5))
    return replace(settings, epochs=epochs) if epochs is not None else settings


def train_run(
    run: Path,
    source: Source,
    spec: KwsSpec,
    model: str,
    settings: TrainSettings,
    progress: Progress,
    kernels: tuple[int, ...] = (),
    widths: tuple[int, ...] = (),
    own: ReadNetwork | None = None,
) -> ModelArtifact:
    """Float training: RUN/float.pt, artifact.json, source.json, clips.txt.gz, curves_float.json and .png, all at once
    in the place of what was there; continues an interrupted run of equal settings. `own` is trained in place of a
    network of the project."""
    if own is not None:
        architecture = own.architecture
    else:
        architecture = Architecture.of(model, len(spec.labels), spec.features, settings.dropout)
        architecture = architecture.chain(kernels, widths)
    selection = source.selection(spec, progress)
    validation = load_split(selection, "validation", CACHE, progress)
    pool = pool_of(source, selection, settings, progress)
    network = own.network() if own is not None else untrained(architecture, settings.seed, source.start)
    purpose = architecture.model + str((architecture.kernels, widths)) if kernels or widths else ""
    purpose += digest(Path(source.start) / "float.pt") if source.start else ""
    purpose += f"{own.about} {architecture.layers}" if own is not None else ""
    history = fit(
        network,
        pool,
        validation,
        settings,
        spec.features,
        run / "training.pt",
        progress,
        "float training",
        purpose=purpose,
    )
    best = kept_epoch(history, settings)
    artifact = ModelArtifact(
        run,
        spec,
        DetectorSpec.untuned(len(spec.words)),
        model,
        describe(source, selection),
        settings.seed,
        {
            "counts": selection.counts(),
            "split": "take" if selection.by_take else "speaker",
            "parameters": network.parameter_count,
            "train": summary(best, history, settings, validation),
        },
        own.about if own is not None else None,
    )
    state = {"architecture": asdict(architecture), "state": network.state_dict(), "spec_id": spec.spec_id}
    made = {"float.pt": torch_bytes(state), "clips.txt.gz": clip_names(selection), "source.json": source.to_bytes()}
    gone = [*QUANTIZED, "qat.pt", "origin.txt"]
    if own is not None:
        made[NETWORK_FILE] = own.source
    else:
        gone.append(NETWORK_FILE)
    save_run(artifact, {**made, **curves("float", history)}, "training.pt", gone)
    return artifact


QUANTIZED = ("qat_training.pt", "model.onnx", "vectors.npz", "evaluation.json")  # no longer true of another qat.pt


def untrained(architecture: Architecture, seed: int, start: str | None) -> Network:
    """The network from a random state of this seed; all layers but the last from the run `start`, whose words may be
    others. Raises TrainerError where its layers are others."""
    torch.manual_seed(seed)
    network = build(architecture)
    if start is not None:
        given = load_float(ModelArtifact.load(Path(start)))
        if given.architecture.layers:
            raise TrainerError(f"{start}: holds a network of one's own, which --start does not take; leave --start out")
        if replace(given.architecture, labels=architecture.labels, dropout=architecture.dropout) != architecture:
            raise TrainerError(
                f"{start}: its layers are not those of the network to be trained ({given.architecture.model}, "
                f"{given.architecture.width} channels); leave --start out, or train {given.architecture.model}"
            )
        kept = {key: value for key, value in given.state_dict().items() if not key.startswith("blocks.logits.")}
        network.load_state_dict({**network.state_dict(), **kept})
    return network


def save_run(
    artifact: ModelArtifact, files: dict[str, bytes], checkpoint: str | None = None, gone: Sequence[str] = ()
) -> None:
    """The files with artifact.json, all or none, in the artifact's folder; `gone` goes out of it, and at last the
    checkpoint from which all this could be made again. Raises WriteError."""
    write_set({**files, "artifact.json": artifact.to_bytes()}, artifact.path, gone)
    if checkpoint:
        (artifact.path / checkpoint).unlink(missing_ok=True)


def measured(network: nn.Module, validation: LabelledClips, spec: FeatureSpec) -> dict[str, Any]:
    """Accuracy and loss on validation clips, as `summary` names them."""
    logits, target = predict(network, validation.features, spec), torch.from_numpy(validation.labels)
    return {
        "validation_accuracy": round(float((logits.argmax(1) == target).double().mean()), 5),
        "validation_loss": round(float(F.cross_entropy(logits, target)), 5),
        "validation_n": len(target),
    }


def pool_of(source: Source, selection: Selection, settings: TrainSettings, progress: Progress) -> TrainingPool | Scenes:
    """The scenes of a training for streams; else the training clips, and what the teacher says to them if there is
    one."""
    if settings.scenes:
        if source.negatives is None:
            raise TrainerError("training for streams needs negatives; give --negatives DIR")
        scenes = load_scenes(selection, Path(source.negatives), settings.scenes, CACHE, progress)
        if settings.hard is None:
            return scenes
        hard = load_scenes(selection, Path(source.negatives), settings.hard.scenes, CACHE, progress)
        return replace(scenes, candidates=hard)
    pool = training_pool(selection, settings.augment, CACHE, progress)
    if source.teacher is None:
        return pool
    teacher = ModelArtifact.load(source.teacher)
    if teacher.spec != selection.spec:
        raise TrainerError(
            f"{source.teacher}: a teacher must hear {', '.join(selection.spec.words)}, got "
            f"{', '.join(teacher.spec.words)}"
        )
    network = load_float(teacher)
    return add_teacher_logits(
        lambda x: predict(network, x, selection.spec.features).numpy(), pool, teacher.float_checkpoint, CACHE, progress
    )


def export_run(run: Path, source: Source | None, progress: Progress) -> ModelArtifact:
    """RUN/model.onnx (QDQ) and RUN/vectors.npz (a seeded sample of test clips) from RUN/qat.pt."""
    artifact = ModelArtifact.load(run)
    quant = load_quant(artifact)
    task = progress.add_task("export", total=3)
    data = to_onnx(quant, artifact.spec)
    progress.advance(task)
    selection = (source or Source.load(run)).selection(artifact.spec, progress)
    test = load_split(selection, "test", CACHE, progress)
    chosen = np.sort(np.random.default_rng(artifact.seed).permutation(len(test.labels))[:VECTOR_CLIPS])
    progress.advance(task)
    arrays = vectors(quant, test.pcm[chosen], test.features[chosen], test.labels[chosen])
    arrays["names"] = np.array([test.names[i] for i in chosen])
    write_set({artifact.onnx.name: data, artifact.vectors.name: npz_bytes(arrays)}, run)
    progress.advance(task)
    return artifact


def select_run(runs: Sequence[Path], out: Path) -> tuple[ModelArtifact, list[ModelArtifact]]:
    """Copy the run with the best quantized validation accuracy to `out`; (the copy, all runs). Equal accuracy: lower
    loss, then first."""
    artifacts = [ModelArtifact.load(run) for run in runs]
    for artifact in artifacts:
        if "qat" not in artifact.results or not artifact.onnx.is_file():
            raise TrainerError(
                f"{artifact.path}: not exported yet; run `python -m trainer qat` and `export` on it first"
            )
        if artifact.spec != artifacts[0].spec:
            raise TrainerError(
                f"{artifact.path}: spec {artifact.spec.spec_id} differs from {artifacts[0].spec.spec_id} of {runs[0]}"
            )
    best = max(artifacts, key=lambda a: (a.results["qat"]["validation_accuracy"], -a.results["qat"]["validation_loss"]))
    names = ["float.pt", "qat.pt", "vectors.npz", "source.json", "evaluation.json", "clips.txt.gz", "model.onnx"]
    names.append(NETWORK_FILE)
    copies = {name: (best.path / name).read_bytes() for name in names if (best.path / name).is_file()}
    save_run(replace(best, path=out), copies, gone=[name for name in names if name not in copies])
    return ModelArtifact.load(out), artifacts


def load_float(artifact: ModelArtifact) -> Network:
    """The trained float network; raises TrainerError."""
    state = _state(artifact, artifact.float_checkpoint, "train")
    with of_checkpoint(artifact.float_checkpoint):
        network = build(_architecture(state))
        network.load_state_dict(state["state"])
    return network.eval()


def architecture_of(artifact: ModelArtifact) -> Architecture:
    """Of the trained float network; raises TrainerError."""
    return _architecture(_state(artifact, artifact.float_checkpoint, "train"))


def load_quant(artifact: ModelArtifact) -> QuantNetwork:
    """The fine-tuned fake-quant network; raises TrainerError."""
    state = _state(artifact, artifact.qat_checkpoint, "qat")
    with of_checkpoint(artifact.qat_checkpoint):
        network = fold_norms(build(_architecture(state)).eval())
        options = build_checked(QuantOptions, state.get("options", {"bits": state.get("bits")}))
        quant = QuantNetwork(network, artifact.spec.features, options)
        quant.load_state_dict(state["state"])
    return quant.eval()


def _architecture(state: dict[str, Any]) -> Architecture:
    return build_checked(Architecture, state["architecture"])


def _state(artifact: ModelArtifact, file: Path, command: str) -> dict[str, Any]:
    if not file.is_file():
        raise TrainerError(f"{file}: not there yet; run `python -m trainer {command}` first")
    state = load_torch(file)
    if not {"architecture", "state", "spec_id"} <= state.keys():
        raise TrainerError(f"{file}: not a checkpoint of this project; train again or restore it")
    if state["spec_id"] != artifact.spec.spec_id:
        raise TrainerError(
            f"{file}: made for spec {state['spec_id']}, the run's is {artifact.spec.spec_id}; train again"
        )
    return state


def saved_settings(artifact: ModelArtifact) -> TrainSettings:
    """The settings a run was trained with; raises TrainerError."""
    try:
        return build_checked(TrainSettings, artifact.results.get("train", {}).get("settings"), "results.train.settings")
    except ValueError as error:
        raise TrainerError(f"{artifact.path / 'artifact.json'}: damaged ({error}); train again or restore it") from None


def kept_epoch(history: Sequence[Epoch], settings: TrainSettings) -> Epoch:
    """Whose weights were kept: highest validation accuracy, of equal ones the lowest loss; after scenes the last."""
    if settings.scenes:
        return history[-1]
    return max(history, key=lambda e: (e.validation_accuracy, -e.validation_loss))


def summary(
    best: Epoch, history: Sequence[Epoch], settings: TrainSettings, validation: LabelledClips
) -> dict[str, Any]:
    """What results.json keeps of a training."""
    return {
        "best_epoch": best.number,
        "epochs": len(history),
        "validation_accuracy": round(best.validation_accuracy, 5),
        "validation_loss": round(best.validation_loss, 5),
        "validation_n": len(validation.labels),
        "settings": asdict(settings),
    }


def describe(source: Source, selection: Selection) -> str:
    """What artifact.json says about the data: no path of this machine."""
    if source.synthetic:
        return "synthetic"
    names = "\n".join(sorted(c.name for s in selection.clips.values() for c in (*s, *selection.pool)))
    return f"recordings: {selection.folder.resolve().name}, clips {hashlib.sha256(names.encode()).hexdigest()[:12]}"


def curves(title: str, history: Sequence[Epoch]) -> dict[str, bytes]:
    """curves_TITLE.json and .png: loss and accuracy by epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    epochs = [e.number + 1 for e in history]
    for axis, what in ((left, "loss"), (right, "accuracy")):
        for kind in ("train", "validation"):
            axis.plot(epochs, [getattr(e, f"{kind}_{what}") for e in history], label=kind)
        axis.set(xlabel="epoch", ylabel=what, title=f"{title} {what}")
        axis.grid(alpha=0.3)
        axis.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
    told = (json.dumps([asdict(e) for e in history]) + "\n").encode()
    return {f"curves_{title}.json": told, f"curves_{title}.png": picture.getvalue()}
