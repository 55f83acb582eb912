"""Training, float and quantization-aware: one loop, resumable after any epoch, every random draw from (seed, epoch).

The kept weights are those of the epoch with the best validation accuracy (then lowest loss); the test split is never
looked at.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from converter.arrays import Int8
from converter.checked import build
from converter.files import write_atomic
from converter.spec import FeatureSpec
from trainer.data.augment import AugmentSettings, LabelledClips, TrainingPool
from trainer.data.scene_studio import HardNegatives, SceneSettings
from trainer.data.scenes import Scenes
from trainer.errors import TrainerError
from trainer.run.scene_loss import scene_logits, scene_loss, word_evidence

THREADS = 1  # the layers are small: a second thread gains little, and loses much on a busy machine


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training run; saved with its result. With `scenes` it is a training for streams."""

    epochs: int = 120
    batch: int = 100
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    time_mask: int = 0
    channel_mask: int = 0
    warp: float = 0.0
    average: float = 0.995
    teacher: str = ""
    teacher_share: float = 0.7
    temperature: float = 2.0
    dropout: float = 0.1
    seed: int = 0
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    scenes: SceneSettings | None = None
    hard: HardNegatives | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not self.learning_rate > 0 or not 0 <= self.dropout < 1:
            raise TrainerError(
                f"training: epochs, batch and learning rate are positive and dropout lies in 0..1, got {self.epochs}, "
                f"{self.batch}, {self.learning_rate:g} and {self.dropout:g}"
            )


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured."""

    number: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


def to_batch(features: Int8, spec: FeatureSpec) -> Tensor:
    """int8 [n, frames, channels] as the real tensor [n, 1, frames, channels] a network takes."""
    return (
        (torch.from_numpy(np.ascontiguousarray(features)).float() - spec.zero_point)
        .mul_(float(np.float32(spec.scale)))
        .unsqueeze(1)
    )


def masked(x: Tensor, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """SpecAugment: two runs of frames and one run of channels per clip set to zero (Park et al. 2019, arXiv
    1904.08779)."""
    for dim, widest in ((2, settings.time_mask), (2, settings.time_mask), (3, settings.channel_mask)):
        if widest > 0:
            size = x.shape[dim]
            width = torch.randint(0, widest + 1, (len(x), 1), generator=generator)
            start = (torch.rand(len(x), 1, generator=generator) * (size - width + 1)).long()
            places = torch.arange(size)
            hidden = (places >= start) & (places < start + width)
            x = x.masked_fill(hidden[:, None, :, None] if dim == 2 else hidden[:, None, None, :], 0.0)
    return x


def warped(x: Tensor, spec: FeatureSpec, most: float, generator: torch.Generator) -> Tensor:
    """Each clip as a longer or shorter vocal tract would say it: all frequencies up to exp(most) times as high or low,
    between channels linearly (VTLP: Jaitly and Hinton 2013)."""
    if not most:
        return x
    low, high = (1127 * math.log1p(hz / 700) for hz in (spec.lower_hz, spec.upper_hz))
    spacing = (high - low) / (spec.channels + 1)
    hz = 700 * torch.expm1((low + spacing * torch.arange(1, spec.channels + 1)) / 1127)  # of the channels' centres
    factor = torch.exp((2 * torch.rand(len(x), 1, generator=generator) - 1) * most)
    place = ((1127 * torch.log1p(factor * hz / 700) - low) / spacing - 1).clamp(0, spec.channels - 1)
    left = place.floor().clamp(max=spec.channels - 2).long()
    share = (place - left)[:, None, None, :]
    found = left[:, None, None, :].expand(x.shape)
    return x.gather(3, found) * (1 - share) + x.gather(3, found + 1) * share


def predict(network: nn.Module, features: Int8, spec: FeatureSpec, batch: int = 512) -> Tensor:
    """Logits [n, labels] in evaluation mode."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(to_batch(features[i : i + batch], spec)) for i in range(0, len(features), batch)])


def scene_sums(network: nn.Module, scenes: Scenes, spec: FeatureSpec, batch: int = 500) -> Tensor:
    """[n]: how high the detector's mean evidence of any word comes in each scene, in evaluation mode."""
    network.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(scenes.groups), batch):
            part = scenes.part(slice(start, start + batch))
            x, targets = to_batch(part.features, spec), torch.from_numpy(part.targets)
            logits, _, summed = scene_logits(network, x, targets, spec.frames)
            found.append(F.avg_pool1d(word_evidence(logits), summed, 1).amax(dim=(1, 2)))
    return torch.cat(found)


