"""Training for streams: scenes of a few seconds as a listening board meets them, and what each window of them holds.

A scene is a chosen word, another word, a torn word, speech without the words, or noise alone, in a room of its own
(level, equalizer, reverberation, speed, noise or babble at a stated SNR). The front end hears one scene after the other
and is seldom reset, so that every scene begins with what the one before has left in its noise estimates. All speech of
a scene beside the words comes from one group of speakers, so that scenes of a group can be left out for validation.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from converter.arrays import Int8, Int16, Int64
from converter.files import WriteError, scratch_folder
from converter.spec import FeatureSpec
from trainer.data.cache import cached, contents, digest, keep
from trainer.data.dataset import Selection, all_others, load, noise_backgrounds
from trainer.data.negatives import Stream, list_negatives, load_negatives
from trainer.data.scene_studio import Material, SceneSettings, Studio
from trainer.data.synthetic_speech import spoken_words
from trainer.data.utterances import word_span, word_spans
from trainer.workers import worker_pool

CHUNK = 250  # scenes that one front end hears
FOLDS = 3


@dataclass(frozen=True)
class Scenes:
    """Features int8 [n, frames, channels]; targets int8 [n, windows], one window every two frames: a label, IGNORED or
    NO_WORD; groups int8 [n], -1 where nothing but words and noise is heard. Candidates are scenes without a chosen
    word, of which a training takes the hardest in."""

    features: Int8
    targets: Int8
    groups: Int8
    candidates: Scenes | None = None

    @property
    def identity(self) -> list[object]:
        """Tells these scenes from others."""
        own: list[object] = [list(self.features.shape), int(self.features[::97].astype(np.int64).sum())]
        return own + (self.candidates.identity if self.candidates else [])

    @property
    def epoch_size(self) -> int:
        """Scenes of an epoch."""
        return len(self.groups)

    def ranges(self) -> Int8:
        """Windows that QAT takes its first ranges of activations from."""
        frames = self.features.shape[1] - 2 * (self.targets.shape[1] - 1)
        return self.features[:640, -frames:]

    calibration = ranges

    def without(self, groups: Collection[int]) -> Scenes:
        """The scenes, and the candidates, in which none of these groups is heard."""
        part = self.part(~np.isin(self.groups, list(groups)))
        return replace(part, candidates=self.candidates.without(groups) if self.candidates else None)

    def part(self, kept: NDArray[np.bool_] | Int64 | slice) -> Scenes:
        """These scenes alone, with all candidates."""
        return Scenes(self.features[kept], self.targets[kept], self.groups[kept], self.candidates)

    def joined(self, others: Scenes) -> Scenes:
        """These scenes and the others, with the candidates of these."""
        return Scenes(
            np.concatenate([self.features, others.features]),
            np.concatenate([self.targets, others.targets]),
            np.concatenate([self.groups, others.groups]),
            self.candidates,
        )

    def epoch(self, rng: np.random.Generator) -> tuple[Int8, Int8, None]:
        """All of them in random order: features, targets; no teacher."""
        order = rng.permutation(len(self.groups))
        return self.features[order], self.targets[order], None


def make_scenes(material: Material, spec: FeatureSpec, settings: SceneSettings, progress: Progress) -> Scenes:
    """All scenes of the settings, by every core; every draw from (seed, number of the chunk)."""
    task = progress.add_task("training: scenes", total=settings.count)
    starts = list(range(0, settings.count, CHUNK))
    chunks = []
    with scratch_folder() as folder:
        try:
            _share(material, folder)
        except OSError as error:
            raise WriteError.of(folder, error) from None
        workers = min(len(starts), os.cpu_count() or 1)
        with worker_pool(workers, _open_studio, folder, spec, settings) as pool:
            for made in pool.map(_make_chunk, starts):
                chunks.append(made)
                progress.advance(task, len(made.groups))
    return Scenes(
        np.concatenate([c.features for c in chunks]),
        np.concatenate([c.targets for c in chunks]),
        np.concatenate([c.groups for c in chunks]),
    )


def _share(material: Material, folder: Path) -> None:
    """The recordings as files that every worker maps into its memory."""
    for field in fields(material):
        value = getattr(material, field.name)
        if isinstance(value, tuple) and field.name != "groups":
            for number, part in enumerate(value):
                np.save(folder / f"{field.name}-{number:05}.npy", part)
        else:
            np.save(folder / f"{field.name}.npy", np.asarray(value))


def _open_studio(folder: Path, spec: FeatureSpec, settings: SceneSettings) -> None:
    """In a worker, before its first chunk."""

    def mapped(name: str) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    def every(name: str) -> tuple[Int16, ...]:
        return tuple(np.load(file, mmap_mode="r") for file in sorted(folder.glob(f"{name}-*.npy")))

    torch.set_num_threads(1)
    material = Material(
        mapped("words"),
        mapped("labels"),
        mapped("spans"),
        mapped("others"),
        mapped("other_spans"),
        every("speech"),
        tuple(int(group) for group in mapped("groups")),
        every("noises"),
    )
    _worker["studio"] = material, spec, settings


_worker: dict[str, tuple[Material, FeatureSpec, SceneSettings]] = {}


def _make_chunk(start: int) -> Scenes:
    material, spec, settings = _worker["studio"]
    studio = Studio(material, spec, settings, np.random.default_rng([settings.seed, start]))
    return Scenes(*studio.chunk(min(CHUNK, settings.count - start)))


def load_scenes(
    selection: Selection, negatives: Path, settings: SceneSettings, cache: Path, progress: Progress
) -> Scenes:
    """The scenes of a task's training clips and a folder that `trainer negatives` made; cached by all they are made of.

    Other words are all clips of training speakers, not only those that an epoch of clips draws from.
    """
    spec = selection.spec.features
    known = [clip for clip in selection.clips["train"] if clip.label >= 2]
    others = all_others(selection, "train")
    listed = list_negatives(negatives, selection.spec.words, "train")
    key = {
        "clips": contents((*known, *others)),
        "noise": [digest(path) for path in selection.noises],
        "negatives": [(one.name, one.sha256, sum(clip.samples for clip in one.clips)) for one in listed],
        "spec": asdict(spec),
        "scenes": asdict(settings),
    }
    arrays = cached(cache, "scenes", key)
    if arrays is None:
        streams = load_negatives(negatives, selection.spec.words, "train")
        task = progress.add_task("training: recordings", total=len(known) + len(others))
        words, other = (load(part, "train", spec, lambda n: progress.advance(task, n)) for part in (known, others))
        labels, clips = [clip.label for clip in known], [words]
        if settings.spoken or any(stream.kind == "synthetic" for stream, _ in streams):
            chosen = selection.spec.words
            each = settings.spoken or len(known) // len(chosen) // 10
            spoken, which = spoken_words(chosen, each, spec.clip_samples, progress)
            times = _times(len(words), len(spoken), settings.recorded_share)
            labels, clips = labels * times + [word + 2 for word in which], [words] * times + [spoken]
        words = np.concatenate(clips)
        other = np.concatenate([other, isolated_words(streams, settings.isolated, spec)])
        groups = speaker_groups(listed)
        speech = [(pcm, groups[stream.name]) for stream, pcm in streams if stream.kind != "music"]
        noises = noise_backgrounds(selection, "train") + [pcm for stream, pcm in streams if stream.kind == "music"]
        material = Material(
            words,
            np.array(labels, np.int64),
            word_spans(words, spec.sample_rate_hz),
            other,
            word_spans(other, spec.sample_rate_hz),
            tuple(pcm for pcm, _ in speech),
            tuple(group for _, group in speech),
            tuple(noises),
        )
        made = make_scenes(material, spec, settings, progress)
        arrays = {"features": made.features, "targets": made.targets, "groups": made.groups}
        keep(cache, "scenes", key, arrays)
    return Scenes(arrays["features"], arrays["targets"], arrays["groups"])


def _times(recorded: int, spoken: int, share: float) -> int:
    """How often each recording is taken so that recordings have this share."""
    return max(1, round(share / (1 - share) * spoken / recorded)) if 0 < share < 1 else 1


def isolated_words(streams: Sequence[tuple[Stream, Int16]], most: int, spec: FeatureSpec) -> Int16:
    """int16 [n, clip_samples]: words from clips of the streams of isolated words, each in the middle of its clip; a
    draw of `most` of them."""
    found = []
    for stream, pcm in streams:
        for clip in stream.clips if stream.kind == "words" and most else ():
            heard = pcm[clip.start : clip.start + clip.samples]
            if clip.samples >= spec.sample_rate_hz // 4:
                first, past = word_span(heard, spec.sample_rate_hz)
                if 0.15 <= (past - first) / spec.sample_rate_hz <= 0.95:
                    before = (spec.clip_samples - (past - first)) // 2
                    found.append(np.pad(heard[first:past], (before, spec.clip_samples - (past - first) - before)))
    order = np.random.default_rng(0).permutation(len(found))[:most]
    return np.array([found[place] for place in order], np.int16).reshape(-1, spec.clip_samples)


def speaker_groups(streams: Sequence[Stream]) -> dict[str, int]:
    """Stream's name -> group. Speakers of continuous speech fall into groups 0..FOLDS - 1 of about equal length, the
    longest first; isolated words and synthetic voices are group FOLDS, in no fold left out."""
    seconds = [0.0] * FOLDS
    found: dict[str, int] = {}
    spoken = [stream for stream in streams if stream.kind == "speech"]
    by_speaker = {stream.speaker: [s for s in spoken if s.speaker == stream.speaker] for stream in spoken}
    for same in sorted(by_speaker.values(), key=lambda same: (-sum(s.seconds for s in same), same[0].name)):
        group = seconds.index(min(seconds))
        seconds[group] += sum(stream.seconds for stream in same)
        found |= {stream.name: group for stream in same}
    return {stream.name: found.get(stream.name, FOLDS) for stream in streams}
