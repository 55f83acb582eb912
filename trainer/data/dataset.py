"""Which recordings belong to which class and split, and their PCM. Augmentation and features: trainer/data/augment.py.

A data folder is shaped like Speech Commands: one folder of WAV or FLAC per word, `_background_noise_`, and perhaps
`_silence_` with test clips. The rules below (row A1): every clip of a chosen word is used; to a split with k of them
come ceil(k * p / 100) clips of other words (`unknown`) and as many of `silence`, p = 100 // (words + 1). Unknown clips
of validation and test are the first in SHA-256 order of their names; training draws that many afresh each epoch from
the first 4 times as many. Source of the split: Speech Commands' which_set() (Warden 2018, arXiv 1804.03209).
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from converter.arrays import Int16
from converter.spec import FeatureSpec, KwsSpec, composed
from trainer.data.ffmpeg import COMPRESSED
from trainer.data.recordings import is_hidden, pcm_samples, read_pcm
from trainer.errors import TrainerError, warn

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
NOISE_FOLDER, SILENCE_FOLDER = "_background_noise_", "_silence_"
VOICES_FOLDER = "_synthetic_"  # the words by synthetic voices, for the test alone
SUFFIXES = (".wav", ".flac")
MAX_CLIPS_PER_CLASS = 2**27 - 1
VALIDATION_PERCENT, TEST_PERCENT = 10, 10
POOL_FACTOR = 4
FEW_CLIPS, MOST_NAMED = 20, 20
NOISE_REGION = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
HELD_OUT_TAKES = 3  # takes of a word that validation, and test, get where speakers are few
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Clip:
    """One second of sound: a file, or a cut from a noise file at `start` scaled by `gain`. `name` is word/stem."""

    name: str
    path: Path
    label: int
    start: int = 0
    gain: float = 1.0


@dataclass(frozen=True)
class Selection:
    """The clips of a task. `clips[split]` are all of them but training's unknown ones: those are `pool`, drawn from
    each epoch. `by_take`: speakers are so few that a split divides takes of the same people."""

    folder: Path
    spec: KwsSpec
    clips: dict[Split, tuple[Clip, ...]]
    pool: tuple[Clip, ...]
    noises: tuple[Path, ...]
    by_take: bool = False

    def counts(self) -> dict[str, int]:
        """Clips of a split as an epoch sees them."""
        return {split: len(clips) for split, clips in self.epoch().clips.items()}

    def epoch(self) -> Selection:
        """The same with the training clips of one epoch: of the unknown ones those whose names come first in SHA-256
        order."""
        place = {name: at for at, name in enumerate(in_sha256_order(clip.name for clip in self.pool))}
        drawn = sorted(self.pool, key=lambda clip: place[clip.name])[: self.share("train")]
        return replace(self, clips={**self.clips, "train": (*self.clips["train"], *drawn)}, pool=())

    def share(self, split: Split) -> int:
        """How many unknown, and how many silence clips belong to a split."""
        return extra_count(sum(c.label >= 2 for c in self.clips[split]), len(self.spec.words))


def which_set(name: str) -> Split:
    """The split of a clip by the SHA-1 of its speaker: what precedes `_nohash_` in the file name.

    >>> which_set("yes/004ae714_nohash_0.wav"), which_set("yes/004ae714_nohash_1.flac")
    ('train', 'train')
    """
    base = name.rsplit("/", 1)[-1]
    stem = re.sub(r"\.(wav|flac)$", "", base)
    speaker = stem.split("_nohash_")[0] if "_nohash_" in stem else stem + ".wav"
    digest = int(hashlib.sha1(_bytes(speaker)).hexdigest(), 16)
    percent = (digest % (MAX_CLIPS_PER_CLASS + 1)) * (100.0 / MAX_CLIPS_PER_CLASS)
    if percent < VALIDATION_PERCENT:
        return "validation"
    return "test" if percent < VALIDATION_PERCENT + TEST_PERCENT else "train"


def extra_count(known: int, words: int) -> int:
    """Unknown clips, and silence clips, that go with `known` clips of the chosen words: ceil(known * (100 // (words +
    1)) / 100).

    >>> [k + 2 * extra_count(k, 2) for k in (3228 + 3130, 397 + 406, 419 + 405)], extra_count(419 + 405, 2)
    ([10556, 1333, 1368], 272)
    """
    return -(-known * (100 // (words + 1)) // 100)


def select(folder: Path, spec: KwsSpec, clips_file: Path | None = None) -> Selection:
    """The clips of a task from a data folder, or only those that `clips_file` names, every one of them by its header
    what training and test want; warns of what is there but not used. Raises TrainerError with one sentence."""
    by_word = _list_words(folder)
    if clips_file is not None:
        by_word = _only(by_word, read_clip_names(clips_file), clips_file)
    for word in spec.words:
        if not by_word.get(word):
            raise TrainerError(
                f"{folder}: no clips of the word '{word}'; it holds {', '.join(sorted(by_word)) or 'no word folders'}"
            )
    noises = _files(folder / NOISE_FOLDER)
    if not noises:
        raise TrainerError(
            f"{folder / NOISE_FOLDER}: no noise recordings, from which the silence class is cut; put some WAV or "
            f"FLAC there"
        )
    others = [name for word in sorted(by_word) if word not in spec.words for name in by_word[word]]
    split_of, by_take = splits({word: tuple(by_word[word]) for word in spec.words}, folder)
    found: dict[Split, tuple[Clip, ...]] = {}
    pool: tuple[Clip, ...] = ()
    for split in SPLITS:
        known = [
            Clip(name, path, spec.labels.index(word))
            for word in spec.words
            for name, path in by_word[word].items()
            if split_of[name] == split
        ]
        extra = extra_count(len(known), len(spec.words))
        paths = {name: by_word[name.split("/")[0]][name] for name in others if which_set(name) == split}
        unknown = [Clip(name, paths[name], 1) for name in in_sha256_order(paths)]
        if split == "train":
            pool, unknown = tuple(unknown[: POOL_FACTOR * extra]), []
        silence = _silence(folder, noises, split, extra)
        found[split] = (*known, *unknown[:extra], *silence)
    if not pool:
        raise TrainerError(
            f"{folder}: no clips of words other than {', '.join(spec.words)}, of which the class unknown is made"
        )
    chosen = Selection(folder, spec, found, pool, noises, by_take)
    _require_usable(chosen)
    _warn_of_few(chosen)
    return chosen


def splits(words: Mapping[str, Sequence[str]], folder: Path) -> tuple[dict[str, Split], bool]:
    """(name of each word's clips -> split, True where by take): by speaker as which_set; where that leaves a split
    without any, every word's clips in SHA-256 order of their names, a tenth or HELD_OUT_TAKES to test, as many to
    validation, with a warning. Raises TrainerError where a word has fewer than three.
    """
    by_speaker = splits_by_speaker(words, folder)
    if set(by_speaker.values()) == set(SPLITS):
        return by_speaker, False
    found: dict[str, Split] = {}
    for names in words.values():
        held = max(len(names) * TEST_PERCENT // 100, min(HELD_OUT_TAKES, len(names) // 3))
        for place, name in enumerate(in_sha256_order(names)):
            found[name] = "test" if place < held else "validation" if place < 2 * held else "train"
    speakers = len({name.rsplit("/", 1)[-1].split("_nohash_")[0] for name in by_speaker})
    warn(
        f"{folder}: {speakers} speakers of {', '.join(words)} are too few to keep some of them for the test; split by "
        f"take, so test figures say how these people are heard, not how others are"
    )
    return found, True


def splits_by_speaker(words: Mapping[str, Sequence[str]], folder: Path) -> dict[str, Split]:
    """Name of each word's clips -> split; TrainerError where a split has none and a word too few to split by take."""
    found = {name: which_set(name) for names in words.values() for name in names}
    for word, names in words.items():
        if len(names) < len(SPLITS) and set(found.values()) != set(SPLITS):
            raise TrainerError(
                f"{folder}: {len(names)} clips of the word '{word}', of which each split needs one; record "
                f"{FEW_CLIPS} or more"
            )
    return found


def _require_usable(selection: Selection) -> None:
    """Raises TrainerError naming every clip that could not be loaded: before training, not after it."""
    spec = selection.spec.features
    paths = {
        c.path: spec.clip_samples for s in SPLITS for c in selection.clips[s] if not c.name.startswith(NOISE_FOLDER)
    }
    paths |= {clip.path: spec.clip_samples for clip in selection.pool}
    faults = []
    for path, most in (*sorted(paths.items()), *((noise, 0) for noise in selection.noises)):
        shown = str(path.relative_to(selection.folder))
        try:
            shown.encode()
            samples = pcm_samples(path, spec)
        except UnicodeEncodeError:
            faults.append(f"{shown} (its name is not UTF-8)")
        except TrainerError as error:
            faults.append(f"{shown} ({str(error).removeprefix(f'{path}: ').split(';')[0]})")
        else:
            least = 0 if most else _noise_samples(spec)
            length_ms = samples * 1000 // spec.sample_rate_hz
            if most and samples > most:
                faults.append(f"{shown} ({length_ms} ms, a clip is at most {spec.clip_ms} ms)")
            elif samples < least:
                faults.append(
                    f"{shown} ({length_ms} ms, noise lasts at least {1000 * least // spec.sample_rate_hz} ms)"
                )
    if faults:
        more = f" and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise TrainerError(
            f"{selection.folder}: {len(faults)} recordings cannot be used, {', '.join(faults[:MOST_NAMED])}{more}; "
            f"mend or remove them"
        )