class Averaged:
    """Exponential moving average of a network's parameters and buffers, taken from the first step on."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        with torch.no_grad():
            for key, value in network.state_dict().items():
                if value.is_floating_point():
                    self.state[key].lerp_(value, 1 - decay)
                else:
                    self.state[key].copy_(value)


@dataclass
class Fit:
    """A training in progress: all that a checkpoint holds."""

    network: nn.Module
    settings: TrainSettings
    checkpoint: Path
    optimizer: torch.optim.Optimizer
    average: Averaged
    history: list[Epoch]
    best: dict[str, Tensor]
    identity: str

    def save(self) -> None:
        """Write all that a later run needs to go on, or nothing."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state,
            "steps": self.average.steps,
            "history": [asdict(e) for e in self.history],
            "best": self.best,
            "identity": self.identity,
        }
        save_torch(self.checkpoint, state)

    def resume(self) -> None:
        """Continue from the checkpoint if there is one of this very run; one of other settings is left behind."""
        if not self.checkpoint.is_file():
            return
        state = load_torch(self.checkpoint)
        if state.get("identity") != self.identity:
            return
        with of_checkpoint(self.checkpoint):
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.state, self.average.steps = state["average"], state["steps"]
            self.history = [build(Epoch, e) for e in state["history"]]
            self.best = state["best"]


def loss_of(logits: Tensor, y: Tensor, teacher_logits: Tensor | None, settings: TrainSettings) -> Tensor:
    """Cross entropy; with a teacher, teacher_share of it is distance from the teacher's softened scores (Hinton 2015,
    arXiv 1503.02531)."""
    loss = F.cross_entropy(logits, y, label_smoothing=settings.label_smoothing)
    if teacher_logits is None:
        return loss
    t = settings.temperature
    distance = (
        F.kl_div(F.log_softmax(logits / t, dim=1), F.softmax(teacher_logits / t, dim=1), reduction="batchmean") * t * t
    )
    return (1 - settings.teacher_share) * loss + settings.teacher_share * distance