def _warn_of_few(selection: Selection) -> None:
    for label, word in enumerate(selection.spec.words, 2):
        each = {split: sum(clip.label == label for clip in selection.clips[split]) for split in SPLITS}
        if sum(each.values()) < FEW_CLIPS or not all(each.values()):
            shown = ", ".join(f"{split} {count}" for split, count in each.items())
            warn(
                f"{selection.folder}: {sum(each.values())} clips of the word '{word}' ({shown}); its figures say "
                f"little, record {FEW_CLIPS} or more by several speakers"
            )


def all_others(selection: Selection, split: Split) -> tuple[Clip, ...]:
    """Every clip of a split with another word than the chosen ones, in SHA-256 order of their names."""
    by_word = _list_words(selection.folder)
    paths = {
        name: path
        for word, clips in by_word.items()
        if word not in selection.spec.words
        for name, path in clips.items()
        if which_set(name) == split
    }
    return tuple(Clip(name, paths[name], 1) for name in in_sha256_order(paths))


def _list_words(folder: Path) -> dict[str, dict[str, Path]]:
    if not folder.is_dir():
        raise TrainerError(
            f"{folder}: no such data folder; name a folder shaped like Speech Commands, or use --data synthetic"
        )
    found = {}
    for word in sorted(folder.iterdir()):
        if (
            not word.is_dir()
            or is_hidden(Path(word.name))
            or word.name in (NOISE_FOLDER, SILENCE_FOLDER, VOICES_FOLDER)
        ):
            continue
        meant = {"silence": SILENCE_FOLDER, "backgroundnoise": NOISE_FOLDER}.get(re.sub("[-_ ]", "", word.name.lower()))
        if meant or word.name.startswith("_"):
            raise TrainerError(
                f"{word}: is neither a word nor one of {NOISE_FOLDER} and {SILENCE_FOLDER}; rename it to "
                f"{meant or word.name.strip('_') or 'a word'}, or take it away"
            )
        name = composed(word.name)
        if name in found:
            raise TrainerError(f"{word}: spells the word of another folder in other code points; put them together")
        found[name] = clips_of(word, name)
    if not found:
        raise TrainerError(
            f"{folder}: holds no word folders; a data folder has one folder of WAV or FLAC files per word"
        )
    return found


def clips_of(word: Path, spelt: str) -> dict[str, Path]:
    """spelt/stem -> WAV or FLAC file in a word's folder; warns of other sound files, TrainerError for equal stems."""
    clips: dict[str, Path] = {}
    for file in _files(word):
        name = f"{spelt}/{file.stem}"
        if clips.setdefault(name, file) != file:
            raise TrainerError(f"{file}: has the name of {clips[name].name}; rename one, or take it away")
    return clips


def _files(folder: Path) -> tuple[Path, ...]:
    """The WAV and FLAC files, broken links too; warns of other sound files."""
    if not folder.is_dir():
        return ()
    files = sorted(f for f in folder.iterdir() if not f.name.startswith("."))
    if others := [f.name for f in files if f.suffix.lower() in COMPRESSED]:
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        warn(
            f"{folder}: only WAV and FLAC files are used, not {', '.join(others[:MOST_NAMED])}{more}; convert them "
            f"with `python -m trainer audio`"
        )
    return tuple(f for f in files if f.suffix.lower() in SUFFIXES and not f.is_dir())


def in_sha256_order(names: Iterable[str]) -> list[str]:
    """A fixed order that says nothing about the names."""
    return sorted(names, key=lambda name: hashlib.sha256(_bytes(name)).hexdigest())


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")  # a file's name need not be UTF-8