def fit(
    network: nn.Module,
    pool: TrainingPool | Scenes,
    validation: LabelledClips,
    settings: TrainSettings,
    spec: FeatureSpec,
    checkpoint: Path,
    progress: Progress,
    title: str = "training",
    before_epoch: Callable[[int], None] | None = None,
    purpose: str = "",
    first: int = 0,
    past: int | None = None,
) -> list[Epoch]:
    """Train in place and leave averaged weights in `network`: those of the best epoch, after scenes of the last one,
    whose learning rate has come down. The history of all epochs comes back.

    Epochs first..past - 1 of the settings' alone, with the learning rate and the draws of these; with `past` the
    weights are left as its last step made them.

    `purpose` names what else than settings and data decides the result; a checkpoint of another purpose is not
    continued.

    Every epoch ends with an atomic checkpoint; called again after an interruption, it gives the same result as without
    one.
    """
    torch.set_num_threads(THREADS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    run = Fit(
        network,
        settings,
        checkpoint,
        optimizer,
        Averaged(network, settings.average),
        [],
        {},
        identity(settings, pool, validation) + purpose,
    )
    run.resume()
    task = progress.add_task(title, total=settings.epochs if past is None else past, completed=first + len(run.history))
    for number in range(first + len(run.history), settings.epochs if past is None else past):
        if before_epoch is not None:
            before_epoch(number)
        train_loss, train_accuracy = _epoch(run, with_hard(run, pool, spec, number), spec, number)
        validation_loss, accuracy = _validate(run, validation, spec)
        rank = (accuracy, -validation_loss)
        best = max(((e.validation_accuracy, -e.validation_loss) for e in run.history), default=None)
        if best is None or rank > best or isinstance(pool, Scenes):
            run.best = {k: v.clone() for k, v in run.average.state.items()}
        run.history.append(Epoch(number, train_loss, train_accuracy, validation_loss, accuracy))
        run.save()
        progress.update(
            task, advance=1, description=f"{title}: validation {100 * accuracy:.1f} % (n = {len(validation.labels)})"
        )
    if past is None:
        network.load_state_dict(run.best)
    network.eval()
    return run.history


def with_hard(run: Fit, pool: TrainingPool | Scenes, spec: FeatureSpec, number: int) -> TrainingPool | Scenes:
    """The pool; in the last rounds with those of its candidates that the averaged network takes most for a word
    (Sung and Poggio 1998, IEEE TPAMI 20(1))."""
    hard = run.settings.hard
    if hard is None or not isinstance(pool, Scenes) or pool.candidates is None:
        return pool
    if number < run.settings.epochs - hard.rounds:
        return pool
    with _averaged(run):
        sums = scene_sums(run.network, pool.candidates, spec).numpy()
    return pool.joined(pool.candidates.part(np.argsort(-sums, kind="stable")[: hard.kept]))


@contextmanager
def _averaged(run: Fit) -> Iterator[None]:
    """The network has its averaged weights while the block runs."""
    kept = {k: v.clone() for k, v in run.network.state_dict().items()}
    run.network.load_state_dict(run.average.state)
    yield
    run.network.load_state_dict(kept)


def _epoch(run: Fit, pool: TrainingPool | Scenes, spec: FeatureSpec, number: int) -> tuple[float, float]:
    settings = run.settings
    rng = np.random.default_rng([settings.seed, 1000 + number])
    generator = torch.Generator().manual_seed(settings.seed * 100003 + number)
    torch.manual_seed(settings.seed * 100003 + number)  # dropout
    features, labels, teacher_logits = pool.epoch(rng)
    steps = -(-len(labels) // settings.batch)
    total, right = 0.0, 0.0
    run.network.train()
    for step in range(steps):
        place = slice(step * settings.batch, (step + 1) * settings.batch)
        for group in run.optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(number + step / steps, settings.epochs)
        x, y = to_batch(features[place], spec), torch.from_numpy(labels[place])
        x = masked(warped(x, spec, settings.warp, generator), settings, generator)
        if isinstance(pool, Scenes):
            late = int(torch.randint(2, (1,), generator=generator))  # hops fall on even or on odd frames
            y = y[:, : y.shape[1] - late]
            value, share = scene_loss(run.network, x[:, :, late:], y.long(), spec.frames)
        else:
            logits = run.network(x)
            taught = torch.from_numpy(teacher_logits[place]) if teacher_logits is not None else None
            value, share = loss_of(logits, y, taught, settings), (logits.argmax(1) == y).double().mean()
        run.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        run.average.update(run.network)
        total += float(value.detach()) * len(y)
        right += float(share) * len(y)
    return total / len(labels), right / len(labels)


def _validate(run: Fit, validation: LabelledClips, spec: FeatureSpec) -> tuple[float, float]:
    with _averaged(run):
        logits = predict(run.network, validation.features, spec)
    target = torch.from_numpy(validation.labels)
    return float(F.cross_entropy(logits, target)), float((logits.argmax(1) == target).double().mean())


def schedule(epoch: float, epochs: int) -> float:
    """Factor on the learning rate: linear over the first 5 %, then a cosine down to 1 %."""
    warm = 0.05 * epochs
    if epoch < warm:
        return max(epoch, 0.05) / warm
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (epoch - warm) / (epochs - warm))))


def identity(settings: TrainSettings, pool: TrainingPool | Scenes, validation: LabelledClips) -> str:
    """Settings and sizes of a run as one string; a checkpoint continues only a run of equal identity."""
    sizes = [*pool.identity, len(validation.labels)]
    return json.dumps([asdict(settings), sizes], sort_keys=True)


def torch_bytes(state: dict[str, Any]) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def save_torch(path: Path, state: dict[str, Any]) -> None:
    """torch.save, whole or not at all; raises WriteError."""
    write_atomic(path, torch_bytes(state))


@contextmanager
def of_checkpoint(path: Path) -> Iterator[None]:
    """What does not fit while the block builds from a checkpoint's content is a TrainerError."""
    try:
        yield
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainerError(f"{path}: not of this network ({why[:200]}); train again or restore it") from None


def load_torch(path: Path) -> dict[str, Any]:
    """torch.load of tensors and plain values; raises TrainerError when the file is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainerError(
            f"{path}: not a checkpoint of this project ({type(error).__name__}); train again or restore it"
        ) from None
    if not isinstance(state, dict):
        raise TrainerError(f"{path}: not a checkpoint of this project; train again or restore it")
    return state