def read_clip_names(file: Path) -> list[str]:
    """The names in a clips file (one word/stem a line, # comments, plain or .gz), as RUN/clips.txt.gz holds them."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TrainerError(f"{file}: not a readable list of clips ({error}); it holds one word/name a line") from None
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def clip_names(selection: Selection) -> bytes:
    """The clips file of a selection, gzipped: every spoken clip it uses; equal selections give equal bytes."""
    clips = {c.name for split in SPLITS for c in selection.clips[split]} | {c.name for c in selection.pool}
    names = sorted(name for name in clips if not name.startswith("_"))
    header = f"# {len(names)} clips for {', '.join(selection.spec.words)}; one word/name a line; for --clips\n"
    return gzip.compress((header + "\n".join(names) + "\n").encode(), mtime=0)


def _only(by_word: dict[str, dict[str, Path]], names: Sequence[str], file: Path) -> dict[str, dict[str, Path]]:
    chosen: dict[str, dict[str, Path]] = {}
    missing = []
    for name in names:
        word = name.split("/")[0]
        path = by_word.get(word, {}).get(name)
        if path is None:
            missing.append(name)
        else:
            chosen.setdefault(word, {})[name] = path
    if missing:
        raise TrainerError(
            f"{file}: {len(missing)} of its {len(names)} clips are not in the data folder, the first is {missing[0]}"
        )
    return chosen


def _silence(folder: Path, noises: Sequence[Path], split: Split, count: int) -> list[Clip]:
    """Recorded silence of the test split first (SHA-256 order), then cuts of the split's own region of the noise
    files."""
    recorded = {f"{SILENCE_FOLDER}/{f.stem}": f for f in _files(folder / SILENCE_FOLDER)} if split == "test" else {}
    clips = [Clip(name, recorded[name], 0) for name in in_sha256_order(recorded)[:count]]
    return clips + silence_cuts(noises, split, count - len(clips))


def silence_cuts(noises: Sequence[Path], split: Split, count: int) -> list[Clip]:
    """Cuts of the noise files in turn; place (within the split's share of the file) and gain 0..1 come from a SHA-256
    of the number.

    The start is kept as a fraction in 2**-32 of the region until the file's length is known (cut_start).
    """
    found = []
    for index in range(count):
        path = noises[index % len(noises)]
        digest = hashlib.sha256(f"silence/{split}/{index}".encode()).digest()
        place, gain = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big") / 2**32
        found.append(Clip(f"{NOISE_FOLDER}/{path.stem}@{split}{index}", path, 0, place, gain))
    return found


def cut_start(place: int, length: int, clip_samples: int, split: Split) -> int:
    """The first sample of a silence cut in a noise file of `length` samples."""
    low, high = (int(length * share) for share in NOISE_REGION[split])
    room = max(1, high - low - clip_samples)
    return min(low + place * room // 2**32, max(0, length - clip_samples))


def load(clips: Sequence[Clip], split: Split, spec: FeatureSpec, progress: Progress | None = None) -> Int16:
    """PCM int16 [n, clip_samples] of clips; shorter files are filled with zeros at the end."""
    pcm = np.zeros((len(clips), spec.clip_samples), np.int16)
    noise: dict[Path, Int16] = {}
    for index, clip in enumerate(clips):
        if clip.name.startswith(NOISE_FOLDER):
            if clip.path not in noise:
                noise[clip.path] = load_noise(clip.path, spec)
            start = cut_start(clip.start, len(noise[clip.path]), spec.clip_samples, split)
            cut = noise[clip.path][start : start + spec.clip_samples].astype(np.float64) * clip.gain
            pcm[index] = np.rint(cut).astype(np.int16)
        else:
            one = read_pcm(clip.path, spec)
            if len(one) > spec.clip_samples:
                length_ms = len(one) * 1000 // spec.sample_rate_hz
                raise TrainerError(f"{clip.path}: a clip is at most {spec.clip_ms} ms long, got {length_ms} ms; cut it")
            pcm[index, : len(one)] = one
        if progress is not None and index % 64 == 63:
            progress(64)
    return pcm


def load_noise(path: Path, spec: FeatureSpec) -> Int16:
    """A whole noise recording; it must hold ten clips, so that each split gets its own share."""
    pcm: Int16 = read_pcm(path, spec)
    require_noise(path, len(pcm), spec)
    return pcm


def require_noise(path: Path, samples: int, spec: FeatureSpec) -> None:
    """Raises TrainerError for a noise recording of too few samples."""
    if samples < _noise_samples(spec):
        least_s, length_s = 10 * spec.clip_ms // 1000 + 1, samples / spec.sample_rate_hz
        raise TrainerError(
            f"{path}: a noise recording must last at least {least_s} s, got {length_s:.1f} s; record it again"
        )


def _noise_samples(spec: FeatureSpec) -> int:
    return 10 * (spec.clip_samples + 1)


def noise_backgrounds(selection: Selection, split: Split) -> list[Int16]:
    """The split's own share of every noise recording."""
    found = []
    for path in selection.noises:
        pcm = load_noise(path, selection.spec.features)
        low, high = (int(len(pcm) * share) for share in NOISE_REGION[split])
        found.append(pcm[low:high])
    return found
